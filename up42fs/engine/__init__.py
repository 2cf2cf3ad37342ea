"""An account's storage as a tree of paths, usable without FUSE.

`Engine` builds catalogue, byte store and file system of one account and runs their background
work. It takes paths and returns bytes, attributes and listings. A mount is one user of it; anything
else that needs the same tree (a library, an HTTP server) is another one. It knows no FUSE binding
and no mount point.

    async with Engine.open(settings) as engine:
        names = [entry.name for entry in await engine.entries("/orders")]
        async with engine.opened("/assets/ID.tif") as file:
            head = await file.read(0, 16)
"""

from up42fs.engine.engine import Engine
from up42fs.engine.paths import Entry, OpenedFile, Paths

__all__ = ["Engine", "Entry", "OpenedFile", "Paths"]

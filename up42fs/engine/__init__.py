"""An account's storage as a tree of paths, usable without FUSE.

`Engine` builds catalogue, byte store and file system of one account and runs their background
work. It takes paths and returns bytes, attributes and listings. A mount is one user of it; anything
else that needs the same tree (a library, an HTTP server) is another one. It knows no FUSE binding
and no mount point.

    settings = resolve(arguments={}, mount_options={}, environ=os.environ, file={})
    async with Engine.open(settings) as engine:
        names = [entry.name for entry in await engine.entries("/orders")]
        async with engine.opened("/assets/ID.tif") as file:
            head = await file.read(0, 16)

Rules for its users.
1. It runs in your trio loop (`trio.run`, in any thread) and belongs to that loop. It installs no
   signal handler and configures no log; while it loads, for some seconds at most, the garbage
   collector of the process is off.
2. Any number of tasks may call it. A cancelled call gives back what it took.
3. An error is an `Up42fsError` whose message begins with the path and whose `errno` says what a
   system call would answer. Each call has a deadline, at most `paths.LISTING_TIMEOUT_S`, then the
   same again for the directory itself.
4. Several engines of one account, in one process or in many, share what they keep on disk: the
   catalogue's snapshot, the disk cache, the budget `max_egress`, sidecars and the locks of edits.
   Each has its own memory and links. Only a journal has one owner: give each its own `place`.
5. It waits for no kernel. A program that caches what it got here learns of changes by
   `tell_kernel`, as a mount does.
"""

from up42fs.engine.engine import Engine
from up42fs.engine.paths import Entry, OpenedFile, Paths, Place

__all__ = ["Engine", "Entry", "OpenedFile", "Paths", "Place"]

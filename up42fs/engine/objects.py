"""Files of the storage by what is known of them, without a look where they stand.

A caller that was told a file's ID, size and version by another process (`Place.stored`) reads it
with one request for a link. Knows the byte store; nothing of paths or the catalogue.
"""

from __future__ import annotations

import re

from up42fs.readahead.tuning import Reading
from up42fs.store.handle import OpenFile
from up42fs.store.store import FileStore
from up42fs.types import StoredObject, Version

#: `id/ID` and `id/ID/NAME` stand for any file that UP42 signs links to, beside the tree's paths.
_BY_ID = re.compile(r"id/([A-Za-z0-9-]{1,128})(/[^/]+)?")
#: The most that is told ahead of a read, bytes.
AHEAD_BYTES = 256 << 10


def id_of(path: str) -> str | None:
    """The ID in a path that names a file by it; else None."""
    match = _BY_ID.fullmatch(path.strip("/"))
    return match[1] if match else None


class ObjectFile:
    """One open object, for a caller that buffers what it was told ahead."""

    def __init__(self, file: OpenFile, size: int) -> None:
        self._file = file
        self.size = size
        #: Where the last read ended, and the bytes that were told ahead of it.
        self._read_to = self._told_to = 0

    @property
    def version(self) -> Version | None:
        """The version that the first bytes had; None before them."""
        return self._file.version

    async def read(self, offset: int, size: int) -> bytes:
        """The bytes [offset, offset + size), and those behind them that are in memory anyhow.

        A caller that goes on where they end has read them: the plan learns of it by this call.
        """
        start = offset
        if offset == self._told_to and self._read_to < offset:
            start = self._read_to
        data = memoryview(await self._file.read(start, offset - start + size))[offset - start :]
        self._read_to = self._told_to = offset + len(data)
        more = self._file.ahead(self._read_to, AHEAD_BYTES) if size < AHEAD_BYTES else b""
        self._told_to += len(more)
        return b"".join((data, more)) if more else bytes(data)

    def close(self) -> None:
        """Close it, and cancel its read-ahead."""
        self._file.close()


async def open_object(store: FileStore, known: StoredObject, reading: Reading) -> ObjectFile:
    """Open an object; a size that is not known costs a link and a range, which is its head.

    Raises an `Up42fsError`. A read raises VersionChanged or NotFound if UP42 replaced the object
    since, or removed it.
    """
    size = known.size
    if size is None:
        version = await store.ensure_version(known.object_id, name=known.name, stamp=known.stamp)
        size = version.size
    file = store.open(
        known.object_id,
        size=size,
        name=known.name,
        stamp=known.stamp,
        reading=reading,
        expected=known.version,
    )
    return ObjectFile(file, size)

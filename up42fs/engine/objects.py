"""Files of the storage by what is known of them, without a look where they stand.

A caller that was told a file's ID, size and version by another process (`Place.stored`) reads it
with one request for a link. Knows the byte store; nothing of paths or the catalogue.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Protocol

from up42fs.readahead.tuning import Reading
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import StoredObject
from up42fs.store.store import FileStore
from up42fs.types import Bytes, Version

#: `id/ID` and `id/ID/NAME` stand for any file that UP42 signs links to, beside the tree's paths.
_BY_ID = re.compile(r"id/([A-Za-z0-9-]{1,128})(/[^/]+)?")


def id_of(path: str) -> str | None:
    """The ID in a path that names a file by it; else None."""
    match = _BY_ID.fullmatch(path.strip("/"))
    return match[1] if match else None


class Readable(Protocol):
    """An open file, by a path or by an ID: exact reads."""

    @property
    def size(self) -> int:
        """Its size, bytes."""

    @property
    def version(self) -> Version | None:
        """The version that the first bytes had; None before them."""

    def ahead(self, offset: int, most: int) -> Bytes:
        """The bytes from `offset` on that one piece of memory holds; does not count as a read."""

    async def read(self, offset: int, size: int) -> Bytes:
        """The bytes asked for, fewer only at the end of the file."""


async def open_object(store: FileStore, known: StoredObject, reading: Reading) -> OpenFile:
    """Open an object; a size that is not known costs a link and a range, which is its head.

    Raises an `Up42fsError`. A read raises VersionChanged or NotFound if UP42 replaced the object
    since, or removed it.
    """
    size = known.size
    if size is None:
        size = (await store.ensure_version(known)).size
    return store.open(replace(known, size=size), reading)

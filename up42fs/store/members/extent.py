"""The source of the bytes of an archive's member.

Knows offsets and methods; nothing of names, tables or how bytes are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass

from up42fs.archive.table import Method
from up42fs.types import Version


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store needs to know of an object to read it, without asking where it stands.

    `size` in bytes is None if it is not known yet, `name` is used in error messages, and `stamp` is
    the catalogue's mark of the object's state: it changes when the bytes may have. With an `extent`
    the object is a member of an archive, or the unpacked stream of a compressed tar. `version` is
    the one to read if none is pinned yet, since the caller has bytes of it; of an archive the one
    whose table tells the offsets of members, which lie elsewhere in others.
    """

    object_id: str
    size: int | None
    name: str
    stamp: str | None = None
    extent: Extent | None = None
    version: Version | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """The place of a member within `archive`, in bytes of the archive's (unpacked) content.

    `header_at` is the offset of its zip local header or tar header block. `data_at` is that of its
    data; None for a zip, whose local header tells it. `segments` are the data of a sparse file:
    offset in the file, offset in the archive, length. `room` is the offset at which all that may
    belong to the member has ended; None if it is not known.
    """

    archive: StoredObject
    header_at: int
    data_at: int | None
    packed_size: int
    method: Method
    crc32: int | None
    segments: tuple[tuple[int, int, int], ...] = ()
    room: int | None = None

    @property
    def is_view(self) -> bool:
        """Whether its bytes stand in the archive as they are."""
        return self.method is Method.STORED


def is_of(object_id: str, archive_id: str) -> bool:
    """Whether an object is a member of the archive, or of an archive in it."""
    return object_id.startswith(f"{archive_id}!")

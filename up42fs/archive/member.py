"""One member of an archive as a value, and why an archive or a member cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: `header_at` of a directory that the archive leaves out.
MADE_UP = -1


class ArchiveError(ValueError):
    """The bytes are no usable archive; the text says why."""


class NotAnArchiveError(ArchiveError):
    """The bytes are something else, so the name is wrong."""


class TooLargeError(ArchiveError):
    """The archive has more members, or a larger directory, than up42fs reads."""


class DamagedError(ArchiveError):
    """The archive breaks the rules of its format."""


class Method(StrEnum):
    """How a member's bytes are packed."""

    STORED = "stored"
    DEFLATED = "deflated"
    GZIP = "gzip"  # of a compressed tar as a whole
    BZIP2 = "bzip2"
    LZMA = "lzma"
    ZSTD = "zstd"
    XZ = "xz"
    ENCRYPTED = "encrypted"
    UNKNOWN = "unknown"


class MemberKind(StrEnum):
    """The kinds of members."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


class RefusalKind(StrEnum):
    """The cause for which a member cannot be opened; each has an errno."""

    ENCRYPTED = "encrypted"  # EACCES
    UNSUPPORTED = "unsupported"  # EOPNOTSUPP
    DAMAGED = "damaged"  # EIO


@dataclass(frozen=True, slots=True)
class MemberRefusal:
    """Why a member cannot be opened. `reason` completes the sentence "The member …"."""

    kind: RefusalKind
    reason: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive, by offsets in the archive's (unpacked) bytes."""

    #: Its place in `Table.members`, stable for one archive.
    number: int
    #: Safe, unique, joined by "/", without a leading one.
    path: str
    kind: MemberKind
    #: Offset of its zip local header or tar header block; `MADE_UP` if it has none.
    header_at: int
    #: Offset of its data if known: a tar's always is, a zip's once its local header was read.
    data_at: int | None
    packed_size: int
    #: Bytes that `stat` shows, for ever.
    size: int
    method: Method
    crc32: int | None
    mtime_ns: int
    #: Permission bits, if the archive has them.
    mode: int | None
    #: A symlink's target, relative and inside the archive; None while it is not known.
    target: str | None = None
    refusal: MemberRefusal | None = None
    #: Data of a sparse file: offset in the file, offset in the archive, length.
    segments: tuple[tuple[int, int, int], ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def is_made_up(self) -> bool:
        """Whether it is a directory that the archive leaves out."""
        return self.header_at == MADE_UP

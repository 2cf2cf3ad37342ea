"""The table of an archive's members: what a directory shows and what a read needs.

A table holds safe, unique paths (`names` makes them) and adds the directories that an archive
leaves out. It never changes; a tar that is still being read makes a new table. Sizes are those
that the archive states: they are shown for ever, and a member whose bytes disagree fails when it
is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

#: Members that an archive may have; a larger one is refused as a whole, with one clear error.
MOST_MEMBERS = 100_000
#: Members and the directories that the archive leaves out, together.
MOST_ENTRIES = 200_000
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
    BZIP2 = "bzip2"
    LZMA = "lzma"
    ZSTD = "zstd"
    XZ = "xz"
    ENCRYPTED = "encrypted"
    UNKNOWN = "unknown"


class MemberKind(StrEnum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


class RefusalKind(StrEnum):
    """The cause for which a member cannot be opened; each has an errno."""

    ENCRYPTED = "encrypted"  # EACCES
    UNSUPPORTED = "unsupported"  # EOPNOTSUPP
    DAMAGED = "damaged"  # EIO


@dataclass(frozen=True, slots=True)
class Refusal:
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
    refusal: Refusal | None = None
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


class Table:
    """All members of one archive, safe and named."""

    def __init__(
        self,
        members: Iterable[Member],
        *,
        is_complete: bool = True,
        ends_at: int | None = None,
        made_up_mtime_ns: int | None = None,
    ) -> None:
        """`members` have unique paths; their numbers are set here, in the order given.

        `ends_at` is the offset behind the last member's data: where a zip's directory begins.
        Directories that are left out get `made_up_mtime_ns`, by default the newest member's time.
        """
        own = list(members)
        for number, member in enumerate(own):
            if member.number != number:
                own[number] = replace(member, number=number)
        self.is_complete = is_complete
        self._own_count = len(own)
        self._ends_at = ends_at
        self._children: dict[str, dict[str, int]] = {"": {}}
        self._numbers: dict[str, int] = {member.path: member.number for member in own}
        if len(self._numbers) != len(own):
            raise ValueError("two members have one path")
        if made_up_mtime_ns is None:
            made_up_mtime_ns = max((member.mtime_ns for member in own), default=0)
        self._members = own
        for member in own[:]:
            self._place(member, made_up_mtime_ns)
        self._headers_at: list[int] | None = None

    @property
    def members(self) -> Sequence[Member]:
        """The members in the archive's order, then the directories that it leaves out."""
        return self._members

    @property
    def ends_at(self) -> int | None:
        """Offset behind the last member's data, if known."""
        return self._ends_at

    def children(self, directory: str) -> Mapping[str, int]:
        """Names in a directory (the top is ""), each with its member's number."""
        return MappingProxyType(self._children.get(directory, {}))

    def find(self, path: str) -> Member | None:
        """The member of this path; None if there is none, as for the top."""
        number = self._numbers.get(path)
        return None if number is None else self._members[number]

    def room_of(self, member: Member) -> int | None:
        """Offset behind the bytes that belong to the member: the next header, or `ends_at`."""
        if self._headers_at is None:
            own = self._members[: self._own_count]
            self._headers_at = sorted({one.header_at for one in own})
        place = bisect_right(self._headers_at, member.header_at)
        return self._headers_at[place] if place < len(self._headers_at) else self._ends_at

    def _place(self, member: Member, mtime_ns: int) -> None:
        if member.kind is MemberKind.DIRECTORY:
            self._children.setdefault(member.path, {})
        path, number = member.path, member.number
        while True:
            parent, _, name = path.rpartition("/")
            names = self._children.get(parent)
            if names is not None:
                names[name] = number
                return  # the parent was placed when its names began
            self._children[parent] = {name: number}
            known = self._numbers.get(parent)
            if known is None:
                known = self._make_up(parent, mtime_ns)
            elif self._members[known].kind is not MemberKind.DIRECTORY:
                raise ValueError("a member stands in another one that is no directory")
            path, number = parent, known

    def _make_up(self, path: str, mtime_ns: int) -> int:
        number = len(self._members)
        if number >= MOST_ENTRIES:
            raise TooLargeError(f"it has more than {MOST_ENTRIES} members and directories")
        directory = MemberKind.DIRECTORY
        self._members.append(
            Member(
                number, path, directory, MADE_UP, None, 0, 0, Method.STORED, None, mtime_ns, None
            )
        )
        self._numbers[path] = number
        return number

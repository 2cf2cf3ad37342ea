"""The table of an archive's members: what a directory shows and what a read needs.

A table holds safe, unique paths (`names` makes them) and adds the directories that an archive
leaves out. It never changes; a tar that is still being read makes a new table. Sizes are those
that the archive states: they are shown for ever, and a member whose bytes disagree fails when it
is read.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from up42fs.archive.columns import MemberColumns
from up42fs.archive.member import (
    MADE_UP,
    ArchiveError,
    DamagedError,
    Member,
    MemberKind,
    MemberRefusal,
    Method,
    NotAnArchiveError,
    RefusalKind,
    TooLargeError,
)

__all__ = [
    "MADE_UP",
    "MOST_ENTRIES",
    "MOST_MEMBERS",
    "ArchiveError",
    "DamagedError",
    "Member",
    "MemberKind",
    "MemberRefusal",
    "Method",
    "NotAnArchiveError",
    "RefusalKind",
    "Table",
    "TooLargeError",
]

#: Members that an archive may have; a larger one is refused as a whole, with one clear error.
MOST_MEMBERS = 100_000
#: Members and the directories that the archive leaves out, together.
MOST_ENTRIES = 200_000
#: Memory of a name in its directory, bytes, about.
_NAME_BYTES = 130
#: Times beyond this one do not fit into 64 bits.
_LATEST_NS = (1 << 63) - 1
#: Begins a packed table; another layout gets another one.
_MAGIC = b"u42t\x01"
_HEAD = struct.Struct("<?qq")
_UNSAFE_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")


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
        Raises ValueError for paths that clash, TooLargeError for too many directories.
        """
        columns = MemberColumns()
        newest = 0
        for member in members:
            columns.append(member)
            newest = max(newest, min(member.mtime_ns, _LATEST_NS))
        self._set(columns, is_complete, ends_at)
        self._made_up_mtime_ns = newest if made_up_mtime_ns is None else made_up_mtime_ns
        self._place_all()

    def _set(self, columns: MemberColumns, is_complete: bool, ends_at: int | None) -> None:
        self.is_complete = is_complete
        self._columns = columns
        self._own_count = len(columns)
        self._ends_at = ends_at
        self._headers_at: array[int] | None = None
        self._children: dict[str, dict[str, int]] = {"": {}}

    @property
    def members(self) -> Sequence[Member]:
        """The members in the archive's order, then the directories that it leaves out."""
        return self._columns

    @property
    def ends_at(self) -> int | None:
        """Offset behind the last member's data, if known."""
        return self._ends_at

    @property
    def held_bytes(self) -> int:
        """Memory that the table takes, bytes, about."""
        return self._columns.held_bytes + len(self._columns) * _NAME_BYTES

    # One member as an object costs microseconds; these answer for all of an archive's.

    def numbers_of(self, kind: MemberKind) -> list[int]:
        """The numbers of all members of a kind."""
        return self._columns.numbers_of(kind)

    def kind_of(self, number: int) -> MemberKind:
        """The kind of one member."""
        return self._columns.kind_of(number)

    def path_of(self, number: int) -> str:
        """The path of one member."""
        return self._columns.paths()[number]

    def headers_at(self) -> Sequence[int]:
        """`header_at` of all members, by number."""
        return self._columns.headers_at()

    def has_target(self, number: int) -> bool:
        """Whether a member is a symlink with a known target."""
        return self._columns.has_target(number)

    def children(self, directory: str) -> Mapping[str, int]:
        """Names in a directory (the top is ""), each with its member's number."""
        return MappingProxyType(self._children.get(directory, {}))

    def find(self, path: str) -> Member | None:
        """The member of this path; None if there is none, as for the top."""
        number = self._number(path)
        return None if number is None else self._columns[number]

    def room_of(self, member: Member) -> int | None:
        """Offset behind the bytes that belong to the member: the next header, or `ends_at`."""
        if self._headers_at is None:
            self._headers_at = array("q", sorted(self._columns.headers_at()[: self._own_count]))
        place = bisect_right(self._headers_at, member.header_at)
        following = self._headers_at[place] if place < len(self._headers_at) else None
        # A header that lies outside of the archive bounds nothing.
        bounds = [bound for bound in (following, self._ends_at) if bound is not None]
        return min(bounds, default=None)

    def replacing(self, members: Iterable[Member]) -> Table:
        """A table in which each of `members` stands for the one that has its number and path."""
        table = Table.__new__(Table)
        columns = self._columns.copy()
        for member in members:
            if (member.kind is MemberKind.DIRECTORY) != (member.path in self._children):
                raise ValueError("a member cannot become a directory, nor the reverse")
            columns.replace(member)
        table._set(columns, self.is_complete, self._ends_at)
        table._own_count = self._own_count
        table._made_up_mtime_ns = self._made_up_mtime_ns
        table._children = self._children  # never changed once all members are placed
        return table

    def packed(self) -> bytes:
        """The table as bytes for the snapshot; about 20 to 40 bytes a member."""
        ends_at = MADE_UP if self._ends_at is None else self._ends_at
        head = _HEAD.pack(self.is_complete, ends_at, self._made_up_mtime_ns)
        return _MAGIC + head + self._columns.packed(self._own_count)

    @classmethod
    def unpacked(cls, blob: bytes) -> Table:
        """The table that `packed` made bytes of; raises ValueError if the bytes are malformed."""
        head_at = len(_MAGIC)
        columns_at = head_at + _HEAD.size
        if not blob.startswith(_MAGIC) or len(blob) < columns_at:
            raise ValueError("a packed table of another version")
        is_complete, ends_at, made_up_mtime_ns = _HEAD.unpack_from(blob, head_at)
        table = cls.__new__(cls)
        columns = MemberColumns.unpacked(blob[columns_at:])
        table._set(columns, is_complete, None if ends_at == MADE_UP else ends_at)
        table._made_up_mtime_ns = made_up_mtime_ns
        if any(_UNSAFE_PATH.search(path) for path in columns.paths()):
            raise ValueError("a packed table has an unsafe path")
        table._place_all()
        return table

    def _number(self, path: str) -> int | None:
        parent, _, name = path.rpartition("/")
        return self._children.get(parent, {}).get(name)

    def _place_all(self) -> None:
        if self._own_count > MOST_ENTRIES:
            raise TooLargeError(f"it has more than {MOST_ENTRIES} members")
        columns, children = self._columns, self._children
        # Directories first: they are then known when another member asks for its parent.
        directories: dict[str, int] = {}
        for number, path in enumerate(columns.paths()):
            if columns.kind_of(number) is MemberKind.DIRECTORY:
                directories[path] = number
                children.setdefault(path, {})
        for number in range(self._own_count):
            path = columns.paths()[number]
            while True:
                parent, _, name = path.rpartition("/")
                names = children.get(parent)
                is_placed = names is not None and (not parent or parent in directories)
                if names is None:
                    names = children[parent] = {}
                if names.setdefault(name, number) != number:
                    raise ValueError("two members have one path")
                if is_placed:
                    break
                path = parent
                number = directories[parent] = self._make_up(parent)

    def _make_up(self, path: str) -> int:
        number = len(self._columns)
        if number >= MOST_ENTRIES:
            raise TooLargeError(f"it has more than {MOST_ENTRIES} members and directories")
        kind, mtime_ns = MemberKind.DIRECTORY, self._made_up_mtime_ns
        self._columns.append(
            Member(number, path, kind, MADE_UP, None, 0, 0, Method.STORED, None, mtime_ns, None)
        )
        return number

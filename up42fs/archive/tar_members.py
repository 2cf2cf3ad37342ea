"""The members of a tar as they are found: which of one name counts, what a hard link means.

Collects and bounds them, and makes the table. Knows neither blocks nor the order of reading.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from up42fs.archive import names
from up42fs.archive.table import (
    MOST_MEMBERS,
    Member,
    MemberKind,
    MemberRefusal,
    Method,
    RefusalKind,
    Table,
    TooLargeError,
)
from up42fs.archive.tar_sparse import Segments
from up42fs.types import ByteRange

#: Names and link targets of all members together.
MOST_NAME_BYTES = 32 << 20
#: Segments of all sparse members together; a member beyond them is refused.
MOST_SEGMENTS = 1 << 18
#: A path has 4096 bytes at most; `names` joins what is deeper than it allows.
_LONGEST_NAME = 16_384
#: The file that stands for members which are missing, in at most so many directories.
GAP_NAME = "DAMAGED-members-are-missing"
MOST_GAPS = 1000
_GAP_REASON = (
    "stands for members that cannot be found: the archive is damaged between those around it; ask "
    "UP42 for a new delivery"
)


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A member before it has a path. Names are as in the archive, `target` is a symlink's."""

    name: str
    kind: MemberKind
    header_at: int
    data_at: int
    packed_size: int
    size: int
    mtime_ns: int
    mode: int | None
    target: str | None = None
    #: Why its bytes cannot be read; completes "The member …".
    refusal: str | None = None
    segments: Segments = ()


def decoded(raw: bytes) -> str:
    """A name or target; tars without UTF-8 come from systems with Latin letters."""
    return names.decoded(raw[:_LONGEST_NAME], fallback="latin-1")


class TarMembers:
    """Members in the archive's order; raises TooLargeError if they become too many."""

    def __init__(self) -> None:
        #: Devices, FIFOs and continuations of other volumes, which are not shown.
        self.left_out = 0
        self._entries: list[TarEntry | None] = []
        self._latest: dict[str, int] = {}
        self._name_bytes = self._segments = 0
        self._folder = ""  # of the last member
        self._gaps: dict[str, ByteRange] = {}  # by directory
        self._open_gap: ByteRange | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: TarEntry) -> None:
        """Add a member. It replaces a file of the same name, as tar does when it extracts."""
        if len(self._entries) >= MOST_MEMBERS:
            raise TooLargeError(f"it has more than {MOST_MEMBERS} members")
        self._name_bytes += len(entry.name) + len(entry.target or "")
        if self._name_bytes > MOST_NAME_BYTES:
            raise TooLargeError("the names in it are longer than 32 MiB together")
        self._segments += len(entry.segments)
        if self._segments > MOST_SEGMENTS:
            self._segments -= len(entry.segments)
            refusal = "has more segments than up42fs reads"
            entry = replace(entry, segments=(), refusal=refusal)
        is_folder = entry.kind is MemberKind.DIRECTORY
        wish = names.wish(entry.name, is_directory=is_folder)
        self._folder = wish.path if is_folder else wish.path.rpartition("/")[0]
        if self._open_gap is not None:
            self._note_gap(self._open_gap)
            self._open_gap = None
        before = self._latest.get(wish.path)
        replaced = None if before is None else self._entries[before]
        # tar removes a file to put another member in its place, but no full directory.
        is_removed = replaced is not None and (
            is_folder or replaced.kind is not MemberKind.DIRECTORY
        )
        if before is not None and wish.is_exact and is_removed:
            self._entries[before] = None
        self._latest[wish.path] = len(self._entries)
        self._entries.append(entry)

    def add_hard_link(self, entry: TarEntry, target: str) -> bool:
        """Add a hard link as the member that `target` means now; False if there is none."""
        number = self._latest.get(names.wish(target).path)
        linked = None if number is None else self._entries[number]
        if linked is None or linked.kind is MemberKind.DIRECTORY:
            refusal = "is a hard link to a file that is not before it in the archive"
            self.add(replace(entry, refusal=refusal))
            return False
        self.add(replace(linked, name=entry.name))
        return True

    def give_data(self, data_at: int, size: int) -> None:
        """Make the last member, a hard link to nothing, a file of its own."""
        last = self._entries[-1]
        if last is not None:
            self._entries[-1] = replace(
                last, data_at=data_at, packed_size=size, size=size, refusal=None
            )

    def miss(self, span: ByteRange) -> None:
        """Note that these bytes are damaged, so that members are missing that stood in them.

        A program that copies what it finds would not notice. So a file that cannot be opened stands
        for them, in the directory of the member before and in that of the member behind.
        """
        self._note_gap(span)
        self._open_gap = span

    def _note_gap(self, span: ByteRange) -> None:
        if len(self._gaps) < MOST_GAPS:
            self._gaps.setdefault(self._folder, span)

    def leave_out(self) -> None:
        """Count a member that is not shown."""
        self.left_out += 1
        if self.left_out > MOST_MEMBERS:
            raise TooLargeError(f"it has more than {MOST_MEMBERS} members")

    def table(self, *, is_complete: bool, ends_at: int | None) -> Table:
        """The members under safe, unique paths. Symlinks that lead out are left out."""
        entries = [entry for entry in self._entries if entry is not None]
        wishes = [
            names.wish(entry.name, is_directory=entry.kind is MemberKind.DIRECTORY)
            for entry in entries
        ]
        for folder, span in self._gaps.items():
            path = f"{folder}/{GAP_NAME}" if folder else GAP_NAME
            # Not exact: a member that has this name keeps it.
            wishes.append(names.Wish(path, is_directory=False, is_exact=False))
            entries.append(_gap(path, span))
        paths = names.unique_paths(wishes)
        named = [(path, one) for path, one in zip(paths, entries, strict=True) if path is not None]
        folders = _folders(named)
        members: list[Member] = []
        for path, entry in named:
            target = None
            if entry.kind is MemberKind.SYMLINK:
                target = names.safe_target(path, entry.target or "", folders.__contains__)
                if target is None:
                    continue
            members.append(_member(len(members), path, entry, target))
        return Table(members, is_complete=is_complete, ends_at=ends_at)


def _gap(path: str, span: ByteRange) -> TarEntry:
    size, kind = len(span), MemberKind.FILE
    return TarEntry(path, kind, span.start, span.start, size, size, 0, None, refusal=_GAP_REASON)


def _folders(named: list[tuple[str, TarEntry]]) -> set[str]:
    folders = {path for path, entry in named if entry.kind is MemberKind.DIRECTORY}
    for path, _ in named:
        while "/" in path and (path := path.rpartition("/")[0]) not in folders:
            folders.add(path)
    return folders


def _member(number: int, path: str, entry: TarEntry, target: str | None) -> Member:
    return Member(
        number=number,
        path=path,
        kind=entry.kind,
        header_at=entry.header_at,
        data_at=entry.data_at,
        packed_size=entry.packed_size,
        size=entry.size,
        method=Method.STORED,
        crc32=None,
        mtime_ns=entry.mtime_ns,
        mode=entry.mode,
        target=target,
        refusal=MemberRefusal(RefusalKind.DAMAGED, entry.refusal) if entry.refusal else None,
        segments=entry.segments,
    )

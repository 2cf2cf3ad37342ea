"""The end of a zip: the record that tells where its directory lies.

Theory. Whoever opens a zip begins at its end, and everything there may be wrong:
1. A comment may hold an end mark. The right record is one whose comment ends where the file ends
   and whose directory begins with an entry. Bytes behind the comment are forgiven if no such record
   exists.
2. Offsets count from where the zip began before something was put ahead of it, such as the program
   of a self-extractor. The directory ends at its end record, so its length tells where it begins,
   and the difference tells how far all offsets moved.
3. The count of entries has 16 bits and is not believed. A zip64 record, if there is one, has
   the wide values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from up42fs.archive.table import MOST_MEMBERS, DamagedError, NotAnArchiveError, TooLargeError
from up42fs.types import ByteRange, Bytes

ENTRY = b"PK\x01\x02"
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES = 22, 56, 20
#: Bytes from an archive's end that hold its end records, with the longest comment behind them.
TAIL_BYTES = _END64_BYTES + _LOCATOR_BYTES + _END_BYTES + 0xFFFF
#: A longer directory is refused: 100 000 members whose entries have 335 bytes each.
MOST_DIRECTORY_BYTES = 32 << 20
_ENTRY_BYTES = 46
#: Disk number of archives whose wide values stand in the zip64 record.
_NO_DISK = 0xFFFF


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory: its range, None for an archive without members.

    Offsets of members count from `shift`. The count of members is a hint.
    """

    count: int
    span: ByteRange | None
    shift: int = 0


class _Trust(IntEnum):
    """How sure a record is; the lowest wins."""

    SURE = 0
    UNSEEN = 1  # its directory begins ahead of the tail
    SURE_WITH_REST = 2  # bytes follow its comment
    EMPTY = 3
    UNSEEN_WITH_REST = 4
    EMPTY_WITH_REST = 5


@dataclass(frozen=True, slots=True)
class _Tail:
    data: bytes
    base: int  # offset of its first byte in the archive

    def begins(self, at: int, magic: bytes) -> bool | None:
        """Whether `magic` stands at the archive's offset `at`; None if that is not in the tail."""
        if at < self.base:
            return None
        return self.data.startswith(magic, at - self.base)


def find_directory(size: int, tail: Bytes) -> Directory:
    """The directory of an archive of `size` bytes that ends with `tail`.

    `tail` should have `TAIL_BYTES` or be the whole archive. Raises an ArchiveError.
    """
    known = _Tail(bytes(tail), size - len(tail))
    best: tuple[_Trust, Directory, bool] | None = None
    for at in _marks(known.data):
        found = _judge(known, at)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
            if found[0] is _Trust.SURE:
                break
    if best is None:
        raise NotAnArchiveError("it does not end as a zip does")
    _, directory, is_split = best
    if is_split:
        raise DamagedError("it is one part of a split zip; the other parts are needed to unpack it")
    length = len(directory.span) if directory.span else 0
    # The count of 16 bits cannot exceed the limit, that of 64 bits is not needed to be right.
    if directory.count > MOST_MEMBERS or length > MOST_DIRECTORY_BYTES:
        raise TooLargeError(
            f"its directory has {directory.count} members and {length} bytes; up42fs reads up to "
            f"{MOST_MEMBERS} members and {MOST_DIRECTORY_BYTES >> 20} MiB"
        )
    return directory


def _marks(data: bytes) -> Iterator[int]:
    """Places of end marks in the tail, the last one first."""
    at = max(len(data) - _END_BYTES + len(_END), 0)
    while (at := data.rfind(_END, 0, at)) >= 0:
        yield at
        at += len(_END) - 1


def _judge(tail: _Tail, at: int) -> tuple[_Trust, Directory, bool] | None:
    """How sure the record at `at` in the tail is, its directory, and whether it is split."""
    disk, _, _, _, _, _, comment = struct.unpack_from("<4H2LH", tail.data, at + 4)
    rest = len(tail.data) - (at + _END_BYTES + comment)
    if rest < 0:
        return None
    for count, length, start, end in _values(tail, at):
        if not length:
            if count:
                continue
            trust, directory = _Trust.EMPTY, Directory(0, None)
        elif (place := _place(tail, length, start, end)) is None:
            continue
        else:
            begins_at, is_seen = place
            trust = _Trust.SURE if is_seen else _Trust.UNSEEN
            span = ByteRange(begins_at, begins_at + length)
            directory = Directory(count, span, begins_at - start)
        if rest:
            trust = _WITH_REST[trust]
        return trust, directory, disk not in (0, _NO_DISK)
    return None


_WITH_REST = {
    _Trust.SURE: _Trust.SURE_WITH_REST,
    _Trust.UNSEEN: _Trust.UNSEEN_WITH_REST,
    _Trust.EMPTY: _Trust.EMPTY_WITH_REST,
}


def _values(tail: _Tail, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Count, length, declared start and end of the directory, by zip64 first."""
    data = tail.data
    place = at - _LOCATOR_BYTES
    if place >= 0 and data.startswith(_LOCATOR, place):
        declared = struct.unpack_from("<Q", data, place + 8)[0] - tail.base
        # Something put ahead of the archive moved the record; it then stands before its locator.
        for record in (declared, place - _END64_BYTES):
            if not 0 <= record <= place - _END64_BYTES or not data.startswith(_END64, record):
                continue
            if record + 12 + struct.unpack_from("<Q", data, record + 4)[0] != place:
                continue
            count, length, start = struct.unpack_from("<3Q", data, record + 32)
            yield count, length, start, tail.base + record
    count, length, start = struct.unpack_from("<H2L", data, at + 10)
    yield count, length, start, tail.base + at


def _place(tail: _Tail, length: int, start: int, end: int) -> tuple[int, bool] | None:
    """Where the directory begins, and whether an entry was seen there; None if it cannot."""
    if length < _ENTRY_BYTES:
        return None
    by_end = end - length
    begins = tail.begins(by_end, ENTRY) if by_end >= 0 else False
    if begins:
        return by_end, True
    # Some writers pad between the directory and its end record; then the declared start is right.
    if start + length <= end and tail.begins(start, ENTRY):
        return start, True
    return None if begins is False else (by_end, False)

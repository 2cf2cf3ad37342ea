"""Members of one archive in columns: 100 000 of them take a tenth of what objects would take.

The packed form is what the snapshot keeps. It is versioned, and bounded when it is unpacked.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from up42fs.archive.member import Member, MemberKind, MemberRefusal, Method, RefusalKind
from up42fs.types import Bytes

#: Begins packed columns; another layout gets another one.
_MAGIC = b"u42m\x01"
_HEAD = struct.Struct("<6L")
#: Bytes that columns may have when they are unpacked: 200 000 members with paths of 250 bytes.
_MOST_BYTES = 64 << 20
_KINDS, _METHODS, _CAUSES = tuple(MemberKind), tuple(Method), tuple(RefusalKind)
_KIND_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_METHOD_NUMBERS = {method: number for number, method in enumerate(_METHODS)}
_NONE = -1
_LARGEST = (1 << 63) - 1
#: Memory of a member beside the characters of its path and the table's own dictionary, bytes.
_MEMBER_BYTES = 140
_SEPARATOR = "\0"


class MemberColumns(Sequence[Member]):
    """Members by number. Members are appended; one may be replaced by another of its path."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._kinds = bytearray()
        self._methods = bytearray()
        #: header_at, data_at, packed_size, size, CRC, time, mode; -1 where there is none.
        self._numbers = tuple(array("q") for _ in range(7))
        #: What few members have, by number.
        self._targets: dict[int, str] = {}
        self._refusals: dict[int, MemberRefusal] = {}
        self._segments: dict[int, tuple[tuple[int, int, int], ...]] = {}
        self._path_bytes = 0

    def append(self, member: Member) -> None:
        """Add a member; its number is its place."""
        number = len(self._paths)
        self._paths.append(member.path)
        self._path_bytes += len(member.path)
        self._kinds.append(_KIND_NUMBERS[member.kind])
        self._methods.append(_METHOD_NUMBERS[member.method])
        for column, value in zip(self._numbers, _numbers(member), strict=True):
            column.append(value)
        self._set_rare(number, member)

    def replace(self, member: Member) -> None:
        """Put `member` in the place of the one that has its number and path."""
        number = member.number
        if self._paths[number] != member.path:
            raise ValueError("a member cannot change its path")
        self._kinds[number] = _KIND_NUMBERS[member.kind]
        self._methods[number] = _METHOD_NUMBERS[member.method]
        for column, value in zip(self._numbers, _numbers(member), strict=True):
            column[number] = value
        for rare in (self._targets, self._refusals, self._segments):
            rare.pop(number, None)
        self._set_rare(number, member)

    def copy(self) -> MemberColumns:
        """The same members, to replace some."""
        other = MemberColumns()
        other._paths, other._path_bytes = self._paths, self._path_bytes
        other._kinds, other._methods = self._kinds[:], self._methods[:]
        other._numbers = tuple(column[:] for column in self._numbers)
        other._targets, other._refusals = self._targets.copy(), self._refusals.copy()
        other._segments = self._segments.copy()
        return other

    def headers_at(self) -> array[int]:
        """Offsets of the headers of all members, by number."""
        return self._numbers[0]

    @property
    def held_bytes(self) -> int:
        """Memory that they take, bytes, about."""
        return len(self._paths) * _MEMBER_BYTES + self._path_bytes

    def paths(self) -> Sequence[str]:
        """The paths of all members, by number."""
        return self._paths

    def kind_of(self, number: int) -> MemberKind:
        """The kind of one member."""
        return _KINDS[self._kinds[number]]

    def numbers_of(self, kind: MemberKind) -> list[int]:
        """The numbers of all members of a kind."""
        wanted = _KIND_NUMBERS[kind]
        if wanted not in self._kinds:
            return []
        return [number for number, each in enumerate(self._kinds) if each == wanted]

    def has_target(self, number: int) -> bool:
        """Whether a member has a target."""
        return number in self._targets

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, number: int) -> Member: ...

    @overload
    def __getitem__(self, number: slice) -> list[Member]: ...

    def __getitem__(self, number: int | slice) -> Member | list[Member]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(number)
        header_at, data_at, packed_size, size, crc32, mtime_ns, mode = (
            column[number] for column in self._numbers
        )
        return Member(
            number,
            self._paths[number],
            _KINDS[self._kinds[number]],
            header_at,
            _given(data_at),
            packed_size,
            size,
            _METHODS[self._methods[number]],
            _given(crc32),
            mtime_ns,
            _given(mode),
            self._targets.get(number),
            self._refusals.get(number),
            self._segments.get(number, ()),
        )

    def __iter__(self) -> Iterator[Member]:
        return map(self.__getitem__, range(len(self)))

    def _set_rare(self, number: int, member: Member) -> None:
        if member.target is not None:
            self._targets[number] = member.target
        if member.refusal is not None:
            self._refusals[number] = member.refusal
        if member.segments:
            self._segments[number] = member.segments

    def packed(self, count: int) -> bytes:
        """The first `count` members as bytes."""
        texts: list[str] = self._paths[:count]
        reasons = list(dict.fromkeys(self._refusals.values()))
        places = {refusal: place for place, refusal in enumerate(reasons)}
        rare = array("q")
        for number, target in self._targets.items():
            rare.append(number)
            texts.append(target)
        for number, refusal in self._refusals.items():
            rare.extend((number, places[refusal]))
        for refusal in reasons:
            rare.append(_CAUSES.index(refusal.kind))
            texts.append(refusal.reason)
        for number, segments in self._segments.items():
            rare.extend((number, len(segments)))
            for segment in segments:
                rare.extend(segment)
        numbers = [_deltas(self._numbers[0][:count]), *(c[:count] for c in self._numbers[1:])]
        text = _SEPARATOR.join(texts).encode()
        head = _HEAD.pack(
            count,
            len(self._targets),
            len(self._refusals),
            len(reasons),
            len(self._segments),
            len(rare),
        )
        parts: list[Bytes] = [head, self._kinds[:count], self._methods[:count]]
        parts += [*map(_little, numbers), _little(rare), text]
        return _MAGIC + zlib.compress(b"".join(parts), 6)

    @classmethod
    def unpacked(cls, blob: bytes) -> MemberColumns:
        """The members that `packed` made bytes of; raises ValueError if the bytes are malformed."""
        try:
            return _Unpacking(_inflated(blob)).columns()
        except (struct.error, IndexError, OverflowError, zlib.error) as error:
            raise ValueError(f"packed members are malformed: {error}") from error


class _Unpacking:
    """Reads packed columns from their front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def columns(self) -> MemberColumns:
        count, targets, refusals, reasons, segments, rare_count = _HEAD.unpack(
            self._take(_HEAD.size)
        )
        found = MemberColumns()
        found._kinds = bytearray(self._take(count))
        found._methods = bytearray(self._take(count))
        if max(found._kinds, default=0) >= len(_KINDS) or (
            max(found._methods, default=0) >= len(_METHODS)
        ):
            raise ValueError("packed members have an unknown kind")
        numbers = [self._array(count) for _ in range(7)]
        _sum_up(numbers[0])
        found._numbers = tuple(numbers)
        rare = iter(self._array(rare_count))
        texts = self._data[self._at :].decode().split(_SEPARATOR)
        if len(texts) != max(count + targets + reasons, 1):
            raise ValueError("packed members lack texts")
        found._paths = texts[:count]
        found._path_bytes = sum(map(len, found._paths))
        self._rare(found, rare, iter(texts[count:]), (targets, refusals, reasons, segments))
        return found

    @staticmethod
    def _rare(
        found: MemberColumns,
        rare: Iterator[int],
        texts: Iterator[str],
        counts: tuple[int, int, int, int],
    ) -> None:
        targets, refusals, reasons, segments = counts
        try:
            for _ in range(targets):
                found._targets[_number(next(rare), found)] = next(texts)
            placed = [(_number(next(rare), found), next(rare)) for _ in range(refusals)]
            known = [MemberRefusal(_CAUSES[next(rare)], next(texts)) for _ in range(reasons)]
            for number, place in placed:
                found._refusals[number] = known[place]
            for _ in range(segments):
                number, length = _number(next(rare), found), next(rare)
                found._segments[number] = tuple(
                    (next(rare), next(rare), next(rare)) for _ in range(length)
                )
        except (StopIteration, RuntimeError) as error:
            raise ValueError("packed members end early") from error

    def _take(self, length: int) -> bytes:
        found = self._data[self._at : self._at + length]
        if len(found) != length:
            raise ValueError("packed members end early")
        self._at += length
        return found

    def _array(self, count: int) -> array[int]:
        found = array("q", self._take(8 * count))
        if sys.byteorder == "big":
            found.byteswap()
        return found


def _numbers(member: Member) -> tuple[int, ...]:
    found = (
        member.header_at,
        _NONE if member.data_at is None else member.data_at,
        member.packed_size,
        member.size,
        _NONE if member.crc32 is None else member.crc32,
        member.mtime_ns,
        _NONE if member.mode is None else member.mode,
    )
    if max(found) > _LARGEST or min(found) < -_LARGEST:
        return tuple(max(-_LARGEST, min(value, _LARGEST)) for value in found)
    return found


def _given(value: int) -> int | None:
    return None if value == _NONE else value


def _deltas(column: array[int]) -> array[int]:
    # Differences are small numbers, which pack to a third.
    return array("q", (value - before for before, value in zip((0, *column), column, strict=False)))


def _sum_up(column: array[int]) -> None:
    total = 0
    for place, value in enumerate(column):
        total += value
        column[place] = total


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _inflated(blob: bytes) -> bytes:
    if not blob.startswith(_MAGIC):
        raise ValueError("packed members of another version")
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(blob[len(_MAGIC) :], _MOST_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("packed members are cut off, or too many")
    return data


def _number(value: int, found: MemberColumns) -> int:
    if not 0 <= value < len(found):
        raise ValueError("packed members name a member that does not exist")
    return value

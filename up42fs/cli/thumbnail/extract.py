"""Takes one small image out of a TIFF: a TIFF of its own, of few bytes of the original. Pure.

A decoder that is given the whole file reads the directories and tables of all its images, and what
was not fetched of them is zeros to it: wrong colours, or an error. So the overview that makes the
picture, and its mask, become a file of their own, with every value that decoding needs. The image
itself is taken if it is small enough. Bytes come from a callback; `LackingError` names those that
are missing, and the caller tries again once it has them. Input that breaks the rules of TIFF raises
`MalformedError`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from up42fs.ranges import coalesce
from up42fs.readahead.parse_budget import MalformedError
from up42fs.readahead.tiff import TiffDialect
from up42fs.types import ByteRange

#: The bytes of a range, or None if they are missing.
Get = Callable[[ByteRange], bytes | None]
#: How many bytes of some ranges are missing.
Lacks = Callable[[Iterable[ByteRange]], int]

#: What a decoder may have to hold of an image at once: its tile, and the bands that are shown.
MOST_DECODED_BYTES = 16 << 20
#: Bytes between tiles that are fetched along, since a request takes longer than they do.
GAP_BYTES = 8 << 10
#: Bytes that are fetched where only the position of a directory is known.
DIRECTORY_BYTES = 4096
_MOST_LEVELS, _MOST_ENTRIES, _MOST_TILES = 64, 4096, 1 << 16
#: Tiles of a file that overlap may together be longer than the file, but not by much.
_MOST_OVERLAP = 4
_BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
             16: 8, 17: 8, 18: 8}  # fmt: skip
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _NODATA = 322, 323, 324, 325, 42113
#: What decoding an image takes beside its place; the rest of a directory is left out.
_DECODING = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, 262, 266, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, 292, 293,
    317, 320, _TILE_WIDTH, _TILE_HEIGHT, 332, 333, 334, 336, 338, 339, 340, 341, 347, 529, 530, 531,
    532, _NODATA, 50674,
}  # fmt: skip
_REDUCED, _MASK = 1, 4


class LackingError(Exception):
    """The bytes of `span` are missing."""

    def __init__(self, span: ByteRange) -> None:
        super().__init__(f"the bytes {span.start}-{span.stop} are missing")
        self.span = span


@dataclass(frozen=True, slots=True)
class TiffValue:
    """One value of a directory: its type, how many there are, and where its bytes stand."""

    kind: int
    count: int
    at: ByteRange


@dataclass(frozen=True, slots=True)
class TiffSource(TiffDialect):
    """The bytes of a file of `size` bytes, and how its numbers are written."""

    size: int
    get: Get

    @property
    def counter(self) -> str:
        return "Q" if self.is_big else "H"

    def read(self, span: ByteRange, wish: int = 0) -> bytes:
        if span.start < 0 or span.stop > self.size:
            raise MalformedError
        data = self.get(span)
        if data is None:
            raise LackingError(
                ByteRange(span.start, min(max(span.stop, span.start + wish), self.size))
            )
        return data

    def number_at(self, start: int, code: str, wish: int = 0) -> int:
        span = ByteRange(start, start + struct.calcsize("=" + code))
        return self.number(self.read(span, wish), code)

    def numbers_of(self, entry: TiffValue) -> Sequence[int]:
        code = _CODES.get(entry.kind)
        if code is None:
            raise MalformedError
        return struct.unpack(f"{self.order}{entry.count}{code}", self.read(entry.at))

    def pack(self, code: str, *numbers: int) -> bytes:
        return struct.pack(self.order + code, *numbers)


@dataclass(frozen=True)
class TiffImage:
    """One image of the file by its directory."""

    reader: TiffSource
    entries: Mapping[int, TiffValue]
    is_first: bool = False

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        entry = self.entries.get(tag)
        if entry is None:
            return default
        if not 0 < entry.count <= _MOST_ENTRIES:
            raise MalformedError
        return self.reader.numbers_of(entry)[0]

    @cached_property
    def subfile(self) -> int:
        return self.one(_SUBFILE, 0)

    @cached_property
    def shape(self) -> tuple[int, int]:
        return self.one(_WIDTH, 0), self.one(_HEIGHT, 0)

    @cached_property
    def is_tiled(self) -> bool:
        return _TILE_OFFSETS in self.entries

    @cached_property
    def tile(self) -> tuple[int, int]:
        width, height = self.shape
        if self.is_tiled:
            return self.one(_TILE_WIDTH, 0), self.one(_TILE_HEIGHT, 0)
        return width, min(self.one(_ROWS_PER_STRIP, height), height)

    @cached_property
    def tiles(self) -> int:
        """How many tiles the image has."""
        if min(*self.shape, *self.tile) <= 0:
            raise MalformedError
        (width, height), (across, down) = self.shape, self.tile
        return -(-width // across) * -(-height // down) * (1 if self._is_chunky else self._samples)

    @cached_property
    def _samples(self) -> int:
        return self.one(_SAMPLES, 1)

    @cached_property
    def _is_chunky(self) -> bool:
        return self.one(_PLANAR, 1) != 2

    @cached_property
    def decoded_bytes(self) -> int:
        """The bytes that a decoder holds at once: of a tile, or of the bands that are shown."""
        depth = -(-self.one(_BITS, 1) // 8)
        (width, height), (across, down) = self.shape, self.tile
        tile = across * down * depth * (self._samples if self._is_chunky else 1)
        return max(tile, width * height * depth * min(self._samples, 3))

    @property
    def place_tags(self) -> tuple[int, int]:
        """The tags of the tiles' offsets and lengths."""
        return (_TILE_OFFSETS, _TILE_COUNTS) if self.is_tiled else (_STRIP_OFFSETS, _STRIP_COUNTS)

    @cached_property
    def tables(self) -> tuple[TiffValue, TiffValue]:
        """Where the tiles' offsets and lengths stand."""
        tags = self.place_tags
        if any(tag not in self.entries for tag in tags) or not self.tiles <= _MOST_TILES:
            raise MalformedError
        offsets, counts = (self.entries[tag] for tag in tags)
        if offsets.count != self.tiles or counts.count != self.tiles:
            raise MalformedError
        return offsets, counts

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Offset and length of each tile; both 0 for one without bytes."""
        offsets, counts = (self.reader.numbers_of(entry) for entry in self.tables)
        places = [(at, n) if at and n else (0, 0) for at, n in zip(offsets, counts, strict=True)]
        if any(at + count > self.reader.size for at, count in places):
            raise MalformedError
        if sum(count for _, count in places) > _MOST_OVERLAP * self.reader.size:
            raise MalformedError
        return places

    @cached_property
    def values(self) -> dict[int, TiffValue]:
        """The bytes that decoding takes beside the places of the tiles."""
        return {tag: entry for tag, entry in self.entries.items() if tag in _DECODING}


@dataclass(slots=True)
class Choice:
    """An image of the file, and its mask if it has one."""

    levels: list[TiffImage]
    spans: list[ByteRange] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.levels[0].shape


def choose(size: int, get: Get, lacks: Lacks, wanted: int, most: int) -> Choice | None:
    """The smallest image as wide or high as `wanted`, or else the largest that can be had.

    The bytes that it lacks are at most `most`. None if there is none in a file of `size` bytes.
    """
    levels = _levels(_dialect(size, get))
    best: Choice | None = None
    for level in _pictures(levels):
        try:
            choice = _whole(level, levels, lacks, most)
        except MalformedError:
            continue
        if choice is None:
            break
        best = choice
        if max(level.shape) >= wanted:
            break
    return best


def extract(choice: Choice) -> bytes:
    """The TIFF of a choice; raises LackingError."""
    reader = choice.levels[0].reader
    pieces = [reader.read(span) for span in choice.spans]
    directories = [
        MovedImage(level, {tag: reader.read(entry.at) for tag, entry in level.values.items()})
        for level in choice.levels
    ]
    at = begin = 16 if reader.is_big else 8
    for one in directories:
        one.at, at = at, at + one.length
    moved: list[tuple[ByteRange, int]] = []
    for span in choice.spans:
        moved.append((span, at))
        at += len(span)
    magic = b"II" if reader.order == "<" else b"MM"
    written = [magic, reader.pack("HHHQ", 43, 8, 0, begin) if reader.is_big
               else reader.pack("HI", 42, begin)]  # fmt: skip
    for number, one in enumerate(directories):
        following = directories[number + 1].at if number + 1 < len(directories) else 0
        written.append(one.written(moved, following))
    return b"".join(written + pieces)


def _dialect(size: int, get: Get) -> TiffSource:
    begin = TiffSource("<", False, size, get).read(ByteRange(0, 8))
    order = {b"II": "<", b"MM": ">"}.get(begin[:2])
    version = struct.unpack(order + "H", begin[2:4])[0] if order else 0
    if order is None or version not in (42, 43):
        raise MalformedError
    return TiffSource(order, version == 43, size, get)


def _levels(reader: TiffSource) -> list[TiffImage]:
    """The images of the file, as far as its directories can be read."""
    found: list[TiffImage] = []
    seen: set[int] = set()
    try:
        at = reader.number_at(reader.first_at, reader.word)
        while at and at not in seen and len(seen) < _MOST_LEVELS:
            seen.add(at)
            entries, at = _directory(reader, at)
            found.append(TiffImage(reader, entries, is_first=not found))
    except MalformedError:
        pass  # those before it can still be shown
    return found


def _directory(reader: TiffSource, at: int) -> tuple[dict[int, TiffValue], int]:
    """The entries of the directory at `at`, and where the next one stands."""
    count = reader.number_at(at, reader.counter, DIRECTORY_BYTES)
    if not 0 < count <= _MOST_ENTRIES:
        raise MalformedError
    at += struct.calcsize("=" + reader.counter)
    width = reader.entry_bytes
    rows = reader.read(ByteRange(at, at + count * width + reader.word_bytes))
    entries: dict[int, TiffValue] = {}
    for row in range(0, count * width, width):
        tag, kind, number = struct.unpack_from(f"{reader.order}HH{reader.word}", rows, row)
        length = number * _BYTES_OF.get(kind, 0)
        if length <= 0:
            continue
        place = at + row + width - reader.word_bytes
        if length > reader.word_bytes:
            value = rows[row + width - reader.word_bytes : row + width]
            place = reader.number(value, reader.word)
        if place + length <= reader.size:
            entries.setdefault(tag, TiffValue(kind, number, ByteRange(place, place + length)))
    return entries, reader.number(rows[-reader.word_bytes :], reader.word)


def _pictures(levels: list[TiffImage]) -> list[TiffImage]:
    """The image of the file and its overviews that can be decoded, the smallest first."""
    found: list[TiffImage] = []
    for level in levels:
        try:
            is_shown = not level.subfile & _MASK and (level.is_first or level.subfile & _REDUCED)
            if is_shown and level.tiles and level.decoded_bytes <= MOST_DECODED_BYTES:
                found.append(level)
        except MalformedError:
            continue
    return sorted(found, key=lambda one: one.shape[0] * one.shape[1])


def _whole(level: TiffImage, levels: list[TiffImage], lacks: Lacks, most: int) -> Choice | None:
    """A level with its mask; None if it takes more than `most` bytes."""
    chosen = [level, *(one for one in levels if _is_mask(one, level))][:2]
    values = [entry.at for one in chosen for entry in one.values.values()]
    tables = [entry.at for one in chosen for entry in one.tables]
    if lacks(values + tables) > most:
        return None
    if _NODATA not in level.entries and _NODATA in levels[0].entries:
        # An overview of an old GDAL has none.
        added = {_NODATA: levels[0].entries[_NODATA]}
        chosen[0] = TiffImage(level.reader, {**level.entries, **added}, level.is_first)
    tiles = [
        ByteRange(at, at + count) for one in chosen for at, count in one.places if at and count
    ]
    spans = coalesce(tiles, GAP_BYTES)
    return Choice(chosen, spans) if lacks(values + spans) <= most else None


def _is_mask(one: TiffImage, level: TiffImage) -> bool:
    try:
        is_of_it = bool(one.subfile & _MASK) and one.shape == level.shape
        return is_of_it and one.decoded_bytes <= MOST_DECODED_BYTES
    except MalformedError:
        return False


@dataclass
class MovedImage:
    """A directory of the new file, at `at`, with its values behind it."""

    level: TiffImage
    values: Mapping[int, bytes]
    at: int = 0

    @cached_property
    def _rows(self) -> dict[int, tuple[int, int, bytes | None]]:
        """Type, number and bytes of the values by tag; without bytes what is known in the end."""
        reader, level = self.level.reader, self.level
        kept = level.entries
        rows: dict[int, tuple[int, int, bytes | None]] = {
            tag: (kept[tag].kind, kept[tag].count, data) for tag, data in self.values.items()
        }
        rows[_SUBFILE] = 4, 1, reader.pack("I", level.subfile & _MASK)
        kind = 16 if reader.is_big else 4
        rows |= dict.fromkeys(level.place_tags, (kind, level.tiles, None))
        return dict(sorted(rows.items()))

    def _long(self, count: int, data: bytes | None) -> int:
        """Bytes that a value takes behind the directory."""
        word = self.level.reader.word_bytes
        length = count * word if data is None else len(data)
        return 0 if length <= word else length

    @property
    def _table_bytes(self) -> int:
        reader = self.level.reader
        rows_bytes = len(self._rows) * reader.entry_bytes
        return struct.calcsize("=" + reader.counter) + rows_bytes + reader.word_bytes

    @property
    def length(self) -> int:
        """Bytes of the directory and its values."""
        return self._table_bytes + sum(self._long(row[1], row[2]) for row in self._rows.values())

    def written(self, moved: Sequence[tuple[ByteRange, int]], following: int) -> bytes:
        """The directory, whose tiles were moved; `following` is where the next one stands."""
        reader, word = self.level.reader, self.level.reader.word_bytes
        table = [reader.pack(reader.counter, len(self._rows))]
        behind: list[bytes] = []
        place = self.at + self._table_bytes
        for tag, (kind, count, known) in self._rows.items():
            data = self._places(tag, moved) if known is None else known
            table.append(reader.pack("HH" + reader.word, tag, kind, count))
            if len(data) <= word:
                table.append(data.ljust(word, b"\0"))
            else:
                table.append(reader.pack(reader.word, place))
                behind.append(data)
                place += len(data)
        return b"".join([*table, reader.pack(reader.word, following), *behind])

    def _places(self, tag: int, moved: Sequence[tuple[ByteRange, int]]) -> bytes:
        reader, places = self.level.reader, self.level.places
        if tag in (_STRIP_COUNTS, _TILE_COUNTS):
            numbers = [count for _, count in places]
        else:
            numbers = [_moved(at, moved) if count else 0 for at, count in places]
        return reader.pack(f"{len(numbers)}{reader.word}", *numbers)


def _moved(at: int, moved: Sequence[tuple[ByteRange, int]]) -> int:
    """The place of a tile of the original in the new file."""
    span, place = moved[bisect_right(moved, at, key=lambda one: one[0].start) - 1]
    return place + at - span.start

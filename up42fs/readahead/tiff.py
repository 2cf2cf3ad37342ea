"""Locates the tiles and strips of a TIFF in the bytes of it that are available.

Reads TIFF 6.0 and BigTIFF, of both byte orders, also in GDAL's COG layout. Bytes come from a
callback that may not have them: missing ranges are listed in `TiffLayout.lacking`, and the caller
tries again once they have arrived. Hostile input yields fewer levels, never an exception, and costs
no more than its `ParseBudget`: a table is charged by its length before it is read, and a lookup in
the tables (`under`) finds at most `MOST_UNDER` tiles. Nothing is parsed twice: `TiffParser` resumes
at the missing bytes.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from up42fs.readahead.parse_budget import MalformedError, OverBudgetError, ParseBudget
from up42fs.types import ByteRange, Bytes

#: Returns the bytes of a range of the TIFF, or None if they are not available.
Get = Callable[[ByteRange], Bytes | None]

#: Images in one file and tiles in one image beyond which nothing is parsed.
MOST_LEVELS = 64
MOST_TILES = 1 << 20
#: Tiles found under one span beyond which the lookup stops: they overlap, or are smaller than a
#: disk's sector.
MOST_UNDER = 1024
#: After this many steps, 20 ms, the remaining levels are parsed at the next read.
STEPS_AT_ONCE = 1 << 19
#: Bytes listed as missing if only the position of a directory is known.
DIRECTORY_BYTES = 4096
_MOST_ENTRIES = 4096
#: Maximum number of values of an entry of which only the first is used; some have a value per
#: sample.
_MOST_VALUES = 4096
_BYTES_COPIED_A_STEP = 64
_SORT_STEPS = 2

_SUBFILE, _WIDTH, _HEIGHT, _PLANAR = 254, 256, 257, 284
_SAMPLES, _ROWS_PER_STRIP = 277, 278
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_WANTED = {
    _SUBFILE, _WIDTH, _HEIGHT, _PLANAR, _SAMPLES, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT,
    _STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS,
}  # fmt: skip
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_REDUCED, _MASK = 1, 4


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile (or strip: a tile as wide as the image) by its place in `TiffLayout.levels`."""

    level: int
    plane: int
    row: int
    col: int


@dataclass(frozen=True)
class TiffLevel:
    """One image of the file: full resolution, an overview, a mask, a page.

    Sizes in pixels; `offsets` and `counts` in bytes, by plane, then row, then column. A count of
    0 is a sparse tile, of which there is nothing to read.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    planes: int
    offsets: array[int] = field(repr=False)
    counts: array[int] = field(repr=False)
    is_reduced: bool = False
    is_mask: bool = False
    #: Indexes of the tiles that have bytes, in the order of the file.
    order: Sequence[int] = field(default=(), repr=False, compare=False)

    @cached_property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile_width)

    @cached_property
    def down(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile_height)

    def span(self, plane: int, row: int, col: int) -> ByteRange | None:
        """The bytes of a tile; None if the tile is empty or does not exist."""
        if not (0 <= plane < self.planes and 0 <= row < self.down and 0 <= col < self.across):
            return None
        index = (plane * self.down + row) * self.across + col
        start, count = self.offsets[index], self.counts[index]
        return ByteRange(start, start + count) if start and count else None

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes of all tiles."""
        return sum(self.counts)

    @cached_property
    def mean_bytes(self) -> int:
        """Average bytes of a tile."""
        return self.stored_bytes // len(self.counts)

    @cached_property
    def extent(self) -> ByteRange | None:
        """The range from the first tile's first byte to the last tile's last."""
        order = self.order
        if not order:
            return None
        return ByteRange(self.offsets[order[0]], self.offsets[order[-1]] + self.counts[order[-1]])

    def indexes_under(self, span: ByteRange, most: int = MOST_UNDER) -> list[int]:
        """Indexes of at most `most` tiles that have bytes in `span`, in the order of the file.

        Examines at most `most` tiles, so that overlapping tiles cost no more than others.
        """
        order = self.order
        first = max(bisect_right(order, span.start, key=self.offsets.__getitem__) - 1, 0)
        found: list[int] = []
        for place in range(first, min(len(order), first + most)):
            index = order[place]
            if self.offsets[index] >= span.stop:
                break
            if self.offsets[index] + self.counts[index] > span.start:
                found.append(index)
        return found

    @property
    def held_bytes(self) -> int:
        """Memory that the level takes, bytes."""
        order = 0 if isinstance(self.order, range) else 4 * len(self.order)
        tables = (len(table) * table.itemsize for table in (self.offsets, self.counts))
        return LEVEL_BYTES + sum(tables) + order


def _in_order(offsets: array[int], counts: array[int], budget: ParseBudget) -> Sequence[int]:
    """The tiles that have bytes, sorted by their offsets; raises OverBudgetError."""
    budget.spend(len(offsets))
    stored: Sequence[int] = range(len(offsets))
    if not (all(counts) and all(offsets)):
        budget.spend(len(offsets), 4 * len(offsets))
        stored = array("I", (i for i, count in enumerate(counts) if count and offsets[i]))
    starts = offsets if isinstance(stored, range) else map(offsets.__getitem__, stored)
    runs = _descents(array("Q", starts)) + 1
    if runs == 1:
        return stored
    # Sorting takes advantage of runs: log2 of their number for each value.
    budget.spend(_SORT_STEPS * len(stored) * (runs - 1).bit_length(), 4 * len(stored))
    return array("I", sorted(stored, key=offsets.__getitem__))


def _descents(values: Sequence[int]) -> int:
    """How many values are not greater than the one before them."""
    return sum(map(operator.ge, values, islice(values, 1, None)))


def _fit(offsets: array[int], counts: array[int], size: int) -> bool:
    """Whether all tiles lie within `size` bytes."""
    # Usually the cheaper check is enough.
    return max(offsets) + max(counts) <= size or max(map(operator.add, offsets, counts)) <= size


@dataclass(frozen=True)
class TiffLayout:
    """The images of one TIFF as far as they could be parsed; `lacking` are the missing byte ranges.

    A level that could not be parsed has a single tile of no bytes.

    `is_tiff` False: the file has another format.
    """

    levels: tuple[TiffLevel, ...] = ()
    lacking: tuple[ByteRange, ...] = ()
    is_tiff: bool = True

    def under(self, span: ByteRange) -> list[Tile]:
        """The tiles that have bytes in `span`, in the order of the file."""
        found: list[tuple[int, Tile]] = []
        for number, level in enumerate(self.levels):
            extent = level.extent
            if extent is None or extent.start >= span.stop or extent.stop <= span.start:
                continue
            for index in level.indexes_under(span, MOST_UNDER - len(found)):
                row, col = divmod(index, level.across)
                plane, row = divmod(row, level.down)
                found.append((level.offsets[index], Tile(number, plane, row, col)))
        return [tile for _, tile in sorted(found, key=lambda one: one[0])]

    @cached_property
    def first_at(self) -> int:
        """Offset of the first tile's first byte; 0 without tiles."""
        return min((level.extent.start for level in self.levels if level.extent), default=0)

    @property
    def held_bytes(self) -> int:
        """Memory that the layout takes, bytes."""
        return 512 + sum(level.held_bytes for level in self.levels)


#: Memory of a level beside its tables, bytes.
LEVEL_BYTES = 1024
NOT_TIFF = TiffLayout(is_tiff=False)
_NOTHING = TiffLevel(1, 1, 1, 1, 1, array("Q", [0]), array("Q", [0]))


class _LackingError(Exception):
    def __init__(self, span: ByteRange) -> None:
        self.span = span


@dataclass(frozen=True, slots=True)
class TiffDialect:
    """Byte order, and the width of counts and offsets."""

    order: str
    is_big: bool

    @property
    def first_at(self) -> int:
        return 8 if self.is_big else 4

    @property
    def entry_bytes(self) -> int:
        return 20 if self.is_big else 12

    @property
    def word(self) -> str:
        return "Q" if self.is_big else "I"

    @property
    def word_bytes(self) -> int:
        return 8 if self.is_big else 4

    def number(self, data: Bytes, code: str) -> int:
        return int(struct.unpack(self.order + code, data)[0])

    def numbers(self, data: Bytes, code: str) -> array[int]:
        values = array(code, bytes(data))
        if (self.order == "<") != (sys.byteorder == "little"):
            values.byteswap()
        return values


def parse(size: int, get: Get) -> TiffLayout:
    """The layout of the TIFF of `size` bytes behind `get`; never raises."""
    reading = TiffParser(size)
    layout = reading.learn(get)
    while reading.is_interrupted:
        layout = reading.learn(get)
    return layout


@dataclass(slots=True)
class _Waiting:
    """A level whose tables were missing: its directory entries, and the missing range."""

    tags: dict[int, _Tag]
    lacking: ByteRange


class TiffParser:
    """Incremental parser of one TIFF of `size` bytes; nothing is parsed twice."""

    def __init__(self, size: int, budget: ParseBudget | None = None) -> None:
        self._size = size
        self._budget = budget or ParseBudget()
        self._dialect: TiffDialect | None = None
        self._levels: list[TiffLevel] = []
        self._waiting: dict[int, _Waiting] = {}  # by the level's number
        self._next: int | None = None  # offset of the next directory; 0: none
        self._lacking: ByteRange | None = None  # needed to read the next directory
        self._seen: set[int] = set()
        #: Whether available bytes are left to parse, because the step limit of one call was
        #: reached.
        self.is_interrupted = False

    def learn(self, get: Get) -> TiffLayout:
        """Return the layout as far as the available bytes allow; never raises."""
        self.is_interrupted = False
        reader = _Reader(self._size, get, self._budget)
        try:
            if not self._begin(reader):
                return NOT_TIFF
            for number in [n for n, one in self._waiting.items() if get(one.lacking) is not None]:
                self._take(reader, number, self._waiting.pop(number).tags)
            self._go_on(reader)
        except _LackingError as one:
            self._lacking = one.span
        except (MalformedError, OverBudgetError):
            self._next, self._lacking = 0, None
        lacking = [one.lacking for one in self._waiting.values()]
        lacking += [self._lacking] if self._lacking else []
        return TiffLayout(tuple(self._levels), tuple(lacking))

    def _begin(self, reader: _Reader) -> bool:
        if self._next is None:
            self._dialect = self._dialect or reader.dialect()
            if self._dialect is None:
                return False
            self._next = reader.word(self._dialect, self._dialect.first_at)
        return True

    def _go_on(self, reader: _Reader) -> None:
        """Read one directory after another."""
        assert self._dialect is not None, "it has begun"
        enough = self._budget.steps - STEPS_AT_ONCE
        while self._next and self._next not in self._seen and len(self._seen) < MOST_LEVELS:
            if self._budget.steps < enough:
                self.is_interrupted = True
                break
            tags, following = reader.directory(self._dialect, self._next)
            self._seen.add(self._next)
            self._next = following
            self._levels.append(_NOTHING)
            self._take(reader, len(self._levels) - 1, tags)
        self._lacking = None

    def _take(self, reader: _Reader, number: int, tags: dict[int, _Tag]) -> None:
        """Parse the level `number`; if it cannot be parsed, it stays `_NOTHING`."""
        assert self._dialect is not None, "it has begun"
        try:
            self._levels[number] = reader.level(self._dialect, tags) or _NOTHING
        except _LackingError as one:
            self._waiting[number] = _Waiting(tags, one.span)
        except (MalformedError, OverBudgetError):
            pass  # smaller levels may still fit


#: A directory entry: type, count, and the offset of its values.
_Tag = tuple[int, int, int]


class _Reader:
    def __init__(self, size: int, get: Get, budget: ParseBudget) -> None:
        self._size = size
        self._get = get
        self._budget = budget

    def dialect(self) -> TiffDialect | None:
        if self._size < 8:
            return None
        magic = bytes(self._read(0, 4))
        order = {b"II": "<", b"MM": ">"}.get(magic[:2])
        if order is None:
            return None
        version = struct.unpack(order + "H", magic[2:])[0]
        return TiffDialect(order, version == 43) if version in (42, 43) else None

    def word(self, dialect: TiffDialect, position: int) -> int:
        return dialect.number(self._read(position, dialect.word_bytes), dialect.word)

    def directory(self, dialect: TiffDialect, position: int) -> tuple[dict[int, _Tag], int]:
        """Return the wanted tags of the directory at `position`, and the offset of the next one."""
        code, width = ("Q", 8) if dialect.is_big else ("H", 2)
        count = dialect.number(self._read(position, width, DIRECTORY_BYTES), code)
        if not 0 < count <= _MOST_ENTRIES:
            raise MalformedError
        first = position + width
        entries = self._read(first, count * dialect.entry_bytes + dialect.word_bytes)
        self._budget.spend(2 * count, LEVEL_BYTES)
        layout = dialect.order + "HH" + dialect.word
        tags: dict[int, _Tag] = {}
        for at in range(0, count * dialect.entry_bytes, dialect.entry_bytes):
            tag, kind, number = struct.unpack_from(layout, entries, at)
            if tag in _WANTED and kind in _CODES:
                value_at = first + at + dialect.entry_bytes - dialect.word_bytes
                tags.setdefault(tag, (kind, number, value_at))
        return tags, dialect.number(entries[-dialect.word_bytes :], dialect.word)

    def level(self, dialect: TiffDialect, tags: dict[int, _Tag]) -> TiffLevel | None:
        def one(tag: int, default: int) -> int:
            return self._values(dialect, tags[tag])[0] if tag in tags else default

        width, height = one(_WIDTH, 0), one(_HEIGHT, 0)
        is_tiled = _TILE_OFFSETS in tags
        tile_width, tile_height = width, min(one(_ROWS_PER_STRIP, height), height)
        if is_tiled:
            tile_width, tile_height = one(_TILE_WIDTH, 0), one(_TILE_HEIGHT, 0)
        if min(width, height, tile_width, tile_height) <= 0:
            return None
        planes = one(_SAMPLES, 1) if one(_PLANAR, 1) == 2 else 1
        wanted = -(-width // tile_width) * -(-height // tile_height) * planes
        places = tags.get(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS)
        lengths = tags.get(_TILE_COUNTS if is_tiled else _STRIP_COUNTS)
        if places is None or lengths is None or not 0 < wanted <= MOST_TILES:
            return None
        if places[1] != wanted or lengths[1] != wanted:
            return None
        subfile = one(_SUBFILE, 0)
        offsets, counts = self._tables(dialect, places, lengths)
        if not _fit(offsets, counts, self._size):
            return None
        return TiffLevel(
            width, height, tile_width, tile_height, planes, offsets, counts,
            is_reduced=bool(subfile & _REDUCED), is_mask=bool(subfile & _MASK),
            order=_in_order(offsets, counts, self._budget),
        )  # fmt: skip

    def _tables(
        self, dialect: TiffDialect, places: _Tag, lengths: _Tag
    ) -> tuple[array[int], array[int]]:
        """Offsets and counts of a level's tiles, charged once both are available."""
        raw = [self._raw(dialect, tag) for tag in (places, lengths)]
        self._budget.spend(2 * places[1], sum(len(data) for data, _ in raw))
        offsets, counts = (dialect.numbers(*one) for one in raw)
        return offsets, counts

    def _values(self, dialect: TiffDialect, tag: _Tag) -> array[int]:
        """The values of an entry of which one is used; raises MalformedError for too many."""
        if tag[1] > _MOST_VALUES:
            raise MalformedError
        return dialect.numbers(*self._raw(dialect, tag))

    def _raw(self, dialect: TiffDialect, tag: _Tag) -> tuple[Bytes, str]:
        """The bytes of an entry's values, and the type code of each."""
        kind, count, position = tag
        code = _CODES[kind]
        length = struct.calcsize("=" + code) * count
        if not 0 < count <= MOST_TILES:
            raise MalformedError
        if length > dialect.word_bytes:
            position = self.word(dialect, position)
        # If one table is missing, the other is copied again at the next attempt.
        self._budget.spend(1 + length // _BYTES_COPIED_A_STEP)
        return self._read(position, length), code

    def _read(self, position: int, length: int, wish: int = 0) -> Bytes:
        """Return `length` bytes; if they are missing, report at least `wish` bytes as lacking."""
        if position < 0 or position + length > self._size:
            raise MalformedError
        data = self._get(ByteRange(position, position + length))
        if data is None:
            stop = min(position + max(length, wish), self._size)
            raise _LackingError(ByteRange(position, stop))
        return data

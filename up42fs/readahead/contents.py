"""One object's inner structure as its bytes reveal it: TIFF tiles and JPEG 2000, also inside a zip.

Parses bytes that readers fetched and never requests any; knows nothing of readers. All offsets are
the object's. The structure is a hint: a wrong one costs bytes, never correctness. All parsing of
one object is charged to one `ParseBudget`; hints beyond it are dropped.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from enum import Enum, auto

from up42fs.readahead import tiff
from up42fs.readahead import zip as zipfile
from up42fs.readahead.parse_budget import OverBudgetError, ParseBudget
from up42fs.readahead.tiff import Get, TiffLayout, Tile
from up42fs.types import ByteRange, Bytes

_JPEG2000 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_MAGIC_BYTES = 12
_SMALLEST = 64
#: Memory of an image before its layout is known, bytes.
_IMAGE_BYTES = 2048
#: Memory of the place of a JPEG 2000 file, bytes.
_JPEG_BYTES = 128


class Format(Enum):
    """The format of an object by its first bytes."""

    UNKNOWN = auto()
    OTHER = auto()
    TIFF = auto()
    ZIP = auto()
    JPEG2000 = auto()


@dataclass(slots=True, eq=False)
class FoundTiff:
    """A TIFF in an object, `size` bytes from `base` on."""

    base: int
    size: int
    layout: TiffLayout | None = None  # None: not read yet
    _reading: tiff.TiffParser = field(repr=False, kw_only=True)
    _last: Tile | None = None  # the only tile under the last span
    _alone: ByteRange | None = None  # its bytes, where no other tile has any of them

    def under(self, span: ByteRange) -> list[Tile]:
        """The tiles that have bytes in the object's `span`, in the order of the file."""
        alone = self._alone
        # Small reads come to one tile many times, and each is looked up more than once.
        if alone and self._last and alone.start <= span.start and span.stop <= alone.stop:
            return [self._last]
        found = self._under(span)
        last, self._last = self._last, found[0] if len(found) == 1 else None
        if last is None or self._last != last:
            self._alone = None
        elif self._alone is None:
            place = self.span(last.level, last.plane, last.row, last.col)
            self._alone = place if place and self._under(place) == found else None
        return found

    def _under(self, span: ByteRange) -> list[Tile]:
        if self.layout is None or span.stop <= self.base:
            return []
        start = max(span.start - self.base, 0)
        return self.layout.under(ByteRange(start, span.stop - self.base))

    def span(self, level: int, plane: int, row: int, col: int) -> ByteRange | None:
        """The object's bytes of a tile; None if the tile is empty or does not exist."""
        assert self.layout is not None, "or nobody knows of tiles"
        span = self.layout.levels[level].span(plane, row, col)
        if span is None or not self.base:
            return span
        return ByteRange(self.base + span.start, self.base + span.stop)

    @property
    def tiles_at(self) -> int:
        """The object's offset of the first tile."""
        return self.base + (self.layout.first_at if self.layout else 0)

    def starts_in(self, tile: Tile, span: ByteRange) -> bool:
        """Whether the first byte of `tile` lies in the object's `span`."""
        place = self.span(tile.level, tile.plane, tile.row, tile.col)
        return place is not None and span.start <= place.start < span.stop

    def learn(self, get: Get) -> bool:
        """Parse as far as the available bytes allow; return whether parsing is complete."""
        lacking = self.layout.lacking if self.layout and not self._reading.is_interrupted else ()
        if lacking and not any(get(self._placed(span)) is not None for span in lacking):
            return False
        self._last = self._alone = None
        self.layout = self._reading.learn(lambda span: get(self._placed(span)))
        return not self.layout.lacking and not self._reading.is_interrupted

    def _placed(self, span: ByteRange) -> ByteRange:
        return ByteRange(self.base + span.start, self.base + span.stop)


class Structure:
    """The known structure of an object of `size` bytes."""

    def __init__(self, size: int, budget: ParseBudget | None = None) -> None:
        self.format = Format.UNKNOWN if size > _SMALLEST else Format.OTHER
        self.size = size
        self.budget = budget or ParseBudget()
        self.is_forgotten = False
        self._images: list[FoundTiff] = []  # by base, never overlapping
        self._is_tail_seen = False
        self._directory: zipfile.Directory | None = None
        self._members: zipfile.Members | None = None
        self._jpegs: list[ByteRange] = []  # members that are JPEG 2000 files, by place
        self._judged: set[int] = set()  # numbers of members whose first bytes were checked
        self._unread: set[FoundTiff] = set()
        self._layout_bytes: dict[FoundTiff, int] = {}
        self._held_bytes = 0
        self._added: FoundTiff | None = None  # found by the current call of `learn`

    @property
    def held_bytes(self) -> int:
        """Memory that the structure takes, bytes."""
        return self._held_bytes

    def learn(self, near: ByteRange, get: Get) -> None:
        """Parse the bytes that `get` returns; `near` were just read. Cheap once complete."""
        if self.format is Format.OTHER:
            return
        self.budget.earn(len(near))
        if self.format is Format.UNKNOWN:
            self._learn_format(near, get)
        if self.format is Format.ZIP:
            self._learn_member(near, get)
        if self._unread:
            near_ones = {self.image_at(near.start), self.image_at(near.stop - 1), self._added}
            for image in self._unread & near_ones:
                self._learn_image(image, get)
            self._added = None

    def is_known_at(self, offset: int) -> bool:
        """Whether bytes around `offset` that were read before teach nothing more."""
        if self._unread:
            return False
        if self._members is None:
            return True
        number = self._members.at(offset)
        return number is None or number in self._judged

    def forget(self) -> None:
        """Drop the structure and parse nothing more."""
        self.is_forgotten = True
        self.format = Format.OTHER
        self._images.clear()
        self._jpegs.clear()
        self._unread.clear()
        self._judged.clear()
        self._layout_bytes.clear()
        self._members = None
        self._held_bytes = 0

    def _learn_format(self, near: ByteRange, get: Get) -> None:
        head = get(ByteRange(0, _MAGIC_BYTES))
        if head is None and self.size - near.stop < zipfile.TAIL_BYTES:
            if self._find_directory(get) is not None:  # a zip is read from its end
                self.format = Format.ZIP
        elif head is not None:
            self.format = _format(bytes(head))
            if self.format is Format.TIFF:
                self._add(0, self.size)

    def _learn_image(self, image: FoundTiff, get: Get) -> None:
        if image.learn(get):
            self._unread.discard(image)
        known_bytes = image.layout.held_bytes if image.layout else 0
        self._held_bytes += known_bytes - self._layout_bytes.get(image, 0)
        self._layout_bytes[image] = known_bytes

    def image_at(self, offset: int) -> FoundTiff | None:
        """The known image that contains `offset`, if any."""
        place = bisect_right(self._images, offset, key=lambda image: image.base) - 1
        image = self._images[place] if place >= 0 else None
        return image if image and offset < image.base + image.size else None

    def jpeg2000_at(self, span: ByteRange) -> ByteRange | None:
        """The JPEG 2000 file, perhaps a member, that contains the end of `span`."""
        if self.format is Format.JPEG2000:
            return ByteRange(0, self.size)
        place = bisect_right(self._jpegs, span.stop - 1, key=lambda one: one.start) - 1
        found = self._jpegs[place] if place >= 0 else None
        return found if found is not None and span.stop <= found.stop else None

    def largest_member(self) -> ByteRange | None:
        """The largest member of an archive, from its local header on; None if none is known."""
        largest = self._members.largest if self._members is not None else None
        if largest is None:
            return None
        return ByteRange(largest.header_at, largest.header_at + largest.size)

    def _learn_member(self, near: ByteRange, get: Get) -> None:
        if self._members is None and not self._read_directory(get):
            return
        number = self._members.at(near.start) if self._members is not None else None
        if number is None or number in self._judged:
            return
        assert self._members is not None, "or it would have no number"
        member = self._members[number]
        header = get(zipfile.local_header(member))
        start = zipfile.data_start(member, header) if header is not None else None
        if start is None or not member.size > _SMALLEST or start + member.size > self.size:
            return
        magic = get(ByteRange(start, start + _MAGIC_BYTES))
        if magic is None:
            return
        self._judged.add(number)
        kind = _format(bytes(magic))
        if kind is Format.TIFF:
            self._add(start, member.size)
        elif kind is Format.JPEG2000:
            self._add_jpeg(ByteRange(start, start + member.size))

    def _find_directory(self, get: Get) -> zipfile.Directory | None:
        """Find the archive's directory in the object's tail, which is searched once."""
        if not self._is_tail_seen:
            tail = get(ByteRange(max(0, self.size - zipfile.TAIL_BYTES), self.size))
            if tail is not None:
                self._is_tail_seen = True
                self._directory = zipfile.find_directory(self.size, tail)
        return self._directory

    def _read_directory(self, get: Get) -> bool:
        directory = self._find_directory(get)
        data = get(directory.span) if directory is not None and directory.span else None
        if directory is None or data is None:
            return False
        self._members = zipfile.parse_directory(directory, data, self.budget)
        self._held_bytes += self._members.held_bytes
        return True

    def _add_jpeg(self, place: ByteRange) -> None:
        try:
            self.budget.spend(1, _JPEG_BYTES)
        except OverBudgetError:
            return
        self._held_bytes += _JPEG_BYTES
        insort(self._jpegs, place)

    def _add(self, base: int, size: int) -> None:
        """Add an image, unless it overlaps another one or exceeds the budget."""
        place = bisect_right(self._images, base, key=lambda one: one.base)
        before, after = self._images[:place][-1:], self._images[place : place + 1]
        if any(one.base + one.size > base for one in before) or any(
            one.base < base + size for one in after
        ):
            return
        try:
            self.budget.spend(1, _IMAGE_BYTES)
        except OverBudgetError:
            return
        image = FoundTiff(base, size, _reading=tiff.TiffParser(size, self.budget))
        self._added = image
        self._unread.add(image)
        self._held_bytes += _IMAGE_BYTES
        insort(self._images, image, key=lambda one: one.base)


def _format(head: Bytes) -> Format:
    data = bytes(head)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Format.TIFF
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Format.ZIP
    return Format.JPEG2000 if data.startswith(_JPEG2000) else Format.OTHER

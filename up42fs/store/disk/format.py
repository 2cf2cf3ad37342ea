"""Format of one file of the disk cache: a header, a map of cells, then the object's bytes.

Theory. The file may have been truncated, mixed, flipped or half written at any moment, so only what
its checksums prove is used. The header (4096 bytes) names the object and version of the bytes, with
a CRC-32. The map has one *record* of 16 bytes per cell of 128 KiB,

    start  stop  CRC-32 of the bytes [start, stop) of the cell  CRC-32 of these three

where start and stop count from the cell's first byte, and zeros mean an empty cell. A cell holds
one run of bytes, not always all: readers request the last 128 KiB of a file and cancel read-ahead,
and neither ends at a cell's edge. Both checksums begin with the object, its version and the cell's
number, so bytes of another object, version or position never verify. Two writers of one version
write the same bytes to the same places, so either record is valid.

Rejected: present ranges in JSON (rewritten whole, torn by crashes); a file per cell (80 000 inodes
for 10 GiB); one checksum for the file (a read of 4 KiB would verify all).
"""

from __future__ import annotations

import ctypes
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

from up42fs.ranges import RangeSet, ceil_to, coalesce, intersect, subtract
from up42fs.store.http.answer import is_strong
from up42fs.types import ByteRange, Bytes, Version

isal_zlib: ModuleType | None
try:
    from isal import isal_zlib
    from isal.isal_zlib import crc32 as crc32
except ImportError:  # a processor that isal has no wheel for
    from zlib import crc32 as crc32

    isal_zlib = None

CELL_BYTES = 128 << 10
HEADER_BYTES = 4096
RECORD_BYTES = 16

_MAGIC = b"up42fs cache 1\n"
_RECORD = struct.Struct("<IIII")
_THREE = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Label:
    """The object and version in a file, and the catalogue's stamp when it was last valid."""

    object_id: str
    version: Version
    stamp: str | None = None


def is_cacheable(label: Label) -> bool:
    """Whether the label fits a header and its version can be told from others.

    That takes a strong ETag, a generation or, without an ETag, the time of its last change; except
    for an empty object.
    """
    version = label.version
    etag = version.etag or ""
    names = (label.object_id, etag, version.generation, version.modified, label.stamp)
    if sum(len(name or "") for name in names) > 512:
        return False
    if version.size == 0:
        return True
    if etag and not version.generation:
        return is_strong(etag)
    return version.tells_apart


def encode_header(label: Label) -> bytes:
    """Encode the header of a file; the label must be cacheable."""
    fields = {
        "object": label.object_id,
        "size": label.version.size,
        "etag": label.version.etag,
        "stamp": label.stamp,
        "cell": CELL_BYTES,
    } | _names(label.version)
    text = _MAGIC + json.dumps(fields).encode() + b"\n"
    text += b"%08x\n" % crc32(text)
    assert len(text) <= HEADER_BYTES, "the label is cacheable"
    return text.ljust(HEADER_BYTES, b"\0")


def _names(version: Version) -> dict[str, str]:
    """The version's names beside an ETag; with only an ETag the original file format is kept."""
    names = {"generation": version.generation, "modified": version.modified}
    return {key: name for key, name in names.items() if name}


def parse_header(header: bytes) -> Label | None:
    """Parse the label in a file's first bytes; None unless it is complete and in this format."""
    lines = header.rstrip(b"\0").split(b"\n")
    if len(lines) != 4 or lines[0] + b"\n" != _MAGIC or lines[3]:
        return None
    text = b"\n".join(lines[:2]) + b"\n"
    if lines[2] != b"%08x" % crc32(text):
        return None
    try:
        fields = json.loads(lines[1])
        if fields["cell"] != CELL_BYTES:
            return None
        names = (fields.get("generation"), fields.get("modified"))
        version = Version(fields["size"], fields["etag"], *names)
        return Label(fields["object"], version, fields["stamp"])
    except (ValueError, KeyError, TypeError):
        return None  # written by another release


@dataclass(frozen=True, slots=True)
class CellRecord:
    """A run of the object's bytes that one cell claims to hold, and their checksum."""

    cell: int
    span: ByteRange
    crc: int


class Cells:
    """The map of one version's file, and the positions of its bytes."""

    def __init__(self, label: Label) -> None:
        self.version = label.version
        self.size = label.version.size
        self.count = -(-self.size // CELL_BYTES)
        self.data_offset = ceil_to(HEADER_BYTES + self.count * RECORD_BYTES, HEADER_BYTES)
        named = [label.object_id, label.version.etag, label.version.size, CELL_BYTES]
        names = _names(label.version)
        self._salt = crc32(json.dumps([*named, names] if names else named).encode())

    def under(self, span: ByteRange) -> range:
        """Numbers of the cells that `span` overlaps."""
        return range(span.start // CELL_BYTES, -(-span.stop // CELL_BYTES))

    def whole(self, cell: int) -> ByteRange:
        """All bytes of a cell; the last one is shorter."""
        start = cell * CELL_BYTES
        return ByteRange(start, min(start + CELL_BYTES, self.size))

    def pieces(self, span: ByteRange) -> Iterator[ByteRange]:
        """Cut `span` at cell boundaries."""
        for cell in self.under(span):
            piece = intersect(span, self.whole(cell))
            assert piece is not None, "the cell lies under the span"
            yield piece

    def checksum(self, cell: int, span: ByteRange, data: Bytes) -> int:
        """Checksum of `data`, the bytes of `span` within `cell`."""
        return crc32(data, self._before(cell, span))

    def checksums(self, spans: Iterable[ByteRange], data: Bytes, start: int) -> list[int]:
        """Checksums of `spans`, each within a cell; `data` holds the bytes from `start` on."""
        return crc32_of(
            data,
            [
                (
                    span.start - start,
                    span.stop - start,
                    self._before(span.start // CELL_BYTES, span),
                )
                for span in spans
            ],
        )

    def _before(self, cell: int, span: ByteRange) -> int:
        start = cell * CELL_BYTES
        return crc32(_THREE.pack(cell, span.start - start, span.stop - start), self._salt)

    def encode(self, held: CellRecord) -> bytes:
        """Encode the record of one cell."""
        start = held.cell * CELL_BYTES
        three = _THREE.pack(held.span.start - start, held.span.stop - start, held.crc)
        return three + struct.pack("<I", self._check(held.cell, three))

    def parse(self, records: bytes, first: int) -> list[CellRecord | None]:
        """Parse the records of the cells from number `first` on; None for empty or invalid ones."""
        whole = len(records) // RECORD_BYTES * RECORD_BYTES
        parsed = enumerate(_RECORD.iter_unpack(records[:whole]), first)
        return [self._parse(cell, *fields) for cell, fields in parsed]

    def _parse(self, cell: int, start: int, stop: int, crc: int, check: int) -> CellRecord | None:
        if cell >= self.count or not start < stop <= len(self.whole(cell)):
            return None
        if check != self._check(cell, _THREE.pack(start, stop, crc)):
            return None
        begin = cell * CELL_BYTES
        return CellRecord(cell, ByteRange(begin + start, begin + stop), crc)

    def _check(self, cell: int, three: bytes) -> int:
        return crc32(three, crc32(cell.to_bytes(8, "little"), self._salt))


def leading(held: list[CellRecord | None], position: int) -> list[CellRecord]:
    """The cells that hold the bytes from `position` on without a gap; empty if it is missing."""
    run: list[CellRecord] = []
    for one in held:
        if one is None or not one.span.start <= position < one.span.stop:
            break
        run.append(one)
        position = one.span.stop
    return run


def cut(
    span: ByteRange, held: RangeSet, wanted: ByteRange | None, worth_bytes: int
) -> list[ByteRange]:
    """Cut `span` into pieces to load and pieces to fetch, in order; `held` is on disk.

    CellRecord bytes between missing ones are loaded only if they are at least `worth_bytes`, or if
    `wanted`, the reader's range, needs them: fewer are not worth another request. If a reader
    waits, missing pieces that it does not need are left out. Without `held` there is one piece,
    `span`.
    """
    missing = held.missing(span)
    fetched = coalesce(missing, worth_bytes - 1)
    if wanted is not None:
        kept = [one for one in subtract(span, missing) if intersect(one, wanted)]
        fetched = [part for one in fetched for part in subtract(one, kept)]
        fetched = [one for one in fetched if any(intersect(one, hole) for hole in missing)]
    loaded = subtract(span, fetched)
    if wanted is not None:
        fetched = [one for one in fetched if intersect(one, wanted)]
    return sorted([*loaded, *fetched])


def touch(one: ByteRange, other: ByteRange) -> bool:
    """Whether two ranges overlap, or one begins where the other ends."""
    return one.start <= other.stop and other.start <= one.stop


def merge(old: CellRecord | None, new: ByteRange) -> ByteRange | None:
    """Return the run a cell shall hold after the bytes `new` arrive; None to leave it as it is.

    If old and new touch, it is their union; otherwise the longer one, since a cell holds one run.
    (`disk.files` sets the shorter one aside for a while.)
    """
    if old is None:
        return new
    if old.span.start <= new.start and new.stop <= old.span.stop:
        return None
    if touch(old.span, new):
        return ByteRange(min(old.span.start, new.start), max(old.span.stop, new.stop))
    return new if len(new) > len(old.span) else None


#: Every byte read from the disk cache is verified. zlib of most distributions takes nearly a second
#: of processor time for a GiB, ISA-L a tenth of that (carry-less multiplication), with the same
#: result. Python's functions release the interpreter's lock for each piece, although a piece takes
#: 5 microseconds: with other threads waiting, handing the lock over and getting it back costs more
#: than the checksum (24 000 hand-overs a GiB). So `crc32_of` calls ISA-L's own function for many
#: pieces, if it is found and gives correct results.
#: Arguments: checksum so far, address (or bytes), length.
_Count = Callable[[int, int | bytes, int], int]


class _PyBuffer(ctypes.Structure):
    """`Py_buffer`."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("rest", ctypes.c_void_p * 5),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


def _find() -> _Count | None:
    """Find ISA-L's own function, to be called holding the interpreter's lock; None if unusable."""
    if isal_zlib is None:
        return None
    try:
        function = ctypes.PyDLL(str(isal_zlib.__file__)).crc32_gzip_refl
    except (AttributeError, OSError):
        return None
    function.restype = ctypes.c_uint32
    function.argtypes = (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint64)
    sample = bytes(range(256)) * 5
    return function if function(7, sample, len(sample)) == zlib.crc32(sample, 7) else None


_count = _find()


def crc32_of(data: Bytes, pieces: Iterable[tuple[int, int, int]]) -> list[int]:
    """The checksum of each piece `(start, stop, checksum so far)` of `data`; byte offsets."""
    if _count is None:
        view = memoryview(data)
        return [crc32(view[start:stop], before) for start, stop, before in pieces]
    buffer = _PyBuffer()
    _get_buffer(data, ctypes.byref(buffer), 0)
    try:
        at = buffer.buf or 0
        return [_count(before, at + start, stop - start) for start, stop, before in pieces]
    finally:
        _release_buffer(ctypes.byref(buffer))

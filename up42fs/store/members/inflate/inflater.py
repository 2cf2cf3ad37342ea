"""One engine with its positions, checksums and the points that it makes. For one thread at a time.

Knows packed bytes in and output out; nothing of tasks, readers or where bytes come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from up42fs.archive.slots import PIECE_BYTES, Piece, State
from up42fs.archive.table import Method
from up42fs.store.disk.format import crc32
from up42fs.store.members.inflate import framed, zstd
from up42fs.store.members.inflate.engines import (
    FEED_BYTES,
    Border,
    DamagedStreamError,
    Decompressor,
    UnsupportedMethodError,
    ZlibEngine,
    fast,
    library,
    pointed,
)

#: Pieces of more output than this are not checked, since a point has no room for more checksums.
_MOST_CHECKS = 192
#: Calls in a row in which an engine may do nothing.
_MOST_IDLE = 4
#: Methods whose bytes are one deflate stream after the other.
_DEFLATES = (Method.DEFLATED, Method.GZIP)


class UntrueError(ValueError):
    """Output that was made once more from a point is not what it was."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a member is packed. `size` and `crc32` are those of its bytes; None if not known.

    `span` is the output between two points; None for no points.
    """

    method: Method
    size: int | None
    crc32: int | None
    span: int | None


def engine_of(method: Method, start: Border | None, *, makes_points: bool) -> Decompressor:
    """The engine for a method, from the beginning or from a border; raises ValueError."""
    match method:
        case Method.DEFLATED:
            return pointed(start) if makes_points else fast(start)
        case Method.GZIP:
            return framed.GzipEngine(start)
        case Method.BZIP2:
            return framed.bzip2()
        case Method.LZMA:
            return framed.ZipLzmaEngine()
        case Method.XZ:
            return framed.xz()
        case Method.ZSTD if zstd.library() is not None:
            return zstd.ZstdEngine()
        case Method.ZSTD:
            raise UnsupportedMethodError("libzstd.so.1 is not installed on this machine")
    raise UnsupportedMethodError(f"its method ({method.value}) is not supported")


def check(pieces: Sequence[Piece], data: memoryview, start: int) -> None:
    """Compare output, from offset `start` on, with its checksums; raises UntrueError."""
    for piece in pieces:
        if crc32(data[piece.start - start : piece.stop - start]) != piece.crc32:
            raise UntrueError("a seek point did not lead to the bytes that it stands for")


class Inflater:
    """Inflates one member from a start on.

    `out_at` and `in_at` are the offsets reached: of the member, and of the archive.
    """

    def __init__(
        self, packing: Packing, start: State, *, makes_points: bool, prefix: bytes | None = None
    ) -> None:
        """`start` is a point with its window, or the member's beginning.

        With a `prefix` it is a ready point; the engine gets that first, and need not come to the
        end of its stream: `packing` is that of the bytes up to where it stops.
        """
        self.out_at, self.in_at, self.data_at = start.out_at, start.in_at, start.data_at
        #: Set by another thread: end the current call soon.
        self.is_stopped = False
        self.is_over = False
        #: Points that were made and not yet taken.
        self.points: list[State] = []
        self._packing = packing
        makes_points = makes_points and packing.method in _DEFLATES and start.crc32 is not None
        self.makes_points = makes_points and library() is not None
        border = Border(start.bits, start.last, start.window) if start.window else None
        self._engine = engine_of(packing.method, border, makes_points=makes_points)
        #: The checksum of all output so far; None if it began amid the member and is not known.
        self.crc32 = start.crc32
        self._scratch = memoryview(bytearray(1))
        self._piece_bytes = self._piece_crc = 0
        self._checks: list[int] = []
        self._is_whole = prefix is None
        if prefix:
            self._engine.inflate(memoryview(prefix), self._scratch)
        self._begin_span(self.out_at)

    @property
    def held_bytes(self) -> int:
        """Memory of the engine."""
        return self._engine.held_bytes

    def advance(self, data: memoryview, into: memoryview, *, is_last: bool) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used.

        `is_last`: no packed bytes follow. Raises DamagedStreamError if the member is damaged, or
        has not the size that is stated.
        """
        used = out = idle = 0
        while not self.is_over and not self.is_stopped:
            at_end = self.out_at == self._packing.size
            room = self._scratch if at_end else into[out:]
            if not len(room):
                break
            fed = data[used : used + FEED_BYTES]
            taken, made = self._engine.inflate(fed, room)
            if at_end and made:
                raise DamagedStreamError("it is longer than its archive states")
            self._note(room[:made], taken)
            used, out = used + taken, out + made
            idle = 0 if taken or made else idle + 1
            if idle and used == len(data):
                if not is_last:
                    break
                if self._is_whole:
                    self._engine.end()
                self._end()
            elif idle > _MOST_IDLE:
                raise DamagedStreamError("its packed bytes are damaged")
            if self._engine.is_over:
                self._end()
        return used, out

    def close(self) -> None:
        """Release the engine's memory."""
        self.is_stopped = True
        self._engine.close()

    def _note(self, made: memoryview, taken: int) -> None:
        self.in_at += taken
        if len(made):
            self.out_at += len(made)
            if self.crc32 is not None:
                self.crc32 = crc32(made, self.crc32)
            if self.makes_points:
                self._count(made)
        if self.makes_points and isinstance(self._engine, ZlibEngine | framed.GzipEngine):
            border = self._engine.border()
            if border is not None:
                self._point(border)

    def _count(self, made: memoryview) -> None:
        """Continue the checksums of the span's pieces."""
        while len(made):
            part = made[: PIECE_BYTES - self._piece_bytes]
            self._piece_crc = crc32(part, self._piece_crc)
            self._piece_bytes += len(part)
            made = made[len(part) :]
            if self._piece_bytes == PIECE_BYTES:
                self._close_piece()

    def _close_piece(self) -> None:
        if len(self._checks) <= _MOST_CHECKS:
            self._checks.append(self._piece_crc)
        self._piece_crc = self._piece_bytes = 0

    def _begin_span(self, at: int) -> None:
        self._after = at
        self._checks = []
        self._piece_crc = self._piece_bytes = 0
        span = self._packing.span
        if self.makes_points and span and isinstance(self._engine, ZlibEngine | framed.GzipEngine):
            self._engine.seek_border(span)

    def _point(self, border: Border) -> None:
        if self._piece_bytes:
            self._close_piece()
        checks = tuple(self._checks) if len(self._checks) <= _MOST_CHECKS else ()
        self.points.append(
            State(
                self.out_at, self.in_at, self.data_at, border.bits, border.last, border.window,
                self.crc32, self._after, PIECE_BYTES, checks,
            )
        )  # fmt: skip
        self._begin_span(self.out_at)

    def _end(self) -> None:
        self.is_over = True
        size, wanted = self._packing.size, self._packing.crc32
        if size is not None and self.out_at != size:
            raise DamagedStreamError("it is shorter than its archive states")
        if None not in (wanted, self.crc32) and wanted != self.crc32:
            raise DamagedStreamError("its checksum is wrong")

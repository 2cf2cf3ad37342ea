"""Engines for raw deflate: bytes are pushed in, output comes out within the room that is given.

Knows zlib's and ISA-L's interfaces; nothing of where bytes come from or go to.

Theory. Only zlib stops at a border between two blocks (`Z_BLOCK`), and Python's module does not
offer that, so the C library is called through ctypes. ISA-L inflates about twice as fast and makes
no points. It starts at any byte but not at any bit. So it is first given empty blocks of as many
bits as lack to a whole byte: a fixed one of 10 bits moves the border by two bits, a dynamic one of
an odd length by one. Without `libz.so` Python's zlib is used, whose `copy()` makes points that stay
in memory.

No engine inflates more than the room that it is given: 128 KiB can become 128 MiB.
"""

from __future__ import annotations

import ctypes
import zlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Protocol

from up42fs.archive.points import WINDOW_BYTES

isal_zlib: ModuleType | None
try:
    from isal import isal_zlib
except ImportError:  # a processor that isal has no wheel for
    isal_zlib = None

#: The most that an engine is fed with at once, bytes.
FEED_BYTES = 128 << 10
#: Memory of one engine with its input, bytes.
ENGINE_BYTES = 256 << 10

_RAW = -zlib.MAX_WBITS
_OK, _END, _BUF_ERROR = 0, 1, -5
_NO_FLUSH, _BLOCK = 0, 5
_UNREAD_BITS, _IN_LAST_BLOCK, _AT_BORDER = 7, 64, 128


class DamagedStreamError(ValueError):
    """The packed bytes break the rules of their format; the text says how."""


class UnsupportedMethodError(ValueError):
    """The packed bytes may be sound, but no engine here unpacks them; the text says why."""


@dataclass(frozen=True, slots=True)
class Border:
    """The state at a border between two blocks.

    `back` is the number of bytes that were fed and lie behind it; `bits` of `last`, the byte before
    them, are unread.
    """

    bits: int
    last: int
    window: bytes


class Decompressor(Protocol):
    """Inflates a stream from its front."""

    #: Whether the stream has ended; what is fed after that is not part of it.
    is_over: bool
    #: Memory that it takes, bytes.
    held_bytes: int

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used.

        Less than all of `data` is used if `into` is full or the stream is over. An engine may still
        have output if `into` is full: call it again, also without data. Raises DamagedStreamError.
        """

    def end(self) -> None:
        """All packed bytes were fed: raises DamagedStreamError if the stream goes on."""

    def close(self) -> None:
        """Release its memory."""


class _ZStream(ctypes.Structure):
    """`z_stream`."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@dataclass(frozen=True, slots=True)
class _Library:
    """zlib's functions; `work` releases the interpreter's lock, `quick` does not."""

    work: Any
    quick: Any
    version: bytes

    def begin(self, stream: _ZStream) -> None:
        """Make the state of a raw stream."""
        code = self.quick.inflateInit2_(
            ctypes.byref(stream), _RAW, self.version, ctypes.sizeof(_ZStream)
        )
        if code != _OK:
            raise MemoryError("zlib has no memory for another stream")


@cache
def library() -> _Library | None:
    """The C library's zlib; None if it is missing, or lacks what is needed."""
    try:
        work, quick = ctypes.CDLL("libz.so.1"), ctypes.PyDLL("libz.so.1")
        quick.zlibVersion.restype = ctypes.c_char_p
        found = _Library(work, quick, quick.zlibVersion())
        pointer, number = ctypes.c_void_p, ctypes.c_int
        work.inflate.argtypes = (pointer, number)
        quick.inflateInit2_.argtypes = (pointer, number, ctypes.c_char_p, number)
        quick.inflateEnd.argtypes = (pointer,)
        quick.inflatePrime.argtypes = (pointer, number, number)
        quick.inflateSetDictionary.argtypes = (pointer, ctypes.c_char_p, ctypes.c_uint)
        quick.inflateGetDictionary.argtypes = (pointer, pointer, pointer)
        found.begin(stream := _ZStream())
        quick.inflateEnd(ctypes.byref(stream))
    except (OSError, AttributeError, MemoryError):
        return None
    return found


class ZlibEngine:
    """The C library's zlib, which stops at borders."""

    held_bytes = ENGINE_BYTES

    def __init__(self, start: Border | None = None) -> None:
        found = library()
        assert found is not None, "the caller asked for it"
        self.is_over = False
        self._library = found
        self._stream = _ZStream()
        self._input = ctypes.create_string_buffer(FEED_BYTES)
        self._view = memoryview(self._input).cast("B")
        self._wanted: int | None = None  # output before the next border that is wanted
        self._found: Border | None = None
        self._last = start.last if start else 0
        found.begin(self._stream)
        self._is_open = True
        if start is not None:
            if start.bits:
                self._quick(
                    "inflatePrime", ctypes.c_int(start.bits), start.last >> (8 - start.bits)
                )
            if start.window:
                self._quick("inflateSetDictionary", start.window, len(start.window))

    def seek_border(self, after_bytes: int) -> None:
        """Stop at the first border at which at least so many more bytes came out."""
        self._wanted = max(0, after_bytes)
        self._found = None

    def border(self) -> Border | None:
        """The border at which it just stopped, once."""
        found, self._found = self._found, None
        return found

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used."""
        fed = min(len(data), FEED_BYTES)
        self._view[:fed] = data[:fed]
        stream, room = self._stream, len(into)
        at = ctypes.addressof(ctypes.c_char.from_buffer(into)) if room else 0
        stream.next_in, stream.avail_in = ctypes.addressof(self._input), fed
        used = out = 0
        while not self.is_over and out < room:
            wanted = self._wanted
            most = room - out if not wanted else min(room - out, wanted)
            stream.next_out, stream.avail_out = at + out, most
            code = self._library.work.inflate(
                ctypes.byref(stream), _BLOCK if wanted == 0 else _NO_FLUSH
            )
            taken, made = fed - used - stream.avail_in, most - stream.avail_out
            used, out = used + taken, out + made
            if wanted:
                self._wanted = wanted - made
            if taken:
                self._last = self._view[used - 1]
            if code == _END:
                self.is_over = True
            elif code not in (_OK, _BUF_ERROR):
                what = (stream.msg or b"").decode("ascii", "replace") or f"zlib's error {code}"
                raise DamagedStreamError(f"its packed bytes are damaged ({what})")
            elif (wanted == 0 and self._is_border()) or not (taken or made):
                break
        return used, out

    def _is_border(self) -> bool:
        kind = self._stream.data_type
        if not kind & _AT_BORDER or kind & _IN_LAST_BLOCK:
            return False
        window = ctypes.create_string_buffer(WINDOW_BYTES)
        length = ctypes.c_uint(0)
        self._quick("inflateGetDictionary", window, ctypes.byref(length))
        if not length.value:
            return False  # nothing came out yet: the beginning serves as well
        text = window.raw[: length.value]
        self._found = Border(kind & _UNREAD_BITS, self._last, text)
        self._wanted = None
        return True

    def _quick(self, name: str, *arguments: object) -> None:
        code = getattr(self._library.quick, name)(ctypes.byref(self._stream), *arguments)
        if code != _OK:
            raise DamagedStreamError(f"{name} failed ({code})")

    def end(self) -> None:
        """All packed bytes were fed."""
        if not self.is_over:
            raise DamagedStreamError("its packed bytes end too early")

    def close(self) -> None:
        """Release its memory."""
        if self._is_open:
            self._is_open = False
            self.is_over = True
            self._library.quick.inflateEnd(ctypes.byref(self._stream))

    def __del__(self) -> None:
        self.close()


class ModuleEngine:
    """ISA-L or Python's zlib, through the interface of Python's module."""

    held_bytes = ENGINE_BYTES

    def __init__(self, module: Any, start: Border | None = None) -> None:
        self.is_over = False
        self._errors = (module.error, zlib.error)
        window = start.window if start is not None else b""
        self._inflater = (
            module.decompressobj(_RAW, zdict=window) if window else module.decompressobj(_RAW)
        )
        self._ahead = prefix(start.bits, start.last) if start is not None else b""

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used."""
        fed = data[:FEED_BYTES]
        if not len(into) or self.is_over:
            return 0, 0
        used = out = 0
        try:
            while self._ahead:
                made = self._inflater.decompress(self._ahead, len(into))
                assert not made, "empty blocks have no output"
                self._ahead = bytes(self._inflater.unconsumed_tail)
            made = self._inflater.decompress(fed, len(into))
        except self._errors as error:
            raise DamagedStreamError(f"its packed bytes are damaged ({error})") from None
        out = len(made)
        into[:out] = made
        self.is_over = bool(self._inflater.eof)
        rest = self._inflater.unused_data if self.is_over else self._inflater.unconsumed_tail
        used = max(0, len(fed) - len(rest))
        return used, out

    def end(self) -> None:
        """All packed bytes were fed."""
        if not self.is_over:
            raise DamagedStreamError("its packed bytes end too early")

    def close(self) -> None:
        """Release its memory."""
        self.is_over = True
        self._inflater = None


def fast(start: Border | None = None) -> Decompressor:
    """The fastest engine, which makes no points."""
    return ModuleEngine(isal_zlib if isal_zlib is not None else zlib, start)


def pointed(start: Border | None = None) -> ZlibEngine | ModuleEngine:
    """An engine that makes points where zlib can be called by ctypes; else one that reads on."""
    return ZlibEngine(start) if library() is not None else ModuleEngine(zlib, start)


#: An empty block with fixed codes, bit by bit: not the last one, kind 1, end of block.
_FIXED = (0, 1, 0, *[0] * 7)


def _dynamic() -> tuple[int, ...]:
    """An empty block with codes of its own, which has an odd number of bits."""
    bits = [0, 0, 1]  # not the last one, kind 2

    def put(value: int, count: int) -> None:
        bits.extend((value >> k) & 1 for k in range(count))

    put(0, 5)  # 257 codes for literals and lengths
    put(0, 5)  # one for distances
    put(14, 4)  # 18 lengths of codes for lengths follow
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
        put(1 if symbol in (1, 18) else 0, 3)
    put(0, 1)  # the code for literal 0 has one bit
    put(1, 1)
    put(127, 7)  # 138 have none
    put(1, 1)
    put(106, 7)  # nor have 117 more
    put(0, 1)  # that for the end has one
    put(0, 1)  # that for distances, too
    put(1, 1)  # the end of the block
    return tuple(bits)


_DYNAMIC = _dynamic()


def prefix(bits: int, last: int) -> bytes:
    """Bytes whose last holds the `bits` unread bits of `last`, behind nothing but empty blocks."""
    if not bits:
        return b""
    text: list[int] = []
    lacking = (8 - bits) % 8
    if lacking % 2:
        text += _DYNAMIC
    while len(text) % 8 != lacking:
        text += _FIXED
    text += [(last >> (8 - bits + k)) & 1 for k in range(bits)]
    return bytes(
        sum(bit << k for k, bit in enumerate(text[at : at + 8])) for at in range(0, len(text), 8)
    )

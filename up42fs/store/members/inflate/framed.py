"""Engines for whole compressed files and for the zip methods beside deflate, all of them forward.

Knows the frames around the packed bytes and Python's decompressors; nothing of where bytes come
from. gzip's points are those of the deflate inside (`engines`).

Several streams one behind the other are one file, for each of these formats. The dictionaries of
LZMA may have 4 GiB: what takes more than `MOST_STATE_BYTES` is refused.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

from up42fs.store.members.inflate.engines import (
    ENGINE_BYTES,
    FEED_BYTES,
    Border,
    DamagedStreamError,
    Decompressor,
    ModuleEngine,
    UnsupportedMethodError,
    ZlibEngine,
    pointed,
)

#: The most memory that one engine may take, bytes: `xz -9` takes 65 MiB, `-6` 9.
MOST_STATE_BYTES = 96 << 20
#: A header of gzip may hold a name and a comment: more than this is none of ours, bytes.
_MOST_HEADER_BYTES = 128 << 10
_ENDS_EARLY = "its packed bytes end too early"


class GzipEngine:
    """gzip, whose points are those of its deflate streams."""

    held_bytes = ENGINE_BYTES

    def __init__(self, start: Border | None = None) -> None:
        self.is_over = False
        self._raw: ZlibEngine | ModuleEngine | None = None
        self._held = bytearray()
        self._wanted: int | None = None
        self._crc: int | None = 0  # None: it began amid a stream, so its checksum is not known
        self._length = 0
        self._found: Border | None = None
        self._streams = 0
        self._is_in_trailer = False
        if start is not None and start.window:
            self._begin(start)
            self._crc = None

    def seek_border(self, after_bytes: int) -> None:
        """Stop at the first border at which at least so many more bytes came out."""
        self._wanted = after_bytes
        if isinstance(self._raw, ZlibEngine):
            self._raw.seek_border(after_bytes)

    def border(self) -> Border | None:
        """The border at which it just stopped, once."""
        found, self._found = self._found, None
        return found

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used."""
        used = out = 0
        while out < len(into) and not self.is_over and self._found is None:
            if self._raw is None:
                taken = self._frame(data[used:])
                used += taken
                if not taken and self._raw is None:
                    break
                continue
            taken, made = self._raw.inflate(data[used:], into[out:])
            self._count(into[out : out + made])
            used, out = used + taken, out + made
            if isinstance(self._raw, ZlibEngine):
                self._found = self._raw.border()
            if self._raw.is_over:
                self._raw.close()
                self._raw, self._is_in_trailer = None, True
            elif not taken and not made:
                break
        return used, out

    def _count(self, made: memoryview) -> None:
        if self._crc is not None:
            self._crc = zlib.crc32(made, self._crc)
        self._length += len(made)
        if self._wanted is not None:
            self._wanted = max(0, self._wanted - len(made))

    def _frame(self, data: memoryview) -> int:
        """Take bytes of a header or a trailer; return how many of `data`."""
        before = len(self._held)
        self._held += data[: _MOST_HEADER_BYTES - before if not self._is_in_trailer else 8 - before]
        if self._is_in_trailer:
            if len(self._held) < 8:
                return len(self._held) - before
            self._check(bytes(self._held))
            self._held.clear()
            self._is_in_trailer = False
            return 8 - before
        if self._streams and self._held[:1] == b"\0":
            self._held.clear()
            return len(data)  # tar's tools fill the last block up with zeros, and end here
        length = _gzip_header(self._held)
        if length is None:
            if len(self._held) >= _MOST_HEADER_BYTES:
                raise DamagedStreamError("its gzip header has no end")
            return len(self._held) - before
        if not length:
            if not self._streams:
                raise DamagedStreamError("it does not begin as gzip does")
            self.is_over = True  # bytes behind the last stream are no part of it
            return 0
        self._held.clear()
        self._begin(None)
        return length - before

    def _begin(self, start: Border | None) -> None:
        self._raw = pointed(start)
        self._streams += 1
        self._crc, self._length = 0, 0
        if self._wanted is not None and isinstance(self._raw, ZlibEngine):
            self._raw.seek_border(self._wanted)

    def _check(self, trailer: bytes) -> None:
        crc, length = struct.unpack("<II", trailer)
        if self._crc is not None and (crc, length) != (self._crc, self._length & 0xFFFFFFFF):
            raise DamagedStreamError("its checksum is wrong")

    def end(self) -> None:
        """All packed bytes were fed."""
        if self._raw is not None or self._is_in_trailer or not self._streams:
            raise DamagedStreamError(_ENDS_EARLY)
        self.is_over = True

    def close(self) -> None:
        """Release its memory."""
        self.is_over = True
        if self._raw is not None:
            self._raw.close()
            self._raw = None


def _gzip_header(text: bytearray) -> int | None:
    """Length of the header; None if more bytes are needed, 0 if it is none."""
    if not text or (len(text) >= 3 and text[:3] != b"\x1f\x8b\x08"):
        return 0 if text else None
    if len(text) < 10:
        return None if b"\x1f\x8b\x08".startswith(text[:3]) else 0
    flags, at = text[3], 10
    if flags & 4:
        if len(text) < at + 2:
            return None
        at += 2 + int.from_bytes(text[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            end = text.find(0, at)
            if end < 0:
                return None
            at = end + 1
    at += 2 if flags & 2 else 0
    return at if len(text) >= at else None


class _Decompressor(Protocol):
    """Python's interface of bz2 and lzma."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class StreamsEngine:
    """Streams of Python's bz2 or lzma, one behind the other."""

    def __init__(
        self, make: Callable[[], _Decompressor], held_bytes: int, *, is_one: bool = False
    ) -> None:
        """`is_one`: the file is one stream, and over with it."""
        self.is_over = False
        self.held_bytes = held_bytes
        self._make = make
        self._is_one = is_one
        self._one: _Decompressor | None = None
        self._rest = b""  # fed to a stream that ended before it
        self._count = 0
        self._made = 0  # by this stream

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used."""
        used = out = 0
        while out < len(into) and not self.is_over:
            if self._one is not None and not self._one.needs_input:
                text = b""  # it holds what it was fed with before
            else:
                text, self._rest = self._rest, b""
                if not text:
                    text = bytes(data[used : used + FEED_BYTES])
                    used += len(text)
                if self._one is None and self._count:
                    text = text.lstrip(b"\0")  # padding between streams
                if not text:
                    break
            out += self._feed(text, into[out:])
        return used, out

    def _feed(self, text: bytes, into: memoryview) -> int:
        if self._one is None:
            self._one = self._make()
            self._count += 1
            self._made = 0
        one = self._one
        try:
            made = one.decompress(text, len(into))
        except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
            if self._count > 1 and not self._made:
                self.is_over = True  # bytes behind the last stream are no part of it
                return 0
            if "emory usage limit" in str(error):
                raise UnsupportedMethodError(
                    "it needs more memory than up42fs has for it"
                ) from None
            raise DamagedStreamError(f"its packed bytes are damaged ({error})") from None
        into[: len(made)] = made
        self._made += len(made)
        if one.eof:
            self._rest, self._one = one.unused_data, None
            self.is_over = self._is_one
        return len(made)

    def end(self) -> None:
        """All packed bytes were fed."""
        if (self._one is not None or not self._count) and not self.is_over:
            raise DamagedStreamError(_ENDS_EARLY)
        self.is_over = True

    def close(self) -> None:
        """Release its memory."""
        self.is_over = True
        self._one = None


def bzip2() -> Decompressor:
    """bzip2, of files and of members."""
    return StreamsEngine(bz2.BZ2Decompressor, 4 << 20)


def xz() -> Decompressor:
    """xz, and LZMA as a file."""
    return StreamsEngine(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=MOST_STATE_BYTES), 10 << 20
    )


class ZipLzmaEngine:
    """LZMA as zip has it: a version, the length of the properties, these, one bare stream."""

    def __init__(self) -> None:
        self.is_over = False
        self.held_bytes = 10 << 20
        self._head = bytearray()
        self._engine: StreamsEngine | None = None

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used."""
        used = 0
        if self._engine is None:
            used = min(9 - len(self._head), len(data))
            self._head += data[:used]
            if len(self._head) < 9:
                return used, 0
            self._engine = self._begun(bytes(self._head))
        taken, made = self._engine.inflate(data[used:], into)
        self.is_over = self._engine.is_over
        return used + taken, made

    def _begun(self, head: bytes) -> StreamsEngine:
        length = int.from_bytes(head[2:4], "little")
        packed, dictionary = head[4], int.from_bytes(head[5:9], "little")
        if length != 5 or packed >= 9 * 5 * 5:
            raise DamagedStreamError("its properties of LZMA are damaged")
        if dictionary > MOST_STATE_BYTES:
            raise UnsupportedMethodError("it needs more memory than up42fs has for it")
        rest, lc = divmod(packed, 9)
        pb, lp = divmod(rest, 5)
        kind = {
            "id": lzma.FILTER_LZMA1, "dict_size": max(dictionary, 4096),
            "lc": lc, "lp": lp, "pb": pb,
        }  # fmt: skip
        self.held_bytes = dictionary + (1 << 20)
        try:
            one = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[kind])
        except (lzma.LZMAError, ValueError) as error:
            raise DamagedStreamError(f"its properties of LZMA are damaged ({error})") from None
        return StreamsEngine(lambda: one, self.held_bytes, is_one=True)

    def end(self) -> None:
        """All packed bytes were fed; a stream without an end mark ends here, too."""
        if self._engine is None:
            raise DamagedStreamError(_ENDS_EARLY)
        self.is_over = True

    def close(self) -> None:
        """Release its memory."""
        self.is_over = True
        self._engine = None

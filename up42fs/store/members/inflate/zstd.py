"""zstd, by the C library's stream interface: Python has none before 3.14.

Knows the library's functions; nothing of where bytes come from. Frames one behind the other, and
frames to be skipped, are the library's own business.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from up42fs.store.members.inflate.engines import (
    FEED_BYTES,
    DamagedStreamError,
    UnsupportedMethodError,
)

#: The largest window, as a power of two of bytes: `zstd -19` needs 23, `--ultra -22` 27.
_MOST_WINDOW_LOG = 27
_HELD_BYTES = 10 << 20
#: `ZSTD_ErrorCode`s of sound files that this engine does not unpack.
_LACKING = {
    16: "it needs more memory than up42fs has for it",  # frameParameter_windowTooLarge
    32: "it was packed with a dictionary, which is not in it",  # dictionary_wrong
}
_WINDOW_LOG_MAX = 100  # ZSTD_d_windowLogMax


class _ZstdBuffer(ctypes.Structure):
    """`ZSTD_inBuffer` and `ZSTD_outBuffer`."""

    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


@cache
def library() -> Any:
    """The C library; None if it is missing."""
    try:
        found = ctypes.CDLL("libzstd.so.1")
        found.ZSTD_createDStream.restype = ctypes.c_void_p
        found.ZSTD_freeDStream.argtypes = (ctypes.c_void_p,)
        found.ZSTD_DCtx_setParameter.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        found.ZSTD_decompressStream.restype = ctypes.c_size_t
        found.ZSTD_decompressStream.argtypes = (ctypes.c_void_p,) * 3
        found.ZSTD_isError.argtypes = (ctypes.c_size_t,)
        found.ZSTD_getErrorCode.argtypes = (ctypes.c_size_t,)
        found.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
        found.ZSTD_getErrorName.restype = ctypes.c_char_p
    except (OSError, AttributeError):
        return None
    return found


class ZstdEngine:
    """Frames of zstd."""

    held_bytes = _HELD_BYTES

    def __init__(self) -> None:
        self.is_over = False
        self._library = library()
        assert self._library is not None, "the caller asked for it"
        self._stream = self._library.ZSTD_createDStream()
        if not self._stream:
            raise MemoryError("zstd has no memory for another stream")
        self._library.ZSTD_DCtx_setParameter(self._stream, _WINDOW_LOG_MAX, _MOST_WINDOW_LOG)
        self._input = ctypes.create_string_buffer(FEED_BYTES)
        self._view = memoryview(self._input).cast("B")
        self._is_amid = True  # nothing was read yet

    def inflate(self, data: memoryview, into: memoryview) -> tuple[int, int]:
        """Inflate `data` into `into`; return how many bytes of each were used."""
        if self.is_over or not len(into):
            return 0, 0
        fed = min(len(data), FEED_BYTES)
        self._view[:fed] = data[:fed]
        source = _ZstdBuffer(ctypes.addressof(self._input), fed, 0)
        room = _ZstdBuffer(ctypes.addressof(ctypes.c_char.from_buffer(into)), len(into), 0)
        while room.pos < room.size:
            before = (source.pos, room.pos)
            code = self._library.ZSTD_decompressStream(
                self._stream, ctypes.byref(room), ctypes.byref(source)
            )
            if self._library.ZSTD_isError(code):
                lacking = _LACKING.get(self._library.ZSTD_getErrorCode(code))
                if lacking is not None:
                    raise UnsupportedMethodError(lacking)
                name = self._library.ZSTD_getErrorName(code).decode("ascii", "replace")
                raise DamagedStreamError(f"its packed bytes are damaged ({name})")
            if (source.pos, room.pos) == before:
                break
            self._is_amid = bool(code)
        return source.pos, room.pos

    def end(self) -> None:
        """All packed bytes were fed."""
        if self._is_amid:
            raise DamagedStreamError("its packed bytes end too early")
        self.is_over = True

    def close(self) -> None:
        """Release its memory."""
        self.is_over = True
        stream, self._stream = self._stream, None
        if stream:
            self._library.ZSTD_freeDStream(stream)

    def __del__(self) -> None:
        self.close()

"""CRC-32 as zlib computes it, with the fastest implementation available.

Every byte read from the disk cache is verified. zlib of most distributions takes nearly a second of
processor time for a GiB, ISA-L a tenth of that (carry-less multiplication), with the same result.

`crc32_of` computes many checksums in one call. Python's functions release the interpreter's lock
for each piece, although a piece takes 5 microseconds: with other threads waiting, handing the lock
over and getting it back costs more than the checksum (24 000 hand-overs a GiB). So ISA-L's own
function is called if it is found and gives correct results.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable, Iterable
from types import ModuleType

from up42fs.types import Bytes

isal_zlib: ModuleType | None
try:
    from isal import isal_zlib
    from isal.isal_zlib import crc32
except ImportError:  # a processor that isal has no wheel for
    from zlib import crc32

    isal_zlib = None

__all__ = ["crc32", "crc32_of"]

#: checksum so far, address (or bytes), length -> checksum
_Count = Callable[[int, int | bytes, int], int]


class _Buffer(ctypes.Structure):
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
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)
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
    buffer = _Buffer()
    _get_buffer(data, ctypes.byref(buffer), 0)
    try:
        at = buffer.buf or 0
        return [_count(before, at + start, stop - start) for start, stop, before in pieces]
    finally:
        _release_buffer(ctypes.byref(buffer))

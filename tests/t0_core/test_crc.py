"""The quick checksum is zlib's: files of the disk cache are the same with either."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from up42fs.core.crc import crc32


@given(st.binary(max_size=10_000), st.integers(0, 2**32 - 1))
def test_it_is_zlibs(data: bytes, start: int) -> None:
    assert crc32(data, start) == zlib.crc32(data, start)
    assert crc32(memoryview(bytearray(data)), start) == zlib.crc32(data, start)

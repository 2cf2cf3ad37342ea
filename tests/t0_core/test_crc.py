"""The quick checksum is zlib's: files of the disk cache are the same with either."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.disk import format as crc
from up42fs.store.disk.format import crc32, crc32_of


@given(st.binary(max_size=10_000), st.integers(0, 2**32 - 1))
def test_it_is_zlibs(data: bytes, start: int) -> None:
    assert crc32(data, start) == zlib.crc32(data, start)
    assert crc32(memoryview(bytearray(data)), start) == zlib.crc32(data, start)


@given(st.data(), st.binary(max_size=10_000), st.booleans())
def test_many_pieces_are_counted_as_each_by_itself(
    draw: st.DataObject, data: bytes, has_library: bool
) -> None:
    offsets = st.integers(0, len(data))
    piece = st.tuples(offsets, offsets, st.integers(0, 2**32 - 1))
    pieces = [
        (min(a, b), max(a, b), before) for a, b, before in draw.draw(st.lists(piece, max_size=9))
    ]
    expected = [zlib.crc32(data[start:stop], before) for start, stop, before in pieces]
    with pytest.MonkeyPatch.context() as patch:
        if not has_library:
            patch.setattr(crc, "_count", None)
        assert crc32_of(data, pieces) == expected
        assert crc32_of(memoryview(bytearray(data)).toreadonly(), pieces) == expected

"""Where a TIFF keeps its tiles: what a writer wrote, what GDAL knows, what malice invents."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiff_support import Image, tiles_of, write_tiff

from up42fs.readahead import tiff
from up42fs.readahead.tiff import Get, Tile
from up42fs.types import ByteRange


def giving(data: bytes, known: int | None = None) -> Get:
    """Gives bytes of `data`, only the first `known` of them where that is said."""

    def get(span: ByteRange) -> bytes | None:
        if known is not None and span.stop > known:
            return None
        return data[span.start : span.stop]

    return get


@st.composite
def images(draw: st.DrawFn) -> list[Image]:
    levels = []
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    tile = draw(st.sampled_from([16, 32, None]))
    planes = draw(st.sampled_from([1, 1, 3]))
    for number in range(draw(st.integers(1, 4))):
        count = tiles_of(width, height, tile, planes)
        counts = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
        levels.append(Image(width, height, tile, counts, reduced=number > 0, planes=planes))
        width, height = max(1, width // 2), max(1, height // 2)
    return levels


@given(images(), st.sampled_from("<>"), st.booleans(), st.booleans())
@settings(max_examples=150)
def test_every_tile_is_found_where_it_was_written(
    levels: list[Image], order: str, big: bool, tables_last: bool
) -> None:
    data = write_tiff(levels, order=order, big=big, tables_last=tables_last)
    layout = tiff.parse(len(data), giving(data))
    assert layout.is_tiff
    assert not layout.lacking
    assert [(one.width, one.height) for one in layout.levels] == [
        (one.width, one.height) for one in levels
    ]
    for number, (level, image) in enumerate(zip(layout.levels, levels, strict=True)):
        assert level.is_reduced == image.reduced
        places = [
            (plane, row, col)
            for plane in range(level.planes)
            for row in range(level.down)
            for col in range(level.across)
        ]
        assert len(places) == len(image.counts)
        for place, start, count in zip(places, image.offsets, image.counts, strict=True):
            span = level.span(*place)
            if not count:
                assert span is None
                continue
            assert span == ByteRange(start, start + count)
            assert Tile(number, *place) in layout.under(ByteRange(start, start + 1))
            assert Tile(number, *place) in layout.under(ByteRange(start + count - 1, start + count))
        assert level.span(0, level.down, 0) is None


@given(images(), st.booleans(), st.data())
@settings(max_examples=100)
def test_what_is_lacking_is_named_until_nothing_is(
    levels: list[Image], big: bool, data: st.DataObject
) -> None:
    """Bytes come as they are named; in the end the layout is what all bytes at once give."""
    whole = write_tiff(levels, big=big, tables_last=data.draw(st.booleans()))
    have = [False] * len(whole)
    have[:16] = [True] * 16

    def get(span: ByteRange) -> bytes | None:
        known = all(have[span.start : span.stop])
        return whole[span.start : span.stop] if known else None

    for _ in range(4 * len(levels) + 4):
        layout = tiff.parse(len(whole), get)
        if not layout.lacking:
            break
        for span in layout.lacking:
            assert span.stop <= len(whole)
            assert get(span) is None
            have[span.start : span.stop] = [True] * len(span)
    assert layout == tiff.parse(len(whole), giving(whole))


@given(images(), st.sampled_from("<>"), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_damage_yields_tiles_inside_the_file_or_none(
    levels: list[Image], order: str, big: bool, chance: random.Random
) -> None:
    data = bytearray(write_tiff(levels, order=order, big=big))
    for _ in range(chance.randrange(1, 12)):
        data[chance.randrange(4, len(data))] = chance.choice([0, 1, 255, chance.randrange(256)])
    layout = tiff.parse(len(data), giving(bytes(data)))
    for level in layout.levels:
        for start, count in zip(level.offsets, level.counts, strict=True):
            assert start + count <= len(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    for start in (b"", b"II*\0", b"MM\0+\0\x08\0\0"):
        tiff.parse(len(start + data), giving(start + data))


def test_a_directory_that_names_itself_ends() -> None:
    data = bytearray(write_tiff([Image(16, 16, 16, [9])]))
    entries = struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, 10 + 12 * entries, 8)
    assert len(tiff.parse(len(data), giving(bytes(data))).levels) == 1


def test_a_level_that_lacks_its_table_keeps_its_number() -> None:
    levels = [Image(640, 640, 16, [1] * 1600), Image(16, 16, 16, [7], reduced=True)]
    data = write_tiff(levels)
    levels_at_once = tiff.parse(len(data), giving(data)).levels
    table = ByteRange(levels[0].counts[0] + 1000, 9000)

    def get(span: ByteRange) -> bytes | None:
        return None if span.start < table.stop and span.stop > table.start else data[
            span.start : span.stop
        ]  # fmt: skip

    layout = tiff.parse(len(data), get)
    assert layout.lacking
    assert layout.levels[1].span(0, 0, 0) == levels_at_once[1].span(0, 0, 0)


def test_something_else_is_no_tiff() -> None:
    assert not tiff.parse(100, giving(b"PK\x03\x04" + bytes(96))).is_tiff


@pytest.mark.parametrize("blocks", [64, 128])
def test_what_gdal_writes(tmp_path: object, blocks: int) -> None:
    """A COG made by GDAL: block sizes and places as GDAL itself tells them."""
    import numpy as np
    import rasterio
    from rasterio.shutil import copy

    plain, cog = f"{tmp_path}/plain.tif", f"{tmp_path}/cog.tif"
    pixels = np.random.default_rng(1).integers(0, 60000, (1, 500, 700), dtype="uint16")
    with rasterio.open(
        plain,
        "w",
        driver="GTiff",
        width=700,
        height=500,
        count=1,
        dtype="uint16",
        crs="EPSG:32631",
        transform=rasterio.Affine(2, 0, 6e5, 0, -2, 5e6),
    ) as out:
        out.write(pixels)
    copy(plain, cog, driver="COG", compress="DEFLATE", blocksize=blocks)
    with open(cog, "rb") as file:
        data = file.read()
    layout = tiff.parse(len(data), giving(data))
    with rasterio.open(cog) as source:
        told = {
            (row, col): (
                int(source.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)),
                int(source.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)),
            )
            for (row, col), _ in source.block_windows(1)
        }
    assert len(told) == layout.levels[0].across * layout.levels[0].down
    for (row, col), (start, count) in told.items():
        assert layout.levels[0].span(0, row, col) == ByteRange(start, start + count)
    assert [level.is_reduced for level in layout.levels[1:]] == [True] * (len(layout.levels) - 1)

"""Which file is a picture, what it is called beside a delivery; which overview makes a picture."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from up42fs.cli.thumbnail.extract import (
    DIRECTORY_BYTES,
    Choice,
    LackingError,
    choose,
    extract,
)
from up42fs.model import pictures
from up42fs.model.stac import StacAsset
from up42fs.ranges import RangeSet
from up42fs.readahead.parse_budget import MalformedError
from up42fs.types import ByteRange

keys = st.sampled_from(
    ["preview.jpg", "PREVIEW.JPEG", "quicklook.png", "thumbnail", "a.tif", "x.jpg", "b02.tiff"]
)
files = st.builds(
    StacAsset,
    key=keys,
    asset_id=st.none() | st.just("id"),
    media_type=st.sampled_from(
        [None, "image/png", "image/jpeg; q=1", "image/tiff", "application/xml"]
    ),
    roles=st.lists(st.sampled_from(["thumbnail", "Overview", "data", "metadata"])).map(tuple),
)


@given(st.lists(files))
def test_a_picture_is_one_that_can_be_read_and_that_programs_open(found: list[StacAsset]) -> None:
    picture = pictures.picture_of(found)
    fit = [f for f in found if f.asset_id and pictures.picture_of([f])]
    assert (picture is None) == (not fit)
    if picture is not None:
        assert picture in fit
        name = pictures.beside("scene.tar.gz", picture)
        assert pictures.stem_of(name) == "scene"


@pytest.mark.parametrize(
    ("file", "extension"),
    [
        (StacAsset("preview.jpg", "1", media_type="image/png"), ".jpg"),  # the type lies (§5.5)
        (StacAsset("l2a_pvi.tiff", "1", media_type="image/tiff", roles=("overview",)), None),
        (StacAsset("thumbnail", "1", media_type="image/png", roles=("thumbnail",)), ".png"),
        (StacAsset("x.xml", "1", media_type="image/png", roles=("thumbnail",)), None),
    ],
)
def test_the_name_says_what_it_is(file: StacAsset, extension: str | None) -> None:
    assert pictures.extension_of(file) == extension
    assert (pictures.picture_of([file]) is None) == (extension is None)


def test_a_thumbnail_comes_before_an_overview_and_other_images_are_none() -> None:
    small = StacAsset("t.png", "1", roles=("thumbnail",))
    large = StacAsset("preview.jpg", "2", roles=("overview",))
    assert pictures.picture_of([StacAsset("x.jpg", "3"), large, small]) == small
    assert pictures.picture_of([replace(small, asset_id=None), large]) == large


# -- one image out of a TIFF

SIDE = 300
PIXELS = np.random.default_rng(3).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
PALETTE = {number: (number % 256, 255 - number % 256, 7, 255) for number in range(256)}
#: What a TIFF may be written like.
KINDS: dict[str, dict[str, Any]] = {
    "tiles": {**TILED, "compress": "LZW"},
    "strips": {"compress": "DEFLATE"},
    "one strip": {"compress": "DEFLATE", "blockysize": SIDE},
    "many tiles": {**TILED, "blockxsize": 16, "blockysize": 16, "compress": "LZW"},
    "odd tiles": {**TILED, "blockxsize": 48, "blockysize": 80, "compress": "PACKBITS"},
    "planes": {**TILED, "interleave": "band", "compress": "ZSTD"},
    "BigTIFF": {**TILED, "bigtiff": "YES"},
    "big endian": {**TILED, "endianness": "BIG", "compress": "LZW"},
    "JPEG": {**TILED, "compress": "JPEG", "photometric": "YCBCR"},
    "LERC": {**TILED, "compress": "LERC", "dtype": "float32", "count": 1},
    "16 bit": {**TILED, "dtype": "uint16", "compress": "DEFLATE", "predictor": 2},
    "float": {**TILED, "dtype": "float32", "nodata": -1, "compress": "DEFLATE", "predictor": 3},
    "complex": {**TILED, "dtype": "complex64", "count": 1},
    "palette": {**TILED, "count": 1, "photometric": "palette"},
    "four bands": {**TILED, "count": 4, "photometric": "RGB"},
    "many bands": {"count": 40, "compress": "LZW"},
    "one bit": {"count": 1, "nbits": 1, "compress": "CCITTFAX4"},
    "mask": {**TILED, "compress": "JPEG"},
    "sparse": {**TILED, "compress": "DEFLATE", "SPARSE_OK": True},
}


@cache
def tiff(kind: str) -> bytes:
    """A TIFF with overviews."""
    options: dict[str, Any] = {
        "driver": "GTiff",
        "width": SIDE,
        "height": SIDE,
        "count": 3,
        "dtype": "uint8",
    }
    options |= KINDS[kind]
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore")
        with MemoryFile() as memory:
            with memory.open(**options) as image:
                bands = [np.roll(PIXELS[n % 3], n, 1) for n in range(options["count"])]
                pixels = np.stack(bands).astype(options["dtype"])
                image.write(pixels // 128 if kind == "one bit" else pixels * (kind != "sparse"))
                if kind == "palette":
                    image.write_colormap(1, PALETTE)
                if kind == "mask":
                    image.write_mask(PIXELS[0] > 99)
            with rasterio.open(memory.name, "r+") as image:
                image.build_overviews([2, 4], Resampling.nearest)
            return bytes(memory.getbuffer())


class Pieces:
    """A file of which pieces are fetched one by one."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.held = RangeSet()

    def get(self, span: ByteRange) -> bytes | None:
        return self.content[span.start : span.stop] if self.held.covers(span) else None

    def lacks(self, spans: Iterable[ByteRange]) -> int:
        return RangeSet(one for span in spans for one in self.held.missing(span)).total

    def until_known(self, parse: Callable[[], Any]) -> Any:
        while True:
            try:
                return parse()
            except LackingError as error:
                span = error.span
            assert 0 <= span.start < span.stop <= len(self.content)
            assert not self.held.covers(span), "it asks for nothing twice"
            self.held.add(span)

    def picture(self, wanted: int, most: int) -> tuple[Choice | None, bytes]:
        def chosen() -> Choice | None:
            left = max(0, most - self.held.total)
            return choose(len(self.content), self.get, self.lacks, wanted, left)

        choice = self.until_known(chosen)
        return choice, self.until_known(lambda: extract(choice)) if choice else b""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("wanted", "overview"), [(100, 0), (20, 1), (SIDE, None)])
def test_what_is_taken_out_of_a_tiff_is_its_image(
    kind: str, wanted: int, overview: int | None
) -> None:
    content = tiff(kind)
    choice, taken = Pieces(content).picture(wanted, len(content))
    assert choice is not None
    level = {} if overview is None else {"OVERVIEW_LEVEL": overview}
    with warnings.catch_warnings(), MemoryFile(content) as memory, MemoryFile(taken) as made:
        warnings.simplefilter("ignore")
        with rasterio.open(memory.name, **level) as whole, made.open() as small:
            assert (small.width, small.height) == (whole.width, whole.height) == choice.shape
            assert (small.read() == whole.read()).all()
            assert (small.dataset_mask() == whole.dataset_mask()).all()
            assert small.dtypes == whole.dtypes
            if kind == "palette":
                assert small.colormap(1) == PALETTE


def test_an_image_costs_no_more_than_it_may_and_is_the_largest_that_can_be_had() -> None:
    content = tiff("16 bit")
    costs = {}
    for wanted in (20, 100, SIDE):
        pieces = Pieces(content)
        pieces.picture(wanted, len(content))
        costs[wanted] = pieces.held.total
    assert costs[20] < costs[100] < costs[SIDE]
    for most, shape in ((costs[20], 75), (costs[100] + costs[20], 150), (len(content) // 2, 150)):
        pieces = Pieces(content)
        choice, _ = pieces.picture(SIDE, most)
        assert choice is not None
        assert choice.shape[0] == shape
        assert pieces.held.total <= most
    assert Pieces(content).picture(SIDE, costs[20] // 2)[0] is None


def test_tiles_that_take_much_memory_are_not_decoded() -> None:
    """30,000 x 30,000 equal pixels take 900 KB of a file, and 900 MB of memory."""
    content = bytearray(tiff("one strip"))
    for tag in (256, 257, 278):  # width, height, rows of a strip
        for kind in (3, 4):
            row = struct.pack("<HHI", tag, kind, 1)
            at = content.find(row)
            while at >= 0:
                content[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 30_000)
                at = content.find(row, at + 12)
    assert Pieces(bytes(content)).picture(256, 1 << 20)[0] is None


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_damaged_tiff_is_no_picture_and_costs_no_more(kind: str, data: st.DataObject) -> None:
    content = bytearray(tiff(kind))
    end = len(content)
    # Directories and tables stand at the ends of these files.
    places = st.integers(0, 700) | st.integers(end - 900, end - 1) | st.integers(0, end - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(places)
        odd = st.sampled_from([b"\0", b"\xff", b"\xff" * 4, b"\0" * 4, b"\0\0\0\x7f"])
        piece = data.draw(odd | st.binary(min_size=1, max_size=4))
        content[at : at + len(piece)] = piece
    cut = data.draw(st.just(end) | st.integers(0, end))
    pieces, most = Pieces(bytes(content[:cut])), 60_000
    try:
        choice, taken = pieces.picture(100, most)
    except MalformedError:
        return
    assert len(taken) <= pieces.held.total + (1 << 20)
    if choice is not None:
        assert pieces.held.total <= most + 64 * DIRECTORY_BYTES

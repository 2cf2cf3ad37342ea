"""Which file is a picture, what it is called beside a delivery; which overview makes a picture."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli.thumbnail.choice import MOST_PIXELS, choose
from up42fs.model import pictures
from up42fs.model.stac import StacAsset
from up42fs.readahead.tiff import TiffLayout, TiffLevel

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


def level(width: int, tile: int, tile_bytes: int, at: int, **more: bool) -> TiffLevel:
    count = (-(-width // tile)) ** 2
    offsets = array("Q", [at + n * tile_bytes for n in range(count)])
    counts = array("Q", [tile_bytes] * count)
    more = {"is_reduced": True} | more
    return TiffLevel(width, width, tile, tile, 1, offsets, counts, order=range(count), **more)


layouts = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(1, 400_000), st.booleans()), max_size=6
).map(
    lambda rows: TiffLayout(
        tuple(
            level(width, 512, size, 1000 + 10**8 * n, is_mask=is_mask)
            for n, (width, size, is_mask) in enumerate(rows)
        )
    )
)


@given(layouts, st.integers(16, 1024), st.integers(0, 1 << 20))
def test_an_overview_costs_no_more_than_it_may(layout: TiffLayout, size: int, most: int) -> None:
    choice = choose(layout, size, most)
    overviews = sorted(
        (one for one in layout.levels if not one.is_mask), key=lambda one: -one.width
    )
    if choice is None:
        if overviews:
            least = overviews[-1]
            assert (
                least.stored_bytes > most
                or least.width**2 > MOST_PIXELS
                or any(one.is_mask and one.width == least.width for one in layout.levels)
            )
        return
    assert sum(map(len, choice.spans)) <= most
    assert overviews[choice.number].width == choice.width
    smaller = [one.width for one in overviews[choice.number + 1 :]]
    assert all(width < size for width in smaller), "the smallest that is large enough"


def test_the_image_itself_is_no_overview() -> None:
    layout = TiffLayout((level(256, 256, 100, 1000, is_reduced=False),))
    assert choose(layout, 256, 1 << 20) is None

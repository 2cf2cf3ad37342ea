"""The drawing of what a file cost: valid whatever a file is called, and it shows each tile."""

from __future__ import annotations

from array import array
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli.explain_svg import draw
from up42fs.readahead.tiff import TiffLayout, TiffLevel

SVG = "{http://www.w3.org/2000/svg}"


def document(name: str = "a.tif", size: int = 1000, ranges: object = (), **more: object) -> dict:
    return {"name": name, "size": size, "ranges": ranges, "programs": {"cat": 1}, **more}


def boxes(svg: str, kind: str) -> list[ElementTree.Element]:
    return [
        one for one in ElementTree.fromstring(svg).iter(SVG + "rect") if one.get("class") == kind
    ]


spans = st.tuples(st.integers(0, 10**10), st.integers(1, 10**9)).map(lambda one: [one[0], sum(one)])
moments = st.tuples(st.floats(0, 1e5), st.floats(0, 1e3), spans).map(
    lambda one: [one[0], one[0] + one[1], *one[2]]
)


@given(
    st.text(min_size=1),
    st.lists(spans, max_size=20),
    st.lists(moments, max_size=20),
    st.lists(moments, max_size=20),
    st.integers(0, 10**10),
)
def test_whatever_came_the_picture_is_valid_and_nothing_lies_outside(
    name: str, ranges: list, fetched: list, read: list, size: int
) -> None:
    said = document(name, size, ranges, programs={name: 3})
    svg = draw(said, {"fetched": fetched, "read": read})
    root = ElementTree.fromstring(svg)
    height = float(root.get("height", "0"))
    for one in root.iter(SVG + "rect"):
        left, top = float(one.get("x", "nan")), float(one.get("y", "nan"))
        assert 0 <= left <= left + float(one.get("width", "nan")) <= 960.1
        assert 0 <= top <= top + float(one.get("height", "nan")) <= height


def test_each_tile_has_the_colour_of_what_happened_to_it() -> None:
    level = TiffLevel(
        40, 20, 10, 10, 1, array("Q", range(100, 900, 100)), array("Q", [100] * 8), order=range(8)
    )
    said = document(ranges=[[100, 200], [200, 210]])
    history = {"fetched": [[0.0, 1.0, 100, 400]], "read": [[1.0, 1.0, 100, 210]]}
    svg = draw(said, history, TiffLayout((level,)))
    across, high = 210 / 4, 105 / 2
    tiles = {
        kind: sorted(
            (float(one.get("x", "0")) - 24) / across
            for one in boxes(svg, kind)
            if abs(float(one.get("height", "0")) - high) < 0.1
        )
        for kind in ("read", "unread")
    }
    # The second tile's first ten bytes were read, but not its middle: it does not count as read.
    assert [round(x) for x in tiles["read"]] == [0]
    assert [round(x) for x in tiles["unread"]] == [1, 2]


def test_what_was_not_read_is_counted() -> None:
    said = document(ranges=[[0, 100]], store={"requests": 1})
    svg = draw(said, {"fetched": [[0, 1, 0, 400]], "read": [[1, 1, 0, 100]]})
    assert "100 of them read, 400 fetched in 1 request, 300 fetched and not read" in svg

"""The pure parts: ranges, pages, patterns, geometry, filters, timestamps."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.emulator import cql, pattern_bytes
from up42fs.emulator.clock import format_offset, format_z, parse_us
from up42fs.emulator.content import BLOCK_BYTES, BytesContent, PatternContent
from up42fs.emulator.geometry import boxes_intersect, intersects_box
from up42fs.emulator.objects import UnsatisfiableRangeError, parse_range
from up42fs.emulator.pages import envelope, sort_rows
from up42fs.emulator.stac_json import footprint

sizes = st.integers(0, 50)


@given(sizes, st.integers(0, 60), st.integers(0, 60))
def test_closed_ranges_select_what_slicing_does(size: int, first: int, last: int) -> None:
    text = f"bytes={first}-{last}"
    if last < first:
        assert parse_range(text, size) is None
    elif first >= size:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(text, size)
    else:
        assert parse_range(text, size) == (first, min(size, last + 1))


@given(sizes, st.integers(0, 60))
def test_suffixes_and_open_ends(size: int, count: int) -> None:
    data = bytes(range(size))
    cases = {f"bytes=-{count}": data[-count:] if count else b"", f"bytes={count}-": data[count:]}
    for text, wanted in cases.items():
        if wanted:
            span = parse_range(text, size)
            assert span is not None
            assert data[slice(*span)] == wanted
        else:
            with pytest.raises(UnsatisfiableRangeError):
                parse_range(text, size)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,4-5",
        "items=0-1",
        "bytes=5-2",
        "bytes=0-" + "9" * 30,
    ],
)
def test_malformed_and_multiple_ranges_are_ignored(text: str | None) -> None:
    assert parse_range(text, 10) is None


@given(st.lists(st.integers(), max_size=60), st.integers(0, 8), st.integers(1, 9))
def test_page_envelopes_tile_the_rows(rows: list[int], page: int, size: int) -> None:
    answer = envelope(rows, page, size, lambda row: {"id": row})
    pages = [
        [entry["id"] for entry in envelope(rows, n, size, lambda row: {"id": row})["content"]]
        for n in range(answer["totalPages"])
    ]
    assert list(chain.from_iterable(pages)) == rows
    assert answer["totalElements"] == len(rows)
    assert answer["numberOfElements"] == len(answer["content"])
    assert answer["empty"] == (not answer["content"])
    assert answer["last"] == (page >= len(pages) - 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3))))
def test_sorting_is_stable_and_puts_nulls_last(pairs: list[tuple[int, int | None]]) -> None:
    rows = [SimpleNamespace(id=n, a=a, b=b) for n, (a, b) in enumerate(pairs)]
    keys = [(lambda r: r.a, True), (lambda r: (r.b is None, r.b or 0), False)]
    ordered = sort_rows(rows, keys)
    assert ordered == sorted(rows, key=lambda r: (-r.a, r.b is None, r.b or 0, r.id))


@given(st.integers(0, 3 * BLOCK_BYTES), st.integers(0, 5000), st.integers(0, 7))
def test_any_part_of_a_pattern_equals_the_same_part_of_the_whole(
    offset: int, size: int, seed: int
) -> None:
    part = pattern_bytes(seed, offset, size)
    assert len(part) == size
    cut = size // 3
    assert part == pattern_bytes(seed, offset, cut) + pattern_bytes(seed, offset + cut, size - cut)


def test_pattern_blocks_and_seeds_differ() -> None:
    blocks = {pattern_bytes(1, n * BLOCK_BYTES, 64) for n in range(500)}
    assert len(blocks) == 500
    assert pattern_bytes(1, 0, 64) != pattern_bytes(2, 0, 64)
    assert PatternContent(1, 5).identity != PatternContent(1, 6).identity
    assert BytesContent(b"a").identity != BytesContent(b"b").identity


coordinates = st.integers(-20, 20).map(float)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 9), st.integers(1, 9)).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)


def _polygon(box: tuple[float, float, float, float]) -> dict[str, object]:
    return footprint(SimpleNamespace(bbox=box))  # type: ignore[arg-type]


@given(boxes, boxes)
def test_a_rectangle_meets_another_as_a_polygon_as_it_does_as_a_box(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> None:
    assert intersects_box(_polygon(one), other) == boxes_intersect(one, other)


@given(boxes, coordinates, coordinates)
def test_points(box: tuple[float, float, float, float], x: float, y: float) -> None:
    inside = box[0] <= x <= box[2] and box[1] <= y <= box[3]
    assert intersects_box({"type": "Point", "coordinates": [x, y]}, box) == inside


def test_a_hole_does_not_touch_what_lies_in_it() -> None:
    outer, hole = _polygon((0, 0, 10, 10)), _polygon((2, 2, 8, 8))
    rings = [outer["coordinates"][0], hole["coordinates"][0]]  # type: ignore[index]
    ring_shape = {"type": "MultiPolygon", "coordinates": [rings]}
    assert not intersects_box(ring_shape, (4, 4, 5, 5))
    assert intersects_box(ring_shape, (1, 1, 1.5, 1.5))
    with pytest.raises(ValueError, match="not a geometry"):
        intersects_box({"type": "Nonsense"}, (0, 0, 1, 1))


VALUES = {
    "order_id": "o1", "gsd": 0.5, "tags": ["a", "b c"], "title": None, "eo:cloud_cover": 12,
    "datetime": "2024-03-01T10:00:00+00:00", "geometry": (0.0, 0.0, 1.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("order_id = 'o1'", True),
        ("order_id='o2' OR gsd < 1", True),
        ("order_id='o1' AND NOT gsd >= 0.5", False),
        ("gsd BETWEEN 0.1 AND 0.6 AND eo:cloud_cover <> 3", True),
        ("tags IN ('x', 'b c') and \"eo:cloud_cover\" <= 12", True),
        ("title IS NULL", True),
        ("order_id IS NOT NULL and (title = 'x' or order_id like 'o_')", True),
        ("datetime > TIMESTAMP('2024-03-01T09:00:00Z')", True),
        ("datetime = '2024-03-01T10:00:00Z'", True),
        ("order_id not like '%1'", False),
    ],
)
def test_cql_text(text: str, expected: bool) -> None:
    assert cql.holds(cql.parse_text(text), VALUES) is expected


@pytest.mark.parametrize("text", ["", "order_id", "order_id = ", "= 3", "a = 'x' garbage", "a ~ 1"])
def test_malformed_cql_text_is_refused(text: str) -> None:
    with pytest.raises(cql.CqlError):
        cql.holds(cql.parse_text(text), {"order_id": "x", "a": "x"})


def test_cql_json_operators() -> None:
    prop = {"property": "tags"}
    assert cql.holds({"op": "a_contains", "args": [prop, ["a"]]}, VALUES)
    assert not cql.holds({"op": "a_contains", "args": [prop, ["a", "z"]]}, VALUES)
    assert cql.holds({"op": "a_overlaps", "args": [prop, ["z", "a"]]}, VALUES)
    point = {"type": "Point", "coordinates": [0.5, 0.5]}
    assert cql.holds({"op": "s_intersects", "args": [{"property": "geometry"}, point]}, VALUES)
    for bad in ({"op": "frob", "args": [prop, 1]}, {"op": "=", "args": []},
                {"op": "=", "args": [{"property": "nope"}, 1]},
                {"op": "<", "args": [{"property": "gsd"}, "x"]}):  # fmt: skip
        with pytest.raises(cql.CqlError):
            cql.holds(bad, VALUES)
    assert cql.unwrap({"max_items": 3, "filter": {"filter": {"op": "x"}}}) == {"op": "x"}
    assert cql.unwrap({}) is None


def test_plain_equalities_are_seen_through_and() -> None:
    both = cql.parse_text("gsd < 1 AND order_id = 'o1'")
    assert cql.equal_to(both, "order_id") == "o1"
    assert cql.equal_to(cql.parse_text("gsd < 1 OR order_id = 'o1'"), "order_id") is None


@given(st.integers(0, 4_000_000_000_000_000))
def test_timestamps_round_trip(us: int) -> None:
    assert parse_us(format_z(us)) == us
    assert parse_us(format_offset(us)) == us
    assert parse_us(format_z(us, 3)) == us // 1000 * 1000

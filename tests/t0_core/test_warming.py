"""Which bytes a map needs, and in which pieces they are read."""

from __future__ import annotations

from array import array
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli.warm.ranges import (
    MAP_PIECE_BYTES,
    PIECE_BYTES,
    Window,
    map_ranges,
    pieces,
    requests,
)
from up42fs.ranges import RangeSet
from up42fs.readahead.plan import Exact, Plan
from up42fs.readahead.tiff import TiffLayout, TiffLevel
from up42fs.types import ByteRange

SIZE = 10**9


@st.composite
def layouts(draw: st.DrawFn) -> TiffLayout:
    """A pyramid whose tiles lie anywhere, some of them sparse."""
    tile = draw(st.sampled_from([16, 256, 512]))
    width, height = draw(st.integers(1, 6 * tile)), draw(st.integers(1, 6 * tile))
    planes = draw(st.sampled_from([1, 3]))
    levels = []
    for number in range(draw(st.integers(1, 4))):
        w, h = max(1, width >> number), max(1, height >> number)
        count = -(-w // tile) * -(-h // tile) * planes
        seed = draw(st.integers(1, 10**6))
        starts = [1 + (seed + 7919 * i) * 6151 % (SIZE - 10**6) for i in range(count)]
        lengths = [(seed + i) % 5 * 1000 for i in range(count)]
        levels.append(
            TiffLevel(w, h, tile, tile, planes, array("Q", starts), array("Q", lengths), number > 0)
        )
    return TiffLayout(tuple(levels))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    left, top = draw(st.integers(-100, 3000)), draw(st.integers(-100, 3000))
    return Window(left, top, left + draw(st.integers(1, 3000)), top + draw(st.integers(1, 3000)))


def tiles(level: TiffLevel) -> product:
    return product(range(level.planes), range(level.down), range(level.across))


@given(layouts(), windows(), st.booleans())
def test_every_tile_under_the_window_is_there(
    layout: TiffLayout, window: Window, overviews: bool
) -> None:
    ranges = map_ranges(layout, SIZE, overviews=overviews, window=window)
    held = RangeSet(ranges)
    full = layout.levels[0]
    for level in layout.levels:
        if overviews and not level.is_reduced:
            continue
        for plane, row, column in product(
            range(level.planes), range(level.down), range(level.across)
        ):
            left, right = column * level.tile_width, (column + 1) * level.tile_width
            top, bottom = row * level.tile_height, (row + 1) * level.tile_height
            # In pixels of the full resolution, the tile without its edge, where rounding decides.
            scale_x, scale_y = full.width / level.width, full.height / level.height
            is_under = (
                left * scale_x + scale_x < window.right
                and min(right, level.width) * scale_x - scale_x > window.left
                and top * scale_y + scale_y < window.bottom
                and min(bottom, level.height) * scale_y - scale_y > window.top
            )
            span = level.span(plane, row, column)
            if is_under and span is not None:
                assert held.covers(span)


@given(layouts(), windows())
def test_less_is_never_more(layout: TiffLayout, window: Window) -> None:
    everything = RangeSet(map_ranges(layout, SIZE, overviews=False, window=None))
    for overviews, box in ((True, None), (False, window), (True, window)):
        for span in map_ranges(layout, SIZE, overviews=overviews, window=box):
            assert everything.covers(span)


@given(layouts())
def test_overviews_are_all_of_the_reduced_levels(layout: TiffLayout) -> None:
    held = RangeSet(map_ranges(layout, SIZE, overviews=True, window=None))
    assert bool(held) == any(level.stored_bytes and level.is_reduced for level in layout.levels)
    for level in layout.levels[1:]:
        for plane, row, column in product(
            range(level.planes), range(level.down), range(level.across)
        ):
            span = level.span(plane, row, column)
            assert span is None or held.covers(span)


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 100)), max_size=20),
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 100)), min_size=1, max_size=20),
)
def test_exact_reads_ask_for_what_is_missing_and_nothing_else(
    held: list[tuple[int, int]], reads: list[tuple[int, int]]
) -> None:
    have = RangeSet(ByteRange(start, start + length) for start, length in held)
    access = Exact(1000)
    for start, length in reads:
        wanted = ByteRange(start, start + length)
        plan = access.on_read(wanted, have, 1 << 20)
        assert plan == Plan(demand=tuple(have.missing(wanted)))
        for span in plan.demand:
            have.add(span)
    assert access.on_close() == Plan()
    assert not access.reads_ahead


def test_what_is_no_tiff_needs_nothing() -> None:
    assert map_ranges(TiffLayout(is_tiff=False), SIZE, overviews=False, window=None) == []


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**8)), max_size=10),
    st.sampled_from([PIECE_BYTES, MAP_PIECE_BYTES]),
)
def test_pieces_are_all_and_short(spans: list[tuple[int, int]], most: int) -> None:
    ranges = [ByteRange(start, start + length) for start, length in spans]
    cut = pieces(ranges, most)
    assert all(0 < len(piece) <= most for piece in cut)
    assert sum(map(len, cut)) == sum(map(len, ranges))
    assert len(cut) <= requests(ranges, most) <= sum(len(r) for r in ranges) // 2**20 + len(cut)

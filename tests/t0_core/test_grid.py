"""Windows in a grid: what is foretold is what a program reads next, whatever its windows' size."""

from __future__ import annotations

from itertools import islice

from hypothesis import assume, given
from hypothesis import strategies as st

from up42fs.readahead.grid import STEPS, Grid, Pane

ACROSS, DOWN = 60, 40
sides = st.integers(1, 7)


def tiles(pane: Pane) -> set[tuple[int, int]]:
    rows, cols = range(pane.top, pane.bottom + 1), range(pane.left, pane.right + 1)
    return {(row, col) for row in rows for col in cols}


def windows(tile: int, side: int, left: int, top: int, columns: int) -> list[list[Pane]]:
    """Rows of windows of `side` pixels as a program reads them: tiles that it holds not again."""
    grid = []
    for y in range(top, DOWN * tile - side, side):
        row: list[Pane] = []
        for x in range(left, min(left + columns * side, ACROSS * tile - side + 1), side):
            first = x // tile if not row else max(x // tile, row[-1].right + 1)
            last = (x + side - 1) // tile
            if first <= last:
                row.append(Pane(y // tile, first, (y + side - 1) // tile, last))
        grid.append(row)
    return grid


def play(grid: Grid, panes: list[Pane]) -> None:
    for pane in panes:
        grid.begin(pane.top, pane.left)
        grid.end(pane, 100)


@given(st.integers(100, 600), st.integers(600, 2000), st.integers(0, 900), st.integers(3, 9))
def test_the_rest_of_a_row_of_windows_is_foretold(
    tile: int, side: int, left: int, columns: int
) -> None:
    assume(side >= tile)
    row = windows(tile, side, left, 0, columns)[0]
    assume(len(row) > STEPS + 2)
    grid = Grid(ACROSS, DOWN)
    for number, pane in enumerate(row[:-1]):
        grid.begin(pane.top, pane.left)
        foretold = next(iter(grid.coming(pane)), None)
        if number < STEPS:
            assert foretold is None
            assert not grid.allowed_bytes
        else:
            assert foretold is not None
            assert (foretold.top, foretold.bottom) == (pane.top, pane.bottom)
            assert foretold.left == row[number + 1].left
            assert abs(foretold.right - row[number + 1].right) <= 1, "steps differ by a tile"
        grid.end(pane, 100)


@given(
    st.integers(2, 6), st.integers(2, 4), st.integers(1, 4), st.integers(0, 9), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_after_one_row_of_windows_all_others_are_known(
    columns: int, rows: int, wide: int, left: int, whole_width: bool, upward: bool
) -> None:
    """Also where a row ends, be it inside the image, and whether the next is below or above."""
    lefts = range(left, ACROSS, wide) if whole_width else range(left, left + columns * wide, wide)
    order = [
        Pane(top, at, top + 1, min(at + wide, ACROSS) - 1)
        for top in range(20, 20 + 2 * rows, 2)[:: -1 if upward else 1]
        for at in lefts
    ]
    grid = Grid(ACROSS, DOWN)
    play(grid, order[: len(lefts)])
    for number in range(len(lefts), len(order)):
        pane = order[number]
        grid.begin(pane.top, pane.left)
        if grid.steps >= STEPS and not (wide == 1 and whole_width):
            rest = order[number + 1 :][:40]
            assert list(islice(grid.coming(pane), len(rest))) == rest
        grid.end(pane, 100)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50)), min_size=4, max_size=20))
def test_windows_here_and_there_foretell_nothing(corners: list[tuple[int, int]]) -> None:
    grid, last = Grid(ACROSS, DOWN), (-9, -9)
    for row, col in corners:
        assume(row != last[0] and col != last[1])
        last = row, col
        pane = Pane(row, col, row + 2, col + 2)
        grid.begin(row, col)
        assert not grid.allowed_bytes
        assert not list(grid.coming(pane))
        grid.end(pane, 100)


@given(st.lists(st.tuples(st.integers(0, DOWN - 4), st.integers(0, ACROSS - 4), sides, sides)))
def test_whatever_is_read_nothing_is_foretold_twice_or_outside(
    read: list[tuple[int, int, int, int]],
) -> None:
    grid, total = Grid(ACROSS, DOWN), 0
    for row, col, rows, cols in read:
        pane = Pane(row, col, min(row + rows, DOWN) - 1, min(col + cols, ACROSS) - 1)
        grid.begin(row, col)
        seen = tiles(pane)
        for coming in grid.coming(pane):
            found = tiles(coming)
            assert found
            assert not found & seen
            assert all(0 <= row < DOWN and 0 <= col < ACROSS for row, col in found)
            seen |= found
        grid.end(pane, 1000)
        total += 1000
        assert grid.allowed_bytes <= max(1250, total // 4)


def test_who_leaves_a_grid_begins_anew() -> None:
    grid = Grid(ACROSS, DOWN)
    play(grid, [Pane(0, at, 1, at + 1) for at in range(0, 12, 2)])
    assert grid.allowed_bytes
    grid.begin(20, 31)
    assert not grid.allowed_bytes
    assert not list(grid.coming(Pane(20, 31, 21, 32)))

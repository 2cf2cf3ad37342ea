"""What totals tell, for services that count otherwise: a model with removals and odd rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import make_asset

from up42fs.catalog.index import Changes, Index
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.tables import UNCOUNTED
from up42fs.catalog.totals import LONGEST_IGNORED, Totals


class Model:
    """A listing of `rows` that counts `odd` more, and a reader that follows `Totals`."""

    def __init__(self, rows: int, odd: int) -> None:
        self.rows, self.odd, self.known = rows, odd, rows
        self.totals, self.refreshes, self.passes = Totals(), 1, 0
        self.totals.read_whole(rows + odd, rows)

    def refresh(self, told: int | None = None) -> None:
        total = self.rows + self.odd if told is None else told
        if not self.totals.is_explained(total, self.known, self.refreshes):
            self.passes += 1
            found = self.known != self.rows
            self.known = self.rows
            self.totals.read_whole(total, self.known)
            self.totals.acted_on(self.refreshes, found=found)
        self.refreshes += 1


@pytest.mark.claim("S58")
@settings(max_examples=500)
@given(
    rows=st.integers(100, 200),
    odd=st.integers(-3, 50),
    steps=st.lists(st.integers(0, 3), max_size=30),
)
def test_every_removal_is_found_by_the_next_refresh(rows: int, odd: int, steps: list[int]) -> None:
    model = Model(rows, odd)
    for removed in steps:
        model.rows -= removed
        model.refresh()
        assert model.known == model.rows
    assert model.passes == sum(map(bool, steps))


@pytest.mark.claim("S162")
@given(st.lists(st.integers(0, 10_000), min_size=400, max_size=400))
def test_totals_that_mean_nothing_cost_little_and_are_believed_again(told: list[int]) -> None:
    model = Model(100, 0)
    for total in told:
        model.refresh(total)
    assert model.passes <= 8 + len(told) // LONGEST_IGNORED + 1
    model.refresh()
    for _ in range(2 * LONGEST_IGNORED):
        model.refresh()
    model.rows -= 1
    model.refresh()
    assert model.known == model.rows


def test_no_total_and_a_call_to_read_everything() -> None:
    totals = Totals()
    assert totals.is_explained(None, 5, 1)
    assert not totals.is_explained(-1, 5, 1)
    totals.read_whole(-1, 5)
    totals.read_whole(None, 5)
    assert totals.uncounted == 0


async def test_counts_are_kept_in_the_snapshot(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "c.sqlite")
    index = Index()
    recorder = Recorder(snapshot, index, lambda _: True)
    assert snapshot.load().uncounted == {}
    recorder.note(index.apply(Changes(assets=(make_asset(1),))))
    recorder.note_answer(UNCOUNTED + "assets", b"-4")
    recorder.note_answer(UNCOUNTED + "orders", b"x")
    await recorder.flush()
    assert Snapshot(tmp_path / "c.sqlite").load().uncounted == {"assets": -4}

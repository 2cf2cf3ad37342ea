"""What is known of closed files is bounded, and the oldest knowledge goes first."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from store_script import bench
from tiff_support import Image, write_tiff

from up42fs.core.structure import Format
from up42fs.store import files
from up42fs.store.insights import Insights


@dataclass(eq=False)
class Knower:
    insight_bytes: int

    def forget_insight(self) -> None:
        self.insight_bytes = 0


steps = st.lists(st.tuples(st.sampled_from(["closed", "opened", "learn"]), st.integers(0, 5)))


@given(st.integers(0, 60), st.lists(st.integers(0, 30), min_size=6, max_size=6), steps)
def test_against_a_model(most: int, sizes: list[int], actions: list[tuple[str, int]]) -> None:
    insights, knowers = Insights(most), [Knower(size) for size in sizes]
    idle: dict[int, int] = {}  # number -> bytes, the oldest first
    for action, number in actions:
        if action == "learn":
            if number not in idle:  # only who reads learns
                knowers[number].insight_bytes += 3
            continue
        idle.pop(number, None)
        if action == "closed":
            idle[number] = knowers[number].insight_bytes
            insights.closed(knowers[number])
            while sum(idle.values()) > most:
                del idle[next(iter(idle))]
        else:
            insights.opened(knowers[number])
        assert insights.held_bytes == sum(idle.values()) <= most
        for other, held_bytes in idle.items():
            assert knowers[other].insight_bytes == held_bytes


async def test_images_looked_at_once_do_not_pile_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_tiff([Image(16 * 40, 16 * 40, 16, [60] * 1600)])
    names = [f"image-{number}" for number in range(30)]
    monkeypatch.setattr(files, "INSIGHT_BYTES", 200_000)
    b = bench(nursery, dict.fromkeys(names, image))
    for name in [*names, names[0]]:
        file = b.files.open(name, size=len(image), name=name)
        await file.read(0, len(image))
        assert b.files.fetcher(name, len(image), name, None).insight.structure.image_at(0)
        file.close()
        held_bytes = b.files.gauges()["insight_bytes"]
        assert held_bytes <= 200_000
    known = [
        name
        for name in names
        if b.files.fetcher(name, len(image), name, None).insight.structure.format is Format.TIFF
    ]
    assert names[0] in known, "learned anew"
    assert 1 < len(known) < 15
    assert held_bytes > 100_000

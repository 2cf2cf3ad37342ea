"""What is known of closed files is bounded, and the oldest knowledge goes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from store_script import bench
from tiff_support import Image, write_tiff

from up42fs.readahead.contents import Format
from up42fs.store import objects
from up42fs.store.insights import Insights
from up42fs.store.members.extent import StoredObject


@dataclass(eq=False)
class Knower:
    insight_bytes: int

    def forget_insight(self) -> None:
        self.insight_bytes = 0


steps = st.lists(
    st.tuples(st.sampled_from(["closed", "opened", "learn", "dropped"]), st.integers(0, 5))
)


@pytest.mark.claim("S140")
@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.lists(st.integers(0, 30), min_size=6, max_size=6),
    steps,
)
def test_against_a_model(
    most_idle: int, more: int, sizes: list[int], actions: list[tuple[str, int]]
) -> None:
    most = most_idle + more
    insights = Insights(most_idle, most)
    knowers: list[Any] = [Knower(0) for _ in sizes]
    idle: list[int] = []  # numbers, the oldest first
    opened: set[int] = set()
    for action, number in actions:
        one = knowers[number]
        if action == "learn" and number in opened:  # only who reads learns
            one.insight_bytes += sizes[number]
            insights.learned(one)
        elif action == "opened":
            insights.opened(one)
            opened.add(number)
            idle = [other for other in idle if other != number]
        elif action == "closed" and number in opened:
            insights.closed(one)
            opened.discard(number)
            idle.append(number)
        elif action == "dropped":
            insights.dropped(one)
            opened.discard(number)
            idle = [other for other in idle if other != number]
            one.insight_bytes = 0
        known = sum(knowers[other].insight_bytes for other in {*idle, *opened})
        assert insights.held_bytes == known <= most
        assert sum(knowers[other].insight_bytes for other in idle) <= most_idle


async def test_tables_of_open_images_are_bounded_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are open all at once: some are read as plain bytes, and all are read right."""
    image = write_tiff([Image(16 * 40, 16 * 40, 16, [60] * 1600)])
    names = [f"image-{number}" for number in range(30)]
    monkeypatch.setattr(objects, "INSIGHT_BYTES", 30_000)
    b = bench(nursery, dict.fromkeys(names, image))
    opened = [b.files.open(StoredObject(name, len(image), name)) for name in names]
    for _ in range(2):
        for file in opened:
            assert bytes(await file.read(0, len(image))) == image
            assert b.files.gauges()["insight_bytes"] <= 4 * 30_000
    known = [
        b.files._objects.fetcher(name, len(image), name, None).insight.structure for name in names
    ]
    assert 1 < sum(one.image_at(0) is not None for one in known) < 15
    forgotten = next(n for n, one in zip(names, known, strict=True) if one.is_forgotten)
    for file in opened:
        file.close()
    with_hints = b.files.open(StoredObject(forgotten, len(image), forgotten))
    await with_hints.read(0, len(image))
    assert b.files._objects.fetcher(forgotten, len(image), "", None).insight.structure.image_at(0)
    with_hints.close()


async def test_images_looked_at_once_do_not_pile_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_tiff([Image(16 * 40, 16 * 40, 16, [60] * 1600)])
    names = [f"image-{number}" for number in range(30)]
    monkeypatch.setattr(objects, "INSIGHT_BYTES", 200_000)
    b = bench(nursery, dict.fromkeys(names, image))
    for name in [*names, names[0]]:
        file = b.files.open(StoredObject(name, len(image), name))
        await file.read(0, len(image))
        assert b.files._objects.fetcher(name, len(image), name, None).insight.structure.image_at(0)
        file.close()
        held_bytes = b.files.gauges()["insight_bytes"]
        assert held_bytes <= 200_000
    known = [
        name
        for name in names
        if b.files._objects.fetcher(name, len(image), name, None).insight.structure.format
        is Format.TIFF
    ]
    assert names[0] in known, "learned anew"
    assert 1 < len(known) < 15
    assert held_bytes > 100_000

"""What crafted files cost those who parse them: never more than the file's budget, whole life long.

Each of these froze the mount before there was a budget, for 1 to 45 seconds.
"""

from __future__ import annotations

import functools
import random
import time
import tracemalloc
from collections.abc import Callable

import hostile_files
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiff_support import Image, write_tiff

from up42fs.ranges import RangeSet
from up42fs.readahead import tiff
from up42fs.readahead import zip as zips
from up42fs.readahead.contents import Format, Structure
from up42fs.readahead.parse_budget import (
    BYTES_A_STEP,
    MOST_HELD_BYTES,
    MOST_STEPS,
    OverBudgetError,
    ParseBudget,
)
from up42fs.readahead.plan import Access, Insight
from up42fs.types import ByteRange

MIB = 1 << 20
FILES: dict[str, Callable[[], bytes]] = {
    "64 directories share a table of 2^20 tiles": hostile_files.shared_table,
    "64 directories share a table of 2^16": lambda: hostile_files.shared_table(1 << 16),
    "tiles lie over each other": hostile_files.overlapping,
    "tiles lie over each other in 64 levels": lambda: hostile_files.overlapping(1 << 14, 64),
    "2^20 tiles in no order": hostile_files.shuffled,
    "2^18 tiles in no order": lambda: hostile_files.shuffled(1 << 18),
    "hardly any tile is there": hostile_files.sparse,
    "an archive of 65535 members": hostile_files.archive,
    "members with 16383 empty fields": lambda: hostile_files.archive(
        500, hostile_files.empty_extras()
    ),
}


@functools.cache
def made(what: str) -> bytes:
    return FILES[what]()


class Life:
    """An object that is read at random, all of its bytes at hand or none."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.insight = Insight(len(data))
        self.access = Access(len(data), None, self.insight)
        self.earned = 0
        self.guesses = 0

    def get(self, span: ByteRange) -> memoryview:
        return memoryview(self.data)[span.start : span.stop]

    def read(self, start: int, length: int, *, here: bool) -> None:
        span = ByteRange(start, min(start + length, len(self.data)))
        have = RangeSet([ByteRange(0, len(self.data))] if here else [])
        plan = self.access.on_read(span, have, 64 * MIB)
        self.guesses = max(self.guesses, len(plan.guesses))
        self.insight.structure.learn(span, self.get)
        self.earned += len(span) // BYTES_A_STEP


@pytest.mark.claim("S140")
@pytest.mark.parametrize("length", [4096, MIB], ids=["pages", "megabytes"])
@pytest.mark.parametrize("what", FILES)
def test_no_file_costs_more_than_its_budget(what: str, length: int) -> None:
    data = made(what)
    chance = random.Random(3)
    life = Life(data)
    began_s = time.process_time()
    places = [0, max(0, len(data) - length)]
    places += [chance.randrange(max(1, len(data) - length)) for _ in range(60)]
    for number, place in enumerate(places):
        life.read(place, length, here=bool(number % 2))
    took_s = time.process_time() - began_s
    structure = life.insight.structure
    assert 0 <= structure.budget.steps <= MOST_STEPS
    assert structure.budget.held_bytes >= 0
    assert structure.held_bytes <= MOST_HELD_BYTES - structure.budget.held_bytes + 4096
    assert life.guesses <= 2048
    assert took_s < 6  # generous: 0.1 to 0.6 s on an idle machine


@pytest.mark.claim("S140")
def test_memory_while_tables_are_parsed() -> None:
    """It was 1.2 GiB."""
    data = made("64 directories share a table of 2^20 tiles")
    tracemalloc.start()
    life = Life(data)
    for _ in range(3):
        life.read(0, 4096, here=True)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 80 * MIB


@pytest.mark.claim("S140")
def test_a_look_at_the_tables_is_short_whatever_they_say() -> None:
    data = hostile_files.overlapping(1 << 16)
    layout = tiff.parse(len(data), lambda span: data[span.start : span.stop])
    assert len(layout.levels[0].offsets) == 1 << 16
    assert len(layout.under(ByteRange(0, len(data)))) == tiff.MOST_UNDER


def test_large_images_of_honest_makers_are_known() -> None:
    """A budget that is too small would cost requests."""
    many = 1 << 20
    first = 8 + 78 + 8 * many
    for offsets in (
        range(first, first + 9 * many, 9),
        # Holes, as mosaics have them; and in two runs, as what was added to a file later.
        [0 if n % 7 == 0 else first + 9 * n for n in range(many)],
        [first + 9 * (n ^ (1 << 19)) for n in range(many)],
    ):
        counts = [9 if offset else 0 for offset in offsets]
        head = hostile_files.tiff(offsets, counts)
        size = first + 9 * many

        def get(span: ByteRange, head: bytes = head) -> bytes | None:
            return head[span.start : span.stop] if span.stop <= len(head) else None

        structure = Structure(size)
        structure.learn(ByteRange(0, 4096), get)
        image = structure.image_at(0)
        assert image is not None
        assert image.layout is not None
        assert len(image.layout.levels[0].offsets) == many
        assert structure.held_bytes <= 13 * many


def test_tiles_in_no_order_are_known_up_to_a_hundred_thousand() -> None:
    many = 1 << 17
    side = 362
    offsets = list(range(100_000, 100_000 + side * side))
    random.Random(1).shuffle(offsets)
    data = hostile_files.tiff(offsets, [1] * len(offsets), side=16 * side)
    layout = tiff.parse(len(data) + many, lambda span: data[span.start : span.stop])
    assert len(layout.levels[0].offsets) == side * side
    assert layout.under(ByteRange(100_005, 100_006))


def test_a_large_image_is_learned_in_several_reads() -> None:
    data = hostile_files.shared_table(1 << 16, directories=8)
    structure = Structure(len(data))
    known = []
    for number in range(8):
        structure.learn(
            ByteRange(number * 4096, number * 4096 + 4096), lambda s: data[s.start : s.stop]
        )
        image = structure.image_at(0)
        assert image is not None
        assert image.layout is not None
        known.append(len(image.layout.levels))
        lacking = image.layout.lacking
    assert known[0] < 8, "the first read paid for all"
    assert known[-1] == 8
    assert not lacking


def test_nothing_is_parsed_twice_while_tables_are_missing() -> None:
    """Sixty reads beside tables that never come cost as much as one."""
    levels = [Image(16 * 64, 16 * 64, 16, [60] * 4096, reduced=n > 0) for n in range(6)]
    data = write_tiff(levels, tables_last=False)
    tables = [(256, 40_000), (60_000, 90_000)]

    def get(span: ByteRange) -> bytes | None:
        if any(start < span.stop and span.start < stop for start, stop in tables):
            return None
        return data[span.start : span.stop]

    structure = Structure(len(data))
    structure.learn(ByteRange(0, 4096), get)
    left = structure.budget.steps
    for number in range(60):
        structure.learn(ByteRange(4096 * number, 4096 * number + 4096), get)
    assert structure.budget.steps >= left


@given(
    st.lists(st.tuples(st.integers(0, 1 << 21), st.integers(0, 8 << 20), st.integers(0, 1 << 24)))
)
def test_a_budget_is_never_overdrawn(actions: list[tuple[int, int, int]]) -> None:
    budget, steps, held = ParseBudget(), MOST_STEPS, MOST_HELD_BYTES
    for more_steps, more_bytes, read_bytes in actions:
        budget.earn(read_bytes)
        steps = min(MOST_STEPS, steps + read_bytes // BYTES_A_STEP)
        fits = more_steps <= steps and more_bytes <= held
        try:
            budget.spend(more_steps, more_bytes)
            assert fits
            steps, held = steps - more_steps, held - more_bytes
        except OverBudgetError:
            assert not fits
        assert (budget.steps, budget.held_bytes) == (steps, held)
    assert budget.renewed() == ParseBudget(steps, MOST_HELD_BYTES)


def test_forgetting_does_not_refill_the_budget() -> None:
    """Else a file that is forgotten for its size would be parsed anew at each open."""
    data = hostile_files.shared_table()
    budget = ParseBudget()
    for _ in range(20):
        structure = Structure(len(data), budget)
        for _ in range(4):
            structure.learn(ByteRange(0, 4096), lambda span: data[span.start : span.stop])
        structure.forget()
        assert structure.held_bytes == 0
        assert structure.image_at(0) is None
        budget = budget.renewed()
    assert budget.steps < MOST_STEPS // 4


def test_members_that_overlap_are_no_images() -> None:
    tiff_bytes = write_tiff([Image(64, 64, 16, [50] * 16)])
    local = b"PK\x03\x04" + bytes(26)
    data = local + tiff_bytes
    members = [(0, len(tiff_bytes), True), (1, len(tiff_bytes) - 1, True)]
    structure = Structure(len(data) + 10)
    structure.format = Format.ZIP
    structure._members = zips.Members(members, None)
    structure._add(30, len(tiff_bytes))
    structure._add(30, len(tiff_bytes))
    structure._add(31, 100)
    structure._add(20, 20)
    assert [image.base for image in structure._images] == [30]

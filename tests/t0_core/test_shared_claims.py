"""Which process fetches a range that several want: decided by rules, with any of them dying."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.disk import claims
from up42fs.store.disk.claims import Next, Patience, decide, pause_s, region
from up42fs.types import ByteRange

MIB = 1 << 20


@given(st.text(max_size=40), st.integers(0, 1 << 50), st.integers(1, 64 * MIB))
def test_a_region_has_the_length_of_its_range(object_id: str, start: int, length: int) -> None:
    span = ByteRange(start, start + length)
    found = region(object_id, span)
    if span.stop > 1 << claims.PLACE_BITS:
        assert found is None
    else:
        assert found is not None
        assert len(found) == length
        assert 0 <= found.start < found.stop <= 1 << 62  # what an offset of a lock may be


@given(st.lists(st.uuids().map(str), min_size=2, max_size=20, unique=True), st.integers(0, MIB))
def test_objects_have_regions_of_their_own(object_ids: list[str], start: int) -> None:
    """Twenty objects that are read at once seldom share one: a clash costs a wait, no bytes."""
    found = {region(one, ByteRange(start, start + 1)) for one in object_ids}
    assert len(found) >= len(object_ids) - 1


@given(st.floats(0, 100))
def test_pauses_grow_and_are_bounded(waited_s: float) -> None:
    assert claims.FIRST_LOOK_S <= pause_s(waited_s) <= claims.LAST_LOOK_S
    assert pause_s(waited_s) <= pause_s(waited_s + 1)


@given(st.booleans(), st.booleans(), st.floats(0, 60), st.floats(0, 60))
def test_a_look_is_decided(
    is_held: bool, is_ours: bool, waited_s: float, patience_s: float
) -> None:
    verdict = decide(is_held=is_held, is_ours=is_ours, waited_s=waited_s, patience_s=patience_s)
    if is_held:
        assert verdict is Next.LOAD
    else:
        assert (verdict is Next.WAIT) == (not is_ours and waited_s < patience_s)


@given(st.lists(st.booleans(), max_size=20), st.booleans(), st.floats(0, 60))
def test_nobody_waits_again_and_again_in_vain(
    brought: list[bool], wanted: bool, left_s: float
) -> None:
    patience, now_s = Patience(), 100.0
    for one in brought:
        patience.waited(now_s, brought=one)
    longest_s = patience.longest_s(now_s, wanted=wanted, left_s=left_s)
    assert 0 <= longest_s <= (min(claims.WANTED_S, left_s) if wanted else claims.AHEAD_S)
    if brought[-2:] == [False, False] and brought.count(False) == 2:
        assert longest_s == 0
        later_s = now_s + claims.ALONE_S
        assert patience.longest_s(later_s, wanted=False, left_s=left_s) == claims.AHEAD_S


@dataclass
class _Disk:
    """What all processes see: ranges stored, and who has claimed what."""

    stored: set[int] = field(default_factory=set)
    claims: dict[int, set[int]] = field(default_factory=dict)
    fetched: list[tuple[int, int]] = field(default_factory=list)

    def claim(self, who: int, cells: set[int]) -> bool:
        if any(held & cells for other, held in self.claims.items() if other != who):
            return False
        self.claims[who] = cells
        return True


class _Process:
    """One reader of cells in order, as `disk.layered` does it, a step at a time."""

    def __init__(self, number: int, disk: _Disk, first: int, last: int) -> None:
        self.number, self.disk, self.last = number, disk, last
        self.at, self.waited_s, self.fetching = first, 0.0, False

    @property
    def is_over(self) -> bool:
        return self.at >= self.last

    def step(self, patience_s: float) -> None:
        disk, cells = self.disk, set(range(self.at, self.last))
        if self.fetching:
            disk.fetched += [(self.number, cell) for cell in sorted(cells - disk.stored)]
            disk.stored |= cells
            disk.claims.pop(self.number, None)  # after the bytes are stored
            self.at, self.fetching = self.last, False
            return
        is_ours = disk.claim(self.number, cells - disk.stored)
        is_held = self.at in disk.stored
        verdict = decide(
            is_held=is_held, is_ours=is_ours, waited_s=self.waited_s, patience_s=patience_s
        )
        if verdict is Next.LOAD:
            disk.claims.pop(self.number, None)
            while self.at in disk.stored and self.at < self.last:
                self.at += 1
            self.waited_s = 0.0
        elif verdict is Next.FETCH:
            self.fetching = True
        else:
            self.waited_s += pause_s(self.waited_s)

    def die(self) -> None:
        self.disk.claims.pop(self.number, None)  # the kernel does
        self.at = self.last


SPANS = st.tuples(st.integers(0, 12), st.integers(1, 12)).map(lambda t: (t[0], t[0] + t[1]))


@pytest.mark.claim("S270")
@given(
    st.lists(SPANS, min_size=2, max_size=5),
    st.lists(st.integers(0, 4), max_size=80),
    st.lists(st.integers(0, 4), max_size=3),
)
def test_each_cell_is_fetched_once(
    spans: list[tuple[int, int]], order: list[int], deaths: list[int]
) -> None:
    """In any order of steps, with processes that die while they fetch."""
    disk = _Disk()
    processes = [_Process(number, disk, *span) for number, span in enumerate(spans)]
    killed = {number: 10 * (place + 1) for place, number in enumerate(deaths)}
    turns = [n % len(processes) for n in order]
    for step in range(20_000):
        left = [one for one in processes if not one.is_over]
        if not left:
            break
        one = processes[turns[step]] if step < len(turns) else left[step % len(left)]
        if killed.get(one.number) == step:
            one.die()
        if not one.is_over:
            one.step(patience_s=1e9)
    else:
        raise AssertionError("they wait for each other")
    cells = [cell for _, cell in disk.fetched]
    assert len(cells) == len(set(cells))
    alive = {n for n in range(len(spans)) if n not in killed}
    wanted = {cell for n in alive for cell in range(*spans[n])}
    assert wanted <= disk.stored


@given(st.floats(0, 10))
def test_a_claim_that_never_ends_is_waited_for_as_long_as_patience_lasts(patience_s: float) -> None:
    disk = _Disk(claims={9: set(range(10))})
    process = _Process(0, disk, 0, 10)
    longest_s = 0.0
    while not process.is_over:
        process.step(patience_s)
        longest_s = max(longest_s, process.waited_s)
    assert patience_s <= longest_s <= patience_s + claims.LAST_LOOK_S

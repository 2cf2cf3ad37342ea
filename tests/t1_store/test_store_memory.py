"""The memory budget and the queue of jobs, each by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.memory import MemoryCache
from up42fs.store.slots import Slots


@dataclass(eq=False)
class Entry:
    held_bytes: int
    in_use: bool = False
    evictions: list[Entry] = field(default_factory=list)

    def evict(self) -> None:
        self.evictions.append(self)


actions = st.lists(
    st.tuples(st.sampled_from(["add", "touch", "use", "leave", "room"]), st.integers(0, 40)),
    max_size=60,
)


@given(st.integers(0, 100), actions)
def test_the_budget_against_a_model(budget: int, steps: list[tuple[str, int]]) -> None:
    cache = MemoryCache(budget)
    gone: list[Entry] = []
    model: list[Entry] = []  # least recently used first
    for action, number in steps:
        chosen = model[number % len(model)] if model else None
        before = list(model)
        if action == "add":
            entry = Entry(number, evictions=gone)
            cache.add(entry)
            model.append(entry)
        elif action == "room":
            fits = cache.make_room(number)
            model = [entry for entry in model if entry not in gone]
            lost = [entry for entry in before if entry not in model]
            assert not any(entry.in_use for entry in lost)
            assert fits == (number + sum(e.held_bytes for e in model) <= budget)
            idle = [entry for entry in before if not entry.in_use]
            assert lost == idle[: len(lost)]  # oldest first
            if not fits:
                assert lost == []
                assert number + sum(e.held_bytes for e in model if e.in_use) > budget
        elif chosen is not None:
            chosen.in_use = {"use": True, "leave": False}.get(action, chosen.in_use)
            if action == "touch":
                cache.touch(chosen)
                model.remove(chosen)
                model.append(chosen)
        assert cache.used_bytes == sum(entry.held_bytes for entry in model)
        assert len(cache) == len(model)
    cache.shrink(budget + 1)
    assert cache.used_bytes == sum(entry.held_bytes for entry in model if entry.in_use)


def test_sizes_may_change_and_strangers_are_ignored() -> None:
    cache = MemoryCache(10)
    entry, stranger = Entry(5), Entry(7)
    cache.add(entry)
    entry.held_bytes = 2
    cache.recount(entry)
    cache.recount(stranger)
    cache.touch(stranger)
    cache.remove(stranger)
    assert cache.used_bytes == 2
    cache.remove(entry)
    assert cache.used_bytes == 0


class Work:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.release: dict[str, trio.Event] = {}

    async def __call__(self, job: str) -> None:
        self.begun.append(job)
        self.release[job] = trio.Event()
        await self.release[job].wait()


async def test_urgent_jobs_go_first_and_always_find_a_slot(nursery: trio.Nursery) -> None:
    work = Work()
    slots = Slots(nursery, work, total=3, ahead=2)
    for job in ("a1", "a2", "a3", "a4"):
        slots.submit(job, urgent=False)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(work.begun) == ["a1", "a2"]
    slots.submit("d1", urgent=True)
    slots.submit("d2", urgent=True)
    await trio.testing.wait_all_tasks_blocked()
    assert work.begun[2:] == ["d1"]
    assert slots.running == 3
    slots.promote("a4")
    assert slots.withdraw("a3")
    assert not slots.withdraw("a1")
    for job in ("a1", "a2", "d1"):
        work.release[job].set()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(work.begun[3:]) == ["a4", "d2"]
    for job in ("a4", "d2"):
        work.release[job].set()
    await trio.testing.wait_all_tasks_blocked()
    assert slots.running == 0


async def test_a_promoted_job_no_longer_fills_the_share_of_read_ahead(
    nursery: trio.Nursery,
) -> None:
    work = Work()
    slots = Slots(nursery, work, total=3, ahead=1)
    slots.submit("a1", urgent=False)
    slots.submit("a2", urgent=False)
    await trio.testing.wait_all_tasks_blocked()
    assert work.begun == ["a1"]
    slots.promote("a1")
    await trio.testing.wait_all_tasks_blocked()
    assert work.begun == ["a1", "a2"]
    for event in work.release.values():
        event.set()


async def test_groups_take_turns_and_none_has_every_slot(nursery: trio.Nursery) -> None:
    work = Work()
    slots = Slots(nursery, work, total=4, ahead=3, group=lambda job: job[0])
    for number in range(10):
        slots.submit(f"a{number}", urgent=True)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(work.begun) == ["a0", "a1", "a2"]  # the greedy one, whose answers may stall
    slots.submit("b0", urgent=True)
    slots.submit("b1", urgent=True)
    slots.submit("c0", urgent=True)
    await trio.testing.wait_all_tasks_blocked()
    assert work.begun[3:] == ["b0"]
    for job in ("a0", "a1", "a2"):  # each that ends makes room for who has least
        work.release[job].set()
        await trio.testing.wait_all_tasks_blocked()
    assert work.begun[4:] == ["c0", "a3", "a4"]
    slots.submit("d0", urgent=False)
    slots.submit("a-", urgent=False)
    work.release["b0"].set()
    await trio.testing.wait_all_tasks_blocked()
    assert work.begun[7:] == ["b1"]  # demand before read-ahead, whoever's

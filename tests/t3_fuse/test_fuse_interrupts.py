"""Which pending signals end a wait, and how waits are looked at."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Set
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from up42fs.fuse import interrupts
from up42fs.fuse.interrupts import Fate, Interrupts, Wait, fate, is_dying, is_exiting

NUMBERS = st.sets(st.integers(1, 64), max_size=8)
HARMLESS = {17, 18, 19, 20, 21, 22, 23, 28}


def mask(numbers: Set[int]) -> str:
    return f"{sum(1 << number - 1 for number in numbers):016x}"


def status(
    own: Set[int] = frozenset(),
    shared: Set[int] = frozenset(),
    *,
    blocked: Set[int] = frozenset(),
    ignored: Set[int] = frozenset(),
    caught: Set[int] = frozenset(),
    tracer: int = 0,
) -> str:
    fields = {
        "Name": "cat", "State": "S (sleeping)", "TracerPid": tracer,
        "SigPnd": mask(own), "ShdPnd": mask(shared), "SigBlk": mask(blocked),
        "SigIgn": mask(ignored), "SigCgt": mask(caught),
    }  # fmt: skip
    return "".join(f"{name}:\t{value}\n" for name, value in fields.items())


@given(own=NUMBERS, shared=NUMBERS, blocked=NUMBERS, ignored=NUMBERS, caught=NUMBERS)
def test_a_wait_ends_only_with_its_reader_or_where_it_is_asked_to(
    own: set[int], shared: set[int], blocked: set[int], ignored: set[int], caught: set[int]
) -> None:
    told = partial(status, own, shared, blocked=blocked, ignored=ignored, caught=caught)
    found = fate(told())
    heard = (own | shared) - blocked - ignored
    if 9 in own | shared or heard - caught - HARMLESS:
        assert found is Fate.ENDS
    elif heard & caught & {signal.SIGINT, signal.SIGTERM}:
        assert found is Fate.ASKED
    else:
        assert found is Fate.GOES_ON
    traced = fate(told(tracer=77))
    assert traced is (Fate.ENDS if 9 in own | shared else Fate.GOES_ON)


@given(st.text())
def test_what_is_no_status_ends_nothing(text: str) -> None:
    assert fate(text) is Fate.GOES_ON
    assert not is_exiting(text) or "D" in text


def test_this_process_goes_on() -> None:
    assert fate(Path("/proc/self/status").read_text()) is Fate.GOES_ON
    assert not is_exiting(Path("/proc/self/stat").read_text())


@pytest.mark.parametrize(
    ("flags", "state", "expected"), [(4, "D", True), (4, "S", False), (0, "D", False)]
)
def test_who_is_on_the_way_out(flags: int, state: str, expected: bool) -> None:
    assert is_exiting(f"7 (a ) D b) {state} 1 2 3 4 5 {flags} 8 9") is expected


def reader(proc: Path, number: int, text: str) -> None:
    directory = proc / str(number)
    directory.mkdir(exist_ok=True)
    (directory / "status").write_text(text)
    (directory / "stat").write_text(f"{number} (x) S 1 2 3 4 5 0 8")


@pytest.fixture(autouse=True)
def own_proc(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(str(os.getpid()))


async def turns(count: int = 2) -> None:
    await trio.sleep(interrupts.LOOK_S * count + 0.001)


@pytest.fixture
async def ended() -> list[int]:
    return []


def wait(ended: list[int], number: int, **fields: bool) -> Wait:
    end: Callable[[], None] = lambda: ended.append(number)  # noqa: E731
    return Wait(number, end, **fields)


async def test_one_interrupt_is_enough(
    tmp_path: Path, ended: list[int], autojump_clock: MockClock
) -> None:
    """A stray signal wakes the reader; the one that ends it comes later, without an INTERRUPT."""
    reader(tmp_path, 5, status({10}, caught={10}))
    async with trio.open_nursery() as nursery:
        looking = Interrupts(nursery, tmp_path)
        looking.begin(1, wait(ended, 5))
        looking.interrupted(1)
        await turns(5)
        assert ended == []
        reader(tmp_path, 5, status({9}))
        await turns()
        assert ended == [5]
        looking.over(1)
        assert len(looking) == 0


async def test_a_request_to_stop_must_be_pending_twice(
    tmp_path: Path, ended: list[int], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        looking = Interrupts(nursery, tmp_path)
        for unique, number in ((1, 5), (2, 6)):
            reader(tmp_path, number, status(shared={2}, caught={2}))
            looking.begin(unique, wait(ended, number))
            looking.interrupted(unique)
        assert ended == []
        reader(tmp_path, 6, status(caught={2}))  # another thread has taken it
        await turns()
        assert ended == [5]
        looking.over(1)
        looking.over(2)


async def test_who_hears_of_no_interrupt_is_looked_at_by_itself(
    tmp_path: Path, ended: list[int], autojump_clock: MockClock
) -> None:
    for number in (5, 6, 7, 8):
        reader(tmp_path, number, status())
    (tmp_path / "8/stat").write_text("8 (x) D 1 2 3 4 5 4 8")
    async with trio.open_nursery() as nursery:
        looking = Interrupts(nursery, tmp_path)
        for number in (5, 6, 8):
            looking.begin(number, wait(ended, number, is_deaf=number != 6))
        reader(tmp_path, 5, status({9}))
        reader(tmp_path, 6, status({9}))
        await turns()
        assert sorted(ended) == [5, 8], "6 is told of by the kernel"
        for number in (5, 6, 8):
            looking.over(number)


async def test_a_crowd_is_looked_at_in_turn(
    tmp_path: Path, ended: list[int], autojump_clock: MockClock
) -> None:
    numbers = range(100, 100 + 3 * interrupts.MOST_AT_ONCE)
    async with trio.open_nursery() as nursery:
        looking = Interrupts(nursery, tmp_path)
        for number in numbers:
            reader(tmp_path, number, status({9}))
            looking.begin(number, wait(ended, number, is_deaf=True))
        await turns(1)
        assert len(ended) == interrupts.MOST_AT_ONCE
        await turns(3)
        assert sorted(ended) == list(numbers)
        for number in numbers:
            looking.over(number)


@pytest.mark.claim("S187")
async def test_of_unseen_readers_go_those_that_die_at_once_and_the_unknown_late(
    tmp_path: Path, ended: list[int], mock_clock: MockClock
) -> None:
    """0 is nobody's number, 6 ends, 7 is known to go on, of 8 nobody knows and no signal came."""
    tells = {6: True, 7: False}
    async with trio.open_nursery() as nursery:
        looking = Interrupts(nursery, tmp_path, tells.get)
        for number in (0, 6, 7, 9):
            looking.begin(number, wait(ended, number))
            looking.interrupted(number)
        looking.begin(8, wait(ended, 8, is_deaf=True))
        looking.interrupted(3)  # of no request that waits

        async def pass_s(seconds: float) -> None:
            for _ in range(round(seconds / interrupts.LOOK_S)):
                mock_clock.jump(interrupts.LOOK_S)
                await trio.testing.wait_all_tasks_blocked(0.002)

        await pass_s(3 * interrupts.LOOK_S)
        assert ended == [6]
        await pass_s(interrupts.UNSEEN_S - 1)
        assert ended == [6], "a call may take its time"
        await pass_s(1.5)
        assert sorted(ended) == [0, 6, 9]
        for number in (0, 6, 7, 8, 9):
            looking.over(number)
        await pass_s(2 * interrupts.LOOK_S)


async def test_numbers_in_another_namespace_are_nobody(
    tmp_path: Path, ended: list[int], autojump_clock: MockClock
) -> None:
    """/proc shows this process under another number: so 5 is another process there."""
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to(str(os.getpid() + 1))
    reader(tmp_path, 5, status({9}))
    async with trio.open_nursery() as nursery:
        looking = Interrupts(nursery, tmp_path, lambda _: False)
        looking.begin(1, wait(ended, 5))
        looking.interrupted(1)
        await turns()
        looking.over(1)
    assert ended == []


def test_what_the_kernel_tells_of_processes() -> None:
    """Those that go on, those that nobody knows, and what is no process at all."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        assert is_dying(sleeper.pid) in (False, None)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert is_dying(sleeper.pid) is None
    assert is_dying(1 << 22) is None


def test_a_killed_process_says_so() -> None:
    """As the kernel writes it: a stopped process keeps what is pending."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        sleeper.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
        sleeper.send_signal(signal.SIGUSR1)
        assert fate(Path(f"/proc/{sleeper.pid}/status").read_text()) is Fate.ENDS
    finally:
        sleeper.kill()
        sleeper.wait()

"""Who runs out of time hears what went wrong, whichever deadline strikes first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from up42fs.deadlines import Trouble, Turns, awaiting, note, watched, within
from up42fs.errors import DeadlineExceeded, NotFound, Offline, Unavailable, Up42fsError

BROKEN = Unavailable("UP42 answered 502")

Work = Callable[[], Awaitable[None]]


async def hang() -> None:
    await trio.sleep_forever()


async def fail() -> None:
    """An attempt that failed, and one that does not end."""
    note(BROKEN)
    await hang()


async def told(work: Work, seconds: float = 5.0, *, advice: str = "") -> Up42fsError:
    """What is raised where `work` may take some seconds."""

    async def wait() -> None:
        with within(seconds, "late", advice=advice):
            await work()

    with pytest.raises(Up42fsError) as caught:
        await wait()
    return caught.value


async def test_a_deadline_tells_the_last_trouble(autojump_clock: MockClock) -> None:
    async def work() -> None:
        note(Offline("no route"))
        await trio.sleep(1)
        await fail()

    error = await told(work)
    assert isinstance(error, Unavailable)
    assert trio.current_time() == 5


@pytest.mark.parametrize("is_over", [False, True])
async def test_without_trouble_it_tells_that_it_took_long(autojump_clock, is_over: bool) -> None:
    async def work() -> None:
        if is_over:
            note(BROKEN)
            note(None)
        await hang()

    error = await told(work)
    assert (type(error), str(error)) == (DeadlineExceeded, "late")


async def test_advice_is_added_to_either(autojump_clock: MockClock) -> None:
    assert str(await told(hang, advice="look again")) == "late; look again"
    assert str(await told(fail, advice="look again")) == "UP42 answered 502; look again"


@pytest.mark.parametrize("outer_s", [4.0, 4.9999, 5.0, 5.0001, 6.0])
async def test_whichever_of_two_deadlines_strikes(autojump_clock, outer_s: float) -> None:
    async def work() -> None:
        with within(5.0, "inner"):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(fail)

    assert isinstance(await told(work, outer_s), Unavailable)


async def test_what_ended_is_no_trouble(autojump_clock: MockClock) -> None:
    async def work() -> None:
        with within(1, "inner"):
            note(BROKEN)
        await refused()
        await hang()

    async def refused() -> None:
        async def refuse() -> None:
            note(BROKEN)
            raise NotFound("it")

        assert isinstance(await told(refuse), NotFound)

    assert isinstance(await told(work), DeadlineExceeded)


async def test_everybody_gets_an_error_of_his_own_with_its_cause(autojump_clock) -> None:
    error = Unavailable("UP42 answered 502")
    error.__cause__ = ValueError("its words")

    async def work() -> None:
        note(error)
        await hang()

    heard = await told(work)
    assert heard is not error
    assert heard.__cause__ is error.__cause__


@pytest.mark.parametrize("work_s", [3.0, 5.0, 7.0])
async def test_work_in_another_task_is_asked(
    autojump_clock: MockClock, nursery: trio.Nursery, work_s: float
) -> None:
    """Also where it has ended with its trouble, and who waits was not told yet."""
    trouble = Trouble(lambda error: type(error)(f"scene.tif: {error}"))
    shared = Trouble()

    async def work() -> None:
        with pytest.raises(Unavailable):
            await fail_shared()

    async def fail_shared() -> None:
        with watched(shared), within(work_s, "work"):
            await fail()

    async def wait() -> None:
        with awaiting(trouble), watched(trouble), awaiting(shared):
            await hang()

    nursery.start_soon(work)
    error = await told(wait)
    assert (type(error), str(error)) == (Unavailable, "scene.tif: UP42 answered 502")


async def test_who_started_work_does_not_hear_of_it_unasked(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def work() -> None:
        with watched(Trouble()):
            await fail()

    async def start() -> None:
        nursery.start_soon(work)
        await hang()

    assert isinstance(await told(start), DeadlineExceeded)


async def test_who_waits_for_a_turn_hears_of_the_one_before(autojump_clock: MockClock) -> None:
    """Also when that turn has failed, and the own has not come to anything yet."""
    turns, heard = Turns(), list[type[Up42fsError]]()

    async def ask(work: Work, after_s: float) -> None:
        async def take() -> None:
            async with turns.turn():
                await work()

        await trio.sleep(after_s)
        heard.append(type(await told(take, 25)))

    async with trio.open_nursery() as askers:
        askers.start_soon(ask, fail, 0)
        askers.start_soon(ask, hang, 1)
        askers.start_soon(ask, hang, 2)
    assert heard == [Unavailable] * 3
    assert turns.are_over
    await ask(hang, 0)
    assert heard[-1] is DeadlineExceeded  # nobody was before it

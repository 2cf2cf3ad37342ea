"""Edits carried out: nothing lost, nothing twice, no wrong success, whatever answers get lost."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from edits_support import FAULTS, EditedWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import make_asset
from trio.testing import MockClock

from up42fs.catalog.metadata import Fresh
from up42fs.deadlines import note
from up42fs.errors import (
    AccessDenied,
    Conflict,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidArgument,
    NotFound,
    Offline,
    Overloaded,
    Unavailable,
    Up42fsError,
)
from up42fs.fs.edits.apply import ALL_TIMEOUT_S, EDIT_TIMEOUT_S
from up42fs.fs.edits.changes import ChangedAsset, parse_lines, still_done, to_line
from up42fs.fs.edits.journal import Journal
from up42fs.fs.edits.locks import Interlock, default_path
from up42fs.fs.edits.queue import MOST_RUNNING, MOST_WAITING, STUCK_S
from up42fs.model.intentions import Edit, Metadata, retag
from up42fs.types import Asset

ONE, TWO = make_asset(1, tags=("a", "b"), title="one"), make_asset(2, tags=("b",))
TAGS = st.lists(st.sampled_from("abcd"), unique=True, max_size=3).map(tuple)


def instantly(run, *arguments) -> None:
    trio.run(run, *arguments, clock=MockClock(autojump_threshold=0))


def state(world: EditedWorld, asset_id: str = ONE.id) -> Metadata:
    asset = world.service.assets[asset_id]
    return Metadata(asset.title, asset.tags)


# one edit


async def test_an_edit_is_one_read_and_one_write(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    await world.edits.change(ONE.id, Edit(add=("c",)), "test")
    assert state(world).tags == ("a", "b", "c") == world.index.assets[ONE.id].tags
    assert (len(world.service.reads), len(world.service.writes)) == (1, 1)
    assert world.edits.status() == {"made": 1, "failed": {}}
    assert world.metrics.snapshot() == {"edits.made": 1}
    assert world.refreshes == 0


async def test_a_tag_added_elsewhere_a_moment_ago_survives(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    world.service.console(ONE.id, tags=("a", "b", "console"))
    await world.edits.change(ONE.id, retag(("a", "b"), ("a", "mine")), "test")
    assert set(state(world).tags) == {"a", "console", "mine"}
    assert set(world.index.assets[ONE.id].tags) == {"a", "console", "mine"}


async def test_what_is_so_already_is_not_written(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    world.service.console(ONE.id, tags=("a", "b", "c"))
    await world.edits.change(ONE.id, Edit(add=("c",)), "test")
    assert world.service.writes == []
    assert world.index.assets[ONE.id].tags == ("a", "b", "c")
    assert world.edits.journal.changes == ()


async def test_two_edits_of_one_asset_follow_each_other(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(world.edits.change, ONE.id, Edit(add=(f"t{number}",)), "test")
    assert set(state(world).tags) == {"a", "b", *(f"t{number}" for number in range(8))}


@given(TAGS, TAGS, st.lists(st.sampled_from(sorted(FAULTS)), max_size=4), st.data())
@settings(max_examples=300)
def test_whatever_becomes_of_the_answers(shown, wanted, script: Sequence[str], data) -> None:
    others = [data.draw(TAGS) for _ in range(6)]

    async def run() -> None:
        world = EditedWorld(make_asset(1, tags=shown))
        edit = retag(shown, wanted)
        world.service.script.extend(script)
        added: set[str] = set()

        def console(asset_id: str) -> None:
            """Before each read somebody else adds a tag."""
            tag = f"console{len(world.service.reads)}"
            if len(world.service.reads) < len(others) and others[len(world.service.reads)]:
                tags = world.service.assets[asset_id].tags
                world.service.console(asset_id, tags=(*tags, tag))
                added.add(tag)

        world.service.before_read = console
        error: Up42fsError | None = None
        try:
            await world.edits.change(ONE.id, edit, "test")
        except Up42fsError as caught:
            error = caught
        after = state(world)
        assert added <= set(after.tags), "somebody else's tag was lost"
        assert len(world.service.applied) <= 1, "an edit was carried out twice"
        final = next((word for word in script if word in ("refused", "denied", "gone")), None)
        if error is None:
            assert edit.applied(after) == after, "success, and it is not so"
            assert edit.applied(Metadata(None, world.index.assets[ONE.id].tags)).tags == (
                world.index.assets[ONE.id].tags
            )
            journal = world.edits.journal.changes
            assert len(journal) == len(world.service.applied)
            assert all(change.certain for change in journal)
        else:
            assert final is not None
            assert world.edits.last_failure(ONE.id) == str(error)
            assert world.refreshes == 1
            if not world.service.applied:
                assert set(after.tags) == set(shown) | added
            assert world.index.assets[ONE.id].tags == shown, "the old state is shown"

    instantly(run)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("refused", InvalidArgument), ("denied", AccessDenied), ("gone", NotFound)],
)
async def test_a_refusal_is_final(autojump_clock, fault: str, error: type[Exception]) -> None:
    world = EditedWorld(ONE)
    world.service.script.extend([fault])
    with pytest.raises(error):
        await world.edits.change(ONE.id, Edit(title="x"), "test")
    assert len(world.service.writes) == 1
    assert world.index.assets[ONE.id] == ONE
    assert world.edits.journal.changes == ()
    await world.edits.change(ONE.id, Edit(title="y"), "test")
    assert world.edits.last_failure(ONE.id) is None


async def test_failures_go_on_until_the_deadline(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    world.service.script.extend(["lost"] * 1000)
    began_s = trio.current_time()
    with pytest.raises(Unavailable):
        await world.edits.change(ONE.id, Edit(title="x"), "test")
    assert 5 < trio.current_time() - began_s <= EDIT_TIMEOUT_S
    assert len(world.service.writes) > 5
    assert state(world).title == "one"
    # It may have been done: so it can be undone, which does no harm where it was not.
    (change,) = world.edits.journal.changes
    assert not change.certain
    world.service.script.clear()
    await world.edits.undo(1)
    assert state(world) == Metadata("one", ("a", "b"))
    assert still_done(world.edits.journal.changes) == []


async def test_an_edit_whose_last_answer_was_lost_can_be_undone(autojump_clock) -> None:
    world = EditedWorld(ONE)
    world.service.script.extend(["cut"])
    read = world.service.read

    async def fails_once_it_was_written(asset_id: str) -> Fresh:
        if world.service.applied:
            raise Offline("no route")
        return await read(asset_id)

    world.service.read = fails_once_it_was_written  # type: ignore[method-assign]
    with pytest.raises(Offline):
        await world.edits.change(ONE.id, Edit(title="x", add=("c",)), "test")
    assert state(world) == Metadata("x", ("a", "b", "c"))
    assert world.index.assets[ONE.id].title == "one"
    world.service.read = read  # type: ignore[method-assign]
    await world.edits.undo(1)
    assert state(world) == Metadata("one", ("a", "b"))


async def test_a_hung_service_is_given_up(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    world.service.delay_s = math.inf
    with pytest.raises(DeadlineExceeded, match=ONE.id):
        await world.edits.change(ONE.id, Edit(title="x"), "test")
    assert trio.current_time() < 1000
    assert world.refreshes == 1


async def test_a_service_that_fails_and_then_hangs(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(asset_id: str) -> Fresh:
        note(Unavailable("UP42 answered 502"))
        await trio.sleep_forever()
        raise AssertionError

    world = EditedWorld(ONE)
    monkeypatch.setattr(world.service, "read", read)
    with pytest.raises(Unavailable, match="502; whether it was done shows at the next look"):
        await world.edits.change(ONE.id, Edit(title="x"), "test")
    assert trio.current_time() == EDIT_TIMEOUT_S


MANY = [make_asset(number, tags=("a",)) for number in range(1, 201)]


async def outcomes_of_many(world: EditedWorld, count: int) -> dict[str, list[float]]:
    """When edits of so many assets that begin together ended, by their outcome."""
    ended: dict[str, list[float]] = {}

    async def one(asset: Asset) -> None:
        outcome = "done"
        try:
            await world.edits.change(asset.id, Edit(title="x"), "test")
        except Up42fsError as error:
            outcome = errno.errorcode[error.errno]
        ended.setdefault(outcome, []).append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for asset in MANY[:count]:
            nursery.start_soon(one, asset)
    return ended


@pytest.mark.claim("S119")
@pytest.mark.parametrize("delay_s", [0.1, 1.0])
async def test_edits_wait_for_their_turn_while_the_service_answers(
    autojump_clock: MockClock, delay_s: float
) -> None:
    world = EditedWorld(*MANY)
    world.service.delay_s = delay_s
    ended = await outcomes_of_many(world, MOST_RUNNING + MOST_WAITING)
    assert {outcome: len(times) for outcome, times in ended.items()} == {
        "done": MOST_RUNNING + MOST_WAITING
    }


@pytest.mark.claim("S119")
async def test_edits_do_not_queue_for_a_silent_service(autojump_clock: MockClock) -> None:
    world = EditedWorld(*MANY)
    world.service.delay_s = 3600.0
    ended = await outcomes_of_many(world, len(MANY))
    assert ended["ETIMEDOUT"] == [EDIT_TIMEOUT_S] * MOST_RUNNING
    at_once = len(MANY) - MOST_RUNNING - MOST_WAITING
    assert sorted(ended["EAGAIN"]) == [0.0] * at_once + [STUCK_S] * MOST_WAITING
    assert world.service.writes == []
    world.service.delay_s = 0.1
    assert list(await outcomes_of_many(world, 40)) == ["done"], "it answers again"


@pytest.mark.claim("S119")
async def test_a_new_edit_is_refused_at_once_while_the_service_is_silent(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = EditedWorld(*MANY)
    world.service.delay_s = 3600.0
    nursery.start_soon(outcomes_of_many, world, MOST_RUNNING)
    await trio.sleep(STUCK_S + 1)
    with pytest.raises(Overloaded, match="32 edits wait for UP42 already"):
        await world.edits.change(MANY[-1].id, Edit(title="x"), "test")
    assert trio.current_time() == STUCK_S + 1
    nursery.cancel_scope.cancel()


async def test_conflicts_are_believed_after_a_while(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    world.service.script.extend(["conflict"] * 1000)
    with pytest.raises(Conflict):
        await world.edits.change(ONE.id, Edit(title="x"), "test")
    assert len(world.service.writes) == 5


async def test_an_answer_that_does_not_hold_the_edit_is_no_success(autojump_clock) -> None:
    world = EditedWorld(ONE)
    write = world.service.write

    async def drops_new_tags(fresh, wanted):
        return await write(fresh, Metadata(wanted.title, fresh.metadata.tags))

    world.service.write = drops_new_tags  # type: ignore[method-assign]
    with pytest.raises(InvalidAnswer):
        await world.edits.change(ONE.id, Edit(add=("c",)), "test")
    assert world.index.assets[ONE.id].tags == ("a", "b")


async def test_a_listing_that_knows_something_newer_stays(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    write = world.service.write

    async def slow_answer(fresh, wanted):
        answer = await write(fresh, wanted)
        world.service.console(ONE.id, tags=(*wanted.tags, "newer"))
        world.put(world.service.assets[ONE.id])
        return answer

    world.service.write = slow_answer  # type: ignore[method-assign]
    await world.edits.change(ONE.id, Edit(add=("c",)), "test")
    assert world.index.assets[ONE.id].tags == ("a", "b", "c", "newer")


# several at once


async def test_some_fail_and_the_rest_is_done(autojump_clock: MockClock) -> None:
    assets = [make_asset(number, tags=("old",)) for number in range(10)]
    world = EditedWorld(*assets)
    del world.service.assets[assets[3].id]
    edit = Edit(add=("new",), remove=frozenset({"old"}))
    with pytest.raises(NotFound, match="9 of 10"):
        await world.edits.change_all({asset.id: edit for asset in assets}, "rename")
    assert [a.tags for a in world.service.assets.values()] == [("new",)] * 9
    assert {change.operation for change in world.edits.journal.changes} == {1}
    await world.edits.undo(1)
    assert [a.tags for a in world.service.assets.values()] == [("old",)] * 9


async def test_time_runs_out_for_some(autojump_clock: MockClock) -> None:
    assets = [make_asset(number, tags=("old",)) for number in range(80)]
    world = EditedWorld(*assets)
    world.service.delay_s = 2.0
    edit = Edit(add=("new",), remove=frozenset({"old"}))
    began_s = trio.current_time()
    with pytest.raises(DeadlineExceeded, match=r"48 of 80"):
        await world.edits.change_all({asset.id: edit for asset in assets}, "rename")
    assert trio.current_time() - began_s == pytest.approx(ALL_TIMEOUT_S)
    shown = [asset.tags for asset in world.index.assets.values()]
    assert shown.count(("new",)) == 48
    assert world.refreshes > 0


# the journal


CHANGES = st.lists(
    st.builds(
        ChangedAsset,
        operation=st.integers(1, 4),
        when=st.just("2026-01-01T00:00:00Z"),
        what=st.text(max_size=5),
        asset=st.sampled_from("xy"),
        name=st.text(max_size=5),
        before=st.builds(Metadata, st.none() | st.text(max_size=3), TAGS),
        after=st.builds(Metadata, st.none() | st.text(max_size=3), TAGS),
        undoes=st.none() | st.integers(1, 4),
        certain=st.booleans(),
    ),
    max_size=8,
)


@given(CHANGES, st.binary(max_size=20))
def test_the_journal_is_read_as_it_was_written(changes: list[ChangedAsset], damage: bytes) -> None:
    data = b"".join(map(to_line, changes))
    assert parse_lines(data + b'{"half": "a lin') == changes
    assert parse_lines(damage.replace(b"\n", b"") + b"\n" + data)[-len(changes) :] == changes or (
        not changes
    )
    assert len(data.splitlines()) == len(changes)


@given(CHANGES)
def test_what_was_undone_is_not_undone_again(changes: list[ChangedAsset]) -> None:
    left = still_done(changes)
    numbers = [group[0].operation for group in left]
    assert numbers == sorted(set(numbers), reverse=True)
    undone = {(change.undoes, change.asset) for change in changes if change.undoes}
    for group in left:
        assert all(change.undoes is None for change in group)
        assert not {(change.operation, change.asset) for change in group} & undone
    kept = {(c.operation, c.asset) for c in changes if c.undoes is None} - undone
    assert {(change.operation, change.asset) for group in left for change in group} == kept


async def test_undo_across_mounts(tmp_path: Path) -> None:
    path = tmp_path / "state" / "mount.changes"
    world = EditedWorld(ONE, journal=path)
    await world.edits.change(ONE.id, Edit(title="mistake", add=("c",)), "test")
    path.write_bytes(path.read_bytes() + b'{"torn')
    assert path.stat().st_mode & 0o777 == 0o600
    world.service.console(ONE.id, tags=("a", "b", "c", "console"))
    other = EditedWorld(*world.service.assets.values(), journal=path)
    await other.edits.undo(1)
    assert state(other) == Metadata("one", ("a", "b", "console"))
    with pytest.raises(InvalidArgument, match="1"):
        await other.edits.undo(1)
    third = Journal(path)
    third.load()
    assert [(c.operation, c.undoes) for c in third.changes] == [(1, None), (2, 1)]
    assert third.begin() == 3


async def test_undo_leaves_a_title_that_changed_since(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE)
    await world.edits.change(ONE.id, Edit(title="mistake", add=("c",)), "test")
    world.service.console(ONE.id, title="by somebody")
    with pytest.raises(Conflict, match="by somebody"):
        await world.edits.undo(1)
    assert state(world) == Metadata("by somebody", ("a", "b", "c"))
    world.service.console(ONE.id, title="one")
    await world.edits.undo(1)
    assert state(world) == Metadata("one", ("a", "b"))


async def test_undoing_goes_on_where_assets_are_gone(autojump_clock: MockClock) -> None:
    world = EditedWorld(ONE, TWO)
    edit = Edit(add=("c",))
    await world.edits.change_all({ONE.id: edit, TWO.id: edit}, "test")
    del world.service.assets[TWO.id]
    await world.edits.undo(1)
    assert state(world).tags == ("a", "b")
    assert still_done(world.edits.journal.changes) == []


async def test_undoing_what_somebody_took_back_already_is_done(autojump_clock) -> None:
    world = EditedWorld(ONE)
    await world.edits.change(ONE.id, Edit(add=("c",)), "test")
    world.service.console(ONE.id, tags=("a", "b"))
    await world.edits.undo(1)
    assert still_done(world.edits.journal.changes) == []


async def test_a_journal_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    world = EditedWorld(ONE, journal=tmp_path / "file" / "x.changes")
    caplog.clear()
    for number in range(3):
        await world.edits.change(ONE.id, Edit(add=(f"t{number}",)), "test")
    assert len(caplog.records) == 1
    assert len(world.edits.journal.changes) == 3
    await world.edits.undo(2)


# other mounts


async def test_locks_of_one_machine_hold_processes_apart(tmp_path: Path) -> None:
    """POSIX locks are a process's: the other one must be another."""
    path = tmp_path / "run" / "edits.lock"
    mine = Interlock(path, "api")
    script = (
        "import sys, trio\nfrom pathlib import Path\nfrom up42fs.fs.edits.locks import Interlock\n"
        "async def main():\n"
        "    other = Interlock(Path(sys.argv[1]), 'api')\n"
        "    async with other.held('free'):\n        pass\n"
        "    with trio.move_on_after(0.2):\n"
        "        async with other.held('taken'):\n            print('held')\n"
        "            return\n"
        "    print('waited')\n"
        "trio.run(main)\n"
    )

    async def other() -> str:
        done = await trio.run_process(
            [sys.executable, "-c", script, str(path)], capture_stdout=True
        )
        return done.stdout.decode().strip()

    async with mine.held("taken"):
        assert await other() == "waited"
    assert await other() == "held"
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_locks_hold_engines_of_one_process_apart(tmp_path: Path) -> None:
    one, other = (Interlock(tmp_path / "run" / "edits.lock", "api") for _ in range(2))
    async with one.held("taken"):
        with trio.move_on_after(0.1) as scope:
            async with other.held("taken"):
                pass
        assert scope.cancelled_caught
        async with other.held("free"):  # gives back no lock of the first one
            pass
        other.close()
        third = Interlock(tmp_path / "run" / "edits.lock", "api")
        with trio.move_on_after(0.1) as scope:
            async with third.held("taken"):
                pass
        assert scope.cancelled_caught
    async with third.held("taken"):
        pass


def test_all_mounts_of_a_user_find_one_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    here = default_path()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/somewhere")
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert default_path() == here
    assert str(os.getuid()) in here.parent.name


def test_a_lock_in_somebody_elses_directory_is_not_used(tmp_path: Path, caplog) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    Interlock(tmp_path / "link" / "edits.lock", "api")
    assert "not held apart" in caplog.text

"""The sync loop over scripted listings: what is asked, what is noticed, who waits for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
import trio
from listing_support import Page, Service, sync_of
from strategies import at, make_asset, make_order
from trio.testing import MockClock

from up42fs.catalog import passes
from up42fs.catalog.index import Delta, Index, ListingKind
from up42fs.catalog.passes import FULL_PASS_EVERY
from up42fs.catalog.recent_edits import Edited
from up42fs.catalog.snapshot.tables import UNCOUNTED
from up42fs.catalog.sync import ASKED_PAUSE_S, Sync
from up42fs.deadlines import note
from up42fs.errors import DeadlineExceeded, Unavailable
from up42fs.logs import FOR_DESKTOP
from up42fs.types import Asset


@dataclass
class World:
    assets: Service
    orders: Service
    index: Index
    sync: Sync
    deltas: list[Delta]


@pytest.fixture
def world() -> World:
    index = Index()
    deltas: list[Delta] = []
    assets, orders = Service(), Service()
    assets.put(*(make_asset(n) for n in range(5)))
    orders.put(make_order(1))
    sync = sync_of(index, assets=assets, orders=orders, on_change=deltas.append, refresh_s=60)
    return World(assets, orders, index, sync, deltas)


async def settle(seconds: float = 61) -> None:
    await trio.sleep(seconds)


async def test_the_first_pass_lists_everything(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    assert len(world.index.assets) == 5
    assert len(world.index.orders) == 1
    assert (world.assets.full_passes, world.assets.newest_pages) == (1, 0)


@pytest.mark.claim("S57")
async def test_a_refresh_with_nothing_new_is_one_page(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await settle(65)
    assert (world.assets.full_passes, world.assets.newest_pages) == (1, 1)
    assert (world.orders.full_passes, world.orders.newest_pages) == (1, 1)


async def test_a_refresh_finds_new_and_changed_assets(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.assets.put(make_asset(7, updated_at=at(100)), make_asset(1, title="t", updated_at=at(99)))
    await settle()
    assert world.index.assets[make_asset(1).id].title == "t"
    assert make_asset(7).id in world.index.assets
    assert world.assets.full_passes == 1
    assert world.deltas[-1].assets == {make_asset(7).id, make_asset(1).id}


@pytest.mark.claim("S58")
async def test_a_removal_shows_in_the_total_and_is_found(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    del world.assets.rows[make_asset(2).id]
    await settle()
    assert make_asset(2).id not in world.index.assets
    assert world.assets.full_passes == 2


async def test_passes_that_are_due_anyway_teach_nothing_of_totals(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full pass by schedule that finds nothing is no sign that totals move in vain."""
    monkeypatch.setattr(passes, "FULL_PASS_EVERY", 2)
    nursery.start_soon(world.sync.run)
    await settle(5 + 60 * 8)
    full_passes = world.assets.full_passes
    await settle(60)  # the next refresh is a small one, or this one was
    if world.assets.full_passes == full_passes:
        await settle(60)
    assert world.assets.full_passes > full_passes
    del world.assets.rows[make_asset(2).id]
    await settle(60)
    assert make_asset(2).id not in world.index.assets


@pytest.mark.claim("S162")
@pytest.mark.parametrize("uncounted", [1, 7, -2])
async def test_rows_that_cannot_be_counted_cost_nothing_and_hide_no_removal(
    world: World, autojump_clock: MockClock, nursery, uncounted: int
) -> None:
    world.assets.uncounted = uncounted
    nursery.start_soon(world.sync.run)
    await settle(60 * 9 + 30)
    assert (world.assets.full_passes, world.assets.newest_pages) == (1, 9)
    assert world.sync.status()["assets"]["uncounted"] == uncounted
    for number in (2, 3):
        passes = world.assets.full_passes
        del world.assets.rows[make_asset(number).id]
        await settle(60)
        assert make_asset(number).id not in world.index.assets
        assert world.assets.full_passes == passes + 1
    # One more of them arrives: looked for once, and never again.
    world.assets.uncounted += 1
    await settle(60 * 10)
    assert world.assets.full_passes == 4
    assert world.sync.status()["assets"]["uncounted"] == uncounted + 1


@pytest.mark.claim("S162")
async def test_a_total_that_drifts_is_looked_into_ever_more_seldom(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    world.assets.drifts = True
    nursery.start_soon(world.sync.run)
    refreshes = 4 * FULL_PASS_EVERY
    await settle(60 * refreshes)
    assert world.assets.full_passes < 1 + 8 + 2 * refreshes / FULL_PASS_EVERY
    del world.assets.rows[make_asset(2).id]
    await settle(60 * (FULL_PASS_EVERY + 1))
    assert make_asset(2).id not in world.index.assets
    world.assets.drifts = False
    await settle(60 * 2 * FULL_PASS_EVERY)
    del world.assets.rows[make_asset(3).id]
    await settle(61)
    assert make_asset(3).id not in world.index.assets, "full attention again"


@pytest.mark.claim("S162")
async def test_what_cannot_be_counted_is_known_to_the_next_mount(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    world.assets.uncounted = 3
    kept: dict[str, int] = {}

    def keep(question: str, packed: bytes | None) -> None:
        assert packed is not None
        kept[question.removeprefix(UNCOUNTED)] = int(packed)

    for known in ((), tuple(ListingKind)):
        sync = sync_of(
            world.index,
            assets=world.assets,
            orders=world.orders,
            on_change=world.deltas.append,
            refresh_s=60,
            known=known,
            uncounted=kept,
            keep=keep,
        )
        with trio.move_on_after(200):
            await sync.run()
    assert kept == {"assets": 3}
    assert world.assets.full_passes == 1


async def test_a_row_that_is_listed_twice_and_not_alike_changes_once(
    world: World, autojump_clock: MockClock, nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = world.assets.newest

    async def twice(page: int) -> Page:
        found = await newest(page)
        if page:
            return found
        first = found.items[0]
        return Page((first, replace(first, title="the same"), *found.items[1:]), found.total, 3)

    monkeypatch.setattr(world.assets, "newest", twice)
    nursery.start_soon(world.sync.run)
    await settle(60 * 5)
    assert len(world.deltas) == 3, "two first listings, and their completeness"


async def test_a_change_that_moved_no_date_is_found_by_the_full_pass(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.assets.put(make_asset(0, title="silent"))
    await settle(60 * (FULL_PASS_EVERY + 1))
    assert world.index.assets[make_asset(0).id].title == "silent"


async def test_a_listing_under_way_does_not_take_an_edit_back(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    edited = Edited()
    sync = sync_of(
        world.index,
        assets=world.assets,
        orders=world.orders,
        on_change=world.deltas.append,
        refresh_s=60,
        edited=edited,
    )
    old, after = make_asset(1), make_asset(1, title="edited", updated_at=at(90))
    before_page = world.assets.newest

    async def newest(page: int) -> Page:
        found = await before_page(page)
        if page == 0 and not world.index.assets[old.id].title:
            # The service answered; before the answer is here, an edit is made and answered.
            await trio.sleep(1)
            world.assets.put(after)
            edited.note(after, timed=True)
            world.index.apply_edit(old, after)
        return found

    nursery.start_soon(sync.run)
    await sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.assets.newest = newest  # type: ignore[method-assign]
    world.assets.put(make_asset(1, title="old news", updated_at=at(80)))
    await settle(65)
    assert world.index.assets[old.id] == after
    world.assets.put(make_asset(1, title="newer", updated_at=at(91)))
    await settle(65)
    assert world.index.assets[old.id].title == "newer"


async def test_waiters_get_the_error_of_a_failed_pass(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    world.assets.fail = Unavailable("UP42 is down")
    nursery.start_soon(world.sync.run)
    with pytest.raises(Unavailable, match="UP42 is down"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    await world.sync.ready(ListingKind.ORDERS, timeout_s=5)
    world.assets.fail = None
    await settle()
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert len(world.index.assets) == 5


@pytest.mark.claim("S60")
async def test_a_failed_refresh_keeps_the_last_state(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.assets.fail = Unavailable("gone for now")
    await settle(200)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert len(world.index.assets) == 5
    assert world.sync.status()["assets"]["error"] == "gone for now"
    world.assets.fail = None
    await settle()
    assert world.sync.status()["assets"]["error"] is None


@pytest.mark.claim("S401")
async def test_a_network_that_is_lost_is_told_at_the_desk_once_and_once_when_it_is_back(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [r.getMessage() for r in caplog.records if hasattr(r, next(iter(FOR_DESKTOP)))]

    caplog.set_level("INFO")
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.assets.fail = world.orders.fail = Unavailable("gone for now")
    await settle(300)
    assert len(told()) == 1, "of two listings that fail again and again"
    assert "refreshing the assets failed, the last known state stays: gone for now" in told()[0]
    world.assets.fail = world.orders.fail = None
    await settle(300)
    assert told()[1:] == ["refreshing the assets works again"]


async def test_a_bug_in_a_pass_does_not_end_the_loop(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    world.assets.fail = ZeroDivisionError()
    nursery.start_soon(world.sync.run)
    with pytest.raises(Unavailable):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.assets.fail = None
    await settle()
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)


@pytest.mark.claim("S15")
async def test_waiting_has_a_deadline(world: World, autojump_clock: MockClock, nursery) -> None:
    world.assets.hang = True
    nursery.start_soon(world.sync.run)
    start = trio.current_time()
    with pytest.raises(DeadlineExceeded, match="try again"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert trio.current_time() - start == 5


async def attempts() -> None:
    """An attempt that failed, and one that does not end."""
    note(Unavailable("UP42 answered 502"))
    await trio.sleep_forever()


async def test_who_waited_for_a_listing_hears_its_last_trouble(
    world: World, autojump_clock: MockClock, nursery, monkeypatch
) -> None:
    async def everything() -> AsyncIterator[object]:
        await attempts()
        yield None

    monkeypatch.setattr(world.assets, "everything", everything)
    nursery.start_soon(world.sync.run)
    with pytest.raises(Unavailable, match="502"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert trio.current_time() == 5


async def test_a_failed_pass_is_the_news_while_the_next_one_hangs(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    world.assets.fail = Unavailable("UP42 is down")
    nursery.start_soon(world.sync.run)
    await trio.sleep(1)
    world.assets.hang = True
    await trio.sleep(10)
    with pytest.raises(Unavailable, match="UP42 is down"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert trio.current_time() == 16


async def test_who_waited_for_an_order_hears_its_last_trouble(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    """Also who stood behind another, who was told already."""

    class Asked:
        async def of_order(self, order_id: str) -> Sequence[Asset]:
            await attempts()
            return ()

    world.assets.own, sync = Asked(), world.sync

    async def ask(after_s: float) -> None:
        await trio.sleep(after_s)
        with pytest.raises(Unavailable, match="502"):
            await sync.ready_order("an-order", timeout_s=5)

    async with trio.open_nursery() as askers:
        askers.start_soon(ask, 0)
        askers.start_soon(ask, 1)
    assert trio.current_time() == 6


@pytest.mark.claim("S15")
@pytest.mark.parametrize(("count", "is_listed"), [(8, True), (30, False)])
async def test_a_slow_listing_is_waited_for_as_long_as_it_goes_on(
    world: World, autojump_clock: MockClock, nursery, monkeypatch, count: int, is_listed: bool
) -> None:
    monkeypatch.setattr(passes, "BATCH", 1)
    world.assets.put(*(make_asset(n) for n in range(count)))
    world.assets.row_latency_s = 2.0
    nursery.start_soon(world.sync.run)
    if is_listed:
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
        return
    start = trio.current_time()
    with pytest.raises(DeadlineExceeded, match="within 20 s"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert trio.current_time() - start == 20


async def test_refresh_now_does_not_wait_for_its_turn(
    world: World, autojump_clock: MockClock, nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    await settle(1)
    world.assets.put(make_asset(8, updated_at=at(100)))
    world.sync.refresh_now()
    await settle(1)
    assert make_asset(8).id in world.index.assets
    assert world.orders.newest_pages == 1


async def test_a_refresh_wanted_during_another_is_made_after_it(
    world: World, autojump_clock: MockClock, nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    await settle(1)
    newest = world.assets.newest

    async def slow(page: int):
        answer = await newest(page)
        await trio.sleep(1)
        return answer

    monkeypatch.setattr(world.assets, "newest", slow)
    world.sync.refresh_now()
    await trio.sleep(0.5)
    world.assets.put(make_asset(8, updated_at=at(100)))
    world.sync.refresh_now()
    await trio.sleep(5)
    assert make_asset(8).id in world.index.assets


async def test_status_tells_progress_before_the_end(world: World, autojump_clock, nursery) -> None:
    assert world.sync.status()["assets"]["complete"] is False
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert world.sync.status()["assets"] == {
        "complete": True,
        "rows_so_far": None,
        "seconds_since_refresh": 0.0,
        "uncounted": 0,
        "error": None,
    }


@pytest.mark.claim("S151")
async def test_what_users_ask_for_has_a_floor_and_is_not_lost(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    await trio.sleep(0.1)
    before = world.assets.newest_pages
    for _ in range(100):  # ten seconds of asking
        world.sync.refresh_soon()
        await trio.sleep(0.1)
    assert world.assets.newest_pages - before == 2
    world.assets.put(make_asset(99))
    world.sync.refresh_soon()
    await trio.sleep(ASKED_PAUSE_S + 0.1)
    assert len(world.index.assets) == 6
    before = world.assets.newest_pages
    await trio.sleep(2 * ASKED_PAUSE_S)
    assert world.assets.newest_pages == before
    world.sync.refresh_soon()  # after a pause: at once
    await trio.sleep(0.1)
    assert world.assets.newest_pages == before + 1

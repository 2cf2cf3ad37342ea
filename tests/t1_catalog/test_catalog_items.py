"""The items of assets: what is asked when, what is remembered, who hears of failures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from catalog_support import Stac, asset_id, done, make_item
from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset
from trio.testing import MockClock

from up42fs.catalog.items import Items, weight
from up42fs.errors import AccessDenied, DeadlineExceeded, InvalidArgument, Offline, Unavailable
from up42fs.metrics import Metrics
from up42fs.model.stac import StacAsset, in_order, transformed_files
from up42fs.types import CnamStatus


def make_items(nursery: trio.Nursery, source: Stac, **settings) -> Items:
    return Items(nursery, source, metrics=Metrics(), **settings)


async def test_items_are_searched_once_and_come_oldest_first(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    three, one, two = make_item(3, 1), make_item(1, 1), make_item(2, 1)
    undated = make_item(0, 1, created=None)
    source = Stac(items=[three, undated, one, two, make_item(9, 2)])
    items = make_items(nursery, source)
    assert items.known(asset_id(1)) is None
    assert await items.of_asset(done(1)) == (one, two, three, undated)
    await trio.sleep(100_000)
    assert await items.of_asset(done(1)) == (one, two, three, undated)
    assert items.known(asset_id(1)) == (one, two, three, undated)
    assert source.asked == {"search": 1}


async def test_many_tasks_share_one_search(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1), make_item(2, 2)], latency_s=1)
    items = make_items(nursery, source)
    answers = []

    async def look(number: int) -> None:
        answers.append(await items.of_asset(done(number)))

    async with trio.open_nursery() as lookers:
        for number in (1, 2) * 50:
            lookers.start_soon(look, number)
    assert source.asked == {"search": 2}
    assert len(answers) == 100
    assert set(answers) == {(make_item(1, 1),), (make_item(2, 2),)}


async def test_whoever_asked_first_may_leave(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1)], latency_s=10)
    items = make_items(nursery, source)
    with trio.move_on_after(1) as impatient:
        await items.of_asset(done(1))
    assert impatient.cancelled_caught
    assert await items.of_asset(done(1)) == (make_item(1, 1),)
    assert source.asked == {"search": 1}


async def test_items_of_other_assets_are_ignored(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    class Careless(Stac):
        async def search(self, body):
            for item in self.items:
                yield item

    source = Careless(items=[make_item(1, 1), make_item(2, 2), make_item(3, None)])
    assert await make_items(nursery, source).of_asset(done(1)) == (make_item(1, 1),)


@pytest.mark.parametrize(
    ("status", "found", "again"),
    [
        (CnamStatus.IN_PROGRESS, [], True),
        (CnamStatus.IN_PROGRESS, [make_item(1, 1)], True),
        (CnamStatus.SUCCESSFUL, [], True),
        (CnamStatus.SUCCESSFUL, [make_item(1, 1, files=0)], True),
        (CnamStatus.SUCCESSFUL, [make_item(1, 1)], False),
        (CnamStatus.NOT_PROCESSED, [], False),
        (CnamStatus.FAILED, [make_item(1, 1, files=0)], False),
    ],
)
async def test_what_may_still_change_is_asked_again_after_a_while(
    status, found, again: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=found)
    items = make_items(nursery, source, ask_again_s=30)
    asset = make_asset(1, cnam_status=status)
    await items.of_asset(asset)
    await trio.sleep(29)
    assert await items.of_asset(asset) == tuple(found)
    assert source.asked == {"search": 1}
    source.items = [*found, make_item(7, 1)]
    await trio.sleep(2)
    assert await items.of_asset(asset) == tuple(source.items if again else found)
    assert source.asked == {"search": 1 + again}


async def test_an_update_of_the_asset_makes_its_items_unknown(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1)])
    items = make_items(nursery, source)
    await items.of_asset(done(1))
    source.items = [make_item(2, 1)]
    assert await items.of_asset(done(1, updated_at=at(500))) == (make_item(2, 1),)
    assert source.asked == {"search": 2}


async def test_a_search_for_the_asset_as_it_was_does_not_answer_for_what_it_is(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1)], latency_s=5)
    items = make_items(nursery, source)
    nursery.start_soon(items.of_asset, done(1))
    await trio.sleep(1)
    now = done(1, updated_at=at(500))
    assert await items.of_asset(now) == (make_item(1, 1),)
    assert source.asked == {"search": 2}
    await items.of_asset(now)
    assert source.asked == {"search": 2}


async def test_an_error_reaches_all_who_wait_and_is_not_remembered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1)], fail=Unavailable("no", "really"), latency_s=1)
    items = make_items(nursery, source)
    errors = []

    async def look() -> None:
        with pytest.raises(Unavailable) as caught:
            await items.of_asset(done(1))
        errors.append(caught.value)

    async with trio.open_nursery() as lookers:
        for _ in range(3):
            lookers.start_soon(look)
    assert [error.args for error in errors] == [("no", "really")] * 3
    assert len(set(map(id, errors))) == 3
    assert items.known(asset_id(1)) is None
    source.fail = None
    assert await items.of_asset(done(1)) == (make_item(1, 1),)
    assert source.asked == {"search": 2}


async def test_a_repeated_search_that_fails_leaves_what_was_known(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1)])
    items = make_items(nursery, source, ask_again_s=30)
    arriving = make_asset(1, cnam_status=CnamStatus.IN_PROGRESS)
    await items.of_asset(arriving)
    source.fail = Offline("no network")
    await trio.sleep(31)
    assert await items.of_asset(arriving) == (make_item(1, 1),)
    assert await items.of_asset(arriving) == (make_item(1, 1),)
    assert source.asked == {"search": 2}  # the failed one is not repeated at every look
    with pytest.raises(Offline):
        await items.of_asset(replace(arriving, updated_at=at(99)))


async def test_a_search_has_a_deadline(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    source = Stac(hang=True)
    start_s = trio.current_time()
    with pytest.raises(DeadlineExceeded, match="try again"):
        await make_items(nursery, source).of_asset(done(1))
    assert trio.current_time() - start_s == 60


async def test_a_bug_in_the_source_is_told_as_an_error(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    items = make_items(nursery, Stac(fail=ZeroDivisionError()))
    with pytest.raises(Unavailable, match="ZeroDivisionError"):
        await items.of_asset(done(1))


async def test_who_waits_at_unmount_is_told(autojump_clock: MockClock) -> None:
    outcome = []

    async def look(items: Items) -> None:
        with trio.CancelScope(shield=True), pytest.raises(Unavailable, match="ended") as caught:
            await items.of_asset(done(1))
        outcome.append(caught.value)

    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        outer.start_soon(look, make_items(inner, Stac(hang=True)))
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    assert len(outcome) == 1


# -- items learned elsewhere


async def test_remembered_items_cost_no_search(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(5, 1)])
    items = make_items(nursery, source)
    items.remember([make_item(2, 1), make_item(1, 1), make_item(3, 2), make_item(4, None)])
    assert items.known(asset_id(1)) == (make_item(1, 1), make_item(2, 1))
    assert await items.of_asset(done(1)) == (make_item(1, 1), make_item(2, 1))
    assert await items.of_asset(done(2)) == (make_item(3, 2),)
    assert not source.asked
    assert await items.of_asset(done(1, updated_at=at(500))) == (make_item(5, 1),)


async def test_remembered_items_without_files_of_a_transformed_asset_are_searched_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(5, 1)])
    items = make_items(nursery, source)
    items.remember([make_item(1, 1, files=0)])
    assert await items.of_asset(done(1)) == (make_item(1, 1, files=0),)
    await trio.sleep(31)
    assert await items.of_asset(done(1)) == (make_item(5, 1),)


# -- memory


async def test_memory_is_bounded_and_the_least_used_goes_first(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(n, n) for n in range(10)])
    one = weight([make_item(1, 1)])
    items = make_items(nursery, source, most_kept=3 * one)
    for number in (0, 1, 2, 0, 3):
        await items.of_asset(done(number))
    assert source.asked == {"search": 4}
    known = [number for number in range(10) if items.known(asset_id(number)) is not None]
    assert known == [0, 2, 3]


async def test_more_than_memory_may_hold_is_answered_and_not_kept(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(1, 1, document={"id": "item-1"})])
    items = make_items(nursery, source, most_kept=weight(source.items) - 1)
    items.remember([make_item(0, 1, files=0)])
    assert await items.of_asset(done(1)) == (make_item(0, 1, files=0),)
    await trio.sleep(31)
    assert await items.of_asset(done(1)) == (make_item(1, 1),)
    assert items.known(asset_id(1)) is None  # what was known is out of date
    assert await items.of_asset(done(1)) == (make_item(1, 1),)
    assert source.asked == {"search": 2}


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(4, 40))
def test_what_is_kept_never_exceeds_the_bound(sizes: list[int], most: int) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            items = make_items(nursery, Stac(), most_kept=most)
            for number, files in enumerate(sizes):
                items.remember([make_item(number, number, files=files)])
                kept = [items.known(asset_id(n)) for n in range(len(sizes))]
                assert sum(weight(found) for found in kept if found is not None) <= most
            if sizes:
                last = make_item(len(sizes) - 1, len(sizes) - 1, files=sizes[-1])
                fits = weight([last]) <= most
                assert (items.known(asset_id(len(sizes) - 1)) == (last,)) is fits

    trio.run(main)


# -- where the search by asset is refused


async def test_a_refused_search_falls_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def fallback(wanted: str):
        assert wanted == asset_id(1)
        return [make_item(2, 1), make_item(1, 1), make_item(3, 2)]

    source = Stac(fail=InvalidArgument("no such queryable"))
    items = make_items(nursery, source, fallback=fallback)
    assert await items.of_asset(done(1)) == (make_item(1, 1), make_item(2, 1))
    assert await items.of_asset(done(1)) == (make_item(1, 1), make_item(2, 1))
    assert source.asked == {"search": 1}
    with pytest.raises(InvalidArgument):
        await make_items(nursery, source).of_asset(done(1))


async def test_other_failures_do_not_fall_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def fallback(wanted: str):
        raise AssertionError("asked")

    items = make_items(nursery, Stac(fail=AccessDenied("403")), fallback=fallback)
    with pytest.raises(AccessDenied):
        await items.of_asset(done(1))
    assert await make_items(nursery, Stac(), fallback=fallback).of_asset(done(1)) == ()


# -- pure


def test_the_delivery_is_no_transformed_file_and_a_foreign_file_is_one() -> None:
    archive = StacAsset("data", asset_id(1))
    own = StacAsset("data", "another")
    foreign = StacAsset("x.tif", None, refusal="its link points elsewhere")
    found = make_item(1, 1, assets=(archive, own, foreign))
    assert transformed_files(found) == (own, foreign)
    assert transformed_files(make_item(1, 1, files=0)) == ()


items_strategy = st.lists(
    st.builds(
        lambda n, minute: make_item(n, 1, created=None if minute is None else at(minute)),
        st.integers(0, 50),
        st.none() | st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda item: item.id,
)


@given(items_strategy, st.randoms())
def test_the_order_of_items_does_not_depend_on_how_they_came(found, random) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert in_order(shuffled) == in_order(found)
    dated = [item.created for item in in_order(found) if item.created is not None]
    assert dated == sorted(dated)
    assert set(in_order(found)[: len(dated)]) == {i for i in found if i.created is not None}

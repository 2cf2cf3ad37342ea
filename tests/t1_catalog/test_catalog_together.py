"""Questions about several assets: their forms, and what an answer to one may teach."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from catalog_support import Stac, asset_id, done, make_item
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import make_asset

from up42fs.catalog.items import Items
from up42fs.catalog.together import DOUBTS, Together
from up42fs.errors import InvalidArgument, Unavailable
from up42fs.metrics import Metrics
from up42fs.model.stac import StacItem, in_order
from up42fs.types import CnamStatus


@dataclass
class Picky(Stac):
    """Refuses some operators, is blind to what others find, and hides some items from a filter."""

    refuses: frozenset[str] = frozenset()
    blind_to: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    forms: Counter[str] = field(default_factory=Counter)
    pause: bool = False

    async def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
        form = body["filter"]["op"]
        self.forms[form] += 1
        if self.pause:
            await trio.testing.wait_all_tasks_blocked()
        if form in self.refuses:
            raise InvalidArgument(f"unknown operator {form}")
        async for item in super().search(body):
            is_hidden = form != "=" and item.id in self.hidden
            if form not in self.blind_to and not is_hidden:
                yield item


def source_of(count: int, **habits: Any) -> Picky:
    return Picky(items=[make_item(n, n) for n in range(count)], **habits)


IDS = [asset_id(n) for n in range(5)]


@pytest.mark.parametrize(
    ("habits", "forms"),
    [
        ({}, {"in": 2}),
        ({"refuses": {"in"}}, {"in": 1, "or": 2}),
        ({"blind_to": {"in"}}, {"in": 1, "or": 2}),
    ],
)
async def test_the_form_that_works_is_found_and_kept(
    habits: dict[str, set[str]], forms: dict[str, int]
) -> None:
    source = source_of(5, **habits)
    together = Together(source, Metrics())
    for _ in range(2):
        found = await together.search(IDS)
        assert {id_: [item.id for item in items] for id_, items in found.items()} == {
            asset_id(n): [f"item-{n}"] for n in range(5)
        }
    assert source.forms == forms


@pytest.mark.parametrize(
    "habits",
    [{"refuses": {"in"}}, {"blind_to": {"in"}}, {"refuses": {"or"}}, {"refuses": {"in", "or"}}],
)
async def test_searches_side_by_side_drop_only_their_own_form(habits: dict[str, set[str]]) -> None:
    source = source_of(9, **habits)
    source.pause = True
    together = Together(source, Metrics())
    found: list[dict[str, list[StacItem]]] = []

    async def search(ids: list[str]) -> None:
        with suppress(InvalidArgument):
            found.append(await together.search(ids))

    async with trio.open_nursery() as nursery:
        for first in range(0, 9, 3):
            nursery.start_soon(search, [asset_id(n) for n in range(first, first + 3)])
    is_possible = habits != {"refuses": {"in", "or"}}
    assert together.is_possible == is_possible
    assert [len(each) for each in found] == ([3, 3, 3] if is_possible else [])


async def test_without_any_form_nothing_is_asked_any_more() -> None:
    source = source_of(5, refuses={"in", "or"})
    together = Together(source, Metrics())
    for _ in range(2):
        with pytest.raises(InvalidArgument):
            await together.search(IDS)
    assert not together.is_possible
    assert source.forms == {"in": 1, "or": 1}


async def test_an_empty_answer_is_put_to_the_test_once() -> None:
    source = source_of(0)
    together = Together(source, Metrics())
    for _ in range(3):
        assert await together.search(IDS) == {}
    assert source.forms == {"in": 3, "or": 1}
    assert together.is_possible


async def test_a_form_goes_by_the_second_doubt_in_a_row() -> None:
    source = source_of(5)
    together = Together(source, Metrics())
    error = Unavailable("500")
    together.doubt(error)
    await together.search(IDS)  # works: the doubt was not the form's
    for _ in range(DOUBTS):
        together.doubt(error)
    await together.search(IDS)
    assert source.forms == {"in": 1, "or": 1}
    for _ in range(DOUBTS):
        together.doubt(error)
    assert not together.is_possible


async def test_one_asset_needs_no_operator_for_many() -> None:
    source = source_of(5, refuses={"in", "or"})
    assert (await Together(source, Metrics()).search(IDS[:1])).keys() == set(IDS[:1])


statuses = st.sampled_from(list(CnamStatus))


@pytest.mark.claim("S160")
@settings(max_examples=300)
@given(
    rows=st.lists(st.tuples(statuses, st.integers(0, 3), st.booleans()), min_size=1, max_size=6),
    hidden=st.sets(st.integers(0, 20)),
    refuses=st.sets(st.sampled_from(["in", "or"])),
    blind_to=st.sets(st.sampled_from(["in", "or"])),
)
def test_whatever_is_missing_of_a_wider_answer_the_directory_has_its_items(
    rows: list[tuple[CnamStatus, int, bool]],
    hidden: set[int],
    refuses: set[str],
    blind_to: set[str],
) -> None:
    """`hidden` items are whole assets' here: of a question by asset an answer has all or none."""
    items: list[StacItem] = []
    assets = []
    for number, (status, count, is_whole) in enumerate(rows):
        assets.append(make_asset(number, cnam_status=status))
        items += [
            make_item(10 * number + n, number, files=2 if is_whole else 0) for n in range(count)
        ]
    source = Picky(
        items=items,
        refuses=frozenset(refuses),
        blind_to=frozenset(blind_to),
        hidden=frozenset(i.id for i in items if int(i.id.split("-")[1]) // 10 in hidden),
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            memory = Items(nursery, source, metrics=Metrics())
            try:
                await memory.learn(assets)
            except InvalidArgument:
                assert {"in", "or"} <= refuses
            for asset in assets:
                if asset.cnam_status in (CnamStatus.SUCCESSFUL, CnamStatus.IN_PROGRESS):
                    expected = in_order(i for i in items if i.asset_id == asset.id)
                    assert await memory.of_asset(asset) == expected

    trio.run(main)


async def test_a_hundred_assets_are_one_search_and_what_is_known_none(
    nursery: trio.Nursery,
) -> None:
    source = source_of(100)
    items = Items(nursery, source, metrics=Metrics())
    assets = [done(n) for n in range(100)]
    for _ in range(2):
        await items.learn(assets)
        for asset in assets:
            assert len(await items.of_asset(asset)) == 1
    assert source.forms == {"in": 1}


async def test_what_is_untransformed_may_have_no_items_by_the_wider_answer(
    nursery: trio.Nursery,
) -> None:
    source = source_of(1)
    items = Items(nursery, source, metrics=Metrics())
    await items.learn([done(0), make_asset(1), make_asset(2)])
    assert await items.of_asset(make_asset(1)) == ()
    assert source.forms == {"in": 1}


async def test_one_unknown_asset_is_left_to_its_own_search(nursery: trio.Nursery) -> None:
    source = source_of(1)
    await Items(nursery, source, metrics=Metrics()).learn([done(0)])
    assert not source.forms

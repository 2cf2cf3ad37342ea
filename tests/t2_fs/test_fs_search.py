"""`search/`: names that are queries, what they ask, and what they show."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import trio
from catalog_support import make_item
from fs_support import World
from hypothesis import given
from hypothesis import strategies as st
from stac_support import Stac, done, item_of, stac_world
from strategies import at, make_asset, make_order
from trio.testing import MockClock

from up42fs.api.client import Client
from up42fs.catalog.index import ListingKind
from up42fs.catalog.searches import Searches
from up42fs.deadlines import note
from up42fs.errors import Offline, Unavailable
from up42fs.fs.finding import BRANCH_TIMEOUT_S
from up42fs.fs.tree.layout import BRANCH_TTL_S
from up42fs.fs.tree.nodes import Absent, Attributes
from up42fs.metrics import Metrics
from up42fs.model.query import parse_query
from up42fs.model.stac import StacItem

ORDER = make_order(1, display_name="Berlin May")
ONE = done(1, name="one.zip", collection="phr", tags=("harbour",), order_id=ORDER.id)
TWO = make_asset(2, name="two.zip", collection="pneo", title="Berlin")
THREE = make_asset(3, name="three.zip", collection="phr")


@pytest.fixture
def stac() -> Stac:
    found = {
        "cloud<10": frozenset({ONE.id, TWO.id, "an-asset-that-left"}),
        "collection=phr,cloud<10": frozenset({ONE.id, TWO.id}),
    }
    return Stac((item_of(ONE, 1),), found=found)


@pytest.fixture
def world(stac: Stac) -> World:
    return stac_world(stac, ORDER, ONE, TWO, THREE)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("collection=phr", ["one.zip", "one", "three.zip"]),
        ("COLLECTION = PHR", ["one.zip", "one", "three.zip"]),
        ("tag=harbour", ["one.zip", "one"]),
        ("text=berlin", ["one.zip", "one", "two.zip"]),
        ("order=berlin may", ["one.zip", "one"]),
        ("status=successful", ["one.zip", "one"]),
        ("collection=phr,tag=harbour", ["one.zip", "one"]),
        ("collection=spot", []),
    ],
)
async def test_memory_answers_without_asking(
    world: World, stac: Stac, query: str, names: list[str]
) -> None:
    assert await world.list(f"search/{query}") == names
    assert not stac.asked


async def test_a_search_is_asked_when_it_is_looked_into(world: World, stac: Stac) -> None:
    search = await world.walk("search")
    found = await world.fs.lookup(search, "cloud<10")
    assert isinstance(found, Attributes)
    assert (found.ttl_s, found.nlink) == (0, 1)
    await world.fs.getattr(found.inode)
    assert not stac.asked
    assert await world.list("search") == []
    assert await world.list("search/cloud<10") == ["one.zip", "one", "two.zip"]
    assert set(stac.asked) == {"search cloud<10"}
    assert await world.list("search") == ["cloud<10"]


async def test_what_stac_found_is_checked_in_memory_too(world: World) -> None:
    # STAC said two, but only one of them is of that collection.
    assert await world.list("search/collection=phr,cloud<10") == ["one.zip", "one"]


async def test_files_of_what_is_found(world: World) -> None:
    assert sorted(await world.list("search/cloud<10/one")) == ["b02.tiff", "item.json"]
    file = await world.walk("search/cloud<10/one/b02.tiff")
    assert file == await world.walk("assets/one/b02.tiff")
    assert await world.walk("search/cloud<10/two.zip") == await world.walk("assets/two.zip")


@pytest.mark.parametrize("name", ["berlin", "cloud", "cloud<x", "bbox=1,2", ".git", "x=1", ""])
async def test_what_is_no_query_is_absent(world: World, stac: Stac, name: str) -> None:
    found = await world.fs.lookup(await world.walk("search"), name)
    assert found == Absent(BRANCH_TTL_S)
    assert not stac.asked
    assert await world.list("search") == []


async def test_a_search_waits_for_the_listings(world: World) -> None:
    world.catalogue.asked.clear()
    await world.walk("search/tag=harbour")
    assert {part for parts, _ in world.catalogue.asked for part in parts} == {
        ListingKind.ASSETS, ListingKind.ORDERS,
    }  # fmt: skip


async def test_results_follow_the_storage(world: World) -> None:
    path = "search/collection=phr"
    assert "three.zip" in await world.list(path)
    inode = await world.walk(path)
    stale = world.put(make_asset(4, name="four.zip", collection="phr"))
    assert (inode, "four.zip") in {(item.inode, item.name) for item in stale}
    assert "four.zip" in await world.list(path)
    world.remove(THREE)
    assert "three.zip" not in await world.list(path)
    by_order = "search/order=renamed"
    assert await world.list(by_order) == []
    world.put(replace(ORDER, display_name="Renamed", updated_at=at(90)))
    assert await world.list(by_order) == ["one.zip", "one"]


async def test_old_queries_are_forgotten_and_found_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may be asked for any number of names."""
    monkeypatch.setattr("up42fs.fs.branches.search.MOST_QUERIES", 3)
    fresh = stac_world(Stac(), *world.index.assets.values())
    queries = [f"text=none{number}" for number in range(5)]
    for query in (*queries, queries[0]):
        assert await fresh.list(f"search/{query}") == []
    assert await fresh.list("search") == sorted((queries[0], *queries[3:]))


async def test_a_failed_search_is_told(world: World, stac: Stac) -> None:
    stac.fail["search"] = Offline("no network")
    inode = await world.walk("search/cloud<10")
    with pytest.raises(Offline):
        await world.fs.opendir(inode)
    assert await world.list("search") == []
    stac.fail.clear()
    assert len(await world.list("search/cloud<10")) == 3


async def test_who_runs_out_of_time_hears_what_went_wrong(
    world: World, stac: Stac, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch
) -> None:
    """The search goes on for longer than a program waits for a directory."""

    class Source(Client):
        def __init__(self) -> None:
            """It needs no connection."""

        async def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
            await trio.sleep(3)
            note(Unavailable("UP42 answered 502"))
            await trio.sleep(math.inf)
            yield make_item(1, 1)

    monkeypatch.setattr(stac, "asset_ids", Searches(nursery, Source(), metrics=Metrics()).asset_ids)
    inode = await world.walk("search/cloud<10")
    with pytest.raises(Unavailable, match="502"):
        await world.fs.opendir(inode)
    assert trio.current_time() == BRANCH_TIMEOUT_S


async def test_a_newer_answer_is_shown(world: World, stac: Stac) -> None:
    assert "one.zip" in await world.list("search/cloud<10")
    stac.found["cloud<10"] = frozenset({THREE.id})
    assert await world.list("search/cloud<10") == ["three.zip"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), max_size=30))
def test_a_name_is_there_exactly_if_it_parses(name: str) -> None:
    async def main() -> None:
        stac = Stac()
        world = stac_world(stac, ONE)
        found = await world.fs.lookup(await world.walk("search"), name)
        assert isinstance(found, Attributes) == (parse_query(name) is not None)
        assert not stac.asked

    trio.run(main)

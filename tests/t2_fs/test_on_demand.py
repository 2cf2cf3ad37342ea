"""The engine on demand: it asks UP42 for what a call needs, and for nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from harness import Emulator, emulator
from hypothesis import given
from hypothesis import strategies as st

from up42fs.catalog.on_demand import MOST_QUESTIONS
from up42fs.config.settings import resolve
from up42fs.engine import Engine
from up42fs.errors import NotFound, Offline
from up42fs.model.names import certain_part, safe_name

OTHER = "11111111-2222-3333-4444-555555555555"
#: Assets and orders: 35 pages and two.
ROWS = "3500,120,0"


@pytest.fixture(scope="module")
def large() -> Iterator[Emulator]:
    with emulator("--synthetic", ROWS) as running:
        yield running


@asynccontextmanager
async def on_demand(store: Emulator, cache: Path, **arguments: str) -> AsyncIterator[Engine]:
    settings = resolve(
        arguments={"cache_dir": str(cache)} | arguments,
        mount_options={},
        environ=store.env,
        file={},
    )
    with trio.fail_after(60):
        async with Engine.open(settings, on_demand=True) as engine:
            yield engine


class Requests:
    """What a block of code asks of the emulator, by route."""

    def __init__(self, store: Emulator) -> None:
        self._store = store
        self._since = store.remote.position()

    def __call__(self) -> dict[str, int]:
        return self._store.requests(self._since)


async def test_opening_asks_for_nothing(large: Emulator, tmp_path: Path) -> None:
    asked = Requests(large)
    async with on_demand(large, tmp_path) as engine:
        assert (await engine.stat("/orders")).is_dir
        await trio.sleep(0.3)
    assert asked() == {}


@pytest.mark.claim("S398")
async def test_the_top_level_costs_three_questions_and_no_listing(tmp_path: Path) -> None:
    with emulator("--synthetic", "350,3,0") as store:

        async def top(cache: str) -> set[str]:
            async with on_demand(store, tmp_path / cache) as engine:
                await engine.stat("/workspaces" if cache == "looked" else "/orders")
                return {entry.name for entry in await engine.entries("/")}

        asked = Requests(store)
        assert not {"workspaces", "jobs"} & await top("neither")
        assert asked() == {"auth.token": 1, "assets.list": 3}
        store.remote.storage("add_asset", name="result.tif", source="PROCESSING")
        assert {"jobs"} == {"workspaces", "jobs"} & await top("results")
        store.remote.storage("add_asset", name="theirs.tif", workspace_id=OTHER)
        asked = Requests(store)
        assert {"workspaces", "jobs"} <= await top("both")
        assert asked() == {"auth.token": 1, "assets.list": 3}
        async with on_demand(store, tmp_path / "workspaces") as engine:
            assert OTHER in {entry.name for entry in await engine.entries("/workspaces")}
            assert (await engine.entries(f"/workspaces/{OTHER}"))[0].name == "theirs.tif"


async def test_a_storage_that_is_small_is_listed_for_the_top_level(tmp_path: Path) -> None:
    with emulator("--synthetic", "3,1,0") as store:
        store.remote.storage("add_asset", name="theirs.tif", workspace_id=OTHER)
        asked = Requests(store)
        async with on_demand(store, tmp_path) as engine:
            assert "workspaces" in {entry.name for entry in await engine.entries("/")}
        assert sum(asked().values()) <= 4


async def test_questions_that_up42_refuses_cost_the_listing(tmp_path: Path) -> None:
    with emulator("--synthetic", "350,3,0") as store:
        store.remote.storage("add_asset", name="result.tif", source="PROCESSING")
        store.remote.faults(fail_route="assets.list", fail_skip=2, fail_next=1, fail_status=400)
        async with on_demand(store, tmp_path) as engine:
            assert "jobs" in {entry.name for entry in await engine.entries("/")}


@pytest.mark.claim("S260")
async def test_one_order_is_asked_for_alone(large: Emulator, tmp_path: Path) -> None:
    asked = Requests(large)
    async with on_demand(large, tmp_path) as engine:
        found = await engine.entries("/orders/Order 00007")
        first = next(entry for entry in found if not entry.is_dir)
        await engine.stat(f"/orders/Order 00007/{first.name}")
        assert asked() == {"auth.token": 1, "orders.list": 1, "assets.list": 1}
        async with engine.opened(f"/orders/Order 00007/{first.name}") as file:
            await file.read(0, 10)
    assert asked()["assets.sign"] == 1


@pytest.mark.claim("S260")
async def test_an_id_and_a_name_are_asked_for_alone(large: Emulator, tmp_path: Path) -> None:
    asset_id = large.asset("esa_000150.zip")
    for path in (f"assets/{asset_id}", "assets/esa_000150.zip"):
        asked = Requests(large)
        async with on_demand(large, tmp_path / path[-6:]) as engine:
            assert (await engine.attribute("/" + path, "user.up42.id")).decode() == asset_id
        assert sum(asked().values()) == 2, asked()


async def test_a_name_that_clashes_is_the_mounts(large: Emulator, tmp_path: Path) -> None:
    twins = [
        large.remote.storage("add_asset", name=name, size=size, seed=1, created_at=day)["id"]
        for name, size, day in (
            ("twin_x.tif", 1, "2026-06-03T00:00:00Z"),
            ("twin/x.tif", 2, "2026-06-02T00:00:00Z"),
        )
    ]
    async with on_demand(large, tmp_path) as engine:
        # What UP42 calls `twin/x.tif` is older, and keeps the name that both would have.
        assert (await engine.stat("/assets/twin_x.tif")).size == 2
        by_suffix = f"/assets/twin_x [{twins[0][:8]}].tif"
        assert (await engine.stat(by_suffix)).size == 1


async def test_a_missing_order_costs_no_listing_of_assets(large: Emulator, tmp_path: Path) -> None:
    asked = Requests(large)
    async with on_demand(large, tmp_path) as engine:
        with pytest.raises(NotFound, match="there is no Ordre 7"):
            await engine.entries("/orders/Ordre 7")
    assert "assets.list" not in asked()


async def test_many_orders_are_not_asked_one_by_one(large: Emulator, tmp_path: Path) -> None:
    asked = Requests(large)
    async with on_demand(large, tmp_path) as engine:
        for entry in await engine.entries("/orders"):
            await engine.entries(f"/orders/{entry.name}")
    # All pages and one more look, and the narrow questions before them; 120 orders stand there.
    assert asked()["assets.list"] <= 37 + MOST_QUESTIONS


async def test_what_was_stored_is_refreshed_once(tmp_path: Path) -> None:
    with emulator("--synthetic", "30,4,2") as store:
        async with on_demand(store, tmp_path) as engine:
            first = await engine.entries("/assets")
        store.remote.storage("add_asset", name="news.bin", size=10, seed=1)
        asked = Requests(store)
        async with on_demand(store, tmp_path) as engine:
            names = {entry.name for entry in await engine.entries("/assets")}
            await engine.entries("/assets")
            await engine.entries("/tags")
        assert names == {entry.name for entry in first} | {"news.bin"}
        assert asked() == {"auth.token": 1, "assets.list": 1}


async def test_a_removed_asset_is_gone_from_its_order(tmp_path: Path) -> None:
    with emulator("--synthetic", "30,2,2") as store:
        async with on_demand(store, tmp_path) as engine:
            await engine.entries("/assets")
            names = [e.name for e in await engine.entries("/orders/Order 00001") if not e.is_dir]
        store.remote.storage("remove_asset", id=store.asset(names[0]))
        async with on_demand(store, tmp_path) as engine:
            left = [e.name for e in await engine.entries("/orders/Order 00001") if not e.is_dir]
        assert left == names[1:]


async def test_what_is_known_is_shown_while_up42_is_away(tmp_path: Path) -> None:
    with emulator("--synthetic", "30,4,2") as store:
        async with on_demand(store, tmp_path) as engine:
            names = await engine.entries("/assets")
    async with on_demand(store, tmp_path) as engine:
        assert await engine.entries("/assets") == names
        with pytest.raises(Offline):
            async with engine.opened(f"/assets/{names[0].name}") as file:
                await file.read(0, 10)
    async with on_demand(store, tmp_path / "empty") as engine:
        with pytest.raises(Offline):
            await engine.entries("/assets")


async def test_it_refreshes_after_a_while_only(tmp_path: Path) -> None:
    with emulator("--synthetic", "30,4,2") as store:
        async with on_demand(store, tmp_path, refresh="1") as engine:
            await engine.entries("/assets")
            asked = Requests(store)
            await trio.sleep(1.2)
            assert asked() == {}
            store.remote.storage("add_asset", name="news.bin", size=10, seed=1)
            assert "news.bin" in {entry.name for entry in await engine.entries("/assets")}
            assert asked() == {"assets.list": 1}


@given(st.text(), st.sampled_from(["", ".tif", ".zip"]))
def test_a_name_contains_the_part_that_is_searched_for(raw: str, extension: str) -> None:
    shown = safe_name(raw + extension)
    part = certain_part(shown) if shown else None
    if part is not None:
        assert part in raw + extension

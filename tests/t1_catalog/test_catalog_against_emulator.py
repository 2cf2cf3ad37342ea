"""Items, collections and the STAC-only storage against the emulator, by the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
from habits import HABITS

from up42fs.api.auth import Credentials, TokenSource
from up42fs.api.client import Client
from up42fs.api.network import make_http
from up42fs.catalog.collections import Collections
from up42fs.catalog.index import Index, ListingKind
from up42fs.catalog.items import Items
from up42fs.catalog.listings import AssetListing, OrderListing
from up42fs.catalog.sync import Sync
from up42fs.emulator import (
    EmulatedAccount,
    EmulatorSettings,
    Faults,
    Remote,
    Storage,
    SyntheticSize,
    serve,
)
from up42fs.emulator.content import PatternContent
from up42fs.emulator.storage import Collection, EmulatedAsset, Item, StacFile
from up42fs.metrics import Metrics
from up42fs.model.stac import transformed_files
from up42fs.types import Asset, CnamStatus, Order

SYNTHETIC = EmulatorSettings(synthetic=SyntheticSize(assets=230, orders=7, tags=3))
SAMPLE = EmulatorSettings()
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass
class Bench:
    client: Client
    remote: Remote
    nursery: trio.Nursery
    metrics: Metrics

    def items(self, **settings: Any) -> Items:
        return Items(self.nursery, self.client, metrics=self.metrics, **settings)

    def collections(self, **settings: Any) -> Collections:
        return Collections(self.nursery, self.client, metrics=self.metrics, **settings)

    def assets(self) -> AssetListing:
        return AssetListing(self.client)

    def orders(self) -> OrderListing:
        return OrderListing(self.client)

    async def count(self, route: str | None = None) -> int:
        return await trio.to_thread.run_sync(self.remote.count, route)

    async def clear(self) -> None:
        await trio.to_thread.run_sync(self.remote.clear)

    async def faults(self, **switches: Any) -> None:
        await trio.to_thread.run_sync(partial(self.remote.faults, **switches))

    async def change(self, op: str, **fields: Any) -> None:
        await trio.to_thread.run_sync(partial(self.remote.storage, op, **fields))


@asynccontextmanager
async def running(
    settings: EmulatorSettings, storage: Storage | None = None, **switches: Any
) -> AsyncIterator[Bench]:
    settings = EmulatorSettings(synthetic=settings.synthetic, faults=Faults(**switches))
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            urls = await nursery.start(serve, settings, storage)
            metrics = Metrics()
            async with make_http() as http:
                credentials = Credentials("demo@up42fs.example", "demo")
                tokens = TokenSource(http, urls.auth_url, credentials, metrics=metrics)
                # Waits between attempts are by chance: none, here.
                api_url = urls.api_url + (settings.faults.api_prefix or "")
                client = Client(http, tokens, api_url, metrics=metrics, jitter=lambda: 0.0)
                yield Bench(client, Remote(urls.control_url), nursery, metrics)
        nursery.cancel_scope.cancel()


def with_items(*counts: tuple[int, int]) -> Storage:
    """A storage with a transformed asset for each (items, files an item)."""
    storage = Storage(EmulatedAccount("demo@up42fs.example", "demo"))
    account = storage.account
    for number, (items, files) in enumerate(counts):
        made = EmulatedAsset(
            f"asset-{number}", 1, 1, account.workspace_id, account.account_id, status="SUCCESSFUL"
        )
        storage.put_asset(made, PatternContent(number, 1000))
        name = f"collection-{number}"
        rows = [
            Item(
                f"item-{number}-{n}", name, "scene", 1, (0.0, 0.0, 1.0, 1.0),
                tuple(StacFile(f"b{k}.tiff", f"file-{number}-{n}-{k}", COG) for k in range(files)),
            )
            for n in range(items)
        ]  # fmt: skip
        storage.put_collection(Collection(name, made.id, "scene", 1, rows, True))
    return storage


async def every(rows: AsyncIterator[Any]) -> list[Any]:
    return [row async for row in rows]


SWITCHES = [
    {},
    {"href_suffix": "mixed"},
    {"http_next_link": True},
    {"stac_random_401_share": 0.2},
    {"max_page_size": 7},
    {"page_size_error_above": 50},
    *HABITS.values(),
]


# -- items of assets


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("settings", [SAMPLE, SYNTHETIC], ids=["sample", "synthetic"])
async def test_every_transformed_asset_has_its_items(
    settings: EmulatorSettings, switches: dict[str, Any]
) -> None:
    async with running(settings, **switches) as bench:
        items = bench.items()
        assets = await every(bench.client.all_assets())
        done = [a for a in assets if a.cnam_status is CnamStatus.SUCCESSFUL][:25]
        expected = await every(bench.client.search({}))
        assert len(done) >= 4
        for asset in done:
            found = await items.of_asset(asset)
            assert any(map(transformed_files, found))
            assert all(file.asset_id for item in found for file in item.assets)
            assert set(found) == {item for item in expected if item.asset_id == asset.id}
        assert bench.metrics["catalog.item_searches"] == len(done)


async def test_the_two_scenes_of_a_stereo_pair() -> None:
    async with running(SAMPLE) as bench:
        (pair,) = [a for a in await every(bench.client.all_assets()) if "stereo" in (a.name or "")]
        one, two = await bench.items().of_asset(pair)
        assert one.id != two.id
        assert [file.key for file in one.assets] == [file.key for file in two.assets]


@pytest.mark.parametrize(
    ("items", "files", "searches"), [(1, 21, 1), (100, 1, 1), (101, 1, 2), (250, 2, 3)]
)
async def test_one_search_for_a_hundred_items(items: int, files: int, searches: int) -> None:
    async with running(SAMPLE, with_items((items, files), (3, 1))) as bench:
        asset = next(a for a in await every(bench.client.all_assets()) if a.id == "asset-0")
        memory = bench.items()
        await bench.clear()
        async with trio.open_nursery() as lookers:
            for _ in range(10):
                lookers.start_soon(memory.of_asset, asset)
        found = await memory.of_asset(asset)
        assert len(found) == items
        assert {len(item.assets) for item in found} == {files}
        assert await bench.count("stac.search") == await bench.count() == searches


async def test_items_appear_when_the_transformation_ends() -> None:
    async with running(SAMPLE) as bench:
        assets = await every(bench.client.all_assets())
        arriving = next(a for a in assets if a.cnam_status is CnamStatus.IN_PROGRESS)
        items = bench.items()
        assert not any(map(transformed_files, await items.of_asset(arriving)))
        await bench.change("set_cnam_status", id=arriving.id, status="SUCCESSFUL")
        arrived = await bench.client.asset(arriving.id)
        (item,) = await items.of_asset(arrived)
        assert [file.key for file in item.assets] == ["image.tiff", "metadata.xml"]


@pytest.mark.claim("S160")
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
async def test_several_assets_asked_together_have_their_items(switches: dict[str, Any]) -> None:
    async with running(SYNTHETIC, **switches) as bench:
        items = bench.items()
        assets = await every(bench.client.all_assets())
        expected = await every(bench.client.search({}))
        done = [a for a in assets if a.cnam_status is CnamStatus.SUCCESSFUL]
        before = await bench.count("stac.search")
        await items.learn(done[:90])
        refused = 1 if switches.get("in_refused") else 0
        pages = 5 if switches.get("max_page_size") == 20 else None
        if (
            not switches.keys()
            & {
                "max_page_size",
                "page_size_error_above",
                "stac_random_401_share",
            }
            or pages
        ):
            assert await bench.count("stac.search") - before == (pages or 1) + refused
        for asset in done[:90]:
            found = await items.of_asset(asset)
            assert any(map(transformed_files, found))
            assert set(found) == {item for item in expected if item.asset_id == asset.id}
        signed = await bench.client.sign(found[0].assets[0].asset_id or "")
        assert signed.url


# -- collections


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
async def test_collections_and_their_items(switches: dict[str, Any]) -> None:
    async with running(SYNTHETIC, **switches) as bench:
        collections = bench.collections()
        rows = await collections.all()
        assert len({row.id for row in rows}) == len(rows) == 230
        expected = await every(bench.client.search({}))
        for row in rows[:15]:
            found = await collections.items(row.id)
            assert set(found) == {item for item in expected if item.collection_id == row.id}


async def test_collections_cost_a_request_per_hundred_and_items_one() -> None:
    async with running(SYNTHETIC) as bench:
        items = bench.items()
        collections = bench.collections(items=items)
        rows = await collections.all()
        await collections.all()
        assert await bench.count("stac.collections") == 3
        await collections.items(rows[0].id)
        await collections.items(rows[0].id)
        assert await bench.count("stac.items") == 1
        assert rows[0].asset_id is not None
        asset = await bench.client.asset(rows[0].asset_id)
        assert await items.of_asset(asset) == await collections.items(rows[0].id)
        assert await bench.count("stac.search") == 0


# -- without /v2/assets


async def synced(bench: Bench, nursery: trio.Nursery) -> tuple[Index, AssetListing]:
    index, assets = Index(), bench.assets()
    sync = Sync(
        index, assets=assets, orders=bench.orders(), on_change=lambda _: None, refresh_s=3600
    )
    nursery.start_soon(sync.run)
    await sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=30)
    return index, assets


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("settings", [SAMPLE, SYNTHETIC], ids=["sample", "synthetic"])
async def test_the_storage_out_of_stac_is_the_storage(
    settings: EmulatorSettings, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings) as bench:
        expected = {asset.id: asset for asset in await every(bench.client.all_assets())}
        orders = {order.id: order for order in await every(bench.client.all_orders())}
        await bench.faults(assets_gone=status)
        await bench.clear()
        async with trio.open_nursery() as nursery:
            index, listing = await synced(bench, nursery)
            nursery.cancel_scope.cancel()
        assert listing.mode == "stac"
        assert f"no longer lists /v2/assets ({status})" in caplog.text
        assert dict(index.orders) == orders
        assert index.assets.keys() == expected.keys()
        for found in index.assets.values():
            same_delivery(found, expected[found.id])
        assert await bench.count("assets.list") == 2, "once more before it is believed"
        pages = -(-len(expected) // 100)
        assert await bench.count("stac.collections") == pages
        assert pages <= await bench.count("stac.search") <= pages + 1


def same_delivery(found: Asset, expected: Asset) -> None:
    """All that STAC has of an asset is as `/v2/assets` had it."""
    assert (found.order_id, found.tags) == (expected.order_id, expected.tags)
    for key in (
        "workspace_id", "account_id", "product_id", "collection", "content_type", "source",
    ):  # fmt: skip
        # Either side may leave a key out.
        both = {getattr(found, key), getattr(expected, key)} - {None}
        assert len(both) <= 1, key
    assert found.title == expected.title or expected.title is None
    assert found.title
    assert found.name in (None, expected.name or expected.id)
    assert found.size is None
    is_done = expected.cnam_status is CnamStatus.SUCCESSFUL
    assert (found.cnam_status is CnamStatus.SUCCESSFUL) is is_done


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
async def test_the_storage_out_of_stac_whatever_the_service_is_like(
    switches: dict[str, Any],
) -> None:
    async with running(SYNTHETIC, assets_gone=404, **switches) as bench:
        assets = await every(bench.assets().everything())
        expected = await trio.to_thread.run_sync(bench.remote.storage)
        assert {asset.id for asset in assets} == {row["id"] for row in expected["assets"]}


async def test_changes_reach_a_storage_out_of_stac() -> None:
    async with running(SAMPLE, assets_gone=404) as bench:
        listing = bench.assets()
        before = {asset.id: asset for asset in await every(listing.everything())}
        await bench.clear()
        page = await listing.newest(0)
        assert await bench.count() == 2
        assert {asset.id: asset for asset in page.items} == before
        assert page.total == len(before)
        renamed, removed, *_ = before
        await bench.change("set_metadata", id=renamed, title="New name", tags=["new"])
        await bench.change("remove_asset", id=removed)
        page = await listing.newest(0)
        after = {asset.id: asset for asset in page.items}
        assert (after[renamed].title, after[renamed].tags) == ("New name", ("new",))
        assert after.keys() == before.keys() - {removed}
        assert page.total == len(after)


async def test_orders_out_of_stac() -> None:
    async with running(SYNTHETIC) as bench:
        listed: dict[str, Order] = {o.id: o for o in await every(bench.client.all_orders())}
        await bench.faults(fail_route="orders.list", fail_status=404)
        listing = bench.orders()
        orders = await every(listing.everything())
        assert listing.mode == "stac"
        assert {order.id: order.status for order in orders} == {
            key: order.status for key, order in listed.items()
        }


# -- refreshes


ODD_TOTALS: list[dict[str, Any]] = [
    {},
    {"rows_without_id": 1},
    {"rows_twice": 1},
    {"total_off": -3},
    {"rows_without_id": 3, "rows_twice": 5, "total_off": 2},
]


@pytest.mark.claim("S57")
@pytest.mark.claim("S58")
@pytest.mark.claim("S162")
@pytest.mark.parametrize("switches", ODD_TOTALS, ids=str)
async def test_a_refresh_is_one_request_and_finds_removals(switches: dict[str, Any]) -> None:
    many = EmulatorSettings(synthetic=SyntheticSize(assets=1000, orders=120, tags=3, transformed=0))
    async with running(many, **switches) as bench, trio.open_nursery() as nursery:
        index = Index()
        sync = Sync(
            index,
            assets=bench.assets(),
            orders=bench.orders(),
            on_change=lambda _: None,
            refresh_s=3600,
        )
        nursery.start_soon(sync.run)
        await sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=30)

        async def asked_by_a_refresh() -> tuple[int, int]:
            await trio.sleep(0.1)
            await bench.clear()
            sync.refresh_now()
            await trio.sleep(1.0)
            return await bench.count("assets.list"), await bench.count("orders.list")

        # One asset is in the making: every second refresh asks for those, too.
        assert await asked_by_a_refresh() == (1, 1)
        assert await asked_by_a_refresh() == (2, 1)
        gone = next(iter(index.assets))
        await bench.change("remove_asset", id=gone)
        assert (await asked_by_a_refresh())[0] >= 11
        assert gone not in index.assets
        assert len(index.assets) == 999
        assert await asked_by_a_refresh() == (2, 1)
        nursery.cancel_scope.cancel()

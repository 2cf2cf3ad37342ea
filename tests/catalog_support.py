"""A STAC catalogue in memory that counts what is asked of it, and builders of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio
from strategies import at, make_asset

from up42fs.api.client import Client
from up42fs.api.pages import Page
from up42fs.errors import NotFound
from up42fs.model.stac import StacAsset, StacCollection, StacItem
from up42fs.types import Asset, CnamStatus, Order


def asset_id(number: int) -> str:
    return make_asset(number).id


def done(number: int, **fields: object) -> Asset:
    """A transformed asset."""
    return make_asset(number, cnam_status=CnamStatus.SUCCESSFUL, **fields)


def make_item(number: int, of: int | None, *, files: int = 2, **fields: Any) -> StacItem:
    """An item of asset `of`: `files` transformed ones, or the archive alone for 0."""
    made = tuple(StacAsset(f"b{n:02d}.tiff", f"file-{number}-{n}") for n in range(files))
    values: dict[str, Any] = {
        "id": f"item-{number}",
        "collection_id": f"collection-{of}",
        "asset_id": None if of is None else asset_id(of),
        "assets": made or (StacAsset("data", None if of is None else asset_id(of)),),
        "created": at(number),
    }
    return StacItem(**(values | fields))


def make_collection(number: int, of: int | None, **fields: Any) -> StacCollection:
    values: dict[str, Any] = {
        "id": f"collection-{number}",
        "asset_id": None if of is None else asset_id(of),
        "title": f"SCENE_{number}",
    }
    return StacCollection(**(values | fields))


@dataclass
class Stac(Client):
    """STAC from memory, one checkpoint a row; other listings are given as they are to be."""

    collections: list[StacCollection] = field(default_factory=list)
    items: list[StacItem] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    fail: Exception | None = None
    hang: bool = False
    latency_s: float = 0.0
    #: UP42's own listings: `everything()`, `newest(page)` and `rows`.
    assets: Any = None
    orders: Any = None

    async def all_assets(self, *, memo: Any = None, **_: Any) -> AsyncGenerator[Asset, None]:
        async for row in self.assets.everything():
            yield row
        memo.total = len(self.assets.rows)

    async def assets_page(self, page: int, **_: Any) -> Page[Asset]:
        return await self.assets.newest(page)

    async def all_orders(self, *, memo: Any = None) -> AsyncGenerator[Order, None]:
        async for row in self.orders.everything():
            yield row
        memo.total = len(self.orders.rows)

    async def orders_page(self, page: int, **_: Any) -> Page[Order]:
        return await self.orders.newest(page)

    async def all_collections(self) -> AsyncGenerator[StacCollection, None]:
        await self._begin("collections")
        for row in list(self.collections):
            self.asked["rows"] += 1
            await trio.lowlevel.checkpoint()
            yield row

    async def all_items(self, collection_id: str) -> AsyncGenerator[StacItem, None]:
        await self._begin("items")
        if collection_id not in {row.id for row in self.collections}:
            raise NotFound(f"no collection {collection_id}")
        for row in [row for row in self.items if row.collection_id == collection_id]:
            await trio.lowlevel.checkpoint()
            yield row

    async def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
        await self._begin("search")
        for row in [row for row in self.items if _finds(body, row)]:
            await trio.lowlevel.checkpoint()
            yield row

    async def _begin(self, what: str) -> None:
        self.asked[what] += 1
        await trio.sleep(self.latency_s)
        if self.hang:
            await trio.sleep_forever()
        if self.fail is not None:
            raise self.fail


def _finds(body: Mapping[str, Any], item: StacItem) -> bool:
    if "collections" in body:
        return item.collection_id in body["collections"]
    return _holds(body["filter"], item)


def _holds(expression: Mapping[str, Any], item: StacItem) -> bool:
    if expression["op"] == "or":
        return any(_holds(part, item) for part in expression["args"])
    name, value = expression["args"]
    found = {"asset_id": item.asset_id, "order_id": item.order_id}[name["property"]]
    if expression["op"] == "in":
        return found in value
    assert expression["op"] == "="
    return found == value

"""A STAC catalogue in memory that counts what the file system asks of it, and its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import trio
from fs_support import World
from strategies import at, make_asset

from up42fs.api.schema import parse_collection, parse_item
from up42fs.catalog.collections import Collections
from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.catalog.searches import Searches
from up42fs.fs.branches.branches import Branches
from up42fs.model.outlines import Drawn, draw
from up42fs.model.query import Query
from up42fs.model.stac import StacCollection, StacItem
from up42fs.types import Asset, CnamStatus

API = "https://api.up42.com"
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


def done(number: int, **fields: Any) -> Asset:
    """A transformed asset."""
    return make_asset(number, cnam_status=CnamStatus.SUCCESSFUL, **fields)


def file_id(item: int, number: int) -> str:
    return f"{item:04x}{number:04x}-0000-4000-9000-000000000000"


def item_of(
    asset: Asset, number: int, keys: tuple[str, ...] = ("b02.tiff",), **fields: Any
) -> StacItem:
    """Item `number` with a file for each key; `hrefs` overrides links by key."""
    hrefs = fields.pop("hrefs", {})
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"item-{number}",
        "collection": f"collection-{asset.id[:8]}",
        "geometry": SQUARE,
        "bbox": [0, 0, 1, 1],
        "properties": {
            "datetime": "2024-05-01T10:00:00+00:00",
            "created": at(number).isoformat(),
            "title": f"scene {number}",
            "eo:cloud_cover": 7.5,
            "up42-system:asset_id": asset.id,
        },
        "links": [],
        "assets": {
            key: {
                "href": hrefs.get(key, f"{API}/v2/assets/{file_id(number, n)}"),
                "type": "image/tiff",
                "roles": ["data"],
            }
            for n, key in enumerate(keys)
        },
    }
    item = parse_item(document | fields, API)
    assert item is not None
    return item


def collection_of(asset: Asset, **fields: Any) -> StacCollection:
    document = {
        "id": f"collection-{asset.id[:8]}",
        "title": f"delivery of {asset.name}",
        "up42-system:asset_id": asset.id,
        "links": [],
    }
    collection = parse_collection(document | fields, API)
    assert collection is not None
    return collection


@dataclass
class Stac:
    """Items, collections and searches, all from memory; answers keep their identity."""

    rows: tuple[StacItem, ...] = ()
    listed: tuple[StacCollection, ...] = ()
    found: dict[str, frozenset[str]] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    learned: dict[str, dict[str, int]] = field(default_factory=dict)
    wait_s: float = 0.0
    _answers: dict[str, tuple[StacItem, ...]] = field(default_factory=dict)

    def put(self, *rows: StacItem) -> None:
        """These are the items from now on."""
        self.rows = rows
        self._answers.clear()

    async def of_asset(self, asset: Asset) -> tuple[StacItem, ...]:
        if asset.id not in self._answers:
            await self._ask(f"asset {asset.id}")
            self._answers[asset.id] = tuple(i for i in self.rows if i.asset_id == asset.id)
        return self._answers[asset.id]

    async def recall(self, assets: Iterable[Asset]) -> None:
        pass

    async def whole(self, asset: Asset) -> tuple[StacItem, ...]:
        return await self.of_asset(asset)

    async def drawn(self, assets: Iterable[Asset]) -> dict[str, tuple[Drawn, ...]]:
        known = [asset.id for asset in assets if asset.id in self._answers]
        return {asset_id: tuple(map(draw, self._answers[asset_id])) for asset_id in known}

    def sizes(self, asset_id: str) -> dict[str, int]:
        return self.learned.get(asset_id, {})

    def learn_size(self, object_id: str, asset_id: str, stamp: str | None, size: int) -> None:
        self.learned.setdefault(asset_id, {})[object_id] = size

    async def learn(self, assets: Iterable[Asset]) -> None:
        unknown = [asset for asset in assets if asset.id not in self._answers]
        if len(unknown) > 1:
            await self._ask("together")
            for asset in unknown:
                self._answers[asset.id] = tuple(i for i in self.rows if i.asset_id == asset.id)

    def known(self, asset_id: str) -> tuple[StacItem, ...] | None:
        return self._answers.get(asset_id)

    async def all(self) -> tuple[StacCollection, ...]:
        await self._ask("collections")
        return self.listed

    def all_known(self) -> tuple[StacCollection, ...]:
        return self.listed

    async def items(self, collection_id: str) -> tuple[StacItem, ...]:
        if collection_id not in self._answers:
            await self._ask(f"items {collection_id}")
            rows = tuple(item for item in self.rows if item.collection_id == collection_id)
            self._answers[collection_id] = rows
        return self._answers[collection_id]

    async def asset_ids(self, query: Query) -> frozenset[str] | None:
        if not query.needs_search:
            return None
        await self._ask(f"search {query.canonical()}")
        return self.found.get(query.canonical(), frozenset())

    async def _ask(self, what: str) -> None:
        self.asked[what] += 1
        if self.wait_s:
            await trio.sleep(self.wait_s)
        for part, error in self.fail.items():
            if part in what:
                raise error


def stac_world(stac: Stac, *things: Any, lists_footprints: bool = False, **options: Any) -> World:
    """A file system over `things` and what STAC says of them."""

    def branches(index: Index) -> Branches:
        return Branches(
            index,
            items=cast(Items, stac),
            collections=cast(Collections, stac),
            searches=cast(Searches, stac),
            lists_footprints=lists_footprints,
        )

    return World(*things, branches=branches, **options)


async def read(world: World, path: str) -> bytes:
    """All bytes of a file, in reads as the kernel makes them."""
    inode = await world.walk(path)
    size = (await world.fs.getattr(inode)).size
    opened = await world.fs.open(inode, 0)
    pieces: list[bytes] = []
    while piece := bytes(await world.fs.read(opened.handle, sum(map(len, pieces)), 4096)):
        pieces.append(piece)
    world.fs.release(opened.handle)
    content = b"".join(pieces)
    assert len(content) == size
    return content


async def dump(world: World, path: str, target: Path) -> None:
    """Write a part of the tree to disk, as `cp -r` would."""
    target.mkdir()
    for name in await world.list(path):
        inode = await world.walk(f"{path}/{name}")
        if (await world.fs.getattr(inode)).is_dir:
            await dump(world, f"{path}/{name}", target / name)
        else:
            (target / name).write_bytes(await read(world, f"{path}/{name}"))

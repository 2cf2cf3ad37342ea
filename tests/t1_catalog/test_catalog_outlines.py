"""Outlines of items in the snapshot: those of the items that are kept, and never of older ones."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from catalog_support import done, make_item
from strategies import at

from up42fs.api.client import Client
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.items import Items
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot import item_rows, outline_table
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Batch, ItemRow
from up42fs.catalog.stored_items import Shelf
from up42fs.metrics import Metrics
from up42fs.model.outlines import draw
from up42fs.model.stac import StacItem

ASSET = done(1)
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
ITEM = replace(make_item(1, 1), document={"id": "x", "geometry": SQUARE})
MOVED = replace(ITEM, document={"id": "x", "geometry": {"type": "Point", "coordinates": [5, 5]}})


class Place:
    """Items over a snapshot, and no network."""

    def __init__(self, nursery: trio.Nursery, path: Path) -> None:
        self.snapshot, index = Snapshot(path), Index()
        index.apply(Changes(assets=(ASSET,)))
        self.recorder = Recorder(self.snapshot, index, lambda _: True)
        self.shelf = Shelf(self.recorder)
        self.items = Items(nursery, cast(Client, None), metrics=Metrics(), shelf=self.shelf)

    async def write(self) -> None:
        await self.recorder._write()


def kept_without(snapshot: Snapshot, *items: StacItem) -> None:
    """Write items as releases did that kept no outlines."""
    packed = item_rows.pack(items), item_rows.pack_documents(items)
    snapshot.save(
        Batch(assets=[ASSET], items=[ItemRow(ASSET.id, item_rows.version(ASSET), *packed)])
    )


def rows(snapshot: Snapshot) -> list[Any]:
    with sqlite3.connect(snapshot.path) as database:
        return database.execute(outline_table.QUESTION).fetchall()


@pytest.mark.claim("S359")
async def test_outlines_are_kept_with_the_items_before_and_after_the_write(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    place = Place(nursery, tmp_path / "c.sqlite")
    assert await place.items.drawn([ASSET]) == {}
    place.shelf.put(ASSET, (ITEM,))
    assert await place.items.drawn([ASSET]) == {ASSET.id: (draw(ITEM),)}
    await place.write()
    assert await place.items.drawn([ASSET]) == {ASSET.id: (draw(ITEM),)}
    later = replace(ASSET, updated_at=at(99))
    assert await place.items.drawn([later]) == {}, "they are of the asset as it was"


@pytest.mark.claim("S359")
async def test_outlines_are_never_of_older_items(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = Place(nursery, tmp_path / "c.sqlite")
    place.shelf.put(ASSET, (ITEM,))
    await place.write()
    kept_without(place.snapshot, MOVED)
    assert rows(place.snapshot) == []
    assert await place.items.drawn([ASSET]) == {ASSET.id: (draw(MOVED),)}
    await place.write()
    assert len(rows(place.snapshot)) == 1, "drawn once, then kept"
    place.shelf.put(ASSET, (ITEM,))
    place.shelf.put_outlines(ASSET, (MOVED,))
    assert await place.items.drawn([ASSET]) == {ASSET.id: (draw(ITEM),)}, "newer ones came"


async def test_a_removed_asset_has_no_outlines(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = Place(nursery, tmp_path / "c.sqlite")
    place.shelf.put(ASSET, (ITEM,))
    await place.write()
    place.snapshot.save(Batch(removed_assets=[ASSET.id]))
    assert rows(place.snapshot) == []


@pytest.mark.parametrize("damage", ["", "[[1,2,3,4,5,6,7,8]]", "{", "[null]"])
async def test_what_cannot_be_read_is_drawn_anew(
    tmp_path: Path, nursery: trio.Nursery, damage: str
) -> None:
    place = Place(nursery, tmp_path / "c.sqlite")
    place.shelf.put(ASSET, (ITEM,))
    await place.write()
    with sqlite3.connect(place.snapshot.path) as database:
        database.execute("UPDATE outline SET drawn = ?", (damage,))
    database.close()
    found = await place.items.drawn([ASSET])
    assert found == {ASSET.id: (draw(ITEM),)}


async def test_a_file_of_an_older_release_gets_the_table(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path = tmp_path / "c.sqlite"
    kept_without(Snapshot(path), ITEM)
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER outline_is_old")
        database.execute("DROP TABLE outline")
    database.close()
    place = Place(nursery, path)
    assert await place.items.drawn([ASSET]) == {ASSET.id: (draw(ITEM),)}

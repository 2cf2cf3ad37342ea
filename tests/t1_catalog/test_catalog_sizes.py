"""Unknown sizes are counted from the snapshot, also of items that an older release stored."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from strategies import make_asset

from up42fs.catalog.index import Index
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.size_census import SizeCensus
from up42fs.catalog.snapshot import item_rows
from up42fs.catalog.snapshot.assets import AssetTable
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Batch, ItemRow, SizeRow
from up42fs.catalog.stored_items import COUNTED_AT_ONCE, Shelf
from up42fs.model.stac import StacAsset, StacItem

FILES = ("a", "b", "c", "d")
STAMPS = ("1", "2", None)


def row(asset_id: str, files: dict[str, str | None]) -> ItemRow:
    return ItemRow(asset_id, 1, "[]", b"", None, files)


_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("items"),
            st.integers(0, 2),
            st.dictionaries(st.sampled_from(FILES), st.sampled_from(STAMPS)),
        ),
        st.tuples(
            st.just("size"),
            st.integers(0, 2),
            st.tuples(st.sampled_from(FILES), st.sampled_from(STAMPS)),
        ),
        st.tuples(st.just("remove"), st.integers(0, 2), st.none()),
    ),
    max_size=20,
)


@given(steps=_STEPS, together=st.booleans())
def test_counts_are_those_of_a_model(
    steps: list, together: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Sizes count as long as their file is there with their stamp; a batch may hold several."""
    snapshot = Snapshot(tmp_path_factory.mktemp("sizes") / "c.sqlite")
    assets = [make_asset(n) for n in range(3)]
    snapshot.save(Batch(assets=assets))
    files: dict[str, dict[str, str | None]] = {}
    sizes: dict[str, dict[str, str | None]] = {}
    for what, number, said in steps:
        asset_id = assets[number].id
        known = sizes.setdefault(asset_id, {})
        if what == "items":
            named = {f"{asset_id}/{name}": stamp for name, stamp in said.items()}
            files[asset_id] = named
            sizes[asset_id] = {id_: s for id_, s in known.items() if named.get(id_, 0) == s}
            snapshot.save(Batch(items=[row(asset_id, named)]))
        elif what == "size":
            name, stamp = f"{asset_id}/{said[0]}", said[1]
            # Sizes are learned of files that are there, with the stamp that they have.
            if files.get(asset_id, {}).get(name, 0) == stamp:
                known[name] = stamp
                snapshot.save(Batch(sizes=[SizeRow(name, asset_id, stamp, 7)]))
        else:
            files.pop(asset_id, None)
            sizes.pop(asset_id, None)
            snapshot.save(Batch(removed_assets=[asset_id]))
            snapshot.save(Batch(assets=[assets[number]]))
        expected = sum(map(len, files.values())), sum(map(len, sizes.values()))
        assert snapshot.file_totals() == expected
    snapshot.close()


def item(asset_id: str, *files: str, updated: datetime | None = None) -> StacItem:
    made = tuple(StacAsset(f"{n}.tif", file) for n, file in enumerate(files))
    delivery = StacAsset("data", asset_id)
    return StacItem(
        id=f"item of {asset_id}", collection_id="c", asset_id=asset_id, updated=updated,
        assets=(*made, delivery), document={},
    )  # fmt: skip


@pytest.mark.claim("S420")
async def test_items_of_an_older_release_are_counted_once(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "c.sqlite")
    many = 2 * COUNTED_AT_ONCE + 1
    assets = [make_asset(n) for n in range(many)]
    texts = {a.id: item_rows.pack([item(a.id, f"{a.id}/x", f"{a.id}/y")]) for a in assets}
    texts[assets[7].id] = "damaged"
    rows = [ItemRow(asset_id, 1, text, b"") for asset_id, text in texts.items()]
    sizes = [SizeRow(f"{assets[0].id}/x", assets[0].id, None, 7)]
    sizes.append(SizeRow(f"{assets[0].id}/y", assets[0].id, "an older state", 7))
    snapshot.save(Batch(assets=assets, items=rows, sizes=sizes))
    shelf = Shelf(Recorder(snapshot, Index(), lambda _: False))
    assert await shelf.count_files() == (2 * (many - 1), 1)
    assert snapshot.uncounted_items(10) == []
    # Such a release writes items to a file that this one has counted.
    with sqlite3.connect(tmp_path / "c.sqlite") as database:
        database.execute(
            "INSERT OR REPLACE INTO item VALUES (?, 2, ?, ?)",
            (assets[1].id, item_rows.pack([item(assets[1].id, "new")]), b""),
        )
    assert len(snapshot.uncounted_items(10)) == 1
    assert await shelf.count_files() == (2 * (many - 1) - 1, 1)
    snapshot.close()


@pytest.mark.claim("S420")
async def test_a_census_follows_what_is_written(tmp_path: Path, nursery: trio.Nursery) -> None:
    snapshot, index = Snapshot(tmp_path / "c.sqlite"), Index()
    asset = make_asset(1)
    table = AssetTable()
    table.put(asset)
    index.load(table, ())
    snapshot.save(Batch(assets=[asset]))
    recorder = Recorder(snapshot, index, lambda _: False, gather_s=0.0)
    shelf = Shelf(recorder)
    census = SizeCensus(shelf, recorder)

    async def until(files: int, unknown: int) -> None:
        with trio.fail_after(20):
            while (census.files, census.unknown) != (files, unknown):
                await trio.sleep(0.01)

    nursery.start_soon(recorder.run)
    nursery.start_soon(census.run)
    await until(0, 0)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    shelf.put(asset, (item(asset.id, "x", "y", updated=moment),))
    await until(2, 2)
    shelf.put_size("x", asset.id, moment.isoformat(), 5)
    await until(2, 1)
    # Another state of the item: its files may be others.
    later = datetime(2026, 1, 2, tzinfo=UTC)
    shelf.put(asset, (item(asset.id, "x", "y", "z", updated=later),))
    await until(3, 3)
    nursery.cancel_scope.cancel()

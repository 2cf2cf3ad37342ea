"""Assets as columns and those that changed since give what a dictionary of assets would."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import assets, make_asset

from up42fs.catalog.index import Changes, Index
from up42fs.catalog.snapshot import columns, tables
from up42fs.catalog.snapshot.assets import AssetTable, Figures, outline, view_names
from up42fs.catalog.snapshot.columns import pack, unpack
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Batch
from up42fs.catalog.transformations import Transformations
from up42fs.types import CNAM_STATES, Asset, CnamStatus

DAY = timedelta(days=1)

texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
any_assets = st.builds(
    make_asset,
    st.integers(0, 30),
    name=texts,
    title=texts,
    size=st.none() | st.integers(0, 1 << 50),
    tags=st.lists(st.text("aé\n"), max_size=3).filter(all).map(tuple),
    cnam_status=st.sampled_from(CnamStatus),
    content_type=texts,
    order_id=texts,
    producer=texts,
)
by_id = st.lists(any_assets, max_size=8, unique_by=lambda asset: asset.id)


def row(asset: Asset) -> columns.Row:
    return (
        asset.id, asset.name, asset.title, asset.size, to_us(asset.created_at),
        to_us(asset.updated_at), "\x1f".join(asset.tags), asset.cnam_status.value,
        asset.content_type, asset.order_id, asset.account_id, asset.workspace_id,
        asset.product_id, asset.collection, asset.producer, asset.source,
    )  # fmt: skip


def table_of(rows: list[Asset]) -> AssetTable:
    return AssetTable(unpack(pack(map(row, rows)), "\x1f"))


@given(by_id)
def test_what_was_packed_is_unpacked(rows: list[Asset]) -> None:
    assert dict(table_of(rows)) == {asset.id: asset for asset in rows}


@given(by_id, st.lists(st.one_of(any_assets, st.integers(0, 30)), max_size=8))
def test_a_table_is_a_dictionary_of_assets(rows: list[Asset], changes: list[Asset | int]) -> None:
    table, model = table_of(rows), {asset.id: asset for asset in rows}
    for change in changes:
        if isinstance(change, Asset):
            table.put(change)
            model[change.id] = change
        else:
            id_ = make_asset(change).id
            assert table.pop(id_) == model.pop(id_, None)
    assert dict(table) == model
    assert len(table) == len(model)
    assert sorted(table.outlines()) == sorted(map(outline, model.values()))
    assert sorted(table.outlines(model)) == sorted(map(outline, model.values()))
    sizes = [asset.size for asset in model.values()]
    assert table.total_size() == (sum(filter(None, sizes)), sizes.count(None))
    assert {id_: rest for id_, *rest in table.groups()} == {
        asset.id: [asset.cnam_status, asset.order_id, asset.tags] for asset in model.values()
    }
    for status in CnamStatus:
        assert set(table.ids_with_status(status)) == {
            asset.id for asset in model.values() if asset.cnam_status is status
        }
    for number in range(31):
        asset = model.get(make_asset(number).id)
        id_ = make_asset(number).id
        assert table.status(id_) == (asset and asset.cnam_status)
        assert table.figures(id_) == (asset and figures(asset))
        assert (id_ in table) == (asset is not None)


def figures(asset: Asset) -> Figures:
    created_ns, updated_ns = to_us(asset.created_at) * 1000, to_us(asset.updated_at) * 1000
    return Figures(asset.size, created_ns, updated_ns, view_names(asset))


@given(by_id, st.lists(assets, max_size=6))
def test_an_index_of_columns_is_an_index_of_assets(rows: list[Asset], news: list[Asset]) -> None:
    loaded, applied = Index(), Index()
    loaded.load(table_of(rows), ())
    applied.apply(Changes(assets=tuple(rows)))
    assert loaded.count(CnamStatus.FAILED) == applied.count(CnamStatus.FAILED)
    for asset in news:
        changes = Changes(assets=(asset,))
        assert loaded.apply(changes) == applied.apply(changes)
    gone = Changes(removed_assets=frozenset(asset.id for asset in rows[:2]))
    assert loaded.apply(gone) == applied.apply(gone)
    assert (loaded.total_bytes, loaded.unsized) == (applied.total_bytes, applied.unsized)
    for status in CNAM_STATES:
        assert set(loaded.ids_with_status(status)) == set(applied.ids_with_status(status))
    assert set(loaded.tags()) == set(applied.tags())
    assert set(loaded.order_ids()) == set(applied.order_ids())


@given(by_id, st.binary(min_size=1, max_size=30), st.integers(0, 3000))
def test_damage_is_told(rows: list[Asset], junk: bytes, where: int) -> None:
    packed = pack(map(row, rows))
    where %= len(packed)
    damaged = packed[:where] + junk + packed[where + len(junk) :]
    if damaged == packed:
        return
    with pytest.raises((ValueError, TypeError, LookupError)):
        unpack(damaged, "\x1f")


@pytest.fixture
def packs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "REPACK_ROWS", 1)
    monkeypatch.setattr(tables, "REPACK_SHARE", 0)


def load(path: Path) -> AssetTable:
    snapshot = Snapshot(path)
    try:
        return snapshot.load().assets
    finally:
        snapshot.close()


def unpacked_rows(path: Path) -> int:
    database = sqlite3.connect(path)
    count: int = database.execute("SELECT count(*) FROM unpacked").fetchone()[0]
    database.close()
    return count


@pytest.mark.usefixtures("packs_at_once")
def test_rows_written_since_win_over_what_was_packed(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    snapshot = Snapshot(path)
    snapshot.save(Batch(assets=[make_asset(n) for n in range(5)]))
    snapshot.pack()
    assert unpacked_rows(path) == 0
    changed, new, gone = make_asset(1, title="now"), make_asset(9), make_asset(2).id
    snapshot.save(Batch(assets=[changed, new], removed_assets=[gone]))
    assert unpacked_rows(path) == 3
    wanted = {asset.id: asset for asset in map(make_asset, (0, 3, 4))}
    wanted |= {changed.id: changed, new.id: new}
    assert load(path) == wanted
    snapshot.pack()
    assert unpacked_rows(path) == 0
    assert load(path) == wanted
    snapshot.close()


@pytest.mark.usefixtures("packs_at_once")
@pytest.mark.parametrize("junk", [b"", b"nonsense", "text", 7, None])
def test_a_damaged_pack_costs_nothing_but_time(tmp_path: Path, junk: object, caplog) -> None:
    path = tmp_path / "c.sqlite"
    snapshot = Snapshot(path)
    snapshot.save(Batch(assets=[make_asset(1), make_asset(2)]))
    snapshot.pack()
    snapshot.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE packed SET assets = ?", (junk,))
    database.commit()
    database.close()
    assert set(load(path)) == {make_asset(1).id, make_asset(2).id}
    assert not caplog.records


def test_few_changes_are_not_packed(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "c.sqlite")
    snapshot.save(Batch(assets=[make_asset(1)]))
    snapshot.pack()
    snapshot.close()
    assert unpacked_rows(tmp_path / "c.sqlite") == 1


@given(by_id, st.lists(any_assets, max_size=4), st.data())
def test_the_latest_times_are_those_of_the_assets(
    rows: list[Asset], news: list[Asset], data: st.DataObject
) -> None:
    table = table_of(rows)
    for asset in news:
        table.put(asset)
    for asset_id in data.draw(st.lists(st.sampled_from(list(table)))) if table else []:
        table.pop(asset_id)
    some = data.draw(st.lists(st.sampled_from(list(table)), unique=True)) if table else []
    for ids in (None, some):
        shown = [table[asset_id] for asset_id in (table if ids is None else ids)]
        created = max((to_us(asset.created_at) for asset in shown), default=0) * 1000
        updated = max((to_us(asset.updated_at) for asset in shown), default=0) * 1000
        assert table.latest_ns(ids) == (created, updated)


def test_when_assets_were_transformed_is_kept(tmp_path: Path) -> None:
    one, two = (make_asset(n, cnam_status=CnamStatus.SUCCESSFUL) for n in (1, 2))
    kept: dict[str, bytes | None] = {}
    index = Index()
    index.load(table_of([one]), ())
    seen = Transformations(index, {one.id: 7, "gone": 8}, kept.__setitem__)
    assert (seen.at_ns(one.id), seen.at_ns("gone"), seen.latest_ns()) == (7000, 0, 7000)
    before = replace(two, cnam_status=CnamStatus.IN_PROGRESS)
    for asset in (before, two, replace(two, title="new", updated_at=two.updated_at + DAY)):
        seen.follow(index.apply(Changes(assets=(asset,))))
    assert seen.at_ns(two.id) == to_us(two.updated_at) * 1000, "an edit moves nothing"
    snapshot = Snapshot(tmp_path / "x.sqlite")
    snapshot.save(Batch(assets=[one, two], answers={**kept, "transformed odd": b"x", "u": b"1"}))
    assert snapshot.load().transformed_us == {two.id: to_us(two.updated_at)}
    seen.follow(index.apply(Changes(removed_assets=frozenset({two.id}))))
    snapshot.save(Batch(answers=kept))
    assert snapshot.load().transformed_us == {}

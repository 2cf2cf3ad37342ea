"""The three storages: the sample, a folder, generated rows."""

from __future__ import annotations

import io
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_support import ACCOUNT, Start

from up42fs.emulator import Storage, SyntheticSize
from up42fs.emulator.clock import parse_us
from up42fs.emulator.content import FileContent
from up42fs.emulator.folder import folder_storage
from up42fs.emulator.sample import sample_storage
from up42fs.emulator.sample_files import SampleUnavailableError, ensure_files
from up42fs.emulator.storage import EmulatedAsset
from up42fs.emulator.synthetic import synthetic_storage


@pytest.fixture(scope="module")
def sample(sample_dir: Path) -> Storage:
    return sample_storage(ACCOUNT, sample_dir)


def _bytes(storage: Storage, file_id: str) -> bytes:
    content = storage.objects_by_file[file_id].content
    return b"".join(bytes(piece) for piece in content.pieces(0, content.size))


def _assets(storage: Storage, **wanted: Any) -> list[EmulatedAsset]:
    return [
        asset
        for asset in storage.assets.values()
        if all(getattr(asset, key) == value for key, value in wanted.items())
    ]


# -- sample


def test_the_sample_has_all_interesting_orders(sample: Storage) -> None:
    orders = list(sample.orders.values())
    by_status = {order.status: order for order in orders}
    assert set(by_status) == {"FULFILLED", "BEING_FULFILLED", "PLACED", "FAILED_PERMANENTLY"}
    assert len(sample.assets_of_order(by_status["BEING_FULFILLED"].id)) == 2
    assert sample.assets_of_order(by_status["PLACED"].id) == []
    names = [order.display_name for order in orders]
    assert len(names) > len(set(names))
    assert any("/" in (name or "") for name in names)
    assert None in names
    assert all(order.updated_us >= order.created_us for order in orders)


def test_the_sample_has_all_interesting_assets(sample: Storage) -> None:
    assets = list(sample.assets.values())
    assert {asset.status for asset in assets} == {
        "SUCCESSFUL", "IN_PROGRESS", "NOT_PROCESSED", "FAILED",
    }  # fmt: skip
    assert any(asset.order_id is None for asset in assets)
    assert {asset.size for asset in assets} >= {1, 22}
    assert any("berlin/2024 spring" in (asset.tags or []) for asset in assets)
    assert {asset.fraction_digits for asset in assets} == {3, 6}
    assert all(asset.updated_us >= asset.created_us for asset in assets)
    assert min(a.created_us for a in assets) >= parse_us("2023-01-01")
    assert max(a.created_us for a in assets) < parse_us("2026-12-31")
    assert len({asset.workspace_id for asset in assets}) == 2
    # SUCCESSFUL and only SUCCESSFUL deliveries are transformed; all have a collection.
    for asset in assets:
        collection = sample.collections[sample.collections_of_asset[asset.id][0]]
        assert collection.is_transformed == (asset.status == "SUCCESSFUL")
        assert collection.items


def test_the_sample_has_hard_names(sample: Storage) -> None:
    names = [asset.name for asset in sample.assets.values()]
    assert names.count("ORT_SPOT7_20210531.zip") == 3
    assert None in names
    present = [name for name in names if name is not None]
    assert any(len(name.encode()) > 250 for name in present)
    assert any(unicodedata.normalize("NFC", name) != name for name in present)
    assert any(name != name.strip() for name in present)
    assert {".."} <= set(present)
    assert any("\n" in name for name in present)
    assert any("/" in name for name in present)
    (odd,) = _assets(sample, content_type="application/gzip", name="archive.zip")
    assert odd.size > 0
    (titled,) = [a for a in sample.assets.values() if a.title == "Named by its title only"]
    assert "name" in titled.absent


def test_the_sample_has_interesting_items(sample: Storage) -> None:
    per_collection = [c.items for c in sample.collections.values() if c.is_transformed]
    assert max(len(items) for items in per_collection) == 2
    items = [item for group in per_collection for item in group]
    assert any([file.key for file in item.files] == ["data"] for item in items)
    assert any(item.properties.get("proj:epsg", 0) is None for item in items)
    files = [file for item in items for file in item.files]
    assert len({file.id for file in files}) == len(files)
    assert any("/" in file.key and "#" in file.key for file in files)
    assert any(f.key.endswith(".jpg") and f.media_type == "image/png" for f in files)


def test_sample_rasters_are_real_cogs(sample: Storage, sample_dir: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    kinds = set()
    largest = 0
    for path in sample_dir.glob("*.tiff"):
        largest = max(largest, path.stat().st_size)
        with rasterio.open(path) as raster:
            assert raster.crs.to_epsg() == 32633
            assert raster.block_shapes[0] == (512, 512)
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            kinds.add((raster.count, raster.dtypes[0], raster.compression.name))
            if max(raster.shape) > 512:
                assert raster.overviews(1)
            assert raster.checksum(1) > 0
    assert {(4, "uint16", "deflate"), (3, "uint8", "jpeg"), (1, "float32", "deflate")} <= kinds
    assert largest > 50_000_000


def test_sample_archives_are_deliveries(sample: Storage) -> None:
    methods = set()
    for asset in _assets(sample, status="SUCCESSFUL"):
        if asset.name is None or not asset.name.endswith(".zip"):
            continue
        with zipfile.ZipFile(io.BytesIO(_bytes(sample, asset.id))) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            methods |= {info.compress_type for info in archive.infolist()}
            assert len({name.partition("/")[0] for name in names}) == 1
            assert {Path(name).suffix for name in names} >= {".XML", ".TIF", ".JPG"}
    assert methods == {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    (job,) = [a for a in sample.assets.values() if (a.name or "").endswith(".tgz")]
    with tarfile.open(fileobj=io.BytesIO(_bytes(sample, job.id))) as archive:
        assert archive.getnames() == ["output/data.json", "output/b04.tiff"]
    assert sample.objects_by_file[job.id].path.endswith("/data.tgz")


def test_the_sample_is_made_once_and_ids_are_stable(sample: Storage, sample_dir: Path) -> None:
    stamp = (sample_dir / "manifest.json").stat().st_mtime_ns
    again = sample_storage(ACCOUNT, sample_dir)
    assert (sample_dir / "manifest.json").stat().st_mtime_ns == stamp
    assert list(again.assets) == list(sample.assets)
    assert set(again.objects) == set(sample.objects)
    assert not list(sample_dir.parent.glob(".demo-*"))


def test_without_rasterio_the_sample_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SampleUnavailableError, match="pip install"):
        ensure_files(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


async def test_sample_names_survive_the_wire(start: Start, sample: Storage) -> None:
    emulator = await start(sample)
    rows = (await emulator.get("/v2/assets", size=100))["content"]
    for row in rows:
        asset = sample.assets[row["id"]]
        assert row.get("name") == asset.name
        assert set(row).isdisjoint(asset.absent)
        answer = await emulator.fetch(row["id"])
        assert len(answer.content) == row["size"]
    (job,) = [row for row in rows if (row.get("name") or "").endswith(".tgz")]
    url = await emulator.sign(job["id"])
    assert "/data.tgz?" in url
    assert ".tgz&" not in url  # the link names only the stem (contract §3.5)


# -- folder


def test_a_folder_becomes_orders_tags_and_assets(tmp_path: Path) -> None:
    for name, data in {
        "top.txt": b"top", "Order A/scene.TIF": b"II*\0", "Order A/deep/er/scene.TIF": b"MM\0*",
        "Order B/meta.xml": b"<x/>", "Order B/empty": b"", "Order B/image.jp2": b"jp2",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_700_000_000, 1_700_000_000.25))
    (tmp_path / "link.tif").symlink_to(tmp_path / "top.txt")
    (tmp_path / "linked").symlink_to(tmp_path / "Order A")
    storage = folder_storage(ACCOUNT, tmp_path)
    again = folder_storage(ACCOUNT, tmp_path)
    assert list(storage.assets) == list(again.assets)
    assert sorted(order.display_name or "" for order in storage.orders.values()) == [
        "Order A", "Order B",
    ]  # fmt: skip
    assert len(storage.assets) == 6
    (top,) = _assets(storage, name="top.txt")
    assert (top.order_id, top.status, top.size) == (None, "NOT_PROCESSED", 3)
    scenes = _assets(storage, name="scene.TIF")
    assert sorted(scene.tags or [] for scene in scenes) == [[], ["deep", "er"]]
    assert {scene.status for scene in scenes} == {"SUCCESSFUL"}
    assert len({scene.order_id for scene in scenes}) == 1
    for scene in (*scenes, *_assets(storage, name="image.jp2")):
        (item,) = storage.collections[storage.collections_of_asset[scene.id][0]].items
        (file,) = item.files
        assert (file.key, file.id != scene.id) == (scene.name, True)
        assert _bytes(storage, file.id) == _bytes(storage, scene.id)


def test_an_image_of_a_folder_lies_where_it_says(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    shape = {"driver": "GTiff", "width": 20, "height": 10, "count": 1, "dtype": "uint8"}
    shape["transform"] = rasterio.Affine(0.01, 0, -74.1, 0, -0.01, 40.8)
    for name, crs in (("there.tif", "EPSG:4326"), ("here.tif", None)):
        with rasterio.open(tmp_path / name, "w", **shape, crs=crs) as image:
            image.write(np.zeros((1, 10, 20), "uint8"))
    (tmp_path / "none.tif").write_bytes(b"II*\0" + bytes(64))
    storage = folder_storage(ACCOUNT, tmp_path)
    found = {c.items[0].title: c.items[0].bbox for c in storage.collections.values()}
    assert found["there"] == pytest.approx((-74.1, 40.7, -73.9, 40.8))
    assert found["here"] == found["none"], "both tell no place"


async def test_a_changed_file_is_another_version(start: Start, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 200_000)
    storage = folder_storage(ACCOUNT, tmp_path)
    emulator = await start(storage)
    (asset_id,) = storage.assets
    first = await emulator.fetch(asset_id, Range="bytes=100000-100009")
    assert first.content == b"x" * 10
    (tmp_path / "a.bin").write_bytes(b"y" * 150_000)
    second = await emulator.fetch(asset_id)
    assert second.content == b"y" * 150_000
    assert second.headers["etag"] != first.headers["etag"]


async def test_large_files_go_whole_and_in_parts(start: Start, tmp_path: Path) -> None:
    data = os.urandom(5_000_003)
    (tmp_path / "big.bin").write_bytes(data)
    storage = folder_storage(ACCOUNT, tmp_path)
    assert isinstance(next(iter(storage.objects.values())).content, FileContent)
    emulator = await start(storage)
    (asset_id,) = storage.assets
    assert (await emulator.fetch(asset_id)).content == data
    part = await emulator.fetch(asset_id, Range="bytes=1048000-3000000")
    assert part.content == data[1048000:3000001]
    await emulator.faults(drip_bytes_s=50e6, stall_body_at=10, stall_s=0.01, fail_plane="store")
    assert (await emulator.fetch(asset_id)).content == data


# -- synthetic


def test_some_are_transformed_with_as_many_files_as_asked() -> None:
    storage = synthetic_storage(ACCOUNT, SyntheticSize(1000, 5, 3, transformed=77, files=12))
    done = {asset.id for asset in storage.assets.values() if asset.status == "SUCCESSFUL"}
    items = [item for c in storage.collections.values() if c.asset_id in done for item in c.items]
    assert len(done) == len(items) == 77
    assert {len({file.key for file in item.files}) for item in items} == {12}


def test_synthetic_sizes_are_parsed() -> None:
    assert SyntheticSize.parse("100,5,2") == SyntheticSize(100, 5, 2)
    assert SyntheticSize.parse("2000") == SyntheticSize(2000, 100, 20)
    assert SyntheticSize.parse("100,5,2,7,12") == SyntheticSize(100, 5, 2, 7, 12)
    for bad in ("", "x", "-1", "1,2,3,4,5,6"):
        with pytest.raises(ValueError, match=r".+"):
            SyntheticSize.parse(bad)


def test_synthetic_storages_are_the_same_every_time() -> None:
    one, two = (synthetic_storage(ACCOUNT, SyntheticSize(200, 10, 5)) for _ in range(2))
    assert list(one.assets.items()) == list(two.assets.items())
    assert (len(one.assets), len(one.orders)) == (200, 10)
    assert len({tag for asset in one.assets.values() for tag in asset.tags or ()}) == 5
    assert len({asset.id for asset in one.assets.values()} | set(one.items)) == 400
    assert synthetic_storage(ACCOUNT, SyntheticSize(3, 0, 0)).orders == {}

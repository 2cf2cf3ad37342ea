"""What STAC says beside its items: of a collection's own files, and files of themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pystac
import pytest
from harness import UP42FS, Emulator, Mount, check, mounted, run, wait_until
from stranger import row, stranger
from transformed_support import file, transformed, validate, walk

pytestmark = pytest.mark.mount


def attributes(path: Path) -> dict[str, str]:
    shown = {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}
    return {name.removeprefix("user.up42.stac."): value for name, value in shown.items()}


@pytest.mark.claim("S175")
def test_a_collections_own_files_stand_beside_it(start, mount) -> None:
    service: Emulator = start("--synthetic", "1,1,0", "--collection-assets")
    asset = transformed(service, "scene.zip", [file("b01.tiff")])
    there: Mount = mount(service, "-o", "refresh=3600")
    stac = there.path / "stac"
    found = walk(stac / "catalog.json")
    assert found
    catalogue = pystac.Catalog.from_file(str(stac / "catalog.json"))
    for collection in catalogue.get_children():
        assert isinstance(collection, pystac.Collection)
        own = {asset.title: Path(asset.get_absolute_href() or "") for asset in
               collection.assets.values()}  # fmt: skip
        assert {"Original Delivery", "Thumbnail"} <= own.keys()
        for path in own.values():
            assert path.parent == Path(collection.get_self_href() or "").parent
            assert path.exists()
        assert own["Thumbnail"].read_bytes().startswith(b"\x89PNG")
        assert own["Thumbnail"].name in os.listdir(own["Thumbnail"].parent)
        shown = attributes(own["Thumbnail"])
        assert shown["collection_id"] == collection.id
        assert "item_id" not in shown, "it is the collection's, of no item"
    delivered = there.path / "assets" / "scene.zip"
    beside = [path for path in stac.glob("*/scene.zip") if path.stat().st_ino ==
              delivered.stat().st_ino]  # fmt: skip
    assert len(beside) == 1, asset
    assert beside[0].read_bytes() == delivered.read_bytes()


@pytest.mark.claim("S175")
def test_what_a_file_says_wins_over_its_item(start, mount) -> None:
    service: Emulator = start("--synthetic", "1,1,0")
    bands = [{"name": "B02", "eo:common_name": "blue"}, {"name": "B03"}]
    fine = file("fine.tiff", gsd=0.5, bands=bands) | {"proj:code": "EPSG:32633"}
    none = file("sensor.tiff") | {"proj:epsg": None, "eo:bands": [{"common_name": "pan"}]}
    plain = file("plain.tiff")
    said = {"gsd": 10, "proj:epsg": 4326}
    asset = transformed(service, "scene.zip", [fine, none, plain])
    rows = [{"title": "Scene", "files": [fine, none, plain], "properties": said}]
    service.remote.storage("put_items", asset_id=asset, items=rows)
    there = mount(service)
    shown = {name: attributes(there.path / "assets/scene" / name)
             for name in ("fine.tiff", "sensor.tiff", "plain.tiff")}  # fmt: skip
    assert (shown["fine.tiff"]["gsd"], shown["fine.tiff"]["epsg"]) == ("0.5", "32633")
    assert shown["fine.tiff"]["bands"] == "B02:blue,B03"
    assert shown["sensor.tiff"]["gsd"] == "10"
    assert "epsg" not in shown["sensor.tiff"], "it says that it has none"
    assert shown["sensor.tiff"]["bands"] == "pan"
    assert (shown["plain.tiff"]["gsd"], shown["plain.tiff"]["epsg"]) == ("10", "4326")
    assert "bands" not in shown["plain.tiff"]


def test_one_file_under_two_keys_has_two_names(start, mount) -> None:
    service: Emulator = start("--synthetic", "1,1,0")
    asset = transformed(service, "scene.zip", [file("first.tiff", b"the bytes")])
    items = service.remote.storage()["items"]
    one = next(item["files"]["first.tiff"] for item in items if item["asset_id"] == asset)
    files = [{"key": "first.tiff", "id": one}, {"key": "second.tiff", "id": one}]
    service.remote.storage("put_items", asset_id=asset, items=[{"title": "S", "files": files}])
    there = mount(service)
    place = there.path / "assets/scene"
    assert sorted(os.listdir(place)) == ["first.tiff", "item.json", "second.tiff"]
    both = [os.stat(place / name) for name in ("first.tiff", "second.tiff")]
    assert both[0].st_ino == both[1].st_ino
    # assets/ and cnam/SUCCESSFUL, each of them twice.
    assert both[0].st_nlink == both[1].st_nlink == 4
    assert (place / "second.tiff").read_bytes() == b"the bytes"
    document = json.loads((place / "item.json").read_text())
    validate(document)
    hrefs = {key: entry["href"] for key, entry in document["assets"].items()}
    assert hrefs == {"first.tiff": "./first.tiff", "second.tiff": "./second.tiff"}
    copied = check("sh", "-c", 'tar -C "$1" -cf - . | tar -tf -', "sh", place)
    assert {"./first.tiff", "./second.tiff"} <= set(copied.split())


@pytest.mark.claim("S176")
def test_a_missing_status_is_no_status(tmp_path: Path) -> None:
    with stranger() as service:
        key = "geospatialMetadataExtractionStatus"
        service.rows[:] = [
            row(1, name="told.bin", **{key: "NOT_PROCESSED"}),
            row(2, name="not.bin"),
            row(3, name="odd.bin", **{key: "QUEUED"}),
        ]
        kept = ("--cache-dir", str(tmp_path / "cache"))
        for _ in range(2):  # the second time from the snapshot
            with mounted(service.env, *kept, home=tmp_path) as there:
                wait_until(lambda: len(os.listdir(there.path / "assets")) == 3, 10, "the listing")
                assert os.listdir(there.path / "cnam/NOT_PROCESSED") == ["told.bin"]
                assert len(os.listdir(there.path / "cnam")) == 4
                told, untold = (there.path / "assets" / name for name in ("told.bin", "not.bin"))
                assert os.getxattr(told, "user.up42.cnam_status") == b"NOT_PROCESSED"
                assert "user.up42.cnam_status" not in os.listxattr(untold)
                assert (told.stat().st_nlink, untold.stat().st_nlink) == (2, 1)


@pytest.mark.claim("S50")
def test_what_stac_cannot_list_is_said(start, mount) -> None:
    service: Emulator = start("--assets-gone", "404")
    there: Mount = mount(service)
    wait_until(lambda: there.status()["listed_by"]["assets"] == "stac", 20, "STAC is read")
    said = there.status()
    assert any("deliveries that have no STAC collection" in note for note in said["notes"])
    assert "STAC does not list: deliveries that have no STAC collection" in there.log.read_text()
    shown = run(*UP42FS, "status", "--once", there.path, env=service.env)
    assert "without deliveries without" not in shown.stdout
    assert "no STAC collection" in " ".join(shown.stdout.split())

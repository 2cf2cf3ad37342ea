"""`stac/` in a real mount: a static catalogue that STAC tools walk with no account."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import DATA, Emulator, Mount, check, emulator, mounted
from transformed_support import file, put_items, python, transformed, walk

pytestmark = pytest.mark.mount


def assert_whole(running: Emulator, found: dict[str, dict[str, Path]]) -> None:
    """`found`, a walk by item and key, is what the emulator's storage holds; every file opens."""
    items = running.remote.storage()["items"]
    assert found.keys() == {item["id"] for item in items}
    for item in items:
        files = found[item["id"]]
        for key, path in [*files.items()]:
            if "user.up42.member.path" in os.listxattr(path):  # an image in an archive
                assert id_of(path) in item["files"].values()
                del files[key]
        assert files.keys() == item["files"].keys()
        for key, path in files.items():
            assert os.getxattr(path, "user.up42.id").decode() == item["files"][key]


@pytest.mark.claim("S41")
def test_pystac_walks_and_validates_the_sample(sample: Emulator, sample_mount: Mount) -> None:
    found = walk(sample_mount.path / "stac/catalog.json")
    assert_whole(sample, found)
    sizes = {row["id"]: row["size"] for row in sample.remote.storage()["objects"]}
    for files in found.values():
        for path in files.values():
            with path.open("rb") as opened:
                assert os.fstat(opened.fileno()).st_size == sizes[id_of(path)]
                assert len(opened.read(100)) == min(100, sizes[id_of(path)])


def id_of(path: Path) -> str:
    return os.getxattr(path, "user.up42.id").decode()


@pytest.mark.data
def test_pystac_walks_and_validates_the_imagery(session_home: Path) -> None:
    with (
        emulator("--data", str(DATA)) as running,
        mounted(running.env, home=session_home) as mount,
    ):
        found = walk(mount.path / "stac/catalog.json")
        assert_whole(running, found)
        assert len(found) > 100


def test_pystac_walks_and_validates_many_pages(start, mount) -> None:
    running = start(
        *("--synthetic", "30,5,3", "--max-page-size", "12"),
        *("--href-suffix", "mixed", "--http-next-link"),
    )
    fresh = mount(running)
    before = running.remote.position()
    found = walk(fresh.path / "stac/catalog.json")
    # Files open by their link only; the walk itself asks for pages and items, and an item of an
    # archive that nobody looked into yet costs the directory of that archive.
    # The first listings of the catalogue may still be on their way.
    asked = {r: n for r, n in running.requests(before).items() if not r.endswith(".list")}
    archives = asked.pop("assets.sign", 0)
    assert 0 < archives < 30
    assert asked.pop("store.get", 0) == archives
    assert asked == {"stac.collections": 3, "stac.items": 30}
    assert_whole(running, found)


@pytest.mark.claim("S42")
def test_looking_asks_only_for_what_is_looked_at(start, mount) -> None:
    running = start("--synthetic", "150,10,3")
    fresh = mount(running)
    os.listdir(fresh.path / "assets")
    before = running.remote.position()
    names = os.listdir(fresh.path / "stac")
    assert len(names) == 151
    assert running.requests(before) == {"stac.collections": 2}
    (fresh.path / "stac/catalog.json").read_bytes()
    check("ls", "-l", fresh.path / "stac")
    assert running.requests(before) == {"stac.collections": 2}
    one = fresh.path / "stac" / next(name for name in names if name != "catalog.json")
    (item,) = (name for name in os.listdir(one) if name != "collection.json")
    assert running.requests(before) == {"stac.collections": 2, "stac.items": 1}
    for path in (one / "collection.json", one / item / f"{item}.json"):
        assert json.loads(path.read_text())["id"]
    os.listdir(one / item)
    assert not (one / item / "missing.tif").exists()
    assert not (one / "missing").exists()
    assert not (fresh.path / "stac/missing").exists()
    assert running.requests(before) == {"stac.collections": 2, "stac.items": 1}


def test_ids_are_names_too(sample: Emulator, sample_mount: Mount) -> None:
    stac = sample_mount.path / "stac"
    for item in sample.remote.storage()["items"]:
        by_id = stac / item["collection_id"]
        assert "collection.json" in os.listdir(by_id)
        assert sorted(os.listdir(by_id / item["id"]))
        assert json.loads((by_id / "collection.json").read_text())["id"] == item["collection_id"]
    assert not {item["collection_id"] for item in sample.remote.storage()["items"]} & set(
        os.listdir(stac)
    )


def test_rasterio_reads_pixels_by_href(sample_mount: Mount) -> None:
    script = """
import sys, pystac, rasterio
catalog = pystac.Catalog.from_file(sys.argv[1])
for item in catalog.get_items(recursive=True):
    for asset in item.assets.values():
        if "geotiff" in (asset.media_type or "") or "image/tiff" == asset.media_type:
            with rasterio.open(asset.get_absolute_href()) as image:
                image.read(1, out_shape=(16, 16))
                print(asset.get_absolute_href())
"""
    read = python(script, sample_mount.path / "stac/catalog.json").splitlines()
    names = {Path(line).name for line in read}
    assert names >= {"b02.tiff", "b08.tiff", "scl.tiff", "tci.tiff", "b01.tiff", "visual.tiff"}
    assert len(read) >= 12


@pytest.fixture(scope="module")
def odd(session_home: Path) -> Iterator[tuple[Emulator, Mount]]:
    """Titles, keys and collections as hard as they come."""
    with ExitStack() as stack:
        running = stack.enter_context(emulator("--synthetic", "1,0,0"))
        transformed(running, "100% ready #1?.zip", [file("a # b?.tif"), file("ü 東京.tif")])
        two = transformed(running, "../catalog.json", [file("..")], [file("item.json")])
        put_items(running, two, [file("a;b\\c.tif")], collection="another")
        foreign = "https://evil.example/v2/assets/5ed3f2a5-5a42-4c4d-8b6f-6a4b0a4e7a10"
        transformed(running, "foreign.zip", [file("good.tif"), file("bad.tif", href=foreign)])
        yield running, stack.enter_context(mounted(running.env, home=session_home))


def test_odd_names_walk_validate_and_open(odd: tuple[Emulator, Mount]) -> None:
    running, mount = odd
    found = walk(mount.path / "stac/catalog.json")
    items = {item["id"]: item["files"] for item in running.remote.storage()["items"]}
    refused = {"bad.tif"}
    assert found.keys() == items.keys()
    for item_id, files in found.items():
        assert files.keys() == items[item_id].keys() - refused
    by_key = {key: path for files in found.values() for key, path in files.items()}
    for key in ("a # b?.tif", "ü 東京.tif", "..", "item.json", "a;b\\c.tif", "good.tif"):
        assert by_key[key].read_bytes() == key.encode()


def test_the_tree_copies_and_the_copy_is_a_catalogue(sample_mount: Mount, tmp_path: Path) -> None:
    (name,) = (n for n in os.listdir(sample_mount.path / "stac") if n.startswith("S2A_"))
    check("cp", "-r", sample_mount.path / "stac" / name, tmp_path / name)
    check("cp", sample_mount.path / "stac/catalog.json", tmp_path / "catalog.json")
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    kept = [
        link for link in catalog["links"] if link["rel"] != "child" or f"/{name}/" in link["href"]
    ]
    (tmp_path / "catalog.json").write_text(json.dumps(catalog | {"links": kept}))
    (files,) = walk(tmp_path / "catalog.json").values()
    assert len(files) == 10
    assert all(path.is_relative_to(tmp_path) and path.is_file() for path in files.values())


def test_a_delivery_in_stac_is_the_file_in_assets(sample_mount: Mount) -> None:
    inodes = {entry.inode() for entry in os.scandir(sample_mount.path / "assets")}
    deliveries = list((sample_mount.path / "stac").glob("*/*/data.zip"))
    assert len(deliveries) > 10
    for path in deliveries:
        assert os.stat(path).st_ino in inodes


def test_a_listing_younger_than_a_minute_is_not_asked_again(start, mount) -> None:
    running = start("--synthetic", "2,0,0")
    fresh = mount(running)
    assert len(os.listdir(fresh.path / "stac")) == 3
    transformed(running, "new.zip", [file("a.tif")])
    before = running.remote.position()
    assert len(os.listdir(fresh.path / "stac")) == 3
    assert "stac.collections" not in running.requests(before)


def test_documents_have_the_times_of_what_they_describe(sample_mount, sample, mount) -> None:
    """So that rsync takes nothing for changed after a remount."""
    other = mount(sample)
    for pattern in ("assets/*/item.json", "stac/*/*/*.json"):
        documents = sorted(sample_mount.path.glob(pattern))
        assert documents
        for document in documents:
            again = other.path / document.relative_to(sample_mount.path)
            assert document.stat().st_mtime_ns == again.stat().st_mtime_ns, document

"""Transformed files in a real mount: where they stand, what they cost, what they hold."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pystac
import pytest
from harness import (
    DATA,
    EXPECTED,
    Emulator,
    Mount,
    check,
    comparable,
    emulator,
    mounted,
    run,
    wait_until,
)
from transformed_support import cold_list, file, put_items, python, transformed, validate

from up42fs.emulator.folder import IMAGES, regular_files
from up42fs.emulator.storage import stable_id

pytestmark = pytest.mark.mount

SENTINEL = re.compile(r"earthsearch-aws_[0-9a-f-]+")
ODD_KEYS = [
    "b02.tiff",
    "100% cloud#1?.tif",
    "a/b.tif",
    "Größe 東京 [x]:y.tif",
    "..",
    "item.json",
    " spaces .tif ",
    "no extension",
    "x" * 300 + ".tif",
    "new\nline.tif",
]


@pytest.fixture(scope="module")
def made(session_home: Path) -> Iterator[tuple[Emulator, Mount]]:
    """Deliveries of every shape; tests only look."""
    with ExitStack() as stack:
        running = stack.enter_context(emulator("--synthetic", "1,1,0", "--href-suffix", "mixed"))
        order = running.remote.storage("add_order", display_name="Order of all")["id"]
        transformed(
            running,
            "one.zip",
            [file("b02.tiff", bytes(range(256)) * 99), file("metadata.xml")],
            order_id=order,
            tags=["first", "second"],
        )
        two = transformed(running, "two.zip", [file("a.tif")], [file("a.tif"), file("b.tif")])
        put_items(running, two, [file("c.tif")], collection="another")
        transformed(running, "only data.tif", [file("data", media_type="image/tiff")])
        transformed(running, "odd.zip", [file(key) for key in ODD_KEYS])
        transformed(
            running,
            "wrong.zip",
            [
                file("preview.jpg", media_type="image/png"),
                file("noted", media_type="application/xml; charset=utf-8"),
                file("typed", media_type="nonsense"),
                file("pan", media_type="image/tiff; application=geotiff"),
            ],
        )
        foreign = "https://evil.example/v2/assets/5ed3f2a5-5a42-4c4d-8b6f-6a4b0a4e7a10"
        transformed(running, "foreign.zip", [file("good.tif"), file("bad.tif", href=foreign)])
        older = "2001-01-01T00:00:00Z"
        running.remote.storage("add_asset", name="clash.tif", size=10, created_at=older)
        transformed(running, "clash.tif.zip", [file("c.tif")])
        mount = stack.enter_context(mounted(running.env, home=session_home))
        yield running, mount


# -- what stands where


@pytest.mark.claim("S36")
def test_one_item_lies_open_beside_its_delivery(made: tuple[Emulator, Mount]) -> None:
    mount = made[1].path
    assert "one.zip" in os.listdir(mount / "assets")
    for view in ("assets", "orders/Order of all", "tags/first", "tags/second", "cnam/SUCCESSFUL"):
        one = mount / view / "one"
        assert sorted(os.listdir(one)) == ["b02.tiff", "item.json", "metadata.xml"]
        assert (one / "b02.tiff").read_bytes() == bytes(range(256)) * 99
        assert (one / "metadata.xml").read_bytes() == b"metadata.xml"
    assert "one" not in os.listdir(mount / "cnam/NOT_PROCESSED")


def test_several_items_of_several_collections_get_a_directory_each(
    made: tuple[Emulator, Mount],
) -> None:
    two = made[1].path / "assets/two"
    names = sorted(os.listdir(two))
    assert len(names) == 3
    assert {name.partition(" [")[0] for name in names} == {"Scene 1", "Scene 2"}
    listed = sorted(sorted(os.listdir(two / name)) for name in names)
    assert listed == [
        ["a.tif", "b.tif", "item.json"],
        ["a.tif", "item.json"],
        ["c.tif", "item.json"],
    ]
    assert os.stat(two).st_nlink != 2, "find would not look for subdirectories"
    for name in names:
        item_id = os.getxattr(two / name, "user.up42.stac.item_id").decode()
        assert json.loads((two / name / "item.json").read_text())["id"] == item_id
        assert sorted(os.listdir(two / item_id)) == sorted(os.listdir(two / name))
        for key in os.listdir(two / name):
            if key != "item.json":
                assert (two / name / key).read_bytes() == key.encode()


def test_an_item_with_only_data(made: tuple[Emulator, Mount]) -> None:
    only = made[1].path / "assets/only data"
    assert sorted(os.listdir(only)) == ["data.tif", "item.json"]
    assert (only / "data.tif").read_bytes() == b"data"


def test_keys_with_odd_characters_are_safe_names_and_open_by_href(
    made: tuple[Emulator, Mount],
) -> None:
    odd = made[1].path / "assets/odd"
    names = os.listdir(odd)
    assert len(names) == len(set(names)) == len(ODD_KEYS) + 1
    item = pystac.Item.from_file(str(odd / "item.json"))
    assert set(item.assets) == set(ODD_KEYS)
    for key, asset in item.assets.items():
        href = asset.get_absolute_href()
        assert href is not None
        path = Path(href)
        assert path.name in names
        assert path.read_bytes() == key.encode()
        assert os.getxattr(path, "user.up42.name").decode() == key


def test_wrong_media_types_do_not_rename_files_with_an_extension(
    made: tuple[Emulator, Mount],
) -> None:
    wrong = made[1].path / "assets/wrong"
    assert sorted(os.listdir(wrong)) == [
        "item.json",
        "noted.xml",
        "pan.tif",
        "preview.jpg",
        "typed",
    ]
    for name, key in (
        ("preview.jpg", b"preview.jpg"),
        ("noted.xml", b"noted"),
        ("typed", b"typed"),
    ):
        assert (wrong / name).read_bytes() == key


def test_an_href_on_a_foreign_host_is_refused_once(made: tuple[Emulator, Mount]) -> None:
    mount = made[1]
    for view in ("assets", "cnam/SUCCESSFUL", "assets"):
        foreign = mount.path / view / "foreign"
        assert sorted(os.listdir(foreign)) == ["good.tif", "item.json"]
        assert not (foreign / "bad.tif").exists()
    check("find", mount.path / "stac")
    item = json.loads((mount.path / "assets/foreign/item.json").read_text())
    assert list(item["assets"]) == ["good.tif"]
    lines = [line for line in mount.log.read_text().splitlines() if "evil.example" in line]
    assert len(lines) == 1
    asset_id = os.getxattr(mount.find("foreign.zip"), "user.up42.id").decode()
    assert "WARNING" in lines[0]
    assert "bad.tif" in lines[0]
    assert asset_id in lines[0]


def test_a_directory_gives_way_to_a_file_of_that_name(made: tuple[Emulator, Mount]) -> None:
    assets = made[1].path / "assets"
    assert (assets / "clash.tif").is_file()
    assert sorted(os.listdir(assets / "clash.tif (files)")) == ["c.tif", "item.json"]


@pytest.mark.claim("S39")
def test_a_file_is_one_inode_wherever_it_stands(made: tuple[Emulator, Mount]) -> None:
    mount = made[1].path
    places = [mount / view / "one" for view in ("orders/Order of all", "tags/first", "assets")]
    places += [path.parent for path in (mount / "stac/one.zip").rglob("b02.tiff")]
    assert len(places) == 4
    found = {os.stat(place / "b02.tiff").st_ino for place in places}
    assert len(found) == 1
    assert os.stat(places[0] / "b02.tiff").st_nlink >= 4


def test_listing_finding_and_completing_cost_searches_only(
    made: tuple[Emulator, Mount], mount
) -> None:
    running = made[0]
    fresh = mount(running)
    before = running.remote.position()
    cold_list(fresh.path, "-R")
    check("find", fresh.path, "-name", "*.tif*")
    check("bash", "-c", f'compgen -f "{fresh.path}/assets/one/"')
    check("find", fresh.path, "-type", "f")
    requests = running.requests(before)
    assert requests.keys() == {"stac.search", "stac.collections", "stac.items"}
    transformed_assets = len(os.listdir(fresh.path / "cnam/SUCCESSFUL")) // 2
    assert requests["stac.search"] <= transformed_assets
    assert requests["stac.collections"] == 1
    assert requests["stac.items"] == len(list((fresh.path / "stac").iterdir())) - 1
    assert fresh.counters().get("store.requests", 0) == 0


def test_a_directory_is_one_search_and_then_none(made: tuple[Emulator, Mount], mount) -> None:
    running = made[0]
    fresh = mount(running)
    os.listdir(fresh.path / "assets")
    before = running.remote.position()
    os.listdir(fresh.path / "assets/two")
    assert running.requests(before) == {"stac.search": 1}
    for view in ("assets", "cnam/SUCCESSFUL"):
        cold_list(fresh.path / view / "two", "-R")
        assert not (fresh.path / view / "two/missing.aux.xml").exists()
    assert running.requests(before) == {"stac.search": 1}


def test_a_search_per_hundred_files(start, mount) -> None:
    running = start("--synthetic", "1,0,0")
    transformed(running, "many.zip", *([file(f"f{n}.tif")] for n in range(150)))
    fresh = mount(running)
    os.listdir(fresh.path / "assets")
    before = running.remote.position()
    assert len(os.listdir(fresh.path / "assets/many")) == 150
    assert running.requests(before) == {"stac.search": 2}


# -- sizes


@pytest.mark.claim("S47")
def test_stat_and_open_learn_a_size_with_a_link_and_a_range(
    made: tuple[Emulator, Mount], mount
) -> None:
    running = made[0]
    fresh = mount(running)
    one = fresh.path / "assets/one"
    os.listdir(one)
    before = running.remote.position()
    assert os.stat(one / "b02.tiff").st_size == 256 * 99
    assert running.requests(before) == {"assets.sign": 1, "store.get": 1}
    assert (one / "b02.tiff").read_bytes() == bytes(range(256)) * 99
    with (fresh.path / "tags/first/one/b02.tiff").open("rb") as opened:
        assert opened.seek(0, os.SEEK_END) == 256 * 99
    assert running.requests(before) == {"assets.sign": 1, "store.get": 1}
    before = running.remote.position()
    with (one / "metadata.xml").open("rb") as opened:
        assert opened.read() == b"metadata.xml"
    assert running.requests(before) == {"assets.sign": 1, "store.get": 1}


def test_a_long_listing_of_21_files_is_parallel(start, mount) -> None:
    running = start("--synthetic", "1,0,0")
    files = [file(f"b{n:02d}.tiff", bytes([n]) * (200_000 + n)) for n in range(21)]
    transformed(running, "big.zip", files)
    running.remote.faults(latency_s=0.25)
    fresh = mount(running)
    os.listdir(fresh.path / "assets")
    before, started_s = running.remote.position(), time.monotonic()
    shown = cold_list(fresh.path / "assets/big", "-l")
    took_s = time.monotonic() - started_s
    sizes = [int(line.split()[4]) for line in shown.splitlines() if line.endswith(".tiff")]
    assert sizes == [200_000 + n for n in range(21)]
    assert running.requests(before) == {"stac.search": 1, "assets.sign": 21, "store.get": 21}
    assert took_s < 6, "1.3 s are meant"  # one after another: 10.8 s
    before = running.remote.position()
    assert cold_list(fresh.path / "assets/big", "-l") == shown
    assert running.remote.log(before) == []


def test_one_lost_file_does_not_spoil_the_listing(start, mount) -> None:
    running = start("--synthetic", "1,0,0")
    transformed(running, "big.zip", [file(f"b{n}.tiff") for n in range(9)])
    objects = {row["name"]: row["id"] for row in running.remote.storage()["objects"]}
    for lost in ("b0.tiff", "b4.tiff"):
        running.remote.storage("remove_object", id=objects[lost])
    fresh = mount(running)
    big = fresh.path / "assets/big"
    done = run("ls", "-l", big, env={"LC_ALL": "C"})
    assert done.returncode == 1
    sizes = {line.split()[-1]: line.split()[4] for line in done.stdout.splitlines()[1:]}
    assert {name for name, size in sizes.items() if size == "7"} == {
        f"b{n}.tiff" for n in range(9) if n not in (0, 4)
    }
    assert all(name in done.stderr for name in ("b0.tiff", "b4.tiff"))
    assert "b1.tiff" not in done.stderr
    before = running.remote.position()
    run("ls", "-l", big)
    # Only the lost ones are asked again; what answers 404 gets another chance with a fresh link.
    assert len(running.remote.log(before)) <= 8 * 2
    with pytest.raises(OSError) as caught:
        os.stat(big / "b4.tiff")
    assert caught.value.errno in (errno.ENOENT, errno.ESTALE)
    assert "b4.tiff" in fresh.log.read_text()


def test_a_stalled_file_does_not_hold_up_the_others(start, mount) -> None:
    running = start("--synthetic", "1,0,0")
    transformed(running, "big.zip", [file(f"b{n}.tiff") for n in range(6)])
    objects = {row["name"]: row["id"] for row in running.remote.storage()["objects"]}
    fresh = mount(running)
    big = fresh.path / "assets/big"
    os.listdir(big)
    running.remote.faults(
        fail_plane="store", fail_object=objects["b5.tiff"], stall_before_headers_s=25.0
    )
    started_s = time.monotonic()
    for n in range(5):
        assert os.stat(big / f"b{n}.tiff").st_size == 7
    assert time.monotonic() - started_s < 15
    running.remote.faults(stall_before_headers_s=0.0)


def test_gdalinfo_is_a_link_and_two_ranges_and_then_nothing(
    sample: Emulator, sample_mount: Mount, mount
) -> None:
    (name,) = (n for n in os.listdir(sample_mount.path / "assets") if SENTINEL.fullmatch(n))
    for key in ("b02.tiff", "scl.tiff", "tci.tiff"):
        fresh = mount(sample)
        path = fresh.path / "assets" / name / key
        before = sample.remote.position()
        check("gdalinfo", path)
        requests = sample.requests(before)
        # GDAL looks into neighbours whose names promise metadata: item.json costs nothing.
        assert requests.pop("stac.search", 0) <= 1
        assert requests["assets.sign"] == 1
        assert requests["store.get"] <= 2
        assert requests.keys() == {"assets.sign", "store.get"}
        again = sample.remote.position()
        check("gdalinfo", path)
        assert sample.remote.log(again) == []


# -- coming and going


def test_a_transformation_that_ends_makes_the_directory_appear(start, mount) -> None:
    running = start("--synthetic", "1,0,0")
    added = running.remote.storage(
        "add_asset", name="late.zip", size=100, cnam_status="IN_PROGRESS"
    )["id"]
    fresh = mount(running, "-o", "refresh=1")
    assert sorted(os.listdir(fresh.path / "cnam/IN_PROGRESS")) == ["late", "late.zip"]
    late = fresh.path / "assets/late"
    assert late.is_dir()  # of the archive's own members, until there are others
    running.remote.storage("set_cnam_status", id=added, status="SUCCESSFUL")
    wait_until((fresh.path / "cnam/SUCCESSFUL/late").is_dir, 15, "the directory appears")
    assert sorted(os.listdir(late)) == ["image.tiff", "item.json", "metadata.xml"]
    assert (late / "image.tiff").stat().st_size == 50
    assert os.listdir(fresh.path / "cnam/IN_PROGRESS") == []
    assert (fresh.path / "cnam/SUCCESSFUL/late/metadata.xml").exists()


def test_an_asset_that_leaves_takes_its_files_along(start, mount) -> None:
    running = start("--synthetic", "1,0,0")
    gone = transformed(running, "gone.zip", [file("a.tif"), file("b.tif", bytes(3_000_000))])
    fresh = mount(running, "-o", "refresh=1")
    path = fresh.path / "assets/gone"
    assert (path / "a.tif").read_bytes() == b"a.tif"
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        running.remote.storage("remove_asset", id=gone)
        wait_until(lambda: not path.exists(), 15, "the directory vanishes")
        assert not (path / "a.tif").exists()
        assert "gone" not in os.listdir(fresh.path / "assets")
        with pytest.raises(OSError) as caught:
            os.stat("b.tif", dir_fd=directory)
        assert caught.value.errno in (errno.ENOENT, errno.ESTALE)
    finally:
        os.close(directory)


# -- attributes


def attributes(path: Path) -> dict[str, str]:
    return {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}


def test_listed_attributes_of_files_and_directories_ask_nothing(
    made: tuple[Emulator, Mount], mount
) -> None:
    running = made[0]
    fresh = mount(running)
    one, two = fresh.path / "assets/one", fresh.path / "assets/two"
    for directory in (one, two, *two.iterdir()):
        os.listdir(directory)
    # The kernel asks for a file's mode, so for all that stat tells, before its attributes.
    os.stat(one / "b02.tiff")
    before = running.remote.position()
    shown = attributes(one / "b02.tiff")
    of_directory, of_several = attributes(one), attributes(two)
    of_items = [attributes(item) for item in two.iterdir()]
    check("getfattr", "-d", "--absolute-names", one, two, one / "b02.tiff")
    assert running.remote.log(before) == []
    item = json.loads((one / "item.json").read_text())
    assert shown["user.up42.kind"] == "file"
    assert shown["user.up42.name"] == "b02.tiff"
    assert shown["user.up42.content_type"] == shown["user.mime_type"] == "image/tiff"
    assert shown["user.up42.tags"] == "first,second"
    assert shown["user.up42.order_name"] == "Order of all"
    assert shown["user.up42.stac.item_id"] == item["id"]
    assert shown["user.up42.stac.roles"] == "data"
    assert shown["user.up42.stac.bbox"] == "13.3,52.4,13.5,52.6"
    assert shown["user.up42.stac.datetime"][:19] == item["properties"]["datetime"][:19]
    assert of_directory["user.up42.kind"] == "item"
    assert of_directory["user.up42.stac.item_id"] == item["id"]
    assert of_directory["user.up42.stac.title"] == "Scene 1"
    assert "user.up42.stac.item_id" not in of_several
    assert of_several["user.up42.kind"] == "item"
    assert {row["user.up42.kind"] for row in of_items} == {"item"}
    assert len({row["user.up42.stac.item_id"] for row in of_items}) == 3
    for name in ("user.up42.json", "user.up42.stac.json", "user.up42.download_url"):
        assert name not in shown
        assert name not in of_directory


def test_unlisted_attributes_of_a_transformed_file(made: tuple[Emulator, Mount], mount) -> None:
    running = made[0]
    fresh = mount(running)
    one = fresh.path / "assets/one"
    os.listdir(one)
    os.stat(one / "metadata.xml")
    before = running.remote.position()
    for path in (one, one / "metadata.xml"):
        sent = json.loads(os.getxattr(path, "user.up42.stac.json"))
        assert sent["id"] == attributes(one)["user.up42.stac.item_id"]
        assert sent["assets"]["metadata.xml"]["href"].startswith("http")
    assert running.remote.log(before) == []
    url = os.getxattr(one / "metadata.xml", "user.up42.download_url").decode()
    assert running.requests(before) == {"assets.sign": 1}
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"metadata.xml"
    asset_id = os.getxattr(fresh.path / "assets/one.zip", "user.up42.id").decode()
    assert json.loads(os.getxattr(one / "metadata.xml", "user.up42.json"))["id"] == asset_id
    assert json.loads(os.getxattr(one, "user.up42.json"))["id"] == asset_id
    with pytest.raises(OSError) as caught:
        os.getxattr(fresh.path / "assets/two", "user.up42.stac.json")
    assert caught.value.errno == errno.ENODATA
    assert int(os.getxattr(one / "metadata.xml", "user.up42.cached")) == len(b"metadata.xml")


@pytest.mark.claim("S37")
def test_item_json_is_a_valid_item_alone(sample_mount: Mount) -> None:
    documents = sorted((sample_mount.path / "assets").rglob("item.json"))
    assert len(documents) == 5
    for document in documents:
        sent = json.loads(document.read_text())
        validate(sent)
        assert sent["links"] == []
        beside = set(os.listdir(document.parent)) - {"item.json"}
        item = pystac.Item.from_file(str(document))
        hrefs = [Path(str(asset.get_absolute_href())) for asset in item.assets.values()]
        assert {path.name for path in hrefs} == beside
        for path in hrefs:
            assert path.stat().st_size > 0
            with path.open("rb") as opened:
                assert opened.read(1)


# -- the shared imagery


@pytest.fixture(scope="module")
def data(session_home: Path) -> Iterator[Emulator]:
    with emulator("--data", str(DATA)) as running:
        yield running


@pytest.fixture(scope="module")
def files_of_data(data: Emulator, session_home: Path) -> Iterator[dict[str, Path]]:
    """Every transformed file of the imagery as the mount shows it, by ID."""
    with mounted(data.env, "-o", "refresh=3600", home=session_home) as mount:
        found = {}
        for document in (mount.path / "cnam/SUCCESSFUL").rglob("item.json"):
            for name in set(os.listdir(document.parent)) - {"item.json"}:
                path = document.parent / name
                found[os.getxattr(path, "user.up42.id").decode()] = path
        yield found


@pytest.mark.data
def test_every_transformed_file_of_the_imagery_is_the_original(
    files_of_data: dict[str, Path],
) -> None:
    originals = {
        stable_id(f"folder file {path.relative_to(DATA)}"): path
        for path in regular_files(DATA)
        if path.suffix.lower() in IMAGES
    }
    assert files_of_data.keys() == originals.keys()
    assert len(originals) >= 50
    for file_id, path in files_of_data.items():
        assert filecmp.cmp(path, originals[file_id], shallow=False), originals[file_id]


@pytest.mark.data
def test_gdal_sees_the_same_pixels_in_transformed_files(files_of_data: dict[str, Path]) -> None:
    compared = 0
    for expectation in sorted(EXPECTED.rglob("*.json")):
        relative = expectation.relative_to(EXPECTED).with_suffix("")
        path = files_of_data.get(stable_id(f"folder file {relative}"))
        expected = json.loads(expectation.read_text())
        if path is None or "bands" not in expected:
            continue
        shown = json.loads(check("gdalinfo", "-json", "-checksum", path))
        # Those with sidecars look different without: here every image stands alone.
        if len(expected.get("files", [])) == 1:
            assert comparable(shown) == comparable(expected), relative
        checksums = [[band["checksum"] for band in info["bands"]] for info in (shown, expected)]
        assert checksums[0] == checksums[1], relative
        compared += 1
    assert compared > 30


def test_rasterio_reads_a_window_through_the_mount(sample_mount: Mount) -> None:
    (path,) = (sample_mount.path / "assets").glob("*/tci.tiff")
    script = """
import sys, rasterio
from rasterio.windows import Window
with rasterio.open(sys.argv[1]) as image:
    print(image.read(1, window=Window(10, 10, 64, 64)).shape, image.crs.to_epsg())
"""
    assert python(script, path).strip() == "(64, 64) 32633"

"""`search/` and footprints in a real mount; and accounts that STAC alone tells about."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import Emulator, Mount, check, emulator, mounted, wait_until
from transformed_support import file, transformed, walk

pytestmark = pytest.mark.mount


#: What `-o footprints` lists beside the deliveries.
DOCUMENTS = ("footprints.geojson", "layers.qlr", "visual.vrt")


def ids_in(directory: Path) -> set[str]:
    """IDs of the deliveries of a directory."""
    found = set()
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and entry.name not in DOCUMENTS:
                found.add(os.getxattr(entry.path, "user.up42.id").decode())
    return found


@pytest.fixture(scope="module")
def rows(sample: Emulator) -> dict[str, list[dict[str, Any]]]:
    """What UP42 says of each asset of the sample: the asset, then its items, as it sends them."""
    found = {asset["id"]: [asset] for asset in ask(sample, "/v2/assets?size=100")["content"]}
    sent = ask(sample, "/v2/assets/stac/search", {"limit": 100})["features"]
    for item in sent:
        found[item["properties"]["up42-system:asset_id"]].append(item)
    assert len(sent) == len(sample.remote.storage()["items"])
    return found


def ask(running: Emulator, path: str, body: dict[str, Any] | None = None) -> Any:
    """One request to the emulator's API, as any client of UP42 makes it."""
    form = {
        "grant_type": "password",
        "client_id": "up42-api",
        "username": running.ready["username"],
        "password": running.ready["password"],
    }
    signed_in = httpx.post(
        running.ready["auth_url"] + "/realms/public/protocol/openid-connect/token",
        data=form,
        trust_env=False,
    )
    return httpx.request(
        "GET" if body is None else "POST",
        running.ready["api_url"] + path,
        json=body,
        headers={"Authorization": f"Bearer {signed_in.json()['access_token']}"},
        trust_env=False,
    ).json()


def items(fits: Callable[[dict[str, Any]], bool]) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda row: any(fits(item) for item in row[1:])


def asset(fits: Callable[[dict[str, Any]], bool]) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda row: fits(row[0])


def meets(west: float, south: float, east: float, north: float) -> Callable[..., bool]:
    return items(
        lambda item: (
            item["bbox"][0] <= east
            and item["bbox"][2] >= west
            and item["bbox"][1] <= north
            and item["bbox"][3] >= south
        )
    )


def properties(key: str, fits: Callable[[Any], bool]) -> Callable[[list[dict[str, Any]]], bool]:
    return items(
        lambda item: item["properties"].get(key) is not None and fits(item["properties"][key])
    )


QUERIES: dict[str, tuple[Callable[[list[dict[str, Any]]], bool], bool]] = {
    "collection=phr": (asset(lambda a: a.get("collectionName") == "phr"), False),
    "tag=harbour": (asset(lambda a: "harbour" in (a.get("tags") or [])), False),
    "tag=berlin%2F2024 spring": (
        asset(lambda a: "berlin/2024 spring" in (a.get("tags") or [])),
        False,
    ),
    "text=überwachung": (asset(lambda a: "Überwachung" in (a.get("tags") or [])), False),
    "status=failed": (
        asset(lambda a: a.get("geospatialMetadataExtractionStatus") == "FAILED"),
        False,
    ),
    "source=tasking": (asset(lambda a: a.get("source") == "TASKING"), False),
    "cloud<4": (properties("eo:cloud_cover", lambda cover: cover < 4), True),
    "cloud>=3.2": (properties("eo:cloud_cover", lambda cover: cover >= 3.2), True),
    "gsd<=0.5": (properties("gsd", lambda gsd: gsd <= 0.5), True),
    "constellation=PHR": (properties("constellation", lambda name: name == "PHR"), True),
    "bbox=13.1,52.3,13.7,52.7": (meets(13.1, 52.3, 13.7, 52.7), True),
    "bbox=-10,38,-8,39": (meets(-10, 38, -8, 39), True),
    "datetime=2024": (properties("datetime", lambda moment: moment.startswith("2024")), True),
    "datetime=2023-04-01..2023-05-01": (
        properties("datetime", lambda moment: "2023-04" <= moment < "2023-05-02"),
        True,
    ),
    "datetime>=2026": (properties("datetime", lambda moment: moment >= "2026"), True),
}  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_finds_what_a_filter_of_the_storage_finds(
    sample: Emulator, sample_mount: Mount, rows: dict[str, list[dict[str, Any]]], query: str
) -> None:
    fits, asks = QUERIES[query]
    expected = {id_ for id_, row in rows.items() if fits(row)}
    before = sample.remote.position()
    assert ids_in(sample_mount.path / "search" / query) == expected
    assert expected, "a query that finds nothing proves nothing"
    assert len(expected) < len(rows) or query == "cloud>=3.2"
    asked = sample.requests(before)
    asked.pop("auth.token", None)  # whenever the last one has ended
    assert asked == ({"stac.search": 1} if asks else {})
    assert ids_in(sample_mount.path / "search" / query) == expected
    assert len([r for r in sample.remote.log(before) if r["plane"] != "auth"]) == asks
    assert query in os.listdir(sample_mount.path / "search")


def test_terms_are_joined_by_commas(
    sample_mount: Mount, rows: dict[str, list[dict[str, Any]]]
) -> None:
    search = sample_mount.path / "search"
    first, second = QUERIES["collection=phr"][0], QUERIES["cloud<4"][0]
    both = {id_ for id_, row in rows.items() if first(row) and second(row)}
    assert ids_in(search / "collection=phr,cloud<4") == both
    assert ids_in(search / "cloud<4,collection=phr") == both
    assert both
    box, year = QUERIES["bbox=-10,38,-8,39"][0], QUERIES["datetime=2024"][0]
    three = {id_ for id_, row in rows.items() if box(row) and year(row)}
    assert ids_in(search / "bbox=-10,38,-8,39,datetime=2024") == three
    assert three


def test_the_command_line_of_the_documentation(sample_mount: Mount) -> None:
    shown = check("sh", "-c", 'ls "search/collection=phr,cloud<10"', cwd=sample_mount.path)
    assert "PHR1A_stereo_202602031015.zip" in shown.splitlines()
    assert "PHR1A_stereo_202602031015" in shown.splitlines()
    found = check("find", "search/collection=phr,cloud<10", "-name", "b01.tiff",
                  cwd=sample_mount.path)  # fmt: skip
    assert len(found.splitlines()) == 2


def test_a_query_shows_the_files_of_what_it_finds(sample_mount: Mount) -> None:
    query = sample_mount.path / "search/constellation=sentinel-2"
    (delivery,) = (path for path in query.iterdir() if path.is_file())
    (files,) = (path for path in query.iterdir() if path.is_dir())
    assert os.stat(delivery).st_ino == os.stat(sample_mount.find(delivery.name)).st_ino
    beside = sample_mount.path / "assets" / files.name
    assert sorted(os.listdir(files)) == sorted(os.listdir(beside))
    assert (files / "b02.tiff").stat().st_ino == (beside / "b02.tiff").stat().st_ino
    assert (files / "metadata.xml").read_bytes() == (beside / "metadata.xml").read_bytes()


def test_other_names_are_absent_and_ask_nothing(sample: Emulator, sample_mount: Mount) -> None:
    search = sample_mount.path / "search"
    os.listdir(search)
    listed = set(os.listdir(search))
    before = sample.remote.position()
    for name in (
        "berlin", "clouds<10", "cloud", "cloud<", "cloud<ten", "bbox=1,2,3", ".git", "*",
        "collection=phr,cloudy=1", "datetime=yesterday", "footprints.geojson", "collection=",
        "12345678-1234-1234-1234-123456789abc", "text=x,", "status=green",
    ):  # fmt: skip
        with pytest.raises(OSError) as caught:
            os.stat(search / name)
        assert caught.value.errno == errno.ENOENT, name
    assert sample.remote.log(before) == []
    assert set(os.listdir(search)) == listed


def test_a_name_is_only_asked_when_it_is_looked_into(sample: Emulator, mount) -> None:
    fresh = mount(sample)
    assert os.listdir(fresh.path / "search") == []
    before = sample.remote.position()
    assert (fresh.path / "search/cloud<1").is_dir()
    assert sample.remote.log(before) == []
    os.listdir(fresh.path / "search/cloud<1")
    assert sample.requests(before) == {"stac.search": 1}
    assert os.listdir(fresh.path / "search") == ["cloud<1"]
    # Another spelling of the same question is another directory and the same answer.
    os.listdir(fresh.path / "search/cloud<1.0")
    assert sample.requests(before) == {"stac.search": 1}


@pytest.mark.claim("S45")
def test_a_refused_search_is_an_error_and_not_an_empty_directory(start, mount) -> None:
    running = start("--synthetic", "3,1,0")
    fresh = mount(running)
    os.listdir(fresh.path / "assets")
    running.remote.faults(fail_route="stac.search", fail_status=403)
    with pytest.raises(PermissionError):
        os.listdir(fresh.path / "search/gsd<1")
    running.remote.faults(fail_route=None, fail_status=None)
    assert len(ids_in(fresh.path / "search/gsd<1")) == 3


# -- footprints

PLACES = ("orders/Sentinel-2 Brandenburg", "tags/harbour", "search/constellation=PHR")


def test_footprints_are_hidden_but_there(sample: Emulator, sample_mount: Mount) -> None:
    for place in (*PLACES, "assets", "."):
        directory = sample_mount.path / place
        assert not {*DOCUMENTS} & {*os.listdir(directory)}
        document = directory / "footprints.geojson"
        assert document.stat().st_size == len(document.read_bytes()) > 100
    assert not (sample_mount.path / "stac/footprints.geojson").exists()


@pytest.fixture(scope="module")
def listing(sample: Emulator, session_home: Path) -> Iterator[Mount]:
    with mounted(sample.env, "-o", "footprints", home=session_home) as mount:
        yield mount


def test_footprints_are_listed_where_wished(listing: Mount) -> None:
    for place in (*PLACES, "assets", "."):
        assert "footprints.geojson" in os.listdir(listing.path / place)
    assert "footprints.geojson" not in os.listdir(listing.path / "stac")


@pytest.mark.claim("S322")
@pytest.mark.parametrize("place", PLACES)
def test_what_is_listed_is_copied(listing: Mount, tmp_path: Path, place: str) -> None:
    """`cp -r` and rsync fail at a name that is listed and is not there."""
    directory = listing.path / place
    check("cp", "-r", directory, tmp_path / "copy")
    assert {*os.listdir(directory)} == {*os.listdir(tmp_path / "copy")}
    for name in DOCUMENTS:
        if name in os.listdir(directory):
            assert (tmp_path / "copy" / name).read_bytes() == (directory / name).read_bytes()


@pytest.mark.claim("S322")
def test_listed_layers_without_an_image_are_valid(start, mount) -> None:
    """A listing does not know yet that no asset that was transformed has an image."""
    running = start("--synthetic", "1,1,0")
    order = running.remote.storage("add_order", display_name="Points")["id"]
    points = [file("points.laz", b"LASF" + bytes(60), media_type="application/vnd.laszip")]
    transformed(running, "points.zip", points, order_id=order)
    directory = mount(running, "-o", "footprints").path / "orders/Points"
    before = running.remote.position()
    assert {*DOCUMENTS} < {*os.listdir(directory)}
    assert "stac.search" not in running.requests(before), "a listing asks for no items"
    said = json.loads(check("gdalinfo", "-json", directory / "visual.vrt"))
    assert said["size"] == [1, 1]
    assert "has an image" in said["metadata"][""]["UP42FS_LEFT_OUT"]
    layers = (directory / "layers.qlr").read_text()
    assert layers.count("<maplayer ") == 1
    assert "./footprints.geojson" in layers
    assert len(json.loads((directory / "footprints.geojson").read_text())["features"]) == 1


@pytest.mark.parametrize(
    "place", ["orders/Sentinel-2 Brandenburg", "tags/harbour", "search/bbox=13.1,52.3,13.7,52.7"]
)
def test_gdal_opens_the_outlines_of_what_is_there(
    sample: Emulator, listing: Mount, rows: dict[str, list[dict[str, Any]]], place: str
) -> None:
    directory = listing.path / place
    document = json.loads((directory / "footprints.geojson").read_text())
    here = ids_in(directory)
    expected = sorted((id_, json.dumps(item["geometry"])) for id_ in here for item in rows[id_][1:])
    shown = [
        (feature["properties"]["id"], json.dumps(feature["geometry"]))
        for feature in document["features"]
    ]
    assert sorted(shown) == expected
    assert {id_ for id_, _ in shown} == here
    for feature in document["features"]:
        told = feature["properties"]
        path = directory / told["path"]
        assert os.getxattr(path, "user.up42.id").decode() == told["id"]
        sent = [item["properties"] for item in rows[told["id"]][1:]]
        assert told["cloud_cover"] in [item.get("eo:cloud_cover") for item in sent]
        assert told["datetime"][:19] in [item["datetime"][:19] for item in sent]
    summary = check("ogrinfo", "-ro", "-al", "-so", directory / "footprints.geojson")
    assert f"Feature Count: {len(expected)}" in summary
    assert "cloud_cover: Real" in summary


def test_footprints_are_made_once_a_minute(sample: Emulator, mount) -> None:
    fresh = mount(sample)
    directory = fresh.path / "tags/harbour"
    files = [name for name in os.listdir(directory) if name.endswith(".zip")]
    assert len(files) == 4
    # One for all; one more for the asset that is being transformed, of which it finds no files.
    searches = {"stac.search": 2}
    before = sample.remote.position()
    (directory / "footprints.geojson").read_bytes()
    assert sample.requests(before) == searches
    check("ogrinfo", "-ro", "-al", directory / "footprints.geojson")
    assert sample.requests(before) == searches


# -- STAC only


@pytest.fixture(scope="module", params=[404, 410])
def gone(request: pytest.FixtureRequest, session_home: Path) -> Iterator[tuple[Emulator, Mount]]:
    with ExitStack() as stack:
        running = stack.enter_context(emulator("--assets-gone", str(request.param)))
        yield running, stack.enter_context(mounted(running.env, home=session_home))


@pytest.mark.claim("S50")
def test_the_tree_is_built_from_stac_alone(gone: tuple[Emulator, Mount]) -> None:
    running, mount = gone
    storage = running.remote.storage()
    assert ids_in(mount.path / "assets") == {asset["id"] for asset in storage["assets"]}
    orders = {
        os.getxattr(path, "user.up42.id").decode(): ids_in(path)
        for path in (mount.path / "orders").iterdir()
    }
    expected: dict[str, set[str]] = {}
    for asset in storage["assets"]:
        if asset["order_id"]:
            expected.setdefault(asset["order_id"], set()).add(asset["id"])
    assert orders == expected
    tags = {
        os.getxattr(path, "user.up42.name").decode(): ids_in(path)
        for path in (mount.path / "tags").iterdir()
    }
    assert tags == {
        tag: {asset["id"] for asset in storage["assets"] if tag in (asset["tags"] or [])}
        for tag in {tag for asset in storage["assets"] for tag in asset["tags"] or []}
    }
    files = mount.path / "cnam/SUCCESSFUL"
    assert sum(path.is_dir() for path in files.iterdir()) == 4
    walk(mount.path / "stac/catalog.json")


def test_stac_alone_is_said_once(gone: tuple[Emulator, Mount]) -> None:
    mount = gone[1]
    os.listdir(mount.path / "assets")
    assert mount.status()["listed_by"] == {"assets": "stac", "orders": "orders"}
    lines = [line for line in mount.log.read_text().splitlines() if "no longer lists" in line]
    assert len(lines) == 1
    assert "WARNING" in lines[0]
    assert "/v2/assets" in lines[0]


def test_sizes_of_deliveries_are_learned_and_bytes_are_read(gone: tuple[Emulator, Mount]) -> None:
    running, mount = gone
    digests = {row["id"]: row for row in running.remote.storage(sha256=True)["objects"]}
    known = 0
    for path in (mount.path / "assets").iterdir():
        if path.is_file():
            row = digests[os.getxattr(path, "user.up42.id").decode()]
            assert path.stat().st_size == row["size"]
            if row["size"] < 20 << 20:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
                known += 1
    assert known > 20


def test_a_long_listing_of_deliveries_of_unknown_size_is_parallel(
    gone: tuple[Emulator, Mount], mount
) -> None:
    running = gone[0]
    fresh = mount(running)
    assets = len(ids_in(fresh.path / "assets"))
    again = mount(running)
    before = running.remote.position()
    os.listdir(again.path / "assets")
    check("find", again.path / "assets", "-maxdepth", "1", "-name", "*.zip")
    assert "store.get" not in running.requests(before)
    running.remote.faults(latency_s=0.25)
    before, started_s = running.remote.position(), time.monotonic()
    check("ls", "-l", again.path / "assets")
    took_s = time.monotonic() - started_s
    running.remote.faults(latency_s=0.0)
    requests = running.requests(before)
    assert (requests["assets.sign"], requests["store.get"]) == (assets, assets)
    assert took_s < 8  # one after another: 0.5 s each, 15 s
    before = running.remote.position()
    check("ls", "-l", again.path / "assets")
    assert "store.get" not in running.requests(before)


def test_what_was_learned_outlives_a_refresh(start, mount) -> None:
    running = start("--synthetic", "3,1,1", "--assets-gone", "404")
    fresh = mount(running, "-o", "refresh=1")
    (name, *_) = (n for n in os.listdir(fresh.path / "assets") if n.endswith(".zip"))
    size = os.stat(fresh.path / "assets" / name).st_size
    assert size > 1 << 20
    before = running.remote.position()
    # Three refreshes: also the arrival of something new.
    transformed(running, "new.zip", [file("a.tif")])
    wait_until(lambda: "new" in os.listdir(fresh.path / "assets"), 20, "the new one is listed")
    assert os.stat(fresh.path / "assets" / name).st_size == size
    assert "store.get" not in running.requests(before)
    assert os.listdir(fresh.path / "assets/new") == ["item.json", "a.tif"]

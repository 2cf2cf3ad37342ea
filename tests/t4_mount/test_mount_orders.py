"""Orders in a real mount: their documents, and those that have no assets yet."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FORKED, Emulator, Mount, check, mounted, run, wait_until
from test_mount_search import ask

pytestmark = pytest.mark.mount

DOCUMENTS = {"order.json", "aoi.geojson", "coverage.geojson"}
AREA = {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]]}


@pytest.fixture(scope="module")
def listing(sample: Emulator, session_home: Path) -> Iterator[Mount]:
    """The sample storage with all its orders, and their documents listed."""
    options = "refresh=3600,documents,orders=all"
    with mounted(sample.env, "-o", options, home=session_home) as there:
        yield there


def order(there: Mount, name: str) -> Path:
    """The one order of that name, by the beginning of it."""
    return next((there.path / "orders").glob(f"{name}*"))


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.up42.{name}").decode()


@pytest.mark.claim("S301")
def test_the_order_is_what_up42_says(sample: Emulator, sample_mount: Mount) -> None:
    place = order(sample_mount, "Berlin")
    assert not DOCUMENTS & set(os.listdir(place))
    document = json.loads(check("cat", place / "order.json"))
    assert document == ask(sample, f"/v2/orders/{attribute(place, 'id')}")
    assert json.loads(check("cat", place / "aoi.geojson"))["features"] == [
        {
            "type": "Feature",
            "properties": {
                "order_id": document["id"],
                "name": document["displayName"],
                "order_type": "ARCHIVE",
                "order_status": "FULFILLED",
                "image_id": document["orderDetails"]["imageId"],
            },
            "geometry": document["orderDetails"]["aoi"],
        }
    ]
    assert not (place / "coverage.geojson").exists(), "only a tasking has one"
    assert attribute(place, "image_id") == document["orderDetails"]["imageId"]
    assert attribute(place, "order_type") == "ARCHIVE"


@pytest.mark.claim("S301")
def test_a_document_costs_a_request_when_it_is_opened(sample: Emulator, listing: Mount) -> None:
    place = order(listing, "Sentinel-2")
    os.listdir(place)
    began = sample.remote.position()
    assert set(os.listdir(place)) > {"order.json", "aoi.geojson"}
    found = check("find", place, "-maxdepth", "1", "-name", "order.json")
    assert found.strip() == str(place / "order.json")
    check("getfattr", "-d", place)
    assert sample.remote.count(since=began) == 0, "listings and attributes cost nothing"
    check("cat", place / "order.json")
    assert sample.requests(began) == {"orders.get": 1}
    check("cat", place / "aoi.geojson", place / "order.json")
    check("ls", "-l", place)
    assert sample.requests(began) == {"orders.get": 1}, "one answer serves both, for a minute"


@pytest.mark.claim("S302")
def test_the_coverage_of_a_tasking_opens_in_gdal(sample: Emulator, listing: Mount) -> None:
    place = next(path for path in (listing.path / "orders").glob("Harbour*")
                 if attribute(path, "order_status") == "BEING_FULFILLED")  # fmt: skip
    began = sample.remote.position()
    document = json.loads((place / "coverage.geojson").read_text())
    assert sample.requests(began) == {"orders.coverage": 1}
    rows = [feature["properties"] for feature in document["features"]]
    assert [row["part"] for row in rows] == ["covered", "remainder"]
    assert [row["percentage"] for row in rows] == [50.0, 50.0]
    assert document["up42fs:parts"]["covered"]["percentage"] == 50.0
    script = (
        "import sys, rasterio, json; from rasterio.features import bounds;"
        "print([bounds(json.load(open(name))) for name in sys.argv[1:]])"
    )
    done = check(sys.executable, "-c", script, place / "coverage.geojson", place / "aoi.geojson")
    covered, area = json.loads(done.replace("(", "[").replace(")", "]"))
    assert covered == area == [13.3, 52.4, 13.5, 52.6]


@pytest.mark.claim("S301")
def test_copies_of_documents_are_whole(listing: Mount, tmp_path: Path) -> None:
    place = order(listing, "Wildfire")
    assert set(os.listdir(place)) == DOCUMENTS
    shutil.copytree(place, tmp_path / "python")
    check("cp", "-r", place, tmp_path / "cp")
    archived = subprocess.run(["tar", "-cC", place, "."], capture_output=True, check=True).stdout
    (tmp_path / "tar").mkdir()
    subprocess.run(["tar", "-xC", tmp_path / "tar"], input=archived, check=True)
    for name in DOCUMENTS:
        content = (place / name).read_bytes()
        assert (place / name).stat().st_size == len(content)
        for copy in ("python", "cp", "tar"):
            assert (tmp_path / copy / name).read_bytes() == content
        with pytest.raises(OSError) as refused:
            (place / name).write_bytes(b"")
        assert refused.value.errno == errno.EROFS


@pytest.mark.claim("S303")
def test_all_orders_show_their_progress(sample: Emulator, listing: Mount) -> None:
    said = {row["id"]: row for row in ask(sample, "/v2/orders?size=100")["content"]}
    shown = {attribute(path, "id"): path for path in (listing.path / "orders").iterdir()}
    assert shown.keys() == said.keys()
    for order_id, path in shown.items():
        assert attribute(path, "order_status") == said[order_id]["status"]
        assert attribute(path, "order_type") == said[order_id]["type"]
    placed = order(listing, "Wildfire")
    assert attribute(placed, "sub_status") == "FEASIBILITY_WAITING_UPLOAD"
    assert placed.stat().st_nlink == 2
    assert (listing.path / "orders" / attribute(placed, "id").upper() / "order.json").exists()
    bare = next(path for path in shown.values() if attribute(path, "order_status")
                == "FAILED_PERMANENTLY")  # fmt: skip
    assert json.loads((bare / "aoi.geojson").read_text())["features"] == []


@pytest.mark.claim("S303")
def test_a_tasking_is_watched_from_its_placement_on(start, mount) -> None:
    service: Emulator = start("--synthetic", "2,1,0")
    details = {"geometry": AREA, "subStatus": "FEASIBILITY_WAITING_UPLOAD"}
    added = service.remote.storage(
        "add_order", display_name="Fire", status="PLACED", type="TASKING", details=details,
        more={"newKey": {"kept": [1]}},
    )  # fmt: skip
    there: Mount = mount(service, "-o", "refresh=0.5,orders=all")
    fire = there.path / "orders/Fire"
    assert os.listdir(fire) == []
    assert attribute(fire, "sub_status") == "FEASIBILITY_WAITING_UPLOAD"
    assert json.loads((fire / "order.json").read_text())["newKey"] == {"kept": [1]}

    order_id = added["id"]
    service.remote.storage("progress_order", id=order_id, status="PLACED",
                           sub_status="QUOTATION_ACCEPTED")  # fmt: skip
    wait_until(lambda: attribute(fire, "sub_status") == "QUOTATION_ACCEPTED", 10, "it progresses")
    assert json.loads((fire / "order.json").read_text())["orderDetails"]["subStatus"] == (
        "QUOTATION_ACCEPTED"
    ), "a document of an order that changed is made again"
    service.remote.storage("add_asset", name="part.zip", order_id=order_id)
    service.remote.storage("progress_order", id=order_id, status="BEING_FULFILLED")
    wait_until(lambda: "part.zip" in os.listdir(fire), 10, "its first part is shown")
    wait_until(lambda: attribute(fire, "order_status") == "BEING_FULFILLED", 10, "so is its state")
    part = json.loads((fire / "coverage.geojson").read_text())["features"][0]
    assert part["properties"]["percentage"] == 50


def test_orders_that_say_little_are_shown_all_the_same(start, mount) -> None:
    service: Emulator = start("--synthetic", "2,1,0", "--bare-orders", "yes")
    service.remote.storage("add_order", display_name="Bare", status="PLACED", type="TASKING")
    service.remote.storage("add_asset", name="order.json", order_id=service.remote.storage(
        "add_order", display_name="Taken")["id"])  # fmt: skip
    service.remote.faults(coverage_shape="404")
    there: Mount = mount(service, "-o", "refresh=3600,documents,orders=all")
    bare = there.path / "orders/Bare"
    assert set(os.listdir(bare)) == DOCUMENTS
    assert json.loads((bare / "order.json").read_text())["displayName"] == "Bare"
    for name in ("aoi.geojson", "coverage.geojson"):
        assert json.loads((bare / name).read_text())["features"] == []
    assert {"user.up42.created_at", "user.up42.updated_at"}.isdisjoint(os.listxattr(bare))
    taken = there.path / "orders/Taken"
    assert sorted(os.listdir(taken)) == ["aoi.geojson", "order.json"]
    assert attribute(taken / "order.json", "kind") == "asset", "what was delivered comes first"


@pytest.mark.claim("S301")
def test_an_order_that_cannot_be_read_is_an_error(start, mount) -> None:
    service: Emulator = start("--synthetic", "2,1,0")
    there: Mount = mount(service, "-o", "refresh=3600")
    (place,) = (there.path / "orders").iterdir()
    service.remote.faults(fail_route="orders.get", fail_status=403)
    with pytest.raises(PermissionError):
        (place / "order.json").read_text()
    service.remote.faults(fail_route=None, fail_status=None)
    assert json.loads((place / "order.json").read_text())["id"] == attribute(place, "id")


def test_without_a_mount_it_is_the_same(sample: Emulator, tmp_path: Path) -> None:
    cache = ("--cache-dir", tmp_path)
    path = "orders/Wildfire response, tasking"
    wish = ("--orders", "all")
    listed = check(*FORKED, "ls", *wish, "--documents", *cache, path, env=sample.env)
    assert set(listed.split()) == DOCUMENTS
    read = check(*FORKED, "cat", *wish, *cache, f"{path}/order.json", env=sample.env)
    assert json.loads(read)["status"] == "PLACED"
    hidden = run(*FORKED, "cat", *cache, f"{path}/order.json", env=sample.env)
    assert hidden.returncode != 0

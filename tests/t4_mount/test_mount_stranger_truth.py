"""What a stranger's service says of orders and items is what the mount says, and nothing else.

The service is written from the contract alone (`stranger.py`). Its bodies have prices, statuses
that nobody knows, times of other zones, and leave out what they may.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import UP42FS, Mount, mounted, run, wait_until
from stranger import ME, Stranger, asset_id, row, stranger

pytestmark = pytest.mark.mount

ORDER = "5c0ffee0-2222-4222-8222-000000000001"
BARE = "5c0ffee0-2222-4222-8222-000000000002"
JOB = "70b00000-3333-4333-8333-000000000009"
OTHER_WORKSPACE = "0d1f5a52-0000-4000-8000-0000000000aa"
#: Numbers that occur in prices and in nothing else.
PRICES = ("4711.55", "999777", "31337")
SQUARE = {"type": "Polygon", "coordinates": [[[10, 50], [11, 50], [11, 51], [10, 51], [10, 50]]]}


def order(id_: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "totalPrice": {"amount": 4711.55, "currency": "EUR"},
        "credits": 999777,
        "displayName": "Spring 雪 2025",
        "status": "PAUSED_BY_MOON",
        "type": "TASKING",
        "createdAt": "2025-03-01T01:00:00+05:30",
        "updatedAt": "2025-03-02T00:30:00-08:00",
        "workspaceId": ME,
        "accountId": "acc",
        "tags": None,
    } | fields


def item(number: int, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"scene-{number}",
        "collection": f"col-{number}",
        "geometry": SQUARE,
        "bbox": [10, 50, 11, 51],
        "assets": {"data": {"href": f"/v2/assets/{asset_id(number)}", "type": "application/zip"}},
        "links": [],
        "properties": {"up42-system:asset_id": asset_id(number)} | properties,
    }


def bodies(service: Stranger) -> None:
    service.orders = [
        order(
            ORDER,
            orderDetails={
                "subStatus": "WHO_KNOWS", "imageId": "img-77", "geometry": SQUARE,
                "estimatedPrice": 31337, "extraDescription": "31337",
            },
        ),
        {"id": BARE, "status": "placed?"},
    ]  # fmt: skip
    service.coverage = {
        "covered": {"sqKmArea": 10, "percentage": 25.0, "geometry": {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "geometry": SQUARE, "properties": None}]}},
        "remainder": None,
    }  # fmt: skip
    service.rows = [
        row(1, name="one.zip", orderId=ORDER, workspaceId=ME, title="Harbour", price=4711.55),
        row(2, name="two.zip", workspaceId=OTHER_WORKSPACE, source="PROCESSING", tags=["a", "a"]),
        row(3, name="three.zip", title=None, tags=None),
        row(4, name="four.zip", orderId=BARE),
    ]
    service.items = [
        item(
            1, datetime="2024-07-01T23:30:00-03:00", platform="Moon-1", gsd=0,
            **{"eo:cloud_cover": 0, "up42-product:modality": "multispectral", "price": 4711.55,
               "eo:bands": [{"name": "B1", "common_name": "red", "center_wavelength": 0.65}, 7]},
        ),
        item(2, datetime=None, gsd=None, **{"up42-system:job_id": JOB, "eo:cloud_cover": "many"}),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(session_home: Path) -> Iterator[tuple[Stranger, Mount]]:
    with stranger() as service:
        bodies(service)
        env = service.env | {"UP42FS_CRAWL_AFTER_S": "0"}
        with mounted(env, "-o", "refresh=3600,orders=all", home=session_home) as mount:
            wait_until(
                lambda: (mount.status()["items"] or {}).get("plain_missing") == 0, 60, "the crawl"
            )
            yield service, mount


def attributes(path: Path) -> dict[str, str]:
    return {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}


def everything(mount: Mount) -> Iterator[Path]:
    for top in ("orders", "assets", "tags", "cnam", "workspaces", "jobs"):
        for directory, names, files in os.walk(mount.path / top):
            # The archives' bytes are a pattern, not archives.
            names[:] = [name for name in names if f"{name}.zip" not in files]
            yield from (Path(directory, name) for name in (*names, *files))


def moments(value: Any) -> Iterator[datetime]:
    """Every time in a body."""
    for one in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from moments(one)
    if isinstance(value, str) and value[:2] == "20" and "T" in value:
        yield datetime.fromisoformat(value).astimezone(UTC)


#: Attributes that are derived from other words, and from which.
DERIVED = {"kind", "name", "cnam_status", "stac.url"}


@pytest.mark.claim("S362")
def test_every_attribute_repeats_a_word_of_a_body(made: tuple[Stranger, Mount]) -> None:
    service, mount = made
    said = json.dumps([service.rows, service.items, service.orders], ensure_ascii=False)
    times = {at.replace(microsecond=0) for at in moments(json.loads(said))}
    seen = 0
    for path in everything(mount):
        for name, value in attributes(path).items():
            short = name.removeprefix("user.up42.")
            assert not any(price in value for price in PRICES), (path, name)
            if short in DERIVED or name == "user.mime_type":
                continue
            seen += 1
            if short.endswith(("_at", "datetime")):
                assert datetime.fromisoformat(value).replace(microsecond=0) in times, (path, name)
                assert value.endswith("Z"), (path, name)
                continue
            for part in value.replace(":", ",").split(","):
                assert part in said, (path, name, value)
    assert seen > 50


@pytest.mark.claim("S362")
def test_an_unknown_status_and_times_of_other_zones(made: tuple[Stranger, Mount]) -> None:
    _, mount = made
    found = attributes(mount.path / "orders" / ORDER)
    assert found["user.up42.order_status"] == "PAUSED_BY_MOON"
    assert found["user.up42.sub_status"] == "WHO_KNOWS"
    assert found["user.up42.image_id"] == "img-77"
    assert found["user.up42.created_at"].startswith("2025-02-28T19:30:00")
    assert found["user.up42.updated_at"].startswith("2025-03-02T08:30:00")
    bare = attributes(mount.path / "orders" / BARE)
    assert bare["user.up42.order_status"] == "placed?"
    assert (
        not {"user.up42.created_at", "user.up42.updated_at", "user.up42.sub_status"} & bare.keys()
    )


@pytest.mark.claim("S362")
def test_facts_of_items_are_said_or_absent(made: tuple[Stranger, Mount]) -> None:
    _, mount = made
    one = attributes(mount.path / "assets/one.zip")
    assert one["user.up42.stac.datetime"].startswith("2024-07-02T02:30:00")
    assert float(one["user.up42.stac.cloud_cover"]) == 0
    assert one["user.up42.stac.bands"].startswith("B1:red:0.65")
    assert one["user.up42.stac.url"].endswith("/collections/col-1/items/scene-1")
    assert one["user.up42.order_status"] == "PAUSED_BY_MOON"
    assert "user.up42.cnam_status" not in one, "nobody said it"
    two = attributes(mount.path / "assets/two.zip")
    assert two["user.up42.stac.job_id"] == JOB
    assert (
        not {f"user.up42.stac.{name}" for name in ("datetime", "cloud_cover", "gsd")} & two.keys()
    )
    three = attributes(mount.path / "assets/three.zip")
    assert not [name for name in three if "stac" in name or name.endswith(("title", "tags"))]


def test_documents_of_an_order(made: tuple[Stranger, Mount]) -> None:
    service, mount = made
    order_ = mount.path / "orders" / ORDER
    assert json.loads((order_ / "order.json").read_bytes()) == service.orders[0]
    area = json.loads((order_ / "aoi.geojson").read_bytes())
    assert area["features"][0]["geometry"] == SQUARE
    coverage = json.loads((order_ / "coverage.geojson").read_bytes())
    assert [feature["geometry"] for feature in coverage["features"]] == [SQUARE]
    for name in ("aoi.geojson", "coverage.geojson"):
        assert not any(price in (order_ / name).read_text() for price in PRICES)


def test_views_and_searches(made: tuple[Stranger, Mount]) -> None:
    _, mount = made
    assert os.listdir(mount.path / "jobs") == [JOB]
    assert "two.zip" in os.listdir(mount.path / "jobs" / JOB)
    assert {ME, OTHER_WORKSPACE} <= {*os.listdir(mount.path / "workspaces")}
    expected = {
        "platform=moon-1": "one.zip",
        "modality=multispectral": "one.zip",
        "title=harb": "one.zip",
        f"job={JOB}": "two.zip",
        f"workspace={OTHER_WORKSPACE}": "two.zip",
        "order_status=paused_by_moon": "one.zip",
        "order_status=placed?": "four.zip",
    }
    for query, name in expected.items():
        found = [n for n in os.listdir(mount.path / "search" / query) if n.endswith(".zip")]
        assert found == [name], query
    # 04:05 at +02:00 is 02:05 UTC.
    assert len(os.listdir(mount.path / "search/updated=2025-02-03T02:05")) >= 4
    assert not os.listdir(mount.path / "search/updated=2025-02-03T04:05")
    shown = json.loads((mount.path / "footprints.geojson").read_bytes())
    assert sorted(feature["properties"]["path"] for feature in shown["features"]) == [
        "assets/one.zip",
        "assets/two.zip",
    ]
    times = {f["properties"]["path"]: f["properties"]["datetime"] for f in shown["features"]}
    assert times == {"assets/one.zip": "2024-07-02T02:30:00.000Z", "assets/two.zip": None}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("title", {"Harbour.zip"}),
        ("id", {f"{asset_id(1)}.zip"}),
    ],
)
def test_names(made: tuple[Stranger, Mount], names: str, expected: set[str]) -> None:
    service, _ = made
    listed = run(*UP42FS, "ls", "--names", names, f"orders/{ORDER}", env=service.env)
    assert listed.returncode == 0, listed.stderr
    assert expected <= {*listed.stdout.splitlines()}


def test_the_doctor_tells_what_it_is_and_no_secret(made: tuple[Stranger, Mount]) -> None:
    service, _ = made
    told = run(*UP42FS, "doctor", "--account", env=service.env, timeout_s=120)
    text = told.stdout + told.stderr
    assert "Traceback" not in text
    assert "/v2/assets" in text or "assets" in text
    for secret in (*PRICES, ORDER, JOB, "Harbour", "stranger-token", "strange passw0rd", "img-77"):
        assert secret not in text

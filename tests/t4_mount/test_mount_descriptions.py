"""What STAC says of deliveries that UP42 did not transform, seen through a real mount."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Emulator, Mount, check, mounted, wait_until

pytestmark = pytest.mark.mount
STAC = "user.up42.stac."


def listed(path: Path) -> dict[str, str]:
    return {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}


@pytest.fixture(scope="module")
def looked_at(sample: Emulator, session_home: Path) -> Iterator[tuple[Emulator, Mount]]:
    """The sample storage, once the crawl has come to its end; tests only look."""
    env = sample.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with mounted(env, home=session_home) as mount:
        wait_until(
            lambda: (mount.status()["items"] or {}).get("plain_missing") == 0,
            20,
            "the items of all deliveries are known",
        )
        yield sample, mount


@pytest.mark.claim("S320")
def test_getfattr_shows_what_stac_says_of_a_plain_archive(
    looked_at: tuple[Emulator, Mount],
) -> None:
    running, mount = looked_at
    (path,) = (mount.path / "orders").glob("*/DS_SPOT7_*.zip")
    before = running.remote.position()
    said = check("getfattr", "-d", path)
    for line in (
        'user.up42.cnam_status="FAILED"',
        'user.up42.stac.bbox="-9,38.4,-8.9,38.5"',
        'user.up42.stac.cloud_cover="0"',
        'user.up42.stac.constellation="SPOT"',
        'user.up42.stac.datetime="2024-06-30T09:15:00.000001Z"',
        'user.up42.stac.gsd="1.5"',
        'user.up42.stac.platform="SPOT-7"',
    ):
        assert line in said.splitlines(), said
    outline = json.loads(os.getxattr(path, STAC + "geometry"))
    assert outline["type"] == "Polygon"
    item = json.loads(os.getxattr(path, STAC + "json"))
    assert item["geometry"] == outline
    assert item["id"] == os.getxattr(path, STAC + "item_id").decode()
    assert running.remote.log(before) == [], "all of it was known"


@pytest.mark.claim("S320")
def test_footprints_searches_and_attributes_agree(looked_at: tuple[Emulator, Mount]) -> None:
    _, mount = looked_at
    deliveries = {
        path.name: listed(path) for path in (mount.path / "assets").iterdir() if path.is_file()
    }
    assert len(deliveries) > 20
    assert [name for name, said in deliveries.items() if STAC + "bbox" not in said] == []

    def agrees(query: str, holds: Any) -> None:
        there = {p.name for p in (mount.path / "search" / query).iterdir() if p.is_file()}
        assert there == {name for name, said in deliveries.items() if holds(said)}, query

    agrees("constellation=SPOT", lambda said: said.get(STAC + "constellation") == "SPOT")
    agrees("cloud<5", lambda said: float(said.get(STAC + "cloud_cover", 100)) < 5)
    agrees("datetime<2024", lambda said: said[STAC + "datetime"] < "2024")
    for order in (mount.path / "orders").iterdir():
        rows = json.loads((order / "footprints.geojson").read_text())["features"]
        for row in (row["properties"] for row in rows):
            said = listed(order / row["path"])
            assert row["id"] == said["user.up42.id"]
            # Several items have a row each; the delivery shows the first of their times.
            assert row["datetime"][:19] >= said[STAC + "datetime"][:19]
            if STAC + "cloud_cover" in said:
                assert row["cloud_cover"] == float(said[STAC + "cloud_cover"])


def test_listings_cost_what_they_cost_before(looked_at: tuple[Emulator, Mount]) -> None:
    running, mount = looked_at
    before = running.remote.position()
    for view in ("assets", "cnam/NOT_PROCESSED", "tags/harbour"):
        check("ls", "-l", mount.path / view)
        files = [path for path in (mount.path / view).iterdir() if path.is_file()]
        check("getfattr", "-d", *files)
    asked = running.remote.log(before)
    assert [r["route"] for r in asked if r["route"].startswith("stac")] == []


def test_a_mount_that_has_not_crawled_lists_none_and_asks_when_named(
    sample: Emulator, tmp_path: Path
) -> None:
    with mounted(sample.env, home=tmp_path) as mount:
        path = next((mount.path / "orders").glob("*/DS_SPOT7_*.zip"))
        before = sample.remote.position()
        assert not [name for name in listed(path) if name.startswith(STAC)]
        assert sample.remote.log(before) == []
        assert os.getxattr(path, STAC + "platform") == b"SPOT-7"
        assert [r["route"] for r in sample.remote.log(before)] == ["stac.search"]
        assert listed(path)[STAC + "cloud_cover"] == "0"
        with pytest.raises(OSError, match="No data"):
            os.getxattr(path, STAC + "nonsense")
        assert [r["route"] for r in sample.remote.log(before)] == ["stac.search"]


def test_a_later_mount_knows_it_without_a_search(
    looked_at: tuple[Emulator, Mount], tmp_path: Path
) -> None:
    running, _ = looked_at
    cache = tmp_path / "cache"
    env = running.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with mounted(env, "--cache-dir", str(cache), home=tmp_path) as mount:
        wait_until(
            lambda: (mount.status()["items"] or {}).get("plain_missing") == 0,
            20,
            "the items of all deliveries are known",
        )
    before = running.remote.position()
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        (path,) = (mount.path / "orders").glob("*/DS_SPOT7_*.zip")
        assert listed(path)[STAC + "platform"] == "SPOT-7"
    assert "stac.search" not in [r["route"] for r in running.remote.log(before)]

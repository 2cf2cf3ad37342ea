"""Whatever habits the API has, the mount shows the same: names, footprints, searches, bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from habits import HABITS, flags
from harness import Mount, emulator, mounted, wait_until

pytestmark = pytest.mark.mount

#: An order and a tag with transformed assets; a file of one.
DIRECTORIES = ("orders/Sentinel-2 Brandenburg", "orders/Naming oddities", "tags/harbour")
ORDER = "Sentinel-2 Brandenburg"


def footprints(directory: Path) -> list[Any]:
    """What the outlines of a directory say, without their order."""
    document = json.loads((directory / "footprints.geojson").read_text())
    rows = [(f["properties"]["id"], f["properties"]["path"], f["geometry"])
            for f in document["features"]]  # fmt: skip
    return [*sorted(rows, key=str), document["up42fs:without_outline"]]


def tree(mount: Path) -> dict[str, list[str]]:
    """All directories but `stac/` and what is in them."""
    return {
        str(Path(place).relative_to(mount)): sorted(directories + files)
        for top in ("orders", "tags", "cnam", "assets")
        for place, directories, files in os.walk(mount / top)
    }


def searches(mount: Path) -> dict[str, list[str]]:
    order_id = os.getxattr(mount / "orders" / ORDER, "user.up42.id").decode()
    names = (f"order={order_id},cloud<50", "collection=sentinel-2,cloud<50", "cloud>=0", "gsd<100")
    return {name: sorted(os.listdir(mount / "search" / name)) for name in names}


def digests(mount: Path) -> dict[str, str]:
    """Of one whole delivery and of all small files of the transformed ones of an order."""
    files = [p for p in (mount / "orders" / ORDER).rglob("*") if p.suffix in (".xml", ".jpg")]
    assert files
    return {str(p.relative_to(mount)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def seen(mount: Path) -> dict[str, Any]:
    """What a look at everything shows. Footprints first: they must not empty what comes after."""
    shown: dict[str, Any] = {name: footprints(mount / name) for name in DIRECTORIES}
    return shown | {"tree": tree(mount), "searches": searches(mount), "bytes": digests(mount)}


@contextmanager
def look(home: Path, switches: dict[str, Any]) -> Iterator[Mount]:
    with emulator(*flags(switches)) as running:
        env = running.env | {"UP42FS_CRAWL_AFTER_S": "0"}
        with mounted(env, "-o", "refresh=3600", home=home) as mount:
            yield mount


@pytest.fixture(scope="module")
def plain(session_home: Path) -> dict[str, Any]:
    with look(session_home, {}) as mount:
        shown = seen(mount.path)
    assert len(shown["tree"]["assets"]) > 30
    assert any("b02.tiff" in names for names in shown["tree"].values())
    assert all(shown["searches"].values())
    return shown


@pytest.mark.claim("S160")
@pytest.mark.claim("S163")
@pytest.mark.claim("S164")
@pytest.mark.claim("S165")
@pytest.mark.parametrize("habit", HABITS)
def test_the_mount_shows_the_same_whatever_the_api_is_like(
    habit: str, plain: dict[str, Any], session_home: Path
) -> None:
    with look(session_home, HABITS[habit]) as mount:
        shown = seen(mount.path)
        for key, expected in plain.items():
            assert shown[key] == expected, key

        def crawled() -> bool:
            items = mount.status()["items"]
            return items is not None and items["missing"] == 0

        wait_until(crawled, 20, "the items of all transformed assets are known")
        items = mount.status()["items"]
        assert (items["refused"], items["error"]) == (0, None)
        assert len(list((mount.path / "stac").iterdir())) > 30
        warned = [line for line in mount.log.read_text().splitlines() if "WARNING" in line]
        assert [line for line in warned if "without a usable ID" not in line] == []

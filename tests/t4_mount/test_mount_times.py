"""Times that find, tar and cron jobs go by: of what UP42 transformed, and of directories."""

from __future__ import annotations

import base64
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness import Emulator, Mount, check, mounted, wait_until
from transformed_support import file, transformed

pytestmark = pytest.mark.mount

#: 22 bytes: `find` looks into it, and finds nothing.
EMPTY_ZIP = base64.b64encode(b"PK\x05\x06" + bytes(18)).decode()
FILES = [file("b01.tiff"), file("metadata.xml")]


def refresh(mount: Mount) -> None:
    # By signal: refreshes requested through the file are at least 5 s apart.
    os.kill(mount.pid, signal.SIGHUP)


def newer(mount: Mount, stamp: Path, *places: str) -> set[str]:
    return set(check("find", *places, "-newer", stamp, cwd=mount.path).split("\n")) - {""}


@pytest.fixture
def service(start) -> Emulator:
    return start("--synthetic", "3,1,1")


@pytest.mark.claim("S173")
def test_find_and_tar_see_what_was_transformed_since(service: Emulator, tmp_path: Path) -> None:
    order = service.remote.storage("add_order", display_name="Harbour")["id"]
    asset = service.remote.storage(
        "add_asset", name="late.zip", content_base64=EMPTY_ZIP, order_id=order
    )["id"]
    cache = ("--cache-dir", str(tmp_path / "cache"), "-o", "refresh=3600")
    stamp = tmp_path / "stamp"
    with mounted(service.env, *cache, home=tmp_path) as mount:
        watched = ("assets", "orders/Harbour", "cnam/SUCCESSFUL", "orders")
        before = {place: os.stat(mount.path / place).st_mtime_ns for place in watched}
        time.sleep(0.05)
        stamp.touch()
        time.sleep(0.05)
        assert newer(mount, stamp, "assets", "orders", "cnam") == set()
        rows = [{"title": "Scene", "files": FILES}]
        service.remote.storage("put_items", asset_id=asset, items=rows)
        service.remote.storage("set_cnam_status", id=asset, status="SUCCESSFUL")
        refresh(mount)
        wait_until((mount.path / "cnam/SUCCESSFUL/late").is_dir, 10, "the directory shows")
        found = newer(mount, stamp, "assets", "orders", "cnam/SUCCESSFUL")
        files = {"b01.tiff", "metadata.xml", "item.json"}
        assert found == {
            "assets", "assets/late", "orders/Harbour", "orders/Harbour/late",
            "cnam/SUCCESSFUL", "cnam/SUCCESSFUL/late",
            *(f"{place}/late/{name}" for place in ("assets", "orders/Harbour", "cnam/SUCCESSFUL")
              for name in files),
        }  # fmt: skip
        # The kernel had the old times of the directories in its memory.
        for place in ("assets", "orders/Harbour", "cnam/SUCCESSFUL"):
            assert os.stat(mount.path / place).st_mtime_ns > before[place]
        assert os.stat(mount.path / "orders").st_mtime_ns == before["orders"]
        day = datetime.fromtimestamp(stamp.stat().st_mtime, UTC).isoformat()
        listed = check("sh", "-c", f"tar --newer-mtime={day} -cf - assets | tar -tf -",
                       cwd=mount.path)  # fmt: skip
        names = {line for line in listed.split("\n") if line and not line.endswith("/")}
        assert names == {f"assets/late/{name}" for name in files}
        times = {name: os.stat(mount.path / "assets/late" / name).st_mtime_ns for name in files}
        # An edit is no new version of the bytes: `rsync` would fetch them again.
        service.remote.storage("set_metadata", id=asset, title="New title", tags=["fresh"])
        refresh(mount)
        wait_until((mount.path / "tags/fresh/late.zip").exists, 10, "the tag shows")
        for place in ("assets/late", "tags/fresh/late"):
            shown = {name: os.stat(mount.path / place / name).st_mtime_ns for name in files}
            assert shown == times
    with mounted(service.env, *cache, home=tmp_path) as mount:
        shown = {name: os.stat(mount.path / "assets/late" / name).st_mtime_ns for name in files}
        assert shown == times
        assert os.stat(mount.path / "orders/Harbour").st_mtime_ns >= max(times.values())


@pytest.mark.claim("S173")
def test_a_file_has_its_items_time_and_the_kernel_follows(service: Emulator, mount) -> None:
    asset = transformed(service, "one.zip", FILES)

    def put(updated: str) -> None:
        row = {"title": "Scene", "files": FILES, "properties": {"updated": updated}}
        service.remote.storage("put_items", asset_id=asset, items=[row])
        service.remote.storage("set_metadata", id=asset, title=updated)  # as UP42 would

    put("2031-05-06T07:08:09.123456Z")
    there = mount(service, "-o", "refresh=3600")
    path = there.path / "assets/one/b01.tiff"
    assert os.stat(path).st_mtime_ns == 1_935_817_689_123_456_000
    assert os.stat(there.path / "assets/one").st_mtime_ns == 1_935_817_689_123_456_000
    assert os.stat(there.path / "assets/one.zip").st_mtime < time.time() + 10
    with open(path, "rb") as held:
        put("2032-05-06T07:08:09Z")
        refresh(there)
        wait_until(lambda: os.getxattr(there.path / "assets/one.zip", "user.up42.title") ==
                   b"2032-05-06T07:08:09Z", 10, "the change shows")  # fmt: skip
        os.listdir(there.path / "assets/one")
        wait_until(lambda: os.stat(path).st_mtime == 1_967_440_089, 5, "the new time shows")
        assert os.fstat(held.fileno()).st_mtime == 1_967_440_089


def test_a_tags_directory_moves_when_something_comes_or_goes(service: Emulator, mount) -> None:
    first, second = (service.remote.storage("add_asset", name=name, size=9, tags=["t"])["id"]
                     for name in ("first.bin", "second.bin"))  # fmt: skip
    there = mount(service, "-o", "refresh=3600")
    tag = there.path / "tags/t"

    names = lambda directory: {path.name for path in directory.iterdir()}  # noqa: E731

    def moved(wanted: str, comes: bool, place: str, action: str, **what) -> bool:
        before = tag.stat().st_mtime_ns
        service.remote.storage(action, **what)
        refresh(there)
        wait_until(lambda: (wanted in names(there.path / place)) is comes, 20, f"{action} shows")
        after = tag.stat().st_mtime_ns
        assert after >= before
        return after > before

    assert moved("x.bin", True, "tags/t", "add_asset", name="x.bin", size=9, tags=["t"])
    assert moved("second.bin", False, "tags/t", "set_metadata", id=second, tags=[])
    assert moved("first.bin", False, "tags/t", "remove_asset", id=first)
    assert not moved("y.bin", True, "assets", "add_asset", name="y.bin", size=9, tags=["u"])

"""A mount that was there before lists at once, and without a network at all."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from harness import UP42FS, Emulator, Mount, check, emulator, mounted, run, wait_until

pytestmark = pytest.mark.mount


def tree(mountpoint: Path) -> list[str]:
    """The four views, without what stands inside the assets' directories."""
    shown = "%P %s %i\n"
    found = check("find", "assets", "-maxdepth", "1", "-printf", shown, cwd=mountpoint)
    views = ("orders", "tags", "cnam")
    found += check("find", *views, "-maxdepth", "2", "-printf", shown, cwd=mountpoint)
    return sorted(found.splitlines())


def stac_documents(mountpoint: Path) -> dict[str, bytes]:
    """All names below `stac/`, and what its documents say."""
    found = sorted((mountpoint / "stac").rglob("*"))
    return {
        str(p.relative_to(mountpoint)): p.read_bytes() if p.suffix == ".json" else b""
        for p in found
    }


def snapshot_file(cache: Path) -> Path:
    (found,) = (cache / "catalogue").glob("*.sqlite")
    return found


def mount_once(running: Emulator, cache: Path, home: Path) -> list[str]:
    with mounted(running.env, "--cache-dir", str(cache), home=home) as mount:
        return tree(mount.path)


@pytest.mark.claim("S62")
def test_the_second_mount_lists_before_it_asks(start, tmp_path: Path) -> None:
    running = start("--synthetic", "500,20,10")
    cache = tmp_path / "cache"
    before = mount_once(running, cache, tmp_path)
    running.remote.faults(fail_route="assets.list", fail_skip=1, stall_before_headers_s=20.0)
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        position = running.remote.position()
        assert tree(mount.path) == before
        assert [r for r in running.remote.log(position) if r["route"] == "assets.list"] == []


def test_it_is_refreshed_behind(start, tmp_path: Path) -> None:
    running = start("--synthetic", "50,5,3")
    cache = tmp_path / "cache"
    mount_once(running, cache, tmp_path)
    running.remote.storage("add_asset", name="meanwhile.bin", size=10)
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        wait_until((mount.path / "assets/meanwhile.bin").exists, 5, "the new asset appears")
        routes = running.requests()
        assert (
            len(check("find", mount.path / "assets", "-maxdepth", "1", "-type", "f").splitlines())
            == 51
        )
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        assert (mount.path / "assets/meanwhile.bin").stat().st_size == 10
    assert routes["assets.list"] <= 6


@pytest.mark.claim("S62")
def test_mounting_and_listing_offline(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with (
        emulator("--synthetic", "50,5,3") as running,
        mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount,
    ):
        before, stac = tree(mount.path), stac_documents(mount.path)
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        assert tree(mount.path) == before
        assert stac_documents(mount.path) == stac
        check("getfattr", "-d", "--absolute-names", *(mount.path / "assets").iterdir())
        name = next(n for n in os.listdir(mount.path / "assets") if n.endswith(".zip"))
        started_s = time.monotonic()
        with pytest.raises(OSError, match="unreachable"):
            mount.find(name).read_bytes()
        assert time.monotonic() - started_s < 10  # of the 35 s that a read may wait
        assert "mounting what is known" in mount.log.read_text()


def test_mounting_while_the_network_is_silent(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with emulator("--synthetic", "50,5,3") as running:
        before = mount_once(running, cache, tmp_path)
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
                assert tree(mount.path) == before
        finally:
            os.kill(running.process.pid, signal.SIGCONT)


def test_a_wrong_password_is_refused_although_the_storage_is_known(start, tmp_path: Path) -> None:
    running = start("--synthetic", "5,1,1")
    cache = tmp_path / "cache"
    mount_once(running, cache, tmp_path)
    (tmp_path / "mnt").mkdir()
    wrong = running.env | {"UP42_PASSWORD": "wrong"}
    done = run(*UP42FS, "mount", tmp_path / "mnt", "--cache-dir", cache, env=wrong)
    assert done.returncode == 1
    assert "password" in done.stderr


@pytest.mark.claim("S63")
def test_a_damaged_snapshot_is_rebuilt(start, tmp_path: Path) -> None:
    running = start("--synthetic", "50,5,3")
    cache = tmp_path / "cache"
    before = mount_once(running, cache, tmp_path)
    path = snapshot_file(cache)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:5000])
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        assert tree(mount.path) == before
        assert mount.log.read_text().count("rebuilding") == 1
    database = sqlite3.connect(snapshot_file(cache))
    assert database.execute("SELECT count(*) FROM asset").fetchone() == (50,)
    database.close()


@pytest.mark.claim("S65")
def test_cache_size_0_keeps_nothing(start, tmp_path: Path) -> None:
    running = start("--synthetic", "5,1,1")
    cache = tmp_path / "cache"
    arguments = ("--cache-dir", str(cache), "--cache-size", "0")
    with mounted(running.env, *arguments, home=tmp_path) as mount:
        assert "assets" in os.listdir(mount.path)
    assert not cache.exists()


@pytest.mark.claim("S68")
def test_two_mounts_share_it(start, tmp_path: Path) -> None:
    running = start("--synthetic", "50,5,3")
    cache = ("--cache-dir", str(tmp_path / "cache"))
    with (
        mounted(running.env, *cache, home=tmp_path) as first,
        mounted(running.env, *cache, home=tmp_path) as second,
    ):
        assert tree(first.path) == tree(second.path)
        for mount in (first, second):
            assert "cannot be stored" not in mount.log.read_text()


def files_below(mountpoint: Path) -> int:
    found = check("find", "orders", "tags", "cnam", "assets", "-type", "f", cwd=mountpoint)
    return len(found.splitlines())


def is_crawled(mount: Mount) -> bool:
    """Whether all items are known, and the refresh after the mount is done."""
    status = mount.status()
    items, listings = status["items"] or {}, status["catalogue"].values()
    is_refreshed = all(each["seconds_since_refresh"] is not None for each in listings)
    return is_refreshed and items.get("missing") == 0 == items.get("plain_missing")


def test_transformed_files_are_crawled_and_walking_them_asks_nothing(start, tmp_path: Path) -> None:
    running = start("--synthetic", "300,20,5,120,12")
    cache = ("--cache-dir", str(tmp_path / "cache"), "-o", "refresh=3600,archives=off")
    env = running.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with mounted(env, *cache, home=tmp_path) as mount:
        os.listdir(mount.path / "assets")
        wait_until(lambda: is_crawled(mount), 20, "the crawl")
        position = running.remote.position()
        # 100 assets at a time: 120 that are transformed, then the 180 others.
        assert running.requests().get("stac.search") == 4
        found = files_below(mount.path)
        assert running.requests(position) == {}
        directory = next((mount.path / "assets").glob("*/"))
        check("ls", "-l", directory)
        learned = running.requests(position)
        assert learned == {"assets.sign": 12, "store.get": 12}
    with mounted(env, *cache, home=tmp_path) as mount:
        os.listdir(mount.path / "assets")
        wait_until(lambda: running.requests(position).get("orders.list", 0) >= 1, 20, "a refresh")
        wait_until(lambda: is_crawled(mount), 20, "the crawl")
        routes = running.requests(position)
        assert not {"stac.search", "stac.collections"} & routes.keys(), routes
        position = running.remote.position()
        assert files_below(mount.path) == found
        check("ls", "-l", mount.path / "assets" / directory.name)
        assert running.requests(position) == {}
        document = (mount.path / "assets" / directory.name / "item.json").read_text()
        assert json.loads(document)["type"] == "Feature"
        assert running.requests(position) == {}
    names = 12 + 1
    assert found > 300 * 3 + 120 * names * 3


@pytest.mark.claim("S320")
def test_a_crawl_that_was_cut_short_is_completed_by_one_of_the_next_mounts(
    start, tmp_path: Path
) -> None:
    """A storage as large as this is loaded from packed columns, not from rows."""
    running = start("--synthetic", "700,20,5,150,1")
    cache = ("--cache-dir", str(tmp_path / "cache"), "-o", "refresh=3600,archives=off")
    with mounted(running.env, *cache, home=tmp_path) as mount:
        assert len(os.listdir(mount.path / "assets")) >= 700
        assert "stac.search" not in running.requests()
    env = running.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with (
        mounted(env, *cache, home=tmp_path) as first,
        mounted(env, *cache, home=tmp_path) as second,
    ):
        crawls = (first, second)
        wait_until(lambda: any(is_crawled(mount) for mount in crawls), 20, "the crawl")
        assert [mount.status()["items"] is None for mount in crawls].count(True) == 1
        # 150 transformed assets, then the 550 others.
        assert running.requests()["stac.search"] == 2 + 6

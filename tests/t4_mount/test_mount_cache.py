"""Real mounts over one disk cache: remounted, offline, killed, shared, and off when the disk is."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Emulator, Mount, is_running, mounted, run, wait_until

from up42fs.emulator import pattern_bytes
from up42fs.store.disk.files import CACHE_TAG
from up42fs.store.disk.locks import ClaimFile

pytestmark = pytest.mark.mount

MIB = 1 << 20
SEED = 5
SIZE = 24 * MIB + 777


@pytest.fixture
def emu(start) -> Emulator:
    emulator = start("--synthetic", "1")
    emulator.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
    return emulator


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@contextmanager
def cached(emulator: Emulator, cache: Path, *arguments: str) -> Iterator[Mount]:
    with mounted(emulator.env, "--cache-dir", str(cache), *arguments, home=cache.parent) as mount:
        yield mount


def whole(mount: Mount) -> None:
    assert mount.find("big.bin").read_bytes() == pattern_bytes(SEED, 0, SIZE)


def pread(mount: Mount, offset: int, size: int) -> None:
    with mount.find("big.bin").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), size, offset) == pattern_bytes(SEED, offset, size)


def blocks(cache: Path) -> list[Path]:
    """The files of objects: claims and the tag for backup programs hold no bytes."""
    found = (cache / "blocks").rglob("*")
    others = (ClaimFile.NAME, CACHE_TAG)
    return [path for path in found if path.is_file() and path.name not in others]


@pytest.mark.claim("S66")
def test_a_remount_reads_without_a_request(emu: Emulator, cache: Path) -> None:
    with cached(emu, cache) as mount:
        whole(mount)
    with cached(emu, cache) as mount:
        before = emu.remote.position()
        whole(mount)
        requests = emu.requests(before)
        assert "store.get" not in requests
        assert "assets.sign" not in requests
        counters = mount.counters()
        assert counters["store.disk_hits_bytes"] >= SIZE
        assert os.getxattr(mount.find("big.bin"), "user.up42.cached") == str(SIZE).encode()
        disk = mount.status()["disk_cache"]
        assert disk["off_because"] is None
        assert disk["directory"] == str(cache)


def test_what_was_read_is_what_is_cached(emu: Emulator, cache: Path) -> None:
    with cached(emu, cache) as mount:
        pread(mount, 0, 4096)
        pread(mount, SIZE - 4096, 4096)
    with cached(emu, cache) as mount:
        before = emu.remote.position()
        held = int(os.getxattr(mount.find("big.bin"), "user.up42.cached"))
        assert 256 * 1024 <= held < SIZE
        pread(mount, 0, 4096)
        pread(mount, SIZE - 4096, 4096)
        assert "store.get" not in emu.requests(before)


@pytest.mark.claim("S66")
def test_cached_bytes_are_read_with_nobody_there(emu: Emulator, cache: Path) -> None:
    with cached(emu, cache) as mount:
        whole(mount)
    with cached(emu, cache) as mount:
        mount.find("big.bin").stat()
        emu.process.send_signal(signal.SIGSTOP)
        try:
            whole(mount)
        finally:
            emu.process.send_signal(signal.SIGCONT)


@pytest.mark.claim("S68")
def test_two_mounts_share(emu: Emulator, cache: Path) -> None:
    with cached(emu, cache) as one, cached(emu, cache) as two:
        whole(one)
        wait_until(
            lambda: one.status()["disk_cache"]["queued_bytes"] == 0, 10, "everything is written"
        )
        before = emu.remote.position()
        whole(two)
        assert "store.get" not in emu.requests(before)


@pytest.mark.claim("S67")
def test_a_mount_killed_while_it_writes_leaves_nothing_wrong(emu: Emulator, cache: Path) -> None:
    for delay_s in (0.05, 0.1, 0.2):
        with cached(emu, cache) as mount:
            reader = subprocess.Popen(
                ["cat", mount.find("big.bin")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(delay_s)  # somewhere within
            os.kill(mount.pid, signal.SIGKILL)
            wait_until(lambda: not is_running(mount.pid), 10, "it is gone")
            run("fusermount3", "-uz", mount.path)
            reader.wait(30)
    with cached(emu, cache) as mount:
        whole(mount)
        assert mount.status()["disk_cache"]["off_because"] is None
    with cached(emu, cache) as mount:
        before = emu.remote.position()
        whole(mount)
        assert "store.get" not in emu.requests(before)


def test_a_changed_title_costs_what_is_asked_until_the_first_answer(
    emu: Emulator, cache: Path
) -> None:
    with cached(emu, cache) as mount:
        whole(mount)
    emu.remote.storage("set_metadata", id=emu.asset("big.bin"), title="another")
    with cached(emu, cache) as mount:
        before = emu.remote.position()
        whole(mount)
        assert emu.requests(before)["store.get"] >= 1
        assert mount.counters()["store.bytes_asked"] <= SIZE * 2 // 3
    with cached(emu, cache) as mount:
        before = emu.remote.position()
        whole(mount)
        assert "store.get" not in emu.requests(before)


@pytest.mark.claim("S71")
def test_a_replaced_object_is_not_read_from_the_cache(emu: Emulator, cache: Path) -> None:
    """Of the same size: what tells is the time of its last update in the catalogue."""
    with cached(emu, cache) as mount:
        whole(mount)
    emu.remote.storage("replace_object", id=emu.asset("big.bin"), seed=9)
    emu.remote.storage("set_metadata", id=emu.asset("big.bin"), title="new")
    with cached(emu, cache, "--refresh", "0.2") as mount:
        path = mount.find("big.bin")
        wait_until(lambda: os.getxattr(path, "user.up42.title") == b"new", 10, "the title shows")
        assert path.read_bytes() == pattern_bytes(9, 0, SIZE)


@pytest.mark.claim("S64")
def test_nobody_else_can_look(emu: Emulator, cache: Path) -> None:
    with cached(emu, cache) as mount:
        pread(mount, 0, 4096)
    (path,) = blocks(cache)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert emu.asset("big.bin") not in str(path)


@pytest.mark.claim("S65")
def test_without_a_cache_nothing_is_written(emu: Emulator, cache: Path) -> None:
    with cached(emu, cache, "--cache-size", "0") as mount:
        whole(mount)
        assert mount.status()["disk_cache"] is None
    assert not cache.exists()


@pytest.mark.claim("S69")
def test_a_disk_that_cannot_be_used_is_said_once(emu: Emulator, cache: Path) -> None:
    cache.mkdir()
    (cache / "blocks").write_bytes(b"")
    with cached(emu, cache) as mount:
        whole(mount)
        lines = [line for line in mount.log.read_text().splitlines() if "disk cache" in line]
        assert len(lines) == 1
        assert "WARNING" in lines[0]
        assert "ENOTDIR" in mount.status()["disk_cache"]["off_because"]

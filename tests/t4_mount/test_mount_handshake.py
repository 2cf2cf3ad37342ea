"""A handshake of our own that fails, early or late: the storage is mounted all the same."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from handshake_script import WAYS
from harness import Emulator, Mount, environ, run, wait_until

from up42fs.emulator import pattern_bytes
from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount

SCRIPT = Path(__file__).with_name("handshake_script.py")
SIZE = 3 << 20
PLAIN = "mounting with libfuse's defaults, which are slower: "


@contextmanager
def failing(way: str, running: Emulator, home: Path) -> Iterator[Mount]:
    mountpoint, log = home / "mount", home / "log"
    mountpoint.mkdir()
    env = running.env | {"PYTHONPATH": str(SCRIPT.parents[2]), "XDG_STATE_HOME": str(home)}
    own = "--cache-dir", str(home / "cache"), "--log-file", str(log), "-o", "rw"
    command = [sys.executable, str(SCRIPT), way, "mount", "--foreground", str(mountpoint), *own]
    with subprocess.Popen(command, env=environ(env), stderr=subprocess.PIPE) as process:
        there = Mount(mountpoint, process.pid, log, env)
        try:
            wait_until(lambda: process.poll() is not None or is_up(there), 30, "the mount answers")
            assert process.poll() is None, (process.communicate(), log.read_text())
            yield there
            assert run("fusermount3", "-u", mountpoint).returncode == 0
            assert process.wait(20) == 0, log.read_text()
            assert mount_at(mountpoint) is None
        finally:
            if mount_at(mountpoint) is not None:
                run("fusermount3", "-uz", mountpoint)
            process.terminate()


def is_up(there: Mount) -> bool:
    return there.log.exists() and ": mounted " in there.log.read_text()


@pytest.mark.claim("S186")
@pytest.mark.parametrize("way", WAYS)
def test_it_mounts_and_reads_right(start, tmp_path: Path, way: str) -> None:
    running: Emulator = start("--synthetic", "3,1,1")
    for name in ("file.bin", "image.tif"):
        running.remote.storage("add_asset", name=name, size=SIZE, seed=5)
    with failing(way, running, tmp_path) as there:
        is_ours = way == "a_small_buffer"
        assert there.status()["kernel"]["parallel_dirops"] is is_ours
        assert there.log.read_text().count(PLAIN) == (0 if is_ours else 1), there.log.read_text()
        for name in ("file.bin", "image.tif"):
            assert there.find(name).read_bytes() == pattern_bytes(5, 0, SIZE)
            with (
                there.find(name).open("rb") as file,
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            ):
                assert mapped[-4096:] == pattern_bytes(5, SIZE - 4096, 4096)
        assert {child.name for child in there.path.iterdir()} >= {"assets", "orders", "tags"}
        (there.path / "tags/new").mkdir()
        (there.path / "tags/new/file.bin").hardlink_to(there.find("file.bin"))
        assert running.remote.storage()["assets"][-2]["tags"] == ["new"]

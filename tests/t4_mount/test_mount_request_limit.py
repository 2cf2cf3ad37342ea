"""A kernel that ends mounts in which a request takes too long (Linux 6.14), as /proc tells it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import Emulator, check, environ, mounted, run, wait_until

from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount

SCRIPT = Path(__file__).with_name("limited.py")

MIB = 1 << 20
#: The kernel knows no lower one.
LIMIT_S = 15
TOLD = "the kernel ends a mount in which a request takes longer than 15 s"


def first_bytes(file: Path) -> bytes:
    with file.open("rb", buffering=0) as opened:
        return opened.read(10)


@pytest.fixture
def silent(start) -> Emulator:
    """A storage that has all to tell, until its network falls silent."""
    running: Emulator = start("--synthetic", "3,1,1")
    for name in ("file.bin", "image.tif"):
        running.remote.storage("add_asset", name=name, size=64 * MIB, seed=5)
    return running


@pytest.mark.claim("S185")
def test_a_read_and_an_attribute_end_before_the_limit(silent: Emulator, tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "default_request_timeout").write_text("0\n")
    (settings / "max_request_timeout").write_text(f"{LIMIT_S}\n")
    env = silent.env | {"UP42FS_FUSE_SETTINGS": str(settings)}
    with mounted(env, home=tmp_path, by_command=True) as there:  # a limit is read at the start
        asked = [
            lambda: first_bytes(there.find("file.bin")),
            lambda: first_bytes(there.find("image.tif")),
            lambda: os.getxattr(there.find("file.bin"), "user.up42.json"),
        ]
        silent.remote.faults(stall_before_headers_s=60.0)
        began_s = time.monotonic()
        with ThreadPoolExecutor(len(asked)) as pool:
            failed = [asking.exception() for asking in [pool.submit(ask) for ask in asked]]
        assert time.monotonic() - began_s < LIMIT_S
        for error in failed:
            assert isinstance(error, OSError)
            assert error.errno in (errno.ETIMEDOUT, errno.EIO)
        silent.remote.faults(stall_before_headers_s=0.0)
        assert len(first_bytes(there.find("file.bin"))) == 10
        assert there.status()["kernel"]["request_limit_s"] == LIMIT_S
        assert there.log.read_text().count(TOLD) == 1


@pytest.mark.claim("S185")
def test_a_first_listing_ends_before_the_limit(start, tmp_path: Path) -> None:
    running: Emulator = start(
        "--synthetic", "3000", "--max-page-size", "50", "--api-latency-s", "2"
    )
    (tmp_path / "max_request_timeout").write_text(f"{LIMIT_S}\n")
    env = running.env | {"UP42FS_FUSE_SETTINGS": str(tmp_path)}
    with mounted(env, home=tmp_path, by_command=True) as there:  # a limit is read at the start
        began_s = time.monotonic()
        with pytest.raises(OSError):
            list((there.path / "assets").iterdir())
        assert time.monotonic() - began_s < LIMIT_S


def test_nothing_is_said_where_there_is_no_limit(silent: Emulator, tmp_path: Path) -> None:
    env = silent.env | {"UP42FS_FUSE_SETTINGS": str(tmp_path / "none")}
    with mounted(env, home=tmp_path, by_command=True) as there:  # a limit is read at the start
        assert check("cat", there.path / ".up42fs/status.json")
        assert there.status()["kernel"]["request_limit_s"] is None
        assert "takes longer than" not in there.log.read_text()


@pytest.mark.claim("S185")
@pytest.mark.slow
@pytest.mark.parametrize("is_told", [True, False], ids=["told by /proc", "not told"])
def test_the_real_kernel_ends_no_mount(silent: Emulator, tmp_path: Path, is_told: bool) -> None:
    """More readers than may be under way in the kernel; what is not told shows that it would."""
    mountpoint, settings = tmp_path / "mount", tmp_path / "settings"
    mountpoint.mkdir()
    settings.mkdir()
    if is_told:
        (settings / "default_request_timeout").write_text(f"{LIMIT_S}\n")
    env = silent.env | {
        "UP42FS_FUSE_SETTINGS": str(settings),
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    own = "--cache-dir", str(tmp_path / "cache"), "--log-file", str(tmp_path / "log")
    command = [sys.executable, str(SCRIPT), "mount", "--foreground", str(mountpoint), *own]
    process = subprocess.Popen(command, env=environ(env), stderr=subprocess.PIPE)
    numbers = []

    def read(place: int) -> None:
        try:
            with (mountpoint / "assets/file.bin").open("rb", buffering=0) as file:
                file.seek(place)
                file.read(10)
        except OSError as error:
            numbers.append(error.errno)

    try:
        wait_until(
            lambda: process.poll() is not None or (mountpoint / "assets").is_dir(), 20, "it mounts"
        )
        if process.poll() is not None:
            assert process.stderr is not None
            assert b"knows no limit" in process.stderr.read()
            pytest.skip("Linux before 6.14")
        (mountpoint / "assets/file.bin").stat()
        silent.remote.faults(stall_before_headers_s=60.0)
        readers = [
            threading.Thread(target=read, args=(n * (MIB // 2),))
            for n in range(100 if is_told else 1)
        ]
        began_s = time.monotonic()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        # The kernel looks every 15 s, so it has looked once since they began.
        time.sleep(max(0.0, began_s + 16 - time.monotonic()))
        if is_told:
            assert set(numbers) <= {errno.ETIMEDOUT, errno.EIO}
            assert len(numbers) == len(readers)
            assert os.listdir(mountpoint)
            assert process.poll() is None
        elif numbers == [errno.ETIMEDOUT]:
            pytest.skip("the kernel looked only after the mount's own deadline, 30 s")
        else:
            assert numbers in ([errno.ECONNABORTED], [errno.ENOTCONN])
    finally:
        silent.remote.faults(stall_before_headers_s=0.0)
        if mount_at(mountpoint) is not None:
            run("fusermount3", "-uz", mountpoint)
        process.terminate()
        process.communicate(timeout=20)

"""What the kernel lets through with our handshake and without it, and falling back from one."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from harness import (
    IN_A_NAMESPACE,
    REPOSITORY,
    Emulator,
    Mount,
    as_nobody,
    check,
    environ,
    interpreter_for_others,
    mount_lines,
    mounted,
)

from up42fs.emulator import pattern_bytes
from up42fs.errors import ConfigurationError
from up42fs.fs.filesystem import Filesystem
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.mount_table import mount_at
from up42fs.fuse.session import MountOptions, Session
from up42fs.fuse.tuning import read_ahead_path
from up42fs.metrics import Metrics

pytestmark = pytest.mark.mount

KIB, MIB = 1 << 10, 1 << 20
SCRIPT = Path(__file__).with_name("kernel_script.py")
FREEZE_SCRIPT = Path(__file__).with_name("freeze_script.py")
#: Of libfuse and the kernel, for the whole mount.
DEFAULT_MAX_BACKGROUND = 12
READERS = 40
REAL_FUSERMOUNT = shutil.which("fusermount3") or ""


def read_apart(path: Path, size: int = 4096) -> None:
    """READERS reads at once, too far from each other for the kernel's read-ahead to join them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        with ThreadPoolExecutor(READERS) as pool:
            answers = pool.map(
                lambda n: len(os.pread(descriptor, size, n * MIB + MIB // 2)), range(READERS)
            )
            assert list(answers) == [size] * READERS
    finally:
        os.close(descriptor)


def start_script(script: Path, mountpoint: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), str(mountpoint), *words],
        env=environ({}) | {"PYTHONPATH": str(REPOSITORY) + ":" + os.environ.get("PYTHONPATH", "")},
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def waiting(mountpoint: Path, wanted: int) -> Iterator[dict]:
    """The mount of `kernel_script.py`; the answer holds what it printed, all of it at the end."""
    mountpoint.mkdir()
    process = start_script(SCRIPT, mountpoint, str(wanted))
    assert process.stdout is not None
    try:
        answer = json.loads(process.stdout.readline())
        yield answer
        check("fusermount3", "-u", mountpoint)
        answer |= json.loads(process.stdout.readline())
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
        if mount_at(mountpoint) is not None:
            check("fusermount3", "-uz", mountpoint)


@pytest.mark.claim("S89")
@pytest.mark.parametrize("words", [[], ["uncured"]], ids=["cured", "uncured"])
def test_a_request_taken_back_before_it_is_read(words: list[str], tmp_path: Path) -> None:
    """pyfuse3 then sits in the kernel with the GIL held: a signal must wake it.

    The second form shows that nothing else does.
    """
    # On a busy machine the request may be read before it is taken back, and then nothing freezes.
    attempts = (turns_after_taking_back(tmp_path / str(n), words) for n in range(4))
    if words:
        assert not all(attempts)
    else:
        assert next(attempts)


def turns_after_taking_back(place: Path, words: list[str]) -> bool:
    place.mkdir()
    process = start_script(FREEZE_SCRIPT, place, *words)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "killed\n"
        turns, _, _ = select.select([process.stdout], [], [], 2 if words else 30)
        return bool(turns)
    finally:
        process.kill()
        check("fusermount3", "-uz", place)
        process.communicate()


def test_reads_under_way_at_once(handshake: str, tmp_path: Path) -> None:
    with waiting(tmp_path / "mnt", READERS) as seen:
        read_apart(tmp_path / "mnt/file")
    if handshake == "ours":
        assert seen["reads"] == READERS
        assert seen["max_background"] == 64
    elif seen["max_background"] is None:  # else /sys has let it be raised
        assert seen["reads"] == DEFAULT_MAX_BACKGROUND


def test_lookups_in_one_directory_at_once(handshake: str, tmp_path: Path) -> None:
    directory = tmp_path / "mnt/dir"
    with waiting(tmp_path / "mnt", 4) as seen:
        assert directory.is_dir()
        with ThreadPoolExecutor(4) as pool:
            assert [s.st_size for s in pool.map(os.stat, [directory / n for n in "1234"])] == [
                0
            ] * 4
    assert seen["lookups"] == (4 if handshake == "ours" else 1)


def test_a_listing_does_not_wait_for_a_lookup(tmp_path: Path) -> None:
    """The lookup never finds company: it ends after its patience, the listing long before."""
    directory = tmp_path / "mnt/dir"
    with waiting(tmp_path / "mnt", 2) as seen, ThreadPoolExecutor(1) as pool:
        assert directory.is_dir()
        slow = pool.submit(os.stat, directory / "1")
        assert os.listdir(directory) == []
        assert not slow.done()
        slow.result()
    assert seen["lookups"] == 1


def test_files_are_looked_at_only_for_who_looks(start, handshake: str, mount) -> None:
    """`find` leaves no inode of a file behind; what `ls -l` shows is right, and then known."""
    # Directories always get an inode, and an archive's is one.
    there: Mount = mount(start("--synthetic", "600,3,2,0,1"), "-o", "archives=off")

    def run(*command: str) -> list[str]:
        done = subprocess.run(command, cwd=there.path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def inodes() -> int:
        return int(there.status()["open"]["inodes"])

    before = inodes()
    assert len(run("find", "assets", "orders", "-type", "f")) == 1200
    walked = inodes() - before
    assert (walked < 100) == (handshake == "ours"), walked
    sizes = {line.split()[-1]: int(line.split()[4]) for line in run("ls", "-l", "assets")[1:]}
    assert len(sizes) == 600
    assert inodes() - before >= 600
    for name in random.Random(1).sample(sorted(sizes), 20):
        assert (there.path / "assets" / name).stat().st_size == sizes[name]
    inode = {name: int(number) for number, name in map(str.split, run("ls", "-i", "assets"))}
    assert all((there.path / "assets" / name).stat().st_ino == inode[name] for name in inode)


def big_file(start) -> Emulator:
    emulator = start("--synthetic", "1")
    emulator.remote.storage("add_asset", name="big.bin", size=64 * MIB, seed=5)
    return emulator


def test_status_shows_what_holds(start, handshake: str, mount) -> None:
    there: Mount = mount(big_file(start))
    kernel = there.status()["kernel"]
    assert kernel["parallel_dirops"] == (handshake == "ours")
    shown = Path("/sys/fs/fuse/connections").is_dir() and any(
        Path("/sys/fs/fuse/connections").iterdir()
    )
    if handshake == "ours" or shown:
        assert kernel["max_background"] == 64
    else:
        assert kernel["max_background"] is None
    if os.getuid() == 0:
        assert kernel["read_ahead_kib"] == 1024


@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the kernel's read-ahead")
def test_images_are_read_ahead_less_than_what_is_copied(start, handshake: str, mount) -> None:
    """The bytes that a page of the middle drags in, and the value that everybody else sees."""
    emulator = start("--synthetic", "1")
    for name in ("scene.tif", "scene.bin"):
        emulator.remote.storage("add_asset", name=name, size=64 * MIB, seed=5)
    there: Mount = mount(emulator)
    mounted = mount_at(there.path)
    assert mounted is not None
    value = read_ahead_path(mounted)

    def longest_read(name: str) -> int:
        with there.find(name).open("rb", buffering=0) as file:
            before = there.counters().get("store.bytes_delivered", 0)
            reads = there.counters().get("store.reads", 0)
            for offset in range(32 * MIB, 48 * MIB, 64 * KIB):
                assert os.pread(file.fileno(), 64 * KIB, offset) == pattern_bytes(
                    5, offset, 64 * KIB
                )
            after = there.counters()
        bytes_ = after["store.bytes_delivered"] - before
        return bytes_ // (after["store.reads"] - reads)

    assert longest_read("scene.tif") <= 64 * KIB
    assert value.read_text() == "64\n"
    assert longest_read("scene.bin") > 512 * KIB
    assert value.read_text() == "1024\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the kernel's read-ahead")
def test_an_image_opened_while_it_is_read_is_read_ahead_no_further(start, mount) -> None:
    """As threads of one program do, each with a descriptor of its own."""
    emulator = start("--synthetic", "1")
    emulator.remote.storage("add_asset", name="scene.tif", size=64 * MIB, seed=5)
    path = mount(emulator).find("scene.tif")
    with ThreadPoolExecutor(8) as pool:

        def read(number: int) -> None:
            for turn in range(20):
                with path.open("rb", buffering=0) as file:
                    os.pread(file.fileno(), 4 * KIB, (number * 20 + turn) * 256 * KIB)

        list(pool.map(read, range(8)))
    mounted = mount_at(path.parents[1])
    assert mounted is not None
    assert read_ahead_path(mounted).read_text() == "64\n"


def test_reads_reach_the_store_side_by_side(start, handshake: str, mount) -> None:
    """As many ranges as the store's connections allow, not as few as the kernel's default."""
    emulator = big_file(start)
    there: Mount = mount(emulator)
    path = there.find("big.bin")
    with path.open("rb", buffering=0) as file:  # the link and the head
        assert os.pread(file.fileno(), 9, 0) == pattern_bytes(5, 0, 9)
    before = emulator.remote.position()
    emulator.remote.faults(store_latency_s=0.5)
    read_apart(path)
    asked = emulator.remote.log(before, route="store.get")
    at_once = sum(1 for get in asked if get["t_s"] < asked[0]["t_s"] + 0.45)
    if handshake == "ours":
        assert at_once > DEFAULT_MAX_BACKGROUND
    elif there.status()["kernel"]["max_background"] is None:
        assert at_once == DEFAULT_MAX_BACKGROUND


@pytest.mark.skipif(os.getuid() == 0, reason="root may: runs in test_it_needs_no_root")
@pytest.mark.parametrize("negotiates", [True, False])
async def test_what_fusermount3_refuses_is_said(
    negotiates: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mnt").mkdir()
    options = MountOptions("test", allow_other=True, negotiates=negotiates)
    nothing = cast(Filesystem, SimpleNamespace(sidecars=None, read_again=None))
    session = Session(Handlers(nothing, Metrics(), uid=0, gid=0), tmp_path / "mnt", options)
    with pytest.raises(ConfigurationError) as caught:
        async with session.mounted():
            pass
    assert "user_allow_other" in (str(caught.value) if negotiates else capfd.readouterr().err)
    assert mount_at(tmp_path / "mnt") is None


# falling back ------------------------------------------------------------------------------------

FAKES = {
    "refuses": "exit 1",
    "hands over nothing": "exit 0",
    "hangs": "exec sleep 60",
    "mounts and then fails": f'{REAL_FUSERMOUNT} "$@"; exit 1',
}


@pytest.mark.skipif(os.getuid() != 0, reason="libfuse mounts by itself as root only")
@pytest.mark.parametrize("fake", FAKES)
def test_a_failed_handshake_is_a_plain_mount(
    start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: str
) -> None:
    """fusermount3 fails while it is asked for the device; it unmounts as ever."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/fusermount3"
    program.write_text(
        f'#!/bin/sh\n[ -z "$_FUSE_COMMFD" ] && exec {REAL_FUSERMOUNT} "$@"\n{FAKES[fake]}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    emulator = big_file(start)
    with mounted(emulator.env, home=tmp_path) as there:
        assert there.status()["kernel"]["parallel_dirops"] is False
        assert there.log.read_text().count("libfuse's defaults") == 1
        assert there.find("big.bin").stat().st_size == 64 * MIB
        own = [line for line in mount_lines("mounts") if str(there.path) in line]
        assert len(own) == 1


@IN_A_NAMESPACE
@pytest.mark.skipif(interpreter_for_others() is None, reason="no Python that others may run")
def test_it_needs_no_root() -> None:
    wanted = "under_way_at_once or in_one_directory or does_not_wait or is_said"
    assert "7 passed" in as_nobody(Path(__file__), wanted)

"""Defects in a mount, and a machine that has nothing left: it goes on, or says that it ended.

The defects are in `defective.py`, which runs the real command with some of its calls made to fail.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness import UP42FS, Emulator, emulator, environ, run, wait_until

from up42fs.emulator import pattern_bytes
from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount

MIB = 1 << 20
SEED = 7
SIZE = 40 * MIB
SCRIPT = Path(__file__).with_name("defective.py")
ERRORS = (errno.EIO, errno.ENOMEM, errno.ETIMEDOUT, errno.ENETUNREACH)
#: Work that goes on as long as the mount does, as the supervisor knows it.
FOR_GOOD = {
    "Sync.run",
    "Sync._keep",
    "Recorder.run",
    "Egress.run",
    "Catalogue._crawl_items",
    "watch_sleep",
    "Session._end_when_stopped",
    "Session._end_when_disconnected",
    "Passage.relay",
}
#: Calls that such work makes of other rooms.
CALLED = {
    "Client.sign",
    "CurlTransport.fetch",
    "Delivery.begin",
    "Buffers.take",
    "CellFiles.survey",
    "Snapshot.save",
    "Book.add",
}
#: Those that are made again in a few seconds.
CALLED_AGAIN = {"Client.sign", "CurlTransport.fetch", "Buffers.take", "Snapshot.save"}


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "20,3,2") as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
        yield running


@dataclass
class Defective:
    path: Path
    control: Path
    log: Path
    process: subprocess.Popen[bytes]
    #: The latest reads: their offset, what came of it, and the seconds that it took.
    reads: deque[tuple[int, str, float]] = field(default_factory=lambda: deque(maxlen=12))

    def set(self, **defects: Any) -> None:
        fresh = self.control.with_suffix(".new")
        fresh.write_text(json.dumps(defects))
        fresh.replace(self.control)

    def happened(self) -> list[str]:
        return Path(f"{self.control}.log").read_text().splitlines()

    def missing(self) -> list[str]:
        """What should have failed, or begun after that, and has not yet."""
        wanted = {f"failed {work}" for work in FOR_GOOD | CALLED | {"_Mount._tune"}}
        wanted |= {f"begun {work}" for work in FOR_GOOD | CALLED_AGAIN}
        return sorted(wanted - set(self.happened()))

    def read(self, offset: int, length: int) -> bool:
        """Read the right bytes, or an error; whether it was the bytes.

        The kernel cuts a read short where a later page fails, as on any disk. It must not look like
        the end of the file: the next read is the error.
        """
        start, stop, began_s = offset, offset + length, time.monotonic()
        told = "read"
        try:
            with (self.path / "assets/big.bin").open("rb", buffering=0) as file:
                while offset < stop:
                    got = os.pread(file.fileno(), stop - offset, offset)
                    assert got, "no end before the end"
                    assert got == pattern_bytes(SEED, offset, len(got))
                    offset += len(got)
            return True
        except OSError as error:
            told = errno.errorcode[error.errno or 0]
            if error.errno not in ERRORS:
                raise
            return False
        finally:
            self.reads.append((start, told, round(time.monotonic() - began_s, 2)))

    def story(self) -> str:
        """What there is to know of a mount that does not recover."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)  # where each task waits, to the log
            time.sleep(2)
        status = run("timeout", "-s", "KILL", "10", "cat", self.path / ".up42fs/status.json")
        log = self.log.read_text()
        return f"reads: {list(self.reads)}\n{status.stdout}{status.stderr}\n{log[-20000:]}"

    def is_healthy(self, offset: int) -> bool:
        return self.read(offset, 300_000) and os.statvfs(self.path).f_files > 0


@contextmanager
def defective(store: Emulator, home: Path, *options: str, **defects: Any) -> Iterator[Defective]:
    mountpoint, control, log = home / "mount", home / "control", home / "log"
    mountpoint.mkdir()
    control.write_text(json.dumps(defects))
    env = {"UP42FS_CRAWL_AFTER_S": "0.5", "UP42FS_HURRY": "4"} | dict(store.env)
    process = subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), str(control), "mount", "--foreground", str(mountpoint)),
            *("--log-file", str(log), "--cache-dir", str(home / "cache"), *options),
        ],
        env=environ(env | {"PYTHONPATH": str(SCRIPT.parents[2]), "XDG_STATE_HOME": str(home)}),
        stderr=subprocess.PIPE,
    )
    there = Defective(mountpoint, control, log, process)
    try:
        wait_until(
            lambda: process.poll() is not None or mount_at(mountpoint) is not None, 60, "it mounts"
        )
        assert process.poll() is None, (process.communicate(), log.read_text())
        wait_until(lambda: (mountpoint / "assets").is_dir(), 60, "the mount answers")
        yield there
    finally:
        if mount_at(mountpoint) is not None:
            run("fusermount3", "-uz", mountpoint)
        process.terminate()
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("kind", ["threads", "memory", "descriptors", "no memory", "bug", "bugs"])
@pytest.mark.claim("S131", "S132")
@pytest.mark.slow
def test_every_piece_of_background_work_fails_once_and_goes_on(
    store: Emulator, tmp_path: Path, kind: str
) -> None:
    options = ("-o", "refresh=1,max_egress=5G")
    with defective(store, tmp_path, *options, kind=kind, work=True) as there:
        there.set(kind=kind, work=True, calls=True)
        begun_s = time.monotonic()
        offset = 0
        while time.monotonic() - begun_s < 4 or not there.is_healthy(offset % (SIZE - MIB)):
            assert there.process.poll() is None, there.log.read_text()
            assert time.monotonic() - begun_s < 60, there.log.read_text()
            there.read(offset % (SIZE - MIB), 200_000)
            offset += 1_500_000
            time.sleep(0.05)
        name = f"arrives-{kind}.bin"
        store.remote.storage("add_asset", name=name.replace(" ", "-"), size=10, seed=1)
        wait_until(
            lambda: name.replace(" ", "-") in os.listdir(there.path / "assets"), 30, "it is listed"
        )
        # Work that failed begins again after a pause, and a save gathers changes first.
        wait_until(lambda: not there.missing(), 30, there.missing)
        told = there.log.read_text()
        assert told.count(" failed unexpectedly: ") >= len(FOR_GOOD)
        assert told.count("Traceback") >= len(FOR_GOOD)
        there.process.send_signal(signal.SIGTERM)
        assert there.process.wait(15) == 0
        assert mount_at(there.path) is None


@pytest.mark.parametrize("kind", ["threads", "memory", "descriptors", "no memory"])
@pytest.mark.claim("S132", "S135", "S385")
@pytest.mark.slow
def test_a_machine_that_has_nothing_left_now_and_then(
    store: Emulator, tmp_path: Path, kind: str
) -> None:
    """A third of all calls that need memory, a thread or a descriptor fail for some seconds."""
    with defective(store, tmp_path, "-o", "refresh=1,max_egress=5G") as there:
        there.set(kind=kind, share=0.3)
        until_s = time.monotonic() + 4
        offset = 0
        while time.monotonic() < until_s:
            there.read(offset % (SIZE - MIB), 200_000)
            offset += 1_500_000
        assert any(line.startswith("failed ") for line in there.happened())
        there.set()
        wait_until(lambda: there.is_healthy(SIZE - MIB), 20, there.story)
        assert there.process.poll() is None, there.log.read_text()


@pytest.mark.parametrize("how", ["exit", "kill"])
@pytest.mark.claim("S133")
def test_a_mount_that_ends_by_a_defect_is_no_empty_directory(
    store: Emulator, tmp_path: Path, how: str
) -> None:
    copy = tmp_path / "copy"
    backup = ("-a", "--delete", "--max-size=100k")
    store.remote.storage("add_asset", name=f"kept-{how}.bin", size=1000, seed=1)
    with defective(store, tmp_path, "-o", "refresh=1") as there:
        if shutil.which("rsync"):
            done = run("rsync", *backup, f"{there.path}/assets/", f"{copy}/")
            assert done.returncode == 0, done.stderr
        if how == "exit":
            there.set(kind="exit", work=True, calls=True)  # no failure: the end of the process
        else:
            there.process.kill()
        wait_until(lambda: there.process.poll() is not None, 20, "the process ends")
        assert mount_at(there.path) is not None
        for look in (os.listdir, os.statvfs):
            with pytest.raises(OSError) as caught:
                look(there.path)
            assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        if copy.exists():
            kept = sorted(copy.rglob("*"))
            assert kept
            done = run("rsync", *backup, f"{there.path}/assets/", f"{copy}/")
            assert done.returncode != 0
            assert sorted(copy.rglob("*")) == kept
        done = run(*UP42FS, "unmount", there.path)
        assert done.returncode == 0, done.stderr
        assert os.listdir(there.path) == []


@pytest.mark.claim("S351")
def test_a_mount_whose_loop_has_no_memory_is_no_empty_directory(
    store: Emulator, tmp_path: Path
) -> None:
    with defective(store, tmp_path, "-o", "refresh=1") as there:
        Path(f"{there.control}.loop").touch()
        wait_until(lambda: there.process.poll() is not None, 30, "the process ends")
        assert there.process.returncode == 1
        assert mount_at(there.path) is not None
        with pytest.raises(OSError) as caught:
            os.listdir(there.path)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        assert there.log.read_text().count("ends by a defect") == 1


@pytest.mark.claim("S134")
def test_sigterm_leaves_the_mount_point_as_an_error_where_that_is_wanted(
    store: Emulator, tmp_path: Path
) -> None:
    with defective(store, tmp_path, "-o", "on_term=leave") as there:
        there.process.send_signal(signal.SIGTERM)
        assert there.process.wait(15) == 0
        with pytest.raises(OSError) as caught:
            os.listdir(there.path)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        assert "SIGTERM: leaving the mount" in there.log.read_text()


@pytest.mark.claim("S134")
def test_ctrl_c_unmounts_all_the_same(store: Emulator, tmp_path: Path) -> None:
    with defective(store, tmp_path, "-o", "on_term=leave") as there:
        there.process.send_signal(signal.SIGINT)
        assert there.process.wait(15) == 0
        assert mount_at(there.path) is None
        assert os.listdir(there.path) == []


@pytest.mark.parametrize(
    ("hang", "how"),
    [
        pytest.param("Snapshot.save", "SIGTERM", id="a thread that cannot be cancelled"),
        pytest.param("Snapshot.save", "unmount", id="likewise, unmounted from outside"),
        pytest.param("CurlTransport.close", "SIGTERM", id="the loop itself"),
    ],
)
@pytest.mark.claim("S181")
def test_the_end_of_a_mount_has_a_deadline_whatever_hangs(
    store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: str, how: str
) -> None:
    monkeypatch.setenv("UP42FS_TEST_END_S", "4")
    with defective(store, tmp_path, "-o", "refresh=1") as there:
        assert there.read(0, 1000)
        there.set(hang=hang)
        if hang == "Snapshot.save":
            name = f"hangs-{how}.bin"
            store.remote.storage("add_asset", name=name, size=10, seed=1)
            wait_until(lambda: f"hangs {hang}" in there.happened(), 30, "it hangs")
        if how == "SIGTERM":
            there.process.send_signal(signal.SIGTERM)
        else:
            assert run("fusermount3", "-u", there.path).returncode == 0
        wait_until(lambda: there.process.poll() is not None, 20, there.log.read_text)
        assert f"hangs {hang}" in there.happened()
        assert there.process.returncode == 1
        assert mount_at(there.path) is None
        told = there.log.read_text()
        assert "the end of this mount takes more than 4 s: the process leaves now" in told
        assert ("Recorder" if hang == "Snapshot.save" else "FileStore.aclose") in told


def test_who_asks_a_mount_at_its_end_where_it_stands_does_not_kill_it(
    store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UP42FS_TEST_END_S", "5")
    hang = "Snapshot.item_versions"
    with defective(store, tmp_path, "-o", "refresh=1", hang=hang) as there:
        wait_until(lambda: f"hangs {hang}" in there.happened(), 20, "it hangs")
        there.process.send_signal(signal.SIGTERM)
        wait_until(lambda: mount_at(there.path) is None, 20, "it is unmounted")
        time.sleep(1)  # all that is left is the thread that hangs
        for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR1):
            there.process.send_signal(number)
        wait_until(lambda: there.process.poll() is not None, 20, there.log.read_text)
        assert there.process.returncode == 1, "its own end, and no signal"

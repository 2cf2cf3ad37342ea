"""What programs and the kernel do to a mount at the worst moment, and what is left of it."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import (
    UP42FS,
    Emulator,
    Mount,
    check,
    environ,
    is_running,
    mount_lines,
    mounted,
    run,
    wait_for_end,
    wait_until,
)

from up42fs.emulator import pattern_bytes
from up42fs.fuse.mount_table import mount_at
from up42fs.fuse.session import READS_GRACE_S

pytestmark = pytest.mark.mount

MIB = 1 << 20
SEED = 5
SIZE = 600 * MIB
CROWD = Path(__file__).with_name("crowd.py")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    from harness import emulator

    with emulator("--synthetic", "2,1,1") as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
        yield running


@pytest.fixture
def there(store: Emulator, tmp_path: Path) -> Iterator[Mount]:
    with mounted(store.env, "-o", "refresh=3600", home=tmp_path) as mount:
        mount.find("big.bin").stat()
        yield mount
        store.remote.faults(stall_before_headers_s=0.0, store_latency_s=0.0, link_life_s=300.0)


def crowd(path: Path, readers: int, stride: int, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CROWD), str(path), str(SEED), str(readers), str(stride), *words]
    return subprocess.Popen(
        command, env=environ({}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@contextmanager
def stalled_crowd(store: Emulator, there: Mount) -> Iterator[subprocess.Popen[str]]:
    """32 reads in flight, and a store that says nothing."""
    before = store.remote.position()
    store.remote.faults(fail_plane="store", stall_before_headers_s=600.0)
    reader = crowd(there.find("big.bin"), 32, 16 * MIB)
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        wait_until(lambda: store.remote.count("store.get", before) >= 12, 15, "reads wait")
        yield reader
    finally:
        store.remote.faults(stall_before_headers_s=0.0)
        reader.kill()
        reader.communicate()


def is_healthy(there: Mount, offset: int = 500 * MIB) -> bool:
    with there.find("big.bin").open("rb", buffering=0) as file:
        return os.pread(file.fileno(), 5000, offset) == pattern_bytes(SEED, offset, 5000)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.claim("S86")
def test_a_signal_unmounts_in_two_seconds_whoever_waits(
    store: Emulator, there: Mount, number: int
) -> None:
    with stalled_crowd(store, there) as reader:
        started_s = time.monotonic()
        os.kill(there.pid, number)
        wait_until(lambda: mount_at(there.path) is None, 10, "the mount is gone")
        took_s = time.monotonic() - started_s
        reader.wait(30)  # no read goes on
        wait_until(lambda: not is_running(there.pid), 10, "the process ends")
    # One second for reads in flight; the rest is what unmounting takes, more on a busy machine.
    assert READS_GRACE_S <= 1.0
    assert took_s < READS_GRACE_S + 4.0
    assert "Traceback" not in there.log.read_text()


@pytest.mark.claim("S85")
def test_an_unmount_while_reads_run_is_refused_and_harms_nothing(
    store: Emulator, there: Mount
) -> None:
    with stalled_crowd(store, there):
        done = run("fusermount3", "-u", there.path)
        assert done.returncode != 0
        assert "busy" in done.stderr
        assert "assets" in os.listdir(there.path)
    assert is_healthy(there)


@pytest.mark.claim("S85")
def test_a_lazy_unmount_while_reads_run_takes_the_name_and_the_process_ends(
    store: Emulator, there: Mount
) -> None:
    with stalled_crowd(store, there) as reader:
        check("fusermount3", "-uz", there.path)
        assert mount_at(there.path) is None
        reader.kill()
        reader.wait(30)
        wait_for_end(there)
    assert "Traceback" not in there.log.read_text()


@pytest.mark.claim("S89")
def test_readers_killed_at_any_moment_leave_nothing_behind(store: Emulator, there: Mount) -> None:
    store.remote.faults(store_latency_s=0.05)
    chance = random.Random(3)
    running: list[subprocess.Popen[str]] = []
    for number in range(40):
        running.append(crowd(there.find("big.bin"), 8, 3 * MIB + number * 4096))
        time.sleep(chance.uniform(0, 0.08))
        if len(running) > 4:
            victim = running.pop(0)
            victim.kill()
            victim.communicate(timeout=30)
    for reader in running:
        reader.kill()
        reader.communicate(timeout=30)
    store.remote.faults(store_latency_s=0.0)
    assert is_healthy(there)
    wait_until(lambda: there.status()["store"]["requests_running"] == 0, 20, "no request runs")
    assert there.status()["open"]["open_files"] == 0
    assert "Traceback" not in there.log.read_text()


@pytest.mark.parametrize("words", [[], ["fork"]])
@pytest.mark.claim("S90")
def test_a_crowd_of_readers(store: Emulator, there: Mount, words: list[str]) -> None:
    """512 threads, or children that share one descriptor: each gets its own bytes."""
    readers = 128 if words else 512
    reader = crowd(there.find("big.bin"), readers, MIB + 4096, *words)
    told, _ = reader.communicate(timeout=110)
    assert told.split() == ["reading", str(readers)]
    assert there.status()["store"]["leases"] == 1


@pytest.mark.claim("S79")
def test_stopped_past_the_life_of_its_link(store: Emulator, there: Mount) -> None:
    """As a suspend: the process sleeps, its link ends, reading goes on."""
    store.remote.faults(link_life_s=2.0)
    with there.find("big.bin").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 100, 0) == pattern_bytes(SEED, 0, 100)
        os.kill(there.pid, signal.SIGSTOP)
        time.sleep(2.1)
        store.remote.faults(link_life_s=300.0)
        os.kill(there.pid, signal.SIGCONT)
        offset = 300 * MIB
        assert os.pread(file.fileno(), 100, offset) == pattern_bytes(SEED, offset, 100)
    assert "WARNING" not in there.log.read_text()


@pytest.mark.claim("S89")
def test_a_client_killed_between_poll_and_read_does_not_freeze_the_loop(
    store: Emulator, there: Mount
) -> None:
    """pyfuse3 reads the device with the GIL held: a request that was taken back leaves it there.

    Asked by a signal, not through the mount, which would wake it.
    """
    path = str(there.find("big.bin"))
    script = f"import os,signal\nos.stat({path!r}+str(os.getpid()))\nos.kill(os.getpid(), 9)"
    chance = random.Random(9)
    for turn in range(60):
        client = subprocess.Popen(
            ["cat", f"{there.path}/assets/no-such-{turn}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0, 0.004))
        client.kill()
        client.wait(10)
    run(sys.executable, "-c", script)
    before = store.remote.position()
    os.kill(there.pid, signal.SIGHUP)
    wait_until(lambda: store.remote.count("assets.list", before) > 0, 5, "the loop turns")


@pytest.mark.claim("S88")
def test_a_crash_is_clear_and_mounting_again_cures_it(store: Emulator, tmp_path: Path) -> None:
    with mounted(store.env, home=tmp_path) as there:
        with there.find("big.bin").open("rb", buffering=0) as file:
            os.kill(there.pid, signal.SIGKILL)
            wait_until(lambda: not is_running(there.pid), 5, "the process is gone")
            with pytest.raises(OSError) as caught:
                os.pread(file.fileno(), 10, MIB)
            assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        with pytest.raises(OSError) as caught:
            os.listdir(there.path)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        told = run(*UP42FS, "doctor", there.path, env=store.env).stdout
        assert "its process is gone" in told
        assert "up42fs mount" in told
        done = run(*UP42FS, "mount", there.path, "--cache-dir", tmp_path / "c", env=store.env)
        assert done.returncode == 0, done.stderr
        assert "process is gone" in done.stderr
        assert is_healthy(there)
        assert sum(str(there.path) in line for line in mount_lines()) == 1
        check(*UP42FS, "unmount", there.path)


@pytest.mark.claim("S88")
def test_a_mount_that_is_only_stopped_is_not_taken_away(store: Emulator, there: Mount) -> None:
    os.kill(there.pid, signal.SIGSTOP)
    try:
        done = run(*UP42FS, "mount", there.path, env=store.env)
        assert done.returncode == 1
        assert "busy" in done.stderr
    finally:
        os.kill(there.pid, signal.SIGCONT)
    assert is_healthy(there)

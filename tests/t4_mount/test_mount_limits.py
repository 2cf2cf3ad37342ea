"""A mount under `ulimit -v`, `ulimit -n` and a limit of processes: it lives, and gets well again.

The limits of the running mount are lowered from outside (prlimit(2)) to what it has just then, and
put back later. A read meanwhile is the right bytes or an error.
"""

from __future__ import annotations

import base64
import errno
import io
import os
import resource
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from harness import (
    IN_A_NAMESPACE,
    Emulator,
    Mount,
    as_nobody,
    emulator,
    is_running,
    mounted,
    wait_until,
)

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
SEED = 9
SIZE = 96 * MIB
PIECE = 512 << 10
MEMBERS = {"stored.bin": zipfile.ZIP_STORED, "packed.bin": zipfile.ZIP_DEFLATED}
MEMBER_BYTES = 3 * MIB
#: Reads that fail take all their time, 35 s divided by this.
HURRY = {"UP42FS_HURRY": "10"}
ERRORS = (errno.EIO, errno.ENOMEM, errno.ETIMEDOUT, errno.ENETUNREACH)


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "20,3,2") as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
        add_archive(running)
        yield running


def add_archive(running: Emulator) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, method in MEMBERS.items():
            writer.writestr(name, pattern_bytes(SEED, 0, MEMBER_BYTES), method)
    content = base64.b64encode(archive.getvalue()).decode()
    running.remote.storage("add_asset", name="delivery.zip", content_base64=content)


def read_member(there: Mount, name: str) -> bool:
    """Whether a member of an archive could be read; wrong bytes fail the test."""
    try:
        with (there.path / "assets/delivery" / name).open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            got = b""
            while more := file.read(PIECE):
                got += more
    except OSError as error:
        if error.errno not in ERRORS:
            raise
        return False
    assert got == pattern_bytes(SEED, 0, MEMBER_BYTES)
    return True


def read(there: Mount, offset: int) -> bool:
    """Whether the piece could be read; wrong bytes fail the test."""
    stop = offset + PIECE
    try:
        with there.find("big.bin").open("rb", buffering=0) as file:
            while offset < stop:
                got = os.pread(file.fileno(), stop - offset, offset)
                assert got, "no end before the end"
                assert got == pattern_bytes(SEED, offset, len(got))
                offset += len(got)
    except OSError as error:
        if error.errno not in ERRORS:
            raise
        return False
    return True


@contextmanager
def lowered(pid: int, what: int, most: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def pids_group() -> Path | None:
    """The cgroup below which this test may limit processes; None where there is none."""
    for group, controllers in (
        (Path("/sys/fs/cgroup/pids"), None),  # version 1
        (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cgroup.subtree_control")),
    ):
        has_pids = controllers is None or (
            controllers.exists() and "pids" in controllers.read_text().split()
        )
        if has_pids and os.access(group / "cgroup.procs", os.W_OK):
            return group
    return None


PIDS_GROUP = pids_group()


@contextmanager
def few_processes(pid: int, parent: Path, spare: int) -> Iterator[None]:
    """A pids cgroup with room for `spare` threads more than the process has: holds for root too."""
    group = parent / f"up42fs-test-{pid}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text(str(int((group / "pids.current").read_text()) + spare))
        yield
        tried = (group / "pids.events").read_text().split()
        assert int(tried[tried.index("max") + 1]) > 0, "no thread was refused"
    finally:
        (group / "pids.max").write_text("max")
        (parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def addresses(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def descriptors(pid: int) -> int:
    return max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1


def squeeze(
    store: Emulator, there: Mount, limit: AbstractContextManager[None], name: str
) -> list[bool]:
    """Read from eight threads, and look around, under the limit; then be well again."""
    with limit, ThreadPoolExecutor(8) as readers:
        offsets = range(0, SIZE - PIECE, 4 * MIB)
        members = [readers.submit(read_member, there, name) for name in 3 * list(MEMBERS)]
        could = list(readers.map(lambda offset: read(there, offset), offsets))
        could += [member.result() for member in members]
        store.remote.storage("add_asset", name=f"new-{name}.bin", size=10, seed=1)
        os.listdir(there.path)
        os.statvfs(there.path)
        time.sleep(1.5)  # a refresh
    assert is_running(there.pid), there.log.read_text()[-5000:]
    wait_until(lambda: read(there, SIZE - PIECE), 30, "it reads again")
    for member in MEMBERS:
        wait_until(lambda name=member: read_member(there, name), 30, f"it reads {member} again")
    wait_until(lambda: f"new-{name}.bin" in os.listdir(there.path / "assets"), 70, "it lists again")
    return could


# A mount that is nobody's to debug hides them even from its own user.
@pytest.mark.skipif(os.getuid() != 0, reason="only root may count a mount's descriptors")
@pytest.mark.parametrize("spare", [0, 3])
@pytest.mark.claim("S132", "S135")
@pytest.mark.slow
def test_no_descriptors(store: Emulator, tmp_path: Path, spare: int) -> None:
    with mounted(store.env | HURRY, "-o", "refresh=1", home=tmp_path) as there:
        most = descriptors(there.pid) + spare
        squeeze(
            store, there, lowered(there.pid, resource.RLIMIT_NOFILE, most), f"descriptors-{spare}"
        )
        wait_until(
            lambda: there.status()["disk_cache"]["off_because"] is None, 45, "the cache is on again"
        )


# Under 64 KiB, trio could not read the socket by which threads wake it, and ended the mount.
@pytest.mark.parametrize("spare_kib", [64, 1024, 16_384])
@pytest.mark.claim("S132", "S135")
@pytest.mark.slow
def test_no_memory(store: Emulator, tmp_path: Path, spare_kib: int) -> None:
    with mounted(store.env | HURRY, "-o", "refresh=1", home=tmp_path) as there:
        most = addresses(there.pid) + (spare_kib << 10)
        squeeze(store, there, lowered(there.pid, resource.RLIMIT_AS, most), f"memory-{spare_kib}")


@pytest.mark.skipif(PIDS_GROUP is None, reason="no pids cgroup that may be changed here")
@pytest.mark.parametrize("spare", [0])
@pytest.mark.claim("S132", "S135")
@pytest.mark.slow
def test_no_threads_in_a_container(store: Emulator, tmp_path: Path, spare: int) -> None:
    """`docker run --pids-limit` and TasksMax= of systemd: cgroups hold for every user."""
    assert PIDS_GROUP is not None
    with mounted(store.env | HURRY, "-o", "refresh=1", home=tmp_path) as there:
        squeeze(store, there, few_processes(there.pid, PIDS_GROUP, spare), f"pids-{spare}")


@pytest.mark.skipif(os.getuid() == 0, reason="root may start any number of threads")
@pytest.mark.claim("S132", "S135")
def test_no_threads(store: Emulator, tmp_path: Path) -> None:
    with mounted(store.env | HURRY, "-o", "refresh=1", home=tmp_path) as there:
        squeeze(store, there, lowered(there.pid, resource.RLIMIT_NPROC, 1), "threads")


@IN_A_NAMESPACE
@pytest.mark.claim("S132", "S135")
@pytest.mark.slow
def test_no_threads_as_an_unprivileged_user() -> None:
    """`RLIMIT_NPROC` does not hold for root."""
    said = as_nobody(Path(__file__), "no_threads and not unprivileged")
    assert "1 passed" in said, said

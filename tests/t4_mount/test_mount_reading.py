"""Reading through a real mount while links expire, objects change, hosts fail or fall silent."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness import Emulator, Mount, check, is_running, kib_at_most, run, wait_until

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
SEED = 5


def add(emulator: Emulator, name: str, size: int, **fields) -> str:
    answer = emulator.remote.storage("add_asset", name=name, size=size, seed=SEED, **fields)
    return str(answer["id"])


@pytest.fixture
def small(start) -> Emulator:
    """A storage of three assets."""
    return start("--synthetic", "3,1,1")


@pytest.mark.claim("S77")
def test_a_file_kept_open_outlives_many_links(start, mount) -> None:
    # One of 1 s may live for some milliseconds, since links tell their end in whole seconds.
    emulator = start("--synthetic", "1", "--link-life-s", "2")
    size = 40 * MIB
    add(emulator, "long.bin", size)
    there = mount(emulator)
    with there.find("long.bin").open("rb", buffering=0) as file:
        for offset in (0, 20 * MIB, size - 100_000):
            time.sleep(2.1 if offset else 0)
            got = os.pread(file.fileno(), 100_000, offset)
            assert got == pattern_bytes(SEED, offset, 100_000)
    assert emulator.requests()["assets.sign"] >= 3
    assert "WARNING" not in there.log.read_text()


@pytest.mark.parametrize("fault", [{"stall_body_at": 20_000}, {"stall_before_headers_s": 25.0}])
def test_a_part_that_stalls_is_overtaken_by_a_second_request(small, mount, fault) -> None:
    add(small, "stalls.bin", 40 * MIB)
    there = mount(small)
    with there.find("stalls.bin").open("rb", buffering=0) as file:
        for number in range(12):  # what is late is told by what is usual
            offset = (3 * number + 1) * MIB
            assert os.pread(file.fileno(), 4096, offset) == pattern_bytes(SEED, offset, 4096)
        before = there.counters()
        small.remote.faults(fail_route="store.get", fail_next=1, stall_s=25.0, **fault)
        offset = 39 * MIB
        got = os.pread(file.fileno(), 100_000, offset)
    assert got == pattern_bytes(SEED, offset, 100_000)
    after = there.counters()
    assert after["store.hedges"] == after["store.hedges_won"] == 1
    assert after["store.requests"] - before["store.requests"] <= 3
    assert "store.retries" not in after, "it was not given up first"


def test_a_link_that_expires_early_is_renewed_behind_the_reader(start, mount) -> None:
    """The server's clock runs ahead of the Expires it wrote: links die before their time."""
    emulator = start("--synthetic", "1")
    add(emulator, "early.bin", 30 * MIB)
    there = mount(emulator)
    with there.find("early.bin").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 0) == pattern_bytes(SEED, 0, 10)
        emulator.remote.faults(fail_route="store.get", fail_status=400, fail_next=1)
        assert os.pread(file.fileno(), 10, 15 * MIB) == pattern_bytes(SEED, 15 * MIB, 10)
    assert emulator.requests()["assets.sign"] == 2


@pytest.mark.claim("S77")
def test_one_link_serves_many_readers(small: Emulator, mount) -> None:
    add(small, "shared.bin", 20 * MIB)
    there = mount(small)
    path = there.find("shared.bin")

    def read(number: int) -> bool:
        with path.open("rb", buffering=0) as file:
            offset = number * 600_000
            return os.pread(file.fileno(), 5000, offset) == pattern_bytes(SEED, offset, 5000)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(32)))
    assert small.requests()["assets.sign"] == 1


def fetched_once(mount: Mount, size: int, dropped: int = 0) -> None:
    """But for what came twice since a request lagged, on a machine that has other things to do.

    A request is counted when it ends, which may be after its last byte was read.
    """

    def once_bytes() -> int:
        counters = mount.counters()
        return counters["store.bytes_fetched"] - counters.get("store.hedges_bytes", 0)

    wait_until(lambda: once_bytes() >= size, 5, "all is counted")
    assert size <= once_bytes() <= size + dropped


def test_memory_stays_bounded_reading_two_gigabytes(small: Emulator, mount) -> None:
    size = 2 << 30
    add(small, "huge.bin", size)
    there = mount(small)
    done = check("dd", f"if={there.find('huge.bin')}", "of=/dev/null", "bs=1M", timeout_s=110)
    assert done == ""
    assert kib_at_most(there.pid) < 300 * 1024
    # A kernel short of memory drops pages it read ahead, and what a scan has passed is not kept.
    fetched_once(there, size, dropped=size // 20)


def test_sequential_reading_asks_each_byte_once_in_few_requests(small: Emulator, mount) -> None:
    size = 64 * MIB
    add(small, "run.bin", size)
    there = mount(small)
    done = run("cmp", there.find("run.bin"), "-", input=None, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    before = small.remote.position()
    content = there.find("run.bin").read_bytes()
    assert content == pattern_bytes(SEED, 0, size)
    gets = small.remote.log(before, route="store.get")
    assert len(gets) <= 70
    fetched_once(there, size)


@pytest.mark.claim("S7")
def test_mapped_files_read_the_same(small: Emulator, mount) -> None:
    add(small, "mapped.bin", 5 * MIB)
    there = mount(small)
    with there.find("mapped.bin").open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        assert view[3 * MIB : 3 * MIB + 99] == pattern_bytes(SEED, 3 * MIB, 99)
        view.close()


@pytest.mark.claim("S6")
def test_empty_and_one_byte_files(small: Emulator, mount) -> None:
    add(small, "empty.bin", 0)
    add(small, "one.bin", 1)
    there = mount(small)
    assert there.find("empty.bin").read_bytes() == b""
    assert there.find("one.bin").read_bytes() == pattern_bytes(SEED, 0, 1)


@pytest.mark.claim("S72")
def test_an_object_that_changes_beneath_an_open_file_is_stale(small: Emulator, mount) -> None:
    asset_id = add(small, "moving.bin", 10 * MIB)
    there = mount(small)
    path = there.find("moving.bin")
    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 0) == pattern_bytes(SEED, 0, 10)
        small.remote.storage("replace_object", id=asset_id, seed=9, size=11 * MIB)
        with pytest.raises(OSError) as caught:
            os.pread(file.fileno(), 10, 6 * MIB)
        assert caught.value.errno == errno.ESTALE
        with pytest.raises(OSError):
            os.pread(file.fileno(), 10, 7 * MIB)
    wait_until(lambda: path.stat().st_size == 11 * MIB, 5, "the new size shows")
    assert path.read_bytes() == pattern_bytes(9, 0, 11 * MIB)
    assert "moving.bin" in there.log.read_text()


@pytest.mark.claim("S71")
@pytest.mark.parametrize("cache_size", ["0", "1G"])
def test_a_replaced_object_is_not_read_from_memory(small: Emulator, mount, cache_size: str) -> None:
    """Of the same size: nothing but the time of its update tells."""
    asset_id = add(small, "same.bin", MIB)
    there = mount(small, "-o", f"cache_size={cache_size},refresh=1")
    path = there.find("same.bin")
    assert path.read_bytes() == pattern_bytes(SEED, 0, MIB)
    small.remote.storage("replace_object", id=asset_id, seed=9, size=MIB)
    wait_until(lambda: path.read_bytes() == pattern_bytes(9, 0, MIB), 10, "the new bytes show")


@pytest.mark.claim("S76")
def test_a_size_the_listing_got_wrong_heals(small: Emulator, mount) -> None:
    asset_id = add(small, "wrong.bin", 3 * MIB)
    there = mount(small)
    path = there.find("wrong.bin")
    assert path.stat().st_size == 3 * MIB
    small.remote.storage("replace_object", id=asset_id, seed=9, size=2 * MIB)
    with pytest.raises(OSError) as caught:
        path.read_bytes()
    assert caught.value.errno == errno.ESTALE
    wait_until(lambda: path.stat().st_size == 2 * MIB, 5, "the true size shows")
    assert path.read_bytes() == pattern_bytes(9, 0, 2 * MIB)


def test_a_vanished_object(small: Emulator, mount) -> None:
    asset_id = add(small, "gone.bin", 3 * MIB)
    there = mount(small)
    small.remote.storage("remove_object", id=asset_id)
    with pytest.raises(OSError) as caught:
        there.find("gone.bin").read_bytes()
    assert caught.value.errno in (errno.ENOENT, errno.ESTALE)
    assert "gone.bin" in there.log.read_text()


FAULTS: dict[str, dict[str, Any]] = {
    "503": {"fail_status": 503, "fail_next": 3},
    "429": {"fail_status": 429, "retry_after": "1", "fail_next": 2},
    "reset": {"reset_before_headers": True, "fail_next": 3},
    "cut": {"cut_body_at": 50_000, "fail_next": 3},
    "short": {"short_body": 1000, "fail_next": 3},
    "expired": {"fail_status": 400, "fail_next": 1},
    "refused": {"fail_status": 403, "fail_next": 1},
    "wrong range": {"wrong_content_range": True, "fail_next": 2},
    "html": {"fail_status": 502, "fail_body": "html", "fail_next": 2},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.claim("S28")
def test_faults_that_pass_are_not_seen_by_the_reader(small: Emulator, mount, fault: str) -> None:
    add(small, "shaky.bin", 12 * MIB)
    there = mount(small)
    there.find("shaky.bin").stat()
    small.remote.faults(fail_plane="store", **FAULTS[fault])
    assert there.find("shaky.bin").read_bytes() == pattern_bytes(SEED, 0, 12 * MIB)
    counters = there.counters()
    assert counters.get("store.retries", 0) + counters.get("store.renewals", 0) >= 1


@pytest.mark.parametrize("route", ["assets.sign", "auth.token"])
def test_signing_survives_faults(small: Emulator, mount, route: str) -> None:
    add(small, "signed.bin", 2 * MIB)
    there = mount(small)
    there.find("signed.bin").stat()
    if route == "auth.token":
        small.remote.storage("revoke_tokens")
    small.remote.faults(fail_route=route, fail_status=503, fail_next=2)
    assert there.find("signed.bin").read_bytes() == pattern_bytes(SEED, 0, 2 * MIB)


@pytest.mark.claim("S27")
def test_what_is_known_answers_while_the_network_hangs(small: Emulator, mount) -> None:
    add(small, "cached.bin", MIB)
    add(small, "uncached.bin", 8 * MIB)
    there = mount(small)
    there.find("cached.bin").read_bytes()
    names = sorted(os.listdir(there.path / "assets"))
    reader = None
    os.kill(small.process.pid, signal.SIGSTOP)
    try:
        reader = subprocess.Popen(["cat", there.find("uncached.bin")], stdout=subprocess.DEVNULL)
        started_s = time.monotonic()
        assert sorted(os.listdir(there.path / "assets")) == names
        check("sh", "-c", "ls -l . assets orders/* tags/*", cwd=there.path)
        check("df", there.path)
        check("sh", "-c", "getfattr -d assets/* orders/*", cwd=there.path)
        assert there.find("cached.bin").read_bytes() == pattern_bytes(SEED, 0, MIB)
        assert not (there.path / "assets/absent.tif.aux.xml").exists()
        assert time.monotonic() - started_s < 20  # one that asked would wait for 28 s or more
        check("up42fs", "unmount", "--lazy", there.path, env={"PATH": path_with_up42fs()})
        reader.kill()
        reader.wait(30)
        wait_until(lambda: not is_running(there.pid), 12, "the mount process ends")
    finally:
        os.kill(small.process.pid, signal.SIGCONT)
        if reader is not None:
            reader.kill()
            reader.wait()


def path_with_up42fs() -> str:
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_a_killed_reader_leaves_a_healthy_mount(small: Emulator, mount) -> None:
    add(small, "slow.bin", 30 * MIB)
    there = mount(small)
    there.find("slow.bin").stat()
    small.remote.faults(store_latency_s=1.0)
    for _ in range(5):
        reader = subprocess.Popen(["cat", there.find("slow.bin")], stdout=subprocess.DEVNULL)
        time.sleep(0.2)
        reader.kill()
        reader.wait(30)
    small.remote.faults(store_latency_s=0.0)
    assert there.find("slow.bin").read_bytes() == pattern_bytes(SEED, 0, 30 * MIB)
    assert there.status()["open"]["open_files"] == 0


def test_a_thousand_assets_list_completely_at_once(start, mount) -> None:
    emulator = start("--synthetic", "1000,50,20")
    there = mount(emulator)
    orders = check("ls", there.path / "orders").splitlines()
    storage = emulator.remote.storage()
    assert len(orders) == len({a["order_id"] for a in storage["assets"] if a["order_id"]})
    files = check("find", "assets", "-maxdepth", "1", "-type", "f", cwd=there.path).splitlines()
    assert len(files) == 1000
    in_orders = check("find", "orders", "-maxdepth", "2", "-type", "f", cwd=there.path).splitlines()
    assert len(in_orders) == len([a for a in storage["assets"] if a["order_id"]])
    in_tags = check("find", "tags", "-maxdepth", "2", "-type", "f", cwd=there.path).splitlines()
    assert len(in_tags) == sum(len(a["tags"] or []) for a in storage["assets"])


@pytest.mark.claim("S15")
def test_the_first_listing_waits_for_a_slow_service(start, mount) -> None:
    emulator = start("--synthetic", "300,10,5", "--api-latency-s", "0.2", "--max-page-size", "50")
    there = mount(emulator)
    assert len([p for p in (there.path / "assets").iterdir() if p.is_file()]) == 300


@pytest.mark.claim("S56")
def test_changes_appear_within_a_refresh(start, mount) -> None:
    emulator = start("--synthetic", "20,2,2")
    there = mount(emulator, "-o", "refresh=1")
    assets = there.path / "assets"
    before = set(os.listdir(assets))
    assert not (assets / "new.bin").exists()
    new = add(emulator, "new.bin", 1000, tags=["fresh tag"])
    wait_until(lambda: (assets / "new.bin").exists(), 5, "the new asset appears")
    assert set(os.listdir(assets)) == before | {"new.bin"}
    assert os.listdir(there.path / "tags/fresh tag") == ["new.bin"]
    assert (assets / "new.bin").stat().st_nlink == 3
    emulator.remote.storage("set_metadata", id=new, title="A title", tags=["other"])
    wait_until(lambda: (there.path / "tags/other").exists(), 5, "the new tag appears")
    assert os.getxattr(assets / "new.bin", "user.up42.title") == b"A title"
    assert not (there.path / "tags/fresh tag").exists()
    emulator.remote.storage("set_cnam_status", id=new, status="FAILED")
    wait_until(lambda: (there.path / "cnam/FAILED/new.bin").exists(), 5, "the status changes")
    emulator.remote.storage("remove_asset", id=new)
    wait_until(lambda: not (assets / "new.bin").exists(), 5, "the asset is gone")
    assert set(os.listdir(assets)) == before


@pytest.mark.claim("S75")
def test_an_open_file_survives_changes_of_its_metadata(start, mount) -> None:
    emulator = start("--synthetic", "5,1,1")
    asset_id = add(emulator, "held.bin", 8 * MIB, tags=["one"])
    there = mount(emulator, "-o", "refresh=1")
    with (there.path / "tags/one/held.bin").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 0) == pattern_bytes(SEED, 0, 10)
        emulator.remote.storage("set_metadata", id=asset_id, tags=["two"])
        wait_until(lambda: (there.path / "tags/two/held.bin").exists(), 5, "the tag moves")
        assert os.pread(file.fileno(), 10, 5 * MIB) == pattern_bytes(SEED, 5 * MIB, 10)


@pytest.mark.claim("S59")
def test_sighup_refreshes_now(start, mount) -> None:
    emulator = start("--synthetic", "5,1,1")
    there: Mount = mount(emulator, "-o", "refresh=3600")
    assert os.listdir(there.path / "assets")
    add(emulator, "late.bin", 10)
    os.kill(there.pid, signal.SIGHUP)
    wait_until(lambda: (there.path / "assets/late.bin").exists(), 5, "the asset appears")

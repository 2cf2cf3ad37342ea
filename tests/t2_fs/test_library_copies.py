"""Copies by `FileSystem.get_file` that pass memory by: bytes, requests, faults on the way."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Emulator, become, emulator, environ

import up42fs
from up42fs.emulator.content import pattern_bytes

pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")

MIB = 1 << 20
SIZE, SEED = 20 * MIB + 12345, 7
#: Five ranges of 4 MiB and the rest.
RANGES = 6


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "3,1,0,1") as running:
        yield running


@pytest.fixture
def fs(store: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Without a disk cache: what the cache keeps goes through memory."""
    become(store, monkeypatch)
    # Each test has an engine of its own: one's memory and waits are none of another's business.
    memory, before = 64 + next(_numbers), store.remote.faults()
    yield up42fs.FileSystem(cache_size=0, memory=memory, refresh=3600, mount="never")
    store.remote.faults(**before)


_numbers = iter(range(1000))


@pytest.fixture
def asset(store: Emulator) -> str:
    return add(store, SIZE, SEED)


def add(store: Emulator, size: int, seed: int) -> str:
    made: str = store.remote.storage("add_asset", name="copied.bin", size=size, seed=seed)["id"]
    return made


def gets(store: Emulator, since: int) -> list[dict[str, Any]]:
    return store.remote.log(since, plane="store")


def is_alone(target: Path) -> bool:
    return [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.claim("S410")
def test_a_copy_takes_few_requests_and_each_byte_once(
    fs: Any, store: Emulator, asset: str, tmp_path: Path
) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    assert fs.info(path)["size"] == SIZE
    since = store.remote.position()
    fs.get_file(path, str(target))
    assert target.read_bytes() == pattern_bytes(SEED, 0, SIZE)
    sent = gets(store, since)
    assert len(sent) == RANGES
    assert sum(request["bytes_sent"] for request in sent) == SIZE
    assert is_alone(target)


@pytest.mark.claim("S410")
def test_what_memory_has_is_not_fetched_again(
    fs: Any, store: Emulator, asset: str, tmp_path: Path
) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    fs.cat_ranges([path] * 2, [0, 9 * MIB], [MIB, 10 * MIB])
    since = store.remote.position()
    fs.get_file(path, str(target))
    assert target.read_bytes() == pattern_bytes(SEED, 0, SIZE)
    assert sum(request["bytes_sent"] for request in gets(store, since)) == SIZE - 2 * MIB


def test_progress_is_told_and_adds_up(fs: Any, asset: str, tmp_path: Path) -> None:
    from fsspec.callbacks import Callback

    callback = Callback()
    fs.get_file(f"assets/{asset}", str(tmp_path / "copy"), callback=callback)
    assert callback.size == callback.value == SIZE


@pytest.mark.claim("S411")
@pytest.mark.parametrize(
    "switches",
    [
        {"cut_body_at": MIB, "fail_next": 3},
        {"short_body": 1000, "fail_next": 3},
        {"too_long_body": 5000, "fail_next": 3},
        {"fail_status": 503, "fail_next": 3},
        {"reset_before_headers": True, "fail_next": 3},
        {"wrong_content_range": True, "fail_next": 2},
        {"expired_link": True, "fail_plane": "api", "fail_next": 1},
    ],
    ids=lambda switches: next(iter(switches)),
)
def test_faults_on_the_way_are_not_seen(
    fs: Any, store: Emulator, asset: str, tmp_path: Path, switches: dict[str, Any]
) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    fs.info(path)
    store.remote.faults(**{"fail_plane": "store", **switches})
    fs.get_file(path, str(target))
    assert target.read_bytes() == pattern_bytes(SEED, 0, SIZE)
    assert is_alone(target)


@pytest.mark.claim("S411")
def test_bytes_of_a_broken_answer_are_not_fetched_again(
    fs: Any, store: Emulator, asset: str, tmp_path: Path
) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    fs.info(path)
    store.remote.faults(fail_plane="store", short_body=1000, fail_next=3)
    since = store.remote.position()
    fs.get_file(path, str(target))
    assert target.read_bytes() == pattern_bytes(SEED, 0, SIZE)
    assert sum(request["bytes_sent"] for request in gets(store, since)) == SIZE


@pytest.mark.claim("S411")
@pytest.mark.parametrize("switches", [{"other_etag": True, "fail_skip": 2}, {"fail_status": 404}])
def test_a_file_that_changes_or_goes_leaves_what_was_there(
    fs: Any, store: Emulator, asset: str, tmp_path: Path, switches: dict[str, Any]
) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    target.write_text("before")
    fs.info(path)
    store.remote.faults(fail_plane="store", **switches)
    with pytest.raises(OSError, match=r"copied\.bin|version"):
        fs.get_file(path, str(target))
    assert target.read_text() == "before"
    assert is_alone(target)


@pytest.mark.claim("S411")
def test_an_interrupted_copy_leaves_what_was_there(
    fs: Any, store: Emulator, asset: str, tmp_path: Path
) -> None:
    from fsspec.callbacks import Callback

    class Stop(Callback):  # type: ignore[misc]  # fsspec has no types
        def relative_update(self, inc: int = 1) -> None:
            raise KeyboardInterrupt

    target, before = tmp_path / "copy", store.remote.faults()
    target.write_text("before")
    # No copy can end before it is interrupted.
    store.remote.faults(fail_plane="store", stall_body_at=MIB, stall_s=60)
    with pytest.raises(KeyboardInterrupt):
        fs.get_file(f"assets/{asset}", str(target), callback=Stop())
    assert target.read_text() == "before"
    assert is_alone(target)
    store.remote.faults(**before)
    fs.get_file(f"assets/{asset}", str(target))  # the engine goes on
    assert target.read_bytes() == pattern_bytes(SEED, 0, SIZE)


FULL = """
import errno, os, pickle, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, 10 << 20))
fs, path, target = pickle.load(sys.stdin.buffer)
try:
    fs.get_file(path, target)
except OSError as error:
    print(errno.errorcode[error.errno], os.listdir(os.path.dirname(target)))
"""


def test_a_disk_that_takes_no_more_is_an_error_of_the_disk(
    fs: Any, store: Emulator, asset: str, tmp_path: Path
) -> None:
    given = pickle.dumps((fs, f"assets/{asset}", str(tmp_path / "copy")))
    done = subprocess.run(
        [sys.executable, "-c", FULL], input=given, env=environ(store.env),
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.decode().split(maxsplit=1) == ["EFBIG", "[]\n"], done.stderr.decode()


def test_old_facts_are_looked_up_again(
    fs: Any, store: Emulator, asset: str, tmp_path: Path
) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    fs.cat_file(path, 0, 10)
    packed = pickle.dumps(fs)
    store.remote.storage("replace_object", id=asset, size=SIZE + 1000, seed=2)
    up42fs.FileSystem.clear_instance_cache()
    worker = pickle.loads(packed)
    forget_engines()
    worker.get_file(path, str(target))
    assert target.read_bytes() == pattern_bytes(2, 0, SIZE + 1000)


def forget_engines() -> None:
    """As in another process: what this one's engines know is gone."""
    from up42fs.library import runner

    for each in list(runner._runners.values()):
        each.end()
    runner._runners.clear()


def _copy(fs: Any, path: str, target: str) -> None:
    fs.get_file(path, target)


def test_a_forked_process_copies_by_itself(fs: Any, asset: str, tmp_path: Path) -> None:
    path, target = f"assets/{asset}", tmp_path / "copy"
    fs.info(path)
    child = multiprocessing.get_context("fork").Process(target=_copy, args=(fs, path, str(target)))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert target.read_bytes() == pattern_bytes(SEED, 0, SIZE)


def test_no_descriptor_is_left(fs: Any, asset: str, tmp_path: Path) -> None:
    def opened() -> list[str]:
        places = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        found = [os.readlink(place) for place in places if os.path.islink(place)]
        return [name for name in found if "up42fs-part" in name or "copy" in name]

    fs.get_file(f"assets/{asset}", str(tmp_path / "copy"))
    gc.collect()
    assert opened() == []

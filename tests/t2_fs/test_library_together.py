"""Several processes with `up42fs.FileSystem` on one host: one catalogue, read once for all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Emulator, emulator, environ

pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")

LISTINGS = {"assets.list", "orders.list"}
WORKER = """
import json, sys
import up42fs
fs = up42fs.FileSystem(cache_dir=sys.argv[1], mount="never", refresh=3600)
import up42fs.engine
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("forget"):
        from up42fs.library import runner
        (one,) = runner._runners.values()
        async def forget(engine):
            engine.sync.refresh_now()
        one.call(forget)
    print(json.dumps(sorted(fs.ls("assets", detail=False))), flush=True)
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "300,5,2,0") as running:
        yield running


class Worker:
    """A process with a file system."""

    def __init__(self, store: Emulator, cache: Path) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", WORKER, str(cache)]
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environ(store.env)
        )

    def said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the worker died"
        return line.strip()

    def go(self, word: str = "list") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def names(self) -> list[str]:
        found: list[str] = json.loads(self.said())
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def workers(store: Emulator, tmp_path: Path) -> Iterator[list[Worker]]:
    made = [Worker(store, tmp_path / "cache") for _ in range(3)]
    try:
        for one in made:
            assert one.said() == "ready"
        yield made
    finally:
        for one in made:
            one.end()


def listings(store: Emulator, since: int) -> int:
    return sum(n for route, n in store.requests(since).items() if route in LISTINGS)


@pytest.mark.claim("S371")
def test_workers_that_list_at_once_cost_one_listing_and_later_ones_none(
    store: Emulator, workers: list[Worker]
) -> None:
    since = store.remote.position()
    for one in workers:
        one.go()
    found = [one.names() for one in workers]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) >= 300
    # 300 assets and 5 orders, by pages of 100 at least; three processes would need three times
    # that. Nobody knows the number of pages before the first answer.
    alone = listings(store, since)
    assert alone <= 8, store.requests(since)
    # A refresh that is asked for is carried out once, and another one sees what it brought.
    store.remote.storage("add_asset", name="late.bin", size=10, seed=1)
    workers[0].go("forget")
    assert "assets/late.bin" in workers[0].names()
    since = store.remote.position()
    for one in workers:
        one.go()
        one.names()
    assert listings(store, since) == 0


@pytest.mark.claim("S371")
def test_a_later_process_takes_over_what_is_stored(
    store: Emulator, workers: list[Worker], tmp_path: Path
) -> None:
    workers[0].go()
    names = workers[0].names()
    since = store.remote.position()
    late = Worker(store, tmp_path / "cache")
    try:
        assert late.said() == "ready"
        assert store.requests(since) == {}
        late.go()
        assert late.names() == names
        assert store.requests(since) == {}
    finally:
        late.end()

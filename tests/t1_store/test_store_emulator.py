"""The whole engine, libcurl and signing included, against the emulator and its fault switches."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from store_script import pattern

from up42fs.api.auth import Credentials, TokenSource
from up42fs.api.client import Client
from up42fs.api.network import make_http
from up42fs.emulator import EmulatorSettings, Remote, serve
from up42fs.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidAnswer,
    Unavailable,
    Up42fsError,
    VersionChanged,
)
from up42fs.metrics import Metrics
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import StoredObject
from up42fs.store.settings import StoreSettings
from up42fs.store.store import FileStore
from up42fs.types import Version

KIB, MIB = 1 << 10, 1 << 20
DATA = pattern(6 * MIB + 1234)
SMALL = pattern(300 * KIB, seed=3)


@dataclass
class Bench:
    """A running emulator with two objects, and a file store on it."""

    files: FileStore
    metrics: Metrics
    remote: Remote
    ids: dict[str, str]
    versions: list[tuple[str, Version | None]]

    def open(self, name: str = "scene.tif", size: int | None = None) -> OpenFile:
        real = {"scene.tif": len(DATA), "small.xml": len(SMALL)}[name]
        return self.files.open(StoredObject(self.ids[name], real if size is None else size, name))

    async def control(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """The control client blocks; it must not block the emulator beside it."""
        return await trio.to_thread.run_sync(partial(work, *args, **kwargs))

    async def strike(self, **switches: Any) -> None:
        await self.control(self.remote.faults, fail_plane="store", **switches)

    async def log(self) -> list[dict[str, Any]]:
        """The requests that the object store saw."""
        log: list[dict[str, Any]] = await self.control(self.remote.log, plane="store")
        return log


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[Bench]:
    data = tmp_path / "data"
    data.mkdir()
    (data / "scene.tif").write_bytes(DATA)
    (data / "small.xml").write_bytes(SMALL)
    versions: list[tuple[str, Version | None]] = []
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(serve, EmulatorSettings(data_dir=data))
        remote = Remote(urls.control_url)
        summary = await trio.to_thread.run_sync(remote.storage)
        ids = {asset["name"]: asset["id"] for asset in summary["assets"]}
        metrics = Metrics()
        async with make_http() as http:
            credentials = Credentials("demo@up42fs.example", "demo")
            tokens = TokenSource(http, urls.auth_url, credentials, metrics=metrics)
            client = Client(http, tokens, urls.api_url, metrics=metrics)
            files = FileStore(
                nursery,
                client.sign,
                StoreSettings(**settings),
                metrics,
                on_version=lambda object_id, version: versions.append((object_id, version)),
            )
            with trio.fail_after(60):
                yield Bench(files, metrics, remote, ids, versions)
                await files.aclose()
        nursery.cancel_scope.cancel()


async def whole(handle: OpenFile, step: int = 128 * KIB) -> bytes:
    got = bytearray()
    while piece := await handle.read(len(got), step):
        got += piece
    return bytes(got)


async def test_head_and_tail_of_a_cold_file(tmp_path: Path) -> None:
    async with running(tmp_path) as b:
        for _ in range(2):
            handle = b.open()
            assert await handle.read(0, 16 * KIB) == DATA[: 16 * KIB]
            assert await handle.read(len(DATA) - 4 * KIB, 4 * KIB) == DATA[-4 * KIB :]
            handle.close()
        assert len(await b.log()) == 2
        assert b.metrics["store.signs"] == 1
        assert handle.version is not None
        assert handle.version.etag


async def test_whole_files_ask_each_byte_once(tmp_path: Path) -> None:
    # The emulator, as Google, refuses links with headers that were not signed: 206 proves us clean.
    async with running(tmp_path) as b:
        assert await whole(b.open()) == DATA
        assert await whole(b.open("small.xml")) == SMALL
        asked = 0
        for entry in await b.log():
            assert entry["status"] == 206
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", entry["range"])
            assert match
            asked += int(match[2]) + 1 - int(match[1])
        assert asked == len(DATA) + len(SMALL)
        assert b.metrics["store.bytes_asked"] == asked
        assert b.metrics["store.signs"] == 2


@pytest.mark.parametrize(
    "switches",
    [
        {"fail_status": 503},
        {"fail_status": 429, "retry_after": "1"},
        {"reset_before_headers": True},
        {"cut_body_at": 50_000},
        {"short_body": 10},
        {"too_long_body": 100},
        {"wrong_content_range": True},
        {"ignore_range": True},
        {"bad_content_type": True},
        {"stall_body_at": 10_000, "stall_s": 1.0},
    ],
    ids=lambda switches: next(iter(switches)),
)
async def test_passing_faults_are_not_seen(tmp_path: Path, switches: dict[str, Any]) -> None:
    async with running(tmp_path) as b:
        await b.strike(fail_next=3, fail_share=0.7, **switches)
        assert await whole(b.open()) == DATA
        assert b.versions == []


@pytest.mark.parametrize(
    ("switches", "error", "words"),
    [
        ({"fail_status": 503}, Unavailable, "503"),
        ({"wrong_content_range": True}, InvalidAnswer, "cannot be right"),
        ({"stall_before_headers_s": 20.0}, DeadlineExceeded, "did not come within 2 s"),
        ({"fail_status": 403}, AccessDenied, "403"),
        ({"other_etag": True}, VersionChanged, "another version"),
        ({"wrong_total": True}, VersionChanged, "another version"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_lasting_faults_end_in_honest_errors(
    tmp_path: Path, switches: dict[str, Any], error: type[Up42fsError], words: str
) -> None:
    async with running(tmp_path, read_deadline_s=2.0) as b:
        handle = b.open()
        assert await handle.read(0, 10) == DATA[:10]
        await b.strike(fail_next=None, **switches)
        with trio.fail_after(8), pytest.raises(error, match=words) as caught:
            await handle.read(4 * MIB, 10)
        assert "scene.tif" in str(caught.value)
        assert "Signature" not in str(caught.value)


async def test_links_that_live_two_seconds_are_renewed(tmp_path: Path) -> None:
    """Each read comes after the end of the link before it, and gets a new one before it is refused.

    `Expires` counts whole seconds, so a link may end a second before its reader expects it, and a
    loaded machine may send a request too late: then the link is refused and one more is signed.
    """
    reads = 4
    async with running(tmp_path) as b:
        await b.control(b.remote.faults, link_life_s=2.0)
        handle = b.open()
        for number in range(reads):
            await trio.sleep(2.1 if number else 0)
            offset = 2 * number * MIB
            assert await handle.read(offset, 1000) == DATA[offset : offset + 1000]
        refused = [e for e in await b.log() if e["status"] >= 400]
        assert b.metrics["store.signs"] - len(refused) >= reads


async def test_gzip_stored_objects(tmp_path: Path) -> None:
    async with running(tmp_path) as b:
        await b.control(b.remote.faults, gzip_objects=True)
        assert await whole(b.open("small.xml")) == SMALL  # proved by its length
        assert await b.open().read(4 * MIB, 10) == DATA[4 * MIB : 4 * MIB + 10]


async def test_a_redelivered_object(tmp_path: Path) -> None:
    async with running(tmp_path) as b:
        handle = b.open()
        assert await handle.read(0, 10) == DATA[:10]
        await b.control(
            b.remote.storage, "replace_object", id=b.ids["scene.tif"], size=5 * MIB, seed=9
        )
        with pytest.raises(VersionChanged):
            await handle.read(4 * MIB, 10)
        with pytest.raises(VersionChanged):
            await handle.read(0, 10)
        ((object_id, version),) = b.versions
        assert version is not None
        assert (object_id, version.size) == (b.ids["scene.tif"], 5 * MIB)
        fresh = b.open(size=version.size)
        assert len(await whole(fresh)) == 5 * MIB


async def test_waking_from_sleep(tmp_path: Path) -> None:
    async with running(tmp_path) as b:
        handle = b.open()
        await handle.read(0, 10)
        await b.strike(stall_body_at=1000, stall_s=30.0, fail_next=1)

        async def wake() -> None:
            await trio.sleep(0.5)
            b.files.suspend()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wake)
            with trio.fail_after(5):
                assert await handle.read(4 * MIB, 10_000) == DATA[4 * MIB : 4 * MIB + 10_000]
        assert b.metrics["store.signs"] == 2

"""The engine without FUSE, against an emulator: paths in; bytes, attributes and listings out."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from harness import Emulator, emulator
from hypothesis import given
from hypothesis import strategies as st

from up42fs.catalog.index import ListingKind
from up42fs.config.settings import Settings, resolve
from up42fs.emulator.content import pattern_bytes
from up42fs.engine import Engine
from up42fs.engine.paths import parts_of
from up42fs.errors import (
    InvalidArgument,
    IsADirectory,
    NoAttribute,
    NotADirectory,
    NotFound,
    Offline,
)
from up42fs.fs.tree.nodes import Attributes

SIZE = 3_000_000
SEED = 11


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "6,2,2,2") as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED, tags=["köln"])
        yield running


def settings_of(store: Emulator, **arguments: str) -> Settings:
    return resolve(arguments=arguments, mount_options={}, environ=store.env, file={})


@asynccontextmanager
async def engine_of(store: Emulator, cache: Path, **arguments: str) -> AsyncIterator[Engine]:
    settings = settings_of(store, cache_dir=str(cache), **arguments)
    with trio.fail_after(60):
        async with Engine.open(settings) as engine:
            yield engine


def names(engine_entries: list) -> set[str]:
    return {entry.name for entry in engine_entries}


async def test_paths_in_bytes_attributes_and_listings_out(store: Emulator, tmp_path: Path) -> None:
    async with engine_of(store, tmp_path) as engine:
        assert {"orders", "tags", "cnam", "assets"} <= names(await engine.entries("/"))
        listed = {entry.name: entry for entry in await engine.entries("/tags/köln")}
        assert list(listed) == ["big.bin"]
        assert not listed["big.bin"].is_dir
        found = await engine.stat("/tags/köln/big.bin")
        assert (found.inode, found.size) == (listed["big.bin"].inode, SIZE)
        assert stat.S_ISREG(found.mode)
        async with engine.opened("/tags/köln/big.bin") as file:
            assert file.size == SIZE
            expected = pattern_bytes(SEED, 0, SIZE)
            for offset, size in ((0, 16), (SIZE - 5, 100), (1_234_567, 1_000_000)):
                assert bytes(await file.read(offset, size)) == expected[offset:][:size]
            assert bytes(await file.read(SIZE, 10)) == b""
        attributes = await engine.attributes("/tags/köln/big.bin")
        assert attributes["user.up42.tags"] == "köln".encode()
        assert (
            await engine.attribute("/tags/köln/big.bin", "user.up42.id")
            == store.asset("big.bin").encode()
        )


async def test_every_reference_is_given_back(store: Emulator, tmp_path: Path) -> None:
    async with engine_of(store, tmp_path) as engine:
        before = engine.status()["open"]
        for entry in await engine.entries("/assets"):
            await engine.stat(f"/assets/{entry.name}")
        async with engine.opened("/tags/köln/big.bin") as file:
            await file.read(0, 10)
            assert engine.status()["open"] != before
        with pytest.raises(NotFound):
            await engine.stat("/tags/köln/absent")
        assert engine.status()["open"] == before


async def test_a_wrong_path_says_why(store: Emulator, tmp_path: Path) -> None:
    async with engine_of(store, tmp_path) as engine:
        with pytest.raises(NotFound, match="there is no absent"):
            await engine.stat("/absent/x")
        with pytest.raises(NotADirectory):
            await engine.entries("/tags/köln/big.bin")
        with pytest.raises(IsADirectory):
            async with engine.opened("/tags"):
                pass
        with pytest.raises(NoAttribute):
            await engine.attribute("/tags/köln/big.bin", "user.absent")
        for path in ("tags", "", "/tags/../assets"):
            with pytest.raises(InvalidArgument):
                await engine.stat(path)


async def test_what_was_stored_is_shown_while_up42_is_away(tmp_path: Path) -> None:
    with emulator("--synthetic", "6,2,2") as store:
        async with engine_of(store, tmp_path) as engine:
            first = names(await engine.entries("/assets"))
            for part in ListingKind:
                await engine.sync.synced(part)
        settings = settings_of(store, cache_dir=str(tmp_path))
    with trio.fail_after(60):
        async with Engine.open(settings) as engine:
            assert names(await engine.entries("/assets")) == first


async def test_without_an_account_that_answers_it_raises(tmp_path: Path) -> None:
    with emulator() as store:
        settings = settings_of(store, cache_dir=str(tmp_path))
    with pytest.raises(Offline):
        async with Engine.open(settings):
            pass


async def test_titles_can_be_edited_without_a_kernel(store: Emulator, tmp_path: Path) -> None:
    asset = store.remote.storage("add_asset", name="edited.bin", size=10, seed=1)["id"]
    settings = settings_of(store, cache_dir=str(tmp_path), rw="true")
    with trio.fail_after(60):
        async with Engine.open(settings, place=tmp_path / "place") as engine:
            found = await engine.stat(f"/assets/{asset}")
            directory = await engine.filesystem.lookup(1, "assets")
            assert isinstance(directory, Attributes)
            held = await engine.filesystem.lookup(directory.inode, asset)
            assert isinstance(held, Attributes)
            await engine.writing.setxattr(held.inode, "user.up42.title", b"Neu")
            assert found.inode == held.inode
            title = await engine.attribute(f"/assets/{asset}", "user.up42.title")
            assert title == b"Neu"


@pytest.mark.parametrize("error", [KeyError, NotFound])
async def test_an_error_of_the_body_leaves_as_it_is(
    store: Emulator, tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        async with Engine.open(settings_of(store, cache_dir=str(tmp_path))):
            raise error("of the caller")


async def test_the_work_starts_once(store: Emulator, tmp_path: Path) -> None:
    settings = settings_of(store, cache_dir=str(tmp_path))

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    async with Engine.open(settings, starts=False) as engine:
        before = tasks()
        engine.start()
        started = tasks()
        assert started > before
        engine.start()
        assert tasks() == started
    await trio.testing.wait_all_tasks_blocked()
    ended = tasks()
    engine.start()
    assert tasks() == ended


async def test_two_engines_of_one_account_share_what_is_kept(
    store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshot, disk cache, budget, sidecars and locks of edits, all in one process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    asset = store.remote.storage("add_asset", name="both.bin", size=SIZE, seed=SEED)["id"]
    edited = store.remote.storage("add_asset", name="retitled.bin", size=10, seed=1)["id"]
    path, title, tags = f"/assets/{asset}", "user.up42.title", "user.up42.tags"
    arguments = {"rw": "true", "sidecars": "true", "max_egress": "1G/24h"}
    cache = tmp_path / "cache"
    expected = pattern_bytes(SEED, 0, SIZE)

    async def read(engine: Engine) -> None:
        async with engine.opened(path) as file:
            for offset in range(0, SIZE, 500_000):
                assert bytes(await file.read(offset, 500_000)) == expected[offset:][:500_000]

    async def edit(engine: Engine, name: str, value: str) -> None:
        inode = 1
        for part in ("assets", edited):
            found = await engine.filesystem.lookup(inode, part)
            assert isinstance(found, Attributes)
            inode = found.inode
        await engine.writing.setxattr(inode, name, value.encode())

    async with (
        engine_of(store, cache, **arguments) as one,
        engine_of(store, cache, **arguments) as other,
    ):
        async with trio.open_nursery() as nursery:
            for engine in (one, other, one, other):
                nursery.start_soon(read, engine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edit, one, title, "of one")
            nursery.start_soon(edit, other, tags, "of-other")
        for engine in (one, other):
            disk = engine.status()["disk_cache"]
            assert isinstance(disk, dict)
            assert disk["off_because"] is None
    row = next(row for row in store.remote.storage()["assets"] if row["id"] == edited)
    assert (row["title"], row["tags"]) == ("of one", ["of-other"])
    async with engine_of(store, cache, **arguments) as later:
        await read(later)
        assert later.metrics.snapshot().get("store.bytes_fetched", 0) == 0
        budget = later.status()["egress"]
        assert isinstance(budget, dict)
        assert 0 < budget["left_bytes"] <= (1 << 30) - SIZE


def test_an_engine_runs_in_a_thread_of_a_program_that_has_its_own_loop(
    store: Emulator, tmp_path: Path
) -> None:
    async def inner() -> bytes:
        async with (
            engine_of(store, tmp_path) as engine,
            engine.opened("/tags/köln/big.bin") as file,
        ):
            return bytes(await file.read(5, 7))

    async def outer() -> bytes:
        return await trio.to_thread.run_sync(trio.run, inner)

    assert trio.run(outer) == pattern_bytes(SEED, 5, 7)


@given(st.lists(st.text(st.characters(exclude_characters="/", codec="utf-8"), max_size=5)))
def test_a_path_is_its_parts(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    kept = [part for part in parts if part not in ("", ".")]
    if ".." in kept:
        with pytest.raises(InvalidArgument):
            parts_of(path)
    else:
        assert parts_of(path) == kept
        assert os.path.normpath("/" + "/".join(kept)) == "/" + "/".join(kept)

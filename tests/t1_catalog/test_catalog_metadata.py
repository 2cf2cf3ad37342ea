"""Title and tags read and written where UP42 keeps them, against the emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from up42fs.api.auth import Credentials, TokenSource
from up42fs.api.client import Client
from up42fs.api.network import make_http
from up42fs.catalog.metadata import AssetMetadata
from up42fs.emulator import EmulatedAccount, EmulatorSettings, Faults, Remote, Storage, serve
from up42fs.emulator.content import BytesContent
from up42fs.emulator.storage import Collection, EmulatedAsset, Item, StacFile, stable_id
from up42fs.errors import NotFound, Unavailable
from up42fs.metrics import Metrics
from up42fs.model.intentions import Edit, Metadata

ONE, STEREO, BARE = stable_id("one"), stable_id("stereo"), stable_id("bare")


def storage() -> Storage:
    """An asset with one item, one with two, one that STAC does not know."""
    account = EmulatedAccount("demo@up42fs.example", "demo")
    found = Storage(account)
    for id_, items in ((ONE, 1), (STEREO, 2), (BARE, 0)):
        name = f"{id_[:8]}.zip"
        asset = EmulatedAsset(
            id_, 10**15, 10**15, account.workspace_id, account.account_id, name=name,
            tags=["a", "b"],
        )  # fmt: skip
        found.put_asset(asset, BytesContent(b"data"))
        collection = stable_id(f"collection {id_}")
        rows = [
            Item(stable_id(f"item {id_} {n}"), collection, f"SCENE {n}", 10**15,
                 (10.0, 50.0, 11.0, 51.0), (StacFile(name, id_, "application/zip"),))
            for n in range(items)
        ]  # fmt: skip
        if rows:
            found.put_collection(Collection(collection, id_, "SCENE", 10**15, rows))
    return found


@asynccontextmanager
async def metadata(by_stac: bool) -> AsyncIterator[tuple[AssetMetadata, Remote]]:
    settings = EmulatorSettings(faults=Faults(assets_gone=404) if by_stac else Faults())
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(serve, settings, storage())
        metrics = Metrics()
        async with make_http() as http:
            credentials = Credentials(settings.username, settings.password)
            tokens = TokenSource(http, urls.auth_url, credentials, metrics=metrics)
            client = Client(http, tokens, urls.api_url, metrics=metrics)
            yield AssetMetadata(client, lambda: by_stac), Remote(urls.control_url)
        nursery.cancel_scope.cancel()


async def routes(remote: Remote, since: int = 0) -> list[str]:
    log = await trio.to_thread.run_sync(remote.log, since)
    return [request["route"] for request in log if request["plane"] == "api"]


@pytest.mark.parametrize("by_stac", [False, True], ids=["listed", "stac"])
@pytest.mark.parametrize("asset_id", [ONE, STEREO], ids=["one item", "two items"])
async def test_edits_of_both_places(by_stac: bool, asset_id: str) -> None:
    async with metadata(by_stac) as (place, _):
        fresh = await place.read(asset_id)
        assert fresh.metadata == Metadata(None, ("a", "b"))
        assert fresh.timed is not by_stac
        for edit in (
            Edit(title="New"),
            Edit(add=("c",), remove=frozenset({"a"})),
            Edit(title=f"{asset_id[:8]}.zip"),  # what it is called anyway
            Edit(title=None, add=("d",)),
        ):
            wanted = edit.applied(fresh.metadata)
            answer = await place.write(fresh, wanted)
            assert answer.metadata == wanted
            assert answer.asset.updated_at > fresh.asset.updated_at
            assert answer.asset.created_at == fresh.asset.created_at
            fresh = await place.read(asset_id)
            assert fresh.asset.tags == wanted.tags


@pytest.mark.claim("S166")
@pytest.mark.parametrize("half_edit", ["kept", "cleared", "refused"])
@pytest.mark.parametrize("by_stac", [False, True], ids=["listed", "stac"])
async def test_title_and_tags_are_sent_together(by_stac: bool, half_edit: str) -> None:
    async with metadata(by_stac) as (place, remote):
        await trio.to_thread.run_sync(lambda: remote.faults(half_edit=half_edit))
        for asset_id in (ONE, STEREO):
            fresh = await place.read(asset_id)
            answer = await place.write(fresh, Metadata("mine", fresh.metadata.tags))
            assert answer.metadata == Metadata("mine", ("a", "b"))
            answer = await place.write(answer, Metadata("mine", ("c",)))
            assert answer.metadata == Metadata("mine", ("c",))
            assert (await place.read(asset_id)).metadata == answer.metadata


async def test_one_request_reads_and_one_writes() -> None:
    async with metadata(by_stac=False) as (place, remote):
        fresh = await place.read(ONE)
        await place.write(fresh, Metadata(None, ("c",)))
        assert await routes(remote) == ["assets.metadata", "assets.update"]


async def test_stac_writes_every_item_and_looks_after_it() -> None:
    async with metadata(by_stac=True) as (place, remote):
        fresh = await place.read(STEREO)
        asked = await routes(remote)
        assert asked == ["stac.search", "stac.collection"]
        await place.write(fresh, Metadata("x", ()))
        made = (await routes(remote))[len(asked) :]
        assert made == ["stac.update", "stac.update", "stac.search", "stac.collection"]


@pytest.mark.parametrize("by_stac", [False, True], ids=["listed", "stac"])
async def test_what_is_not_there(by_stac: bool) -> None:
    async with metadata(by_stac) as (place, remote):
        with pytest.raises(NotFound):
            await place.read(stable_id("nothing"))
        if by_stac:
            with pytest.raises(NotFound, match=BARE):
                await place.read(BARE)
        fresh = await place.read(ONE)
        await trio.to_thread.run_sync(lambda: remote.faults(reset_before_headers=True))
        with pytest.raises(Unavailable):
            await place.write(fresh, Metadata("x", ()))

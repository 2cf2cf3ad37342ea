"""`stac/`: asked as it is walked, named once, and a catalogue that pystac opens from a copy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pystac
import pytest
from fs_support import World
from stac_support import API, Stac, collection_of, done, dump, file_id, item_of, read, stac_world
from strategies import at, make_asset
from transformed_support import validate, walk

from up42fs.api.schema import parse_collection, parse_item
from up42fs.errors import Offline
from up42fs.fs.tree.layout import BRANCH_TTL_S
from up42fs.fs.tree.nodes import Absent, Attributes
from up42fs.model.stac import StacCollection, StacItem

RESPONSES = Path(
    os.environ.get("UP42FS_TEST_RESPONSES")
    or Path(__file__).parents[2].parent / "shared" / "api" / "responses"
)
ONE, TWO, BARE = done(1, name="one.zip"), done(2, name="two.zip"), make_asset(3, name="bare.zip")
COLLECTIONS = tuple(collection_of(asset) for asset in (BARE, TWO, ONE))  # newest first
OWN = {"data": f"{API}/v2/assets/{BARE.id}"}
ITEMS = (
    item_of(ONE, 1, ("b02.tiff", "metadata.xml")),
    item_of(TWO, 2),
    item_of(TWO, 3),
    item_of(BARE, 4, ("data",), hrefs=OWN),
)
ASK_ITEMS = [f"items collection-{asset.id[:8]}" for asset in (ONE, TWO, BARE)]


@pytest.fixture
def stac() -> Stac:
    return Stac(ITEMS, COLLECTIONS)


@pytest.fixture
def world(stac: Stac) -> World:
    world = stac_world(stac, ONE, TWO, BARE)
    world.files.sizes = {file_id(i, n): 40 + i + n for i in range(9) for n in range(9)}
    return world


async def test_nothing_is_asked_before_somebody_looks(world: World, stac: Stac) -> None:
    assert "stac" in await world.list()
    await world.fs.getattr(await world.walk("stac"))
    assert not stac.asked
    names = await world.list("stac")
    assert names == [
        "catalog.json", "delivery of one.zip", "delivery of two.zip", "delivery of bare.zip",
    ]  # fmt: skip
    await read(world, "stac/catalog.json")
    await world.walk("stac/delivery of two.zip")
    assert set(stac.asked) == {"collections"}
    assert await world.list("stac/delivery of two.zip") == [
        "collection.json", "scene 2", "scene 3",
    ]  # fmt: skip
    await world.list("stac/delivery of two.zip/scene 3")
    await read(world, "stac/delivery of two.zip/scene 3/scene 3.json")
    assert set(stac.asked) == {"collections", ASK_ITEMS[1]}
    assert stac.asked[ASK_ITEMS[1]] == 1
    assert not world.files.probed


async def test_pystac_walks_a_copy(world: World, tmp_path: Path) -> None:
    await dump(world, "stac", tmp_path / "stac")
    found = walk(tmp_path / "stac/catalog.json")
    assert {item: set(files) for item, files in found.items()} == {
        "item-1": {"b02.tiff", "metadata.xml"},
        "item-2": {"b02.tiff"},
        "item-3": {"b02.tiff"},
        "item-4": {"data"},
    }
    documents = set((tmp_path / "stac").rglob("*.json"))
    files = {path for each in found.values() for path in each.values()}
    everything = {path for path in (tmp_path / "stac").rglob("*") if path.is_file()}
    assert files == everything - documents


async def test_files_are_the_ones_in_assets(world: World) -> None:
    file = await world.walk("stac/delivery of one.zip/scene 1/b02.tiff")
    assert file == await world.walk("assets/one/b02.tiff")
    archive = await world.walk("stac/delivery of bare.zip/scene 4/data.tif")
    assert archive == await world.walk("assets/bare.zip")


async def test_ids_are_names_too(world: World) -> None:
    collection, item = f"collection-{TWO.id[:8]}", "item-2"
    by_id = await world.walk(f"stac/{collection}/{item}")
    assert by_id != await world.walk("stac/delivery of two.zip/scene 2")  # a directory per place
    assert await world.list(f"stac/{collection}/{item}") == ["scene 2.json", "b02.tiff"]
    stac = await world.walk("stac")
    found = await world.fs.lookup(stac, collection)
    assert isinstance(found, Attributes)
    assert found.ttl_s == 0
    assert await world.fs.lookup(stac, "missing") == Absent(BRANCH_TTL_S)
    assert await world.fs.lookup(stac, "..") == Absent(BRANCH_TTL_S)


async def test_links_are_counted_where_they_are_known(world: World) -> None:
    async def links(path: str) -> int:
        return (await world.fs.getattr(await world.walk(path))).nlink

    assert await links("stac") == 1
    await world.list("stac")
    assert await links("stac") == 2 + 3
    assert await links("stac/delivery of two.zip") == 1
    await world.list("stac/delivery of two.zip")
    assert await links("stac/delivery of two.zip") == 2 + 2
    assert await links("stac/delivery of two.zip/scene 2") == 2


async def test_what_changed_is_shown_at_the_next_look(world: World, stac: Stac) -> None:
    await world.list("stac/delivery of two.zip")
    stac.put(*ITEMS, item_of(TWO, 5))
    stac.listed = (collection_of(done(9, name="nine.zip")), *COLLECTIONS)
    assert "scene 5" in await world.list("stac/delivery of two.zip")
    assert "delivery of nine.zip" in await world.list("stac")
    document = json.loads(await read(world, "stac/delivery of two.zip/collection.json"))
    assert len([link for link in document["links"] if link["rel"] == "item"]) == 3
    stac.listed = COLLECTIONS[2:]
    assert await world.list("stac") == ["catalog.json", "delivery of one.zip"]
    stac.listed = ()
    assert await world.list("stac") == ["catalog.json"]


async def test_a_failure_is_told_and_what_is_known_stays(world: World, stac: Stac) -> None:
    await world.list("stac")
    stac.fail["items"] = Offline("no network")
    inode = await world.walk("stac/delivery of one.zip")
    with pytest.raises(Offline):
        await world.fs.opendir(inode)
    assert len(await world.list("stac")) == 4
    stac.fail.clear()
    assert "scene 1" in await world.list("stac/delivery of one.zip")


async def test_equal_titles_keep_their_names_when_newer_arrive(stac: Stac) -> None:
    older, newer = collection_of(ONE, title="same"), collection_of(TWO, title="same")
    stac.listed = (older,)
    world = stac_world(stac, ONE, TWO)
    assert await world.list("stac") == ["catalog.json", "same"]
    same = await world.walk("stac/same")
    stac.listed = (newer, older)
    assert len(await world.list("stac")) == 3
    assert await world.walk("stac/same") == same


async def test_an_item_has_its_own_times_and_a_gone_one_is_gone(world: World, stac: Stac) -> None:
    inode = await world.walk("stac/delivery of two.zip/scene 3")
    assert (await world.fs.getattr(inode)).mtime_ns == int(at(3).timestamp()) * 10**9
    stac.put(*ITEMS[:2])
    await world.list("stac/delivery of two.zip")
    found = await world.fs.lookup(await world.walk("stac/delivery of two.zip"), "scene 3")
    assert isinstance(found, Absent)


@pytest.mark.skipif(
    not RESPONSES.is_dir(), reason=f"no responses at {RESPONSES} (UP42FS_TEST_RESPONSES)"
)
async def test_what_up42_really_sent_is_such_a_tree(tmp_path: Path) -> None:
    items: dict[str, StacItem] = {}
    collections: dict[str, StacCollection] = {}
    for path in sorted(RESPONSES.glob("*stac*.json")):
        answer: dict[str, Any] = json.loads(path.read_text())
        for row in answer.get("features", [answer] if answer.get("type") == "Feature" else []):
            item = parse_item(row, API)
            assert item is not None
            items[item.id] = item
        for row in answer.get("collections", []):
            collection = parse_collection(row, API)
            assert collection is not None
            collections[collection.id] = collection
    for item in items.values():
        assert item.collection_id is not None
        bare = StacCollection(item.collection_id, item.asset_id)
        collections.setdefault(item.collection_id, bare)
    ids = {item.asset_id for item in items.values() if item.asset_id}
    assets = [done(n, id=id_, name=f"{n}.zip") for n, id_ in enumerate(sorted(ids))]
    world = stac_world(Stac(tuple(items.values()), tuple(collections.values())), *assets)
    await dump(world, "stac", tmp_path / "stac")
    found = walk(tmp_path / "stac/catalog.json")
    assert len(found) >= 20
    for id_, item in items.items():
        assert found[id_].keys() == {asset.key for asset in item.assets if asset.asset_id}
    assert sum(len(files) for files in found.values()) >= 40
    for files in found.values():
        assert all(path.is_file() and path.is_relative_to(tmp_path) for path in files.values())
    names = (await world.list("assets"))[1::2]
    transformed = 0
    for name in names:
        await dump(world, f"assets/{name}", tmp_path / name)
        for document in (tmp_path / name).rglob("item.json"):
            validate_alone(document)
            transformed += 1
    assert transformed == len(items)


def validate_alone(document: Path) -> None:
    validate(json.loads(document.read_text()))
    item = pystac.Item.from_file(str(document))
    for asset in item.assets.values():
        assert Path(str(asset.get_absolute_href())).is_file()

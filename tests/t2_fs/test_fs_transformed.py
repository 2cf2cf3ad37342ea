"""An asset's directory: its files by item, what they say of themselves, how they come and go."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import trio
from fs_support import World, at_once
from stac_support import Stac, done, file_id, item_of, read, stac_world
from strategies import at, make_asset, make_order
from trio.testing import MockClock

from up42fs.errors import DeadlineExceeded, NoAttribute, Unavailable, VersionChanged
from up42fs.fs.filesystem import KERNEL_TTL_S
from up42fs.fs.tree.layout import BRANCH_TTL_S
from up42fs.fs.tree.nodes import Absent, Attributes
from up42fs.model.stac import StacItem
from up42fs.net.silence import BRIEFLY_S
from up42fs.types import Asset, CnamStatus

ORDER = make_order(1, display_name="Munich")
ONE = done(1, name="one.zip", order_id=ORDER.id, tags=("t", "u"))
TWO = done(2, name="two.zip")
KEYS = ("b02.tiff", "metadata.xml")


@pytest.fixture
def stac() -> Stac:
    return Stac((item_of(ONE, 1, KEYS), item_of(TWO, 2), item_of(TWO, 3, KEYS)))


@pytest.fixture
def world(stac: Stac) -> World:
    world = stac_world(stac, ORDER, ONE, TWO, make_asset(3, name="bare.zip"))
    world.files.sizes = {file_id(i, n): 100 + 10 * i + n for i in range(9) for n in range(9)}
    return world


@pytest.mark.claim("S36")
async def test_files_stand_beside_their_delivery(world: World, stac: Stac) -> None:
    assert await world.list("assets") == ["one.zip", "one", "two.zip", "two", "bare.zip"]
    assert sorted(await world.list("assets/one")) == ["b02.tiff", "item.json", "metadata.xml"]
    assert await world.list("assets/two") == ["scene 2", "scene 3"]
    assert sorted(await world.list("assets/two/scene 3")) == [
        "b02.tiff", "item.json", "metadata.xml",
    ]  # fmt: skip
    assert sorted(await world.list("assets/two/scene 2")) == ["b02.tiff", "item.json"]
    assert stac.asked == {f"asset {ONE.id}": 1, f"asset {TWO.id}": 1}


async def test_listing_the_deliveries_asks_nothing_about_items(world: World, stac: Stac) -> None:
    for place in ("assets", "orders/Munich", "tags/t", "cnam/SUCCESSFUL"):
        assert {"one", "one.zip"} <= set(await world.list(place))
    inode = await world.walk("assets/one")
    assert (await world.fs.getattr(inode)).nlink == 1, "2 would say: no subdirectories"
    assert not stac.asked
    assert not world.files.probed
    await world.list("assets/one")
    await world.list("assets/two")
    assert (await world.fs.getattr(inode)).nlink == 2
    assert (await world.fs.getattr(await world.walk("assets/two"))).nlink == 4


async def test_a_file_is_one_inode_and_a_directory_one_in_each_place(world: World) -> None:
    places = ["assets/one", "orders/Munich/one", "tags/t/one", "tags/u/one", "cnam/SUCCESSFUL/one"]
    files = {await world.walk(f"{place}/b02.tiff") for place in places}
    assert len(files) == 1
    assert (await world.fs.getattr(files.pop())).nlink == len(places)
    assert len({await world.walk(place) for place in places}) == len(places)


async def test_item_ids_are_names_too(world: World) -> None:
    two = await world.walk("assets/two")
    found = await world.fs.lookup(two, "item-3")
    assert isinstance(found, Attributes)
    assert found.ttl_s == 0
    assert found.inode == await world.walk("assets/two/scene 3")
    assert isinstance(await world.fs.lookup(await world.walk("assets/one"), "item-1"), Absent)


async def test_item_json_stands_alone(world: World) -> None:
    for place, keys in (("assets/one", KEYS), ("assets/two/scene 2", KEYS[:1])):
        document = json.loads(await read(world, f"{place}/item.json"))
        assert document["links"] == []
        assert "collection" not in document
        hrefs = {key: row["href"] for key, row in document["assets"].items()}
        assert hrefs == {key: f"./{key}" for key in keys}
        assert {"item.json", *keys} == set(await world.list(place))


@pytest.mark.claim("S38")
async def test_a_foreign_href_is_left_out_and_said_once(
    world: World, stac: Stac, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    foreign = {"b02.tiff": "https://evil.example/v2/assets/x?token=secret"}
    stac.put(item_of(ONE, 1, KEYS, hrefs=foreign))
    for place in ("assets/one", "tags/t/one", "assets/one"):
        assert sorted(await world.list(place)) == ["item.json", "metadata.xml"]
    assert list(json.loads(await read(world, "assets/one/item.json"))["assets"]) == [KEYS[1]]
    (message,) = caplog.messages
    assert "b02.tiff" in message
    assert ONE.id in message
    assert "evil.example" in message
    assert "secret" not in message


async def test_what_is_not_transformed_yet_is_looked_up_anew_each_time(
    world: World, stac: Stac
) -> None:
    stac.put()
    inode = await world.walk("assets/one")
    assert await world.list("assets/one") == []
    assert await world.fs.lookup(inode, "b02.tiff") == Absent(0.0)
    own = {"data": f"https://api.up42.com/v2/assets/{ONE.id}"}
    stac.put(item_of(ONE, 1, ("data",), hrefs=own))
    assert await world.list("assets/one") == ["item.json"]
    assert await world.fs.lookup(inode, "b02.tiff") == Absent(0.0)
    stac.put(item_of(ONE, 1, KEYS))
    found = await world.fs.lookup(inode, "b02.tiff")
    assert isinstance(found, Attributes)
    assert await world.fs.lookup(inode, "b02.tiff.aux.xml") == Absent(BRANCH_TTL_S)


async def test_a_failed_search_is_told_and_tried_again(world: World, stac: Stac) -> None:
    inode = await world.walk("assets/one")
    stac.fail["asset"] = Unavailable("UP42 is down")
    with pytest.raises(Unavailable):
        await world.fs.opendir(inode)
    with pytest.raises(Unavailable):
        await world.fs.lookup(inode, "b02.tiff")
    stac.fail.clear()
    assert "b02.tiff" in await world.list("assets/one")


async def test_an_asset_that_leaves_takes_its_files_along(world: World) -> None:
    directory, file = await world.walk("assets/one"), await world.walk("assets/one/b02.tiff")
    names = {(item.inode, item.name) for item in world.remove(ONE)}
    assert {(directory, "b02.tiff"), (directory, "metadata.xml"), (directory, "item.json")} <= names
    assert (await world.walk("assets"), "one") in names
    for inode in (directory, file):
        with pytest.raises(VersionChanged):
            await world.fs.getattr(inode)
    with pytest.raises(VersionChanged):
        await world.fs.open(file, 0)
    assert "one" not in await world.list("assets")


async def test_directories_come_and_go_with_the_state(world: World) -> None:
    for status in (CnamStatus.FAILED, CnamStatus.IN_PROGRESS, CnamStatus.NOT_PROCESSED):
        assets = await world.walk("assets")
        assert "one" in await world.list("assets")
        gone = world.put(replace(ONE, cnam_status=status, updated_at=at(50)))
        assert (assets, "one") in {(item.inode, item.name) for item in gone}
        assert "one" not in await world.list("assets")
        back = world.put(ONE)
        assert (assets, "one") in {(item.inode, item.name) for item in back}


async def test_new_items_replace_the_old(world: World, stac: Stac) -> None:
    before = json.loads(await read(world, "assets/one/item.json"))
    stac.put(item_of(ONE, 5, ("new.tif",)))
    world.put(replace(ONE, updated_at=at(60)))
    assert sorted(await world.list("assets/one")) == ["item.json", "new.tif"]
    after = json.loads(await read(world, "assets/one/item.json"))
    assert (before["id"], after["id"]) == ("item-1", "item-5")
    stac.put(item_of(ONE, 5), item_of(ONE, 6))
    assert await world.list("assets/one") == ["scene 5", "scene 6"]


@pytest.mark.claim("S40")
async def test_an_older_name_wins_over_the_directory(stac: Stac) -> None:
    older, newer = make_asset(1, name="scene.tif"), done(2, name="scene.tif.zip")
    stac.put(item_of(newer, 1))
    world = stac_world(stac, older, newer)
    assert await world.list("assets") == ["scene.tif", "scene.tif.zip", "scene.tif (files)"]
    assert sorted(await world.list("assets/scene.tif (files)")) == ["b02.tiff", "item.json"]


async def test_odd_keys_are_safe_unique_names(stac: Stac) -> None:
    keys = ("a/b.tif", "a_b.tif", "..", "item.json", "x" * 300 + ".tif", "é.tif", "e\u0301.tif")
    stac.put(item_of(ONE, 1, keys))
    world = stac_world(stac, ONE)
    names = await world.list("assets/one")
    assert len(names) == len(set(names)) == len(keys) + 1
    assert all("/" not in name and len(name.encode()) <= 200 for name in names)
    hrefs = [row["href"] for row in _item(await read(world, "assets/one/item.json"))]
    assert sorted(href[2:] for href in hrefs) == sorted(set(names) - {"item.json"})


def _item(document: bytes) -> list[dict[str, str]]:
    return list(json.loads(document)["assets"].values())


async def test_times_are_never_before_those_of_the_delivery(world: World) -> None:
    file = await world.fs.getattr(await world.walk("assets/one/b02.tiff"))
    delivery = await world.fs.getattr(await world.walk("assets/one.zip"))
    assert (file.mtime_ns, file.ctime_ns) == (delivery.mtime_ns, delivery.ctime_ns)
    directory = await world.fs.getattr(await world.walk("assets/one"))
    assert directory.mtime_ns == delivery.mtime_ns


async def test_reading_opens_the_file_itself(world: World) -> None:
    content = await read(world, "tags/t/one/metadata.xml")
    (opened,) = world.files.opened
    assert (opened.asset_id, opened.size) == (file_id(1, 1), len(content))
    assert "metadata.xml" in opened.name
    assert ONE.id in opened.name
    assert "item-1" in opened.name


# attributes ------------------------------------------------------------------------------------


async def listed(world: World, path: str) -> dict[str, str]:
    inode = await world.walk(path)
    return {
        name: at_once(world.fs.getxattr(inode, name)).decode()
        for name in at_once(world.fs.listxattr(inode))
    }


async def test_listed_attributes_come_from_memory(world: World, stac: Stac) -> None:
    await world.list("assets/one")
    await world.list("assets/two")
    asked = stac.asked.copy()
    file = await listed(world, "assets/one/b02.tiff")
    assert file["user.up42.id"] == file_id(1, 0)
    assert file["user.up42.kind"] == "file"
    assert file["user.up42.name"] == "b02.tiff"
    assert file["user.up42.order_name"] == "Munich"
    assert file["user.up42.tags"] == "t,u"
    assert file["user.mime_type"] == "image/tiff"
    stac_names = {name.removeprefix("user.up42.stac.") for name in file if ".stac." in name}
    assert stac_names == {
        "item_id", "collection_id", "datetime", "cloud_cover", "bbox", "roles", "title", "url",
    }  # fmt: skip
    assert file["user.up42.stac.cloud_cover"] == "7.5"
    assert file["user.up42.stac.bbox"] == "0,0,1,1"
    one, two = await listed(world, "assets/one"), await listed(world, "assets/two")
    item = await listed(world, "assets/two/scene 3")
    assert one["user.up42.kind"] == two["user.up42.kind"] == item["user.up42.kind"] == "item"
    assert one["user.up42.stac.item_id"] == "item-1"
    assert item["user.up42.stac.item_id"] == item["user.up42.id"] == "item-3"
    assert not [name for name in two if ".stac." in name]
    assert two["user.up42.id"] == TWO.id
    assert stac.asked == asked
    assert not world.files.probed
    assert not world.documents.asked


async def test_unlisted_attributes(world: World, autojump_clock) -> None:
    file, one = await world.walk("assets/one/b02.tiff"), await world.walk("assets/one")
    for inode in (file, one):
        sent = json.loads(at_once(world.fs.getxattr(inode, "user.up42.stac.json")))
        assert sent["id"] == "item-1"
        assert sent["assets"]["b02.tiff"]["href"].startswith("https://api.up42.com/")
        document = json.loads(await world.fs.getxattr(inode, "user.up42.json"))
        assert (document["what"], document["id"]) == ("asset", ONE.id)
    link = (await world.fs.getxattr(file, "user.up42.download_url")).decode()
    assert file_id(1, 0) in link
    assert world.documents.asked == {f"asset {ONE.id}": 1, f"sign {file_id(1, 0)}": 1}
    assert await world.fs.getxattr(file, "user.up42.cached") == b"0"
    two = await world.walk("assets/two")
    for inode, name in (
        (two, "user.up42.stac.json"),
        (one, "user.up42.download_url"),
        (one, "user.up42.cached"),
        (file, "user.up42.nothing"),
    ):
        with pytest.raises(NoAttribute):
            await world.fs.getxattr(inode, name)


async def test_what_the_kernel_may_remember(world: World) -> None:
    one = await world.walk("assets/one")
    unknown = await world.fs.lookup(one, "b02.tiff")
    assert isinstance(unknown, Attributes)
    assert (unknown.size, unknown.attr_ttl_s) == (0, 0.0)
    known = await world.fs.getattr(unknown.inode)
    assert (known.size, known.attr_ttl_s, known.ttl_s) == (110, None, KERNEL_TTL_S)
    again = await world.fs.lookup(one, "b02.tiff")
    assert isinstance(again, Attributes)
    assert (again.size, again.ttl_s) == (110, BRANCH_TTL_S)


@pytest.mark.claim("S386")
async def test_a_walk_waits_twice_for_a_silent_service_not_once_a_directory(
    stac: Stac, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    assets = [done(n, name=f"{n:02d}.zip") for n in range(1, 13)]
    world = stac_world(stac, *assets)
    answers, of_asset = trio.Event(), stac.of_asset

    async def silent(asset: Asset) -> tuple[StacItem, ...]:
        await answers.wait()
        return await of_asset(asset)

    monkeypatch.setattr(stac, "of_asset", silent)
    for n in range(1, 13):
        with pytest.raises(DeadlineExceeded, match="what is in here"):
            await world.list(f"assets/{n:02d}")
    assert trio.current_time() == pytest.approx(2 * 25 + 10 * BRIEFLY_S, abs=0.5)
    answers.set()
    assert "item.json" in await world.list("assets/01")
    assert await world.list("assets/12") == [], "it has no items, and that was told"

"""`footprints.geojson`: what it shows, when it is made, where it is listed."""

from __future__ import annotations

import json
import logging

import pytest
import trio
from fs_support import World
from stac_support import SQUARE, Stac, done, item_of, read, stac_world
from strategies import make_asset, make_order
from trio.testing import MockClock

from up42fs.errors import InvalidArgument, Unavailable
from up42fs.fs.branches.footprints import KEPT_S, MOST_ASKED, NAME, PARALLEL, TOGETHER
from up42fs.fs.tree.nodes import Absent, Attributes

ORDER = make_order(1, display_name="Munich")
ONE = done(
    1, name="one.zip", order_id=ORDER.id, tags=("t", "both"), title="The first", collection="phr"
)
TWO = done(2, name="one.zip", order_id=ORDER.id, tags=("both",))
BARE = make_asset(3, name="bare.zip", order_id=ORDER.id)
ITEMS = (item_of(ONE, 1), item_of(TWO, 2), item_of(TWO, 3, ("a.tif",)))


@pytest.fixture
def stac() -> Stac:
    return Stac(ITEMS, wait_s=0.5)


@pytest.fixture
def world(stac: Stac) -> World:
    return stac_world(stac, ORDER, ONE, TWO, BARE)


@pytest.mark.claim("S43")
async def test_it_shows_the_outline_of_every_item(world: World, autojump_clock: MockClock) -> None:
    document = json.loads(await read(world, f"orders/Munich/{NAME}"))
    rows = [feature["properties"] for feature in document["features"]]
    assert [(row["id"], row["path"]) for row in rows] == [
        (ONE.id, "one.zip"),
        (TWO.id, "one [00000002].zip"),
        (TWO.id, "one [00000002].zip"),
    ]
    assert rows[0]["title"] == "The first"
    assert rows[0]["collection"] == "phr"
    assert rows[0]["cloud_cover"] == 7.5
    assert rows[0]["datetime"].startswith("2024-05-01T10:00:00")
    assert all(feature["geometry"] == SQUARE for feature in document["features"])
    assert document["up42fs:without_outline"] == 1
    assert {row["path"] for row in rows} < set(await world.list("orders/Munich"))


async def test_it_shows_only_what_is_in_the_directory(
    world: World, stac: Stac, autojump_clock: MockClock
) -> None:
    for path in (f"tags/t/{NAME}", f"search/tag=t/{NAME}"):
        rows = json.loads(await read(world, path))["features"]
        assert [row["properties"]["id"] for row in rows] == [ONE.id]
    stac.found["cloud<10"] = frozenset({TWO.id})
    rows = json.loads(await read(world, f"search/cloud<10/{NAME}"))["features"]
    assert {row["properties"]["id"] for row in rows} == {TWO.id}


@pytest.mark.claim("S43")
async def test_it_is_hidden_unless_wished(
    world: World, stac: Stac, autojump_clock: MockClock
) -> None:
    listing = stac_world(stac, ORDER, ONE, TWO, BARE, lists_footprints=True)
    for path in ("orders/Munich", "tags/t", "search/tag=t", "assets", "cnam/SUCCESSFUL", ""):
        assert NAME not in await world.list(path)
        assert NAME in await listing.list(path)
    for path in ("orders", "assets/one", "stac", "search", "cnam"):
        assert NAME not in await listing.list(path)
        found = await listing.fs.lookup(await listing.walk(path), NAME)
        assert isinstance(found, Absent), path
    assert not [what for what in stac.asked if f"asset {TWO.id}" in what]


async def test_looking_it_up_asks_nothing_and_stat_makes_it(
    world: World, stac: Stac, autojump_clock: MockClock
) -> None:
    inode = await world.walk(f"orders/Munich/{NAME}")
    assert not stac.asked
    size = (await world.fs.getattr(inode)).size
    assert size > 100
    assert stac.asked == {"together": 1}
    found = await world.fs.lookup(await world.walk("orders/Munich"), NAME)
    assert isinstance(found, Attributes)
    assert found.size == size


@pytest.mark.claim("S43")
async def test_it_is_made_once_a_minute(
    world: World, stac: Stac, autojump_clock: MockClock
) -> None:
    before = await read(world, f"orders/Munich/{NAME}")
    stac.put(*ITEMS[:1])
    assert await read(world, f"orders/Munich/{NAME}") == before
    await trio.sleep(KEPT_S + 1)
    inode = await world.walk(f"orders/Munich/{NAME}")
    opened = await world.fs.open(inode, 0)  # as a program that opens it without stat
    again = bytes(await world.fs.read(opened.handle, 0, 1 << 20))
    assert len(json.loads(again)["features"]) == 1


async def test_what_cannot_be_asked_is_left_out_with_a_word(
    world: World, stac: Stac, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.WARNING)
    stac.fail = {"together": InvalidArgument("one by one"), TWO.id: Unavailable("UP42 is down")}
    document = json.loads(await read(world, f"tags/both/{NAME}"))
    assert [row["properties"]["id"] for row in document["features"]] == [ONE.id]
    (message,) = caplog.messages
    assert TWO.id in message


@pytest.mark.parametrize("directory", ["orders/Munich", "tags/both"])
@pytest.mark.parametrize(
    "failures",
    [
        {"together": Unavailable("UP42 is down")},
        {"together": InvalidArgument("no"), "asset": Unavailable("UP42 is down")},
    ],
)
async def test_a_directory_that_cannot_be_asked_is_told(
    world: World, stac: Stac, autojump_clock: MockClock, directory: str, failures: dict
) -> None:
    stac.fail = dict(failures)
    inode = await world.walk(f"{directory}/{NAME}")
    with pytest.raises(Unavailable):
        await world.fs.getattr(inode)
    stac.fail.clear()
    assert (await world.fs.getattr(inode)).size > 100


async def test_where_several_cannot_be_searched_each_asset_is_asked(
    world: World, stac: Stac, autojump_clock: MockClock
) -> None:
    told = json.loads(await read(world, f"orders/Munich/{NAME}"))
    other = stac_world(stac, *world.index.assets.values(), *world.index.orders.values())
    stac.fail["together"] = InvalidArgument("no such operator")
    assert json.loads(await read(other, f"orders/Munich/{NAME}")) == told


async def test_items_are_asked_in_parallel_but_not_all_at_once(autojump_clock: MockClock) -> None:
    assets = [done(n, name=f"{n}.zip", tags=("all",)) for n in range(4 * PARALLEL)]
    stac = Stac(tuple(item_of(asset, n) for n, asset in enumerate(assets)), wait_s=1.0)
    stac.fail["together"] = InvalidArgument("no such operator")
    world = stac_world(stac, *assets)
    started_s = trio.current_time()
    document = json.loads(await read(world, f"tags/all/{NAME}"))
    assert len(document["features"]) == 4 * PARALLEL
    assert trio.current_time() - started_s == pytest.approx(5.0)


async def test_a_large_directory_is_a_search_for_a_hundred_assets(
    autojump_clock: MockClock,
) -> None:
    assets = [done(n, name=f"{n}.zip", tags=("all",)) for n in range(2 * TOGETHER + 2)]
    stac = Stac(tuple(item_of(asset, n) for n, asset in enumerate(assets)))
    world = stac_world(stac, *assets)
    document = json.loads(await read(world, f"tags/all/{NAME}"))
    assert len(document["features"]) == len(assets)
    assert stac.asked == {"together": 3}


@pytest.mark.claim("S321")
async def test_the_whole_storage_and_each_state_have_one(
    world: World, autojump_clock: MockClock
) -> None:
    top = json.loads(await read(world, NAME))
    assert top["name"] == "UP42"
    assert [row["properties"]["path"] for row in top["features"]] == [
        "assets/one.zip",
        "assets/one [00000002].zip",
        "assets/one [00000002].zip",
    ]
    assert top["up42fs:without_outline"] == 1
    everything = json.loads(await read(world, f"assets/{NAME}"))
    assert [row["properties"]["id"] for row in everything["features"]] == [ONE.id, TWO.id, TWO.id]
    done_ones = json.loads(await read(world, f"cnam/SUCCESSFUL/{NAME}"))
    assert done_ones["features"] == everything["features"]
    assert json.loads(await read(world, f"cnam/FAILED/{NAME}"))["features"] == []


@pytest.mark.claim("S321")
async def test_a_large_storage_is_asked_for_a_part_and_says_so(autojump_clock: MockClock) -> None:
    assets = [done(n, name=f"{n}.zip") for n in range(MOST_ASKED + 2 * TOGETHER)]
    stac = Stac(tuple(item_of(asset, n) for n, asset in enumerate(assets)))
    world = stac_world(stac, *assets)
    document = json.loads(await read(world, NAME))
    assert len(document["features"]) == MOST_ASKED
    assert document["up42fs:not_yet_known"] == 2 * TOGETHER
    assert stac.asked == {"together": MOST_ASKED // TOGETHER}
    await trio.sleep(KEPT_S + 1)  # the crawl, or another look, goes on from there
    document = json.loads(await read(world, NAME))
    assert len(document["features"]) == len(assets)
    assert "up42fs:not_yet_known" not in document

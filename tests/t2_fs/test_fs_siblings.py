"""What makes the next files of a directory come before they are opened, and what does not."""

from __future__ import annotations

import os

import pytest
from fs_support import World
from stac_support import Stac, done, file_id, item_of, stac_world
from strategies import make_asset, make_order
from trio.testing import MockClock

from up42fs.fs.files.ledger import Ledger, Watch
from up42fs.fs.files.readahead import FEW_FILES, MOST_ORDERS
from up42fs.metrics import Metrics
from up42fs.types import ByteRange

HEAD = 128 << 10
SIZE = 300 << 10
ORDER = make_order(1, display_name="Munich")
ASSETS = [
    make_asset(n, name=f"scene_{n:02}.tif", size=SIZE, order_id=ORDER.id if n % 2 else None)
    for n in range(1, 21)
]
IDS = [asset.id for asset in ASSETS]


@pytest.fixture
def world() -> World:
    return World(ORDER, *ASSETS)


async def read(world: World, path: str, start: int = 0, size: int = 16 << 10) -> None:
    opened = await world.fs.open(await world.walk(path), os.O_RDONLY, "gdalinfo")
    await world.fs.read(opened.handle, start, size)
    world.fs.release(opened.handle)


async def test_reading_two_heads_fetches_the_next(world: World, autojump_clock: MockClock) -> None:
    await read(world, "assets/scene_01.tif")
    assert world.files.ahead == {}
    await read(world, "assets/scene_02.tif")
    assert list(world.files.ahead) == IDS[2:6]
    assert world.files.ahead[IDS[2]].spans == [ByteRange(0, HEAD)]
    assert world.metrics["siblings.asked_files"] == 4
    await read(world, "assets/scene_03.tif")
    assert world.metrics["siblings.read_files"] == 1


async def test_whole_files_where_they_are_copied(world: World, autojump_clock: MockClock) -> None:
    for n in range(1, 6):
        await read(world, f"assets/scene_{n:02}.tif", 0, SIZE)
    assert world.files.ahead[IDS[5]].spans == [ByteRange(0, SIZE)]


async def test_looking_is_not_reading(world: World, autojump_clock: MockClock) -> None:
    """`ls -l`, `find`, `file` on open files: names, attributes, opens."""
    for n in range(1, 21):
        inode = await world.walk(f"assets/scene_{n:02}.tif")
        await world.fs.getattr(inode)
        opened = await world.fs.open(inode, os.O_RDONLY)
        world.fs.release(opened.handle)
        await world.list("assets")
    assert world.files.ahead == {}


async def test_a_crowd_is_not_followed(autojump_clock: MockClock) -> None:
    metrics = Metrics()
    watch = Watch(Ledger(), metrics, {"gdalinfo": 1 << 20})
    world = World(ORDER, *ASSETS, watch=watch)
    for n in range(1, 21):
        await read(world, f"assets/scene_{n:02}.tif")
    assert world.files.ahead == {}


async def test_the_directory_looked_into_last_is_the_one_that_is_read(
    world: World, autojump_clock: MockClock
) -> None:
    """The same files stand in `assets/`, where others lie between them."""
    await world.list("assets")
    await read(world, "orders/Munich/scene_01.tif")
    await read(world, "orders/Munich/scene_03.tif")
    assert list(world.files.ahead) == [IDS[n] for n in (4, 6, 8, 10)]


async def test_directories_that_changed_or_went_are_followed_as_they_are(
    world: World, autojump_clock: MockClock
) -> None:
    await read(world, "assets/scene_01.tif")
    world.remove(ASSETS[2])
    await read(world, "assets/scene_02.tif")
    assert list(world.files.ahead) == [IDS[n] for n in (3, 4, 5, 6)]
    world.remove(*ASSETS[4:])
    await read(world, "assets/scene_04.tif")
    assert list(world.files.ahead) == [IDS[n] for n in (3, 4, 5, 6)]


def many_orders(count: int, files: int = 1) -> World:
    """Files of the n-th order (from 0) are assets n * 10, n * 10 + 1, …"""
    orders = [make_order(n, display_name=f"Order {n:03}") for n in range(1, count + 1)]
    return World(
        *orders,
        *(
            make_asset(place * 10 + n, name=f"f{n}.tif", size=SIZE, order_id=order.id)
            for place, order in enumerate(orders)
            for n in range(files)
        ),
    )


async def test_orders_of_one_file_are_read_as_one_directory(autojump_clock: MockClock) -> None:
    world = many_orders(12)
    await read(world, "orders/Order 001/f0.tif")
    assert world.files.ahead == {}
    await read(world, "orders/Order 002/f0.tif")
    assert list(world.files.ahead) == [make_asset(n).id for n in (20, 30, 40, 50)]


async def test_a_walk_goes_on_from_one_small_order_into_the_next(
    autojump_clock: MockClock,
) -> None:
    world = many_orders(6, files=2)
    await read(world, "orders/Order 001/f0.tif")
    await read(world, "orders/Order 001/f1.tif")
    assert list(world.files.ahead) == [make_asset(n).id for n in (10, 11, 20, 21)]


@pytest.mark.parametrize(("count", "files"), [(MOST_ORDERS + 1, 1), (5, FEW_FILES)])
async def test_many_orders_or_files_are_not_put_together(
    autojump_clock: MockClock, count: int, files: int
) -> None:
    world = many_orders(count, files)
    for n in (1, 2, 3):
        await read(world, f"orders/Order {n:03}/f0.tif")
    assert world.files.ahead == {}


async def test_an_interrupted_copy_is_given_up(world: World, autojump_clock: MockClock) -> None:
    for n in range(1, 5):
        await read(world, f"assets/scene_{n:02}.tif", 0, SIZE)
    await read(world, "assets/scene_05.tif", 0, 128 << 10)
    coming = [world.files.ahead[id_] for id_ in world.files.ahead if id_ not in IDS[:5]]
    assert coming
    assert all(ahead.cancelled for ahead in coming)
    assert world.metrics["siblings.wasted_files"] == len(coming)


async def test_transformed_files_whose_sizes_nobody_knows(autojump_clock: MockClock) -> None:
    asset = done(1, name="one.zip")
    keys = tuple(f"b{n:02d}.tiff" for n in range(21))
    world = stac_world(Stac((item_of(asset, 1, keys),)), asset)
    world.files.sizes = {file_id(1, n): SIZE for n in range(21)}
    for key in keys[:2]:
        await read(world, f"assets/one/{key}")
    assert list(world.files.ahead) == [file_id(1, n) for n in range(2, 6)]

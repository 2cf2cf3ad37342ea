"""Sidecars in the tree: which image a name belongs to, where it shows, what comes first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fs_support import World
from strategies import make_asset, make_order

from up42fs.errors import ReadOnly, VersionChanged
from up42fs.fs.filesystem import KERNEL_TTL_S
from up42fs.fs.sidecars.disk import OverlayDirectory
from up42fs.fs.sidecars.overlay import Overlay
from up42fs.fs.tree.nodes import Absent, Attributes
from up42fs.fs.writing import Writing

ORDER = make_order(1, display_name="Munich")
IMAGE = make_asset(1, name="scene.tif", order_id=ORDER.id, tags=("t",))
TWIN = make_asset(2, name="scene.tif", tags=("t",))
ARCHIVE = make_asset(3, name="scene.zip")
DELIVERED = make_asset(4, name="scene.tif.ovr")


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Overlay]:
    made = Overlay(OverlayDirectory(tmp_path / "kept"), 1 << 20)
    yield made
    made.close()


@pytest.fixture
def world(overlay: Overlay) -> World:
    return World(ORDER, IMAGE, TWIN, ARCHIVE, overlay=overlay)


async def write(world: World, path: str, content: bytes = b"x") -> int:
    """Make a sidecar; returns its inode."""
    writing = Writing(world.fs)
    directory, _, name = path.rpartition("/")
    attributes, opened = await writing.create(await world.walk(directory), name)
    await writing.write(opened.handle, 0, content)
    await writing.flush(opened.handle)
    world.fs.release(opened.handle)
    return attributes.inode


async def names(world: World, path: str) -> set[str]:
    return {name for name in await world.list(path) if name.startswith("scene")}


@pytest.mark.claim("S95")
async def test_it_shows_wherever_the_image_does_under_the_name_it_has_there(world: World) -> None:
    inode = await write(world, "orders/Munich/scene.tif.aux.xml")
    twin = await write(world, "tags/t/scene [00000002].tif.aux.xml")
    assert await names(world, "orders/Munich") == {"scene.tif", "scene.tif.aux.xml"}
    assert await names(world, "tags/t") >= {
        "scene.tif", "scene.tif.aux.xml", "scene [00000002].tif.aux.xml"
    }  # fmt: skip
    for path in ("assets/scene.tif", "tags/t/scene.tif", f"assets/{IMAGE.id}"):
        assert await world.walk(f"{path}.aux.xml") == inode
    assert await world.walk(f"assets/{TWIN.id}.aux.xml") == twin != inode
    shown = await world.fs.getattr(inode)
    assert (shown.nlink, shown.size, shown.ttl_s) == (4, 1, 0.0)


async def test_of_images_of_one_stem_the_raster_has_the_style(world: World) -> None:
    await write(world, "assets/scene.qml")
    assert "scene.qml" in await names(world, "orders/Munich")
    world.remove(IMAGE, TWIN)
    await write(world, "assets/scene.qml", b"of the archive")
    assert await names(world, "assets") == {"scene.zip", "scene.qml"}
    world.put(IMAGE)
    assert (await world.list("assets")).count("scene.qml") == 1


async def test_what_up42_holds_comes_first(world: World) -> None:
    inode = await write(world, "assets/scene.tif.ovr")
    world.put(DELIVERED)
    delivered = await world.walk("assets/scene.tif.ovr")
    assert delivered != inode
    assert (await world.list("assets")).count("scene.tif.ovr") == 1
    with pytest.raises(ReadOnly):
        await Writing(world.fs).unlink(await world.walk("assets"), "scene.tif.ovr")
    await write(world, "assets/scene.tif.aux.xml")
    assets = await world.walk("assets")
    with pytest.raises(ReadOnly):
        await Writing(world.fs).rename(assets, "scene.tif.aux.xml", assets, "scene.tif.ovr", 0)
    world.remove(DELIVERED)
    assert await world.walk("assets/scene.tif.ovr") == inode


@pytest.mark.claim("S97")
async def test_only_what_may_come_is_not_remembered_as_absent(world: World) -> None:
    assets = await world.walk("assets")
    for name, ttl_s in {
        "scene.tif.aux.xml": 0.0,
        "scene.qmd": 0.0,
        "other.tif.aux.xml": KERNEL_TTL_S,
        "other.qml": KERNEL_TTL_S,
        "scene.tif.txt": KERNEL_TTL_S,
    }.items():
        assert await world.fs.lookup(assets, name) == Absent(ttl_s), name


async def test_a_removed_one_is_gone_everywhere_and_a_new_one_is_another(world: World) -> None:
    inode = await write(world, "assets/scene.tif.msk")
    await Writing(world.fs).unlink(await world.walk("orders/Munich"), "scene.tif.msk")
    assert await names(world, "assets") == {"scene.tif", "scene [00000002].tif", "scene.zip"}
    with pytest.raises(VersionChanged):
        await world.fs.getattr(inode)
    assert await write(world, "assets/scene.tif.msk") != inode


async def test_it_leaves_and_comes_back_with_its_image(world: World) -> None:
    inode = await write(world, "assets/scene.tif.aux.xml")
    world.remove(IMAGE)
    assert "scene.tif.aux.xml" not in await world.list("assets")
    assert isinstance(await world.fs.getattr(inode), Attributes)  # who has it open reads on
    world.put(IMAGE)
    assert await world.walk("assets/scene.tif.aux.xml") == inode


async def test_without_an_overlay_all_is_read_only() -> None:
    world = World(IMAGE)
    writing = Writing(world.fs)
    assets = await world.walk("assets")
    for refused in (
        writing.create(assets, "scene.tif.aux.xml"),
        writing.write(1, 0, b"x"),
        writing.unlink(assets, "scene.tif"),
        writing.rename(assets, "scene.tif", assets, "x", 0),
        writing.setxattr(assets, "user.x", b""),
    ):
        with pytest.raises(ReadOnly):
            await refused
    assert not await writing.change(assets, size=1, times_ns=None)
    assert await writing.free_bytes() == 0

"""The promises of the file system one by one: who waits, what is refused, what costs a request."""

from __future__ import annotations

import gc
import json
import os
import stat
from datetime import UTC, datetime

import pytest
import trio
from fs_support import Catalogue, World, at_once, content
from strategies import at, make_asset, make_order
from trio.testing import MockClock, wait_all_tasks_blocked

from up42fs.catalog.index import ListingKind
from up42fs.deadlines import note
from up42fs.errors import (
    BadHandle,
    DeadlineExceeded,
    InvalidArgument,
    IsADirectory,
    NoAttribute,
    NotADirectory,
    NotFound,
    ReadOnly,
    Unavailable,
    VersionChanged,
)
from up42fs.fs.filesystem import KERNEL_TTL_S
from up42fs.fs.finding import LISTING_TIMEOUT_S
from up42fs.fs.invalidation import Invalidation
from up42fs.fs.tree.nodes import Absent, Attributes
from up42fs.fuse.boundary import METADATA_DEADLINE_S
from up42fs.readahead.tuning import Reading
from up42fs.types import CNAM_STATES, CnamStatus

ORDER = make_order(1, display_name="Munich", tags=("o1", "o2"), workspace_id="ws-o")
ASSET = make_asset(
    0xA1,
    name="scene.zip",
    title="A title",
    tags=("t", "u"),
    order_id=ORDER.id,
    cnam_status=CnamStatus.SUCCESSFUL,
    size=10_000,
)
BARE = make_asset(2, name="bare.bin", size=None)


@pytest.fixture
def world() -> World:
    return World(ORDER, ASSET, BARE)


# waiting for the first listing -----------------------------------------------------------------

ORDERS_ONLY, ASSETS_ONLY = {ListingKind.ORDERS}, {ListingKind.ASSETS}
WAITS = [
    ("", "orders", set()),
    ("cnam", "SUCCESSFUL", set()),
    (".up42fs", "README", set()),
    ("orders", "Munich", ORDERS_ONLY),
    ("orders/Munich", "scene.zip", ASSETS_ONLY),
    ("tags", "t", ASSETS_ONLY),
    ("tags/t", "scene.zip", ASSETS_ONLY),
    ("cnam/SUCCESSFUL", "scene.zip", ASSETS_ONLY),
    ("assets", "scene.zip", ASSETS_ONLY),
    ("assets", "no such name", ASSETS_ONLY),
]


@pytest.mark.parametrize(("path", "name", "needed"), WAITS)
@pytest.mark.claim("S15")
async def test_who_waits_for_what(
    world: World, path: str, name: str, needed: set[ListingKind]
) -> None:
    inode = await world.walk(path) if path else 1
    world.catalogue.asked.clear()
    await world.fs.lookup(inode, name)
    await world.fs.opendir(inode)
    asked = [(set(parts), timeout_s) for parts, timeout_s in world.catalogue.asked]
    assert asked == ([(needed, LISTING_TIMEOUT_S)] * 2 if needed else [])


async def test_a_lookup_before_the_first_listing_waits_and_then_knows(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(listed=False)
    orders = await world.walk("orders")
    found = []

    async def look() -> None:
        found.append(await world.fs.lookup(orders, "Munich"))

    nursery.start_soon(look)
    await wait_all_tasks_blocked()
    assert found == []
    world.put(ORDER, ASSET)
    world.catalogue.finish()
    await wait_all_tasks_blocked()
    assert len(found) == 1
    assert isinstance(found[0], Attributes)


async def test_a_failed_listing_passes_through_and_takes_no_reference() -> None:
    world = World(listed=False)
    assets = await world.walk("assets")
    before = world.fs.gauges()
    for error in (Unavailable("UP42 keeps failing"), DeadlineExceeded("not listed yet")):
        world.catalogue.finish(error)
        with pytest.raises(type(error), match=str(error)):
            await world.fs.lookup(assets, "x")
        with pytest.raises(type(error), match=str(error)):
            await world.fs.opendir(assets)
    assert world.fs.gauges() == before


async def test_what_is_always_there_needs_no_listing() -> None:
    world = World(listed=False)
    world.catalogue.error = Unavailable("never asked")
    assert await world.list() == ["orders", "tags", "cnam", "assets"]
    assert set(await world.list("cnam")) == set(CNAM_STATES)
    assert await world.list(".up42fs") == ["README", "refresh", "metrics", "status.json"]
    assert (await world.fs.getattr(await world.walk("tags"))).is_dir
    assert world.fs.statfs() == (0, 0)
    assert world.catalogue.asked == []


async def test_who_follows_the_link_asks_for_news(world: World) -> None:
    asked: list[int] = []
    world.fs.look_for_changes = lambda: asked.append(1)
    refresh = await world.walk(".up42fs/refresh")
    shown = await world.fs.getattr(refresh)
    assert (stat.S_ISLNK(shown.mode), shown.size) == (True, len(os.devnull))
    assert asked == []
    assert await world.fs.readlink(refresh) == os.devnull.encode()
    assert asked == [1]
    with pytest.raises(InvalidArgument):
        await world.fs.readlink(await world.walk("assets/scene.zip"))


# opening and reading ---------------------------------------------------------------------------

WRITING = [os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND, os.O_CREAT, os.O_WRONLY | os.O_TRUNC]


@pytest.mark.parametrize("flags", WRITING)
async def test_writing_is_refused(world: World, flags: int) -> None:
    for path in ("assets/scene.zip", ".up42fs/README"):
        with pytest.raises(ReadOnly):
            await world.fs.open(await world.walk(path), flags)
    assert world.files.opened == []
    assert world.fs.gauges()["open_files"] == 0


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_NONBLOCK, os.O_NOATIME, os.O_CLOEXEC])
async def test_reading_is_opened(world: World, flags: int) -> None:
    opened = await world.fs.open(await world.walk("assets/scene.zip"), flags)
    assert (opened.keep_cache, opened.direct_io) == (True, False)


@pytest.mark.parametrize("are_direct", [False, True])
@pytest.mark.parametrize(
    ("program", "pieces", "reading"),
    [
        ("gdalinfo", True, Reading.DIRECT),
        ("cp", False, Reading.WHOLE),
        ("file", True, Reading.EXACT),
        ("unzip", False, Reading.ANY),
    ],
)
async def test_how_a_file_is_read_is_told_by_who_reads_it(
    world: World, program: str, reading: Reading, *, pieces: bool, are_direct: bool
) -> None:
    world.fs.open_files.are_images_direct = are_direct
    opened = await world.fs.open(await world.walk("assets/scene.zip"), os.O_RDONLY, program)
    assert (opened.in_pieces, opened.direct_io) == (pieces, pieces and are_direct)
    if reading is Reading.DIRECT and not are_direct:
        reading = Reading.ANY
    assert world.files.opened[-1].reading is reading


@pytest.mark.parametrize("path", ["orders", "orders/Munich", "tags/t", "cnam/FAILED", ".up42fs"])
async def test_a_directory_is_not_opened_as_a_file(world: World, path: str) -> None:
    inode = await world.walk(path)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        with pytest.raises(IsADirectory):
            await world.fs.open(inode, flags)


async def test_a_file_is_not_opened_as_a_directory(world: World) -> None:
    for path in ("assets/scene.zip", ".up42fs/README"):
        with pytest.raises(NotADirectory):
            await world.fs.opendir(await world.walk(path))


@pytest.mark.claim("S4")
async def test_opening_reads_nothing_and_reading_reads_what_was_asked(world: World) -> None:
    opened = await world.fs.open(await world.walk("orders/Munich/scene.zip"), os.O_RDONLY)
    (file,) = world.files.opened
    assert (file.asset_id, file.size, file.reads) == (ASSET.id, 10_000, 0)
    assert file.name == f"scene.zip (asset {ASSET.id})"
    assert await world.fs.read(opened.handle, 9_990, 100) == content(ASSET.id, 9_990, 10_000)
    world.fs.release(opened.handle)
    assert file.closed
    with pytest.raises(BadHandle):
        await world.fs.read(opened.handle, 0, 1)
    world.fs.release(opened.handle)


async def test_handles_that_were_never_given_are_refused(world: World) -> None:
    with pytest.raises(BadHandle):
        await world.fs.read(99, 0, 1)
    with pytest.raises(BadHandle):
        world.fs.directories.read(99, 0, lambda *_: True)
    world.fs.release(99)
    world.fs.directories.close(99)


async def test_an_asset_that_vanished(world: World) -> None:
    inode = await world.walk("assets/scene.zip")
    world.remove(ASSET)
    for refused in (
        world.fs.getattr(inode),
        world.fs.open(inode, os.O_RDONLY),
        world.fs.getxattr(inode, "user.up42.id"),
    ):
        with pytest.raises(VersionChanged, match=ASSET.id):
            await refused
    assert world.files.forgotten == [ASSET.id]
    world.fs.forget(inode, 1)
    with pytest.raises(NotFound):
        await world.fs.getattr(inode)


async def test_an_open_file_outlives_its_names(world: World) -> None:
    opened = await world.fs.open(await world.walk("tags/t/scene.zip"), os.O_RDONLY)
    world.remove(ASSET)
    world.fs.release(opened.handle)
    assert world.files.opened[0].closed


async def test_a_directory_that_vanished(world: World) -> None:
    inode = await world.walk("tags/t")
    world.remove(ASSET)
    for refused in (world.fs.lookup(inode, "scene.zip"), world.fs.opendir(inode)):
        with pytest.raises(VersionChanged, match="tag t is no longer"):
            await refused


async def test_a_learned_size_is_shown_and_the_next_open_drops_the_page_cache(
    world: World,
) -> None:
    inode = await world.walk("assets/scene.zip")
    opened = await world.fs.open(inode, os.O_RDONLY)
    assert opened.keep_cache
    world.fs.release(opened.handle)
    assert Invalidation(inode) in world.fs.changes.learn_size(ASSET.id, 12_345)
    assert (await world.fs.getattr(inode)).size == 12_345
    assert not (await world.fs.open(inode, os.O_RDONLY)).keep_cache
    assert (await world.fs.open(inode, os.O_RDONLY)).keep_cache
    assert [file.size for file in world.files.opened] == [10_000, 12_345, 12_345]
    assert world.fs.statfs().used_bytes == 12_345


async def test_a_learned_size_of_something_unknown_changes_nothing(world: World) -> None:
    assert world.fs.changes.learn_size("gone", 3) == []


# attributes ------------------------------------------------------------------------------------


async def test_what_stat_shows(world: World) -> None:
    asset = await world.fs.lookup(await world.walk("assets"), "scene.zip")
    assert isinstance(asset, Attributes)
    assert oct(asset.mode) == "0o100644"
    assert asset.nlink == 2 + 1 + 2
    assert (asset.size, asset.ttl_s) == (10_000, KERNEL_TTL_S)
    assert asset.mtime_ns == asset.ctime_ns == int(ASSET.created_at.timestamp()) * 10**9
    order = await world.fs.lookup(await world.walk("orders"), "Munich")
    assert isinstance(order, Attributes)
    assert oct(order.mode) == "0o40755"
    assert order.mtime_ns == asset.mtime_ns > int(ORDER.created_at.timestamp()) * 10**9
    bare = await world.fs.lookup(await world.walk("assets"), "bare.bin")
    assert isinstance(bare, Attributes)
    assert (bare.size, bare.nlink) == (0, 2)


async def test_times_are_created_and_updated_to_the_microsecond() -> None:
    moments = [datetime(2024, 5, 6, 7, 8, 9, micro, tzinfo=UTC) for micro in (123_457, 999_999)]
    world = World(make_asset(1, created_at=moments[0], updated_at=moments[1]))
    found = await world.fs.getattr(await world.walk("assets/asset1.zip"))
    assert found.mtime_ns == 1_714_979_289_123_457_000
    assert found.ctime_ns == 1_714_979_289_999_999_000


@pytest.mark.parametrize(("umask", "file", "directory"), [(0, 0o666, 0o777), (0o077, 0o600, 0o700)])
async def test_the_umask_takes_bits_away(umask: int, file: int, directory: int) -> None:
    world = World(ASSET, umask=umask)
    assert (await world.fs.getattr(1)).mode & 0o7777 == directory
    assert (await world.fs.getattr(await world.walk("assets/scene.zip"))).mode & 0o7777 == file
    assert (await world.fs.getattr(await world.walk(".up42fs/README"))).mode & 0o7777 == file


async def test_one_asset_is_one_inode_and_directories_one_a_place(world: World) -> None:
    paths = ("assets", "tags/t", "tags/u", "orders/Munich", "cnam/SUCCESSFUL")
    files = {await world.walk(f"{path}/scene.zip") for path in paths}
    files.add(await world.walk(f"assets/{ASSET.id.upper()}"))
    assert len(files) == 1
    places = [*paths, f"orders/{ORDER.id}", f"orders/{ORDER.id.upper()}"]
    assert len({await world.walk(path) for path in places}) == len(places)


async def test_inode_numbers_are_the_same_in_the_next_mount(world: World) -> None:
    other = World(BARE, ASSET, ORDER)
    await other.walk("cnam/SUCCESSFUL")
    for path in ("assets/scene.zip", "orders/Munich", "tags", "tags/u", ".up42fs/README"):
        assert await world.walk(path) == await other.walk(path)


async def test_the_kernel_must_not_remember_what_no_change_reports(world: World) -> None:
    assets, orders = await world.walk("assets"), await world.walk("orders")
    for parent, id_ in ((assets, ASSET.id), (orders, ORDER.id), (orders, ORDER.id.upper())):
        found = await world.fs.lookup(parent, id_)
        assert isinstance(found, Attributes)
        assert found.ttl_s == 0
    by_id = await world.fs.getattr(await world.walk(f"orders/{ORDER.id}"))
    listed = await world.fs.getattr(await world.walk("orders/Munich"))
    assert (by_id.ttl_s, listed.ttl_s) == (0.0, KERNEL_TTL_S)
    assert await world.fs.lookup(assets, make_asset(7).id) == Absent(0.0)
    assert await world.fs.lookup(assets, "scene.zip.aux.xml") == Absent(KERNEL_TTL_S)


@pytest.mark.claim("S3")
async def test_an_entry_renamed_during_a_walk_is_shown_and_not_remembered(world: World) -> None:
    handle = await world.fs.opendir(await world.walk("tags/t"))
    world.put(make_asset(0xA1, name="other.zip", tags=("t",)))
    shown = []

    def add(name: str, found: Attributes, _next: int) -> bool:
        shown.append((name, found.ttl_s))
        return True

    world.fs.directories.read(handle, 0, add)
    assert shown == [("scene.zip", 0.0)]


# virtual files ---------------------------------------------------------------------------------


async def test_a_virtual_file_is_rendered_when_it_is_opened(world: World) -> None:
    inode = await world.walk(".up42fs/metrics")
    opened = await world.fs.open(inode, os.O_RDONLY)
    assert (opened.keep_cache, opened.direct_io) == (False, True)
    world.counters = "up42fs_y 22\n"
    assert bytes(await world.fs.read(opened.handle, 0, 100)) == b"up42fs_x 1\n"
    assert bytes(await world.fs.read(opened.handle, 7, 2)) == b"x "
    assert bytes(await world.fs.read(opened.handle, 500, 2)) == b""
    found = await world.fs.getattr(inode)
    assert (found.size, found.nlink, found.ttl_s) == (12, 1, 0.0)
    world.fs.release(opened.handle)
    assert world.fs.gauges()["open_files"] == 0


@pytest.mark.claim("S191")
async def test_mappings_show_one_rendering_while_anybody_has_it_open(world: World) -> None:
    inode = await world.walk(".up42fs/metrics")
    first = await world.fs.open(inode, os.O_RDONLY)
    shown = bytes(await world.fs.read(first.handle, 0, 1 << 20, is_mapped=True))
    assert len(shown) == 1 << 20, "a short read would cut the file for its mappings"
    world.counters = "anything 22\n"
    second = await world.fs.open(inode, os.O_RDONLY)
    now = bytes(await world.fs.read(second.handle, 0, 1 << 20))
    assert b"anything" in now
    world.fs.release(first.handle)
    assert await world.fs.read(second.handle, 0, 1 << 20, is_mapped=True) == shown
    world.fs.release(second.handle)
    third = await world.fs.open(inode, os.O_RDONLY)
    again = bytes(await world.fs.read(third.handle, 0, 1 << 20, is_mapped=True))
    assert again.rstrip(b"\0") == now


async def test_the_status_is_json_and_the_readme_says_what_it_is(world: World) -> None:
    texts = {}
    for name in await world.list(".up42fs"):
        opened = await world.fs.open(await world.walk(f".up42fs/{name}"), os.O_RDONLY)
        texts[name] = bytes(await world.fs.read(opened.handle, 0, 1 << 20)).decode()
    assert json.loads(texts["status.json"]) == {"pid": 7, "text": "ü"}
    assert "up42fs unmount" in texts["README"]


# extended attributes ---------------------------------------------------------------------------

FULL = make_asset(
    3,
    name="full.zip",
    title="Full title",
    tags=("t", "u"),
    cnam_status=CnamStatus.IN_PROGRESS,
    content_type="application/zip; charset=binary",
    order_id=ORDER.id,
    account_id="acc",
    workspace_id="ws",
    product_id="prod",
    collection="phr",
    producer="airbus",
    source="ARCHIVE",
    created_at=at(3),
    updated_at=datetime(2024, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
)
FULL_ATTRIBUTES = {
    "user.up42.id": FULL.id,
    "user.up42.kind": "asset",
    "user.up42.name": "full.zip",
    "user.up42.title": "Full title",
    "user.up42.tags": "t,u",
    "user.up42.cnam_status": "IN_PROGRESS",
    "user.up42.order_id": ORDER.id,
    "user.up42.order_name": "Munich",
    "user.up42.order_status": "FULFILLED",
    "user.up42.workspace_id": "ws",
    "user.up42.account_id": "acc",
    "user.up42.product_id": "prod",
    "user.up42.collection": "phr",
    "user.up42.producer": "airbus",
    "user.up42.source": "ARCHIVE",
    "user.up42.content_type": "application/zip; charset=binary",
    "user.up42.created_at": "2024-01-01T00:03:00.000000Z",
    "user.up42.updated_at": "2024-02-03T04:05:06.000007Z",
    "user.mime_type": "application/zip",
    "user.xdg.tags": "t,u",
    "user.xdg.comment": "Full title",
}
ORDER_ATTRIBUTES = {
    "user.up42.id": ORDER.id,
    "user.up42.kind": "order",
    "user.up42.name": "Munich",
    "user.up42.title": "Munich",
    "user.up42.tags": "o1,o2",
    "user.up42.order_id": ORDER.id,
    "user.up42.order_name": "Munich",
    "user.up42.order_status": "FULFILLED",
    "user.up42.order_type": "ARCHIVE",
    "user.up42.workspace_id": "ws-o",
    "user.up42.created_at": "2024-01-01T00:01:00.000000Z",
    "user.up42.updated_at": "2024-01-01T00:01:00.000000Z",
    "user.xdg.tags": "o1,o2",
    "user.xdg.comment": "Munich",
}
UNLISTED = ("user.up42.json", "user.up42.download_url", "user.up42.cached")


async def attributes_of(world: World, path: str) -> dict[str, str]:
    inode = await world.walk(path)
    names = list(at_once(world.fs.listxattr(inode)))
    assert len(set(names)) == len(names)
    return {name: (await world.fs.getxattr(inode, name)).decode() for name in names}


@pytest.mark.claim("S55")
async def test_the_listed_attributes() -> None:
    world = World(ORDER, FULL)
    assert await attributes_of(world, "assets/full.zip") == FULL_ATTRIBUTES
    assert await attributes_of(world, "orders/Munich") == ORDER_ATTRIBUTES
    assert await attributes_of(world, f"orders/{ORDER.id}") == ORDER_ATTRIBUTES
    assert await attributes_of(world, "tags/u") == {
        "user.up42.kind": "tag",
        "user.up42.name": "u",
        "user.up42.tags": "u",
    }
    for path in ("orders", "tags", "cnam", "cnam/FAILED", "assets", ".up42fs", ".up42fs/README"):
        assert await attributes_of(world, path) == {}
    assert not world.documents.asked


@pytest.mark.claim("S55")
async def test_what_up42_does_not_say_is_absent() -> None:
    world = World(make_asset(1, name=None, order_id="3" * 8))
    assert (await attributes_of(world, f"assets/{make_asset(1).id}")).keys() == {
        f"user.up42.{name}"
        for name in ("id", "kind", "cnam_status", "order_id", "created_at", "updated_at")
    }
    assert await attributes_of(world, "orders/33333333") == {
        "user.up42.id": "33333333",
        "user.up42.kind": "order",
        "user.up42.order_id": "33333333",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("security.capability", "system.posix_acl_access", "trusted.x", "user.other"),
        *("user.up42.", "user.up42.none", "user.up42.stac.epsg", "user.xdg.origin.url", "user", ""),
    ],
)
async def test_unknown_attributes(world: World, name: str) -> None:
    for path in ("assets/scene.zip", "orders/Munich", "tags/t", "assets", ".up42fs/README"):
        with pytest.raises(NoAttribute):
            await world.fs.getxattr(await world.walk(path), name)
    assert not world.documents.asked


async def test_a_span_is_fetched_for_who_names_it(world: World) -> None:
    assert ASSET.size is not None
    inode = await world.walk("assets/scene.zip")
    for text, count in {"0-10": 10, "7-8": 1, f"{ASSET.size - 3}-{ASSET.size + 9}": 3}.items():
        assert await world.fs.getxattr(inode, f"user.up42.fetch.{text}") == str(count).encode()
    assert all(file.reading is Reading.EXACT and file.closed for file in world.files.opened)
    assert len(world.files.opened) == 3
    for text in ("", "1", "5-5", "9-3", "-1-4", "a-b", "0-4194305", "1-2-3"):
        with pytest.raises(InvalidArgument):
            await world.fs.getxattr(inode, f"user.up42.fetch.{text}")
    with pytest.raises(NoAttribute):
        await world.fs.getxattr(await world.walk("tags/t"), "user.up42.fetch.0-10")


async def test_unlisted_attributes_are_where_they_belong(
    world: World, autojump_clock: MockClock
) -> None:
    world.files.held[ASSET.id] = 777
    asset, order = await world.walk("assets/scene.zip"), await world.walk("orders/Munich")
    assert not set(UNLISTED) & {
        *at_once(world.fs.listxattr(asset)),
        *at_once(world.fs.listxattr(order)),
    }
    assert await world.fs.getxattr(asset, "user.up42.cached") == b"777"
    assert json.loads(await world.fs.getxattr(asset, "user.up42.json"))["what"] == "asset"
    assert json.loads(await world.fs.getxattr(order, "user.up42.json"))["what"] == "order"
    link = await world.fs.getxattr(asset, "user.up42.download_url")
    assert link.startswith(b"https://store.example/")
    for name in UNLISTED[1:]:
        with pytest.raises(NoAttribute):
            await world.fs.getxattr(order, name)
    for name in UNLISTED:
        with pytest.raises(NoAttribute):
            await world.fs.getxattr(await world.walk("tags/t"), name)


# requests --------------------------------------------------------------------------------------


@pytest.mark.claim("S10")
async def test_nothing_but_unlisted_attributes_makes_a_request(world: World) -> None:
    for path in ("orders", "orders/Munich", "tags", "tags/t", "assets", "cnam/SUCCESSFUL"):
        for name in await world.list(path):
            inode = await world.walk(f"{path}/{name}")
            await world.fs.getattr(inode)
            await attributes_of(world, f"{path}/{name}")
    opened = await world.fs.open(await world.walk("assets/scene.zip"), os.O_RDONLY)
    world.fs.release(opened.handle)
    world.fs.statfs()
    assert not world.documents.asked
    assert sum(file.reads for file in world.files.opened) == 0


@pytest.mark.parametrize(
    ("name", "key", "ttl_s"),
    [("user.up42.json", "asset", 30.0), ("user.up42.download_url", "sign", 5.0)],
)
async def test_askers_share_one_request_and_its_answer_for_a_while(
    world: World, autojump_clock: MockClock, name: str, key: str, ttl_s: float
) -> None:
    inode = await world.walk("assets/scene.zip")
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await world.fs.getxattr(inode, name))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert world.documents.asked == {f"{key} {ASSET.id}": 1}
    assert len(set(answers)) == 1
    await trio.sleep(ttl_s - 0.5)
    await ask()
    assert world.documents.asked.total() == 1
    await trio.sleep(1.0)
    await ask()
    assert world.documents.asked.total() == 2


async def test_different_askers_do_not_wait_for_each_other(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    held = [make_asset(n) for n in range(10)]
    world = World(*held)
    inodes = [await world.walk(f"assets/{asset.name}") for asset in held]
    started_s = trio.current_time()
    async with trio.open_nursery() as askers:
        for inode in inodes:
            askers.start_soon(world.fs.getxattr, inode, "user.up42.json")
    assert trio.current_time() - started_s == pytest.approx(world.documents.delay_s)


async def test_a_failed_request_is_not_kept_and_the_next_askers_share_again(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    inode = await world.walk("assets/scene.zip")
    world.documents.fail = [Unavailable("once")]
    results: list[object] = []

    async def ask(after_s: float) -> None:
        await trio.sleep(after_s)
        try:
            results.append(await world.fs.getxattr(inode, "user.up42.json"))
        except Unavailable as error:
            results.append(error)

    async with trio.open_nursery() as askers:
        for after_s in (0.0, 0.5, 1.5):  # the third comes while the second one's request runs
            askers.start_soon(ask, after_s)
    assert world.documents.asked.total() == 2
    assert [type(result) for result in results] == [Unavailable, bytes, bytes]


async def test_askers_who_run_out_of_time_hear_what_went_wrong(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the time of a handler, also those who stood behind another."""

    async def answer(asset_id: str) -> dict[str, object]:
        note(Unavailable("UP42 answered 502"))
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(world.documents, "asset_document", answer)
    inode = await world.walk("assets/scene.zip")

    async def ask(after_s: float) -> None:
        await trio.sleep(after_s)
        with pytest.raises(Unavailable, match="502"), trio.fail_after(METADATA_DEADLINE_S):
            await world.fs.getxattr(inode, "user.up42.json")

    async with trio.open_nursery() as askers:
        for after_s in (0.0, 1.0, 2.0):
            askers.start_soon(ask, after_s)


async def test_a_cancelled_asker_does_no_harm(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    inode = await world.walk("assets/scene.zip")
    with trio.move_on_after(0.5) as scope:
        await world.fs.getxattr(inode, "user.up42.json")
    assert scope.cancelled_caught
    assert await world.fs.getxattr(inode, "user.up42.json")
    assert world.documents.asked.total() == 2


# odd text --------------------------------------------------------------------------------------


async def test_surrogates_do_no_harm(autojump_clock: MockClock) -> None:
    odd = "\udcff\ud800x"
    asset = make_asset(1, name=odd + ".zip", title=odd, tags=(odd,), order_id=ORDER.id)
    world = World(asset, make_order(1, display_name=odd))
    for path in ("orders", "tags", "assets"):
        (name,) = await world.list(path)
        assert os.fsencode(name).decode("utf-8") == name
        inode = await world.walk(f"{path}/{name}")
        for attribute in at_once(world.fs.listxattr(inode)):
            assert (await world.fs.getxattr(inode, attribute)).decode("utf-8")
    opened = await world.fs.open(await world.walk(f"assets/{asset.id}"), os.O_RDONLY)
    assert len(await world.fs.read(opened.handle, 0, 10)) == 10
    assert await world.fs.lookup(await world.walk("assets"), "\udcff") == Absent(KERNEL_TTL_S)


async def test_the_json_document_may_hold_anything(world: World, autojump_clock: MockClock) -> None:
    async def odd_document(order_id: str) -> dict[str, str]:
        return {"title": "\ud800 ü"}

    world.documents.order_document = odd_document  # type: ignore[method-assign]
    found = await world.fs.getxattr(await world.walk("orders/Munich"), "user.up42.json")
    assert json.loads(found.decode("utf-8")) == {"title": "? ü"}


def test_a_ready_catalogue_answers_without_waiting() -> None:
    world = World(ORDER, ASSET)
    assert isinstance(world.catalogue, Catalogue)
    assert at_once(world.walk("orders/Munich/scene.zip"))
    assert at_once(world.list("assets")) == ["scene.zip"]


@pytest.mark.claim("S118")
async def test_opening_a_large_directory_makes_no_object_for_each_entry() -> None:
    """Millions of objects take time when they are made, and when they are freed."""
    world = World(*(make_asset(number, name=f"{number}.bin") for number in range(3000)))
    assets = await world.walk("assets")
    world.fs.directories.close(await world.fs.opendir(assets))  # builds the directory itself
    gc.collect()
    before = len(gc.get_objects())
    handle = await world.fs.opendir(assets)
    assert len(gc.get_objects()) - before < 300
    names: set[str] = set()

    def take(name: str, *_: int) -> bool:
        names.add(name)
        return True

    world.fs.directories.read_names(handle, 0, take)
    assert names == {f"{number}.bin" for number in range(3000)}

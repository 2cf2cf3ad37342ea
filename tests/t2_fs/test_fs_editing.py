"""What writing calls mean: attributes, directories of tags, and what is refused, and how."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import trio
from edits_support import EditedWorld
from fs_support import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from strategies import make_asset, make_order
from trio.testing import MockClock

from up42fs.errors import (
    AlreadyExists,
    InvalidArgument,
    NoAttribute,
    NotEditable,
    NotEmpty,
    NotFound,
    ReadOnly,
    Unsupported,
    Up42fsError,
)
from up42fs.fs.tree.nodes import Absent, Attributes, Kind, Node

ORDER = make_order(1)
ONE = make_asset(1, tags=("a", "b"), title="one", order_id=ORDER.id)
TWO = make_asset(2, tags=("b",))
TWIN = make_asset(3, name="asset1.zip", tags=("b",))


@pytest.fixture
def world(autojump_clock: MockClock) -> EditedWorld:
    world = EditedWorld(ONE, TWO, TWIN)
    world.put(ORDER)
    return world


@contextmanager
def unasked(world: EditedWorld):
    before = len(world.service.reads)
    yield
    assert len(world.service.reads) == before, "UP42 was asked"


# attributes


@pytest.mark.parametrize(
    "path", ["assets/asset1.zip", "orders/order 1/asset1.zip", f"tags/a/{ONE.id}"]
)
@pytest.mark.parametrize(("name", "shown"), [("up42.title", "xdg.comment"), ("xdg.comment",) * 2])
async def test_a_title_is_set_and_cleared(world: EditedWorld, path, name, shown) -> None:
    await world.setxattr(path, f"user.{name}", "new title, with a comma")
    assert (await world.shown(path))[f"user.{shown}"] == "new title, with a comma"
    assert world.service.assets[ONE.id].title == "new title, with a comma"
    assert world.service.assets[ONE.id].tags == ONE.tags
    await world.removexattr(path, f"user.{name}")
    assert f"user.{shown}" not in await world.shown(path)
    with pytest.raises(NoAttribute), unasked(world):
        await world.removexattr(path, f"user.{name}")


@pytest.mark.parametrize("name", ["user.up42.tags", "user.xdg.tags"])
async def test_tags_are_set_and_cleared(world: EditedWorld, name: str) -> None:
    await world.setxattr("assets/asset1.zip", name, "b, c ,d/e")
    assert world.service.assets[ONE.id].tags == ("b", "c", "d/e")
    assert await world.list("tags") == ["b", "c", "d_e"]
    await world.setxattr("assets/asset1.zip", name, "")
    assert world.service.assets[ONE.id].tags == ()
    assert await world.list("tags") == ["b"]


async def test_a_value_that_is_there_is_no_request(world: EditedWorld) -> None:
    path = "assets/asset1.zip"
    with unasked(world):
        for name, value in (await world.shown(path)).items():
            await world.setxattr(path, name, value)
        await world.setxattr(path, "user.up42.tags", " b,a,")
        for name in ("user.up42.title", "user.up42.tags"):
            await world.setxattr("assets/asset2.zip", name, "b" if "tags" in name else "")
        for other in ("orders/order 1", "tags/a"):
            for name, value in (await world.shown(other)).items():
                await world.setxattr(other, name, value)


@pytest.mark.parametrize(
    ("path", "name", "value", "error"),
    [
        ("assets/asset1.zip", "user.up42.tags", "a#b", InvalidArgument),
        ("assets/asset1.zip", "user.up42.title", "two\nlines", InvalidArgument),
        ("assets/asset1.zip", "user.up42.id", "x", NotEditable),
        ("assets/asset1.zip", "user.up42.download_url", "x", NotEditable),
        ("assets/asset1.zip", "user.up42.undo", "1", NotEditable),
        ("assets/asset1.zip", "user.up42.new", "x", NotEditable),
        ("assets/asset1.zip", "user.mime_type", "x/y", NotEditable),
        ("assets/asset1.zip", "user.baloo.rating", "5", Unsupported),
        ("orders/order 1", "user.up42.title", "x", NotEditable),
        ("orders/order 1", "user.xdg.tags", "x", NotEditable),
        ("tags/a", "user.up42.tags", "x", NotEditable),
        ("assets", "user.up42.title", "x", NotEditable),
        (".up42fs/README", "user.up42.title", "x", NotEditable),
    ],
)
async def test_what_cannot_be_set(world: EditedWorld, path, name, value, error) -> None:
    with pytest.raises(error), unasked(world):
        await world.setxattr(path, name, value)


async def test_what_cannot_be_removed(world: EditedWorld) -> None:
    with unasked(world):
        for name, error in (
            ("user.up42.id", NotEditable),
            ("user.mime_type", NotEditable),
            ("user.up42.json", NoAttribute),
            ("user.other", NoAttribute),
        ):
            with pytest.raises(error):
                await world.removexattr("assets/asset1.zip", name)
    inode = await world.walk("assets/asset1.zip")
    with pytest.raises(InvalidArgument):
        await world.editing.setxattr(inode, "user.up42.title", b"\xff")


# directories of tags


async def test_a_directory_is_kept_until_it_is_removed(world: EditedWorld) -> None:
    with unasked(world):
        made = await world.call("mkdir", "tags/new")
        assert made.is_dir
        assert await world.list("tags") == ["a", "b", "new"]
        assert (await world.fs.getattr(await world.walk("tags"))).nlink == 5
        assert await world.list("tags/new") == []
        with pytest.raises(AlreadyExists):
            await world.call("mkdir", "tags/new")
        await world.call("rmdir", "tags/new")
        assert isinstance(await world.fs.lookup(await world.walk("tags"), "new"), Absent)
        with pytest.raises(NotFound):
            await world.call("rmdir", "tags/new")
        again = await world.call("mkdir", "tags/new")
    assert again.inode == made.inode
    assert again.generation != made.generation  # the kernel took the first one for dead


async def test_from_the_first_member_on_up42_says_whether_a_tag_is_there(world) -> None:
    await world.call("mkdir", "tags/new")
    await world.link("assets/asset1.zip", "tags/new/asset1.zip")
    assert world.directories.held == set()
    world.service.console(ONE.id, tags=())
    world.put(world.service.assets[ONE.id])
    assert await world.list("tags") == ["b"]


async def test_an_asset_is_linked_moved_and_removed(world: EditedWorld) -> None:
    await world.link("assets/asset2.zip", "tags/a/asset2.zip")
    assert world.service.assets[TWO.id].tags == ("b", "a")
    found = await world.fs.lookup(await world.walk("tags/a"), "asset2.zip")
    assert isinstance(found, Attributes)
    assert (found.nlink, found.ttl_s) == (4, 0.0)
    await world.call("mkdir", "tags/c")
    writes = len(world.service.writes)
    await world.rename("tags/a/asset2.zip", "tags/c/asset2.zip")
    assert len(world.service.writes) == writes + 1
    assert world.service.assets[TWO.id].tags == ("b", "c")
    await world.call("unlink", "tags/c/asset2.zip")
    assert world.service.assets[TWO.id].tags == ("b",)
    assert await world.list("tags") == ["a", "b", "c"], "an emptied directory stays"
    await world.call("rmdir", "tags/c")
    assert await world.list("tags") == ["a", "b"]


async def test_an_asset_keeps_its_name(world: EditedWorld) -> None:
    await world.call("mkdir", "tags/c")
    for name in ("other.zip", "asset1 [00000002].zip", "asset1.tif", TWO.id):
        with pytest.raises(NotEditable, match="keeps its name"), unasked(world):
            await world.link("assets/asset1.zip", f"tags/c/{name}")
        with pytest.raises(NotEditable), unasked(world):
            await world.rename("tags/a/asset1.zip", f"tags/c/{name}")
    # The name of a clash, or its ID, is its name somewhere, too.
    await world.link("tags/b/asset1 [00000003].zip", "tags/c/asset1 [00000003].zip")
    await world.link("assets/asset2.zip", f"tags/c/{TWO.id}")
    assert sorted(await world.list("tags/c")) == ["asset1.zip", "asset2.zip"]
    with pytest.raises(AlreadyExists):
        await world.rename("tags/a/asset1.zip", "tags/c/asset1.zip")
    await world.rename("tags/a/asset1.zip", "tags/c/asset1 [00000001].zip")
    assert sorted(await world.list("tags/c")) == [
        "asset1 [00000003].zip",
        "asset1.zip",
        "asset2.zip",
    ]


async def test_a_tag_is_renamed_on_all_its_assets(world: EditedWorld) -> None:
    await world.rename("tags/b", "tags/c")
    assert await world.list("tags") == ["a", "c"]
    assert [asset.tags for asset in world.service.assets.values()] == [("a", "c"), ("c",), ("c",)]
    assert len(world.service.writes) == 3
    with pytest.raises(NotEmpty):
        await world.rename("tags/a", "tags/c")
    await world.call("mkdir", "tags/empty")
    await world.rename("tags/c", "tags/empty")
    assert await world.list("tags") == ["a", "empty"]
    await world.call("mkdir", "tags/other")
    await world.rename("tags/other", "tags/moved")
    assert await world.list("tags") == ["a", "empty", "moved"]


async def test_a_tag_renamed_in_part_shows_both(world: EditedWorld) -> None:
    del world.service.assets[TWO.id]
    await world.call("mkdir", "tags/c")
    with pytest.raises(NotFound, match="2 of 3"):
        await world.rename("tags/b", "tags/c")
    assert await world.list("tags") == ["a", "b", "c"]
    assert await world.list("tags/b") == ["asset2.zip"]
    assert await world.list("tags/c") == ["asset1.zip", "asset1 [00000003].zip"]


@pytest.mark.parametrize("name", ["a,b", " a", "a ", "a#b", "x" * 201, "a\nb", "e\u0301", "☂"])
async def test_names_that_are_no_tags(world: EditedWorld, name: str) -> None:
    for change in (world.call("mkdir", f"tags/{name}"), world.rename("tags/a", f"tags/{name}")):
        with pytest.raises(InvalidArgument), unasked(world):
            await change


async def test_everything_else_is_read_only(world: EditedWorld) -> None:
    refused = [
        world.call("mkdir", "assets/x"),
        world.call("mkdir", "tags/a/x"),
        world.call("mkdir", "x"),
        world.call("rmdir", "tags"),
        world.call("rmdir", "orders/order 1"),
        world.call("rmdir", "tags/a/asset1.zip"),
        world.call("unlink", "assets/asset1.zip"),
        world.call("unlink", "orders/order 1/asset1.zip"),
        world.call("unlink", "cnam/NOT_PROCESSED/asset1.zip"),
        world.call("unlink", ".up42fs/README"),
        world.link("assets/asset1.zip", "assets/x.zip"),
        world.link("assets/asset1.zip", "orders/order 1/x.zip"),
        world.link("assets/asset1.zip", "tags/asset1.zip"),
        world.rename("assets/asset1.zip", "tags/b/asset1.zip"),
        world.rename("tags/a/asset1.zip", "assets/asset1.zip"),
        world.rename("tags/a", "tags/b/a"),
        world.rename("tags/a", "assets/a"),
        world.rename("orders/order 1", "orders/x"),
        world.rename("tags/a/asset1.zip", "tags/asset1.zip"),
    ]
    with unasked(world):
        for call in refused:
            with pytest.raises(ReadOnly):
                await call
        with pytest.raises(InvalidArgument):
            await world.link(".up42fs/README", "tags/a/README")
        with pytest.raises(InvalidArgument):  # RENAME_EXCHANGE
            await world.rename("tags/a/asset1.zip", "tags/b/asset1.zip", 2)
        for gone in (
            world.call("unlink", "tags/a/nothing"),
            world.rename("tags/a/nothing", "tags/b/nothing"),
            world.rename("tags/nothing", "tags/c"),
        ):
            with pytest.raises(NotFound):
                await gone
    assert await world.list("tags") == ["a", "b"]


# what the kernel may remember


async def test_names_that_edits_change_are_not_remembered(world: EditedWorld) -> None:
    tags = await world.walk("tags")
    for parent, name in ((1, "tags"), (tags, "a"), (await world.walk("tags/a"), "asset1.zip")):
        found = await world.fs.lookup(parent, name)
        assert isinstance(found, Attributes)
        assert found.ttl_s == 0.0
    assert isinstance(found, Attributes)
    assert found.attr_ttl_s == 300.0
    assert found.mode == 0o100644
    assert (await world.fs.lookup(tags, "nothing")) == Absent(0.0)
    elsewhere = await world.fs.lookup(await world.walk("assets"), "asset1.zip")
    assert isinstance(elsewhere, Attributes)
    assert elsewhere.ttl_s == 300.0


async def test_the_kernel_hears_of_links_and_titles_but_of_no_name_in_tags(world) -> None:
    inode = await world.walk("tags/a/asset1.zip")
    await world.walk("assets")
    await world.setxattr("assets/asset1.zip", "user.up42.tags", "new")
    told = {(item.inode, item.name) for item in world.told}
    assert (inode, None) in told
    assert (await world.walk("tags"), None) in told
    assert {name for _, name in told} == {None}


async def test_without_edits_everything_is_remembered_as_before() -> None:
    plain = World(ONE)
    tags = await plain.walk("tags")
    found = await plain.fs.lookup(tags, "a")
    assert isinstance(found, Attributes)
    assert (found.ttl_s, found.mode) == (300.0, 0o40755)


async def test_times_and_bytes_of_an_edited_asset(world: EditedWorld) -> None:
    path = "assets/asset1.zip"
    before = await world.fs.getattr(await world.walk(path))
    opened = await world.fs.open(before.inode, 0)
    world.fs.release(opened.handle)
    await world.setxattr(path, "user.up42.title", "x")
    after = await world.fs.getattr(before.inode)
    assert after.ctime_ns > before.ctime_ns
    assert after.mtime_ns == before.mtime_ns
    # Its bytes are the same: the kernel keeps its pages, the disk cache its cells.
    assert (await world.fs.open(before.inode, 0)).keep_cache
    world.service.console(ONE.id)
    world.put(world.service.assets[ONE.id])
    assert not (await world.fs.open(before.inode, 0)).keep_cache


# against a model


class Shell(RuleBasedStateMachine):
    """Random calls against sets of tags; what the tree shows is what the service has."""

    def __init__(self) -> None:
        super().__init__()
        self.world = EditedWorld(*(make_asset(n, tags=("a",) if n % 2 else ()) for n in range(4)))
        self.world.service.delay_s = 0.0

    def run(self, call, *arguments) -> bool:
        async def attempt() -> bool:
            try:
                await call(*arguments)
            except Up42fsError:
                return False
            return True

        return trio.run(attempt)

    names = st.sampled_from(["a", "b", "c"])
    numbers = st.integers(0, 3)

    @rule(name=names)
    def mkdir(self, name: str) -> None:
        there = name in self.listed()
        assert self.run(self.world.call, "mkdir", f"tags/{name}") is not there

    @rule(name=names)
    def rmdir(self, name: str) -> None:
        empty = name in self.listed() and not self.members(name)
        assert self.run(self.world.call, "rmdir", f"tags/{name}") is empty
        assert not empty or name not in self.listed()

    @rule(number=numbers, name=names)
    def link(self, number: int, name: str) -> None:
        possible = name in self.listed() and number not in self.members(name)
        done = name in self.listed() and self.run(
            self.world.link, f"assets/asset{number}.zip", f"tags/{name}/asset{number}.zip"
        )
        assert done is possible
        assert not done or number in self.members(name)

    @rule(number=numbers, name=names)
    def unlink(self, number: int, name: str) -> None:
        there = name in self.listed() and number in self.members(name)
        done = there and self.run(self.world.call, "unlink", f"tags/{name}/asset{number}.zip")
        assert done is there
        assert not done or name in self.listed()

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        members, listed = self.members(old), self.listed()
        possible = old in listed and (old == new or not self.members(new))
        assert self.run(self.world.rename, f"tags/{old}", f"tags/{new}") is possible
        if possible:
            assert self.members(new) == members
            assert old == new or old not in self.listed()

    @rule(number=numbers, tags=st.lists(names, unique=True))
    def set_tags(self, number: int, tags: list[str]) -> None:
        path = f"assets/asset{number}.zip"
        assert self.run(self.world.setxattr, path, "user.up42.tags", ",".join(tags))
        assert set(self.world.service.assets[make_asset(number).id].tags) == set(tags)

    @rule(number=numbers, tags=st.lists(names, unique=True))
    def console(self, number: int, tags: list[str]) -> None:
        self.world.service.console(make_asset(number).id, tags=tuple(tags))
        self.world.put(*self.world.service.assets.values())

    def listed(self) -> list[str]:
        return trio.run(self.world.list, "tags")

    def members(self, name: str) -> set[int]:
        numbers = range(4)
        return {n for n in numbers if name in self.world.service.assets[make_asset(n).id].tags}

    @invariant()
    def tree_and_service_agree(self) -> None:
        for name in self.listed():
            shown = trio.run(self.world.list, f"tags/{name}")
            assert sorted(shown) == [f"asset{n}.zip" for n in sorted(self.members(name))]
        carried = {tag for asset in self.world.service.assets.values() for tag in asset.tags}
        assert carried <= set(self.listed())
        for number in range(4):
            asset = self.world.service.assets[make_asset(number).id]
            node = Node(Kind.ASSET, asset.id)
            assert self.world.fs.tree.layout.links(node) == 2 + len(set(asset.tags))


TestShell = Shell.TestCase
TestShell.settings = settings(max_examples=40, stateful_step_count=20)

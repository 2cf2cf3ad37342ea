"""How much of attributes is listed: never more than ext4 takes, and nothing is lost."""

from __future__ import annotations

import pytest
from edits_support import EditedWorld
from fs_support import World, at_once
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import make_asset
from trio.testing import MockClock

from up42fs.errors import InvalidArgument, TooLarge
from up42fs.fs.xattrs import CUT, MOST_LISTED_BYTES, PREFIX, WHOLE, cut, fitted, listed_bytes

_NAMES = st.sampled_from(["title", "tags", "name", "stac.title", "collection", "id"])
_VALUES = st.one_of(
    st.text(min_size=1, max_size=40),
    st.integers(1, 70_000).map("x".__mul__),
    st.integers(1, 20_000).map("ö🛰".__mul__),
    st.lists(st.text("abö -", min_size=1, max_size=60), min_size=1, max_size=300).map(",".join),
)


@given(st.dictionaries(_NAMES, _VALUES), st.booleans())
@settings(max_examples=400)
def test_what_is_listed_fits(values: dict[str, str], has_twins: bool) -> None:
    whole = {PREFIX + name: value for name, value in values.items()}
    if has_twins:
        whole |= {"user.xdg.tags": values.get("tags", ""), "user.xdg.comment": "other"}
    listed = fitted(whole)
    raw = sum(len(n) + len(v.encode(errors="replace")) for n, v in listed.items())
    assert raw <= listed_bytes(listed) <= MOST_LISTED_BYTES
    if listed_bytes(whole) <= MOST_LISTED_BYTES:
        assert listed == whole
    assert whole.keys() - listed.keys() <= {"user.xdg.tags", "user.xdg.comment"}
    assert "user.xdg.comment" in listed or not has_twins or whole.get(PREFIX + "title") == "other"
    for name, value in listed.items():
        assert value == whole[name] or value.endswith(CUT)
        start = value.removesuffix(CUT)
        encoded = whole[name].encode(errors="replace").decode()
        assert encoded.startswith(start) or value == whole[name]
        if value != whole[name] and name.endswith("tags"):
            tags = set(whole[name].split(","))
            assert set(start.split(",")) - {""} <= tags


def test_short_values_stay_whole_beside_a_long_one() -> None:
    listed = fitted(
        {PREFIX + "id": "a" * 36, PREFIX + "title": "t" * 9000, PREFIX + "kind": "asset"}
    )
    assert listed[PREFIX + "id"] == "a" * 36
    assert 3000 < len(listed[PREFIX + "title"].encode()) < MOST_LISTED_BYTES
    assert cut(PREFIX + "tags", "one,two,three", 12) == "one,two,…"
    assert cut(PREFIX + "tags", "a-single-long-tag", 8) == "…"


@pytest.mark.claim("S172")
async def test_what_was_cut_is_readable_whole() -> None:
    tags = tuple(f"tag {number:04}" for number in range(2000))
    world = World(make_asset(1, name="big.zip", title="t" * 1000, tags=tags))
    inode = await world.walk("assets/big.zip")
    names = list(at_once(world.fs.listxattr(inode)))
    values = {name: await world.fs.getxattr(inode, name) for name in names}
    assert sum(len(name) + len(value) for name, value in values.items()) < MOST_LISTED_BYTES
    assert "user.xdg.tags" not in names
    assert values["user.up42.tags"].decode().startswith("tag 0000,tag 0001,")
    assert values["user.up42.tags"].decode().endswith(",…")
    assert values["user.up42.title"] == b"t" * 1000
    everything = ",".join(tags).encode()
    assert await world.fs.getxattr(inode, WHOLE + "tags") == everything
    assert await world.fs.getxattr(inode, "user.xdg.tags") == everything
    assert not any(name.startswith(WHOLE) for name in names)


async def test_more_than_linux_hands_over_is_said(autojump_clock: MockClock) -> None:
    world = World(make_asset(1, name="big.zip", tags=tuple("x" * 199 + str(n) for n in range(999))))
    inode = await world.walk("assets/big.zip")
    with pytest.raises(TooLarge, match="65,536 at most"):
        await world.fs.getxattr(inode, WHOLE + "tags")


async def test_a_cut_list_is_not_taken_for_an_edit(autojump_clock: MockClock) -> None:
    """`rsync -X` sets what it read; a script adds a tag to what it read. Neither loses tags."""
    tags = tuple(f"tag {number:04}" for number in range(900))
    one = make_asset(1, tags=tags)
    world = EditedWorld(one)
    inode = await world.walk("assets/asset1.zip")
    shown = (await world.fs.getxattr(inode, "user.up42.tags")).decode()
    assert shown.endswith(",…")
    await world.setxattr("assets/asset1.zip", "user.up42.tags", shown)
    await world.setxattr("assets/asset1.zip", "user.xdg.tags", ",".join(tags))
    assert world.service.assets[one.id].tags == tags
    with pytest.raises(InvalidArgument, match=r"user\.up42\.whole\.tags"):
        await world.setxattr("assets/asset1.zip", "user.up42.tags", "new," + shown)
    assert world.service.assets[one.id].tags == tags

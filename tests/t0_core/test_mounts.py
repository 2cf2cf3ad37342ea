"""The kernel's mount table: what stands in a line, whatever the names in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.fuse.mount_table import Mount, mount_at, parse_mountinfo

_ESCAPED = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"}


def escape(path: str) -> str:
    """As the kernel's seq_path writes a path: these four and nothing else."""
    return "".join(_ESCAPED.get(character, character) for character in path)


def line(mountpoint: str, fstype: str = "fuse.up42fs", source: str = "up42:eu") -> str:
    optional = "shared:7 master:1"
    return (
        f"36 35 0:52 / {escape(mountpoint)} ro,nosuid {optional} - "
        f"{fstype} {escape(source)} ro,user_id=0,group_id=0\n"
    )


def test_the_fields_of_a_line() -> None:
    assert parse_mountinfo(line("/mnt/up42")) == [
        Mount("/mnt/up42", "0:52", "fuse.up42fs", "up42:eu")
    ]


@pytest.mark.parametrize(
    ("options", "owner"),
    [
        ("ro,user_id=1000,group_id=0", 1000),
        ("rw,user_id=0", 0),
        ("rw", None),
        ("x_user_id=5", None),
    ],
)
def test_who_mounted(options: str, owner: int | None) -> None:
    text = f"36 35 0:52 / /m ro shared:7 - fuse.up42fs up42:eu {options}\n"
    (found,) = parse_mountinfo(text)
    assert found.owner == owner
    assert found.is_foreign == (owner is not None and owner != os.geteuid())


def test_a_line_without_optional_fields() -> None:
    text = "22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw,errors=remount-ro\n"
    assert parse_mountinfo(text) == [Mount("/", "8:2", "ext4", "/dev/sda2")]


@pytest.mark.parametrize(
    "path", ["/a b", "/tab\there", "/two\nlines", "/back\\slash", "/\\040", "/a - b", "/ü/雪"]
)
def test_escapes_are_taken_back(path: str) -> None:
    assert parse_mountinfo(line(path, source=path)) == [Mount(path, "0:52", "fuse.up42fs", path)]


paths = st.text(st.characters(exclude_characters="\0"), max_size=30).map(lambda tail: "/" + tail)


@given(st.lists(paths, max_size=4))
def test_every_path_comes_back(mountpoints: list[str]) -> None:
    text = "".join(map(line, mountpoints))
    assert [mount.mountpoint for mount in parse_mountinfo(text)] == mountpoints


@given(st.text() | st.text(alphabet="0123 -/\\\n:a"))
def test_no_text_makes_it_raise(text: str) -> None:
    assert all(mount.fstype or mount.device for mount in parse_mountinfo(text)) or " - " in text


@pytest.mark.parametrize("text", ["", "\n\n", "garbage\n", "1 2 3 - x\n", "1 2 3:4 / /mnt rw -\n"])
def test_lines_that_are_none_are_left_out(text: str) -> None:
    assert parse_mountinfo(text + line("/mnt")) == parse_mountinfo(line("/mnt"))


def test_what_is_mounted_here() -> None:
    root = mount_at("/proc")
    assert root is not None
    assert root.fstype == "proc"
    assert mount_at(Path("/proc/self")) is None
    assert mount_at("/no/such/place") is None

"""Attributes of any length copied by real tools onto ext4, which has 4 KiB for a file's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Mount, check, mounted, run
from stranger import Stranger, row, stranger

pytestmark = pytest.mark.mount

TAGS = [f"tag number {number:04}" for number in range(400)]
ROWS = [
    row(1, name="tagged.bin", title="T" * 1000, tags=TAGS, size=4096),
    row(2, name="plain.bin", title="short", tags=["one", "two"], size=4096),
    row(3, name="ümläut.bin", title="ö" * 500, tags=["ä" * 90 + str(n) for n in range(40)], size=9),
    row(4, name="odd.bin", producerName="p" * 100_000, collectionName="c" * 70_000, size=9),
]


def is_ext4(path: Path) -> bool:
    return check("stat", "-f", "-c", "%T", path).strip().startswith("ext")


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on ext4: a loop device's, where what there is is something else."""
    here = tmp_path_factory.mktemp("ext4")
    if is_ext4(here):
        yield here
        return
    image, place = here / "image", here / "mounted"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    made = run("mkfs.ext4", "-q", "-F", image)
    if made.returncode or run("mount", "-o", "loop", image, place).returncode:
        pytest.skip(f"no ext4 here, and none can be made: {made.stderr}")
    try:
        yield place
    finally:
        check("umount", place)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stranger, Mount]]:
    with stranger() as service:
        service.rows[:] = ROWS
        with mounted(service.env, "-o", "rw", home=tmp_path_factory.mktemp("mount")) as there:
            yield service, there


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


@pytest.mark.claim("S172")
@pytest.mark.parametrize("tool", ["cp -a", "rsync -aX", "tar"])
def test_copies_take_all_listed_attributes(
    many: tuple[Stranger, Mount], ext4: Path, tool: str
) -> None:
    _, there = many
    copy = ext4 / tool.replace(" ", "")
    copy.mkdir()
    if tool == "tar":
        script = 'tar -C "$1" --xattrs -cf - . | tar -C "$2" --xattrs -xpf -'
        check("sh", "-c", script, "sh", there.path / "assets", copy)
    else:
        done = run(*tool.split(), f"{there.path}/assets/.", copy)
        assert (done.returncode, done.stderr) == (0, "")
    for name in os.listdir(there.path / "assets"):
        source, target = there.path / "assets" / name, copy / name
        listed = attributes(source)
        assert sum(len(key) + len(value) for key, value in listed.items()) <= 3584
        assert attributes(target) == listed
        assert listed["user.up42.id"]
    # Back again: what was cut is not taken for an edit.
    before = len(many[0].seen)
    check("sh", "-c", 'cd "$1" && for f in *; do getfattr -d "$f" | setfattr --restore=-; done '
          "2>/dev/null || true", "sh", copy)  # fmt: skip
    assert len(many[0].seen) == before


@pytest.mark.claim("S172")
def test_getfattr_shows_all_and_what_was_cut_is_there(many: tuple[Stranger, Mount]) -> None:
    _, there = many
    shown = subprocess.run(
        ["getfattr", "-d", *(path.name for path in (there.path / "assets").iterdir())],
        cwd=there.path / "assets", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stderr == ""
    assert shown.stdout.count("user.up42.id=") == len(ROWS)
    tagged = there.path / "assets" / "tagged.bin"
    assert os.getxattr(tagged, "user.up42.whole.tags").decode() == ",".join(TAGS)
    assert os.getxattr(tagged, "user.up42.tags").decode().endswith(",…")
    assert os.getxattr(tagged, "user.up42.title") == b"T" * 1000
    plain = attributes(there.path / "assets" / "plain.bin")
    assert plain["user.xdg.tags"] == plain["user.up42.tags"] == b"one,two"

"""Two mounts and the console edit the same assets at once: nothing is lost that nobody removed.

Each adds and removes tags of its own, and only those, so what must be there at the end is known
whatever the order, although one answer in five to the mounts is lost. The console's step is atomic;
a mount's is a reading and a writing, and UP42 has no conditional write. So one loss is allowed, and
must be shown to be that one: a tag of the console that came between a mount's reading of that asset
and its writing.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness import Emulator, Mount, emulator, mounted, wait_until

pytestmark = pytest.mark.mount

TAGS = "user.up42.tags"
STEPS = 60
ASSETS = 5
#: Between what a clock says and what it is about, seconds.
MARGIN_S = 0.002


@dataclass
class Actor:
    """Somebody with tags of their own: which assets have each, by what was done without error."""

    name: str
    random: random.Random
    made: int = 0
    have: dict[str, set[str]] = field(default_factory=dict)

    def new_tag(self) -> str:
        self.made += 1
        tag = f"{self.name}{self.made}"
        self.have[tag] = set()
        return tag

    def used(self) -> list[tuple[str, str]]:
        return [(tag, asset_id) for tag, assets in self.have.items() for asset_id in assets]


class ByMount(Actor):
    """Edits through a mount, by whatever call."""

    def run(self, mount: Mount, assets: list[str]) -> None:
        for _ in range(STEPS):
            step = self.random.choice((self.link, self.tag, self.untag, self.unlink, self.move))
            if self.random.random() < 0.1:
                step = self.rename
            step(mount.path, self.random.choice(assets))

    def link(self, top: Path, asset_id: str) -> None:
        tag = self.new_tag()
        os.mkdir(top / "tags" / tag)
        os.link(top / "assets" / asset_id, top / "tags" / tag / asset_id)
        self.have[tag].add(asset_id)
        assert os.path.exists(top / "tags" / tag / asset_id)

    def tag(self, top: Path, asset_id: str) -> None:
        tag = self.new_tag()
        self.write(top / "assets" / asset_id, self.shown(top, asset_id) | {tag})
        self.have[tag].add(asset_id)

    def untag(self, top: Path, _: str) -> None:
        for tag, asset_id in self.some():
            self.write(top / "assets" / asset_id, self.shown(top, asset_id) - {tag})
            self.have[tag].discard(asset_id)

    def unlink(self, top: Path, _: str) -> None:
        for tag, asset_id in self.some():
            os.unlink(top / "tags" / tag / asset_id)
            self.have[tag].discard(asset_id)
            assert not os.path.exists(top / "tags" / tag / asset_id)

    def move(self, top: Path, _: str) -> None:
        for tag, asset_id in self.some():
            new = self.new_tag()
            os.mkdir(top / "tags" / new)
            os.rename(top / "tags" / tag / asset_id, top / "tags" / new / asset_id)
            self.have[tag].discard(asset_id)
            self.have[new].add(asset_id)

    def rename(self, top: Path, _: str) -> None:
        for tag, _asset_id in self.some():
            new = self.new_tag()
            os.rename(top / "tags" / tag, top / "tags" / new)
            self.have[new], self.have[tag] = self.have[tag], set()

    def some(self) -> Iterator[tuple[str, str]]:
        used = self.used()
        if used:
            yield self.random.choice(used)

    def shown(self, top: Path, asset_id: str) -> set[str]:
        path = top / "assets" / asset_id
        if TAGS not in os.listxattr(path):
            return set()
        return set(os.getxattr(path, TAGS).decode().split(","))

    def write(self, path: Path, tags: set[str]) -> None:
        os.setxattr(path, TAGS, ",".join(sorted(tags)).encode())


class Console(Actor):
    """Edits in the service itself; remembers when: tag, asset, and from when to when."""

    edited: list[tuple[str, str, float, float]]

    def run(self, service: Emulator, assets: list[str]) -> None:
        self.edited = []
        for _ in range(STEPS):
            used = self.used()
            removes = used and self.random.random() < 0.3
            tag, asset_id = self.random.choice(used) if removes else ("", "")
            if not removes:
                tag, asset_id = self.new_tag(), self.random.choice(assets)
            start_s = time.time()
            what = {"remove" if removes else "add": [tag]}
            service.remote.storage("edit_tags", id=asset_id, **what)
            self.edited.append((tag, asset_id, start_s, time.time()))
            self.have[tag] ^= {asset_id}
            time.sleep(0.005)


def windows(service: Emulator, asset_id: str) -> Iterator[tuple[float, float]]:
    """From each reading of an asset to the writing after it, in the service's time."""
    read_s = 0.0
    for request in service.remote.log():
        if request["object_id"] != asset_id:
            continue
        if request["route"] == "assets.metadata":
            read_s = request["t_s"]
        elif request["route"] == "assets.update":
            yield read_s, request["t_s"]


def shown(mount: Mount, assets: list[str]) -> dict[str, set[str]]:
    """Tags by asset as `tags/` and the attributes have them, which must agree."""
    found: dict[str, set[str]] = {asset_id: set() for asset_id in assets}
    for directory in (mount.path / "tags").iterdir():
        for path in directory.iterdir():
            if path.is_file():
                found[os.getxattr(path, "user.up42.id").decode()].add(directory.name)
    for asset_id, tags in found.items():
        path = mount.path / "assets" / asset_id
        names = os.listxattr(path)
        attribute = os.getxattr(path, TAGS).decode().split(",") if TAGS in names else []
        assert tags == set(attribute)
        order = "user.up42.order_id" in names
        assert path.stat().st_nlink == 2 + order + len(tags)
    return found


def test_nothing_is_lost_that_nobody_removed(tmp_path: Path, stack: ExitStack) -> None:
    service = stack.enter_context(emulator("--synthetic", str(ASSETS)))
    env = service.env | {"HOME": str(tmp_path)}
    options = ("-o", "rw,refresh=3600")
    mounts = [stack.enter_context(mounted(env, *options, home=tmp_path)) for _ in range(2)]
    assets = [row["id"] for row in service.remote.storage()["assets"]]
    others = {row["id"]: set(row["tags"] or []) for row in service.remote.storage()["assets"]}
    # One answer in five is lost, the edit carried out.
    service.remote.faults(fail_route="assets.update", reset_before_headers=True, fail_share=0.2)
    actors = [ByMount(name, random.Random(name)) for name in "ab"]
    console = Console("c", random.Random("c"))
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(actor.run, m, assets) for actor, m in zip(actors, mounts, strict=True)]
        runs.append(pool.submit(console.run, service, assets))
        for run in runs:
            run.result()

    struck = [r for r in service.remote.log(route="assets.update") if r["status"] == 0]
    assert len(struck) > STEPS / 10
    has = {row["id"]: set(row["tags"] or []) for row in service.remote.storage()["assets"]}
    must = {asset_id: set(tags) for asset_id, tags in others.items()}
    for actor in (*actors, console):
        for tag, asset_id in actor.used():
            must[asset_id].add(tag)
    excused = {
        (asset_id, tag)
        for tag, asset_id, edit_start_s, edit_stop_s in console.edited
        for start_s, stop_s in windows(service, asset_id)
        if edit_start_s <= stop_s + MARGIN_S and edit_stop_s >= start_s - MARGIN_S
    }
    for asset_id in assets:
        lost = must[asset_id] - has[asset_id]
        assert {tag for tag in lost if (asset_id, tag) not in excused} == set(), "lost"
        extra = has[asset_id] - must[asset_id]
        assert {tag for tag in extra if (asset_id, tag) not in excused} == set(), "came back"
    kept = [tag for tag, asset_id in console.used() if tag in has[asset_id]]
    assert len(kept) > len(console.used()) / 2

    for mount in mounts:
        os.kill(mount.pid, signal.SIGHUP)
        wait_until(lambda mount=mount: shown_or_not(mount, assets) == has, 20, "both trees agree")
        for directory in (mount.path / "tags").iterdir():
            if not any(directory.iterdir()):
                directory.rmdir()
        assert set(os.listdir(mount.path / "tags")) == set().union(*has.values())


def shown_or_not(mount: Mount, assets: list[str]) -> dict[str, set[str]] | None:
    """`shown`, or None where it changed while it was looked at."""
    try:
        return shown(mount, assets)
    except (AssertionError, FileNotFoundError):
        return None

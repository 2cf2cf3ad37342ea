#!/usr/bin/env python3
"""Archives, apart from single programs: neighbours, seek points alone, a walk past a thousand.

    inflate.py [--only neighbours] [--size full] [--work DIR] [--data DIR]

On the line of 50 ms and 200 Mbit/s, with scenes of `contrib/bench/run`. `neighbours`: a deflated
member is read from its front while another program looks at the mount and a third one reads a large
file; the slowest look, the third one's share of the line and the mount's memory are printed.
`points`: a member is read through in a mount whose caches hold little of it; then single MiB at
random places cost some packed bytes each, since inflating begins at a seek point. `walk`: `find
-maxdepth 2` over 1,000 deliveries that are archives. The exit status is 1 where a bar of issue 18
is not met.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import archive_scenes
import scenes
from cli import DEFAULT_WORK
from figures import LINE_BYTES_S
from mounts import emulator, mounted
from processes import sampled_memory
from scenes import SIZES, ensure
from sites import LEGS, Site, site, store
from subjects import Reach, reach

from up42fs.emulator.remote import Remote

MIB = 1 << 20
#: The bars: seconds of a look, share of the line, MB and seconds of a MiB from points.
LOOK_S, SHARE, POINT_BYTES, POINT_S = 0.1, 0.45, 2.5e6, 0.25
#: A mount that can hold little of the member in memory, and only points and little else on disk.
SMALL = "up42fs:memory=64+cache_size=96M"
_READ_S = 6.0
_PLACES = 7


@dataclass(frozen=True)
class Figure:
    """One measured value beside its bar."""

    name: str
    value: float
    bar: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the bar holds."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def neighbours(where: Site, home: Path) -> list[Figure]:
    """A look at the mount and another reader while a member is inflated."""
    looks: list[float] = []
    over = threading.Event()
    with reach("up42fs", where, home, archive_scenes.FOLDER) as way:
        root = home / "mnt"
        os.listdir(root / "orders" / "big")
        member = _member(way)
        inflating = subprocess.Popen(["cat", member], stdout=subprocess.DEVNULL)
        looking = threading.Thread(target=_look, args=(root, over, looks))
        with sampled_memory(way.pid) as memory:
            looking.start()
            time.sleep(1)
            count = _read_for(way.locate(scenes.BIG), _READ_S)
            still = inflating.poll() is None
            over.set()
            looking.join()
        inflating.kill()
        inflating.wait()
    if not still:
        print("the member was inflated before the other reader ended: its share is too good")
    return [
        Figure("slowest df or ls, s", max(looks), LOOK_S),
        Figure("another reader's share", count / _READ_S / LINE_BYTES_S, SHARE, at_least=True),
        Figure("memory, MB", max(memory) / 1e6, 300),
    ]


def points(where: Site, home: Path) -> list[Figure]:
    """Single MiB of a member whose inflated bytes are gone."""
    fetched, seconds = [], []
    with reach(SMALL, where, home, archive_scenes.FOLDER) as way:
        member = _member(way)
        size = os.stat(member).st_size
        subprocess.run(["cat", member], stdout=subprocess.DEVNULL, check=True)
    # A mount that has seen the image's head reads whole tiles of it, 2 MiB each.
    with reach(SMALL, where, home, archive_scenes.FOLDER) as way:
        member = _member(way)
        os.stat(member)
        chance = random.Random(1)
        for _ in range(_PLACES):
            at = chance.randrange(size // 8, size * 7 // 8)
            time.sleep(0.5)
            position, began_s = where.store.position(), time.time()
            started_s = time.monotonic()
            with open(member, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.pread(file.fileno(), MIB, at)
            seconds.append(time.monotonic() - started_s)
            time.sleep(0.5)
            served = where.store.served_since(position, began_s)
            fetched.append(sum(one.body_bytes for one in served))
    return [
        Figure("a MiB from points, bytes", statistics.median(fetched), POINT_BYTES),
        Figure("a MiB from points, s", statistics.median(seconds), POINT_S),
    ]


def walk(_where: Site, home: Path) -> list[Figure]:
    """What programs that look for files cost which do not look into archives."""
    with emulator("1000,50,0,0") as ready:
        mountpoint = home / "mnt"
        mountpoint.mkdir()
        with mounted(ready["env"], mountpoint, home):
            orders = mountpoint / "orders"
            os.listdir(orders)
            remote = Remote(ready["control_url"])
            position = remote.position()
            command = ["find", str(orders), "-maxdepth", "2"]
            found = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
            requests = remote.count(since=position)
    beside = 2 * 1000 + 50  # each archive and its directory, in the orders
    return [
        Figure("find past archives, requests", requests, 0),
        Figure("what it found", len(found), beside, at_least=True),
    ]


def _member(way: Reach) -> str:
    return f"{way.locate(archive_scenes.DEFLATED).removesuffix('.zip')}/{archive_scenes.IMAGE}"


def _look(root: Path, over: threading.Event, looks: list[float]) -> None:
    acts: tuple[Callable[[], object], ...] = (
        lambda: os.statvfs(root),
        lambda: os.listdir(root / "orders"),
        lambda: os.listdir(root / "orders" / archive_scenes.FOLDER),
    )
    while not over.wait(0.05):
        for act in acts:
            began_s = time.monotonic()
            act()
            looks.append(time.monotonic() - began_s)


def _read_for(path: str, seconds: float) -> int:
    """Read a file from its front for so long; return how many bytes came."""
    count, until_s = 0, time.monotonic() + seconds
    with open(path, "rb", buffering=0) as file:
        while time.monotonic() < until_s and (piece := file.read(128 << 10)):
            count += len(piece)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="neighbours, points or walk")
    options = parser.parse_args()
    wanted = (archive_scenes.DEFLATED, scenes.BIG)
    work = options.work.expanduser().resolve()
    folder = ensure(work, SIZES[options.size], options.data, wanted)
    figures: list[Figure] = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-store-")))
        served = stack.enter_context(store(folder, home, secrets.token_urlsafe(16)))
        where = stack.enter_context(site(LEGS["line"], served))
        for measured in (neighbours, points, walk):
            if options.only in measured.__name__:
                with tempfile.TemporaryDirectory(prefix="bench-") as own:
                    figures += measured(where, Path(own))
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        said = "met" if figure.is_met else "NOT MET"
        print(f"{figure.name:28} {figure.value:12.3f}   {sign} {figure.bar:g}   {said}")
    return int(not all(figure.is_met for figure in figures))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Memory of a mount under mixed traffic: the most there was, and whether it grows.

    memory.py [--minutes 10] [--readers 12] [--synthetic 2000,100,20,100,8]

Readers of every kind at once: whole files, ranges of many open files, images with tables of tiles,
thousands of files opened once, names that are not there, listings with attributes, files mapped
into memory. The kernel keeps none of what was read. Resident memory is looked at twice a
second, and the kernel knows the most. The exit status is 1 where that was above 300 MB, or where
the last quarter of the time had more than 1.05 times what the second had (the first fills the
caches).
"""

from __future__ import annotations

import argparse
import base64
import mmap
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from chaos import raster
from measure import growth
from mounts import emulator, mounted, status
from processes import memory_bytes, most_memory_bytes

from up42fs.emulator.remote import Remote

MIB = 1 << 20
MOST_BYTES = 300_000_000
MOST_GROWTH = 1.05
SAMPLE_S = 0.5
OPEN_FILES = 24
#: What an image needs in its table of tiles to be worth bounding: 1024 of 64 pixels.
IMAGE_SIDE, TILE_SIDE = 2048, 64


@dataclass
class Traffic:
    """The reads under way, and those done; `stop` ends it."""

    mountpoint: Path
    large: list[Path]
    images: list[Path]
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def read(self, descriptor: int, offset: int, size: int) -> None:
        """Read, and have the kernel forget it: the mount is to be asked again."""
        count = len(os.pread(descriptor, size, offset))
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
        self.done["reads"] += 1
        self.done["bytes"] += count


def opened(traffic: Traffic, path: Path) -> int:
    traffic.done["opens"] += 1
    return os.open(path, os.O_RDONLY)


def whole(traffic: Traffic, chance: random.Random) -> None:
    """A large file from its start, as far as somebody has patience."""
    descriptor = opened(traffic, chance.choice(traffic.large))
    size = os.fstat(descriptor).st_size
    for offset in range(0, chance.randrange(size // 4, size), MIB):
        if traffic.stop.is_set():
            break
        traffic.read(descriptor, offset, MIB)
    os.close(descriptor)


def ranges(traffic: Traffic, chance: random.Random) -> None:
    """Many files open at once, read here and there."""
    files = [opened(traffic, chance.choice(traffic.large)) for _ in range(OPEN_FILES)]
    for _ in range(4 * OPEN_FILES):
        descriptor = chance.choice(files)
        offset = chance.randrange(os.fstat(descriptor).st_size)
        traffic.read(descriptor, offset, chance.choice((4096, 65536, 700_000)))
    for descriptor in files:
        os.close(descriptor)


def images(traffic: Traffic, chance: random.Random) -> None:
    """The head of an image, which has its table of tiles, and some tiles."""
    descriptor = opened(traffic, chance.choice(traffic.images))
    traffic.read(descriptor, 0, 65536)
    for _ in range(6):
        traffic.read(descriptor, chance.randrange(os.fstat(descriptor).st_size), 16384)
    os.close(descriptor)


def listings(traffic: Traffic, chance: random.Random) -> None:
    """Folders with attributes, of files and beyond."""
    top = chance.choice(("orders", "tags", "assets", "stac", "cnam"))
    folders = [traffic.mountpoint / top]
    for folder in folders:
        entries = list(folder.iterdir())
        chance.shuffle(entries)
        for entry in entries[:60]:
            if traffic.stop.is_set():
                return
            entry.stat()
            traffic.done["looks"] += 1
            with suppress(OSError):
                for name in os.listxattr(entry)[:4]:
                    os.getxattr(entry, name)
            if entry.is_dir() and len(folders) < 8:
                folders.append(entry)


def once(traffic: Traffic, chance: random.Random) -> None:
    """Files that are opened once, and the sidecars that programs look for beside them."""
    folder = traffic.mountpoint / "assets"
    for name in chance.sample(os.listdir(folder), 20):
        for suffix in (".aux.xml", ".ovr", ".msk"):
            (folder / f"{name}{suffix}").exists()
            traffic.done["looks"] += 1
        if (folder / name).is_file():
            descriptor = opened(traffic, folder / name)
            traffic.read(descriptor, 0, 4096)
            os.close(descriptor)


def mapped(traffic: Traffic, chance: random.Random) -> None:
    """Pages here and there of a mapped file."""
    descriptor = opened(traffic, chance.choice(traffic.large))
    size = os.fstat(descriptor).st_size
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as pages:
        for _ in range(20):
            offset = chance.randrange(size - 4096)
            traffic.done["bytes"] += len(pages[offset : offset + 4096])
            traffic.done["reads"] += 1
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


KINDS: tuple[Callable[[Traffic, random.Random], None], ...] = (
    whole, ranges, images, listings, once, mapped,
)  # fmt: skip


def drive(traffic: Traffic, number: int) -> None:
    """One reader, whose kinds of work take turns, until it is told to stop."""
    chance = random.Random(number)
    turn = number
    while not traffic.stop.is_set():
        try:
            KINDS[turn % len(KINDS)](traffic, chance)
        except Exception as error:  # told at the end; the thread would die unheard
            traffic.errors.append(f"{KINDS[turn % len(KINDS)].__name__}: {error}")
            traffic.stop.set()
        turn += 1


def run(
    seconds: float, readers: int, synthetic: str, sizes: Sequence[int]
) -> tuple[Traffic, list[int]]:
    """Traffic on a mount of its own; what was done, and the resident memory in bytes."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memory-")))
        ready = stack.enter_context(emulator(synthetic))
        remote, mountpoint = Remote(ready["control_url"]), home / "mnt"
        mountpoint.mkdir()
        traffic = _storage(remote, mountpoint, home, sizes)
        pid = stack.enter_context(
            mounted(ready["env"], mountpoint, home, "refresh=30,archives=off")
        )
        threads = [threading.Thread(target=drive, args=(traffic, n)) for n in range(readers)]
        for thread in threads:
            thread.start()
        memory: list[int] = []
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not traffic.stop.wait(SAMPLE_S):
            memory.append(memory_bytes(pid))
        traffic.stop.set()
        for thread in threads:
            thread.join()
        traffic.done["most"] = most_memory_bytes(pid)
        traffic.done["fetched"] = status(mountpoint)["counters"]["store.bytes_fetched"]
    return traffic, memory


def _storage(remote: Remote, mountpoint: Path, home: Path, sizes: Sequence[int]) -> Traffic:
    folder = mountpoint / "assets"
    large, shown = [], []
    for number, size in enumerate(sizes):
        remote.storage("add_asset", name=f"large-{number}.bin", size=size, seed=number)
        large.append(folder / f"large-{number}.bin")
    image = base64.b64encode(raster(home / "image.tif", IMAGE_SIDE, TILE_SIDE)).decode()
    for number in range(8 * len(sizes)):
        remote.storage("add_asset", name=f"image-{number}.tif", content_base64=image)
        shown.append(folder / f"image-{number}.tif")
    return Traffic(mountpoint, large, shown)


def troubles(traffic: Traffic, memory: Sequence[int]) -> list[str]:
    """The figures that are not as they should be."""
    found = list(traffic.errors)
    if traffic.done["most"] > MOST_BYTES:
        found.append(f"{traffic.done['most'] / 1e6:.0f} MB of memory, of {MOST_BYTES / 1e6:.0f}")
    if growth(memory) > MOST_GROWTH:
        found.append(f"memory grew by {growth(memory):.2f}, of {MOST_GROWTH}")
    return found


def report(traffic: Traffic, memory: Sequence[int]) -> str:
    """The work done and its costs, a line a tenth of the time."""
    done = traffic.done
    lines = [
        f"{done['bytes'] / 1e9:.1f} GB read ({done['fetched'] / 1e9:.1f} GB fetched) in "
        f"{done['reads']} reads, {done['opens']} opens, {done['looks']} looks at names"
    ]
    step = max(1, len(memory) // 10)
    shown = (max(memory[at : at + step]) / 1e6 for at in range(0, len(memory), step))
    lines.append("MB, the most of each tenth: " + " ".join(f"{one:.0f}" for one in shown))
    lines.append(f"most {done['most'] / 1e6:.0f} MB, growth {growth(memory):.3f}")
    return "\n".join(lines + troubles(traffic, memory))


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory of a mount under mixed traffic")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--readers", type=int, default=12)
    parser.add_argument("--synthetic", default="2000,100,20,100,8")
    options = parser.parse_args()
    sizes = [size * MIB for size in (5, 20, 60, 120, 250, 250, 400, 700, 30, 30, 90, 160)]
    traffic, memory = run(60 * options.minutes, options.readers, options.synthetic, sizes)
    print(report(traffic, memory))
    return int(bool(troubles(traffic, memory)))


if __name__ == "__main__":
    sys.exit(main())

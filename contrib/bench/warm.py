#!/usr/bin/env python3
"""Warm reads: how many a second a mount answers out of its memory, and what one costs.

    warm.py [--base CHECKOUT] [--rounds 9] [--seconds 0.5] [--only tiff] [--synthetic 20,2,2]

Files that the mount holds in memory are read with O_DIRECT, so that each read is one request. With
`--base`, the directory of another version's checkout, both versions are mounted at once and
measured in turn, and every figure is the median ratio of this version to that one within a round,
with the least and the greatest: reads a second, and reads a processor second of the mount's
process. The second one hardly depends on what else the machine does. The exit status is 1 where a
median of processor seconds is below `--least`.
"""

from __future__ import annotations

import argparse
import base64
import mmap
import os
import random
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mounts import emulator, mounted, wait_for
from processes import family

from up42fs.emulator.remote import Remote

REPOSITORY = Path(__file__).resolve().parents[2]
KIB, MIB = 1 << 10, 1 << 20
FILE_BYTES = 4 * MIB
_TILE_PIXELS = 256
_TILES = 6  # in each direction; a tile is 64 KiB
#: The crawl for items has begun and ended by then, where a large storage is mounted.
_CRAWL_S = 5.0


@dataclass(frozen=True)
class Case:
    """One kind of reading: so many readers of `name`, each with a descriptor of its own."""

    name: str
    file: str
    size: int
    is_random: bool
    readers: int = 1

    def offsets(self, reader: int, length: int) -> list[int]:
        """The offsets that a reader reads, again and again."""
        offsets = list(range(0, length - self.size + 1, self.size))
        if self.is_random:
            random.Random(reader).shuffle(offsets)
        return offsets


CASES = (
    Case("random", "warm.bin", 4 * KIB, is_random=True),
    Case("random by 8", "warm.bin", 4 * KIB, is_random=True, readers=8),
    Case("in order", "warm.bin", 4 * KIB, is_random=False),
    Case("in order by 8", "warm.bin", 4 * KIB, is_random=False, readers=8),
    Case("tiff, random", "warm.tif", 4 * KIB, is_random=True),
    Case("tiff, in order", "warm.tif", 4 * KIB, is_random=False),
    Case("tiff, in order by 8", "warm.tif", 4 * KIB, is_random=False, readers=8),
    Case("64 KiB random", "warm.bin", 64 * KIB, is_random=True),
    Case("64 KiB random by 8", "warm.bin", 64 * KIB, is_random=True, readers=8),
    Case("64 KiB", "warm.bin", 64 * KIB, is_random=False),
    Case("64 KiB by 4", "warm.bin", 64 * KIB, is_random=False, readers=4),
    Case("64 KiB by 8", "warm.bin", 64 * KIB, is_random=False, readers=8),
    Case("64 KiB by 16", "warm.bin", 64 * KIB, is_random=False, readers=16),
    Case("1 MiB in order", "warm.bin", MIB, is_random=False),
    Case("1 MiB by 4", "warm.bin", MIB, is_random=False, readers=4),
    Case("1 MiB by 16", "warm.bin", MIB, is_random=False, readers=16),
)


class Rate(NamedTuple):
    """Reads a second, and reads a processor second of the mount."""

    per_s: float
    per_cpu_s: float


class Reader(threading.Thread):
    """Reads `offsets` of a file over and over."""

    def __init__(self, path: Path, case: Case, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.reads = 0
        self._path, self._size, self._until = path, case.size, stop
        self._offsets = case.offsets(number, path.stat().st_size)

    def run(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, self._size)
        while not self._until.is_set():
            for offset in self._offsets:
                os.preadv(descriptor, [buffer], offset)
                self.reads += 1
                if self._until.is_set():
                    break
        os.close(descriptor)


def tiff() -> bytes:
    """An image of one level in tiles."""
    side, count = _TILE_PIXELS * _TILES, _TILES**2
    tile_bytes = _TILE_PIXELS**2
    tags = 10
    tables_at = 8 + 2 + 12 * tags + 4
    data_at = 4096
    starts = struct.pack(f"<{count}I", *(data_at + n * tile_bytes for n in range(count)))
    sizes = struct.pack(f"<{count}I", *[tile_bytes] * count)
    short, long = 3, 4
    entries = (
        (256, short, 1, side), (257, short, 1, side), (258, short, 1, 8), (259, short, 1, 1),
        (262, short, 1, 1), (277, short, 1, 1), (322, short, 1, _TILE_PIXELS),
        (323, short, 1, _TILE_PIXELS), (324, long, count, tables_at),
        (325, long, count, tables_at + len(starts)),
    )  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, tags)
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return (head + starts + sizes).ljust(data_at, b"\0") + bytes(count * tile_bytes)


def measured(mountpoint: Path, pid: int, case: Case, seconds: float) -> Rate:
    """One turn of one case."""
    path, stop = mountpoint / "assets" / case.file, threading.Event()
    path.read_bytes()
    readers = [Reader(path, case, number, stop) for number in range(case.readers)]
    for reader in readers:
        reader.start()
    time.sleep(seconds / 10)
    before, before_s, began_s = _reads(readers), _used_s(pid), time.perf_counter()
    time.sleep(seconds)
    reads = _reads(readers) - before
    took_s, used_s = time.perf_counter() - began_s, _used_s(pid) - before_s
    stop.set()
    for reader in readers:
        reader.join()
    return Rate(reads / took_s, reads / max(used_s, 1e-9))


def _used_s(pid: int) -> float:
    """Processor seconds of a mount's process, to the microsecond."""
    threads = [
        path for one in family(pid) for path in Path(f"/proc/{one}/task").glob("*/schedstat")
    ]
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def _reads(readers: Sequence[Reader]) -> int:
    return sum(reader.reads for reader in readers)


def turns(subjects: Sequence[Callable[[], Rate]], rounds: int) -> Iterator[list[Rate]]:
    """The rates of all subjects in each round; each goes first as often as the others."""
    for number in range(rounds):
        order = list(enumerate(subjects))
        if number % 2:
            order.reverse()
        rates = {place: measure() for place, measure in order}
        yield [rates[place] for place in range(len(subjects))]


def ratios(rounds: Sequence[Sequence[Rate]], of: Callable[[Rate], float]) -> list[float]:
    """This version over the other one, in each round."""
    return [of(new) / of(base) for new, base in rounds]


def shown(values: Sequence[float]) -> str:
    """The median, the least and the greatest."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def run(options: argparse.Namespace, mounts_: Sequence[tuple[Path, int]]) -> bool:
    """Measure and print all cases; whether each is at least as good as it should be."""
    is_good = True
    for case in CASES:
        if options.only not in case.name:
            continue
        subjects = [partial(measured, at, pid, case, options.seconds) for at, pid in mounts_]
        rates = list(turns(subjects, options.rounds))
        mine = [each[0] for each in rates]
        line = f"{case.name:20} {statistics.median(rate.per_s for rate in mine):8.0f}/s"
        line += f" {1e6 / statistics.median(rate.per_cpu_s for rate in mine):6.1f} µs of processor"
        if len(mounts_) > 1:
            by_cpu = ratios(rates, lambda rate: rate.per_cpu_s)
            line += f"   rate {shown(ratios(rates, lambda rate: rate.per_s))}"
            line += f"   by processor {shown(by_cpu)}"
            is_good &= statistics.median(by_cpu) >= options.least
        print(line, flush=True)
    return is_good


def main() -> int:
    parser = argparse.ArgumentParser(description="Warm reads, by themselves or beside a version")
    parser.add_argument("--base", type=Path, help="checkout of the version to compare with")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--synthetic", default="20,2,2", help="the storage; see up42fs emulator")
    parser.add_argument("--least", type=float, default=0.9)
    options = parser.parse_args()
    with ExitStack() as stack:
        ready = stack.enter_context(emulator(options.synthetic))
        remote = Remote(ready["control_url"])
        remote.storage("add_asset", name="warm.bin", size=FILE_BYTES, seed=1)
        content = base64.b64encode(tiff()).decode()
        remote.storage("add_asset", name="warm.tif", content_base64=content)
        mounted_ones = []
        for checkout in filter(None, (REPOSITORY, options.base)):
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warm-")))
            mountpoint = home / "mnt"
            mountpoint.mkdir()
            env = ready["env"] | {"PYTHONPATH": str(checkout)}
            pid = stack.enter_context(mounted(env, mountpoint, home))
            wait_for((mountpoint / "assets" / "warm.tif").exists, "the listing")
            mounted_ones.append((mountpoint, pid))
        time.sleep(_CRAWL_S)
        return int(not run(options, mounted_ones))


if __name__ == "__main__":
    sys.exit(main())

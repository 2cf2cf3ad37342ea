#!/usr/bin/env python3
"""Readers beside a storm of lookups: what is left of their rate, and how soon `df` and `ls` answer.

    storm.py [--rounds 7] [--seconds 1.0] [--synthetic 20000,200,20,1,1] [--readers 1]

A file that the mount has in memory is read in order, past the kernel's pages, alone and beside a
storm in turn: `find` in a loop over a large tree, or (`--storm names`) a program that asks for one
name after another that is not there. Then `df` and `ls` are timed beside the readers. The exit
status is 1 where a median rate beside the storm is below `--least` of the one without, or a call
took longer than `--most` seconds. `--python` is that of another version of up42fs, to compare.
`--options` are the mount's: `find` walks over names, and does not look into every archive. A
version before archives were directories gets `--options refresh=3600`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mounts
from mounts import emulator, mounted, wait_for
from processes import cpu_s, running

from up42fs.emulator.remote import Remote

MIB = 1 << 20
FILE_BYTES = 12 * MIB
PAUSE_S = 0.05
#: When it is ended, the program that it waits for ends as well.
_FIND = """
trap 'kill $!; exit' TERM
while :; do find "$1" -type f >/dev/null 2>&1 & wait; done
"""
#: Asks for names that are not there, each of them once.
_NAMES = """
import os, sys
number = 0
while True:
    number += 1
    os.path.exists(f"{sys.argv[1]}/missing-{os.getpid()}-{number}")
"""
STORMS = {
    "find": ["sh", "-c", _FIND, "find-storm"],
    "names": [sys.executable, "-c", _NAMES],
}


class Reader(threading.Thread):
    """Reads a file in order, again and again; the kernel keeps none of it."""

    def __init__(self, path: Path, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._path, self._until = path, stop

    def run(self) -> None:
        descriptor, buffer = os.open(self._path, os.O_RDONLY), bytearray(MIB)
        while not self._until.is_set():
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            for offset in range(0, FILE_BYTES, MIB):
                self.bytes += os.preadv(descriptor, [buffer], offset)
        os.close(descriptor)


@contextmanager
def readers(path: Path, count: int) -> Iterator[list[Reader]]:
    """So many that read `path` while the block runs."""
    stop = threading.Event()
    all_ = [Reader(path, stop) for _ in range(count)]
    for one in all_:
        one.start()
    try:
        yield all_
    finally:
        stop.set()
        for one in all_:
            one.join()


def rate(all_: Sequence[Reader], seconds: float) -> float:
    """Bytes a second of all of them together."""
    before, began_s = sum(one.bytes for one in all_), time.perf_counter()
    time.sleep(seconds)
    return (sum(one.bytes for one in all_) - before) / (time.perf_counter() - began_s)


def slowest(command: Sequence[str], times: int) -> tuple[float, float]:
    """The median and the longest time of a command, seconds."""
    took: list[float] = []
    for _ in range(times):
        began_s = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - began_s)
        time.sleep(PAUSE_S)
    return statistics.median(took), max(took)


def run(options: argparse.Namespace, mountpoint: Path, pid: int) -> list[str]:
    """Measure and tell; returns what is not as it should be."""
    file, troubles = mountpoint / "assets" / "read.bin", list[str]()
    storm = [*STORMS[options.storm], str(mountpoint / "assets")]
    ratios, quiet, beside, shares = list[float](), list[float](), list[float](), list[float]()
    wait_for(file.exists, "the listing")
    file.read_bytes()
    with readers(file, options.readers) as all_:
        rate(all_, options.seconds)
        for _ in range(options.rounds):
            quiet.append(rate(all_, options.seconds))
            with running(storm):
                time.sleep(PAUSE_S)
                before_s = cpu_s(pid)
                beside.append(rate(all_, options.seconds))
                shares.append((cpu_s(pid) - before_s) / options.seconds)
            ratios.append(beside[-1] / quiet[-1])
        ratio = statistics.median(ratios)
        print(
            f"{options.readers} readers: {statistics.median(quiet) / 1e6:.0f} MB/s, beside a storm "
            f"of {options.storm} {statistics.median(beside) / 1e6:.0f} MB/s: {ratio:.2f} "
            f"[{min(ratios):.2f}-{max(ratios):.2f}], the mount on {statistics.median(shares):.2f} "
            "processors"
        )
        if ratio < options.least:
            troubles.append(f"{ratio:.2f} of the rate is left, of {options.least}")
        few = str(mountpoint / "tags")
        for command in (["df", str(mountpoint)], ["ls", "-l", few]):
            median_s, most_s = slowest(command, 4 * options.rounds)
            print(f"{command[0]} beside readers: {median_s:.3f} s, at most {most_s:.3f} s")
            if median_s > options.most:
                troubles.append(f"{command[0]} took {median_s:.3f} s, of {options.most}")
    return troubles


def main() -> int:
    parser = argparse.ArgumentParser(description="Readers beside a storm of lookups")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--synthetic", default="20000,200,20,1,1")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--storm", choices=sorted(STORMS), default="find")
    parser.add_argument("--least", type=float, default=0.9)
    parser.add_argument("--most", type=float, default=0.1)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--options", default="refresh=3600,archives=off")
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-")))
        ready, mountpoint = stack.enter_context(emulator(options.synthetic)), home / "mnt"
        mountpoint.mkdir()
        Remote(ready["control_url"]).storage("add_asset", name="read.bin", size=FILE_BYTES, seed=1)
        mounts.UP42FS = (options.python, "-P", "-m", "up42fs")
        pid = stack.enter_context(mounted(ready["env"], mountpoint, home, options.options))
        troubles = run(options, mountpoint, pid)
    print("\n".join(troubles) or "all as it should be")
    return int(bool(troubles))


if __name__ == "__main__":
    sys.exit(main())

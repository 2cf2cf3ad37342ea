"""The costs of a large catalogue: first listing, later mounts, walks, memory, requests.

    contrib/bench/catalogue [--size ASSETS,ORDERS,TAGS,TRANSFORMED,FILES] [--latency-s S]

Starts an emulator with that many rows and pages of 100, mounts it with the command, measures with
ls, find and stat, and prints a line for each figure beside its bar. Ends with status 1 if a bar is
not reached. Times depend on the machine and on what else runs there: its load is printed first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UP42FS = [sys.executable, "-P", "-m", "up42fs"]
VIEWS = ("orders", "tags", "cnam", "assets")


class Figures:
    """Figures as they come, each with its bar."""

    def __init__(self) -> None:
        self.missed = 0

    def show(self, what: str, value: float, unit: str, bar: float | None) -> None:
        is_missed = bar is not None and value > bar
        self.missed += is_missed
        said = "" if bar is None else f"   bar {bar:g} {unit}{'   MISSED' if is_missed else ''}"
        print(f"{what:<58} {value:>10.3f} {unit}{said}", flush=True)


@contextmanager
def emulator(size: str, latency_s: float) -> Iterator[dict[str, Any]]:
    command = [*UP42FS, "emulator", "--die-with-parent", "--synthetic", size]
    command += ["--latency-s", str(latency_s), "--max-page-size", "100"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


class Mounted:
    """A mount made by the command."""

    def __init__(self, path: Path, cache: Path, env: dict[str, str]) -> None:
        self.path = path
        # A walk into thousands of archives would measure the pace of links, not the catalogue.
        options = "refresh=3600,archives=off"
        command = [*UP42FS, "mount", str(path), "--cache-dir", str(cache), "-o", options]
        subprocess.run(command, env=os.environ | env, check=True)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / ".up42fs/status.json").read_bytes())
        return found

    def requests(self) -> int:
        return int(self.status()["counters"].get("api.requests", 0))

    def resident_mib(self) -> float:
        lines = Path(f"/proc/{self.status()['pid']}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.status()['pid']}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self, timeout_s: float = 300.0) -> None:
        """Wait until everything is listed and crawled and the refresh after the mount is done."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            status = self.status()
            listed = all(
                status["catalogue"][part]["seconds_since_refresh"] is not None
                for part in ("assets", "orders")
            )
            items = status["items"] or {}
            if listed and items.get("missing") == 0 == items.get("plain_missing"):
                return
            time.sleep(0.5)
        raise TimeoutError("the storage was not listed in time")

    def unmount(self) -> None:
        subprocess.run([*UP42FS, "unmount", str(self.path)], check=True)


def count(command: str, where: Path) -> tuple[int, float]:
    """Run a shell command that prints a number; the number, and how long it took in seconds."""
    started_s = time.perf_counter()
    done = subprocess.run(command, shell=True, cwd=where, stdout=subprocess.PIPE, check=True)
    return int(done.stdout), time.perf_counter() - started_s


def median_ms(work: Callable[[int], object], times: int) -> float:
    took = []
    for number in range(times):
        started_s = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - started_s)
    return statistics.median(took) * 1000


def cold(figures: Figures, path: Path, cache: Path, env: dict[str, str], assets: int) -> None:
    started_s = time.perf_counter()
    mount = Mounted(path, cache, env)
    try:
        listed, _ = count("ls assets | wc -l", path)
        assert listed >= assets, (listed, assets)
        figures.show("first ls assets, nothing stored", time.perf_counter() - started_s, "s", 90)
        mount.settle()
        figures.show("… and all items crawled", time.perf_counter() - started_s, "s", None)
        figures.show("requests of the first sync", mount.requests(), "", None)
    finally:
        mount.unmount()


def warm(figures: Figures, path: Path, cache: Path, env: dict[str, str], assets: int) -> None:
    started_s = time.perf_counter()
    mount = Mounted(path, cache, env)
    try:
        count("ls assets | wc -l", path)
        figures.show("mount + ls assets, stored", time.perf_counter() - started_s, "s", 1.5)
        mount.settle()
        before = mount.requests()
        count("ls -l assets | wc -l", path)
        figures.show("ls -l assets, warm", count("ls -l assets | wc -l", path)[1], "s", 1.5)
        bar = 250 if assets > 10_000 else 120
        figures.show("resident memory, everything listed", mount.resident_mib(), "MiB", bar)
        found, took_s = count(f"find {' '.join(VIEWS)} -type f | wc -l", path)
        figures.show(f"find -type f, {found} names", took_s, "s", 40)
        figures.show("resident memory after it", mount.resident_mib(), "MiB", bar)
        names = os.listdir(path / "assets")[:2000]
        known = median_ms(lambda n: os.stat(path / "assets" / names[n]), len(names))
        figures.show("stat of a known name, median", known, "ms", 0.3)
        missing = median_ms(lambda n: os.path.lexists(path / "assets" / f"none-{n}"), 2000)
        figures.show("lookup of a missing name, median", missing, "ms", 0.3)
        figures.show("requests of all that", mount.requests() - before, "", 0)
        used_s = mount.cpu_s()
        time.sleep(20)
        figures.show("CPU at rest", (mount.cpu_s() - used_s) / 20 * 100, "%", 1)
    finally:
        mount.unmount()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", default="100000,5000,1000,10000,12")
    parser.add_argument("--latency-s", type=float, default=0.05)
    options = parser.parse_args()
    assets = int(options.size.split(",")[0])
    figures = Figures()
    print(f"{options.size}, {options.latency_s} s a request, load {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory(prefix="up42fs-catalogue-") as home,
        emulator(options.size, options.latency_s) as running,
    ):
        path, cache = Path(home, "mnt"), Path(home, "cache")
        path.mkdir()
        cold(figures, path, cache, running["env"], assets)
        warm(figures, path, cache, running["env"], assets)
    return 1 if figures.missed else 0


if __name__ == "__main__":
    sys.exit(main())

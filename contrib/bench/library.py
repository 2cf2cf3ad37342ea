#!/usr/bin/env python3
"""`up42fs.FileSystem` beside fsspec's own HTTP file system and a mount, in one run.

    library.py [--only starts,get,loop,small,ranges,windows] [--rounds 5] [--size 122000000]

- starts: imports of new processes, by processor time. Bar: 0.36 s for `import up42fs`. What a first
  call loads is told apart: the libraries below the engine, and our own modules.
- get: `get_file` of a file that nothing has read. Bar: 0.9 of the rate of fsspec's `http` with a
  link of UP42.
- loop: the same by reads of 1 MiB of an open file. Bar: twice that rate.
- small: reads of 4 KiB of what is in memory. Bar: at most 21 microseconds each, a tenth of what
  crossing threads for each took.
- ranges: 500 ranges of 2 KB by one `cat_ranges`. Bar: not more seconds.
- windows: 64 windows of 512 x 512 pixels of a COG by 4 processes with rasterio's `opener`. Bars: at
  most 1.3 times the seconds of a mount, 70 store requests, 27 MB. How much of the time each new
  process took to load the engine is given beside it.

Each line is a case, its figure, and its bar; the status is 1 where a bar is not met. The emulator
is UP42 and its object store, and all run on this machine: seconds are ratios, counts are exact.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mounts import clean_environment, emulator, mounted
from serve import WORKERS, Bars, Costs, emulator_of, image

from up42fs.emulator.remote import Remote

PIECE = 1 << 20
RANGES, RANGE_BYTES = 500, 2000
#: Reads its share of the windows; `fs` is None for a path of a mount. Prints the seconds and the
#: processor seconds that loading the engine took, and a sum of the pixels.
_WORKER = """
import pickle, sys, time
import fsspec, rasterio
from rasterio.windows import Window
print(flush=True)
packed = sys.stdin.buffer.read()
began = time.perf_counter(), time.process_time()
fs, path = pickle.loads(packed)
if fs is not None:
    fs.backend(path)  # loads the engine, asks nothing
print(time.perf_counter() - began[0], time.process_time() - began[1])
number, of = int(sys.argv[1]), int(sys.argv[2])
total = 0
with rasterio.open(path, **({} if fs is None else {"opener": fs})) as image:
    columns = image.width // 512
    for window in range(number, 64, of):
        at = (window * 37) % (columns * (image.height // 512))
        place = Window((at % columns) * 512, (at // columns) * 512, 512, 512)
        total += int(image.read(1, window=place).astype("uint64").sum())
print(total)
"""


#: Prints the processor seconds of four imports, one after another, with fsspec loaded before.
_STARTS = """
import time
import fsspec.asyn
def of(work):
    began = time.process_time()
    work()
    print(time.process_time() - began)
import importlib
of(lambda: importlib.import_module("up42fs"))
of(lambda: importlib.import_module("up42fs.library.filesystem"))
of(lambda: [importlib.import_module(name) for name in ("trio", "httpx", "pycurl")])
of(lambda: importlib.import_module("up42fs.library.backends"))
"""


def starts(bars: Bars, rounds: int) -> None:
    each_s = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", _STARTS], capture_output=True, text=True, check=True, timeout=60
        )
        each_s.append([float(line) for line in done.stdout.split()])
    package_s, system_s, others_s, engine_s = map(statistics.median, zip(*each_s, strict=True))
    bars.say("import up42fs, processor", package_s, "s", most=0.36)
    bars.say("up42fs.FileSystem, processor", system_s, "s")
    bars.say("its engine: trio, httpx and pycurl, processor", others_s, "s")
    bars.say("its engine: our own modules, processor", engine_s, "s")


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def systems(name: str) -> tuple[Any, str, Any, str]:
    """Ours with the path of an asset, made anew, and fsspec's for HTTP with a link to it."""
    import fsspec

    import up42fs

    up42fs.FileSystem.clear_instance_cache()
    ours = up42fs.FileSystem(cache_size=0, memory=64, mount="never")
    path = f"assets/{name}"
    theirs = fsspec.filesystem("http", skip_instance_cache=True)
    return ours, path, theirs, ours.sign(path)


def forget() -> None:
    """End all engines: the next one has nothing in memory."""
    from up42fs.library import runner

    for each in list(runner._runners.values()):
        each.end()
    runner._runners.clear()


def compare(
    rounds: int, name: str, work: Callable[[Any, str], object]
) -> tuple[list[float], list[float]]:
    """Seconds of `work` with ours and with fsspec's, in turns, each with nothing read before."""
    ours_s, theirs_s = [], []
    for _ in range(rounds):
        forget()
        ours, path, theirs, link = systems(name)
        ours.info(path)
        theirs.info(link)
        ours_s.append(timed(lambda fs=ours, at=path: work(fs, at)))  # type: ignore[misc]
        theirs_s.append(timed(lambda fs=theirs, at=link: work(fs, at)))  # type: ignore[misc]
    return ours_s, theirs_s


def say(bars: Bars, what: str, took: tuple[list[float], list[float]], least: float) -> None:
    """Print both medians and their ratio."""
    ours_s, theirs_s = took
    bars.say(f"{what}, up42fs", statistics.median(ours_s), "s")
    bars.say(f"{what}, fsspec http", statistics.median(theirs_s), "s")
    ratios = [b / a for a, b in zip(ours_s, theirs_s, strict=True)]
    bars.say(f"{what}: rate / fsspec http", statistics.median(ratios), "", least=least)


def get(bars: Bars, rounds: int, home: Path) -> None:
    numbers = iter(range(2 * rounds))  # to remove a file takes as long as to write it

    def work(fs: Any, path: str) -> None:
        fs.get_file(path, str(home / f"target-{next(numbers)}"))

    say(bars, "get_file", compare(rounds, "big.bin", work), 0.9)


def loop(bars: Bars, rounds: int) -> None:
    def work(fs: Any, path: str) -> None:
        with fs.open(path) as file:
            while file.read(PIECE):
                pass

    say(bars, "1 MiB loop", compare(rounds, "big.bin", work), 2.0)


def small(bars: Bars, rounds: int) -> None:
    forget()
    ours, path, _, _ = systems("big.bin")
    each_s, count = [], 8 * PIECE // 4096
    with ours.open(path) as file:
        for _ in range(rounds):
            file.seek(0)
            file.read(8 * PIECE)
            file.seek(0)
            each_s.append(timed(lambda: [file.read(4096) for _ in range(count)]) / count)
    bars.say("cached read of 4 KiB", statistics.median(each_s) * 1e6, "us", most=21.0)


def ranges(bars: Bars, rounds: int, size: int) -> None:
    chance = random.Random(7)
    starts = [chance.randrange(size - RANGE_BYTES) for _ in range(RANGES)]
    ends = [start + RANGE_BYTES for start in starts]

    def work(fs: Any, path: str) -> None:
        found = fs.cat_ranges([path] * RANGES, starts, ends)
        assert all(len(piece) == RANGE_BYTES for piece in found)

    say(bars, "500 ranges", compare(rounds, "big.bin", work), 1.0)


class WindowsRead(NamedTuple):
    """What the processes took that read all windows, seconds, and the sums of what they read.

    The longest took `load_s` to load and start the engine, each `load_cpu_s` of processor time.
    """

    took_s: float
    load_s: float
    load_cpu_s: float
    sums: list[str]


def workers(given: object, env: dict[str, str]) -> WindowsRead:
    """Read all windows by new processes."""
    packed = pickle.dumps(given)
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", _WORKER, str(number), str(WORKERS)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(WORKERS)
    ]
    for process in processes:  # as a cluster's workers, they run before there is work
        assert process.stdout is not None
        process.stdout.readline()
    began_s = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(packed)
        process.stdin.close()
        process.stdin = None
    told = [process.communicate()[0].decode().split() for process in processes]
    took_s = time.perf_counter() - began_s
    assert all(process.returncode == 0 for process in processes), told
    loads_s, loads_cpu_s, sums = zip(*told, strict=True)
    load_cpu_s = statistics.median(map(float, loads_cpu_s))
    return WindowsRead(took_s, max(map(float, loads_s)), load_cpu_s, list(sums))


def windows(bars: Bars, rounds: int, home: Path, ready: dict[str, Any]) -> None:
    import up42fs

    remote = Remote(ready["control_url"])
    env = clean_environment(ready["env"]) | {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "UP42FS_CRAWL_AFTER_S": "3600",
    }
    by_mount, by_library, costs = [], [], (0, 0.0)
    for turn in range(rounds):
        place = home / f"windows-{turn}"
        (place / "mount").mkdir(parents=True)
        with mounted(ready["env"], place / "mount", place):
            mount = workers((None, str(place / "mount/assets/scene.tif")), env)
            by_mount.append(mount)
        forget()
        up42fs.FileSystem.clear_instance_cache()
        fs = up42fs.FileSystem(cache_dir=str(place / "library"), mount="never")
        fs.ls("assets")
        fs.info("assets/scene.tif")
        counted = Costs(remote)
        library = workers((fs, "assets/scene.tif"), env)
        assert library.sums == mount.sums
        by_library.append(library)
        costs = counted.told()[:2]
    bars.say("64 windows, mount", statistics.median(one.took_s for one in by_mount), "s")
    bars.say("64 windows, fsspec", statistics.median(one.took_s for one in by_library), "s")
    load_s = statistics.median(one.load_s for one in by_library)
    bars.say("64 windows, fsspec: of it to load the engine", load_s, "s")
    load_cpu_s = statistics.median(one.load_cpu_s for one in by_library)
    bars.say("64 windows, fsspec: processor, each worker", load_cpu_s, "s")
    turns = list(zip(by_library, by_mount, strict=True))
    ratio = statistics.median(a.took_s / b.took_s for a, b in turns)
    bars.say("64 windows: fsspec / mount, seconds", ratio, "", most=1.3)
    loaded = statistics.median((a.took_s - a.load_s) / b.took_s for a, b in turns)
    bars.say("64 windows: the same with engines loaded", loaded)
    bars.say("64 windows, fsspec: store requests", costs[0], "", most=70)
    bars.say("64 windows, fsspec: megabytes", costs[1], "MB", most=27)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="starts,get,loop,small,ranges,windows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=122_000_000)
    options = parser.parse_args(arguments)
    wanted, bars = options.only.split(","), Bars()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="up42fs-bench-")))
        stack.callback(forget)
        if set(wanted) - {"starts", "windows"}:
            ready = stack.enter_context(emulator("1,1,1"))
            Remote(ready["control_url"]).storage(
                "add_asset", name="big.bin", size=options.size, seed=1
            )
            os.environ.update(ready["env"])
        for name in wanted:
            match name:
                case "starts":
                    starts(bars, options.rounds)
                case "get":
                    get(bars, options.rounds, home)
                case "loop":
                    loop(bars, options.rounds)
                case "small":
                    small(bars, options.rounds)
                case "ranges":
                    ranges(bars, options.rounds, options.size)
                case "windows":
                    data = home / "data"
                    data.mkdir()
                    image(data, options.size)
                    with emulator_of(data) as ready:
                        os.environ.update(ready["env"])
                        windows(bars, options.rounds, home, ready)
                case _:
                    parser.error(f"no such case: {name}")
    return int(bars.is_missed)


if __name__ == "__main__":
    sys.exit(main())

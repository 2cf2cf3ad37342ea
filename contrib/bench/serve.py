#!/usr/bin/env python3
"""`up42fs serve` beside a bare application, nginx and UP42's links, in one run.

    serve.py [--only redirects,windows,whole,clients] [--rounds 5] [--size 122000000]

- redirects: answers a second of one client with one connection, beside a starlette application on
  hypercorn and trio that sends a fixed redirect. Bar: at least half as many.
- windows: 64 windows of 512 x 512 pixels of a COG, read by 4 processes with GDAL: by a link of
  UP42, by redirects, and with --proxy, first and again. Bars: redirects cost one token, one link,
  no more store requests and bytes than the link (GDAL decides what it reads), and at most 1.2 times
  the seconds; --proxy again costs none.
- whole: a whole file out of the cache, beside nginx serving it from disk. Bar: half the rate.
- clients: 64 clients read a file each through the cache at once. Bar: when the first has its file,
  the last one has a quarter of that at least.

Each line is a case, its figure, and its bar; the status is 1 where a bar is not met. The emulator
is UP42 and its object store, and all run on this machine: seconds are ratios, counts are exact.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mounts import READY_S, UP42FS, clean_environment, emulator
from processes import running

from up42fs.emulator.remote import Remote

WINDOW, WORKERS, CLIENTS = 512, 4, 64
REQUESTS = 1500
CLIENT_BYTES = 16_000_000
_BARE = """
import sys, trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route

async def go(request):
    return RedirectResponse("http://127.0.0.1:1/bucket/object?Expires=1&Signature=x", 302)

config = Config()
config.bind = ["127.0.0.1:" + sys.argv[1]]
config.keep_alive_max_requests = 1 << 30
trio.run(serve, Starlette(routes=[Route("/{path:path}", go)]), config)
"""
#: Reads its share of the windows and prints their sum; the dataset is opened once.
_WORKER = """
import sys, rasterio
from rasterio.windows import Window
address, number, of = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with rasterio.open(address) as image:
    columns = image.width // 512
    total = 0
    for window in range(number, 64, of):
        at = (window * 37) % (columns * (image.height // 512))
        place = Window((at % columns) * 512, (at // columns) * 512, 512, 512)
        total += int(image.read(1, window=place).astype("uint64").sum())
print(total)
"""


class Bars:
    """Prints each figure with its bar, and remembers whether one was missed."""

    def __init__(self) -> None:
        self.is_missed = False

    def say(
        self,
        case: str,
        figure: float,
        unit: str = "",
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        missed = (most is not None and figure > most) or (least is not None and figure < least)
        self.is_missed |= missed
        bar = (
            ""
            if most is None and least is None
            else (f"   at most {most:g}" if most is not None else f"   at least {least:g}")
        )
        print(f"{case:44} {figure:10.3f} {unit:8}{bar}{'   MISSED' if missed else ''}", flush=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def served(env: Mapping[str, str], home: Path, *arguments: str) -> Iterator[str]:
    """A server; yields its address without the last slash."""
    with (
        (home / "serve.log").open("a") as log,
        running(
            [
                *UP42FS,
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--cache-dir",
                str(home / "cache"),
                *arguments,
            ],
            env=clean_environment(env) | {"UP42FS_CRAWL_AFTER_S": "3600"},
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdout is not None
        ready = select.select([process.stdout], [], [], READY_S)[0]
        line = process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"no server: {(home / 'serve.log').read_text()}")
        yield line.split()[-1].rstrip("/")


@contextmanager
def bare(home: Path) -> Iterator[int]:
    """A starlette application on hypercorn; yields its port."""
    port = free_port()
    with (
        (home / "bare.log").open("w") as log,
        running([sys.executable, "-P", "-c", _BARE, str(port)], stdout=log, stderr=log),
    ):
        await_port(port)
        yield port


@contextmanager
def nginx(folder: Path, home: Path) -> Iterator[int]:
    """nginx serving a folder; yields its port."""
    port = free_port()
    user = "user root; " if os.getuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"{user}pid {home}/nginx.pid; daemon off; worker_processes 1; error_log {home}/nginx.log;"
        " events {} http { sendfile on; access_log off;"
        f" server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    with running(["nginx", "-e", f"{home}/nginx.log", "-c", f"{home}/nginx.conf"]):
        await_port(port)
        yield port


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens at port {port}")


def rate(port: int, path: str) -> float:
    """Redirects a second."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began_s = time.perf_counter()
        for _ in range(REQUESTS):
            connection.sendall(request)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1 << 16)
            assert b" 302 " in head[:16], head
        return REQUESTS / (time.perf_counter() - began_s)


def redirects(bars: Bars, env: Mapping[str, str], home: Path, rounds: int) -> None:
    with served(env, home) as address, bare(home) as port:
        ours = int(address.rpartition(":")[2])
        rate(ours, "/assets/big.bin")
        pairs = [(rate(ours, "/assets/big.bin"), rate(port, "/x")) for _ in range(rounds)]
    bars.say("redirects a second", statistics.median(a for a, _ in pairs), "1/s")
    bars.say("bare application", statistics.median(b for _, b in pairs), "1/s")
    bars.say("redirects / bare", statistics.median(a / b for a, b in pairs), "", least=0.5)


def image(folder: Path, size: int) -> Path:
    """A COG of noise, of about `size` bytes: as compressible as a scene, in tiles of 345 kB."""
    import warnings

    import numpy as np
    import rasterio
    from rasterio.shutil import copy

    warnings.simplefilter("ignore")
    side = max(8, round((size / 345_000) ** 0.5)) * WINDOW
    rng = np.random.default_rng(1)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint16"}
    plain = folder / "plain.tif"
    with rasterio.open(plain, "w", **profile, crs="EPSG:32633") as target:
        for row in range(0, side, WINDOW):
            rows = rng.integers(0, 500, (WINDOW, side), dtype="uint16")
            target.write(rows, 1, window=rasterio.windows.Window(0, row, side, WINDOW))
    made = folder / "scene.tif"
    copy(plain, made, driver="COG", compress="DEFLATE", level=6, blocksize=WINDOW, overviews="NONE")
    plain.unlink()
    return made


def workers(address: str) -> tuple[float, list[str]]:
    """Seconds of four processes that read all windows, and what they read."""
    env = clean_environment({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "VSI_CACHE": "TRUE"})
    began_s = time.perf_counter()
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-W",
                "ignore",
                "-c",
                _WORKER,
                address,
                str(number),
                str(WORKERS),
            ],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WORKERS)
    ]
    told = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), told
    return time.perf_counter() - began_s, told


class Costs:
    """What a piece of work cost at UP42."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._since = len(remote.log(0))

    def told(self) -> tuple[int, float, int, int]:
        """Store requests, megabytes, links, tokens."""
        log = self._remote.log(self._since)
        store = [each for each in log if each["route"].startswith("store.")]
        sent = sum(each["bytes_sent"] for each in store)
        routes = [each["route"] for each in log]
        return len(store), sent / 1e6, routes.count("assets.sign"), routes.count("auth.token")


def windows(bars: Bars, env: Mapping[str, str], home: Path, rounds: int, remote: Remote) -> None:
    seconds: dict[str, list[float]] = {"link": [], "redirects": [], "proxy": [], "again": []}
    expected: list[str] = []
    for turn in range(rounds):
        place = home / f"windows-{turn}"
        place.mkdir()
        with served(env, place) as address:
            path = f"{address}/assets/scene.tif"
            costs = Costs(remote)
            took_s, told = workers(path)
            seconds["redirects"].append(took_s)
            requests, megabytes, links, _ = costs.told()
            link = redirect_of(path)
            costs = Costs(remote)
            took_s, by_link = workers(link)
            by_link_cost = costs.told()
            seconds["link"].append(took_s)
        with served(env, place, "--proxy") as address:
            costs = Costs(remote)
            path = f"{address}/assets/scene.tif"
            took_s, proxied = workers(path)
            seconds["proxy"].append(took_s)
            first = costs.told()
            costs = Costs(remote)
            took_s, again = workers(path)
            seconds["again"].append(took_s)
            second = costs.told()
        expected = expected or by_link
        assert told == by_link == proxied == again == expected
    bars.say("64 windows by UP42's link: store requests", by_link_cost[0])
    bars.say("64 windows by redirects: store requests", requests, "", most=by_link_cost[0])
    bars.say("64 windows by UP42's link: megabytes", by_link_cost[1], "MB")
    # GDAL decides what a worker reads; a redirect may add nothing to it.
    bars.say("64 windows by redirects: megabytes", megabytes, "MB", most=by_link_cost[1])
    bars.say("64 windows by redirects: links", links, "", most=1)
    for name, times in seconds.items():
        bars.say(f"64 windows, {name}", statistics.median(times), "s")
    ratios = [a / b for a, b in zip(seconds["redirects"], seconds["link"], strict=True)]
    bars.say("redirects / link of UP42, seconds", statistics.median(ratios), "", most=1.2)
    bars.say("64 windows, --proxy: store requests", first[0])
    bars.say("64 windows, --proxy: megabytes", first[1], "MB")
    bars.say("64 windows, --proxy again: store requests", second[0], "", most=0)


def redirect_of(address: str) -> str:
    """The link that a server hands out."""
    request = ["curl", "-s", "-o", "/dev/null", "-w", "%{redirect_url}", address]
    return subprocess.run(request, capture_output=True, text=True, check=True).stdout


def download_s(address: str) -> float:
    """Seconds of one download by curl."""
    done = subprocess.run(
        ["curl", "-sf", "-o", "/dev/null", "-w", "%{time_total}", address],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def whole(bars: Bars, env: Mapping[str, str], home: Path, rounds: int, size: int) -> None:
    folder = home / "files"
    folder.mkdir()
    (folder / "big.bin").write_bytes(os.urandom(size))
    with served(env, home, "--proxy") as address, nginx(folder, home) as port:
        ours, theirs = f"{address}/assets/big.bin", f"http://127.0.0.1:{port}/big.bin"
        download_s(ours)
        pairs = [(download_s(theirs), download_s(ours)) for _ in range(rounds)]
    bars.say("whole file, nginx", size / 1e6 / statistics.median(a for a, _ in pairs), "MB/s")
    bars.say("whole file, --proxy", size / 1e6 / statistics.median(b for _, b in pairs), "MB/s")
    bars.say("--proxy / nginx", statistics.median(a / b for a, b in pairs), "", least=0.5)


def clients(bars: Bars, env: Mapping[str, str], home: Path, size: int) -> None:
    with served(env, home, "--proxy") as address:
        download_s(f"{address}/assets/big.bin")
        got = [0] * CLIENTS
        spans = [(at * 37) % max(1, size // CLIENT_BYTES) * CLIENT_BYTES for at in range(CLIENTS)]
        ended: list[list[int]] = []
        port = int(address.rpartition(":")[2])
        start = threading.Event()

        def read(number: int) -> None:
            last = min(size, spans[number] + CLIENT_BYTES) - 1
            request = (
                f"GET /assets/big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Range: bytes={spans[number]}-{last}\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", port)) as connection:
                start.wait()
                connection.sendall(request.encode())
                while piece := connection.recv(1 << 16):
                    got[number] += len(piece)
            ended.append(list(got))

        threads = [threading.Thread(target=read, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        began_s = time.perf_counter()
        start.set()
        for thread in threads:
            thread.join()
        took_s = time.perf_counter() - began_s
    assert min(got) >= min(CLIENT_BYTES, size), got
    bars.say("64 clients: megabytes a second in all", sum(got) / 1e6 / took_s, "MB/s")
    share = min(ended[0]) / max(1, max(ended[0]))
    bars.say("64 clients: last / first, when the first ends", share, "", least=0.25)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="redirects,windows,whole,clients")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=122_000_000)
    options = parser.parse_args(arguments)
    bars = Bars()
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = temporary / "data"
        data.mkdir()
        wanted = options.only.split(",")
        if "windows" in wanted:
            image(data, options.size)
        ready = stack.enter_context(emulator("1,1,1"))
        remote = Remote(ready["control_url"])
        remote.storage("add_asset", name="big.bin", size=options.size, seed=1)
        for name in wanted:
            home = temporary / name
            home.mkdir()
            match name:
                case "redirects":
                    redirects(bars, ready["env"], home, options.rounds)
                case "windows":
                    with_scene(data, home, options.rounds, bars)
                case "whole":
                    whole(bars, ready["env"], home, options.rounds, options.size)
                case "clients":
                    clients(bars, ready["env"], home, options.size)
                case _:
                    parser.error(f"no such case: {name}")
    return int(bars.is_missed)


def with_scene(data: Path, home: Path, rounds: int, bars: Bars) -> None:
    """The case of windows has an emulator of its own, which serves the scene."""
    with emulator_of(data) as ready:
        windows(bars, ready["env"], home, rounds, Remote(ready["control_url"]))


@contextmanager
def emulator_of(data: Path) -> Iterator[dict[str, Any]]:
    """An emulator whose storage is a directory's files."""
    command = [*UP42FS, "emulator", "--die-with-parent", "--data", str(data)]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


if __name__ == "__main__":
    sys.exit(main())

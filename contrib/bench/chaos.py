#!/usr/bin/env python3
"""Many readers over a store that fails at random, links that end in seconds, assets that move.

    chaos.py [--minutes 10] [--readers 12] [--seed 1] [--repeat 1]

Every byte is checked: against the emulator's pattern, against one version for files that change,
against a local copy for pixels that GDAL decodes. At the end the faults cease and the mount must
come to rest: no request, no open file, no live link, and as many tasks, threads and descriptors as
before; memory must have been flat. Deadlines are divided by five (`UP42FS_HURRY`). The exit status
is 1 where a byte was wrong, a reader hung, or something is left.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_reader import SEEDS
from fault_run import DEFAULTS, HURRY
from mounts import emulator, mounted, status, wait_for
from processes import memory_bytes

from up42fs.emulator import pattern_bytes
from up42fs.emulator.remote import Remote
from up42fs.fuse.boundary import READ_DEADLINE_S

READER = Path(__file__).with_name("chaos_reader.py")
KINDS = ("sequential", "random", "mapped", "moving", "gdal", "stored", "packed")
MIB = 1 << 20
#: An archive's name without its ending, and its members of each kind.
ARCHIVE, MEMBERS = "delivery", 3
LINK_LIFE_S = 3.0
#: Caches too small for the files, so that the store is asked again and again.
OPTIONS = "refresh=5,memory=100,cache_size=30M"
#: A reader that says nothing for so long hangs: a file may take several reads to their deadlines.
SILENCE_S = 8 * READ_DEADLINE_S / HURRY + 20
#: How long the mount may take to come to rest: idle threads of trio's end after 10 s.
REST_S = 40.0
#: The line of the log above the tree of tasks.
TASK_TREE = "where each waits:"
#: Memory may grow by this much between the first third and the end.
GROWTH_BYTES = 48 * MIB
#: What idle connections may hold: httpx's a socket each, libcurl's also two for its own wakeups.
IDLE_CONNECTIONS = 20 + 16 * 3
CONNECTION = ("socket:", "anon_inode:[eventfd]")
#: One of these at a time, each for a moment, on a share of the requests.
WEATHER: tuple[dict[str, Any], ...] = (
    {},
    {"fail_plane": "store", "fail_status": 503},
    {"fail_plane": "store", "fail_status": 429, "retry_after": "1"},
    {"fail_plane": "store", "reset_before_headers": True},
    {"fail_plane": "store", "cut_body_at": 30_000},
    {"fail_plane": "store", "short_body": 5_000},
    {"fail_plane": "store", "wrong_content_range": True},
    {"fail_plane": "store", "stall_body_at": 10_000, "stall_s": 60.0},
    {"fail_plane": "store", "stall_before_headers_s": 1.0},
    {"fail_plane": "store", "ignore_range": True},
    {"fail_plane": "store", "other_etag": True},
    {"fail_plane": "store", "fail_status": 200, "fail_body": "html"},
    {"fail_route": "assets.sign", "expired_link": True},
    {"fail_route": "assets.sign", "altered_link": True},
    {"fail_route": "assets.sign", "link_origin": "http://127.0.0.1:1"},
    {"fail_plane": "api", "fail_status": 502},
    {"fail_plane": "api", "reset_before_headers": True},
    {"fail_plane": "auth", "fail_status": 503},
)


@dataclass
class Tally:
    """The readers' reports."""

    checked_bytes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)


class Reader:
    """One reader and a thread that listens to it; started again when a signal ended it."""

    def __init__(self, kind: str, seed: int, files: Path, tally: Tally) -> None:
        self._command = [sys.executable, str(READER), kind, str(seed), str(files)]
        self._kind, self._tally = kind, tally
        self._is_over = False
        self.heard_at_s = time.monotonic()
        self._process = self._start()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def _listen(self) -> None:
        while not self._is_over:
            assert self._process.stdout is not None
            with self._process.stdout as lines:
                for line in lines:
                    if line.endswith("\n"):  # the last one may be cut off by the end
                        self._hear(json.loads(line))
            status = self._process.wait()
            if self._is_over or status == 3:
                return
            if status == -signal.SIGBUS:
                self._tally.errors["SIGBUS"] += 1
            else:
                self._tally.troubles.append(f"the {self._kind} reader ended with {status}")
            self._process = self._start()

    def _hear(self, told: dict[str, Any]) -> None:
        self.heard_at_s = time.monotonic()
        self._tally.checked_bytes[self._kind] += told["bytes"]
        if "errno" in told:
            self._tally.errors[told["errno"]] += 1
        if "wrong" in told:
            self._tally.troubles.append(f"wrong bytes: {told['wrong']}")

    @property
    def hangs(self) -> bool:
        return not self._is_over and time.monotonic() - self.heard_at_s > SILENCE_S

    def end(self) -> None:
        self._is_over = True
        while self._listener.is_alive():  # it may just have started another
            self._process.kill()
            self._listener.join(0.5)


class Storm:
    """Changes the weather, moves assets and lets tokens and links die, until it is over."""

    def __init__(self, remote: Remote, moving: Sequence[dict[str, Any]], seed: int) -> None:
        self._remote, self._moving = remote, moving
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._blow)
        self._thread.start()

    def _blow(self) -> None:
        while not self._over.wait(self._chance.uniform(0.3, 1.2)):
            share = self._chance.choice((0.1, 0.3, 0.6))
            weather = self._chance.choice(WEATHER)
            seed = self._chance.randrange(1 << 20)
            self._remote.faults(**self._calm() | weather | {"fail_share": share, "fail_seed": seed})
            file = self._chance.choice(self._moving)
            seed = self._chance.randrange(SEEDS)
            self._remote.storage("replace_object", id=file["id"], seed=seed)
            if self._chance.random() < 0.1:
                self._remote.storage("revoke_tokens")
                self._remote.storage("revoke_links")

    @staticmethod
    def _calm() -> dict[str, Any]:
        return DEFAULTS | {"link_life_s": LINK_LIFE_S, "store_latency_s": 0.005}

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._remote.faults(**self._calm())


@dataclass(frozen=True)
class Rest:
    """The resources of a mount. `connections` are its sockets."""

    requests: int
    open_files: int
    leases: int
    tasks: int
    threads: int
    descriptors: int
    connections: int
    memory: int

    @classmethod
    def of(cls, mountpoint: Path, pid: int) -> Rest:
        said = status(mountpoint)
        targets = []
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                targets.append(os.readlink(link))
            except FileNotFoundError:
                continue
        sockets = sum(target.startswith(CONNECTION) for target in targets)
        return cls(
            said["store"]["requests_running"],
            said["open"]["open_files"],
            said["store"]["leases"],
            said["tasks"],
            len(list(Path(f"/proc/{pid}/task").iterdir())),
            len(targets) - sockets,
            sockets,
            memory_bytes(pid),
        )

    def more_than(self, before: Rest) -> list[str]:
        """The resources left over; threads that wait for work end after a while."""
        left = {
            "requests": self.requests,
            "open files": self.open_files,
            "links": self.leases,
            "tasks": self.tasks - before.tasks - 2,
            "threads": self.threads - before.threads - 2,
            "descriptors": self.descriptors - before.descriptors,
            "connections": self.connections - before.connections - IDLE_CONNECTIONS,
        }
        return [f"{name}: {count} left" for name, count in left.items() if count > 0]


def chaos(seconds: float, readers: int, seed: int) -> tuple[Tally, str]:
    """One run; the tally and a line about the mount's memory."""
    tally = Tally()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        ready = stack.enter_context(emulator())
        remote = Remote(ready["control_url"])
        mountpoint = home / "mnt"
        mountpoint.mkdir()
        files = _files(remote, mountpoint, home, seed)
        remote.faults(link_life_s=LINK_LIFE_S)
        pid = stack.enter_context(mounted(ready["env"], mountpoint, home, OPTIONS, hurry=HURRY))
        # Once through everything, so that what is made once is there.
        for file in files["sequential"][:2]:
            Path(file["path"]).read_bytes()
        before = _rest(mountpoint, pid, None)
        (home / "files.json").write_text(json.dumps(files))
        with _running(readers, seed, home / "files.json", tally) as running:
            storm = Storm(remote, files["moving"], seed)
            try:
                memory = _watch(seconds, pid, running, tally)
            finally:
                storm.end()
        after = _rest(mountpoint, pid, before)
        tally.troubles += after.more_than(before)
        if tally.troubles:
            print(_descriptors(pid), _tasks(pid, home / "log"), file=sys.stderr)
        _judge_memory(memory, tally)
        tally.troubles += _still_right(files)
        tally.troubles += _secrets(home / "log")
    shown = f"memory {before.memory >> 20} MiB before, {max(memory) >> 20} most"
    return tally, f"{shown}, {after.memory >> 20} after"


def _files(
    remote: Remote, mountpoint: Path, home: Path, seed: int
) -> dict[str, list[dict[str, Any]]]:
    chance = random.Random(seed)
    files: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}

    def add(kind: str, number: int, size: int) -> None:
        name, pattern = f"{kind}-{number}.bin", chance.randrange(SEEDS)
        asset = remote.storage("add_asset", name=name, size=size, seed=pattern)
        path = str(mountpoint / "assets" / name)
        files[kind].append({"path": path, "id": asset["id"], "seed": pattern, "size": size})

    for number in range(6):
        add("sequential", number, chance.randrange(200_000, 24 * MIB))
        add("moving", number, 4 * MIB)
    files["random"] = files["mapped"] = files["sequential"]
    copy = raster(home / "image.tif")
    remote.storage("add_asset", name="image.tif", content_base64=base64.b64encode(copy).decode())
    image = {"path": str(mountpoint / "assets/image.tif"), "copy": str(home / "image.tif")}
    files["gdal"].append(image)
    _members(remote, mountpoint, files, chance)
    return files


def _members(
    remote: Remote, mountpoint: Path, files: dict[str, list[dict[str, Any]]], chance: random.Random
) -> None:
    """An archive of stored and deflated members, each with a pattern's bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for kind, method in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
            for number in range(MEMBERS):
                name = f"{kind}-{number}.bin"
                seed, size = chance.randrange(SEEDS), chance.randrange(200_000, 3 * MIB // 2)
                writer.writestr(name, pattern_bytes(seed, 0, size), method)
                path = str(mountpoint / "assets" / ARCHIVE / name)
                files[kind].append({"path": path, "seed": seed, "size": size})
    content = base64.b64encode(archive.getvalue()).decode()
    remote.storage("add_asset", name=f"{ARCHIVE}.zip", content_base64=content)


def raster(path: Path, side: int = 1024, block: int = 256) -> bytes:
    """A tiled, compressed image with noise in it, `side` pixels square."""
    import numpy
    import rasterio

    pixels = numpy.random.default_rng(7).integers(0, 4000, (side, side), dtype="uint16")
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "tiled": True, "blockxsize": block,
               "blockysize": block, "compress": "deflate", "crs": "EPSG:32633",
               "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_800_000)}  # fmt: skip
    with rasterio.open(path, "w", width=side, height=side, **profile) as image:
        image.write(pixels, 1)
    return path.read_bytes()


@contextmanager
def _running(count: int, seed: int, files: Path, tally: Tally) -> Iterator[list[Reader]]:
    running = [Reader(KINDS[n % len(KINDS)], seed + n, files, tally) for n in range(count)]
    try:
        yield running
    finally:
        for reader in running:
            reader.end()


def _watch(seconds: float, pid: int, running: Sequence[Reader], tally: Tally) -> list[int]:
    memory: list[int] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s and not tally.troubles:
        time.sleep(0.5)
        memory.append(memory_bytes(pid))
        if any(reader.hangs for reader in running):
            tally.troubles.append(f"a reader said nothing for {SILENCE_S:.0f} s")
    return memory


def _rest(mountpoint: Path, pid: int, before: Rest | None) -> Rest:
    """The mount once it has come to rest, or when it should have."""

    def is_at_rest() -> bool:
        now = Rest.of(mountpoint, pid)
        return not (now.more_than(before) if before else now.requests or now.leases)

    wait_for(is_at_rest, None, REST_S)
    return Rest.of(mountpoint, pid)


def _descriptors(pid: int) -> str:
    shown = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True)
    return shown.stdout


def _tasks(pid: int, log: Path) -> str:
    """The tree of a mount's tasks, and where each waits."""
    os.kill(pid, signal.SIGUSR1)
    wait_for(lambda: TASK_TREE in log.read_text(), None, 10)
    return log.read_text().rpartition(TASK_TREE)[2]


def _judge_memory(memory: Sequence[int], tally: Tally) -> None:
    early, late = memory[: len(memory) // 3], memory[-len(memory) // 3 :]
    if early and late and max(late) > max(early) + GROWTH_BYTES:
        tally.troubles.append(f"memory grew from {max(early) >> 20} to {max(late) >> 20} MiB")


def _still_right(files: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Each file reads right in calm weather."""
    from chaos_reader import WrongError, sequential

    troubles = []
    for file in (*files["sequential"], *files["stored"], *files["packed"]):
        try:
            for _ in sequential(file, random.Random(0)):
                pass
        except (OSError, WrongError) as error:
            troubles.append(f"afterwards: {error}")
    return troubles


def _secrets(log: Path) -> list[str]:
    words = [word for word in ("Signature=", "Bearer ey") if word in log.read_text()]
    clean = log.read_text().count("Signature=<redacted>")
    shown = [word for word in words if log.read_text().count(word) > clean]
    return [f"the log shows {word}" for word in shown]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="length of a run")
    parser.add_argument("--readers", type=int, default=12, help="programs that read at a time")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; then the next")
    parser.add_argument("--repeat", type=int, default=1, help="so many runs")
    options = parser.parse_args()
    bad = 0
    for run in range(options.repeat):
        tally, memory = chaos(options.minutes * 60, options.readers, options.seed + run)
        bad += len(tally.troubles)
        print(report(tally, memory), flush=True)
    return 1 if bad else 0


def report(tally: Tally, memory: str) -> str:
    """Some lines for people."""
    total = sum(tally.checked_bytes.values())
    by_kind = ", ".join(f"{k} {v / MIB:.0f}" for k, v in sorted(tally.checked_bytes.items()))
    errors = ", ".join(f"{k} {v}" for k, v in tally.errors.most_common()) or "none"
    troubles = "\n".join(f"  {trouble}" for trouble in tally.troubles) or "  none"
    return (
        f"{total / MIB:.0f} MiB checked ({by_kind}); errors that readers met: {errors}; {memory}; "
        f"troubles:\n{troubles}"
    )


if __name__ == "__main__":
    sys.exit(main())

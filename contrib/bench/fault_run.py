"""Runs cells of the fault matrix on real mounts, several mounts at a time.

A *pair* is an emulator, a mount of it, and two programs that use the mount: one does what the cell
says, the other looks meanwhile whether what is known still answers. Every cell has an asset of its
own. Knows the table's words and nothing of what should come of a fault.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fault_table import OK, READS, Cell, Fault, expect
from mounts import emulator, mounted, wait_for

from up42fs.catalog.snapshot.snapshot import snapshot_path
from up42fs.emulator import Faults, pattern_bytes
from up42fs.emulator.remote import Remote
from up42fs.fuse.boundary import METADATA_DEADLINE_S, READ_DEADLINE_S
from up42fs.fuse.mount_table import mount_at

READER = Path(__file__).with_name("fault_reader.py")
#: Every deadline of the mounts is divided by this (see `up42fs.deadlines`).
HURRY = 5.0
OPTIONS = "refresh=3600"
#: What a loaded machine may add to a deadline, and to an answer from memory, seconds.
SLACK_S = 8.0
MEMORY_S = 10.0
#: How long a mount may take to be its old self: a refusal is remembered for a minute (in a hurry
#: less), a store that says "in 9 s" is left alone for so long.
HEAL_S = 30.0
FILE_BYTES = 300_000
MEMBER_BYTES = 400_000
MEMBERS = {"stored.bin": zipfile.ZIP_STORED, "packed.bin": zipfile.ZIP_DEFLATED}
DECOYS = 10
DEFAULTS = asdict(Faults())


class HangError(Exception):
    """A call on the mount did not return."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one cell. `probe_s` is the slowest answer from memory meanwhile."""

    cell: Cell
    outcome: str
    seconds: float
    probe_s: float
    troubles: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.troubles and self.outcome in self.cell.expected.split(" or ")


class Reader:
    """One program on the mount."""

    def __init__(self) -> None:
        self._process = self._start()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(READER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, call: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self, timeout_s: float) -> tuple[str, float]:
        """(outcome, seconds); raises HangError after killing the program."""
        stdout = self._process.stdout
        assert stdout is not None
        if select.select([stdout], [], [], timeout_s)[0]:
            line = stdout.readline()
            if line:
                told = json.loads(line)
                return str(told["outcome"]), float(told["seconds"])
        self.restart()
        raise HangError(f"no answer in {timeout_s:.0f} s")

    def call(self, call: str, timeout_s: float, **arguments: Any) -> tuple[str, float]:
        self.ask(call, **arguments)
        return self.answer(timeout_s)

    def restart(self) -> None:
        """Start anew: an answer may be on its way."""
        self.close()
        self._process = self._start()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Place:
    """The path of a cell's asset, and its content."""

    asset_id: str
    path: str
    directory: str
    seed: int
    size: int
    members: list[dict[str, Any]] = field(default_factory=list)

    @property
    def archive(self) -> str:
        """The directory of an archive's members."""
        return f"{self.directory}-archive"


class Pair:
    """An emulator with an asset for each cell, its mount, and two programs that use it."""

    def __init__(
        self, ready: Mapping[str, Any], mountpoint: Path, pid: int, places: Mapping[Cell, Place]
    ) -> None:
        self.ready = ready
        self.remote = Remote(ready["control_url"])
        self.mountpoint = mountpoint
        self.pid = pid
        self._places = places
        self._reader, self._bystander = Reader(), Reader()
        self._fresh = 0

    def close(self) -> None:
        self._reader.close()
        self._bystander.close()

    def run(self, cell: Cell) -> Verdict:
        """Bring the fault about, do the operation, take the fault away, look for damage."""
        place, troubles = self._places[cell], list[str]()
        outcome, seconds, probe_s = "hang", 0.0, 0.0
        try:
            self._prepare(cell, place)
            since = self.remote.position()
            if cell.fault.at != "host":
                self._strike(cell)
            outcome, seconds, probe_s = self._operate(cell, place, troubles)
            if cell.is_noticed and not any(row["struck"] for row in self.remote.log(since)):
                troubles.append("the fault struck nothing")
            if self._goes_on(cell, outcome):
                troubles.append("the fault did not pass")
        except HangError as error:
            troubles.append(str(error))
            self._reader.restart()
        if cell.fault.at != "host":
            self.remote.faults(**DEFAULTS)
            troubles += self._damage(cell, place)
        return Verdict(cell, outcome, seconds, probe_s, tuple(troubles))

    def _goes_on(self, cell: Cell, outcome: str) -> bool:
        """Whether a passing fault was over without having hit all it should; reads ask little."""
        if cell.lasts or outcome != OK or not cell.is_noticed or cell.operation in READS:
            return False
        if cell.operation == "refresh":  # its retries come later
            return False
        lasting = cell.fault.on[cell.plane].lasting
        harmless = lasting is not None and expect(cell.plane, cell.operation, lasting) == OK
        return not harmless and self.remote.faults()["fail_next"] != 0

    def _prepare(self, cell: Cell, place: Place) -> None:
        """The program's progress before the fault came."""
        if cell.fault.at == "host":
            return
        if cell.operation in ("sequential", "random"):
            self._expect_ok("begin", path=place.path, seed=place.seed, size=place.size)
        if cell.operation == "member" and not _needs_link(cell):
            self._expect_ok("ls", path=place.archive, names=list(MEMBERS))
        if cell.plane == "store" and cell.operation in ("stat", "ls"):
            self._expect_ok("ls", path=place.directory, names=["item.json", "pan.tiff"])

    def _expect_ok(self, call: str, **arguments: Any) -> None:
        outcome, _ = self._reader.call(call, READ_DEADLINE_S, **arguments)
        if outcome != OK:
            raise HangError(f"{call} before the fault: {outcome}")

    def _strike(self, cell: Cell) -> None:
        """Let the fault be there."""
        self.remote.faults(**self._switches(cell))
        # Only now: a refresh in between would sign in without having met the fault.
        if cell.plane == "auth":
            self.remote.storage("revoke_tokens")
        # A link that is there already, for whatever reason, asks neither of the others. One of a
        # short life would do as well, but not on a machine that takes longer than that to use it.
        if _needs_link(cell):
            self.remote.storage("revoke_links")

    def _switches(self, cell: Cell) -> dict[str, Any]:
        switches = {k: self._address(v) for k, v in cell.fault.switches.items()}
        if cell.fault.at == "nature":
            return switches
        switches["fail_plane"] = "api" if cell.fault.at == "links" else cell.plane
        if cell.fault.at == "links":
            switches["fail_route"] = "assets.sign"
        if not cell.lasts:
            switches["fail_next"] = cell.fault.on[cell.plane].strikes
        return switches

    def _address(self, value: Any) -> Any:
        if value == "@auth":
            return self.ready["auth_url"]
        return _tls(self.ready) if value == "@store_tls" else value

    def _operate(self, cell: Cell, place: Place, troubles: list[str]) -> tuple[str, float, float]:
        deadline_s = READ_DEADLINE_S if cell.operation in READS else METADATA_DEADLINE_S
        limit_s = deadline_s / HURRY + SLACK_S
        if cell.operation == "refresh":
            return self._refresh(place)
        self._reader.ask(*(asked := self._call(cell, place))[:1], **asked[1])
        probe_s = 0.0
        for _ in range(2):
            told, took_s = self._bystander.call(
                "probe", MEMORY_S, root=str(self.mountpoint), path=place.path
            )
            probe_s = max(probe_s, took_s)
            if told != OK:
                troubles.append(f"from memory: {told}")
        outcome, seconds = self._reader.answer(limit_s)
        return outcome, seconds, probe_s

    def _refresh(self, place: Place) -> tuple[str, float, float]:
        """A refresh meets the fault; what is known stays, and goes on being shown."""
        self._fresh += 1
        self.remote.storage("add_asset", name=f"fresh-{self._fresh}.bin", size=1000)
        os.kill(self.pid, signal.SIGHUP)
        time.sleep(0.3)
        outcome, seconds = self._bystander.call(
            "probe", MEMORY_S, root=str(self.mountpoint), path=place.path
        )
        return outcome, seconds, seconds

    def _call(self, cell: Cell, place: Place) -> tuple[str, dict[str, Any]]:
        if cell.operation == "member":
            return "member", {"members": place.members}
        if cell.operation in READS:
            return cell.operation, {"path": place.path, "seed": place.seed, "size": place.size}
        if cell.operation == "stat":
            return "stat", {"path": f"{place.directory}/pan.tiff", "size": FILE_BYTES}
        if cell.operation == "ls":
            return "ls", self._listing(cell, place)
        call = "known_xattr" if cell.plane == "store" else "xattr"
        return call, {"path": place.path, "asset_id": place.asset_id}

    def _listing(self, cell: Cell, place: Place) -> dict[str, Any]:
        """A directory that is known already, or a search that UP42 must answer."""
        if cell.plane == "store":
            return {"path": place.directory, "names": ["item.json", "pan.tiff"]}
        name = Path(place.directory).name
        query = self.mountpoint / "search" / f"constellation={name}"
        return {"path": str(query), "names": [name, Path(place.path).name]}

    def _damage(self, cell: Cell, place: Place) -> list[str]:
        """The faults that stay once the cause is gone, after some time to heal."""
        try:
            # As long as the checks below may take: a reader that hung has only just started anew.
            self._reader.call("end", READ_DEADLINE_S, path=place.path)
        except HangError as error:
            return [f"end: {error}"]
        checks: list[tuple[str, dict[str, Any]]] = [
            ("whole", {"path": place.path, "seed": place.seed, "size": place.size}),
            ("ls", {"path": place.directory, "names": ["item.json", "pan.tiff"]}),
            ("ls", self._listing(cell, place)),
            ("stat", {"path": f"{place.directory}/pan.tiff", "size": FILE_BYTES}),
            ("xattr", {"path": place.path, "asset_id": place.asset_id}),
        ]
        if cell.operation == "member":
            checks.append(("member", {"members": place.members}))
        if cell.operation == "refresh":
            new = f"{self.mountpoint}/assets/fresh-{self._fresh}.bin"
            checks.append(("stat", {"path": new, "size": 1000}))
        deadline_s = time.monotonic() + HEAL_S
        troubles = [trouble for check in checks if (trouble := self._healed(check, deadline_s))]
        if mount_at(self.mountpoint) is None:
            troubles.append("the mount is gone")
        return troubles

    def _healed(self, check: tuple[str, dict[str, Any]], deadline_s: float) -> str | None:
        call, arguments = check
        while True:
            try:
                outcome, _ = self._reader.call(call, READ_DEADLINE_S, **arguments)
            except HangError as error:
                return f"{call} afterwards: {error}"
            if outcome == OK:
                return None
            if outcome.startswith("wrong: wrong bytes") or time.monotonic() > deadline_s:
                return f"{call} afterwards: {outcome}"
            time.sleep(0.3)


def _needs_link(cell: Cell) -> bool:
    """Whether the fault is met only where a link is signed."""
    return cell.plane != "store" or cell.fault.at == "links"


def _tls(ready: Mapping[str, Any]) -> str:
    """An address that is said to speak TLS, and does not."""
    return str(ready["store_url"]).replace("http:", "https:")


# -- pairs in being ------------------------------------------------------------------------------


@contextmanager
def pair(cells: Sequence[Cell], home: Path) -> Iterator[Pair]:
    """Start the pair for `cells`; everything is ended and unmounted afterwards."""
    with ExitStack() as stack:
        ready = stack.enter_context(emulator())
        remote = Remote(ready["control_url"])
        mountpoint = home / "mnt"
        mountpoint.mkdir()
        places = {
            cell: _add(remote, mountpoint, n, cell.fault.size) for n, cell in enumerate(cells)
        }
        for cell, place in places.items():
            if cell.operation == "member":
                _add_archive(remote, place)
        env = dict(ready["env"])
        host = cells[0].fault if cells[0].fault.at == "host" else None
        if host is not None:
            with mounted(env, mountpoint, home, OPTIONS, hurry=HURRY):
                wait_for(lambda: _knows(mountpoint, len(places)), "the stored catalogue")
            env = _dead_host(env, cells[0].plane, host, ready, home)
        pid = stack.enter_context(mounted(env, mountpoint, home, OPTIONS, hurry=HURRY))
        if host is None:  # what is known of the storage is the same for all cells
            wait_for(lambda: _knows(mountpoint, len(places)), "the first listing")
        running = Pair(ready, mountpoint, pid, places)
        stack.callback(running.close)
        yield running


def _add(remote: Remote, mountpoint: Path, number: int, size: int) -> Place:
    name, seed = f"cell-{number:03d}", number % 200
    # Files that follow each other in a directory are prefetched for a reader that reads them in a
    # row, also where it reads only those of one suffix. So each cell's file has a suffix of its
    # own, and more decoys before the next cell's than such a reader may leave out (`walk.REACH`).
    file_name = f"{name}.c{number:03d}"
    asset = remote.storage("add_asset", name=file_name, size=size, seed=seed)
    asset_id = str(asset["id"])
    for decoy in range(DECOYS):
        remote.storage("add_asset", name=f"{name}-{decoy:02d}.bin", size=size)
    file = {"key": "pan.tiff", "size": FILE_BYTES}
    item = {"title": name, "files": [file], "properties": {"constellation": name}}
    remote.storage("put_items", asset_id=asset_id, items=[item])
    remote.storage("set_cnam_status", id=asset_id, status="SUCCESSFUL")
    assets = mountpoint / "assets"
    return Place(asset_id, str(assets / file_name), str(assets / name), seed, size)


def _add_archive(remote: Remote, place: Place) -> None:
    """Put an archive beside the cell's asset, with members that hold pattern bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for seed, (name, method) in enumerate(MEMBERS.items(), place.seed):
            writer.writestr(name, pattern_bytes(seed, 0, MEMBER_BYTES), method)
            path = f"{place.archive}/{name}"
            place.members.append({"path": path, "seed": seed, "size": MEMBER_BYTES})
    content = base64.b64encode(archive.getvalue()).decode()
    name = f"{Path(place.archive).name}.zip"
    remote.storage("add_asset", name=name, content_base64=content)


def _knows(mountpoint: Path, count: int) -> bool:
    names = [name for name in os.listdir(mountpoint / "assets") if name.startswith("cell-")]
    return sum("archive" not in name for name in names) == (2 + DECOYS) * count


def _dead_host(
    env: dict[str, str], plane: str, fault: Fault, ready: Mapping[str, Any], home: Path
) -> dict[str, str]:
    """Environment of a mount that knows its storage and cannot reach one of its hosts."""
    host = str(fault.switches["host"])
    if host == "@store_tls":
        host = _tls(ready)
    changed = env | {f"UP42_{plane.upper()}_URL": host}
    stored, wanted = (
        snapshot_path(
            home / "cache/catalogue", api=e["UP42_API_URL"], username=e["UP42_USERNAME"],
            workspace=None,
        )
        for e in (env, changed)
    )  # fmt: skip
    if stored != wanted:
        stored.rename(wanted)
    return changed


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        yield Path(home)


def run(
    cells: Sequence[Cell], pairs: int, told: Callable[[Verdict], None] = lambda _: None
) -> list[Verdict]:
    """Run all `cells` on `pairs` mounts at a time; `told` hears of each as it ends."""
    crew = _Crew(cells, pairs, told)
    workers = [threading.Thread(target=crew.work) for _ in range(pairs)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except BaseException as error:  # Ctrl-C: what was started is ended all the same
        crew.errors.append(error)
        for worker in workers:
            worker.join()
    if crew.errors:
        raise crew.errors[0]
    order = {cell: number for number, cell in enumerate(cells)}
    return sorted(crew.verdicts, key=lambda verdict: order[verdict.cell])


class _Crew:
    """Threads that take a mount's cells at a time, until there are no more or one has failed."""

    def __init__(self, cells: Sequence[Cell], pairs: int, told: Callable[[Verdict], None]) -> None:
        self.verdicts: list[Verdict] = []
        self.errors: list[BaseException] = []
        self._told = told
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Sequence[Cell]] = queue.SimpleQueue()
        for job in _jobs(cells, pairs):
            self._jobs.put(job)

    def work(self) -> None:
        while not self.errors:
            try:
                cells = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                with _home() as home, pair(cells, home) as running:
                    for cell in itertools.takewhile(lambda _: not self.errors, cells):
                        self._take(running.run(cell))
            except BaseException as error:
                self.errors.append(error)

    def _take(self, verdict: Verdict) -> None:
        with self._lock:
            self.verdicts.append(verdict)
            self._told(verdict)


def _jobs(cells: Sequence[Cell], pairs: int) -> list[Sequence[Cell]]:
    """Cells that share a mount: those of a dead host by themselves, the others dealt out."""
    hosts: dict[tuple[str, Fault], list[Cell]] = {}
    plain: list[Cell] = []
    for cell in cells:
        if cell.fault.at == "host":
            hosts.setdefault((cell.plane, cell.fault), []).append(cell)
        else:
            plain.append(cell)
    dealt = [plain[number::pairs] for number in range(pairs)]
    return [job for job in (*dealt, *hosts.values()) if job]

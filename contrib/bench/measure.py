"""Runs one case by one subject: its cost at the store, on the clock, in processor and memory."""

from __future__ import annotations

import hashlib
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cases import Case, files
from processes import cpu_s, sampled_memory
from sites import Site
from subjects import Reach, clean_environ, is_archive, reach

TIMEOUT_S = 900.0
#: Time for what was on its way to be logged.
SETTLE_S = 0.3


@dataclass(frozen=True)
class Run:
    """One run: counts at the store and the API, bytes, seconds; memory and its growth of a mount.

    `needed_bytes`: those of `work_bytes` that the work cannot be done without.
    `growth` is the largest memory in the last quarter of the run over that in its second quarter.
    """

    requests: int
    links: int
    bytes: int
    seconds: float
    cpu_s: float
    mount_cpu_s: float
    peak_bytes: int
    growth: float
    work_bytes: int
    units: int
    digest: str
    needed_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """All of it, for files."""
        return asdict(self)


@dataclass(frozen=True)
class _Timed:
    seconds: float
    cpu_s: float
    digest: str


def measure(case: Case, subject: str, site: Site) -> Run:
    """Run a case with everything fresh.

    Raises SubprocessError where its program fails or takes too long, RuntimeError where the subject
    does not start.
    """
    names = files(case, site.store.folder)
    with tempfile.TemporaryDirectory(prefix="bench-") as home_name:
        home = Path(home_name)
        if case.again == "remount":
            with reach(subject, site, home, case.folder) as way:
                _time(case, way, names, home, "1")
        with reach(subject, site, home, case.folder) as way:
            if case.again == "mount":
                _time(case, way, names, home, "1")
            with _counted(site, way) as counts:
                timed = _time(case, way, names, home, "2", counts.begin)
        time.sleep(SETTLE_S)
        served = [one for one in counts.served() if one.status < 300]
    work_bytes = sum((site.store.folder / name).stat().st_size for name in names)
    return Run(
        requests=len(served),
        links=counts.links,
        bytes=sum(one.body_bytes for one in served),
        seconds=timed.seconds,
        cpu_s=timed.cpu_s,
        mount_cpu_s=counts.mount_cpu_s,
        peak_bytes=max(counts.memory, default=0),
        growth=growth(counts.memory),
        work_bytes=work_bytes,
        units=case.units,
        digest=timed.digest,
        needed_bytes=int(work_bytes * case.share),
    )


class _Counts:
    """The counts of the store, the API and the system since the clock began to run."""

    def __init__(self, site: Site, pid: int | None) -> None:
        self._site, self._pid = site, pid
        self.links, self.mount_cpu_s = 0, 0.0
        self.memory: list[int] = []

    def begin(self) -> None:
        """Count from now on."""
        self._log_position = self._site.remote.position()
        self._position, self._began_s = self._site.store.position(), time.time()
        self._cpu_s = cpu_s(self._pid) if self._pid else 0.0

    def served(self) -> list[Any]:
        """Requests that set out within the span, whenever they ended."""
        # A request of before may still be on the line at its start.
        arrival_s = self._began_s + self._site.leg.delay_ms / 1e3 * 0.9
        return self._site.store.served_since(self._position, arrival_s)

    def end(self) -> None:
        """Nobody waits for what a mount still does, but it is paid for."""
        time.sleep(SETTLE_S)
        if self._pid:
            self.mount_cpu_s = cpu_s(self._pid) - self._cpu_s
        log = self._site.remote.log(self._log_position)
        self.links = sum(1 for record in log if record["route"].endswith(".sign"))


@contextmanager
def _counted(site: Site, way: Reach) -> Iterator[_Counts]:
    counts = _Counts(site, way.pid)
    with sampled_memory(way.pid) as counts.memory:
        yield counts
        counts.end()


def growth(samples: Sequence[int]) -> float:
    """The largest of the last quarter over that of the second; 1 for too few."""
    quarter = len(samples) // 4
    if not quarter:
        return 1.0
    return max(samples[-quarter:]) / max(max(samples[quarter : 2 * quarter]), 1)


def _time(
    case: Case,
    way: Reach,
    names: Sequence[str],
    home: Path,
    turn: str,
    begin: Callable[[], None] = lambda: None,
) -> _Timed:
    """Run the program of a case; `begin` is called when its clock begins to run."""
    out = home / f"out-{turn}"
    argv, env = case.argv(way, names, str(out)), clean_environ() | way.env
    if way.opening is not None and is_archive(names[0]):
        opening = f'{{ {way.opening(names[0])}; }} >/dev/null && exec "$@"'
        argv = ["sh", "-c", opening, "sh", *argv]
    used_s = _children_cpu_s()
    run = _staged if case.staged else _plain
    seconds, said = run(argv, env, begin)
    cpu = _children_cpu_s() - used_s
    digest = tree_digest(out) if out.exists() else hashlib.sha256(said).hexdigest()
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    return _Timed(seconds, cpu, digest)


def _plain(argv: list[str], env: dict[str, str], begin: Callable[[], None]) -> tuple[float, bytes]:
    with tempfile.TemporaryFile() as said:
        begin()
        began_s = time.monotonic()
        with _bounded(argv, env, stdout=said) as process:
            process.wait()
            seconds = time.monotonic() - began_s
        said.seek(0)
        return seconds, said.read()


def _staged(argv: list[str], env: dict[str, str], begin: Callable[[], None]) -> tuple[float, bytes]:
    """The clock runs from where the program says `ready`."""
    pipe = subprocess.PIPE
    with _bounded(argv, env, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begin()
        began_s = time.monotonic()
        said, _ = process.communicate(b"\n")
        return time.monotonic() - began_s, said


@contextmanager
def _bounded(
    argv: list[str], env: dict[str, str], **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is killed when its time is up; CalledProcessError where it failed.

    No `wait(timeout)`: that looks but every 50 ms whether the process has ended.
    """
    with subprocess.Popen(argv, env=env, **streams) as process:
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv[:2])


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tree_digest(path: Path) -> str:
    """Digest of a file, or of all names and bytes below a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    inner = [
        f"{file.relative_to(path)} {tree_digest(file)}"
        for file in path.rglob("*")
        if file.is_file()
    ]
    return hashlib.sha256("\n".join(sorted(inner)).encode()).hexdigest()

"""Runs the real commands: emulator and mount as a user would start them, in processes of their own.

The mount and its readers must not share a process: a page fault on a mapped file holds the GIL.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from nest import Nest, Process

from up42fs.cli.unmount import unmount
from up42fs.emulator.remote import Remote
from up42fs.errors import Up42fsError
from up42fs.fuse.mount_table import holders_of, mount_at

UP42FS = (sys.executable, "-m", "up42fs")
#: For `run` and `check`: forked from a process that has loaded it, which costs a fifth.
FORKED = ("up42fs (forked)",)
REPOSITORY = Path(__file__).parent.parent
DATA = Path(os.environ.get("UP42FS_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
#: What GDAL says of each raster of the imagery on a local disk.
EXPECTED = DATA / "_expected"


def why_no_mount() -> str | None:
    """Why real mounts cannot be tested here, or None."""
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse"
    return None if shutil.which("fusermount3") else "no fusermount3"


#: All of them; `test_cli` holds this against the parser.
COMMANDS = (
    "login",
    "logout",
    "accounts",
    "mount",
    "unmount",
    "ls",
    "find",
    "info",
    "cat",
    "cp",
    "thumbnail",
    "url",
    "serve",
    "status",
    "log",
    "explain",
    "warm",
    "cache",
    "doctor",
    "undo",
    "demo",
    "emulator",
    "setup",
)


@dataclass
class Emulator:
    """A running emulator: its environment for our commands, and its control endpoint."""

    env: dict[str, str]
    remote: Remote
    process: Process
    ready: dict[str, str]

    def requests(self, since: int = 0) -> dict[str, int]:
        """How many requests each route got."""
        counts: dict[str, int] = {}
        for request in self.remote.log(since):
            counts[request["route"]] = counts.get(request["route"], 0) + 1
        return counts

    def asset(self, name: str) -> str:
        """ID of the one asset of that name."""
        found = [a["id"] for a in self.remote.storage()["assets"] if a["name"] == name]
        assert len(found) == 1, found
        return str(found[0])


def mount_lines(table: str = "mountinfo") -> list[str]:
    """Lines of /proc/self/TABLE. Other tests' mounts stand there too, under names in any bytes."""
    return os.fsdecode(Path("/proc/self", table).read_bytes()).splitlines()


@contextmanager
def emulator(*arguments: str) -> Iterator[Emulator]:
    """Start an emulator with these flags; ends it afterwards."""
    # Without a home every emulator would make its sample anew (`contrib/test-elsewhere homeless`).
    kept_sample = os.environ.get("UP42FS_TEST_SAMPLE_DIR")
    place = ["--sample-dir", kept_sample] if kept_sample else []
    receive, send = os.pipe()
    try:
        words = ["emulator", "--die-with-parent", *place, *arguments]
        process = _nest().start(words, os.environ, send)
    finally:
        os.close(send)
    # What mounts keep is kept by the server's address, and another test's server may have had it.
    kept = tempfile.mkdtemp(prefix="up42fs-tests-")
    Path(kept).chmod(0o777)
    try:
        # Kept open: whatever else the emulator prints must not end it.
        with open(receive, closefd=False) as told:
            line = told.readline()
        assert line, "the emulator did not start"
        ready = json.loads(line)
        env = ready["env"] | {"XDG_CACHE_HOME": kept}
        yield Emulator(env, Remote(ready["control_url"]), process, ready)
    finally:
        shutil.rmtree(kept, ignore_errors=True)
        process.terminate()
        process.wait(30)
        process.close()
        os.close(receive)


@cache
def _nest() -> Nest:
    return Nest()


#: What status.json tells of requests under way.
RUNNING = ("fetches_ahead", "probes_running", "requests_running")


@dataclass
class Mount:
    """A mount made by the command."""

    path: Path
    pid: int
    log: Path
    env: Mapping[str, str] = field(repr=False)
    device: str = ""

    def status(self) -> dict:
        return json.loads((self.path / ".up42fs/status.json").read_text())

    def counters(self) -> dict[str, int]:
        return self.status()["counters"]

    def rest(self) -> None:
        """Wait until nothing is fetched that nobody waits for, 5 s at most."""
        deadline_s = time.monotonic() + 5
        while time.monotonic() < deadline_s:
            store = self.status()["store"]
            if not any(store[gauge] for gauge in RUNNING):
                return
            time.sleep(0.02)

    def find(self, name: str) -> Path:
        """The one path below assets/ of that name."""
        return self.path / "assets" / name


def environ(env: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without UP42 settings, plus `env`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("UP42_", "XDG_"))}
    return clean | dict(env)


def become(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the account of `emulator`, and nothing of the caller's settings."""
    for name in os.environ.keys() - environ({}).keys():
        monkeypatch.delenv(name)
    for name, value in emulator.env.items():
        monkeypatch.setenv(name, value)


def run(*command: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 60, **kw):
    """Run a command to its end, output captured as text."""
    if command[:1] == FORKED:
        assert not kw, "a fork takes nothing but an environment"
        return forked([str(word) for word in command[1:]], environ(env or {}), timeout_s)
    # Other programs print in the encoding of the locale, which need not be UTF-8 (test-elsewhere).
    kw.setdefault("errors", "surrogateescape")
    return subprocess.run(
        [str(word) for word in command],
        env=environ(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        **kw,
    )


def forked(
    words: Sequence[str],
    env: Mapping[str, str],
    timeout_s: float = 60,
    directory: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of up42fs as a fork, unless this environment would change how it loads."""
    where = None if directory is None else str(directory)
    if _nest().is_fit(env):
        return _nest().run(words, env, timeout_s, where)
    return subprocess.run(
        [*UP42FS, *words],
        env=env,
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout_s,
        check=False,
    )


def check(*command: str | Path, **kw) -> str:
    """Like `run`; the command must succeed; returns its standard output."""
    done = run(*command, **kw)
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def mounted(
    env: Mapping[str, str], *arguments: str, home: Path, by_command: bool = False
) -> Iterator[Mount]:
    """Mount, unmount afterwards; nothing may be left mounted or running.

    The mount is a fork of a process that has loaded up42fs (`nest`), unless the environment would
    change how it loads, or the command itself is asked for.
    """
    mountpoint = Path(tempfile.mkdtemp(prefix="mount-", dir=home))
    log = home / f"{mountpoint.name}.log"
    # A cache of its own, unless the test says otherwise: every mount starts cold.
    cache = home / f"{mountpoint.name}.cache"
    own = [] if "--cache-dir" in arguments else ["--cache-dir", str(cache)]
    # The crawl for items would count as requests of whatever test runs then.
    env = {"UP42FS_CRAWL_AFTER_S": "3600"} | dict(env)
    words = ["mount", str(mountpoint), "--log-file", str(log), *own, *arguments]
    done = run(*(UP42FS if by_command else FORKED), *words, env=env)
    assert done.returncode == 0, (done.stderr, log.exists() and log.read_text())
    mount = Mount(mountpoint, 0, log, env)
    mount.pid = mount.status()["pid"]
    made = mount_at(mountpoint)
    assert made is not None
    mount.device = made.device
    try:
        yield mount
    finally:
        if mount_at(mountpoint) is not None:
            # What the command does, without the start of another interpreter.
            with suppress(Up42fsError):
                unmount(mountpoint)
        leftover = mount_at(mountpoint)
        if leftover is not None:
            run("fusermount3", "-uz", mountpoint)
        wait_for_end(mount)
        assert leftover is None, f"still mounted: {log.read_text()}"


@dataclass
class Served:
    """A running `up42fs serve`."""

    address: str
    process: subprocess.Popen[str]
    log: Path
    env: Mapping[str, str] = field(repr=False)

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    def url(self, path: str) -> str:
        """The address of a path of the tree."""
        return self.address.rstrip("/") + quote(path)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def served(
    env: Mapping[str, str],
    *arguments: str,
    home: Path,
    listen: str = "127.0.0.1:0",
    **popen: Any,
) -> Iterator[Served]:
    """Serve with the command; end it by SIGTERM afterwards, which it must obey with status 0."""
    own = Path(tempfile.mkdtemp(prefix="serve-", dir=home))
    own.chmod(0o777)
    log = own / "log"
    cache = [] if "--cache-dir" in arguments else ["--cache-dir", str(own / "cache")]
    env = {"UP42FS_CRAWL_AFTER_S": "3600"} | dict(env)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*UP42FS, "serve", "--listen", listen, *cache, *arguments],
            env=environ(env),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            **popen,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("up42fs serves http"), (line, log.read_text(errors="replace"))
            yield Served(line.split()[-1], process, log, env)
            process.terminate()
            assert process.wait(30) == 0, log.read_text(errors="replace")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def take_away(mount: Mount) -> None:
    """Unmount, and wait until its process has ended: until then it writes to its cache.

    A mount that begins before finds less there than it would, and asks UP42 for the rest.
    """
    # The kernel releases the files of a program that has ended a moment later.
    wait_until(lambda: run("fusermount3", "-u", mount.path).returncode == 0, 20, "it is unmounted")
    wait_for_end(mount)


def wait_for_end(mount: Mount) -> None:
    """Wait until the process of a mount that was taken away has ended; else fail with its stacks.

    Tests beside this one make mount namespaces, which begin with copies of all mounts and keep the
    process running. If there is such a copy, the process is told to end.
    """
    try:
        began_s = time.monotonic()
        wait_until(
            lambda: (
                not is_running(mount.pid)
                or (time.monotonic() - began_s > 3 and holders_of(mount.device))
            ),
            15,
            "the mount process ends",
        )
        if is_running(mount.pid):
            with suppress(ProcessLookupError):
                os.kill(mount.pid, signal.SIGTERM)
            wait_until(lambda: not is_running(mount.pid), 10, "the mount process ends when told to")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stacks(mount)}") from None


def stacks(mount: Mount) -> str:
    """The log of a mount's process, at its end where all its threads and tasks are now."""
    with suppress(ProcessLookupError):
        os.kill(mount.pid, signal.SIGUSR1)
    time.sleep(1)
    waits = []
    for task in Path(f"/proc/{mount.pid}/task").glob("*"):
        with suppress(OSError):
            waits.append(f"{task.name} {(task / 'comm').read_text().strip()}")
            waits.append((task / "wchan").read_text() + " " + (task / "syscall").read_text())
    return "\n".join([mount.log.read_text(errors="replace"), *waits])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


#: What has to happen gets as long at least, since a busy machine may need ten times the usual.
PATIENCE_S = 20.0


def wait_until(condition, timeout_s: float, what) -> None:
    """Poll `condition` until it holds; fails with `what`, called if it can be, after `timeout_s`.

    That is `PATIENCE_S` at least: a test that proves a shorter time measures it.
    """
    timeout_s = max(timeout_s, PATIENCE_S)
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            said = what() if callable(what) else what
            raise AssertionError(f"waited {timeout_s} s in vain: {said}")
        time.sleep(0.02)


def kib_resident(pid: int) -> int:
    """Resident memory of a process now, KiB."""
    return _kib(pid, "VmRSS")


def kib_at_most(pid: int) -> int:
    """The most resident memory that a process ever had, KiB."""
    return _kib(pid, "VmHWM")


def _kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {field}")


def comparable(info: dict) -> dict:
    """`gdalinfo`'s answer without what depends on where the file lies."""
    files = [Path(name).name for name in info.get("files", [])]
    kept = {key: value for key, value in info.items() if key not in ("description", "files")}
    text = json.dumps(kept | {"files": sorted(files)}, sort_keys=True)
    # DIMAP shows its own path in the names of its subdatasets.
    return json.loads(re.sub(r'DIMAP:\\"[^"]*/', r'DIMAP:\\"', text))


def why_no_namespace() -> str | None:
    """Why a mount namespace cannot be made here (not root, a chroot), or None."""
    if os.getuid() != 0:
        return "needs root"
    done = run("unshare", "-m", "true")
    return None if done.returncode == 0 else "no mount namespaces here"


#: For tests that mount in a namespace of their own.
IN_A_NAMESPACE = pytest.mark.skipif(why_no_namespace() is not None, reason=str(why_no_namespace()))


def interpreter_for_others() -> str | None:
    """A Python that any user may run and that has this one's version, so its extensions load."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(sys.executable).resolve(), Path("/usr/bin") / version):
        if path.exists() and all(p.stat().st_mode & 0o001 for p in (path, *path.parents)):
            return str(path)
    return None


def as_nobody(file: Path, keyword: str) -> str:
    """Run the tests of `file` that `keyword` selects as `nobody`; returns what pytest says.

    In a mount namespace of its own, with a /dev/fuse for everybody as distributions have, through
    the setuid fusermount3.
    """
    script = (
        "mknod -m 666 $1/fuse c 10 229 && mount --bind $1/fuse /dev/fuse && shift && exec "
        'setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
    )
    interpreter = interpreter_for_others()
    assert interpreter is not None
    paths = [p for p in sys.path if p and "site-packages" in p] + [str(REPOSITORY)]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        Path(home).chmod(0o777)
        return check(
            *("unshare", "-m", "sh", "-c", script, "sh"),
            *(home, interpreter, "-m", "pytest"),
            *("-q", "-p", "no:cacheprovider", f"--basetemp={home}/tests", str(file)),
            *("-k", keyword),
            env={"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        )

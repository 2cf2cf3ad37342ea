"""`up42fs mount`: checks what can be checked, then serves here or in a child process.

In the background form, a child process mounts and serves, and reports through a pipe, in one JSON
line, that the mount answers or why it does not. This process waits for that line, prints the reason
if mounting failed, and exits. The child is a fresh process rather than a fork, so that it inherits
no thread, lock or event loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import NoReturn

from up42fs import logs
from up42fs.cli import keeping, respawn, waiting
from up42fs.cli.options import Subparsers, add_command, add_json, add_options, path_argument
from up42fs.cli.options import settings_of as merge
from up42fs.cli.running import clear_dead, read_status
from up42fs.cli.terminal import say, say_json
from up42fs.cli.unmount import serving_pid
from up42fs.config import settings as config
from up42fs.config.options import REGIONS, is_source, parse_mount_options, source_name
from up42fs.errors import ConfigurationError, Unavailable, Up42fsError, UsageError
from up42fs.fuse.mount_table import FSTYPE, mount_at
from up42fs.log_files import Rotation
from up42fs.visible import visible

#: If the mount does not answer within this time, the attempt is ended and undone, seconds. Longer
#: than signing in and the first request (12 s), the kernel (10 s) and a slow start of Python may
#: take together: the mount's own error says what was waited for.
READY_TIMEOUT_S = 30.0
_READY_FD = "_UP42FS_READY_FD"
_HERE_FD = "_UP42FS_HERE_FD"
_FUSE_DEVICE = Path("/dev/fuse")


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command, with one long option for every entry of the option table."""
    parser = add_command(
        commands,
        "mount",
        "Mount UP42 storage at MOUNTPOINT, an existing directory. Returns once the\n"
        "mount answers. Account: as signed in by up42fs login, or UP42_USERNAME and\n"
        "UP42_PASSWORD, or --credentials FILE.",
        "up42fs mount ~/up42",
        "up42fs mount --wait listed ~/up42 && ls ~/up42/orders",
        "up42fs mount --foreground --log-level debug ~/up42",
        "up42fs mount -o refresh=30,cache_size=50G ~/up42",
    )
    parser.add_argument("mountpoint", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument(
        "--wait",
        choices=waiting.STATES,
        metavar="STATE",
        help="return once the storage is listed, or synced: listed anew since mounting",
    )
    add_json(parser, "the mount as a JSON document; not with --foreground")
    parser.add_argument("-f", "--foreground", action="store_true", help="serve in this process")
    parser.add_argument(
        "-o",
        dest="mount_options",
        action="append",
        default=[],
        metavar="OPT,…",
        help="any of the options below, in mount(8)'s form: -o refresh=30,uid=0",
    )
    parser.add_argument("--from-mount", metavar="SOURCE", help=argparse.SUPPRESS)
    parser.add_argument("-s", dest="sloppy", action="store_true", help=argparse.SUPPRESS)
    for ignored in ("-n", "-v", "-w", "-r"):
        parser.add_argument(ignored, action="store_true", help=argparse.SUPPRESS)
    add_options(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Mount; return the exit status. Raises an `Up42fsError` with the reason of a failure."""
    ready_fd = os.environ.pop(_READY_FD, None)
    if ready_fd is not None:
        return _serve_as_child(options, int(ready_fd))
    if _is_mounted_as_named(options):
        return 0
    if _is_mounted_already(options):
        say(f"up42fs: {os.path.realpath(options.mountpoint)} is mounted already", to_error=True)
        _finish(options, Path(os.path.realpath(options.mountpoint)), was_mounted=True)
        return 0
    if options.foreground and (options.wait or options.json):
        raise UsageError("--wait and --json tell of a mount in the background: leave out -f")
    require_pyfuse3()
    settings, mountpoint = _prepare(options)
    if options.foreground:
        logs.set_up(
            settings.log_level, settings.log_file, settings.log_format, rotation_of(settings)
        )
        settings, notes = keeping.kept(settings, os.environ)
        ready = partial(notify, READY="1", STATUS=f"{mountpoint} answers")
        _serve(settings, mountpoint, ready, notes, options.from_mount)
        notify(STOPPING="1")
        _leave()
    status = _serve_in_background(options.argv, mountpoint)
    _finish(options, mountpoint, was_mounted=False)
    return status


def _finish(options: argparse.Namespace, mountpoint: Path, *, was_mounted: bool) -> None:
    """Wait for what was asked for, and print the mount; raises Unavailable if it takes too long."""
    if options.wait:
        waiting.wait(mountpoint, options.wait)
    if options.json:
        said = read_status(mountpoint) or {}
        names = ("pid", "account", "account_name", "api", "workspace", "notes")
        facts = {name: said.get(name) for name in names}
        say_json({"mountpoint": str(mountpoint), "was_mounted": was_mounted} | facts)


def require_pyfuse3() -> None:
    """Raise ConfigurationError, with the cure, if the FUSE engine is not installed."""
    if importlib.util.find_spec("pyfuse3") is None:
        raise ConfigurationError(
            "mounting needs the Python package pyfuse3, which is compiled here: install "
            "libfuse3-dev, pkg-config, gcc and python3-dev, then: pip install 'up42fs[mount]'; "
            "without a mount: up42fs ls, cp, cat, find, info"
        )


def _is_mounted_as_named(options: argparse.Namespace) -> bool:
    """Whether mount(8) requests a mount that exists already.

    mount(8) itself misses this if it turned the source into a path (`source_name`).
    """
    source = options.from_mount or ""
    if "/" not in source:
        return False
    mounted = mount_at(os.path.realpath(options.mountpoint))
    return (
        mounted is not None
        and (mounted.fstype, mounted.source) == (FSTYPE, source_name(source))
        and serving_pid(Path(mounted.mountpoint)) is not None
    )


def _is_mounted_already(options: argparse.Namespace) -> bool:
    """Whether this user's mount of the same storage answers there, and takes edits if wished.

    A script that mounts may run twice. `mount(8)` and `--foreground` want a mount of their own.
    """
    if options.foreground or options.from_mount is not None:
        return False
    place = Path(os.path.realpath(options.mountpoint))
    mounted = mount_at(place)
    if mounted is None or mounted.fstype != FSTYPE or mounted.is_foreign:
        return False
    if serving_pid(place) is None:
        return False
    said, settings = read_status(place), settings_of(options, os.environ)
    if said is None or bool(said.get("edits")) != settings.rw:
        return False
    here = said.get("api"), said.get("account"), said.get("workspace") or None
    return here == (settings.api, settings.username, settings.workspace)


def _prepare(options: argparse.Namespace) -> tuple[config.Settings, Path]:
    mountpoint = Path(os.path.realpath(options.mountpoint))
    if clear_dead(mountpoint):
        say(
            f"up42fs: {mountpoint} was a mount whose process is gone; mounting again",
            to_error=True,
        )
    check_mountable(mountpoint)
    settings = settings_of(options, os.environ)
    if not settings.nonempty:
        check_empty(mountpoint)
    return settings, mountpoint


def settings_of(options: argparse.Namespace, environ: Mapping[str, str]) -> config.Settings:
    """Merge arguments, `-o`, environment, file and login; raises ConfigurationError."""
    mount_options = parse_mount_options(
        ",".join(options.mount_options), is_sloppy=options.sloppy and options.from_mount is not None
    )
    if options.from_mount is not None:
        mount_options = _from_mount(options.from_mount, mount_options)
    return merge(options, environ, mount_options)


def check_mountable(mountpoint: Path) -> None:
    """Raise ConfigurationError, with the cure, if something would keep the mount from working."""
    if not _FUSE_DEVICE.exists():
        raise ConfigurationError(
            f"{_FUSE_DEVICE} is missing: FUSE is not available here. "
            "Load it (sudo modprobe fuse), or give the container --device /dev/fuse"
        )
    if shutil.which("fusermount3") is None:
        raise ConfigurationError("fusermount3 is missing; install it: sudo apt-get install fuse3")
    quoted = quote(str(mountpoint))
    mounted = mount_at(mountpoint)
    if mounted is not None:
        dead = mounted.fstype == FSTYPE and serving_pid(mountpoint) is None
        what = "an up42fs mount that does not answer" if dead else "something is mounted there"
        if mounted.fstype == FSTYPE and mounted.is_foreign:
            raise ConfigurationError(
                f"{mountpoint} is busy: {mounted.owner_name} mounted up42fs there. "
                "Mount somewhere else"
            )
        raise ConfigurationError(
            f"{mountpoint} is busy: {what}. Unmount it first: up42fs unmount {quoted}"
        )
    if not mountpoint.exists():
        raise ConfigurationError(f"{mountpoint} does not exist; make it: mkdir -p {quoted}")
    if not mountpoint.is_dir():
        raise ConfigurationError(f"{mountpoint} is not a directory; mount on an empty directory")


def check_empty(mountpoint: Path) -> None:
    """Raise ConfigurationError, with the cure, if the mount would hide files."""
    try:
        with os.scandir(mountpoint) as entries:
            is_empty = next(entries, None) is None
    except PermissionError:
        return  # no file in it is reachable by name either, and fusermount3 has its own checks
    if not is_empty:
        raise ConfigurationError(
            f"{mountpoint} is not empty, and a mount would hide what is in it. "
            "Mount on an empty directory, or say so: -o nonempty"
        )


def _from_mount(source: str, mount_options: dict[str, str]) -> dict[str, str]:
    # mount(8) adds `rw` by itself, so `rw` from it does not request editing.
    wishes = {name: value for name, value in mount_options.items() if name != "rw"}
    name = source_name(source)
    if not is_source(name):
        raise ConfigurationError(
            f"{name!r} is no command of up42fs, and no region that mount(8) could name as source: "
            f"say {' or '.join(REGIONS)}, or none, or a name that begins with up42"
        )
    if name in REGIONS:
        wishes.setdefault("region", name)
    return wishes


def _serve(
    settings: config.Settings,
    mountpoint: Path,
    ready: Callable[[], None],
    notes: list[str],
    given: str | None,
) -> None:
    from up42fs.mount import mount as run

    run.serve(settings, mountpoint, ready, notes, source_name(given) if given else None)


def _leave() -> NoReturn:
    from up42fs.mount.ending import leave

    leave(0)


def notify(**state: str) -> None:
    """Send assignments such as `READY="1"`; a socket that is gone is not an error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        address = "\0" + address[1:]
    elif not address.startswith("/"):
        return
    message = "\n".join(f"{name}={visible(value)}" for name, value in state.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), address)


def _serve_in_background(arguments: list[str], mountpoint: Path) -> int:
    receive, send = os.pipe()
    here = respawn.here()
    passed = {_READY_FD: send} | ({} if here is None else {_HERE_FD: here})
    child = subprocess.Popen(
        respawn.command(*arguments),
        env=respawn.environment(os.environ) | {name: str(fd) for name, fd in passed.items()},
        cwd=None if here is None else respawn.DIRECTORY,
        pass_fds=tuple(passed.values()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for fd in passed.values():
        os.close(fd)
    try:
        report = _wait_for_report(receive, READY_TIMEOUT_S)
    except BaseException:
        _end(child, mountpoint)
        raise
    finally:
        os.close(receive)
    if report.get("ready"):
        for note in report.get("notes") or ():  # type: ignore[attr-defined]
            say(f"up42fs: {note}", to_error=True)
        return 0
    _end(child, mountpoint)
    raise Unavailable(str(report.get("error", "the mount process ended without giving a reason")))


def _wait_for_report(pipe: int, timeout_s: float) -> dict[str, object]:
    deadline_s = time.monotonic() + timeout_s
    received = b""
    while not received.endswith(b"\n"):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            return {"error": f"the mount did not answer within {timeout_s:.0f} s; gave up"}
        piece = os.read(pipe, 65536)
        if not piece:
            return {}
        received += piece
    report: dict[str, object] = json.loads(received)
    return report


def _end(child: subprocess.Popen[bytes], mountpoint: Path) -> None:
    """End the child and unmount what it may have mounted."""
    child.terminate()
    try:
        child.wait(timeout=3.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if mount_at(mountpoint) is not None:
        subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=False, cwd="/")


class _Report:
    """The pipe to the parent process: takes one line and is then closed.

    Its descriptor number is forgotten then. The next file opened gets the same number, so a second
    line would be written into that file, for example the catalogue's.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd: int | None = fd

    def __call__(self, **facts: object) -> None:
        """Send `facts`, unless something was sent before."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with suppress(OSError):  # the parent no longer waits
            os.write(fd, json.dumps(facts).encode() + b"\n")
        with suppress(OSError):
            os.close(fd)


def _serve_as_child(options: argparse.Namespace, ready_fd: int) -> int:
    report = _Report(ready_fd)
    here = os.environ.pop(_HERE_FD, None)
    try:
        if here is not None:
            # Resolve relative paths from the user's directory; modules do not load from it, because
            # of -P.
            os.fchdir(int(here))
            os.close(int(here))
        settings, mountpoint = _prepare(options)
        settings, notes = keeping.kept(settings, os.environ)
        settings = _log(settings, mountpoint, notes)
        os.chdir("/")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def ready() -> None:
            # Not earlier: while an automounter mounts, it blocks every process that accesses the
            # mount point, except for the process group that it started to mount.
            os.setsid()
            report(ready=True, notes=[logs.redact(note) for note in notes])

        _serve(settings, mountpoint, ready, notes, options.from_mount)
        _leave()
    except (Up42fsError, OSError) as error:
        logging.getLogger(__name__).error("%s", error)
        report(error=logs.redact(str(error)))
        return 1
    except BaseException as error:
        logging.getLogger(__name__).exception("the mount process failed")
        report(error=f"unexpected: {logs.redact(repr(error))}")
        raise


def _log(settings: config.Settings, mountpoint: Path, notes: list[str]) -> config.Settings:
    """Log to the configured file, otherwise to the system's log, otherwise to the default file.

    Returns the settings with the file in use. Raises OSError if the configured file cannot be used.
    """
    if settings.log_file is None and logs.set_up_system(
        settings.log_level, settings.log_format, str(mountpoint)
    ):
        logs.take_stderr()
        return settings
    log_file = settings.log_file or default_log_file(mountpoint)
    if settings.log_file is None and (why := keeping.why_not(log_file.parent)):
        notes.append(
            f"nothing is logged: {log_file.parent}: {why}; set XDG_STATE_HOME or --log-file"
        )
        return settings
    logs.set_up(settings.log_level, log_file, settings.log_format, rotation_of(settings))
    logs.take_stderr()
    return replace(settings, log_file=log_file)


def rotation_of(settings: config.Settings) -> Rotation:
    """How the log file stays small."""
    return Rotation(settings.log_size, settings.log_keep)


def default_log_file(mountpoint: Path) -> Path:
    """The log file of a background mount: below `XDG_STATE_HOME`, one file for each mount point."""
    return config.state_dir(os.environ) / (config.file_stem(mountpoint) + ".log")

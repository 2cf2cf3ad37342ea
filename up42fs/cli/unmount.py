"""`up42fs unmount`: unmounts and waits until the mount's process is gone."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from up42fs.cli.options import Subparsers, add_command, add_json, path_argument
from up42fs.cli.running import read_status
from up42fs.cli.terminal import say, say_json
from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fuse.detach import detach
from up42fs.fuse.mount_table import FSTYPE, Mount, holders_of, mount_at, places_of
from up42fs.visible import visible

#: How long the process may take to end, seconds, and when it is looked for what keeps it.
EXIT_TIMEOUT_S = 10.0
_LOOK_S = 2.0


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "unmount",
        "Unmount, and wait until the mount's process is gone.",
        "up42fs unmount ~/up42",
        "up42fs unmount --lazy ~/up42",
    )
    parser.add_argument("mountpoint", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument(
        "-z", "--lazy", action="store_true", help="even if busy: gone when its last user leaves"
    )
    add_json(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Unmount; return 0. Raises an `Up42fsError` with the reason of a failure."""
    place = Path(os.path.realpath(options.mountpoint))
    pid = serving_pid(place) if options.json else None
    unmount(place, lazy=options.lazy)
    if options.json:
        still_runs = pid is not None and _runs(pid)
        say_json({"mountpoint": str(place), "pid": pid, "still_runs": still_runs})
    return 0


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount, and wait for the process; raises Unavailable if busy, or ConfigurationError."""
    mount = mount_at(mountpoint)
    if mount is None or mount.fstype != FSTYPE:
        raise ConfigurationError(f"{mountpoint} is not an up42fs mount")
    pid = serving_pid(mountpoint)
    if mount.is_foreign and os.geteuid() != 0:
        raise Unavailable(
            f"{mountpoint} was not unmounted: {mount.owner_name} mounted it; "
            f"run this as {mount.owner_name}, or as root"
        )
    copies = Copies.of(mount)
    reason = detach(mountpoint, lazy=lazy)
    if reason is not None:
        raise Unavailable(
            f"{mountpoint} was not unmounted: {reason}; leave it in every shell and program, "
            f"or: up42fs unmount --lazy {quote(str(mountpoint))}"
        )
    if pid is not None and not lazy:
        _wait_for_exit(pid, mount, copies)


@dataclass(frozen=True)
class Copies:
    """The places of a mount, and the processes whose mount namespaces have a copy of it.

    They are noted before an unmount. Afterwards the kernel gives the mount's number to the next
    one, so a place that comes then is another mount.
    """

    places: frozenset[str]
    holders: Mapping[int, str]

    @classmethod
    def of(cls, mount: Mount) -> Copies:
        places = frozenset(places_of(mount.device)) - {mount.mountpoint}
        return cls(places, dict(holders_of(mount.device)))

    def left(self, mount: Mount) -> Copies:
        """Those that are still there."""
        now = Copies.of(mount)
        holders = {pid: name for pid, name in now.holders.items() if pid in self.holders}
        return Copies(self.places & now.places, holders)


def serving_pid(mountpoint: Path) -> int | None:
    """Process ID of the mount, or None if it does not answer in time (dead or frozen)."""
    status = read_status(mountpoint)
    pid = status.get("pid") if status else None
    return pid if isinstance(pid, int) and pid > 0 else None


def _wait_for_exit(pid: int, mount: Mount, copies: Copies) -> None:
    began_s = time.monotonic()
    look_s = _LOOK_S
    while _runs(pid):
        waited_s = time.monotonic() - began_s
        if waited_s > look_s:
            look_s += _LOOK_S
            keeps = what_keeps(pid, mount, copies.left(mount))
            if keeps or waited_s > EXIT_TIMEOUT_S:
                say(f"up42fs: {keeps or _no_reason(pid)}", to_error=True)
                return
        time.sleep(0.02)


def what_keeps(pid: int, mount: Mount, copies: Copies) -> str | None:
    """Why the process of a mount that was taken away goes on; None where nothing is found."""
    if places := sorted(copies.places):
        return (
            f"{mount.mountpoint} is unmounted, and process {pid} goes on: the same mount stands at "
            f"{visible(places[0])}; unmount that too: sudo umount {shlex.quote(places[0])}"
        )
    if copies.holders:
        who = ", ".join(f"{pid} ({visible(name)})" for pid, name in copies.holders.items())
        return (
            f"{mount.mountpoint} is unmounted, and process {pid} goes on: a copy of the mount is "
            f"in another mount namespace (a container, a service), that of process {who}. "
            f"It ends with that; to end it now: kill {pid}"
        )
    return None


def _no_reason(pid: int) -> str:
    return (
        f"process {pid} is still ending; if it stays, a container or a service that you may not "
        f"look into has a copy of the mount: to end it now: kill {pid}"
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's process: it runs, even if /proc does not show it (hidepid)
    try:
        found = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")  # it has the program's name
        return found.rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True

"""Checks of a running mount: whether it answers, is fresh, and which limits the kernel allows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from up42fs import __version__
from up42fs.doctor.finding import Finding, Machine, fail, ok, warn
from up42fs.fuse.mount_table import Mount
from up42fs.fuse.tuning import MAX_BACKGROUND, READ_AHEAD_KIB
from up42fs.visible import visible

#: A listing that was refreshed longer ago than this is not fresh, seconds.
STALE_S = 600.0


def examine(machine: Machine, mount: Mount, status: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Run every check of one mount; `status` is its document, None if it did not answer."""
    place = visible(mount.mountpoint)
    quoted = shlex.quote(place)
    if status is None and mount.is_foreign:
        owner = mount.owner_name
        yield warn(
            "mount",
            f"{place} was mounted by {owner}, and only {owner} may look into it",
            f"as {owner}: up42fs doctor {quoted}",
        )
        return
    if status is None:
        yield fail(
            "mount",
            f"{place} does not answer: its process is gone or stopped",
            f"up42fs unmount --lazy {quoted} && up42fs mount {quoted}",
        )
        return
    whose = f", mounted by {mount.owner_name}" if mount.is_foreign else ""
    yield ok("mount", f"{place} answers, process {status.get('pid')}{whose}")
    yield _version(place, status)
    yield _read_ahead(machine, mount, status)
    yield _background(status)
    yield _freshness(place, status)
    yield _disk_cache(status)
    yield _errors(status)


def _version(place: str, status: Mapping[str, Any]) -> Finding:
    if status.get("version") != __version__:
        quoted = shlex.quote(place)
        return warn(
            "version",
            f"the mount runs {status.get('version')}, installed is {__version__}",
            f"up42fs unmount {quoted} && up42fs mount {quoted}",
        )
    return ok("version", __version__)


def _read_ahead(machine: Machine, mount: Mount, status: Mapping[str, Any]) -> Finding:
    path = f"/sys/class/bdi/{mount.device}/read_ahead_kb"
    text = (machine.read(path) or "").strip()
    if not text.isdecimal():
        return ok("read-ahead", "the kernel does not show it here")
    # The kernel's value is lower while the file opened last is read by tiles.
    kib = max(int(text), (status.get("kernel") or {}).get("read_ahead_kib") or 0)
    if kib < READ_AHEAD_KIB:
        return warn(
            "read-ahead",
            f"{kib} KiB: copies are slower than they could be",
            f"echo {READ_AHEAD_KIB} | sudo tee {path}; for good: sudo contrib/install",
        )
    return ok("read-ahead", f"{kib} KiB")


def _background(status: Mapping[str, Any]) -> Finding:
    value = (status.get("kernel") or {}).get("max_background")
    if value is not None and value < MAX_BACKGROUND:
        return warn(
            "max_background",
            f"{value}: parallel readers wait for each other",
            "see the log for why the handshake failed; as root: echo 64 | "
            "sudo tee /sys/fs/fuse/connections/*/max_background",
        )
    return ok("max_background", str(value or "the kernel does not show it here"))


def _freshness(place: str, status: Mapping[str, Any]) -> Finding:
    for part, state in (status.get("catalogue") or {}).items():
        if state.get("error"):
            return warn(
                "freshness",
                f"refreshing the {part} fails: {state['error']}",
                "what is shown may be old; it is tried again every few seconds",
            )
        age_s = state.get("seconds_since_refresh")
        if age_s is None or age_s > STALE_S:
            since = "never" if age_s is None else f"{age_s:.0f} s ago"
            return warn(
                "freshness",
                f"the {part} were refreshed {since}",
                f"ask for it now: cat {shlex.quote(place)}/.up42fs/refresh",
            )
    return ok("freshness", "the listings are up to date")


def _disk_cache(status: Mapping[str, Any]) -> Finding:
    disk = status.get("disk_cache")
    if disk and disk.get("off_because"):
        directory = disk.get("directory") or "the cache"
        return warn(
            "cache of mount",
            f"off: {disk['off_because']}",
            f"free the disk of {directory}, then unmount and mount again",
        )
    return ok("cache of mount", "works" if disk else "not asked for")


def _errors(status: Mapping[str, Any]) -> Finding:
    latest = status.get("recent_errors") or []
    if latest:
        last = latest[-1]
        log_file = status.get("log_file")
        return warn(
            "errors",
            f"{len(latest)} lately, the last at {last['time']}: {last['message']}",
            f"look it up in docs/troubleshooting.md; the log: {log_file or 'standard error'}",
        )
    return ok("errors", "none lately")


def unmounted(mountpoint: Path) -> Iterator[Finding]:
    """Check a mount point that is not mounted yet."""
    if not mountpoint.exists():
        cure = f"mkdir -p {shlex.quote(str(mountpoint))}"
        yield fail("mount point", f"{mountpoint} does not exist", cure)
    elif not mountpoint.is_dir():
        yield fail("mount point", f"{mountpoint} is not a directory", "choose an empty directory")
    elif not os.access(mountpoint, os.R_OK | os.W_OK | os.X_OK):
        yield fail(
            "mount point",
            f"{mountpoint} is not yours to mount upon",
            "choose an empty directory that you may write",
        )
    elif any(mountpoint.iterdir()):
        yield warn(
            "mount point",
            f"{mountpoint} is not empty: a mount hides what is in it",
            "choose an empty directory",
        )
    else:
        yield ok("mount point", f"{mountpoint} is an empty directory")

"""Running mounts as commands meet them: which is meant, and what it says of itself.

A frozen mount blocks whoever looks into it for good; here nobody waits longer than a deadline.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fs.nodes import CONTROL_DIR
from up42fs.fuse.mounts import FSTYPE, Mount, mount_at, ours

#: How long a mount may take to answer, seconds.
ANSWER_TIMEOUT_S = 2.0

T = TypeVar("T")


def within(look: Callable[[], T], timeout_s: float = ANSWER_TIMEOUT_S) -> T | None:
    """What `look` returns, or None if it fails or takes longer than `timeout_s` seconds."""
    found: list[T] = []

    def ask() -> None:
        try:
            found.append(look())
        except (OSError, ValueError, KeyError):
            return

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(timeout_s)
    return found[0] if found else None


def read_status(mountpoint: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> Mapping[str, Any] | None:
    """The mount's status document, or None if it does not answer in time (dead or frozen)."""
    path = mountpoint / CONTROL_DIR / "status.json"

    def look() -> Mapping[str, Any]:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document

    return within(look, timeout_s)


def clear_dead(mountpoint: Path) -> bool:
    """Take away a mount of ours whose process is gone; whether there was one.

    A mount that only does not answer is left alone: its process may come back.
    """
    mount = mount_at(mountpoint)
    if mount is None or mount.fstype != FSTYPE or not within(lambda: _is_dead(mountpoint)):
        return False
    command = ["fusermount3", "-u", "-z", str(mountpoint)]
    subprocess.run(command, capture_output=True, check=False, cwd="/")
    return mount_at(mountpoint) is None


def _is_dead(mountpoint: Path) -> bool:
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def need_status(mountpoint: Path) -> Mapping[str, Any]:
    """The mount's status document; raises Unavailable with the cure where it does not answer."""
    document = read_status(mountpoint)
    if document is None:
        raise Unavailable(
            f"the mount at {mountpoint} does not answer; if that lasts: "
            f"up42fs unmount --lazy {mountpoint}, then mount again"
        )
    return document


def chosen(mountpoint: str | None) -> list[Path]:
    """The mount points meant: that one, else all; raises ConfigurationError if there is none."""
    if mountpoint is None:
        found = [Path(mount.mountpoint) for mount in ours()]
        if not found:
            raise ConfigurationError("nothing is mounted; mount first: up42fs mount MOUNTPOINT")
        return found
    # The path as it stands first: resolving it touches a mount that may be frozen.
    for place in (str(Path(mountpoint).absolute()), os.path.realpath(mountpoint)):
        mount = mount_at(place)
        if mount is not None and mount.fstype == FSTYPE:
            return [Path(place)]
    raise ConfigurationError(f"{mountpoint} is not an up42fs mount")


def mount_of(path: str) -> tuple[Mount, Path]:
    """The mount that `path` lies in, and the path resolved; raises ConfigurationError."""
    place = Path(os.path.realpath(path))
    for parent in (place, *place.parents):
        mount = mount_at(parent)
        if mount is not None:
            if mount.fstype != FSTYPE:
                break
            return mount, place
    raise ConfigurationError(f"{path} does not lie in an up42fs mount")

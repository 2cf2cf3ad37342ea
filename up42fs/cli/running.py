"""Running mounts, for commands: which of them is meant, and its status.

Accesses to a frozen mount block for ever; the functions here wait no longer than a timeout.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

from up42fs.doctor import foreign
from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fs.hidden import CONTROL_DIR, STATUS
from up42fs.fuse.mount_table import FSTYPE, Mount, mount_at, ours
from up42fs.visible import visible

#: The longest that a mount may take to answer, seconds.
ANSWER_TIMEOUT_S = 2.0
#: The most read of a mount's status and of its journal of edits, bytes.
MOST_STATUS_BYTES = 4 << 20
MOST_CHANGES_BYTES = 64 << 20

T = TypeVar("T")


def within(look: Callable[[], T], timeout_s: float = ANSWER_TIMEOUT_S) -> T | None:
    """Return the result of `look`, or None if it fails or takes longer than `timeout_s` seconds."""
    found: list[T] = []

    def ask() -> None:
        try:
            found.append(look())
        except (OSError, ValueError, KeyError, RecursionError):
            return

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(timeout_s)
    return found[0] if found else None


def read_status(mountpoint: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> Mapping[str, Any] | None:
    """Read a mount's status, typed but not to be trusted; None without an answer in time."""
    return within(
        lambda: foreign.status(json.loads(read_control(mountpoint, STATUS, MOST_STATUS_BYTES))),
        timeout_s,
    )


def read_control(mountpoint: Path, name: str, most_bytes: int) -> bytes:
    """Read a file of the mount's control directory; raises OSError, ValueError if it is too long.

    No link is followed on the way: the mount may be another user's, whose links may lead anywhere.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with ExitStack() as stack:

        def opened(name: str | Path, flags: int, parent: int | None = None) -> int:
            descriptor = os.open(name, flags, dir_fd=parent)
            stack.callback(os.close, descriptor)
            return descriptor

        root = opened(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        control = opened(CONTROL_DIR, os.O_PATH | os.O_DIRECTORY | flags, root)
        file = opened(name, os.O_RDONLY | os.O_NONBLOCK | flags, control)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError(f"{name} is no file")
        content = bytearray()
        while piece := os.read(file, 1 << 16):
            content += piece
            if len(content) > most_bytes:
                raise ValueError(f"{name} is longer than {most_bytes} bytes")
        return bytes(content)


def clear_dead(mountpoint: Path) -> bool:
    """Remove an up42fs mount whose process is gone; return whether there was one.

    A mount that merely does not answer is left alone: its process may recover.
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
    """Return the mount's status document; raises Unavailable, with the cure, without an answer."""
    document = read_status(mountpoint)
    if document is None:
        mount = mount_at(mountpoint)
        if mount is not None and mount.is_foreign:
            raise Unavailable(whose(mount))
        raise Unavailable(
            f"the mount at {mountpoint} does not answer; if that lasts: "
            f"up42fs unmount --lazy {quote(str(mountpoint))}, then mount again"
        )
    return document


def whose(mount: Mount) -> str:
    """Make the message for another user's mount that this user may not access."""
    place, owner = visible(mount.mountpoint), mount.owner_name
    return (
        f"{place} was mounted by {owner}, and only {owner} may look into it; "
        f"run this as {owner}, or have it mounted with -o allow_other"
    )


def chosen(mountpoint: str | None) -> list[Path]:
    """Return the given mount point, or all of them; raises ConfigurationError if none exists."""
    if mountpoint is None:
        found = [Path(mount.mountpoint) for mount in ours()]
        if not found:
            raise ConfigurationError("nothing is mounted; mount first: up42fs mount MOUNTPOINT")
        return found
    # First try the path unresolved: resolving it accesses a mount that may be frozen.
    for place in (str(Path(mountpoint).absolute()), os.path.realpath(mountpoint)):
        mount = mount_at(place)
        if mount is not None and mount.fstype == FSTYPE:
            return [Path(place)]
    raise ConfigurationError(f"{mountpoint} is not an up42fs mount")


def mount_of(path: str) -> tuple[Mount, Path]:
    """Return the mount that `path` lies in, and the path resolved; raises ConfigurationError."""
    place = Path(os.path.realpath(path))
    for parent in (place, *place.parents):
        mount = mount_at(parent)
        if mount is not None:
            if mount.fstype != FSTYPE:
                break
            return mount, place
    raise ConfigurationError(f"{path} does not lie in an up42fs mount")

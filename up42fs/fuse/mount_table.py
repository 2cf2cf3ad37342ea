"""The current mounts, read from the kernel's table without touching the mounts themselves.

A `stat` of a mount whose daemon is this process, or is dead, blocks or fails; reading the table
does not.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass, field
from pathlib import Path

FSTYPE = "fuse.up42fs"
#: Processes told of that hold a mount in other mount namespaces.
MOST_HOLDERS = 3
AUTOFS = "autofs"
_PROC = Path("/proc")
_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_OWNER = re.compile(r"(?:^|,)user_id=(\d{1,10})(?:,|$)")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table; `device` is `major:minor`, `owner` the ID of the user who mounted."""

    mountpoint: str
    device: str
    fstype: str
    source: str
    owner: int | None = field(default=None, compare=False)

    @property
    def is_foreign(self) -> bool:
        """Whether another user mounted it."""
        return self.owner is not None and self.owner != os.geteuid()

    @property
    def owner_name(self) -> str:
        """Name of the user who mounted it, or its ID if it has no name."""
        if self.owner is None:
            return "an unknown user"
        try:
            return pwd.getpwuid(self.owner).pw_name
        except (KeyError, OverflowError):
            return f"user {self.owner}"


def parse_mountinfo(text: str) -> list[Mount]:
    """Parse /proc/self/mountinfo (proc(5)); later lines lie on top of earlier ones."""
    mounts = []
    for line in text.split("\n"):  # the kernel escapes no other line separator
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(tail) < 2:
            continue
        owner = _OWNER.search(tail[2]) if len(tail) > 2 else None
        mounts.append(
            Mount(
                *(_unescape(fields[4]), fields[2], tail[0], _unescape(tail[1])),
                owner=int(owner[1]) if owner else None,
            )
        )
    return mounts


def mount_at(mountpoint: str | Path) -> Mount | None:
    """The topmost mount at the resolved path `mountpoint`, triggers of automounters apart."""
    wanted = str(mountpoint)
    found = [m for m in _table() if m.mountpoint == wanted and m.fstype != AUTOFS]
    return found[-1] if found else None


def ours() -> list[Mount]:
    """Every up42fs mount this process can see."""
    return [m for m in _table() if m.fstype == FSTYPE]


def places_of(device: str) -> list[str]:
    """The places of a mount in this mount namespace: bind mounts of it count."""
    return [m.mountpoint for m in _table() if m.fstype == FSTYPE and m.device == device]


def holders_of(device: str, proc: Path = _PROC) -> list[tuple[int, str]]:
    """Processes (number and name) that have copies of a mount in other mount namespaces.

    One of each namespace, `MOST_HOLDERS` at most; those that this process may not look at are
    left out. A namespace (of a container, or a service with a /tmp of its own) begins with a
    copy of every mount, and an unmount here need not reach it.
    """
    found: list[tuple[int, str]] = []
    seen = {_namespace(proc / "self")}
    for process in proc.iterdir():
        if not process.name.isdigit() or len(found) == MOST_HOLDERS:
            continue
        try:
            namespace = _namespace(process)
            if namespace in seen:
                continue
            table = parse_mountinfo(os.fsdecode((process / "mountinfo").read_bytes()))
            name = (process / "comm").read_text("utf-8", "replace").rstrip("\n")
        except OSError:
            continue  # it has ended, or is none of ours to look at
        seen.add(namespace)
        if any(m.fstype == FSTYPE and m.device == device for m in table):
            found.append((int(process.name), name))
    return found


def _namespace(process: Path) -> str:
    return str((process / "ns/mnt").readlink())


def _table() -> list[Mount]:
    # Decode as bytes: another mount's path need not be UTF-8, and may hold a carriage return.
    return parse_mountinfo(os.fsdecode(_MOUNTINFO.read_bytes()))


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)

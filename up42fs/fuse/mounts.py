"""What is mounted where, read from the kernel's table: the mount itself is never touched.

A `stat` of a mount whose daemon is this process, or is dead, blocks or fails; the table does not.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass, field
from pathlib import Path

FSTYPE = "fuse.up42fs"
AUTOFS = "autofs"
_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_OWNER = re.compile(r"(?:^|,)user_id=(\d{1,10})(?:,|$)")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table; `device` is `major:minor`.

    `owner` is the ID of the user who mounted, as the kernel says it of FUSE mounts.
    """

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
        """The user who mounted it, by name where there is one."""
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
    """What is mounted exactly at `mountpoint` (an absolute, resolved path), topmost first.

    What an automounter put there to be mounted upon is nothing.
    """
    wanted = str(mountpoint)
    found = [m for m in _table() if m.mountpoint == wanted and m.fstype != AUTOFS]
    return found[-1] if found else None


def ours() -> list[Mount]:
    """Every up42fs mount this process can see."""
    return [m for m in _table() if m.fstype == FSTYPE]


def _table() -> list[Mount]:
    # Paths are bytes: some other mount's name need not be UTF-8, and may hold a carriage return.
    return parse_mountinfo(os.fsdecode(_MOUNTINFO.read_bytes()))


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)

"""A running mount's record for its user's own commands: the paths of its log and cached files.

A mount's `status.json` has the same paths, but any user can mount a file system whose status names
any path. A record lies in a directory that only this user can write, so it is trusted.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path

from up42fs.fs.edits import locks as interlock

_MOST_BYTES = 16384


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mount; `files` is where its account's cached files are, `log` is `logs.place()`."""

    mountpoint: str
    pid: int
    log_file: str | None = None
    files: str | None = None
    log: str | None = None


def write(record: MountRecord) -> None:
    """Keep the record, in place of an older one. Raises OSError."""
    path = _path(record.mountpoint)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(path.parent):
        raise PermissionError(f"{path.parent} is not this user's alone")
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(asdict(record)).encode(errors="surrogatepass"))
    fresh.replace(path)


def remove(record: MountRecord) -> None:
    """Take the record away, where it is still this mount's. Never raises."""
    with suppress(OSError):
        if read(Path(record.mountpoint)) == record:
            _path(record.mountpoint).unlink()


def read(mountpoint: Path) -> MountRecord | None:
    """The record of this user's mount at `mountpoint`; None where there is none to be believed."""
    path = _path(str(mountpoint))
    try:
        if not _is_private(path.parent):
            return None
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            entry = json.loads(file.read(_MOST_BYTES))
        record = MountRecord(**{field.name: entry.get(field.name) for field in fields(MountRecord)})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if record.mountpoint == str(mountpoint) else None


def _path(mountpoint: str) -> Path:
    digest = blake2b(os.fsencode(mountpoint), digest_size=12).hexdigest()
    return interlock.default_path().with_name(f"mount-{digest}.json")


def _is_private(directory: Path) -> bool:
    """Whether only this user can create files in `directory`."""
    found = directory.lstat()
    is_closed = not stat.S_IMODE(found.st_mode) & 0o022
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and is_closed

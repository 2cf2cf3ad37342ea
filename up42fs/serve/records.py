"""Records of running servers, for commands of the same user: which account is served, and where.

A record is a file in a directory that only this user can write, locked for as long as its server
runs. A server that was killed leaves a record without a lock; the next command that looks removes
it.

Knows files and locks; nothing of HTTP.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from up42fs.fs.edits import locks
from up42fs.ownership import ensure_directory, is_plain

_MOST_BYTES = 16384
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A running server: its address, without a slash at the end, and what it serves.

    `token_file` holds the token that clients must send, if there is one.
    """

    address: str
    api: str
    account: str
    workspace: str | None = None
    token_file: str | None = None

    def is_of(self, api: str, account: str | None, workspace: str | None) -> bool:
        """Whether it serves that storage."""
        same_account = self.account.casefold() == (account or "").casefold()
        return same_account and (self.api, self.workspace) == (api, workspace)


@contextmanager
def kept(record: ServerRecord, place: Path | None = None) -> Iterator[None]:
    """Keep a record while the block runs; without it if its directory is not this user's alone."""
    with ExitStack() as undo:
        with suppress(OSError), ExitStack() as begun:
            _keep(record, place, begun)
            undo.push(begun.pop_all())
        yield


def _keep(record: ServerRecord, place: Path | None, undo: ExitStack) -> None:
    """Write the record; `undo` takes it away. Raises OSError."""
    name = f"serve-{os.getpid()}.json"
    directory = _directory(place)
    undo.callback(os.close, directory)
    _unlink(name, directory)  # of a process that had the same number
    descriptor = os.open(name, _NEW, 0o600, dir_fd=directory)
    undo.callback(os.close, descriptor)
    undo.callback(_unlink, name, directory)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, json.dumps(asdict(record)).encode(errors="surrogatepass"))


def _unlink(name: str, directory: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=directory)


def running(place: Path | None = None) -> list[ServerRecord]:
    """The servers of this user that run on this machine, the one that began last first."""
    found: list[tuple[float, ServerRecord]] = []
    with suppress(OSError):
        directory = _directory(place)
        try:
            for name in os.listdir(directory):  # noqa: PTH208  # by a descriptor
                if name.startswith("serve-") and name.endswith(".json"):
                    with suppress(OSError, ValueError, TypeError, AttributeError):
                        found += _read(name, directory)
        finally:
            os.close(directory)
    return [record for _, record in sorted(found, key=lambda each: each[0], reverse=True)]


def _read(name: str, directory: int) -> list[tuple[float, ServerRecord]]:
    with os.fdopen(os.open(name, _READ, dir_fd=directory), "rb") as file:
        about = os.fstat(file.fileno())
        if not is_plain(about):
            return []
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            entry = json.loads(file.read(_MOST_BYTES))
            values = {field.name: entry.get(field.name) for field in fields(ServerRecord)}
            return [(about.st_mtime, ServerRecord(**values))]
        if about.st_size:  # or it is about to be locked and written
            os.unlink(name, dir_fd=directory)
        return []


def _directory(place: Path | None) -> int:
    place = place or locks.default_path().parent
    return ensure_directory(str(place), None)

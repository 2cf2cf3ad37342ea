"""The places where the log of a mount can be read: its file, the system's log, or the mount itself.

A mount says in its record where it logs. Each place is a source that gives the last lines, and
later those that came since. Nothing here trusts what a mount's status names.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import BinaryIO, Protocol

from up42fs import logs
from up42fs.cli.running import read_control, within
from up42fs.errors import Unavailable
from up42fs.fs.hidden import LOG
from up42fs.fuse.mount_table import FSTYPE, mount_at
from up42fs.log_files import old_names
from up42fs.visible import visible

#: Files in which a syslog daemon keeps what programs send.
SYSLOG_FILES = (Path("/var/log/syslog"), Path("/var/log/messages"), Path("/var/log/user.log"))
#: Bytes from the end of a file that are looked through for the last lines.
_MOST_BYTES = 4 << 20
_MOST_RING_BYTES = 4 << 20


class LogSource(Protocol):
    """One place of a log."""

    #: For people.
    where: str

    def last(self, count: int) -> list[str]:
        """The last lines."""

    def more(self) -> list[str] | None:
        """The lines that came since; None once no more can come."""


class FileSource:
    """A log file, also after it was put aside; `is_wanted` chooses lines of a shared one."""

    def __init__(self, path: Path, is_wanted: Callable[[str], bool] = lambda _: True) -> None:
        self.where = str(path)
        self._path = path
        self._is_wanted = is_wanted
        #: Device, inode and offset of what comes next.
        self._next = (0, 0, 0)
        with _opened(path):
            pass

    def last(self, count: int) -> list[str]:
        """The last lines, also of the file that was put aside last. Raises OSError."""
        with _opened(self._path) as file:
            lines = self._lines(_tail(file))
            self._remember(file)
        if len(lines) < count:
            with suppress(OSError, Unavailable), _opened(old_names(self._path, 1)[0]) as older:
                lines = [*self._lines(_tail(older)), *lines]
        return lines[-count:] if count else []

    def more(self) -> list[str]:
        """The lines that came since, of the file and of one that took its place."""
        with suppress(OSError, Unavailable), _opened(self._path) as file:
            if self._is_next(file):
                return self._grown(file)
            lines = []
            with suppress(OSError, Unavailable), _opened(old_names(self._path, 1)[0]) as older:
                lines = self._grown(older) if self._is_next(older) else []
            self._next = (0, 0, 0)
            return lines + self._grown(file)
        return []

    def _is_next(self, file: BinaryIO) -> bool:
        found = os.fstat(file.fileno())
        return (found.st_dev, found.st_ino) == self._next[:2]

    def _remember(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        self._next = (found.st_dev, found.st_ino, file.tell())

    def _grown(self, file: BinaryIO) -> list[str]:
        offset = self._next[2]
        if offset <= os.fstat(file.fileno()).st_size:  # else it was emptied
            file.seek(offset)
        text = file.read()
        whole, newline, _ = text.rpartition(b"\n")
        file.seek(-len(text) + len(whole) + len(newline), os.SEEK_CUR)
        self._remember(file)
        return self._lines(whole)

    def _lines(self, text: bytes) -> list[str]:
        found = text.decode(errors="replace").splitlines()
        return [line for line in found if self._is_wanted(line)]


class JournalSource:
    """systemd's journal, by journalctl."""

    def __init__(self, mountpoint: Path, pid: int | None) -> None:
        self._match = [f"{logs.MOUNT_FIELD}={mountpoint}"]
        # What libfuse prints, and all of a mount that a unit runs, is known by its process.
        self._match += ["+", f"_PID={pid}"] if pid else []
        self.where = f"journalctl {quote(self._match[0])}"
        self._cursor = ""

    def last(self, count: int) -> list[str]:
        """The last lines; raises Unavailable if the journal shows none to this user."""
        lines = self._ask("-n", str(count))
        if count and not lines:
            raise Unavailable("the journal shows no line of it to you")
        return lines

    def more(self) -> list[str]:
        """The lines that came since."""
        return self._ask("--after-cursor", self._cursor) if self._cursor else self._ask("-n", "50")

    def _ask(self, *what: str) -> list[str]:
        command = ("journalctl", "--no-pager", "-q", "-o", "short-iso", "--show-cursor", *what)
        try:
            done = subprocess.run(
                [*command, *self._match], capture_output=True, check=False, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"journalctl: {error}") from None
        lines = done.stdout.decode(errors="replace").splitlines()
        if done.returncode not in (0, 1):
            raise Unavailable(f"journalctl ended with {done.returncode}")
        kept = []
        for line in lines:
            if line.startswith("-- cursor: "):
                self._cursor = line.removeprefix("-- cursor: ")
            elif not line.startswith("-- "):
                kept.append(line)
        return kept


class RingSource:
    """The last lines that a running mount keeps itself."""

    def __init__(self, mountpoint: Path) -> None:
        self.where = f"the last lines that the mount at {mountpoint} keeps"
        self._mountpoint = mountpoint
        self._seen: list[str] = []

    def last(self, count: int) -> list[str]:
        """The last lines; raises Unavailable if the mount gives none."""
        found = self._ask()
        if found is None:
            raise Unavailable("the mount does not give its last lines")
        self._seen = found
        return found[-count:] if count else []

    def more(self) -> list[str] | None:
        """The lines that came since; None once the mount is gone."""
        found = self._ask()
        if found is None:
            return None if mount_at(self._mountpoint) is None else []
        fresh = beyond(self._seen, found)
        self._seen = found
        return fresh

    def _ask(self) -> list[str] | None:
        text = within(lambda: read_control(self._mountpoint, LOG, _MOST_RING_BYTES))
        return None if text is None else text.decode(errors="replace").splitlines()


def beyond(seen: list[str], found: list[str]) -> list[str]:
    """The lines of `found` behind those of `seen`, of which the first may be gone. Pure."""
    for start in range(len(seen)):
        rest = seen[start:]
        if found[: len(rest)] == rest:
            return found[len(rest) :]
    return found


def of_mount(mountpoint: Path, default_file: Path) -> LogSource:
    """The first source that shows the mount's log; raises Unavailable, and says where it is."""
    from up42fs.mount import records  # loads trio

    mount = mount_at(mountpoint)
    is_running = mount is not None and mount.fstype == FSTYPE
    record = records.read(mountpoint) if is_running else None
    pid = record.pid if record else None
    tries: list[Callable[[], LogSource]] = []
    if record is not None and record.log_file:
        log_file = Path(record.log_file)
        tries.append(lambda: FileSource(log_file))
    elif record is None or record.log is None:
        tries.append(lambda: FileSource(default_file))
    place = record.log if record else None
    if place in (None, "journal") and shutil.which("journalctl"):
        tries.append(lambda: JournalSource(mountpoint, pid))
    if place in (None, "syslog"):
        wanted = _of_syslog(mountpoint, pid)
        tries += [lambda path=path: FileSource(path, wanted) for path in SYSLOG_FILES]  # type: ignore[misc]
    if is_running:
        tries.append(lambda: RingSource(mountpoint))
    for attempt in tries:
        with suppress(OSError, Unavailable):
            source = attempt()
            # The file that a mount logs to is right even if empty; others must show something.
            if (place == "file" and isinstance(source, FileSource)) or source.last(1):
                return source
    raise Unavailable(_nowhere(mountpoint, place, default_file, is_running=is_running))


def _of_syslog(mountpoint: Path, pid: int | None) -> Callable[[str], bool]:
    marks = [f"]: [{visible(str(mountpoint))}] "]
    if pid is not None:
        marks.append(f"{logs.IDENTIFIER}[{pid}]: ")

    def is_wanted(line: str) -> bool:
        return f"{logs.IDENTIFIER}[" in line and any(mark in line for mark in marks)

    return is_wanted


def _nowhere(mountpoint: Path, place: str | None, default_file: Path, *, is_running: bool) -> str:
    places = {
        "journal": "is in the journal: "
        f"sudo journalctl {logs.MOUNT_FIELD}={quote(str(mountpoint))}",
        "syslog": f"went to syslog: sudo grep up42fs {SYSLOG_FILES[0]}",
        "stderr": "goes to the standard error of its process",
    }
    if place in places:
        return f"the log of {mountpoint} {places[place]}"
    if is_running:
        return (
            f"{mountpoint} does not show its log to you; ask the user who mounted it, or look "
            f"into the journal: sudo journalctl -t {logs.IDENTIFIER}"
        )
    return (
        f"no log of {mountpoint} is left: nothing is mounted there, {default_file} does not exist, "
        f"and the system's log shows nothing to you; try: sudo journalctl -t {logs.IDENTIFIER}"
    )


def _opened(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unavailable(f"{path} is no file")
    return os.fdopen(descriptor, "rb")


def _tail(file: BinaryIO) -> bytes:
    """The end of a file, from the begin of a line; what is read next is what comes then."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _MOST_BYTES))
    text = file.read()
    whole, newline, _ = text.rpartition(b"\n")
    file.seek(-len(text) + len(whole) + len(newline), os.SEEK_CUR)
    return whole if size <= _MOST_BYTES else whole.partition(b"\n")[2]

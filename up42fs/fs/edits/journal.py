"""`.up42fs/changes`: every edit made through this mount point, kept so that it can be undone.

There is one file for each account and mount point, so it has one writer. Changes that cannot be
written stay in memory: the edit was made, and matters more than the journal.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import trio

from up42fs.fs.edits.changes import ChangedAsset, parse_lines, to_line

log = logging.getLogger(__name__)

#: Changes that are listed and can be undone.
MOST_KEPT = 5000
#: A larger file is shortened to those changes when a mount begins, bytes.
LARGEST_FILE_BYTES = 4 << 20


class Journal:
    """The changes made through one mount point, in memory and, with a `path`, on disk."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._changes: deque[ChangedAsset] = deque(maxlen=MOST_KEPT)
        self._last_operation = 0
        self._failed = False
        self._unwritten = b""
        self._writing = trio.Lock()

    def load(self) -> None:
        """Read the changes of earlier mounts. Blocks."""
        if self._path is None:
            return
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning(
                "%s cannot be read, earlier changes cannot be undone: %s", self._path, error
            )
            return
        self._changes.extend(parse_lines(data))
        self._last_operation = max((change.operation for change in self._changes), default=0)
        damaged = bool(data) and not data.endswith(b"\n")
        if damaged or len(data) > LARGEST_FILE_BYTES:
            self._rewrite(self._path)

    @property
    def changes(self) -> Sequence[ChangedAsset]:
        """All changes, oldest first."""
        return tuple(self._changes)

    def begin(self) -> int:
        self._last_operation += 1
        return self._last_operation

    async def record(self, change: ChangedAsset) -> None:
        """Store one change; never raises because of the file."""
        self._changes.append(change)
        if self._path is None:
            return
        async with self._writing:
            lines, self._unwritten = self._unwritten + to_line(change), b""
            try:
                # A disk that hangs blocks this thread, not the edit: see `apply.FINISH_TIMEOUT_S`.
                await trio.to_thread.run_sync(
                    self._append, self._path, lines, abandon_on_cancel=True
                )
            except Exception as error:
                # UP42 has already made the edit, so it must not fail. One cause is that no thread
                # can be started: unwritten lines are written with the next change.
                self._unwritten = lines
                log.warning("a change is not in %s yet: %s", self._path, error)

    def render(self) -> bytes:
        return b"".join(map(to_line, self._changes))

    def _append(self, path: Path, line: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(line)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("changes are kept until unmount only: %s: %s", path, error)

    def _rewrite(self, path: Path) -> None:
        try:
            # An unpredictable name: a symbolic link at a predictable one would be followed.
            descriptor, rest = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.render())
            Path(rest).replace(path)
        except OSError as error:
            log.warning("%s cannot be shortened: %s", path, error)

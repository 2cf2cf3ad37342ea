"""The same calls through a mount of the account on this host: its cache and links are shared.

Knows the mounts of this user and plain files; nothing of engines.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from up42fs.config.settings import Settings
from up42fs.fs.readme import NAME as README_TXT
from up42fs.fuse.mount_table import ours
from up42fs.library.facts import Fact
from up42fs.library.spans import span_within

STATUS = ".up42fs/status.json"
#: A mount that takes longer to tell whose it is is not used, seconds.
ANSWER_S = 2.0
#: The longest status that is read, bytes.
MOST_STATUS_BYTES = 4 << 20
#: The most that is read at once from a file that is copied, bytes.
PIECE_BYTES = 1 << 20
_PREFIX = "user."
_LINK = "user.up42.download_url"

Listed = tuple[dict[str, Any], None]


def mount_of(settings: Settings) -> Path | None:
    """A mount of this account that this user made and that answers; else None."""
    for mount in ours():
        if not mount.is_foreign:
            place = Path(mount.mountpoint)
            if _is_of(_status(place), settings):
                return place
    return None


def _status(place: Path) -> Mapping[str, Any]:
    """The status of a mount; empty if it does not answer in time."""
    found: list[Mapping[str, Any]] = []

    def ask() -> None:
        with suppress(OSError, ValueError), (place / STATUS).open("rb") as file:
            document = json.loads(file.read(MOST_STATUS_BYTES))
            if isinstance(document, dict):
                found.append(document)

    # Calls on a mount that is frozen wait for ever.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(ANSWER_S)
    return found[0] if found else {}


def _is_of(status: Mapping[str, Any], settings: Settings) -> bool:
    same_account = str(status.get("account")).casefold() == str(settings.username).casefold()
    return (
        same_account
        and status.get("api") == settings.api
        and status.get("workspace") == settings.workspace
    )


class MountedFile:
    """An open file of a mount, in the shape of `calls.Reader`."""

    def __init__(self, path: str, place: Path) -> None:
        self.descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(self.descriptor)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        except BaseException:
            os.close(self.descriptor)
            raise
        self.size = found.st_size
        self.info = {"name": path, "size": self.size, "type": "file"}
        self.stored = None
        self.version = None


class MountCalls:
    """The calls of `library.calls`, through a mount; all block, and raise OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _place(self, path: str) -> Path:
        # It describes the mount, and a call's answer must not depend on how the storage is reached.
        if path == README_TXT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.root / path if path else self.root

    def info(self, path: str) -> Listed:
        """Everything that is known of a path, attributes included."""
        place = self._place(path)
        details = _info(path, place.stat())
        for name in os.listxattr(place):
            if name.startswith(_PREFIX):
                with suppress(OSError):
                    value = os.getxattr(place, name)
                    details.setdefault(name.removeprefix(_PREFIX), value.decode(errors="replace"))
        return details, None

    def listing(self, path: str) -> list[Listed]:
        """The entries of a directory."""
        prefix = f"{path}/" if path else ""
        with os.scandir(self._place(path)) as entries:
            return [
                (_info(prefix + entry.name, entry.stat()), None)
                for entry in entries
                if path or entry.name != README_TXT
            ]

    def opened(self, path: str, _fact: Fact | None, _reading: object) -> MountedFile:
        """Open a file."""
        return MountedFile(path, self._place(path))

    def read(self, file: MountedFile, offset: int, size: int) -> bytes:
        """Read from an open file."""
        pieces = []
        while size > 0 and (piece := os.pread(file.descriptor, size, offset)):
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def piece(self, file: MountedFile, offset: int) -> bytes:
        """Read some bytes of a file that is copied."""
        return os.pread(file.descriptor, PIECE_BYTES, offset)

    def close(self, file: MountedFile) -> None:
        """Close an open file."""
        if file.descriptor >= 0:
            descriptor, file.descriptor = file.descriptor, -1
            os.close(descriptor)

    def ranges(
        self,
        path: str,
        fact: Fact | None,
        wanted: Sequence[tuple[int | None, int | None]],
        _most_gap: int,
    ) -> list[bytes]:
        """The bytes of many ranges of a file."""
        file = self.opened(path, fact, None)
        try:
            spans = [span_within(start, end, file.size) for start, end in wanted]
            return [self.read(file, start, stop - start) for start, stop in spans]
        finally:
            self.close(file)

    def link(self, path: str, _fact: Fact | None, _lasts_s: float) -> str:
        """A presigned link to a file."""
        return os.getxattr(self._place(path), _LINK).decode()


def _info(path: str, found: os.stat_result) -> dict[str, Any]:
    is_dir = stat.S_ISDIR(found.st_mode)
    return {
        "name": path,
        "size": 0 if is_dir else found.st_size,
        "type": "directory" if is_dir else "file",
        "mtime": found.st_mtime,
        "ino": found.st_ino,
    }

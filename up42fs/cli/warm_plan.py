"""What to read ahead of work: which files, and which of their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from up42fs.cli.mounts import mount_of
from up42fs.core.warming import PIECE_BYTES
from up42fs.errors import ConfigurationError
from up42fs.types import ByteRange


@dataclass(frozen=True, slots=True)
class Job:
    """What to read of one file, `piece_bytes` at a time.

    `held_bytes` of it need no request, None where nobody knows.
    """

    path: Path
    spans: tuple[ByteRange, ...]
    held_bytes: int | None
    piece_bytes: int = PIECE_BYTES

    @property
    def bytes(self) -> int:
        """Bytes to read."""
        return sum(len(span) for span in self.spans)


def files(paths: Iterable[str]) -> Iterator[Path]:
    """The delivered files at and below `paths`, each once however many names it has."""
    seen: set[int] = set()
    for path in paths:
        _, place = mount_of(path)
        if not place.exists():
            raise ConfigurationError(f"{path} does not exist")
        found = _below(place) if place.is_dir() else [(place.stat().st_ino, place)]
        for inode, file in found:
            if inode not in seen and _is_stored(file):
                seen.add(inode)
                yield file


def _below(directory: Path) -> Iterator[tuple[int, Path]]:
    """Files with their inodes.

    Nothing is asked of them, since their sizes may cost requests.
    """
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        else:
            yield entry.inode(), Path(entry.path)


def _is_stored(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.up42.kind") in (b"asset", b"file")
    except OSError:
        return False  # made by the mount itself: README, item.json


def whole(path: Path) -> Job:
    """All of a file; raises OSError."""
    size = path.stat().st_size
    held = int(os.getxattr(path, "user.up42.cached"))
    return Job(path, (ByteRange(0, size),) if size else (), held)

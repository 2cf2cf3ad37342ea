"""Administration of the disk cache: list, verify, remove, pin. Blocking.

For commands, which need no mount: they read and change the same files as running mounts do, which
is harmless (`disk.files`). Knows files and their format; nothing of paths, names or UP42.

A pin is an empty file beside a cached one, with `.pin` after its name. It stays when the cached
file is deleted, so that the object's next version is pinned too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from up42fs.store.disk.files import file_name
from up42fs.store.disk.format import HEADER_BYTES, RECORD_BYTES, Cells, Held, Label, parse_header
from up42fs.store.disk.room import PIN, is_ours


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached object. `held_bytes` are cached, `disk_bytes` is its disk use with the map.

    `used_at_s`: seconds since 1970. `label` None: not a file of this release.
    """

    path: Path
    label: Label | None
    held_bytes: int
    disk_bytes: int
    used_at_s: float
    is_pinned: bool


def entries(blocks: Path) -> Iterator[Entry]:
    """Yield every cached object below `blocks`, of all accounts; skips files that just vanished."""
    for directory in _sorted(blocks):
        if directory.is_dir() and not directory.is_symlink() and is_ours(directory.name):
            for path in _sorted(directory):
                if is_ours(path.name) and path.is_file() and not path.is_symlink():
                    with suppress(FileNotFoundError):
                        yield _entry(path)


def path_of(directory: Path, object_id: str) -> Path:
    """The path of an object's cached file, which need not exist, in its account's directory."""
    return directory / file_name(object_id)


def pin(path: Path) -> None:
    """Protect the cached file `path`, which need not exist, from eviction. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.with_name(path.name + PIN).touch(mode=0o600)


def unpin(path: Path) -> bool:
    """Undo `pin`; return whether it was pinned."""
    try:
        path.with_name(path.name + PIN).unlink()
    except FileNotFoundError:
        return False
    return True


def remove(entry: Entry) -> None:
    """Delete the cached file; a pin stays."""
    entry.path.unlink(missing_ok=True)


def verify(entry: Entry) -> int:
    """Verify all cached bytes; return how many did not match their checksums.

    Records of bad cells are zeroed, so that they are fetched again. Raises OSError.
    """
    if entry.label is None:
        return entry.disk_bytes
    cells = Cells(entry.label)
    bad = 0
    descriptor = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for held in _held(descriptor, cells):
            data = os.pread(descriptor, len(held.span), cells.data_offset + held.span.start)
            if cells.checksum(held.cell, held.span, data) != held.crc:
                place = HEADER_BYTES + held.cell * RECORD_BYTES
                os.pwrite(descriptor, bytes(RECORD_BYTES), place)
                bad += len(held.span)
    finally:
        os.close(descriptor)
    return bad


def is_older(entry: Entry, days: float) -> bool:
    """Whether the entry was not used for `days` days."""
    return time.time() - entry.used_at_s > days * 86400


def _entry(path: Path) -> Entry:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        label = parse_header(os.pread(descriptor, HEADER_BYTES, 0))
        held = sum(len(one.span) for one in _held(descriptor, Cells(label))) if label else 0
    finally:
        os.close(descriptor)
    is_pinned = path.with_name(path.name + PIN).exists()
    return Entry(path, label, held, found.st_blocks * 512, found.st_mtime, is_pinned)


def _held(descriptor: int, cells: Cells) -> list[Held]:
    records = os.pread(descriptor, cells.count * RECORD_BYTES, HEADER_BYTES)
    return [one for one in cells.parse(records, 0) if one is not None]


def _sorted(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []

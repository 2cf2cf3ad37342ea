"""The cached files of all accounts and all mounts: counted, evicted, listed, verified, pinned.

Blocking, for worker threads and for commands. These need no mount: they read and change the same
files as running mounts do, which is harmless (`disk.files`).

Theory. The files' disk use is measured periodically, since other mounts write and evict too;
between two measurements our own writes are added. Beyond the cap, or if the file system has less
than a tenth free, the least recently used files are deleted: their readers then find nothing
cached. A scan (a long run read in order) is read once and seldom again. It may fill empty room, up
to a quarter of the cache per file, and evict files not used for a day, but no newer ones. Other
reads may fill half of the cache per file. The end of a file is always admitted beyond that:
archives have their directory there.

A pin is an empty file beside a cached one, with `.pin` after its name. It stays when the cached
file is deleted, so that the object's next version is pinned too.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from up42fs.metrics import Metrics
from up42fs.store.disk.files import ensure_blocks, file_name
from up42fs.store.disk.format import (
    HEADER_BYTES,
    RECORD_BYTES,
    CellRecord,
    Cells,
    Label,
    parse_header,
)

#: Share of the file system that stays free for other programs.
FREE_SHARE = 0.1
#: Seconds between measurements, and the pause after the disk was found too full.
MEASURE_S = 60.0
#: A scan may evict files not used for this long, seconds.
STALE_S = 86_400.0

#: Suffix of a pin: the file with the name before it must not be evicted.
PIN = ".pin"

_OURS = re.compile(r"[0-9a-f]{8,64}")


class Use(Enum):
    """The purpose of a read; the value is the share of the cache that one file may take."""

    END = 1.0
    READ = 0.5
    SCAN = 0.25


@dataclass(frozen=True, slots=True, order=True)
class _File:
    used_at_s: float
    disk_bytes: int
    directory: str
    name: str
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Space:
    """Free and total bytes of a file system; free as far as this user may use them."""

    free_bytes: int
    total_bytes: int


def space_of(path: Path) -> Space:
    """The space of the file system that holds `path`."""
    found = os.statvfs(path)
    return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class CacheRoom:
    """The quota of `cap_bytes` below `blocks`. For one thread at a time."""

    def __init__(
        self,
        blocks: Path,
        cap_bytes: int,
        metrics: Metrics,
        *,
        space: Callable[[Path], Space] = space_of,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cap_bytes = cap_bytes
        self.used_bytes = 0
        self._blocks = blocks
        self._metrics = metrics
        self._space = space
        self._clock = clock
        self._oldest_s = math.inf
        self._measured_s = -math.inf
        self._full_until_s = -math.inf

    def admit(self, wanted_bytes: int, *, file_bytes: int, use: Use) -> bool:
        """Whether `wanted_bytes` may be written to a file of `file_bytes`; evicts others for them.

        If so, they are counted as written.
        """
        if file_bytes + wanted_bytes > self.cap_bytes * use.value:
            return False
        now_s = self._clock()
        if not self._measured_s <= now_s < self._measured_s + MEASURE_S:
            self._measure()
        if not self._is_floor_kept(wanted_bytes, now_s):
            return False
        if self.used_bytes + wanted_bytes > self.cap_bytes:
            if use is Use.SCAN and now_s - self._oldest_s < STALE_S:
                return False
            files = self._measure()
            # Evict a little more than needed, or every write would look for victims.
            self._evict(files, self.used_bytes + wanted_bytes - self.cap_bytes * 15 // 16)
        if self.used_bytes + wanted_bytes > self.cap_bytes:
            return False
        self.used_bytes += wanted_bytes
        return True

    def _is_floor_kept(self, wanted_bytes: int, now_s: float) -> bool:
        if now_s < self._full_until_s:
            return False
        lacking = self._lacking_bytes(wanted_bytes)
        if lacking > 0:
            self._evict(self._measure(), lacking)
            lacking = self._lacking_bytes(wanted_bytes)
        if lacking > 0:
            self._full_until_s = now_s + MEASURE_S
        return lacking <= 0

    def _lacking_bytes(self, wanted_bytes: int) -> int:
        space = self._space(self._blocks)
        return int(space.total_bytes * FREE_SHARE) + wanted_bytes - space.free_bytes

    def _measure(self) -> list[_File]:
        """Measure disk use; return the files that may be evicted, least recently used first."""
        os.close(ensure_blocks(self._blocks))
        found = sorted(_files(self._blocks))
        self.used_bytes = sum(file.disk_bytes for file in found)
        files = [file for file in found if not file.is_pinned]
        self._oldest_s = files[0].used_at_s if files else math.inf
        self._measured_s = self._clock()
        return files

    def _evict(self, files: list[_File], lacking_bytes: int) -> None:
        while files and lacking_bytes > 0:
            victim = files.pop(0)
            with suppress(FileNotFoundError):  # another mount deleted it first
                (self._blocks / victim.directory / victim.name).unlink()
            self._metrics.count("store.disk_evicted_bytes", victim.disk_bytes)
            self.used_bytes -= victim.disk_bytes
            lacking_bytes -= victim.disk_bytes
        self._oldest_s = files[0].used_at_s if files else math.inf


@dataclass(frozen=True, slots=True)
class CachedFile:
    """One cached object. `held_bytes` are cached, `disk_bytes` is its disk use with the map.

    `used_at_s`: seconds since 1970. `label` None: not a file of this release.
    """

    path: Path
    label: Label | None
    held_bytes: int
    disk_bytes: int
    used_at_s: float
    is_pinned: bool


def entries(blocks: Path) -> Iterator[CachedFile]:
    """Yield every cached object below `blocks`, of all accounts; skips files that just vanished."""
    for file in sorted(_files(blocks), key=lambda one: (one.directory, one.name)):
        path = blocks / file.directory / file.name
        with suppress(FileNotFoundError), _opened(path, os.O_RDONLY) as descriptor:
            label = parse_header(os.pread(descriptor, HEADER_BYTES, 0))
            held = sum(len(one.span) for one in _held(descriptor, Cells(label))) if label else 0
            yield CachedFile(path, label, held, file.disk_bytes, file.used_at_s, file.is_pinned)


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


def remove(entry: CachedFile) -> None:
    """Delete the cached file; a pin stays."""
    entry.path.unlink(missing_ok=True)


def verify(entry: CachedFile) -> int:
    """Verify all cached bytes; return how many did not match their checksums.

    Records of bad cells are zeroed, so that they are fetched again. Raises OSError.
    """
    if entry.label is None:
        return entry.disk_bytes
    cells = Cells(entry.label)
    bad = 0
    with _opened(entry.path, os.O_RDWR) as descriptor:
        for held in _held(descriptor, cells):
            data = os.pread(descriptor, len(held.span), cells.data_offset + held.span.start)
            if cells.checksum(held.cell, held.span, data) != held.crc:
                place = HEADER_BYTES + held.cell * RECORD_BYTES
                os.pwrite(descriptor, bytes(RECORD_BYTES), place)
                bad += len(held.span)
    return bad


def is_older(entry: CachedFile, days: float) -> bool:
    """Whether the entry was not used for `days` days."""
    return time.time() - entry.used_at_s > days * 86400


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _held(descriptor: int, cells: Cells) -> list[CellRecord]:
    records = os.pread(descriptor, cells.count * RECORD_BYTES, HEADER_BYTES)
    return [one for one in cells.parse(records, 0) if one is not None]


def _files(blocks: Path) -> Iterator[_File]:
    for directory in _entries(blocks):
        if directory.is_dir(follow_symlinks=False) and _OURS.fullmatch(directory.name):
            listed = _entries(Path(directory.path))
            pins = {entry.name for entry in listed if entry.name.endswith(PIN)}
            for file in listed:
                found = _stat(file)
                if found is not None:
                    disk_bytes = found.st_blocks * 512
                    is_pinned = file.name + PIN in pins
                    yield _File(found.st_mtime, disk_bytes, directory.name, file.name, is_pinned)


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    if not _OURS.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
        return None
    with suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False)
    return None

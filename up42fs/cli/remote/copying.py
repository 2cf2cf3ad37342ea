"""Copies files of the storage to this machine: in order, whole or not at all.

A file grows under the name of a partial file, which names its version, and gets its own name once
all its bytes are there and on disk. A later copy of the same version goes on where the partial
file ends; its last bytes are fetched again, since a crash may have lost them. The handle that is
read serves one version: a file that UP42 replaces meanwhile fails with an error.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path

import trio

from up42fs.cli.remote.targets import PART_SUFFIX, Copy, part_of
from up42fs.engine import Engine, OpenedFile
from up42fs.errors import Conflict, InvalidAnswer
from up42fs.readahead.tuning import Reading
from up42fs.types import Bytes

#: Bytes of one read and write; bytes at the end of a partial file that are fetched again.
PIECE_BYTES = 1 << 20
AGAIN_BYTES = 1 << 20
#: The first read, which tells the version.
HEAD_BYTES = 64 << 10


def is_copied(copy: Copy) -> bool:
    """Whether the target is a copy already, by its size and its time of change."""
    try:
        found = copy.local.stat()
    except OSError:
        return False
    return copy.size == found.st_size and copy.mtime_ns == found.st_mtime_ns


async def fetch(engine: Engine, copy: Copy, on_bytes: Callable[[int], None]) -> int:
    """Copy one file; return how many bytes were there from an earlier attempt.

    `on_bytes` gets the numbers of bytes as they arrive. Raises an `Up42fsError`, or the OSError of
    this machine's disk.
    """
    if await trio.to_thread.run_sync(_parts_of, copy.local):
        # Read ahead from where the partial file ends, and not from the start: so its version is
        # learned by another handle.
        async with engine.opened(copy.remote, reading=Reading.EXACT) as file:
            await file.read(0, 1)
    async with engine.opened(copy.remote, program="up42fs cp", reading=Reading.WHOLE) as file:
        head: Bytes = b""
        if file.version is None and file.size:
            head = await file.read(0, HEAD_BYTES)
        part = part_of(copy.local, file.size, file.version)
        may_resume = file.version is not None and file.version.tells_apart
        target = await trio.to_thread.run_sync(_opened, part)
        try:
            begun = await trio.to_thread.run_sync(_resumed, target, may_resume)
            on_bytes(begun)
            await _write(file, target, begun, head, on_bytes)
            await trio.to_thread.run_sync(_finish, target, part, copy, file.size)
        finally:
            target.close()
    await trio.to_thread.run_sync(_remove_others, copy.local)
    return begun


async def _write(
    file: OpenedFile, target: FileIO, at: int, head: Bytes, on_bytes: Callable[[int], None]
) -> None:
    while at < file.size:
        data = head[at:] if at < len(head) else await file.read(at, PIECE_BYTES)
        await trio.to_thread.run_sync(_write_all, target, data)
        at += len(data)
        on_bytes(len(data))


def _opened(part: Path) -> FileIO:
    part.parent.mkdir(parents=True, exist_ok=True)
    target = FileIO(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
    try:
        fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        target.close()
        raise Conflict(f"{part}: another up42fs cp writes it; wait for its end") from None
    return target


def _resumed(target: FileIO, may_resume: bool) -> int:
    """Cut the partial file to what is trusted, and go to its end; return its size."""
    size = os.fstat(target.fileno()).st_size
    kept = max(0, size - AGAIN_BYTES) if may_resume else 0
    target.truncate(kept)
    return target.seek(kept)


def _write_all(target: FileIO, data: Bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]


def _finish(target: FileIO, part: Path, copy: Copy, size: int) -> None:
    found = os.fstat(target.fileno()).st_size
    if found != size:
        raise InvalidAnswer(
            f"{copy.local}: {found:,} bytes were written of {size:,}; {part.name} stays: try again"
        )
    os.fsync(target.fileno())
    os.utime(target.fileno(), ns=(copy.mtime_ns, copy.mtime_ns))
    part.replace(copy.local)


def _parts_of(local: Path) -> list[Path]:
    """The partial files of a target, of any version."""
    start = f".{local.name}."
    try:
        names = os.listdir(local.parent)  # noqa: PTH208
    except OSError:
        return []
    return [
        local.parent / name
        for name in names
        if name.startswith(start) and name.endswith(PART_SUFFIX)
    ]


def _remove_others(local: Path) -> None:
    """Delete partial copies of other versions."""
    for other in _parts_of(local):
        with suppress(OSError):
            other.unlink()

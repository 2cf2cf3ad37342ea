"""Copies files of the storage to this machine: whole, or not at all.

A copy grows in a hidden file beside its target, and takes the target's name once all bytes are
there. Where nothing keeps the bytes on the way, the engine writes them to that file itself
(`store.copying`); else they pass through the caller's hands in order, and the next ones are fetched
while these are written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from up42fs.errors import InvalidAnswer, NotFound
from up42fs.errors import VersionChanged as Changed
from up42fs.library.read_only import os_errors
from up42fs.library.spans import COPY

if TYPE_CHECKING:
    from up42fs.library.asking import AskingSystem

#: Bytes of the first read of a file whose bytes come in order.
PIECE_BYTES = 1 << 20


def to_path(fs: AskingSystem, path: str, target: Path, callback: Any) -> None:
    """Copy a file; what has the target's name is replaced once the copy is whole."""
    part = target.with_name(f".{target.name[:100]}.{os.getpid()}.up42fs-part")
    try:
        with part.open("wb") as file:
            _fill(fs, path, part, file, callback)
        # A rename over another file makes ext4 write all of it to the disk at once.
        target.unlink(missing_ok=True)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def to_file(fs: AskingSystem, path: str, target: Any, callback: Any) -> None:
    """Copy a file into one that is open, in order."""
    _in_order(fs, path, fs.reader_of(path, "WHOLE"), target, callback)


def _fill(fs: AskingSystem, path: str, part: Path, file: BinaryIO, callback: Any) -> None:
    reader = fs.reader_of(path, COPY)
    # A reader of a mount, and one whose bytes the disk cache keeps, has no such copy.
    if not getattr(reader, "copies", False):
        _in_order(fs, path, reader, file, callback)
        return
    with os_errors(path):
        try:
            _past_memory(fs, path, reader, part, file, callback)
            return
        except (Changed, NotFound):
            # Facts of another process may be old, which the first answer tells.
            if not fs.forget_given(path):
                raise
    file.truncate(0)
    _in_order(fs, path, fs.reader_of(path, "WHOLE"), file, callback)


def _past_memory(
    fs: AskingSystem, path: str, reader: Any, part: Path, file: BinaryIO, callback: Any
) -> None:
    """Let the engine write to the file; raises an `Up42fsError`, or the OSError of the disk."""
    from up42fs.store.copying import Progress, lanes_for
    from up42fs.store.lanes import Lane

    backend, size, told = fs.backend(path), reader.size, 0
    progress = Progress()

    def tell() -> None:
        nonlocal told
        filled = progress.filled
        callback.relative_update(filled - told)
        told = filled

    try:
        callback.set_size(size)
        lanes = [Lane(part) for _ in range(lanes_for(size))]
        left = backend.ticking(tell, "copied", reader, lanes, progress)
        tell()
        for span in left:
            file.seek(span.start)
            data = backend.call("read", reader, span.start, len(span))
            file.write(memoryview(data)[: len(span)])
            callback.relative_update(len(span))
        if progress.filled + sum(map(len, left)) != size:
            raise InvalidAnswer(f"{path}: {progress.filled:,} of {size:,} bytes came; try again")
    finally:
        fs.let_go(reader)


def _in_order(fs: AskingSystem, path: str, reader: Any, target: Any, callback: Any) -> None:
    backend = fs.backend(path)
    try:
        callback.set_size(reader.size)
        # Facts may be old, which the first bytes tell.
        data, reader = fs.read_by(path, reader, 0, min(PIECE_BYTES, reader.size))
        data, at = data[:PIECE_BYTES], 0
        while at < reader.size:
            at += len(data)
            # The next bytes are on their way while these are written.
            coming = backend.start("piece", reader, at) if at < reader.size else None
            target.write(data)
            callback.relative_update(len(data))
            with os_errors(path):
                data = coming() if coming else b""
    finally:
        fs.let_go(reader)

"""Sources of an object's bytes: memory, a file, or a pattern computed from the offset.

A pattern lets an asset of many gigabytes exist without a disk: its bytes depend only on a seed and
the offset, so a test can verify any range that it read. Knows nothing of HTTP or of UP42.

The pattern: one random tile of 1 MiB for each seed; block `i` of the object is that tile rotated by
`i * ROTATION` bytes. The tile is stored twice in a row, so that a rotated block is a plain slice
and serving it copies nothing. ROTATION is odd, so blocks repeat only after 2**20 of them (1 TiB).
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: An empty zip. Behind other bytes, too, it is one: a program that looks for members finds none.
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
BLOCK_BYTES = 1 << 20
ROTATION = 7919 * 13 * 2 + 1


class ObjectContent(Protocol):
    """The bytes of one object; `size` in bytes."""

    @property
    def size(self) -> int:
        """Current total size in bytes."""

    @property
    def identity(self) -> str:
        """A hex digest that changes when the bytes change; the MD5 of the bytes if it is cheap."""

    @property
    def md5(self) -> bytes | None:
        """MD5 of the bytes; None for a composite object, for which Google has none."""

    def pieces(self, start: int, stop: int) -> Iterator[bytes | memoryview]:
        """Yield the bytes of `[start, stop)` in order, in pieces of at most 1 MiB."""


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Bytes held in memory, like a simple upload."""

    data: bytes
    md5: bytes = field(init=False)

    def __post_init__(self) -> None:
        # Computed once, since every response contains it.
        digest = hashlib.md5(self.data, usedforsecurity=False).digest()
        object.__setattr__(self, "md5", digest)

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return len(self.data)

    @property
    def identity(self) -> str:
        """The MD5, as Google's ETag of a simple upload."""
        return self.md5.hex()

    def pieces(self, start: int, stop: int) -> Iterator[bytes | memoryview]:
        """Yield slices of the bytes, without copies."""
        view = memoryview(self.data)
        for at in range(start, stop, BLOCK_BYTES):
            yield view[at : min(at + BLOCK_BYTES, stop)]


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file on disk, like a composite upload; path, size and mtime identify it."""

    path: Path

    @property
    def size(self) -> int:
        """Current size of the file in bytes."""
        return self.path.stat().st_size

    @property
    def md5(self) -> bytes | None:
        """None: reading the whole file for a header would be too expensive."""
        return None

    @property
    def identity(self) -> str:
        """Digest of path, size and mtime."""
        status = self.path.stat()
        material = f"{self.path}:{status.st_size}:{status.st_mtime_ns}"
        return hashlib.md5(material.encode(), usedforsecurity=False).hexdigest()

    def pieces(self, start: int, stop: int) -> Iterator[bytes | memoryview]:
        """Yield pieces read from the file."""
        with self.path.open("rb") as file:
            for at in range(start, stop, BLOCK_BYTES):
                yield os.pread(file.fileno(), min(BLOCK_BYTES, stop - at), at)


@dataclass(frozen=True, slots=True)
class PatternContent:
    """Bytes computed from `seed` and the offset: any size, no disk; the last ones are `ending`."""

    seed: int
    length: int
    ending: bytes = b""

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return self.length

    @property
    def md5(self) -> bytes | None:
        """None: a composite object."""
        return None

    @property
    def identity(self) -> str:
        """Digest of seed and size."""
        material = f"pattern:{self.seed}:{self.length}{self.ending.hex()}"
        return hashlib.md5(material.encode(), usedforsecurity=False).hexdigest()

    def pieces(self, start: int, stop: int) -> Iterator[bytes | memoryview]:
        """Yield slices of the rotated tile, without copies."""
        tile = memoryview(_doubled_tile(self.seed))
        at, ending_at = start, max(0, self.length - len(self.ending))
        while at < min(stop, ending_at):
            block, within = divmod(at, BLOCK_BYTES)
            count = min(BLOCK_BYTES - within, min(stop, ending_at) - at)
            origin = (block * ROTATION) % BLOCK_BYTES + within
            yield tile[origin : origin + count]
            at += count
        if at < stop and self.ending:
            yield self.ending[at - ending_at : stop - ending_at]


def pattern_bytes(seed: int, offset: int, size: int) -> bytes:
    """Return `size` bytes at `offset` of the pattern with `seed`, as tests' expected value."""
    return b"".join(PatternContent(seed, offset + size).pieces(offset, offset + size))


@functools.lru_cache(maxsize=32)  # a memo of a pure function: 2 MiB a seed in use
def _doubled_tile(seed: int) -> bytes:
    return random.Random(seed).randbytes(BLOCK_BYTES) * 2

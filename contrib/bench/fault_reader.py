"""A program that uses a mount as it is told: one JSON line in, one JSON line out.

A process of its own, so that a call which never returns can be found out and killed. Bytes are
compared here, against the emulator's pattern. The answer is `ok`, the name of the errno, or what
was wrong.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from up42fs.emulator import pattern_bytes

BLOCK_BYTES = 128 << 10
RANDOM_BYTES = 30_000
#: Files that `begin` left open.
_held: dict[str, int] = {}


class WrongError(Exception):
    """The mount lied; says how."""


def read_fully(descriptor: int, offset: int, size: int) -> bytes:
    """All that is there: a read that met an error behind its first pages returns those."""
    got = b""
    while more := os.pread(descriptor, size - len(got), offset + len(got)):
        got += more
    return got


def compare(descriptor: int, seed: int, offset: int, size: int) -> None:
    got = read_fully(descriptor, offset, size)
    if got != pattern_bytes(seed, offset, size):
        raise WrongError(f"wrong bytes at {offset}: {len(got)} of {size}")


def first(path: str, seed: int, size: int) -> None:
    """Open and read from the middle."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        compare(descriptor, seed, 1 << 20, min(65536, size - (1 << 20)))
    finally:
        os.close(descriptor)


def held(path: str) -> int:
    if path not in _held:
        _held[path] = os.open(path, os.O_RDONLY)
    return _held[path]


def begin(path: str, seed: int, size: int) -> None:
    """Open and read the head; the file stays open for `sequential` and `random`."""
    compare(held(path), seed, 0, min(BLOCK_BYTES, size))


def sequential(path: str, seed: int, size: int) -> None:
    for offset in range(BLOCK_BYTES, size, BLOCK_BYTES):
        compare(held(path), seed, offset, min(BLOCK_BYTES, size - offset))


def random(path: str, seed: int, size: int) -> None:
    os.posix_fadvise(held(path), 0, 0, os.POSIX_FADV_RANDOM)
    for step in (11, 5, 13, 3, 15, 8):
        compare(held(path), seed, size * step // 16 - RANDOM_BYTES, RANDOM_BYTES)


def member(members: list[dict[str, Any]]) -> None:
    """Every byte of some members of an archive."""
    for place in members:
        descriptor = os.open(place["path"], os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            compare(descriptor, place["seed"], 0, place["size"])
        finally:
            os.close(descriptor)


def end(path: str) -> None:
    descriptor = _held.pop(path, None)
    if descriptor is not None:
        os.close(descriptor)


def whole(path: str, seed: int, size: int) -> None:
    """Every byte, and then the size: reading is how a wrong size is found out."""
    try:
        begin(path, seed, size)
        sequential(path, seed, size)
        stat(path, size)
    finally:
        end(path)


def stat(path: str, size: int) -> None:
    if (found := os.stat(path).st_size) != size:
        raise WrongError(f"{found} bytes, not {size}")


def ls(path: str, names: list[str]) -> None:
    if (found := sorted(os.listdir(path))) != sorted(names):
        raise WrongError(f"{found}")


def xattr(path: str, asset_id: str) -> None:
    if json.loads(os.getxattr(path, "user.up42.json"))["id"] != asset_id:
        raise WrongError("another asset's object")


def known_xattr(path: str, asset_id: str) -> None:
    if os.getxattr(path, "user.up42.id").decode() != asset_id:
        raise WrongError("another asset's ID")


def probe(root: str, path: str) -> None:
    """Calls that must be answered from memory, whatever the network does."""
    os.statvfs(root)
    if not os.listdir(f"{root}/assets") or not os.listdir(f"{root}/orders"):
        raise WrongError("an empty listing")
    os.stat(path)
    os.listxattr(path)


_CALLS: dict[str, Callable[..., None]] = {
    call.__name__: call
    for call in (
        *(first, begin, sequential, random, member, end, whole),
        *(stat, ls, xattr, known_xattr, probe),
    )
}


def answer(call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    started_s = time.monotonic()
    try:
        _CALLS[call](**arguments)
        outcome = "ok"
    except OSError as error:
        outcome = errno.errorcode.get(error.errno or 0, str(error.errno))
    except WrongError as error:
        outcome = f"wrong: {error}"
    return {"outcome": outcome, "seconds": time.monotonic() - started_s}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request.pop("call"), request)), flush=True)

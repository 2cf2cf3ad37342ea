"""Reads and writes that go past the kernel's page cache where they are long. Blocking.

Knows descriptors and alignment; nothing of what the bytes are.

Theory. What is copied into the page cache costs 0.2 s of processor time a GiB at best, ten times
that where pages must be found for it, and it takes memory that nobody needs: readers' bytes are
kept by the kernel once more, as pages of the mount. Straight from and to the disk a GiB costs
0.07 s (docs/transport.md). So long spans are moved with O_DIRECT, which wants offsets, lengths and
memory aligned to blocks: what is not, at the ends or altogether, is copied as usual, and so is all
of it where the file system refuses. The flag is set on a descriptor that has no other user then
and needs no other flag once it is open.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from up42fs.ranges import floor_to
from up42fs.types import Bytes

#: What every disk is content with, bytes.
ALIGN_BYTES = 4096
#: Spans of at least as many bytes are moved straight: below it the disk's latency is the cost.
LONG_BYTES = 1 << 20


def write(fd: int, data: Bytes, offset: int) -> None:
    """Write all of `data`. Raises OSError."""
    view = memoryview(data)
    done = _straight(_pwrite, fd, view, offset)
    while done < len(view):
        done += _pwrite(fd, view[done:], offset + done)


def read(fd: int, into: memoryview, offset: int) -> int:
    """Fill `into`, or as much of it as the file has; returns how much. Raises OSError."""
    done = _straight(_pread, fd, into, offset)
    while done < len(into):
        count = _pread(fd, into[done:], offset + done)
        if not count:
            break
        done += count
    return done


def _pwrite(fd: int, data: memoryview, offset: int) -> int:
    return os.pwrite(fd, data, offset)


def _pread(fd: int, into: memoryview, offset: int) -> int:
    return os.preadv(fd, [into], offset)


def _straight(
    move: Callable[[int, memoryview, int], int], fd: int, view: memoryview, offset: int
) -> int:
    """Move what can be moved past the page cache; returns how many bytes that were."""
    length = floor_to(len(view), ALIGN_BYTES)
    if length < LONG_BYTES or offset % ALIGN_BYTES:
        return 0
    try:
        with _unbuffered(fd):
            return move(fd, view[:length], offset)
    except OSError as error:
        if error.errno == errno.EINVAL:  # not this file system, or not this memory
            return 0
        raise


@contextmanager
def _unbuffered(fd: int) -> Iterator[None]:
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)

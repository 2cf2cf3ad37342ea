"""Reads and writes that bypass the kernel's page cache if they are long. Blocking.

Theory. Copying into the page cache costs 0.2 s of processor time a GiB at best, ten times that if
pages must be found for it, and it takes memory for nothing: the kernel keeps the bytes that readers
get a second time, as pages of the mount. (A server or a library has no mount above it: its loads
come through the page cache, or each reader of a file would wait for the disk.) Direct I/O costs
0.07 s a GiB (docs/transport.md). So long spans are moved with O_DIRECT, which requires offsets,
lengths and memory aligned to blocks. The unaligned rest is copied through the page cache, and so is
everything if the file system refuses O_DIRECT. The flag is set on a descriptor that has no other
user at that time and needs no other flag once it is open.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from up42fs.ranges import floor_to
from up42fs.types import Bytes

#: An alignment that every disk accepts, bytes.
ALIGN_BYTES = 4096
#: Spans of at least this many bytes bypass the page cache: for shorter ones the disk's latency is
#: the cost.
LONG_BYTES = 1 << 20


def write(fd: int, data: Bytes, offset: int) -> None:
    """Write all of `data`. Raises OSError."""
    view = memoryview(data)
    done = _straight(_pwrite, fd, view, offset)
    while done < len(view):
        done += _pwrite(fd, view[done:], offset + done)


def read(fd: int, into: memoryview, offset: int, *, is_straight: bool = True) -> int:
    """Fill `into`, or as much of it as the file has; return the number of bytes. Raises OSError.

    Without `is_straight` all comes through the page cache, for callers whose readers have none.
    """
    done = _straight(_pread, fd, into, offset) if is_straight else 0
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
    """Move as much as possible past the page cache; return the number of bytes moved."""
    length = floor_to(len(view), ALIGN_BYTES)
    if length < LONG_BYTES or offset % ALIGN_BYTES:
        return 0
    try:
        with _unbuffered(fd):
            return move(fd, view[:length], offset)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the file system or the memory does not allow it
            return 0
        raise


@contextmanager
def _unbuffered(fd: int) -> Iterator[None]:
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)

"""Long reads and writes past the page cache: the same bytes, whatever is aligned or refused."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from up42fs.store.disk import direct_io as bulk_io
from up42fs.store.disk.direct_io import ALIGN_BYTES, LONG_BYTES

TRUTH = random.Random(3).randbytes(LONG_BYTES * 2 + 777)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was moved while the flag was set, each call."""
    calls: list[int] = []

    def noting(name: str) -> None:
        real = getattr(os, name)

        def call(fd: int, data: object, offset: int) -> int:
            count = int(real(fd, data, offset))
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
                calls.append(count)
            return count

        monkeypatch.setattr(os, name, call)

    noting("pwrite")
    noting("preadv")
    return calls


def aligned(size: int, shift: int) -> memoryview:
    """Memory that begins `shift` bytes after a page does."""
    return memoryview(mmap.mmap(-1, size + ALIGN_BYTES))[shift : shift + size]


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("offset", [0, ALIGN_BYTES, 100])
@pytest.mark.parametrize("size", [0, 10, LONG_BYTES, len(TRUTH)])
def test_all_that_was_written_is_read(descriptor: int, offset: int, size: int, shift: int) -> None:
    data = aligned(size, shift)
    data[:] = TRUTH[:size]
    bulk_io.write(descriptor, data.toreadonly(), offset)
    assert os.pread(descriptor, size + 1, offset) == TRUTH[:size]
    into = aligned(size + 5, shift)
    assert bulk_io.read(descriptor, into, offset) == size
    assert into[:size] == TRUTH[:size]
    assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT


def test_what_is_long_and_aligned_goes_straight(descriptor: int, moved: list[int]) -> None:
    data = aligned(LONG_BYTES + 777, 0)
    bulk_io.write(descriptor, data, ALIGN_BYTES)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_RDWR | os.O_DIRECT)
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_RDWR)
    assert moved == [LONG_BYTES]
    assert bulk_io.read(descriptor, data, ALIGN_BYTES) == len(data)
    assert moved == [LONG_BYTES, LONG_BYTES]
    bulk_io.write(descriptor, data[:1000], 0)
    assert len(moved) == 2
    # A server's readers have no page cache but this one.
    assert bulk_io.read(descriptor, data, ALIGN_BYTES, is_straight=False) == len(data)
    assert len(moved) == 2


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_refusal_is_no_failure_and_a_failure_none_to_hide(
    descriptor: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(number, os.strerror(number))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    data = aligned(LONG_BYTES, 0)
    data[:] = TRUTH[:LONG_BYTES]
    if number == errno.EINVAL:
        bulk_io.write(descriptor, data, 0)
        assert os.pread(descriptor, LONG_BYTES, 0) == data
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            bulk_io.write(descriptor, data, 0)
    assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT

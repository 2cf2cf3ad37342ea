"""One version a handle: objects replaced beneath open files, read through the shared page cache."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Emulator, Mount, check, wait_until

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
SIZE = 10 * MIB
STEP = 64 << 10


def version(seed: int, size: int = SIZE) -> bytes:
    return pattern_bytes(seed, 0, size)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int, offset: int) -> bytes | None:
    """A step of the file; None where it says that this version is gone."""
    try:
        return os.pread(descriptor, STEP, offset)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return None


def only(descriptor: int, whole: bytes) -> tuple[int, int]:
    """How many steps of the file were read and how many refused; none is of another version."""
    read_, refused = 0, 0
    for offset in range(0, len(whole), STEP):
        found = read(descriptor, offset)
        refused += found is None
        read_ += found is not None
        assert found in (None, whole[offset : offset + STEP]), f"another version at {offset}"
    return read_, refused


def copied(path: Path) -> bytes:
    """The file as who copies it gets it, who tries again where it changed just now."""
    for _ in range(5):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    raise AssertionError("it stays stale")


def titles(path: Path) -> list[bytes]:
    return [os.getxattr(path, name) for name in os.listxattr(path) if name.endswith(".title")]


@pytest.fixture
def small(start) -> Emulator:
    return start("--synthetic", "3,1,1")


@pytest.fixture
def asset(small: Emulator) -> str:
    added = small.remote.storage("add_asset", name="moving.bin", size=SIZE, seed=1, tags=["t"])
    return str(added["id"])


def replaced(emulator: Emulator, asset: str, size: int = SIZE) -> bytes:
    emulator.remote.storage("replace_object", id=asset, seed=2, size=size)
    return version(2, size)


@pytest.mark.claim("S120")
@pytest.mark.parametrize("size", [SIZE, SIZE - 3 * MIB, SIZE + 3 * MIB])
@pytest.mark.parametrize("by", ["assets/moving.bin", "tags/t/moving.bin"])
def test_no_other_handle_shows_an_open_one_the_new_version(
    small: Emulator, asset: str, mount, by: str, size: int
) -> None:
    there: Mount = mount(small)
    old = version(1)
    with opened(there.find("moving.bin")) as first:
        inode = os.fstat(first).st_ino
        assert os.pread(first, STEP, 0) == old[:STEP]
        new = replaced(small, asset, size)
        assert copied(there.path / by) == new
        read_, refused = only(first, old)
        assert read_, "what the kernel has of it is still there"
        assert refused
        assert os.fstat(first).st_size == SIZE, "nor does the old one seem to end early"
        assert os.pread(first, 10, SIZE) == b""
        for path in (there.find("moving.bin"), there.path / "tags/t/moving.bin"):
            wait_until(lambda path=path: path.stat().st_size == size, 5, "the new size shows")
            assert path.stat().st_ino == inode, "an asset is one inode under all its names"
            assert path.read_bytes() == new
    assert there.find("moving.bin").read_bytes() == new


@pytest.mark.claim("S120")
def test_a_mapping_stays_what_it_was(small: Emulator, asset: str, mount) -> None:
    there: Mount = mount(small)
    old = version(1)
    with opened(there.find("moving.bin")) as first:
        view = mmap.mmap(first, SIZE, prot=mmap.PROT_READ)
        view.madvise(mmap.MADV_RANDOM)  # or all of it is read ahead, and nobody sees a change
        assert view[:STEP] == old[:STEP]
        new = replaced(small, asset)
        assert copied(there.find("moving.bin")) == new
        with opened(there.find("moving.bin")) as second:
            other = mmap.mmap(second, SIZE, prot=mmap.PROT_READ)
            assert other[:] == new
            assert view[:STEP] == old[:STEP]
            other.close()
        view.close()


@pytest.mark.claim("S120")
@pytest.mark.parametrize("name", ["moving.bin", "moving.tif"])
def test_a_change_that_the_catalogue_tells_first(small: Emulator, mount, name: str) -> None:
    """Also of an image, which is read past the page cache and mapped through it."""
    asset = small.remote.storage("add_asset", name=name, size=SIZE, seed=1, tags=["t"])["id"]
    there: Mount = mount(small, "-o", "refresh=3600")
    old, path = version(1), there.find(name)
    with opened(path) as first:
        view = mmap.mmap(first, SIZE, prot=mmap.PROT_READ)
        assert os.pread(first, STEP, 0) == view[:STEP] == old[:STEP]
        new = replaced(small, asset)
        small.remote.storage("set_metadata", id=asset, title="another", tags=["t"])
        check("touch", there.path / ".up42fs/refresh")
        wait_until(lambda: b"another" in titles(path), 5, "the catalogue follows")
        assert path.read_bytes() == new, "at once: nothing is wrong with the new version"
        with opened(path) as second:
            other = mmap.mmap(second, SIZE, prot=mmap.PROT_READ)
            assert other[:] == new
            assert view[:STEP] == old[:STEP]
            only(first, old)
            other.close()
        view.close()


def test_reading_again_costs_nothing(small: Emulator, asset: str, mount) -> None:
    """Closed and opened again, side by side and one after the other: the pages are kept."""
    there: Mount = mount(small)
    path = there.find("moving.bin")
    assert path.read_bytes() == version(1)
    reads = there.counters()["store.reads"]
    with opened(path) as first, opened(there.path / "tags/t/moving.bin") as second:
        assert only(first, version(1)) == only(second, version(1)) == (SIZE // STEP, 0)
    assert path.read_bytes() == version(1)
    assert there.counters()["store.reads"] == reads

"""Images read past the kernel's page cache: byte by byte what programs ask for, maps included."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from harness import Mount, run
from rasterio.windows import Window

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
#: The kernel's version: the first two numbers.
RELEASE = os.uname().release.split("-")[0].split(".")[:2]


def test_images_are_read_as_programs_read_them(start, handshake: str, mount) -> None:
    """Past the page cache: no byte more than is asked for, and each time anew."""
    emulator = start("--synthetic", "1")
    for name in ("scene.tif", "scene.bin"):
        emulator.remote.storage("add_asset", name=name, size=8 * MIB, seed=5)
    there: Mount = mount(emulator)
    is_direct = handshake == "ours" and tuple(map(int, RELEASE)) >= (6, 6)
    assert there.status()["kernel"]["direct_images"] == is_direct

    def delivered(name: str) -> list[int]:
        deliveries = []
        with there.find(name).open("rb", buffering=0) as file:
            for _ in range(2):
                before = there.counters().get("store.bytes_delivered", 0)
                assert os.pread(file.fileno(), 1001, 5 * MIB + 7) == pattern_bytes(
                    5, 5 * MIB + 7, 1001
                )
                deliveries.append(there.counters()["store.bytes_delivered"] - before)
        return deliveries

    assert delivered("scene.tif") == [1001, 1001] if is_direct else [4096, 0]
    first, again = delivered("scene.bin")
    assert first >= 4096
    assert again == 0


@pytest.mark.claim("S7")
def test_an_image_may_be_mapped_read_and_copied_at_once(start, handshake: str, mount) -> None:
    emulator = start("--synthetic", "1")
    size = 20 * MIB + 77
    emulator.remote.storage("add_asset", name="scene.tif", size=size, seed=5)
    path = mount(emulator).find("scene.tif")
    with path.open("rb", buffering=0) as file, path.open("rb") as mapped:
        for access in (mmap.ACCESS_READ, mmap.ACCESS_COPY):
            with mmap.mmap(mapped.fileno(), 0, access=access) as view:
                assert view[9 * MIB : 9 * MIB + 99] == pattern_bytes(5, 9 * MIB, 99)
                assert os.pread(file.fileno(), 99, 9 * MIB) == pattern_bytes(5, 9 * MIB, 99)
                assert run("cmp", path, "-", stdin=mapped).returncode == 0
                assert view[:] == pattern_bytes(5, 0, size)
    assert path.read_bytes() == pattern_bytes(5, 0, size)


def test_a_signal_does_not_break_a_read_off(start, handshake: str, mount) -> None:
    """Programs do not expect that of a file: `pread` itself, for Python would ask again."""
    emulator = start("--synthetic", "1")
    emulator.remote.storage("add_asset", name="scene.tif", size=8 * MIB, seed=5)
    path = mount(emulator).find("scene.tif")
    emulator.remote.faults(store_latency_s=0.5)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
    libc.pread.restype = ctypes.c_ssize_t
    buffer, rings = ctypes.create_string_buffer(MIB), list[int]()
    before = signal.signal(signal.SIGALRM, lambda number, _: rings.append(number))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        count = libc.pread(descriptor, buffer, MIB, 3 * MIB + 5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(descriptor)
    assert rings, "no signal came in time"
    assert count == MIB, os.strerror(ctypes.get_errno())
    assert buffer.raw == pattern_bytes(5, 3 * MIB + 5, MIB)


def noise_image(path: Path, side: int, tile: int) -> None:
    """A tiled image whose tiles are as large as their pixels."""
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile}
    placed = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)}
    with rasterio.open(path, "w", **profile, **layout, **placed) as image:
        dice = np.random.default_rng(5)
        image.write(dice.integers(0, 256, (1, side, side), dtype=np.uint8))


def test_threads_fetch_the_tiles_of_their_windows(tmp_path: Path, start, mount) -> None:
    """Nine windows of two by two tiles for each of eight threads, with a handle each."""
    side, tile, windows = 8192, 256, 9
    (tmp_path / "data").mkdir()
    noise_image(tmp_path / "data/noise.tif", side, tile)
    there: Mount = mount(start("--data", str(tmp_path / "data")))
    path = there.find("noise.tif")
    with rasterio.open(tmp_path / "data/noise.tif") as image:
        pixels = image.read(1)

    def read(thread: int) -> set[tuple[int, int]]:
        dice, tiles = random.Random(thread), set()
        with rasterio.open(path) as image:
            for _ in range(windows):
                x, y = (dice.randrange(side // tile - 1) * tile + tile // 2 for _ in range(2))
                got = image.read(1, window=Window(x, y, tile, tile))
                assert (got == pixels[y : y + tile, x : x + tile]).all()
                tiles |= {(x // tile + i, y // tile + j) for i in (0, 1) for j in (0, 1)}
        return tiles

    with ThreadPoolExecutor(8) as pool:
        tiles = set().union(*pool.map(read, range(8)))
    there.rest()
    fetched = there.counters()["store.bytes_fetched"]
    needed = len(tiles) * tile * tile
    assert fetched >= needed
    if there.status()["kernel"]["direct_images"]:
        # What is guessed before the first windows are known, the head, and whole buffers.
        assert fetched <= 1.3 * needed + 3 * MIB


@pytest.mark.parametrize("reopens", [False, True])
def test_windows_in_a_grid_come_before_they_are_read(
    tmp_path: Path, start, mount, *, reopens: bool
) -> None:
    """Row after row, also by a program that opens the file for each: closing it ends no request."""
    side, tile, window = 6144, 256, 768
    (tmp_path / "data").mkdir()
    noise_image(tmp_path / "data/noise.tif", side, tile)
    emulator = start("--data", str(tmp_path / "data"))
    there: Mount = mount(emulator)
    with rasterio.open(tmp_path / "data/noise.tif") as image:
        pixels = image.read(1)
    emulator.remote.faults(store_latency_s=0.1)  # what is asked for ahead comes after the close
    waits, image = [], None
    for y in range(0, 2 * window, window):
        for x in range(0, side, window):
            before = there.counters().get("store.waits", 0)
            image = image or rasterio.open(there.find("noise.tif"))
            got = image.read(1, window=Window(x, y, window, window))
            assert (got == pixels[y : y + window, x : x + window]).all()
            if reopens:
                image.close()
                image = None
            there.rest()
            waits.append(there.counters()["store.waits"] - before)
    if image is not None:
        image.close()
    if there.status()["kernel"]["direct_images"]:
        assert waits[0], "nothing is foretold at first"
        assert sum(map(bool, waits[4:])) <= 5, "of twelve"
        needed = 2 * window * side
        assert there.counters()["store.bytes_fetched"] <= 1.6 * needed

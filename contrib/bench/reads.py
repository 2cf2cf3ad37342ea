#!/usr/bin/env python3
"""Reads that are timed in a process of their own: windows read by rasterio, and long traffic.

    reads.py MODE PATH [ARGUMENTS]

Opens the file, says `ready`, waits for a line, reads, and prints a digest of what it read.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rasterio
from rasterio.windows import Window

SIDE = 256
WINDOWS_A_THREAD = {1: 16, 4: 8, 16: 8}
#: A desktop GIS asks for what its canvas shows, 1200 by 800 pixels here.
CANVAS = (1200, 800)
CHUNK_BYTES = 1 << 20


def go() -> None:
    """Say that all is prepared; return when the clock runs."""
    print("ready", flush=True)
    sys.stdin.readline()


def second(path: str, side: str) -> bytes:
    """A window beside one that was read already."""
    with rasterio.open(path) as data:
        x, y, size = int(data.width * 0.4), int(data.height * 0.4), int(side)
        data.read(1, window=Window(x, y, size, size))
        go()
        return bytes(data.read(1, window=Window(x + size, y, size, size)).tobytes())


def grid(path: str, side: str, rows: str) -> bytes:
    """An image from its upper left corner on, window by window, as models are fed."""
    digest = hashlib.sha256()
    with rasterio.open(path) as data:
        go()
        for window in chips(data.width, int(side), int(rows)):
            digest.update(data.read(1, window=window).tobytes())
    return digest.digest()


def reopened(path: str, side: str, rows: str) -> bytes:
    """Likewise, by a program that opens the file for every window."""
    digest = hashlib.sha256()
    with rasterio.open(path) as data:
        width = data.width
    go()
    for window in chips(width, int(side), int(rows)):
        with rasterio.open(path) as data:
            digest.update(data.read(1, window=window).tobytes())
    return digest.digest()


def chips(width: int, side: int, rows: int) -> Iterator[Window]:
    """Windows of an image, row after row of them; the last of a row may be narrower."""
    for y in range(0, side * rows, side):
        for x in range(0, width, side):
            yield Window(x, y, min(side, width - x), side)


def threads(path: str, count: str) -> bytes:
    """Random windows by that many threads, each with the file opened for itself."""

    def windows(seed: int) -> bytes:
        dice, digest = random.Random(seed), hashlib.sha256()
        with rasterio.open(path) as data:
            for _ in range(WINDOWS_A_THREAD[int(count)]):
                x, y = dice.randrange(data.width - SIDE), dice.randrange(data.height - SIDE)
                digest.update(data.read(1, window=Window(x, y, SIDE, SIDE)).tobytes())
        return digest.digest()

    with rasterio.open(path), ThreadPoolExecutor(int(count)) as pool:
        go()
        return b"".join(pool.map(windows, range(int(count))))


def zoom(path: str) -> bytes:
    """Fit the layer to the canvas, zoom in to full resolution, pan about."""
    digest = hashlib.sha256()
    with rasterio.open(path) as data:
        go()
        for window, shape in views(data.width, data.height):
            digest.update(data.read(window=window, out_shape=(data.count, *shape)).tobytes())
    return digest.digest()


def views(width: int, height: int) -> list[tuple[Window, tuple[int, int]]]:
    """Windows and the shapes (rows, columns) they are shown in."""
    wide, high = min(CANVAS[0], width), min(CANVAS[1], height)
    factor = max(width / wide, height / high)
    found, x, y = [], width * 0.55, height * 0.45
    while factor > 1:
        found.append(view(x, y, factor, (width, height), (wide, high)))
        factor /= 2
    for dx, dy in ((0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (-0.5, 1)):
        found.append(view(x + dx * wide, y + dy * high, 1, (width, height), (wide, high)))
    return found


def view(
    x: float, y: float, factor: float, size: tuple[int, int], canvas: tuple[int, int]
) -> tuple[Window, tuple[int, int]]:
    """The canvas around a point: a window within the image, `factor` of its pixels to one shown."""
    wide, high = (int(min(side, shown * factor)) for side, shown in zip(size, canvas, strict=True))
    left = int(min(max(0, x - wide / 2), size[0] - wide))
    top = int(min(max(0, y - high / 2), size[1] - high))
    shape = (max(1, round(high / factor)), max(1, round(wide / factor)))
    return Window(left, top, wide, high), shape


def traffic(path: str, wanted_bytes: str) -> bytes:
    """Whole files and ranges of all folders beside that of `path`, nothing kept by the kernel."""
    files = sorted(file for file in Path(path).parents[1].rglob("*") if file.is_file())
    dice, done = random.Random(0), 0
    go()
    while done < int(wanted_bytes):
        file = dice.choice(files)
        descriptor = os.open(file, os.O_RDONLY)
        size = os.fstat(descriptor).st_size
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        start = 0 if dice.random() < 0.5 else dice.randrange(size)
        stop = size if dice.random() < 0.5 else min(size, start + dice.randrange(1, 4 << 20))
        for at in range(start, stop, CHUNK_BYTES):
            done += len(os.pread(descriptor, min(CHUNK_BYTES, stop - at), at))
        os.close(descriptor)
    return b""


MODES = {mode.__name__: mode for mode in (second, grid, reopened, threads, zoom, traffic)}


if __name__ == "__main__":
    print(hashlib.sha256(MODES[sys.argv[1]](*sys.argv[2:])).hexdigest())

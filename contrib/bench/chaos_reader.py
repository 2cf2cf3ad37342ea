"""A program that reads files of a mount for ever and checks every byte.

    chaos_reader.py KIND SEED FILES.json

KIND is `sequential`, `random`, `mapped`, `moving`, `gdal`, or, for members of an archive, `stored`
or `packed`. Prints a JSON line for every file it
was through: bytes checked, or the errno it met. A byte that is wrong ends it with status 3 and the
place. Ends by a signal, SIGBUS among them: that is what a page that cannot be read is to `mapped`.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from fault_reader import read_fully

from up42fs.emulator import pattern_bytes

PAUSE_S = 0.02
#: Files that change have one of so many contents.
SEEDS = 8
SIZES = (4096, 30_000, 131_072, 700_000)


class WrongError(Exception):
    """A byte that is not the file's."""


def check(got: bytes | memoryview, file: dict[str, Any], offset: int, size: int) -> int:
    wanted = pattern_bytes(file["seed"], offset, min(size, file["size"] - offset))
    if got != wanted:
        raise WrongError(f"{file['path']} at {offset}: {len(got)} bytes of {len(wanted)}")
    return len(wanted)


def open_cold(path: str) -> int:
    """Open, and have the kernel forget what it holds of the file: the mount is to be asked."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def sequential(file: dict[str, Any], chance: random.Random) -> Iterator[int]:
    size = chance.choice(SIZES)
    start = chance.choice((0, chance.randrange(file["size"])))
    descriptor = open_cold(file["path"])
    try:
        for offset in range(start, file["size"], size):
            yield check(read_fully(descriptor, offset, size), file, offset, size)
    finally:
        os.close(descriptor)


def scattered(file: dict[str, Any], chance: random.Random) -> Iterator[int]:
    descriptor = open_cold(file["path"])
    try:
        for _ in range(20):
            offset, size = chance.randrange(file["size"]), chance.choice(SIZES)
            yield check(read_fully(descriptor, offset, size), file, offset, size)
    finally:
        os.close(descriptor)


def mapped(file: dict[str, Any], chance: random.Random) -> Iterator[int]:
    descriptor = open_cold(file["path"])
    try:
        with mmap.mmap(descriptor, file["size"], prot=mmap.PROT_READ) as pages:
            for _ in range(10):
                offset, size = chance.randrange(file["size"]), chance.choice(SIZES)
                yield check(pages[offset : offset + size], file, offset, size)
    finally:
        os.close(descriptor)


def moving(file: dict[str, Any], chance: random.Random) -> Iterator[int]:
    """One open file shows one version: any that was, never two."""
    descriptor = open_cold(file["path"])
    try:
        possible = set(range(SEEDS))
        for _ in range(12):
            offset = chance.randrange(file["size"] - 65536)
            got = read_fully(descriptor, offset, 65536)
            possible &= {s for s in possible if pattern_bytes(s, offset, len(got)) == got}
            if not got or not possible:
                raise WrongError(f"{file['path']} at {offset}: bytes of two versions, or of none")
            yield len(got)
    finally:
        os.close(descriptor)


def gdal(file: dict[str, Any], chance: random.Random) -> Iterator[int]:
    """A window of a raster, decoded, has the pixels that the local copy has."""
    import numpy
    import rasterio
    from rasterio.windows import Window

    try:
        with rasterio.open(file["path"]) as image, rasterio.open(file["copy"]) as local:
            for _ in range(4):
                corner = chance.randrange(image.width - 256), chance.randrange(image.height - 256)
                window = Window(*corner, 256, 256)
                pixels = image.read(1, window=window)
                if not numpy.array_equal(pixels, local.read(1, window=window)):
                    raise WrongError(f"{file['path']}: pixels of {window}")
                yield pixels.nbytes
    except rasterio.errors.RasterioError as error:
        raise OSError(errno.EIO, "GDAL could not read it") from error


def member(file: dict[str, Any], chance: random.Random) -> Iterator[int]:
    """A member of an archive reads as a file does, in any way."""
    yield from chance.choice((sequential, scattered, mapped))(file, chance)


KINDS: dict[str, Callable[[dict[str, Any], random.Random], Iterator[int]]] = {
    "sequential": sequential,
    "random": scattered,
    "mapped": mapped,
    "moving": moving,
    "gdal": gdal,
    "stored": member,
    "packed": member,
}


def main(kind: str, seed: str, files_json: str) -> int:
    chance = random.Random(int(seed))
    with open(files_json) as opened:
        files = json.load(opened)[kind]
    while True:
        told: dict[str, Any] = {"bytes": 0}
        try:
            for checked in KINDS[kind](chance.choice(files), chance):
                told["bytes"] += checked
        except OSError as error:
            told["errno"] = errno.errorcode.get(error.errno or 0, str(error.errno))
        except WrongError as error:
            print(json.dumps(told | {"wrong": str(error)}), flush=True)
            return 3
        print(json.dumps(told), flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

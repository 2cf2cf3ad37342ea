#!/usr/bin/env python3
"""What `peers.py` times in a process of its own: windows read by rasterio.

    peers_read.py second|thread|threads PATH

Opens the file, says `ready`, waits for a line, reads, and prints a digest of the pixels.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading

import rasterio


def read(mode: str, path: str) -> None:
    """Open, say `ready`, wait for a line, read; print a digest."""

    def windows(count: int, seed: int) -> bytes:
        dice, digest = random.Random(seed), hashlib.sha256()
        with rasterio.open(path) as data:
            for _ in range(count):
                x, y = dice.randrange(data.width - 256), dice.randrange(data.height - 256)
                digest.update(data.read(1, window=((y, y + 256), (x, x + 256))).tobytes())
        return digest.digest()

    with rasterio.open(path) as data:
        if mode == "second":
            data.read(1, window=((4000, 5024), (4000, 5024)))
        print("ready", flush=True)
        sys.stdin.readline()
        if mode == "second":
            digests = [data.read(1, window=((4000, 5024), (5024, 6048))).tobytes()]
        elif mode == "thread":
            digests = [windows(16, 0)]
        else:
            digests = [b""] * 16

            def work(number: int) -> None:
                digests[number] = windows(8, number)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(hashlib.sha256(b"".join(digests)).hexdigest())


if __name__ == "__main__":
    read(*sys.argv[1:])

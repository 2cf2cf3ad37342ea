"""Readers of a file, in a process of their own: each reads a block and compares it.

    crowd.py PATH SEED READERS STRIDE [fork]

Prints `reading` once all have begun, then how many were right. `fork`: processes that share one
descriptor, instead of threads.
"""

from __future__ import annotations

import os
import sys
import threading

from up42fs.emulator import pattern_bytes

BLOCK_BYTES = 4096


def is_right(descriptor: int, seed: int, offset: int) -> bool:
    return os.pread(descriptor, BLOCK_BYTES, offset) == pattern_bytes(seed, offset, BLOCK_BYTES)


def in_threads(descriptor: int, seed: int, offsets: list[int]) -> int:
    right: list[bool] = []
    threads = [
        threading.Thread(target=lambda o=offset: right.append(is_right(descriptor, seed, o)))
        for offset in offsets
    ]
    for thread in threads:
        thread.start()
    print("reading", flush=True)
    for thread in threads:
        thread.join()
    return sum(right)


def in_forks(descriptor: int, seed: int, offsets: list[int]) -> int:
    children = []
    for offset in offsets:
        child = os.fork()
        if child == 0:
            os._exit(0 if is_right(descriptor, seed, offset) else 1)
        children.append(child)
    print("reading", flush=True)
    return sum(os.waitpid(child, 0)[1] == 0 for child in children)


if __name__ == "__main__":
    path, seed, readers, stride = sys.argv[1], *map(int, sys.argv[2:5])
    opened = os.open(path, os.O_RDONLY)
    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_RANDOM)
    threading.stack_size(256 << 10)
    read = in_forks if "fork" in sys.argv else in_threads
    print(read(opened, seed, [number * stride for number in range(readers)]), flush=True)

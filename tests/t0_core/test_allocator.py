"""glibc takes the settings; other C libraries are left alone."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from up42fs.mount import process

#: Blocks of a MiB, freed in an order that leaves one at the top of the heap.
SCRIPT = """
import ctypes, sys
from up42fs.mount.process import return_memory
assert return_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def filled():
    place = libc.malloc(1 << 20)
    ctypes.memset(place, 1, 1 << 20)
    return place
libc.free(filled())  # by itself glibc would map nothing of this size from now on
before = resident()
places = [filled() for _ in range(32)]
for place in places[:-1]:
    libc.free(place)
print(resident() - before)
"""


def test_blocks_that_are_freed_go_back() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not glibc")
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert int(said.stdout) < 4 << 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not process.return_memory()

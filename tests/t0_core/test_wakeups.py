"""Threads wake trio's loop though no memory is left that trio would like to have for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from up42fs.mount.process import wake_without_memory

#: Another thread wakes the loop after all blocks of 32 KiB are taken; small ones are still there.
SCRIPT = """
import resource, threading, time, trio
from up42fs.mount.process import return_memory, wake_without_memory

def hold():
    # Once it failed, malloc looks elsewhere, and may find more.
    blocks, failures = [], 0
    while failures < 20:
        try:
            blocks.append(bytearray(32 << 10))
        except MemoryError:
            failures += 1
    return blocks

async def main():
    MEND
    token, woken, begin = trio.lowlevel.current_trio_token(), trio.Event(), threading.Event()
    def wake():
        begin.wait()
        time.sleep(0.1)  # by then the loop waits
        token.run_sync_soon(woken.set)
    thread = threading.Thread(target=wake)
    thread.start()
    await trio.sleep(0)
    addresses = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (addresses, before[1]))
    try:
        blocks = hold()
        begin.set()
        with trio.fail_after(30):
            await woken.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    thread.join()

return_memory()
trio.run(main)
"""


@pytest.mark.claim("S135")
def test_a_thread_wakes_the_loop_without_memory() -> None:
    script = SCRIPT.replace("MEND", "assert wake_without_memory()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_many_wakeups_are_read_at_once() -> None:
    assert wake_without_memory()
    token = trio.lowlevel.current_trio_token()
    seen: list[int] = []

    def wake() -> None:
        for number in range(10_000):
            token.run_sync_soon(seen.append, number)

    with trio.fail_after(30):
        await trio.to_thread.run_sync(wake)
        while len(seen) < 10_000:
            await trio.sleep(0.001)
    assert seen == list(range(10_000))


async def test_another_trio_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio.lowlevel, "current_trio_token", object)
    assert not wake_without_memory()

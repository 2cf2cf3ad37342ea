"""Processes that end with this one, and what a process and its children used (Linux's /proc)."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TICKS_S = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.25
END_TIMEOUT_S = 15.0


@contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends, or this process does: it is sent SIGTERM."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    process: subprocess.Popen[str] = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def family(pid: int) -> list[int]:
    """The process and all that descend from it; empty where it has gone."""
    found = [pid] if Path(f"/proc/{pid}").exists() else []
    for member in found:
        with suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds of the process, its children alive and its children reaped."""
    ticks = 0
    for member in family(pid):
        with suppress(OSError):
            # The name in parentheses may hold anything; utime … cstime are fields 14 to 17.
            after_name = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            own = after_name[11:15] if member == pid else after_name[11:13]
            ticks += sum(int(field) for field in own)
    return ticks / TICKS_S


def memory_bytes(pid: int) -> int:
    """Resident memory of the process and its children, in bytes."""
    total = 0
    for member in family(pid):
        with suppress(OSError):
            pages = Path(f"/proc/{member}/statm").read_text().split()[1]
            total += int(pages) * os.sysconf("SC_PAGE_SIZE")
    return total


def most_memory_bytes(pid: int) -> int:
    """The most resident memory that the process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) << 10


@contextmanager
def sampled_memory(pid: int | None) -> Iterator[list[int]]:
    """Fill the yielded list with the resident bytes every `SAMPLE_S`, at the end once more."""
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while pid is not None:
            samples.append(memory_bytes(pid))
            if ended.wait(SAMPLE_S):
                samples.append(memory_bytes(pid))
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()

"""Runs a decoder in a process of its own, with limits: what it decodes was made by others.

A decoder that crashes, takes all memory or never ends is one file without a picture, said in one
line.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from up42fs.cli.thumbnail.failure import NoPictureError

#: Of the child: seconds of computing, seconds in all, and bytes of memory that it adds.
MOST_CPU_S = 10
MOST_S = 60.0
MOST_DATA_BYTES = 512 << 20
_PIECE_BYTES = 1 << 16
_LONGEST_REASON = 200
_MADE, _NONE = b"+", b"-"


def apart(work: Callable[[], bytes]) -> bytes:
    """The answer of `work`; raises NoPictureError if it does, fails, or is beyond the limits."""
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there)
        _work(work, here)
    os.close(here)
    status = None
    try:
        answer = _answer(there)
        if answer is not None:
            status = os.waitpid(child, 0)[1]
    finally:
        os.close(there)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if answer is None or (status is not None and os.WIFSIGNALED(status) and _is_late(status)):
        raise NoPictureError("decoding it takes too long")
    if answer[:1] == _MADE and status == 0:
        return answer[1:]
    reason = answer[1:].decode(errors="replace") if answer[:1] == _NONE else "the decoder crashed"
    raise NoPictureError(reason)


def _is_late(status: int) -> bool:
    return os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)


def _answer(there: int) -> bytes | None:
    """All that the child writes; None if it takes too long."""
    ends_s = time.monotonic() + MOST_S
    answer = b""
    while True:
        left_s = ends_s - time.monotonic()
        if left_s <= 0 or not select.select([there], [], [], left_s)[0]:
            return None
        piece = os.read(there, _PIECE_BYTES)
        if not piece:
            return answer
        answer += piece


def _work(work: Callable[[], bytes], here: int) -> None:
    """The child: never returns."""
    answer = _NONE + b"the decoder crashed"
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 1))
        most = _held_bytes() + MOST_DATA_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Each thread of the linear algebra that comes with numpy takes memory.
        os.environ |= {"OPENBLAS_NUM_THREADS": "1", "GDAL_NUM_THREADS": "1"}
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # libraries print what they find wrong
        answer = _MADE + work()
    except NoPictureError as error:
        answer = _NONE + _short(str(error))
    except MemoryError:
        answer = _NONE + b"decoding it takes too much memory"
    except Exception as error:  # decoders raise what they like
        answer = _NONE + _short(f"it cannot be decoded: {error or type(error).__name__}")
    finally:
        try:
            left = memoryview(answer)
            while left:
                left = left[os.write(here, left) :]
        finally:
            os._exit(0)


def _held_bytes() -> int:
    """The memory of its own that this process began with, as RLIMIT_DATA counts it."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _short(text: str) -> bytes:
    return " ".join(text.split())[:_LONGEST_REASON].encode(errors="replace")

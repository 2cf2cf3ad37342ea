"""The end of a mount's process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LEAVES = """
import atexit, logging, sys, threading, time
from up42fs.mount.ending import leave
atexit.register(time.sleep, 600)
threading.Thread(target=time.sleep, args=(600,)).start()
logging.basicConfig(stream=sys.stderr)
logging.error("the last line")
print("the last word", end="")
leave(3)
"""


@pytest.mark.claim("S350")
def test_a_process_that_leaves_waits_for_no_thread_and_loses_no_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEAVES], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3
    assert done.stdout == "the last word"
    assert "the last line" in done.stderr

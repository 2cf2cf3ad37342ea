"""Small promises of docs/semantics.md that no other test is about."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest
from harness import Mount, environ

pytestmark = pytest.mark.mount

_TRY = """
import fcntl, sys
with open(sys.argv[1], "rb") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""


def a_file(mount: Mount) -> str:
    return str(next(path for path in (mount.path / "assets").iterdir() if path.is_file()))


@pytest.mark.claim("S13")
def test_locks_are_the_kernels(sample_mount: Mount) -> None:
    path = a_file(sample_mount)

    def others_status() -> int:
        command = [sys.executable, "-c", _TRY, path]
        return subprocess.run(command, env=environ({}), timeout=30, check=False).returncode

    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert others_status() == 7
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.lockf(file, fcntl.LOCK_SH)
        assert others_status() == 0


@pytest.mark.claim("S14")
def test_fsync_has_nothing_to_do(sample_mount: Mount) -> None:
    for path in (a_file(sample_mount), str(sample_mount.path / "assets")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

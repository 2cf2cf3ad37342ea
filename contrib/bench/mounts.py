"""An emulator and mounts of it, for scripts that measure: started, waited for, and ended for sure.

Every wait has a deadline. Knows nothing of what is measured.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from up42fs.deadlines import HURRY_VARIABLE
from up42fs.fuse.mount_table import mount_at

UP42FS = (sys.executable, "-P", "-m", "up42fs")
#: How long an emulator may take to speak, a mount to come and to go, anything to come to pass.
READY_S = 60.0
#: How long an emulator may take to end before it is killed.
_END_S = 20.0


@contextmanager
def emulator(synthetic: str | None = "6,2,2", *more: str) -> Iterator[dict[str, Any]]:
    """An emulator with a small storage, another one, or the demo's (None); what it says of itself.

    `more` are its other arguments.

    Raises RuntimeError where it says nothing.
    """
    storage = more if synthetic is None else ("--synthetic", synthetic, *more)
    process = subprocess.Popen(
        [*UP42FS, "emulator", "--die-with-parent", *storage], stdout=subprocess.PIPE, text=True
    )
    try:
        yield _ready_line(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _ready_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline() if select.select([process.stdout], [], [], READY_S)[0] else ""
    if not line:
        raise RuntimeError(f"the emulator was not ready within {READY_S:.0f} s")
    said: dict[str, Any] = json.loads(line)
    return said


def clean_environment(env: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `env`, and without what else could lead to an account."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("UP42", "XDG_"))}
    return {**clean, **env}


#: How often a mount is tried on a machine that is too busy for it.
_TRIALS = 4


@contextmanager
def mounted(
    env: Mapping[str, str],
    mountpoint: Path,
    home: Path,
    options: str = "refresh=3600",
    *,
    hurry: float = 1.0,
) -> Iterator[int]:
    """Mount with cache and log in `home`, all deadlines divided by `hurry`; the process ID.

    Raises RuntimeError where it cannot be mounted.
    """
    hurried = clean_environment(env) | {HURRY_VARIABLE: f"{hurry:g}"}
    command = [*UP42FS, "mount", str(mountpoint), "-o", options, "--cache-dir"]
    command += [str(home / "cache"), "--log-file", str(home / "log"), "--log-level", "debug"]
    try:
        for left in reversed(range(_TRIALS)):
            done = subprocess.run(
                command, env=hurried, capture_output=True, text=True, timeout=READY_S
            )
            if done.returncode == 0:
                break
            # A machine that is busy with other work may not even have started it in time, and one
            # mount less would end a run of hundreds of cells.
            if left == 0 or "did not answer within" not in done.stderr:
                raise RuntimeError(f"cannot mount: {done.stderr}")
        pid = int(status(mountpoint)["pid"])
        with _ended(pid):
            try:
                yield pid
            finally:
                _unmount(mountpoint)
    finally:
        _unmount(mountpoint)


@contextmanager
def _ended(pid: int) -> Iterator[None]:
    """Wait for the end of a mount's process afterwards: until then it writes to its log."""
    process = os.pidfd_open(pid)
    try:
        yield
    finally:
        if not select.select([process], [], [], _END_S)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _END_S)
        os.close(process)


def _unmount(mountpoint: Path) -> None:
    if mount_at(mountpoint) is None:
        return
    command = [*UP42FS, "unmount", str(mountpoint)]
    try:
        subprocess.run(command, capture_output=True, timeout=READY_S)
    finally:
        if mount_at(mountpoint) is not None:
            subprocess.run(
                ["fusermount3", "-uz", str(mountpoint)], capture_output=True, timeout=READY_S
            )


def status(mountpoint: Path) -> dict[str, Any]:
    """The mount's own status."""
    said: dict[str, Any] = json.loads((mountpoint / ".up42fs/status.json").read_text())
    return said


def wait_for(condition: Callable[[], bool], what: str | None, timeout_s: float = READY_S) -> None:
    """Wait until `condition` holds; in vain it is an error, unless `what` is None."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            if what is None:
                return
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.1)

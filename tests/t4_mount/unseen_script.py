"""Readers whose processes the mount does not see: python unseen_script.py HOW DIRECTORY.

Runs in a mount namespace of its own, as root. The mount is of user 65534, with `allow_other`; HOW
is `visible`, `hidden` (/proc shows a user only the own processes) or `elsewhere` (the readers live
in a PID namespace that the mount does not see). Prints as JSON how long readers of a silent storage
took to go once they were killed, and what a reader got that a signal woke and did not end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOW, HOME = sys.argv[1], Path(sys.argv[2])
PYTHON = os.environ["UNSEEN_PYTHON"]
MOUNT = HOME / "mount"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
RINGING = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.siginterrupt(signal.SIGUSR1, False)
file = os.open(sys.argv[1], os.O_RDONLY)
buffer = ctypes.create_string_buffer(4096)
print("opened", flush=True)
count = libc.pread(file, buffer, 4096, ctypes.c_long(40 << 20))
print(count, ctypes.get_errno(), flush=True)
"""


def waits(process_id: int) -> bool:
    try:
        where = Path(f"/proc/{process_id}/wchan").read_text()
    except OSError:
        return False
    return any(word in where for word in ("request_wait", "folio_wait", "fuse", "direct_IO"))


def descendants(process_id: int) -> list[int]:
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return [process_id, *(one for child in children for one in descendants(int(child)))]


def waiting_reader(*command: str) -> tuple[subprocess.Popen[bytes], int]:
    """A reader, and its process's number here, once it waits in the mount."""
    # Not its first process there, which signals do not end.
    inside = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; true', "sh")
    prefix = inside if HOW == "elsewhere" else ()
    program = subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE)
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        for one in descendants(program.pid):
            if waits(one):
                return program, one
        time.sleep(0.01)
    raise AssertionError(f"{command} does not wait")


def seconds_to_go(number: signal.Signals, *command: str) -> float:
    program, reader = waiting_reader(*command)
    began_s = time.monotonic()
    os.kill(reader, number)
    program.wait(40)
    return time.monotonic() - began_s


def mounted() -> subprocess.Popen[bytes]:
    prefix: tuple[str, ...] = NOBODY
    if HOW == "hidden":
        hide = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        prefix = ("sh", "-c", hide, "sh", *NOBODY)
    if HOW == "elsewhere":
        # Both live in PID namespaces beside one another, as containers do.
        prefix = ("unshare", "--pid", "--fork", "--kill-child", *NOBODY)
    command = (PYTHON, "-m", "up42fs", "mount", "--foreground", str(MOUNT), "-o", "allow_other")
    logs = ("--log-file", str(HOME / "log"), "--cache-dir", str(HOME / "cache"))
    return subprocess.Popen([*prefix, *command, *logs])


def main() -> None:
    MOUNT.mkdir()
    os.chown(MOUNT, 65534, 65534)
    process = mounted()
    try:
        until_s = time.monotonic() + 30
        # The file and not only its directory: else a reader may wait for the first listing, which
        # ends with its own deadline, and not for bytes.
        while not (MOUNT / "assets/image.tif").is_file():
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.05)
        print("mounted", flush=True)
        assert sys.stdin.readline() == "silent\n"
        image, python = str(MOUNT / "assets/image.tif"), (PYTHON, "-c", RINGING)
        answer: dict[str, object] = {
            "killed": seconds_to_go(signal.SIGKILL, "cat", image),
            "terminated": seconds_to_go(signal.SIGTERM, "cat", image),
            "killed stat": seconds_to_go(signal.SIGKILL, "ls", str(MOUNT / "stac")),
        }
        program, reader = waiting_reader(*python, image)
        os.kill(reader, signal.SIGUSR1)
        time.sleep(2)
        answer["goes on"] = program.poll() is None
        print(json.dumps(answer), flush=True)
        assert sys.stdin.readline() == "healthy\n"
        assert program.stdout is not None
        print(json.dumps(program.stdout.read().decode()), flush=True)
        program.wait(40)
    finally:
        subprocess.run(["fusermount3", "-uz", str(MOUNT)], check=False)
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()

"""An automounter of one place, as systemd is one: mounts when somebody looks, then lets them in.

    python automount_script.py MOUNTPOINT COMMAND…

Mounts autofs at MOUNTPOINT (in a mount namespace of its own, please), has `ls` look at it, runs
COMMAND to answer, and prints what `ls` sees. Exit status 3 where the kernel has no autofs.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import sys

#: linux/auto_fs.h: the packet begins with version, type, token; ioctls that end a wait.
HEAD = struct.Struct("iiI")
MISSING_DIRECT = 5
READY, FAIL = 0x9360, 0x9361
TIMEOUT_S = 30


def mount_autofs(place: str, pipe: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={pipe},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"test", place.encode(), b"autofs", 0, options.encode()):
        print("no autofs:", os.strerror(ctypes.get_errno()), file=sys.stderr)
        raise SystemExit(3)


def main(place: str, *command: str) -> int:
    os.setpgid(0, 0)
    requests, pipe = os.pipe()
    mount_autofs(place, pipe)
    trap = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    reader = subprocess.Popen(
        ["ls", place], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    _, kind, token = HEAD.unpack_from(os.read(requests, 4096))
    assert kind == MISSING_DIRECT
    try:
        status = subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        status = 124
    fcntl.ioctl(trap, FAIL if status else READY, token)
    seen, _ = reader.communicate(timeout=TIMEOUT_S)
    print(seen, end="")
    return status


sys.exit(main(*sys.argv[1:]))

"""Serves a file system whose client dies between the loop's epoll and the read of the device.

    freeze_script.py MOUNTPOINT [uncured]

The client asks for a name and is killed when the loop is told that its request can be read: the
kernel takes the request back, and the read finds nothing: libfuse's, which has the device here.
Prints `killed` then, and `turning` when the loop runs on. `uncured` leaves out what wakes a read.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import trio
from kernel_script import Waiting, session_of

from up42fs.fuse import session
from up42fs.fuse.session import MountOptions

_wait_readable = trio.lowlevel.wait_readable


class Killer:
    """Stands in for `wait_readable`; ends its victim after the next time it returns."""

    def __init__(self) -> None:
        self.victim: subprocess.Popen[bytes] | None = None
        self.has_struck = trio.Event()

    async def wait_readable(self, fd: Any) -> None:
        await _wait_readable(fd)
        if self.victim is not None:
            self.victim.kill()
            self.victim.wait()
            self.victim = None
            self.has_struck.set()
            os.write(1, b"killed\n")


async def serve(mountpoint: Path, killer: Killer) -> None:
    mount = session_of(Waiting(1), mountpoint, MountOptions("test", negotiates=False))
    async with mount.mounted(), trio.open_nursery() as nursery:
        await nursery.start(mount.serve)
        command = f"import os; os.stat({str(mountpoint / 'dir' / '1')!r})"
        killer.victim = subprocess.Popen([sys.executable, "-c", command])
        await killer.has_struck.wait()
        await trio.sleep(0.1)
        os.write(1, b"turning\n")
        await trio.sleep_forever()


def main() -> None:
    killer = Killer()
    trio.lowlevel.wait_readable = killer.wait_readable
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.argv[2:] == ["uncured"]:
        session._alarm = nullcontext  # type: ignore[assignment]  # no alarm on purpose
    trio.run(serve, Path(sys.argv[1]).resolve(), killer)


if __name__ == "__main__":
    main()

"""Emulators of a test process: forked from one that has loaded the emulator's modules.

Loading them takes four fifths of an emulator's start, and the suite starts some hundreds. So a test
process starts this script once (`Nest`), and each emulator is a fork of it that parses its own
arguments. `test_emulator_command.py` starts the command itself, as users do.

Protocol, over a socket: a JSON line of arguments, environment and directory comes with the
descriptor that becomes the emulator's standard output; the fork's process ID goes back.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

MOST_BYTES = 1 << 20


class Process:
    """An emulator's process, which is no child of this one; called as `subprocess.Popen` is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # Open at once: the number may be another process's after the end of this one.
        self._handle = os.pidfd_open(pid)

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> None:
        """Return once it has ended; raises TimeoutError."""
        if not select.select([self._handle], [], [], timeout_s)[0]:
            raise TimeoutError(f"the emulator {self.pid} still runs after {timeout_s} s")

    def close(self) -> None:
        os.close(self._handle)


class Nest:
    """The process from which this test process's emulators are forked; ends with it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def start(self, arguments: list[str], stdout: int) -> Process:
        """Fork an emulator that writes to `stdout`, in the environment of now."""
        asked = {"arguments": arguments, "environ": dict(os.environ), "directory": os.getcwd()}
        socket.send_fds(self._channel, [json.dumps(asked).encode()], [stdout])
        answer = self._channel.recv(100)
        assert answer, "the process that forks emulators has ended"
        return Process(int(answer))

    def close(self) -> None:
        self._channel.close()
        self._process.wait(10)


def serve(channel: socket.socket) -> None:
    """Fork an emulator for each request, until the other end is closed."""
    from up42fs.cli.main import main, make_parser

    make_parser(meant="emulator")  # loads it
    gc.collect()
    gc.freeze()
    # Forks that ended need no wait, and Ctrl-C ends the test process, which closes the socket.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MOST_BYTES, 1)
        if not message:
            return
        asked = json.loads(message)
        pid = os.fork()
        if pid:
            os.close(descriptors[0])
            channel.send(str(pid).encode())
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        channel.close()
        os.dup2(descriptors[0], 1)
        os.close(descriptors[0])
        # The other was made for /dev/null.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(asked["environ"])
        time.tzset()
        os.chdir(asked["directory"])
        status = main(["emulator", *asked["arguments"]])
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked_by:
        serve(asked_by)

"""Commands of a test process: forked from a process that has loaded their modules.

Loading them takes four fifths of the start of an emulator or a mount, and the suite starts hundreds
of each. So a test process starts this script once (`Nest`), and each command is a fork of it that
parses its own arguments. Tests of how commands start run them as users do: `harness.UP42FS`.

A fork cannot do what an interpreter does when it starts: see `is_fit`.

Protocol, over a socket: a JSON line says what to run and where, and comes with the descriptors that
become the command's standard streams, and one on which its exit status is written; the fork's
process ID goes back. Words of the environment and the arguments are bytes, as the kernel has them,
since the two processes may differ in how they read them.
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
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NoReturn

MOST_BYTES = 1 << 20
#: Variables that act when an interpreter or one of our modules is loaded: locale, flags, limits.
AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "UP42FS_HURRY")
#: Those of them that make no difference to what a command does.
NO_MATTER = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONUNBUFFERED"})


class Process:
    """A command's process, which is no child of this one; called as `subprocess.Popen` is."""

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
            raise TimeoutError(f"the process {self.pid} still runs after {timeout_s} s")

    def close(self) -> None:
        os.close(self._handle)


class Nest:
    """The process from which this test process's commands are forked; ends with it."""

    def __init__(self) -> None:
        self._started_with = dict(os.environ)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def is_fit(self, environ: Mapping[str, str]) -> bool:
        """Whether a fork with this environment is what the command itself would be."""
        differ = {name for name, _ in self._started_with.items() ^ environ.items()}
        return not any(name.startswith(AT_START) for name in differ - NO_MATTER)

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        *streams: int,
        directory: str | None = None,
    ) -> Process:
        """Fork `up42fs` with these arguments; `streams`: standard output, error, exit status.

        Without the first it writes to /dev/null, without the second to this process's error.
        """
        mask = os.umask(0o77)
        os.umask(mask)
        asked = {
            "arguments": [_bytes(word) for word in arguments],
            "environ": {_bytes(name): _bytes(value) for name, value in environ.items()},
            "directory": _bytes(directory or os.getcwd()),
            "umask": mask,
        }
        socket.send_fds(self._channel, [json.dumps(asked).encode()], list(streams))
        answer = self._channel.recv(100)
        assert answer, "the process that forks commands has ended"
        return Process(int(answer))

    def run(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        timeout_s: float,
        directory: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a fork to its end, as `subprocess.run` would; -1 for one that broke off."""
        command = ["up42fs", *arguments]
        pipes = [os.pipe() for _ in range(3)]
        try:
            sends = [send for _, send in pipes]
            process = self.start(arguments, environ, *sends, directory=directory)
        finally:
            for _, send in pipes:
                os.close(send)
        try:
            said, is_over = _read_all([receive for receive, _ in pipes], timeout_s)
            if not is_over:
                process.kill()
                raise subprocess.TimeoutExpired(command, timeout_s, *said[:2])
        finally:
            process.close()
            for receive, _ in pipes:
                os.close(receive)
        output, errors, status = map(_text, said)
        return subprocess.CompletedProcess(command, int(status or -1), output, errors)

    def close(self) -> None:
        self._channel.close()
        self._process.wait(10)


def _read_all(sources: list[int], timeout_s: float) -> tuple[list[bytes], bool]:
    """Read each to its end; also tells whether all ended in time."""
    said, open_ones = [b""] * len(sources), set(range(len(sources)))
    deadline_s = time.monotonic() + timeout_s
    while open_ones:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return said, False
        numbers = {sources[at]: at for at in open_ones}
        for source in select.select(list(numbers), [], [], left_s)[0]:
            piece = os.read(source, 65536)
            said[numbers[source]] += piece
            if not piece:
                open_ones.remove(numbers[source])
    return said, True


def _text(said: bytes) -> str:
    """As `subprocess` reads text."""
    text = said.decode(errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _bytes(word: str) -> str:
    """`word` as the kernel gets it, a character for each byte."""
    return os.fsencode(word).decode("latin-1")


def _word(word: str) -> str:
    return os.fsdecode(word.encode("latin-1"))


class _Forked:
    """Stands for the `subprocess.Popen` by which `up42fs mount` starts the process that serves."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        pass_fds: Sequence[int],
        **streams: int,
    ) -> None:
        assert all(stream == subprocess.DEVNULL for stream in streams.values())
        self.pid = os.fork()
        if self.pid:
            return
        null = os.open(os.devnull, os.O_RDWR)
        _take_streams([null, null, null])
        kept = {0, 1, 2, *pass_fds}
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd not in kept:
                with suppress(OSError):  # the listing's own
                    os.close(fd)
        _become(env, cwd)
        _end_with(list(command[command.index("up42fs") + 1 :]))

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float = 60) -> None:
        handle = os.pidfd_open(self.pid)
        try:
            if not select.select([handle], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("up42fs mount", timeout)
        finally:
            os.close(handle)
        os.waitpid(self.pid, 0)


def _take_streams(streams: Sequence[int]) -> None:
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    # The interpreter's own were made for other files.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _become(environ: Mapping[str, str], directory: str | None) -> None:
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    if directory is not None:
        os.chdir(directory)


def _end_with(arguments: list[str], told: int | None = None) -> NoReturn:
    """Run the command, say its status to `told`, and end this process."""
    from up42fs.cli.main import main

    status = 1
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        if told is not None:
            os.write(told, str(status).encode())
        os._exit(status)


def _load() -> None:
    """Load all commands and what a mount loads, and let mounts fork."""
    from up42fs.cli import mount as command
    from up42fs.cli.main import make_parser

    make_parser()
    with suppress(ImportError):  # no pyfuse3
        import_module("up42fs.mount.mount")
    stand_in: Any = SimpleNamespace(
        Popen=_Forked,
        DEVNULL=subprocess.DEVNULL,
        TimeoutExpired=subprocess.TimeoutExpired,
        run=subprocess.run,
    )
    vars(command)["subprocess"] = stand_in


def serve(channel: socket.socket) -> None:
    """Fork a command for each request, until the other end is closed."""
    _load()
    gc.collect()
    gc.freeze()
    # Forks that ended need no wait, and Ctrl-C ends the test process, which closes the socket.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MOST_BYTES, 3)
        if not message:
            return
        asked = json.loads(message)
        pid = os.fork()
        if pid:
            for fd in descriptors:
                os.close(fd)
            channel.send(str(pid).encode())
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        channel.close()
        os.umask(asked["umask"])
        null = os.open(os.devnull, os.O_RDWR)
        streams: list[int | None] = [*descriptors, None, None, None]
        output, errors, told = streams[:3]
        # An emulator's complaints are the test process's, as those of a child would be.
        _take_streams([null, null if output is None else output, 2 if errors is None else errors])
        for stream in (null, output, errors):
            if stream is not None:
                os.close(stream)
        environ = {_word(name): _word(value) for name, value in asked["environ"].items()}
        _become(environ, _word(asked["directory"]))
        _end_with([_word(word) for word in asked["arguments"]], told)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked_by:
        serve(asked_by)

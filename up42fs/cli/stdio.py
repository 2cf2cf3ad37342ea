"""Standard input, output and error, in whatever state they are.

Daemons and some service managers start programs with descriptors 0 to 2 closed: the next opened
file then gets such a number, and printed text goes into it. A reader of the output may exit
(`| head`), and a disk may be full (`> file`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from up42fs.cli.terminal import say

#: The exit status that a shell reports for a program that SIGPIPE ended.
PIPE_STATUS = 141


def ensure_open() -> None:
    """Open /dev/null in place of closed standard descriptors."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def guarded(work: Callable[[], int]) -> int:
    """Run `work`, flush its output, and return its status.

    If the output's reader is gone, the command ends silently, as SIGPIPE ends other programs.
    """
    status = 0
    try:
        try:
            status = work()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return PIPE_STATUS
    except OSError as error:
        _silence()
        if status == 0:
            with suppress(OSError):
                say(f"up42fs: standard output: {error.strerror}", to_error=True)
        return status or 1
    return status


def _silence() -> None:
    """Discard all further output, about which the interpreter would complain at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(null, stream.fileno())
    os.close(null)

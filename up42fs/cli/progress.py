"""Progress of long commands: a bar on a terminal that can move, lines on one that should not.

A bar redraws its line many times a second. Screen readers read each of them, and `TERM=dumb` and
recordings of a session keep them all. There, a line says now and then how far the work is. Without
a terminal nothing is said.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TextIO

from up42fs.cli.terminal import make_console, say

#: `plain` turns moving pictures into lines, on any terminal.
VARIABLE = "UP42FS_PROGRESS"
#: The least time between two lines, seconds, and the least progress.
_LINE_S = 5.0
_STEP = 0.05


class Motion(Enum):
    """How output may change on a stream."""

    NONE = "no terminal: results alone"
    LINES = "a line now and then"
    MOVING = "the cursor may move"


def motion(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Motion:
    """The abilities of a stream."""
    try:
        if not stream.isatty():
            return Motion.NONE
    except ValueError:  # closed
        return Motion.NONE
    if environ.get(VARIABLE) == "plain" or environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return Motion.LINES
    return Motion.MOVING


@contextmanager
def progress(name: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show how much of `total_bytes` is done; calls of what it yields add so many bytes."""
    how = motion(sys.stderr)
    if how is Motion.NONE:
        yield lambda _: None
    elif how is Motion.LINES:
        lines = Lines(name, total_bytes)
        yield lambda count: _say(lines.advance(count, time.monotonic()))
        _say(lines.end())
    else:
        with _bar(name, total_bytes) as advance:
            yield advance


def _say(line: str | None) -> None:
    if line is not None:
        say(line, to_error=True, flush=True)


class Lines:
    """Decides when a line is due, and what it says. Pure."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._said = 0
        self._said_at_s: float | None = None

    def advance(self, count: int, now_s: float) -> str | None:
        """Add to what is done; the line that is due, if any."""
        self._done += count
        if self._said_at_s is None:
            self._said_at_s = now_s
        is_time = now_s - self._said_at_s >= _LINE_S
        if not is_time or self._done - self._said < self._total * _STEP:
            return None
        self._said, self._said_at_s = self._done, now_s
        return self._line()

    def end(self) -> str | None:
        """The last line; None where no line was said, for what is short needs none."""
        return self._line() if self._said else None

    def _line(self) -> str:
        from rich.filesize import decimal

        share = min(1.0, self._done / self._total) if self._total else 1.0
        return f"{self._name}: {share:.0%}, {decimal(self._done)} of {decimal(self._total)}"


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=make_console(stderr=True)) as shown:
        task = shown.add_task(name, total=total)
        yield lambda count: shown.advance(task, count)

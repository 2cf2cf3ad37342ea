"""Deadlines: how long up42fs waits for others, and the last error of the work that ran out of time.

`UP42FS_HURRY=5` divides every deadline that guards against a slow or silent network by five, so
that tests of 30-second deadlines take six seconds. It is not a setting: shorter deadlines give up
on lines that are merely slow.

Work that is retried takes long *because* something is wrong. On timeout, raise the last underlying
error rather than "timed out". Which deadline fires first (the reader's, a shared request's, the
call's own) is arbitrary, so the error is recorded in a `Trouble` that all of them see: a retry
notes it in the current span, and each deadline (`within`) is such a span. Spans nest by task and by
the tasks started in them. Work that is shared has a trouble of its own (`watched`); tasks that wait
for it refer to that one (`awaiting`) until it ends.

Rejected: shorter deadlines inside longer ones. On a busy machine both fire at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

import trio

from up42fs import request_limit
from up42fs.errors import DeadlineExceeded, Up42fsError, copied

HURRY_VARIABLE = "UP42FS_HURRY"
LARGEST_HURRY = 60.0
#: Seconds within which a call is answered that asks for attributes, one that reads (the longest of
#: them), and one that may wait for a first listing. The last is shortened less: see `at_most_s`.
METADATA_S = 28.0
LONGEST_S = 35.0
LISTING_S = 103.0


def hurry(environ: Mapping[str, str]) -> float:
    """The divisor of all deadlines: 1 unless the variable holds a number from 1 to 60."""
    try:
        wanted = float(environ.get(HURRY_VARIABLE, "1"))
    except ValueError:
        return 1.0
    return wanted if 1.0 <= wanted <= LARGEST_HURRY else 1.0


def share(hurry: float, limit_s: float | None) -> float:
    """The part of every deadline that is left: 1 unless there is a hurry or a low limit."""
    left = 1.0 / hurry
    return left if limit_s is None else min(left, request_limit.usable_s(limit_s) / LONGEST_S)


#: The kernel's limit of a request, seconds, as it was when this process began; None for none.
LIMIT_S = request_limit.of_this_machine()
_HURRY = hurry(os.environ)
_SHARE = share(_HURRY, LIMIT_S)


def patient_s(seconds: float) -> float:
    """`seconds` divided by `UP42FS_HURRY`."""
    return seconds / _HURRY


def request_s(seconds: float) -> float:
    """Likewise for what a request of the kernel waits for, and less under a limit of the kernel."""
    return seconds * _SHARE


def is_enough(limit_s: float) -> bool:
    """Whether no deadline is shortened under this limit of the kernel."""
    return request_limit.usable_s(limit_s) >= LISTING_S


def at_most_s(seconds: float) -> float:
    """`seconds`, or as many as a request may take at most."""
    return seconds if LIMIT_S is None else min(seconds, request_limit.usable_s(LIMIT_S))


def boottime_s() -> float:
    """Seconds since boot, including time suspended or stopped by SIGSTOP."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Trouble:
    """The last error of one piece of work and of the work it awaits."""

    __slots__ = ("_last", "_worded", "awaited")

    def __init__(self, worded: Callable[[Up42fsError], Up42fsError] = lambda it: it) -> None:
        """`worded` rephrases an error of awaited work for this work's callers."""
        self._worded = worded
        self._last: Up42fsError | None = None
        #: The troubles of what this work awaits now.
        self.awaited: list[Trouble] = []

    def told(self) -> Up42fsError | None:
        """The work's last error, else that of awaited work, as a new exception; None if none."""
        if self._last is not None:
            return copied(self._last)
        told = next((told for other in self.awaited[::-1] if (told := other.told())), None)
        return self._worded(told) if told is not None else None

    def note(self, error: Up42fsError | None) -> None:
        """Record that the last attempt failed with `error`; None clears it."""
        self._last = error


_current: ContextVar[Trouble | None] = ContextVar("trouble", default=None)


def note(error: Up42fsError | None) -> None:
    """Record in the current work that its last attempt failed with `error`; None clears it."""
    trouble = _current.get()
    if trouble is not None:
        trouble.note(error)


class watched:  # a context manager; each request enters some, so no generator
    """Record errors of the block, and the one it ends with, in `trouble` and no other."""

    __slots__ = ("_token", "_trouble")

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    def __enter__(self) -> None:
        self._token = _current.set(self._trouble)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _current.reset(self._token)
        if isinstance(error, Up42fsError):
            self._trouble.note(error)


class awaiting:  # likewise
    """Mark the block as waiting for other work, which records its errors in `trouble`."""

    __slots__ = ("_here", "_trouble")

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    def __enter__(self) -> None:
        self._here = _current.get()
        if self._here is not None:
            self._here.awaited.append(self._trouble)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Cancellation does not end the wait: a deadline has fired and will read the trouble.
        if self._here is not None and (error is None or isinstance(error, Exception)):
            self._here.awaited.remove(self._trouble)


@contextmanager
def within(seconds: float, late: str, *, advice: str = "") -> Iterator[trio.CancelScope]:
    """Limit the block to `seconds`; after that raise its last error.

    Raises DeadlineExceeded(`late`) if there was no error. `advice` is appended to either.
    """
    trouble = Trouble()
    with awaiting(trouble), watched(trouble):
        with trio.move_on_after(seconds) as scope:
            yield scope
        if scope.cancelled_caught:
            told = trouble.told() or DeadlineExceeded(late)
            raise (type(told)(f"{told}; {advice}") if advice else told) from told.__cause__


class Turns:
    """A lock; waiting tasks refer to the trouble of the tasks that hold it meanwhile."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._trouble = Trouble()

    @property
    def are_over(self) -> bool:
        """Whether no task holds a turn or waits for one."""
        return not self._lock.locked()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it during the block."""
        if self.are_over:
            self._trouble = Trouble()
        trouble = self._trouble
        with awaiting(trouble):
            async with self._lock:
                with watched(trouble):
                    yield
                trouble.note(None)

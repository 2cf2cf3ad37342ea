"""Decides whether to wait in full for a host that answered nothing to the calls before. Pure.

Theory. A program that walks a tree needs one answer after another, and each one that never comes
takes a call's whole time: a `find` over a hundred archives would wait for an hour. The first call
that fails so is no proof, since its subject may stall alone. After `MOST_SLOW` in a row the
following ones are not waited for in full, for `AGAIN_S` after the last that was: then one of them
tries again. Their requests are made all the same, so a later call finds what they brought. A call
that succeeds ends it at once, and so does one that fails early: its host answers.

Rejected: to wait in full after a pause between two calls. A walk pauses wherever it waits for
another host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from up42fs.errors import (
    DamagedArchive,
    DeadlineExceeded,
    StillReading,
    Unavailable,
    Up42fsError,
)

#: A failure that took longer than this was waited for, seconds.
SLOW_S = 1.0
#: After so many of them in a row, the calls that follow are not waited for in full.
MOST_SLOW = 2
#: So long after one that was waited for in full, another one is, seconds.
AGAIN_S = 30.0
#: How long the others are waited for, seconds: enough for a host that is back, since somebody may
#: look again before `AGAIN_S` have passed.
BRIEFLY_S = 1.0
#: Requests without an answer that such calls may begin, so that one finds out when the host is
#: back.
MOST_BEGUN = 16


class Silence:
    """How the latest calls to one host ended. Times in seconds of one clock."""

    def __init__(self) -> None:
        self._slow = 0
        self._failed_s = -math.inf
        self._error: Up42fsError | None = None

    def told(self, now_s: float) -> Up42fsError | None:
        """The error that a call made now would most likely wait for; None: wait in full."""
        is_recent = now_s - self._failed_s <= AGAIN_S
        return self._error if self._slow >= MOST_SLOW and is_recent else None

    def ended(self, begun_s: float, now_s: float, error: Up42fsError | None = None) -> None:
        """Note how a call ended that was waited for in full."""
        if _is_vain(error) and now_s - begun_s > SLOW_S:
            self._slow, self._failed_s, self._error = self._slow + 1, now_s, error
        else:
            self._slow, self._error = 0, None

    @contextmanager
    def waited_for(self, clock: Callable[[], float]) -> Iterator[None]:
        """Note how the call within ends, which is waited for in full."""
        begun_s = clock()
        try:
            yield
        except Up42fsError as error:
            self.ended(begun_s, clock(), error)
            raise
        self.ended(begun_s, clock())

    def ended_early(self, error: Up42fsError | None = None) -> None:
        """Note how a call ended that was not waited for in full, but got an answer or an error."""
        if not _is_vain(error):
            self._slow, self._error = 0, None


def _is_vain(error: Up42fsError | None) -> bool:
    """Whether nobody may have answered."""
    is_late = isinstance(error, DeadlineExceeded | Unavailable)
    return is_late and not isinstance(error, DamagedArchive | StillReading)

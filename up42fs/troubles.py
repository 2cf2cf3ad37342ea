"""What goes wrong with work under way, for whoever runs out of time waiting for it.

Knows nothing of what is done or waited for.

Theory. Work that is tried again and again takes long *because* something is wrong. Who waits for it
and is out of time should hear that, and not only that it took long; whose deadline strikes first,
the reader's, a flight's or the call's own, is chance. So who tries again notes the last failure in
the *trouble* of the span of code that runs, and each deadline (`within`) is such a span, and asks
it. Spans nest by task and by the tasks started in them. Work done for several has a trouble of its
own (`watched`), which those who wait for it in other tasks refer to (`awaiting`).
What was awaited is forgotten when it ends, well or not; but not when it is cancelled: then a
deadline has struck, and is about to ask.
Rejected: shorter deadlines inside, longer ones outside. On a busy machine both strike at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

import trio

from up42fs.errors import DeadlineExceeded, Up42fsError


class Trouble:
    """What is the matter with one piece of work."""

    __slots__ = ("_awaited", "_last", "_worded")

    def __init__(self, worded: Callable[[Up42fsError], Up42fsError] = lambda it: it) -> None:
        """`worded` puts what the work awaits into its own words."""
        self._worded = worded
        self._last: Up42fsError | None = None
        self._awaited: list[Trouble] = []

    def told(self) -> Up42fsError | None:
        """The last failure of it, else of what it awaits, as an error to raise; None if none."""
        if self._last is not None:
            error = type(self._last)(*self._last.args)
            error.__cause__ = self._last.__cause__
            return error
        told = next((told for other in self._awaited[::-1] if (told := other.told())), None)
        return self._worded(told) if told is not None else None

    def note(self, error: Up42fsError | None) -> None:
        """The last attempt ended with `error`; None where that is over."""
        self._last = error

    def begin(self, other: Trouble) -> None:
        """This work awaits `other`."""
        self._awaited.append(other)

    def end(self, other: Trouble) -> None:
        """It does no longer."""
        self._awaited.remove(other)


_current: ContextVar[Trouble | None] = ContextVar("trouble", default=None)


def note(error: Up42fsError | None) -> None:
    """The last attempt of the work that runs here ended with `error`; None where that is over."""
    trouble = _current.get()
    if trouble is not None:
        trouble.note(error)


@contextmanager
def watched(trouble: Trouble) -> Iterator[None]:
    """What runs here is told of in `trouble`, and in no other; also how it ended."""
    token = _current.set(trouble)
    try:
        yield
    except Up42fsError as error:
        trouble.note(error)
        raise
    finally:
        _current.reset(token)


@contextmanager
def awaiting(trouble: Trouble) -> Iterator[None]:
    """What runs here waits for other work, whose trouble is its own."""
    here = _current.get()
    if here is None:
        yield
        return
    here.begin(trouble)
    try:
        yield
    except Exception:
        here.end(trouble)
        raise
    here.end(trouble)


@contextmanager
def within(seconds: float, late: str, *, advice: str = "") -> Iterator[trio.CancelScope]:
    """Give what runs here `seconds`; after that raise the last trouble with it.

    Raises DeadlineExceeded(`late`) where nothing went wrong but that it took so long. `advice` is
    added to either.
    """
    trouble = Trouble()
    with awaiting(trouble), watched(trouble):
        with trio.move_on_after(seconds) as scope:
            yield scope
        if scope.cancelled_caught:
            told = trouble.told() or DeadlineExceeded(late)
            raise (type(told)(f"{told}; {advice}") if advice else told) from told.__cause__


class Turns:
    """A lock; who waits for a turn refers to the trouble of who has it, or had it meanwhile."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._trouble = Trouble()

    @property
    def are_over(self) -> bool:
        """Whether nobody has a turn or waits for one."""
        return not self._lock.locked()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it."""
        if self.are_over:
            self._trouble = Trouble()
        trouble = self._trouble
        with awaiting(trouble):
            async with self._lock:
                with watched(trouble):
                    yield
                trouble.note(None)

"""Background work under one supervisor: a failure stays with the work that failed.

Knows tasks and how a failure is reported; nothing of what they do.

Theory. trio ends a nursery, and with it the whole mount, when one of its tasks raises. Readers must
not pay for that: a program that has no mount any more sees an empty directory, and a backup then
deletes its copies. So every task of the mount's nursery is started through `start` or
`start_for_good`:

- `contained` runs a piece of work once. Its failure ends that piece of work and nothing else. The
  work itself tells those who wait for it; `failure` gives the error to tell them.
- `kept_going` runs work that goes on for the life of a mount. After a failure it starts again,
  after a pause that doubles with each failure in a row.

Memory, threads and descriptors may be used up by other programs at any moment, so any line can
raise MemoryError, OSError or RuntimeError("can't start new thread"). Hence nothing here needs more
than a little memory, and a report that cannot be written is dropped.
Cancellation passes, as do KeyboardInterrupt and SystemExit.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVarTuple

import trio

from up42fs.errors import NoMemory, Unavailable, Up42fsError

log = logging.getLogger(__name__)

#: Pauses before work is started again: the first, and the longest, seconds.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0

Ts = TypeVarTuple("Ts")

#: Other programs may give it back in a moment: memory, processes, descriptors, room on disk.
_PASSING = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)


def next_pause_s(pause_s: float, ran_s: float) -> float:
    """The pause after work failed that ran for `ran_s`, where the last pause was `pause_s`.

    Work that ran for longer than the longest pause was healthy: the pauses begin anew.
    """
    if pause_s <= 0 or ran_s > LONGEST_PAUSE_S:
        return FIRST_PAUSE_S
    return min(pause_s * 2, LONGEST_PAUSE_S)


def failure(error: BaseException, what: str) -> Up42fsError:
    """The error to tell those who wait for work that raised `error`; groups are opened.

    An error that was raised on purpose stays; what was not becomes ENOMEM or EIO. `what` names
    the work: "signing a link".
    """
    found = list(leaves(error))
    for leaf in found:
        if isinstance(leaf, Up42fsError):
            return leaf
    first = found[0]
    if is_short_of_memory(first):
        return NoMemory(f"{what} failed: this machine has no memory left for it; try again")
    return Unavailable(f"{what} failed: {words(first)}; try again")


def is_short_of_memory(error: BaseException) -> bool:
    """Whether it was the machine's memory that gave out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError)


def is_short_of_anything(error: BaseException) -> bool:
    """Whether memory, threads, descriptors or room on disk gave out: another time it may work."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, MemoryError) or is_short_of_threads(error)


def is_short_of_threads(error: BaseException) -> bool:
    """Whether Python could not start a thread."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, however deep; an error that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def start(nursery: trio.Nursery, work: Callable[[*Ts], Awaitable[object]], *arguments: *Ts) -> None:
    """Start a task of `nursery` that is `contained`."""
    nursery.start_soon(contained, work, *arguments, name=work)


def start_for_good(
    nursery: trio.Nursery, work: Callable[[*Ts], Awaitable[object]], *arguments: *Ts
) -> None:
    """Start a task of `nursery` that is `kept_going`."""
    nursery.start_soon(kept_going, work, *arguments, name=work)


async def contained(work: Callable[[*Ts], Awaitable[object]], *arguments: *Ts) -> None:
    """Run `work` once; its failure is reported and goes no further."""
    await _failed(work, arguments)


async def kept_going(work: Callable[[*Ts], Awaitable[object]], *arguments: *Ts) -> None:
    """Run `work` to its end; where it fails, begin it again after a pause."""
    pause_s = 0.0
    while True:
        began_s = trio.current_time()
        if not await _failed(work, arguments):
            return
        pause_s = next_pause_s(pause_s, trio.current_time() - began_s)
        await trio.sleep(pause_s)


async def _failed(work: Callable[[*Ts], Awaitable[object]], arguments: tuple[*Ts]) -> bool:
    try:
        await work(*arguments)
    except BaseException as error:
        failed, rest = _parts(error)
        if failed is not None:
            report(work, failed)
        if rest is not None:
            raise rest from None
        return True
    return False


def _parts(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What of `error` is a failure, and what is a cancellation or the process's end."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)
    return (error, None) if isinstance(error, Exception) else (None, error)


def report(work: object, error: BaseException) -> None:
    """Log one failure with its traceback; where even that fails, say nothing."""
    try:
        name = getattr(work, "__qualname__", None) or repr(work)
        log.error("%s failed unexpectedly: %s", name, words(error), exc_info=error)
    except Exception:
        # No memory for the line: the mount goes on without it.
        return


def words(error: BaseException) -> str:
    """What an error says, with its kind."""
    return repr(error) if str(error) else type(error).__name__

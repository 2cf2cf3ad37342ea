"""Background work under one supervisor: a failure stays with the work that failed.

Theory. trio ends a nursery, and with it the whole mount, when one of its tasks raises. Readers must
not pay for that: once its mount is gone, a program sees an empty directory, and a backup then
deletes its copies. So every task of the mount's nursery is started through `start` or
`start_for_good`:

- `contained` runs a piece of work once. Its failure ends that piece of work and nothing else. The
  work itself reports to the tasks that wait for it; `failure` makes the error to raise there.
- `kept_going` runs work that continues for the life of a mount. After a failure it starts again,
  after a pause that doubles with each failure in a row.

Other programs may use up memory, threads and descriptors at any moment, so any line can raise
MemoryError, OSError or RuntimeError("can't start new thread"). Hence nothing here needs more than a
little memory, and a report that cannot be written is dropped. Cancellation passes through, as do
KeyboardInterrupt and SystemExit.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TypeVarTuple

import trio

from up42fs.errors import NoMemory, Unavailable, Up42fsError

log = logging.getLogger(__name__)

#: Pauses before work is started again: the first, and the longest, seconds.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0

#: About 1 MiB in all: the interpreter keeps objects of up to 512 bytes in areas of that size.
_SPARE_PIECE_BYTES = 470
_SPARE_PIECES = 2048
_SPARE_ANCHORS = 256

Ts = TypeVarTuple("Ts")

#: Other programs may free these in a moment: memory, processes, descriptors, disk space.
_PASSING = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)


def next_pause_s(pause_s: float, ran_s: float) -> float:
    """The pause after failed work that ran for `ran_s`, if the last pause was `pause_s`; seconds.

    Work that ran for longer than the longest pause was healthy: the pauses begin anew.
    """
    if pause_s <= 0 or ran_s > LONGEST_PAUSE_S:
        return FIRST_PAUSE_S
    return min(pause_s * 2, LONGEST_PAUSE_S)


def failure(error: BaseException, what: str) -> Up42fsError:
    """The error to raise for callers that wait for work that raised `error`, also in a group.

    An `Up42fsError` stays; any other error becomes ENOMEM or EIO. `what` names the work: "signing a
    link".
    """
    found = list(leaves(error))
    for leaf in found:
        if isinstance(leaf, Up42fsError):
            return leaf
    first = found[0]
    if is_short_of_memory(first):
        return NoMemory(f"{what} failed: this machine has no memory left for it; try again")
    return Unavailable(f"{what} failed: {words(first)}; try again")


class Spare:
    """Memory for small objects, kept until there is none left.

    Requests, tasks and exceptions are small objects. trio's own loop needs some at every step, and
    a MemoryError there ends all tasks at once. Larger pieces run out before, so the first error of
    these frees what is kept, and small objects fit in there for a while.
    """

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._anchors: list[bytes] = []

    def fill(self) -> None:
        """Keep memory, unless it is kept already or there is too little."""
        if self._kept:
            return
        with suppress(MemoryError):
            kept = [bytes(_SPARE_PIECE_BYTES) for _ in range(_SPARE_PIECES)]
            # The interpreter gives an area back to the system where nothing of it is in use, and
            # somebody's larger piece may then take it.
            self._anchors = kept[::_SPARE_ANCHORS]
            self._kept = kept

    def release(self) -> None:
        """Free what is kept."""
        self._kept = []

    def __len__(self) -> int:
        return len(self._kept)


#: That of this process; empty, and of no effect, until somebody fills it.
SPARE = Spare()


def is_short_of_memory(error: BaseException) -> bool:
    """Whether the machine's memory ran out; frees what is kept for that."""
    if isinstance(error, MemoryError):
        SPARE.release()
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError)


def is_short_of_anything(error: BaseException) -> bool:
    """Whether memory, threads, descriptors or disk space ran out: a retry may work."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return is_short_of_memory(error) or is_short_of_threads(error)


def is_short_of_threads(error: BaseException) -> bool:
    """Whether Python could not start a thread."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, however deep; for an error that is no group the error itself."""
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
    """Run `work` once; its failure is logged and goes no further."""
    await _failed(work, arguments)


async def kept_going(work: Callable[[*Ts], Awaitable[object]], *arguments: *Ts) -> None:
    """Run `work` to its end; if it fails, start it again after a pause."""
    pause_s = 0.0
    while True:
        began_s = trio.current_time()
        if not await _failed(work, arguments):
            return
        pause_s = next_pause_s(pause_s, trio.current_time() - began_s)
        await trio.sleep(pause_s)


async def repeated(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Run `work` every `every_s` seconds, and once more when cancelled."""
    try:
        while True:
            await work()
            await trio.sleep(every_s)
    finally:
        with trio.CancelScope(shield=True):
            await work()


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
    """Split `error` into its failures and its cancellations or process exits."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)
    return (error, None) if isinstance(error, Exception) else (None, error)


def report(work: object, error: BaseException) -> None:
    """Log one failure with its traceback; if even that fails, do nothing."""
    try:
        name = getattr(work, "__qualname__", None) or repr(work)
        log.error("%s failed unexpectedly: %s", name, words(error), exc_info=error)
    except Exception:
        # No memory for the line: the mount continues without it.
        return


def words(error: BaseException) -> str:
    """An error's message, with its type."""
    return repr(error) if str(error) else type(error).__name__

"""Requests that wait, and when a signal of their reader ends them.

Knows the signals of a thread as /proc shows them, and how a wait is ended; nothing of requests.

Theory. The kernel sends one INTERRUPT for a request, at the first signal that wakes its reader, of
whatever kind. It then waits for the answer, even where the reader was killed. So:

1. A wait is ended (EINTR) only where the reader ends as well: a signal whose default action is to
   end it, or SIGKILL. A signal that the program handles is none of ours: it did not ask for a
   failed read, and a handler with SA_RESTART expects that there is none.
2. SIGINT and SIGTERM ask a program to stop. One that handles them hears of it only when its call
   returns, so they end the wait, too. Interpreters run the handler then, and repeat the call.
   They may be another thread's to take, so they must be seen pending twice.
3. No second INTERRUPT comes. So whoever was interrupted and goes on waiting is looked at again.
4. Reads with O_DIRECT are sent in the background: no INTERRUPT comes for them, and their readers
   cannot be killed. They are looked at from the beginning.

5. A reader that /proc does not show (hidepid) is asked for in another way, which knows no more than
   whether it ends (`dying`). Of one that nobody knows (another PID namespace: its number is 0, or
   one of others where /proc is another namespace's) there is the INTERRUPT alone. Most are of
   people who want to end something, and most calls take far less than `UNSEEN_S`: so a wait is
   ended that lasts as long after the INTERRUPT.

To look at one takes 30 µs, so only `MOST_AT_ONCE` are looked at every `LOOK_S` seconds, in turn.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import trio

from up42fs import supervise
from up42fs.fuse import dying

#: How often waits are looked at, seconds, and how many at a time.
LOOK_S = 0.03
MOST_AT_ONCE = 32
#: How long a reader of which nothing is known goes on after a signal, seconds.
UNSEEN_S = 5.0
_PROC = Path("/proc")
#: In the flags of /proc/PID/stat: the thread is on its way out.
_EXITING = 0x4


def _mask(*signals: signal.Signals) -> int:
    return sum(1 << number - 1 for number in signals)


_KILL = _mask(signal.SIGKILL)
_ASKED = _mask(signal.SIGINT, signal.SIGTERM)
#: By default they are ignored, or stop the program for a while.
_HARMLESS = _mask(
    signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
_FIELDS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


class Fate(Enum):
    """What the pending signals of a thread mean for the call it waits in."""

    GOES_ON = "goes on"
    ASKED = "asked to stop"
    ENDS = "ends"
    UNSEEN = "not seen"


def fate(status: str) -> Fate:
    """What /proc/TID/status says of a thread."""
    lines = dict(line.partition(":\t")[::2] for line in status.splitlines())
    try:
        own, shared, blocked, ignored, caught = (int(lines[field], 16) for field in _FIELDS)
        is_traced = int(lines.get("TracerPid", "0")) != 0
    except (KeyError, ValueError):
        return Fate.GOES_ON
    pending = own | shared
    if pending & _KILL:
        return Fate.ENDS
    pending &= ~(blocked | ignored)
    if is_traced:
        return Fate.GOES_ON  # the debugger decides what becomes of it
    if pending & ~caught & ~_HARMLESS:
        return Fate.ENDS
    return Fate.ASKED if pending & caught & _ASKED else Fate.GOES_ON


def is_exiting(stat: str) -> bool:
    """Whether /proc/TID/stat says that the thread waits on its way out."""
    fields = stat.rpartition(")")[2].split()
    return len(fields) > 6 and fields[0] == "D" and bool(int(fields[6]) & _EXITING)


@dataclass(slots=True, eq=False)
class Wait:
    """A request that waits: its reader's thread, and what ends it with EINTR."""

    thread_id: int
    end: Callable[[], None]
    is_deaf: bool = False
    was_asked: bool = False
    woken_s: float | None = None  # when the INTERRUPT came, on trio's clock


class Interrupts:
    """The waiting requests of one mount, by their numbers. Looking runs in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        proc: Path = _PROC,
        is_dying: Callable[[int], bool | None] = dying.is_dying,
    ) -> None:
        self._nursery = nursery
        self._proc = proc
        self._is_dying = is_dying
        self._is_proc_ours = _own_number(proc) == os.getpid()
        self._waits: dict[int, Wait] = {}
        self._looked_at: dict[int, Wait] = {}  # in turn
        self._is_looking = False  # begun again where it fails, so never left without one

    def begin(self, unique: int, wait: Wait) -> None:
        """A request waits from now on."""
        self._waits[unique] = wait
        if wait.is_deaf:
            self._look_later(unique, wait)

    def over(self, unique: int) -> None:
        """It does no longer."""
        self._waits.pop(unique, None)
        self._looked_at.pop(unique, None)

    def interrupted(self, unique: int) -> None:
        """The kernel says that a signal woke the reader."""
        wait = self._waits.get(unique)
        if wait is None:
            return
        wait.woken_s = trio.current_time()
        if not self._is_ended(wait, self._seen(wait)):
            self._look_later(unique, wait)

    def __len__(self) -> int:
        return len(self._waits)

    def _look_later(self, unique: int, wait: Wait) -> None:
        self._looked_at[unique] = wait
        if not self._is_looking:
            self._is_looking = True
            supervise.start_for_good(self._nursery, self._look)

    async def _look(self) -> None:
        while self._looked_at:
            await trio.sleep(LOOK_S)
            for unique in list(self._looked_at)[:MOST_AT_ONCE]:
                wait = self._looked_at.pop(unique, None)
                if wait is None:
                    continue  # answered while another was asked for
                self._looked_at[unique] = wait  # it comes last from now on
                found = self._seen(wait)
                if found is Fate.UNSEEN:
                    found = await self._unseen(wait)
                    if unique not in self._looked_at:
                        continue  # answered meanwhile
                if self._is_ended(wait, found):
                    self._looked_at.pop(unique, None)
        self._is_looking = False

    def _is_ended(self, wait: Wait, found: Fate) -> bool:
        """Whether a reader of this fate ends, and the wait with it."""
        if found is Fate.ENDS or (found is Fate.ASKED and wait.was_asked):
            wait.end()
            return True
        wait.was_asked = found is Fate.ASKED
        return False

    async def _unseen(self, wait: Wait) -> Fate:
        """The fate of a reader that /proc does not show."""
        is_dying: bool | None = None
        if wait.thread_id > 0:
            with trio.move_on_after(UNSEEN_S):
                is_dying = await trio.to_thread.run_sync(
                    self._is_dying, wait.thread_id, abandon_on_cancel=True
                )
        if is_dying is not None:
            return Fate.ENDS if is_dying else Fate.GOES_ON
        is_late = wait.woken_s is not None and trio.current_time() >= wait.woken_s + UNSEEN_S
        return Fate.ENDS if is_late else Fate.GOES_ON

    def _seen(self, wait: Wait) -> Fate:
        if wait.thread_id <= 0 or not self._is_proc_ours:
            return Fate.UNSEEN
        thread = self._proc / str(wait.thread_id)
        try:
            # The kernel writes both on the spot: reading them waits for nothing.
            found = fate((thread / "status").read_text(encoding="utf-8", errors="replace"))
            if found is Fate.GOES_ON and wait.is_deaf:
                stat = (thread / "stat").read_text(encoding="utf-8", errors="replace")
                return Fate.ENDS if is_exiting(stat) else found
        except (OSError, ValueError):
            return Fate.UNSEEN
        return found


def _own_number(proc: Path) -> int | None:
    """This process's number as `proc` has it: other than its own where that is of others."""
    try:
        return int((proc / "self").readlink().name)
    except (OSError, ValueError):
        return None

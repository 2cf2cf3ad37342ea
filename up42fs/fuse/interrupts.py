"""Decides when a signal to its caller ends a waiting request.

Theory. The kernel sends one INTERRUPT for a request, at the first signal of any kind that wakes its
caller. It then waits for the answer, even if the caller was killed. So:

1. A wait ends with EINTR only if the caller exits as well: on SIGKILL, or a signal whose default
   action is to terminate it. A signal that the program handles does not end the wait: the program
   does not expect a read to fail, and a handler with SA_RESTART relies on that.
2. SIGINT and SIGTERM request a program to stop. A program that handles them notices only when its
   call returns, so they end the wait, too. Interpreters then run the handler, and repeat the call.
   Another thread may be the one to handle them, so they must be seen pending twice.
3. No second INTERRUPT comes. So an interrupted caller that goes on waiting is checked again.
4. Reads with O_DIRECT are sent in the background: no INTERRUPT comes for them, and their callers
   cannot be killed. They are checked from the start.
5. If /proc does not show the caller (hidepid), `is_dying` asks the kernel whether it exits. A
   caller in another PID namespace (its number is 0, or /proc belongs to another namespace) cannot
   be looked up at all. Most interrupts come from people who want to stop a program, and most calls
   take far less than `UNSEEN_S`; so such a wait ends that long after its INTERRUPT.

A check takes 30 µs, so only `MOST_AT_ONCE` callers are checked every `LOOK_S` seconds, in turn.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import trio

from up42fs import supervise

#: Interval between checks of waits, seconds, and how many are checked at a time.
LOOK_S = 0.03
MOST_AT_ONCE = 32
#: How long a reader of which nothing is known goes on after a signal, seconds.
UNSEEN_S = 5.0
_PROC = Path("/proc")
#: Flag in /proc/PID/stat: the thread is exiting.
_EXITING = 0x4
_PROCESS_MRELEASE = 448
_libc = ctypes.CDLL(None, use_errno=True)


def _mask(*signals: signal.Signals) -> int:
    return sum(1 << number - 1 for number in signals)


_KILL = _mask(signal.SIGKILL)
_ASKED = _mask(signal.SIGINT, signal.SIGTERM)
#: By default these are ignored, or stop the program for a while.
_HARMLESS = _mask(
    signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
_FIELDS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


class Fate(Enum):
    """The effect of a thread's pending signals on the call it waits in."""

    GOES_ON = "goes on"
    ASKED = "asked to stop"
    ENDS = "ends"
    UNSEEN = "not seen"


def fate(status: str) -> Fate:
    """Derive a thread's fate from the text of /proc/TID/status."""
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
        return Fate.GOES_ON  # the debugger handles its signals
    if pending & ~caught & ~_HARMLESS:
        return Fate.ENDS
    return Fate.ASKED if pending & caught & _ASKED else Fate.GOES_ON


def is_exiting(stat: str) -> bool:
    """Whether /proc/TID/stat shows a thread that waits while it exits."""
    fields = stat.rpartition(")")[2].split()
    return len(fields) > 6 and fields[0] == "D" and bool(int(fields[6]) & _EXITING)


def is_dying(process_id: int) -> bool | None:
    """Ask the kernel whether a process exits; None if it does not say. Blocks: call it in a thread.

    `process_mrelease` frees the memory of a process that a signal has killed and that has not
    exited yet. Any user may call it for any process, and it fails with EINVAL if the process was
    not killed. So it works where /proc hides other users' processes (hidepid), and does no harm.
    It knows no threads, and ignores signals that the program handles, or that write a core file.
    If system calls are filtered it is not called: some filters kill a process for an unknown call.
    """
    if _are_calls_filtered():
        return None
    try:
        descriptor = os.pidfd_open(process_id)
    except (OSError, AttributeError):  # another thread than its first, or an old kernel
        return None
    try:
        if _libc.syscall(_PROCESS_MRELEASE, descriptor, 0) == 0:
            return True
        number = ctypes.get_errno()
        return {errno.EINVAL: False, errno.EAGAIN: True}.get(number)
    finally:
        os.close(descriptor)


def _are_calls_filtered() -> bool:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    return "Seccomp:\t0" not in lines


@dataclass(slots=True, eq=False)
class Wait:
    """A waiting request: its caller's thread, and the function that ends it with EINTR."""

    thread_id: int
    end: Callable[[], None]
    is_deaf: bool = False
    was_asked: bool = False
    woken_s: float | None = None  # when the INTERRUPT came, on trio's clock


class Interrupts:
    """The waiting requests of one mount, by their numbers. Checks run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        proc: Path = _PROC,
        is_dying: Callable[[int], bool | None] = is_dying,
    ) -> None:
        self._nursery = nursery
        self._proc = proc
        self._is_dying = is_dying
        self._is_proc_ours = _own_number(proc) == os.getpid()
        self._waits: dict[int, Wait] = {}
        self._looked_at: dict[int, Wait] = {}  # in turn
        self._is_over = False
        self._is_looking = False  # begun again where it fails, so never left without one

    def begin(self, unique: int, wait: Wait) -> None:
        """Register a request that starts to wait."""
        if self._is_over:
            wait.end()
            return
        self._waits[unique] = wait
        if wait.is_deaf:
            self._look_later(unique, wait)

    def over(self, unique: int) -> None:
        """Unregister a request that no longer waits."""
        self._waits.pop(unique, None)
        self._looked_at.pop(unique, None)

    def interrupted(self, unique: int) -> None:
        """Handle the kernel's INTERRUPT: a signal woke the caller."""
        wait = self._waits.get(unique)
        if wait is None:
            return
        wait.woken_s = trio.current_time()
        if not self._is_ended(wait, self._seen(wait)):
            self._look_later(unique, wait)

    def end_all(self) -> None:
        """End every wait, whatever its caller does, and those that begin later."""
        self._is_over = True
        for wait in list(self._waits.values()):
            wait.end()

    def __len__(self) -> int:
        return len(self._waits)

    def _look_later(self, unique: int, wait: Wait) -> None:
        self._looked_at[unique] = wait
        if not self._is_looking:
            supervise.start_for_good(self._nursery, self._look)
            self._is_looking = True

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
        is_dying = None
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
            # The kernel generates both files in memory, so reading them does not block.
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

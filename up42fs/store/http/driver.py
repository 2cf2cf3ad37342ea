"""A thread that drives requests: starts them, follows them, ends them.

Knows transfers and attempts; nothing of which bytes are requested or why.

Theory. One thread drives many requests. It spends most time decrypting, without the interpreter's
lock. Between two rounds it looks at each transfer once: all bytes that arrived since are reported
together, so readers are woken once a round and the lock is taken once a round, not once a record.
The rounds grow by themselves as bytes come faster. `wake` signals new requests and cancelled ones.
`Attempt.on_over` signals the waiting task; after it nothing here writes to the attempt's memory.

A thread that fails is dead: it takes no more requests, its running ones end as lost, and `drivers`
replaces it. A thread that completes no round for `STUCK_S` although it has requests is stuck (in a
resolver, on a machine without memory): new requests go to other threads until it moves again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import pycurl

from up42fs.deadlines import patient_s
from up42fs.store.http.attempt import Attempt
from up42fs.store.http.libcurl import Multi, Transfer

log = logging.getLogger(__name__)

#: A thread that has requests but completes no round for so long is stuck, seconds.
STUCK_S = patient_s(5.0)
#: Interval between checks for stalls, milliseconds.
_LOOK_MS = 250
_IDLE_MS = 60_000


class Prepare(Protocol):
    """Sets the options of a transfer."""

    def __call__(self, transfer: Transfer, attempt: Attempt, /) -> None:
        """Configure `transfer` for the request of `attempt`."""
        ...


class _Line:
    """A transfer and the attempt that it currently serves."""

    def __init__(self, configure: Callable[[Transfer], None]) -> None:
        self.attempt: Attempt | None = None
        self.transfer = Transfer(self._on_header, self._on_body, self._on_address)
        configure(self.transfer)

    def follow(self) -> bool:
        """Report the bytes that arrived; return whether to go on."""
        attempt = self.attempt
        assert attempt is not None, "it runs"
        if not attempt.was_heard and not self.transfer.was_sent:
            attempt.on_connecting()
        return attempt.on_placed(self.transfer.placed)

    def _on_header(self, line: bytes) -> bool:
        attempt = self.attempt
        if attempt is None or not attempt.on_header(line):
            return False
        if attempt.place is not None and not self.transfer.is_placed:
            self.transfer.place(attempt.place)
        return True

    def _on_address(self, address: str | None) -> bool:
        attempt = self.attempt
        if attempt is None:
            return False
        if address is None:
            attempt.on_no_socket()
            return False
        return attempt.on_address(address)

    def _on_body(self, data: bytes) -> bool:
        return self.attempt is not None and self.attempt.on_body(data)


class Driver:
    """Drives attempts until `close`. Call its methods from one thread, usually trio's."""

    def __init__(
        self, connections: int, configure: Callable[[Transfer], None], prepare: Prepare
    ) -> None:
        self._connections = connections
        self._configure = configure
        self._prepare = prepare
        self._lock = threading.Lock()  # over `_multi`, `_thread`, `_inbox`, and the flags
        self._multi: Multi | None = None
        self._thread: threading.Thread | None = None
        self._is_to_reset = False
        self._is_over = False
        self._moved_at_s = time.monotonic()
        self._inbox: deque[Attempt] = deque()
        self._running: dict[int, _Line] = {}
        self._idle: list[_Line] = []

    @property
    def busy(self) -> int:
        """Number of requests queued or running."""
        return len(self._running) + len(self._inbox)

    @property
    def is_over(self) -> bool:
        """Whether it was closed or has failed, and takes no more requests."""
        return self._is_over

    @property
    def is_stuck(self) -> bool:
        """Whether its thread has completed no round for `STUCK_S` although it has requests."""
        return self.busy > 0 and time.monotonic() - self._moved_at_s > STUCK_S

    def submit(self, attempt: Attempt) -> bool:
        """Start `attempt`; False after `close` or a failure. Raises if no thread can be started."""
        with self._lock:
            if self._is_over:
                return False
            if not self.busy:
                self._moved_at_s = time.monotonic()  # the thread may have been idle for long
            if self._thread is None:
                self._start()
            self._inbox.append(attempt)
        self.wake()
        return True

    def wake(self) -> None:
        """Wake the thread, because an attempt was stopped."""
        with self._lock:
            if self._multi is not None:
                self._multi.wake()

    def reset(self) -> None:
        """End all running requests as broken, and reuse none of their connections."""
        for attempt in list(self._inbox):
            attempt.stop = True
        self._is_to_reset = True
        self.wake()

    def close(self) -> None:
        """End all running requests as broken, for good."""
        self._is_over = True
        self.wake()

    def _start(self) -> None:
        multi = Multi(self._connections)
        thread = threading.Thread(target=self._run, name="up42fs-net", daemon=True)
        self._multi = multi  # before `start`: the thread needs it at once
        try:
            thread.start()
        except BaseException:
            self._multi = None
            multi.close()
            raise
        self._thread = thread

    # in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_over:
                self._turn()
            self._renew(None)
        except BaseException:
            log.exception("a thread that moves bytes failed; another one takes its place")
            self._give_up()
        else:
            self._refuse()

    def _give_up(self) -> None:
        """End everything as lost. libcurl's results no longer count, since the thread failed."""
        with self._lock:
            self._is_over = True
            multi, self._multi = self._multi, None
            lost = [line.attempt for line in self._running.values()] + list(self._inbox)
            self._inbox.clear()
        for line in (*self._running.values(), *self._idle):
            with suppress(Exception):
                if multi is not None and line.attempt is not None:
                    multi.remove(line.transfer)
                line.transfer.end()
                line.transfer.close()
        if multi is not None:
            multi.close()
        self._running.clear()
        self._idle.clear()

        # Not earlier: this thread was the only writer, and from here on it writes nothing.
        for attempt in lost:
            if attempt is not None:
                attempt.lose()

    def _turn(self) -> None:
        multi = self._multi
        assert multi is not None, "the thread runs"
        self._moved_at_s = time.monotonic()
        if self._is_to_reset:
            self._is_to_reset = False
            multi = Multi(self._connections)
            self._renew(multi)
        while self._inbox:
            self._begin(multi, self._inbox.popleft())
        multi.perform()
        for key, code in multi.ended():
            line = self._running[key]
            line.follow()
            self._end(multi, line, code)
        now_s = time.monotonic()
        for line in list(self._running.values()):
            if not line.follow() or (line.attempt and line.attempt.has_stalled(now_s)):
                self._end(multi, line, pycurl.E_WRITE_ERROR)
        multi.wait(_LOOK_MS if self._running else _IDLE_MS)

    def _begin(self, multi: Multi, attempt: Attempt) -> None:
        line: _Line | None = None
        try:
            line = self._idle.pop() if self._idle else _Line(self._configure)
            line.attempt = attempt
            self._prepare(line.transfer, attempt)
            multi.add(line.transfer)
        except Exception:  # for example no memory; the other requests go on
            log.exception("a request to the object store could not be begun")
            if line is not None:
                line.attempt = None
                line.transfer.end()
                self._idle.append(line)
            attempt.lose()
        else:
            self._running[line.transfer.key] = line

    def _end(self, multi: Multi, line: _Line, code: int) -> None:
        was_sent = line.transfer.was_sent
        multi.remove(line.transfer)
        line.transfer.end()
        # A failure before this line leaves the attempt in `_running`, so that it is ended later.
        del self._running[line.transfer.key]
        attempt, line.attempt = line.attempt, None
        assert attempt is not None, "it ran"
        self._idle.append(line)
        attempt.end(code, was_sent=was_sent)

    def _renew(self, multi: Multi | None) -> None:
        """Replace the multi handle by `multi`; None at the end of the thread."""
        old = self._multi
        assert old is not None, "the thread runs"
        for line in list(self._running.values()):
            if line.attempt is not None:
                line.attempt.stop = True
            self._end(old, line, pycurl.E_WRITE_ERROR)
        idle, self._idle = self._idle, []
        for line in idle:
            line.transfer.close()
        with self._lock:
            self._multi = multi
        old.close()

    def _refuse(self) -> None:
        with self._lock:
            refused = list(self._inbox)
            self._inbox.clear()
        for attempt in refused:
            attempt.refuse()

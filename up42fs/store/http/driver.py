"""A thread that moves bytes: begins requests, follows them, ends them.

Knows transfers and attempts; nothing of what is asked or why.

Theory. One thread drives many requests. Decrypting is what it does most, without the interpreter's
lock. Between two rounds it looks at each transfer once: bytes that came meanwhile, however many,
are reported together, so readers are woken once a round and the lock is taken once a round, not
once a record. The rounds grow by themselves as bytes come faster. It is told of new and of unwanted
requests through `wake`.
The one that waits is told by `Attempt.on_over`: after it nothing here writes to the attempt's
memory.

A thread that fails is dead: it takes nothing more, its requests end as lost, and `drivers` puts
another in its place. A thread that makes no turn for `STUCK_S` although it has requests is stuck
(in a resolver, on a machine without memory): new requests go elsewhere until it moves again.
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

#: With requests, but without a turn for so long, a thread is stuck, seconds.
STUCK_S = patient_s(5.0)
#: How often it looks for stalls, milliseconds.
_LOOK_MS = 250
_IDLE_MS = 60_000


class Prepare(Protocol):
    """Sets the options of a transfer."""

    def __call__(self, transfer: Transfer, attempt: Attempt, /) -> None:
        """Make `transfer` the request of `attempt`."""
        ...


class _Line:
    """A transfer, and whose request it carries now."""

    def __init__(self, configure: Callable[[Transfer], None]) -> None:
        self.attempt: Attempt | None = None
        self.transfer = Transfer(self._on_header, self._on_body, self._on_address)
        configure(self.transfer)

    def follow(self) -> bool:
        """Report what came; whether to go on."""
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
    """Drives attempts until `close`. Methods are the trio thread's, or any one thread's."""

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
        """Requests under way."""
        return len(self._running) + len(self._inbox)

    @property
    def is_over(self) -> bool:
        """Whether it was closed or has failed: it takes no more requests."""
        return self._is_over

    @property
    def is_stuck(self) -> bool:
        """Whether its thread has made no turn for a while although it has requests."""
        return self.busy > 0 and time.monotonic() - self._moved_at_s > STUCK_S

    def submit(self, attempt: Attempt) -> bool:
        """Begin `attempt`; False where all is over. Raises where no thread can be started."""
        with self._lock:
            if self._is_over:
                return False
            if not self.busy:
                self._moved_at_s = time.monotonic()  # it may have slept for long
            if self._thread is None:
                self._start()
            self._inbox.append(attempt)
        self.wake()
        return True

    def wake(self) -> None:
        """Some attempt was told to stop."""
        with self._lock:
            if self._multi is not None:
                self._multi.wake()

    def reset(self) -> None:
        """End all that runs as broken, and use none of its connections again."""
        for attempt in list(self._inbox):
            attempt.stop = True
        self._is_to_reset = True
        self.wake()

    def close(self) -> None:
        """End all that runs as broken, for good."""
        self._is_over = True
        self.wake()

    def _start(self) -> None:
        multi = Multi(self._connections)
        thread = threading.Thread(target=self._run, name="up42fs-net", daemon=True)
        self._multi = multi  # the thread looks for it at once
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
        """End everything as lost. What libcurl says no longer counts, since it failed."""
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
        # Only now: this thread was the only writer, and it writes no more.
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
        except Exception:  # no memory for it, say; the other requests need not suffer
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
        # What fails before this leaves the attempt among the running ones, so that it is ended.
        del self._running[line.transfer.key]
        attempt, line.attempt = line.attempt, None
        assert attempt is not None, "it ran"
        self._idle.append(line)
        attempt.end(code, was_sent=was_sent)

    def _renew(self, multi: Multi | None) -> None:
        """Go on with other connections, or with none."""
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

"""A thread that drives requests: starts them, parses their heads, follows them, ends them.

Theory. One thread drives many requests. It spends most time decrypting, without the interpreter's
lock. Between two rounds it looks at each transfer once: all bytes that arrived since are reported
together, so readers are woken once a round and the lock is taken once a round, not once a record.
The rounds grow by themselves as bytes come faster. `wake` signals new requests and cancelled ones.
`Attempt.on_over` signals the waiting task; after it nothing here writes to the attempt's memory.

A thread that fails is dead: it takes no more requests, its running ones end as lost, and
`transport.Drivers` replaces it. A thread that completes no round for `STUCK_S` although it has
requests is stuck (in a resolver, on a machine without memory): new requests go to other threads
until it moves again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

import pycurl

from up42fs.deadlines import patient_s
from up42fs.net.proxies import Proxy
from up42fs.net.retry import PROXY_STALLED, TLS_STALLED, FailureKind
from up42fs.store.http.answer import Delivery, Outcome, RangeRequest, ResponseHead
from up42fs.store.http.libcurl import Multi, Transfer
from up42fs.store.lanes import FilePlace

log = logging.getLogger(__name__)

#: A thread that has requests but completes no round for so long is stuck, seconds.
STUCK_S = patient_s(5.0)
#: Interval between checks for stalls, milliseconds.
_LOOK_MS = 250
_IDLE_MS = 60_000
ERROR_BODY_BYTES = 4096
#: A larger head is refused, in bytes.
HEAD_BYTES = 64 * 1024

#: X509_V_ERR_… of OpenSSL, in its own words.
_VERDICTS = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
    21: "unable to verify the first certificate",
}
#: CURLE_PROXY, which pycurl does not name: a SOCKS proxy does not connect.
_E_PROXY = 97
#: CURLE_TOO_LARGE, likewise: a line of the head, of more than 100 KiB.
_E_TOO_LARGE = 100
_KINDS = {
    pycurl.E_COULDNT_RESOLVE_HOST: FailureKind.UNREACHABLE,
    pycurl.E_COULDNT_RESOLVE_PROXY: FailureKind.UNREACHABLE,
    pycurl.E_COULDNT_CONNECT: FailureKind.UNREACHABLE,
    _E_PROXY: FailureKind.UNREACHABLE,
    pycurl.E_SSL_CONNECT_ERROR: FailureKind.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: FailureKind.TLS,
    pycurl.E_SSL_CACERT: FailureKind.TLS,  # libcurl before 7.62
    pycurl.E_SSL_CACERT_BADFILE: FailureKind.TLS,
    pycurl.E_SSL_CERTPROBLEM: FailureKind.TLS,
    pycurl.E_SSL_CIPHER: FailureKind.TLS,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: FailureKind.GARBLED,
    pycurl.E_UNSUPPORTED_PROTOCOL: FailureKind.GARBLED,  # not HTTP/1.x
    pycurl.E_BAD_CONTENT_ENCODING: FailureKind.GARBLED,
}


class Way(Enum):
    """How far a request came: to nobody, to a host that accepted the connection, or sent."""

    NONE = 0
    CONNECTED = 1
    SENT = 2


class Attempt:
    """A running request. `on_over` is called once, when no more of the answer will come.

    Any thread may set `stop` and call `cut`; everything else belongs to the driving thread.
    """

    def __init__(
        self, request: RangeRequest, delivery: Delivery, stall_s: float, on_over: Callable[[], None]
    ) -> None:
        self.request = request
        self.stop = False
        self.place: memoryview | FilePlace | None = None  # where the body may be written directly
        self.crash: BaseException | None = None
        self.proxy: Proxy | None = None
        self.may_connect: Callable[[str], bool] | None = None  # None: the proxy connects
        self.refused: str | None = None  # a forbidden address that the host's name resolved to
        self._gate = threading.Lock()  # held while the delivery is called
        self._is_lost = False
        self._lacks_socket = False
        self._delivery = delivery
        self._stall_s = stall_s
        self._on_over = on_over
        self._kind: FailureKind | None = None
        self._verdict = 0
        self._head: ResponseHead | None = None
        self._is_data = False
        self._has_enough = False
        self._has_stalled = False
        self._body_bytes = 0
        self._error_body = bytearray()
        self._heard_at_s = time.monotonic()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_head_long = False
        self._is_way_silent = False  # before the request could be sent

    def on_header(self, line: bytes) -> bool:
        """Take one header line; return whether to go on. Afterwards `place` may be set."""
        return self._guard(lambda: self._on_header(line))

    def on_body(self, data: bytes) -> bool:
        """Take bytes of a body that is not written directly; return whether to go on."""
        return self._guard(lambda: self._on_body(data))

    def on_placed(self, placed_bytes: int) -> bool:
        """Note that `placed_bytes` of the body were written to `place`; return whether to go on."""
        count = placed_bytes - self._body_bytes
        if self.place is None or not count:
            return not self.stop
        self._body_bytes = placed_bytes
        return self._guard(lambda: self._on_placed(count))

    def cut(self) -> None:
        """Stop the request; once this returns, the delivery is never called again."""
        with self._gate:
            self.stop = True

    def on_address(self, address: str | None) -> bool:
        """Check `address` before connecting to it; None: this machine has no socket left."""
        if address is None:
            self._lacks_socket = True
            return False
        if self.may_connect is None or self.may_connect(address):
            return True
        self.refused = address
        return False

    def on_connecting(self) -> None:
        """Restart the stall clock: nothing was sent yet, so no answer can come."""
        self._heard_at_s = time.monotonic()

    def has_stalled(self, now_s: float) -> bool:
        """Whether nothing arrived for longer than the stall limit."""
        self._has_stalled = now_s - self._heard_at_s > self._stall_s
        return self._has_stalled

    @property
    def was_heard(self) -> bool:
        """Whether any of the answer arrived."""
        return self._head_bytes > 0

    def end(self, code: int, *, way: Way = Way.NONE, verdict: int = 0) -> None:
        """End with libcurl's `code`, or because we broke it off; `verdict` is of a certificate."""
        self._verdict = verdict
        self._kind = self._kind_of(code, way)
        self.place = None
        self._on_over()

    def refuse(self) -> None:
        """End before it began: nothing is sent any more."""
        self.stop = True
        self.end(pycurl.E_WRITE_ERROR)

    def lose(self) -> None:
        """End because of a failure on this machine; a retry may succeed."""
        self._is_lost = True
        self.place = None
        self._on_over()

    @property
    def outcome(self) -> Outcome:
        """How the request ended."""
        kind = FailureKind.LOCAL if self._is_lost else self._kind
        why = _VERDICTS.get(self._verdict) if kind is FailureKind.TLS else None
        if self._is_way_silent:
            why = PROXY_STALLED if self.proxy else TLS_STALLED
        if self._is_head_long:
            why = f"a head of more than {HEAD_BYTES >> 10} KiB"
        return Outcome(self._head, kind, self._body_bytes, bytes(self._error_body), why)

    def _kind_of(self, code: int, way: Way) -> FailureKind | None:
        if self._has_enough and not self.stop:
            return None
        if self._has_stalled:
            return FailureKind.STALLED
        if self._is_head_long or (code == _E_TOO_LARGE and self._head is None):
            self._is_head_long = True
            return FailureKind.GARBLED
        if self._lacks_socket and code == pycurl.E_COULDNT_CONNECT:
            return FailureKind.LOCAL
        if code == pycurl.E_OPERATION_TIMEDOUT:
            self._is_way_silent = way is Way.CONNECTED
            return FailureKind.UNREACHABLE if way is Way.NONE else FailureKind.STALLED
        if code:
            return _KINDS.get(code, FailureKind.BROKEN)
        # libcurl accepts a truncated head; this code does not.
        return None if self._head is not None else FailureKind.BROKEN

    def _guard(self, handle: Callable[[], bool]) -> bool:
        # An exception would be lost in C; it is raised later to the caller that waits for the
        # fetch.
        self._heard_at_s = time.monotonic()
        with self._gate:
            try:
                return not self.stop and handle()
            except BaseException as error:
                self.crash = error
                return False

    def _on_header(self, line: bytes) -> bool:
        if self._head is not None:
            return True  # a trailer
        self._head_bytes += len(line)
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            self._headers.clear()
            code = text.split(" ", 2)[1:2]
            self._status = int(code[0]) if code and code[0].isdecimal() else 0
        elif text:
            name, _, value = text.partition(":")
            self._headers[name.strip().lower()] = value.strip()
        elif self._status >= 200:  # an empty line after a final, not an interim, head
            return self._begin()
        self._is_head_long = self._head_bytes > HEAD_BYTES
        return not self._is_head_long

    def _begin(self) -> bool:
        self._head = ResponseHead(self._status, dict(self._headers))
        self._is_data = self._status in (200, 206)
        if self._is_data:
            self._has_enough = not self._delivery.begin(self._head)
            self.place = None if self._has_enough else self._delivery.space()
        return not self._has_enough

    def _on_body(self, data: bytes) -> bool:
        self._body_bytes += len(data)
        if not self._is_data:
            self._error_body += data[: ERROR_BODY_BYTES - len(self._error_body)]
            return True
        self._has_enough = not self._delivery.write(data)
        # Take the last bytes of a body whole, so that the connection can be reused.
        return not self._has_enough or self._is_over()

    def _on_placed(self, count: int) -> bool:
        self._has_enough = not self._delivery.fill(count)
        return not self._has_enough or self._is_over()

    def _is_over(self) -> bool:
        assert self._head is not None
        return self._head.headers.get("content-length") == str(self._body_bytes)


class _Channel:
    """A transfer and the attempt that it currently serves."""

    def __init__(self, configure: Callable[[Transfer], None]) -> None:
        self.attempt: Attempt | None = None
        self.transfer = Transfer(self._on_header, self._on_body, self._on_address)
        configure(self.transfer)

    @property
    def way(self) -> Way:
        """How far the request came."""
        if self.transfer.was_sent:
            return Way.SENT
        return Way.CONNECTED if self.transfer.was_connected else Way.NONE

    def follow(self) -> bool:
        """Report the bytes that arrived; return whether to go on."""
        attempt = self.attempt
        assert attempt is not None, "it runs"
        if not attempt.was_heard and not self.transfer.was_sent:
            attempt.on_connecting()
        return attempt.on_placed(self.transfer.placed)

    def find_fault(self) -> None:
        """Report why the disk took no more bytes, if that ended the transfer."""
        place = self.attempt.place if self.attempt is not None else None
        if isinstance(place, FilePlace) and self.transfer.is_broken:
            place.find_fault(self.transfer.placed)

    def _on_header(self, line: bytes) -> bool:
        attempt = self.attempt
        if attempt is None or not attempt.on_header(line):
            return False
        if attempt.place is not None and not self.transfer.is_placed:
            self.transfer.place(attempt.place)
        return True

    def _on_address(self, address: str | None) -> bool:
        return self.attempt is not None and self.attempt.on_address(address)

    def _on_body(self, data: bytes) -> bool:
        return self.attempt is not None and self.attempt.on_body(data)


class Driver:
    """Drives attempts until `close`. Call its methods from one thread, usually trio's."""

    def __init__(
        self,
        connections: int,
        configure: Callable[[Transfer], None],
        prepare: Callable[[Transfer, Attempt], None],
        patience: float = 1.0,
    ) -> None:
        """It counts as stuck after `patience` times `STUCK_S`."""
        self._connections = connections
        self._patience = patience
        self._configure = configure
        self._prepare = prepare
        self._lock = threading.Lock()  # over `_multi`, `_thread`, `_inbox`, `busy`, and the flags
        #: Number of requests queued or running. Exact, or the threads would share out requests
        #: otherwise than they keep connections.
        self.busy = 0
        self._multi: Multi | None = None
        self._thread: threading.Thread | None = None
        self._is_to_reset = False
        self._is_woken = False  # since the thread's last look at what is new
        self.is_over = False  # it was closed or has failed, and takes no more requests
        self._moved_at_s = time.monotonic()
        self._inbox: deque[Attempt] = deque()
        self._running: dict[int, _Channel] = {}
        self._idle: list[_Channel] = []

    @property
    def is_stuck(self) -> bool:
        """Whether its thread has completed no round for `STUCK_S` although it has requests."""
        return self.busy > 0 and time.monotonic() - self._moved_at_s > STUCK_S * self._patience

    def submit(self, attempt: Attempt) -> bool:
        """Start `attempt`; False after `close` or a failure. Raises if no thread can be started."""
        with self._lock:
            if self.is_over:
                return False
            if not self.busy:
                self._moved_at_s = time.monotonic()  # the thread may have been idle for long
            if self._thread is None:
                self._start()
            self._inbox.append(attempt)
            self.busy += 1
        self.wake()
        return True

    def wake(self) -> None:
        """Wake the thread, because an attempt was stopped."""
        with self._lock:
            # Once is enough until the thread looks: each wake costs a system call, and the
            # interpreter may go to another thread meanwhile.
            if self._multi is not None and not self._is_woken:
                self._multi.wake()
                self._is_woken = True

    def reset(self) -> None:
        """End all running requests as broken, and reuse none of their connections."""
        for attempt in list(self._inbox):
            attempt.stop = True
        self._is_to_reset = True
        self.wake()

    def close(self) -> None:
        """End all running requests as broken, for good."""
        self.is_over = True
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
            while not self.is_over:
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
            self.is_over = True
            multi, self._multi = self._multi, None
            lost = [channel.attempt for channel in self._running.values()] + list(self._inbox)
            self._inbox.clear()
            self.busy = 0
        for channel in (*self._running.values(), *self._idle):
            with suppress(Exception):
                if multi is not None and channel.attempt is not None:
                    multi.remove(channel.transfer)
                channel.transfer.end()
                channel.transfer.close()
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
        with self._lock:
            # Before it looks: what comes later wakes it again. After `_renew`: a wake of the old
            # handle is lost with it.
            self._is_woken = False
        while self._inbox:
            self._begin(multi, self._inbox.popleft())
        multi.perform()
        for key, code in multi.ended():
            channel = self._running[key]
            channel.follow()
            self._end(multi, channel, code)
        now_s = time.monotonic()
        for channel in list(self._running.values()):
            if not channel.follow() or (channel.attempt and channel.attempt.has_stalled(now_s)):
                self._end(multi, channel, pycurl.E_WRITE_ERROR)
        multi.wait(_LOOK_MS if self._running else _IDLE_MS)

    def _begin(self, multi: Multi, attempt: Attempt) -> None:
        channel: _Channel | None = None
        try:
            channel = self._idle.pop() if self._idle else _Channel(self._configure)
            channel.attempt = attempt
            self._prepare(channel.transfer, attempt)
            multi.add(channel.transfer)
        except Exception:  # for example no memory; the other requests go on
            log.exception("a request to the object store could not be begun")
            if channel is not None:
                channel.attempt = None
                channel.transfer.end()
                self._idle.append(channel)
            self._leave()
            attempt.lose()
        else:
            self._running[channel.transfer.key] = channel

    def _end(self, multi: Multi, channel: _Channel, code: int) -> None:
        way, verdict = channel.way, channel.transfer.verdict
        channel.find_fault()
        multi.remove(channel.transfer)
        channel.transfer.end()
        # A failure before this line leaves the attempt in `_running`, so that it is ended later.
        del self._running[channel.transfer.key]
        attempt, channel.attempt = channel.attempt, None
        assert attempt is not None, "it ran"
        self._idle.append(channel)
        self._leave()
        attempt.end(code, way=way, verdict=verdict)

    def _leave(self) -> None:
        with self._lock:
            self.busy -= 1

    def _renew(self, multi: Multi | None) -> None:
        """Replace the multi handle by `multi`; None at the end of the thread."""
        old = self._multi
        assert old is not None, "the thread runs"
        for channel in list(self._running.values()):
            if channel.attempt is not None:
                channel.attempt.stop = True
            self._end(old, channel, pycurl.E_WRITE_ERROR)
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.transfer.close()
        with self._lock:
            self._multi = multi
        old.close()

    def _refuse(self) -> None:
        with self._lock:
            refused = list(self._inbox)
            self._inbox.clear()
            self.busy = 0
        for attempt in refused:
            attempt.refuse()

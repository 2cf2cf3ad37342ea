"""Ranged GETs by libcurl, whose threads write bodies directly to their memory.

Theory. libcurl moves bytes two to three times as fast as, and with a third of the processor time
of, anything that Python offers on the trio thread. `driver` and `libcurl` explain how its threads
work, docs/transport.md what else was measured. Nothing is written before the head was seen to be
final and the delivery accepted it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import pycurl
import trio

from up42fs import __version__
from up42fs.deadlines import patient_s
from up42fs.errors import InvalidAnswer
from up42fs.net.certificates import find_trust
from up42fs.net.hosts import check_url, may_connect
from up42fs.net.proxies import route_of
from up42fs.net.retry import FailureKind
from up42fs.store.http.answer import Delivery, Outcome, RangeRequest
from up42fs.store.http.driver import STUCK_S, Attempt, Driver
from up42fs.store.http.libcurl import Transfer

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = max(1, round(patient_s(10)))
#: A connection that is silent, or about as long slower than this, has stalled: bytes a second,
#: seconds.
STALL_BYTES_S = 1024
STALL_S = max(1, round(patient_s(10)))
RECEIVE_BYTES = 256 * 1024
#: Network threads: one of them decrypts less than a mount with two cores needs.
THREADS = 2
#: How many times longer than others a thread may take that writes to files.
COPY_PATIENCE = 12
#: Maximum number of threads, stuck ones included.
MOST_THREADS = 8

#: A thread's round takes milliseconds. No fetch waits longer for its end, seconds; then the thread
#: keeps the memory.
_END_S = 2.0
#: CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not define: a proxy's answer to CONNECT is
#: not an answer of the store.
_SUPPRESS_CONNECT_HEADERS = 265


class Drivers:
    """The threads of one transport. Call its methods from one thread, usually trio's.

    A request goes to the first of the least busy threads, so that sequential requests reuse one
    connection. A failed thread is replaced. A stuck thread gets nothing new, and if all are stuck
    another one is started, up to `MOST_THREADS`: stuck threads cannot be ended, only waited for. If
    no thread can be started, the running ones take the request; if none is running, the request is
    lost, and its reader may retry.
    """

    def __init__(self, count: int, make: Callable[[], Driver]) -> None:
        self._make = make
        self._is_closed = False
        self._all = [make() for _ in range(count)]

    def __len__(self) -> int:
        """Number of threads."""
        return len(self._all)

    def submit(self, attempt: Attempt) -> Driver | None:
        """Start `attempt` and return its driver; end it and return None if none takes it."""
        if self._is_closed:
            attempt.refuse()
            return None
        self._all = [self._make() if driver.is_over else driver for driver in self._all]
        usable = [driver for driver in self._all if not driver.is_stuck]
        if not usable and len(self._all) < MOST_THREADS:
            usable = [self._make()]
            self._all += usable
        for driver in sorted(usable or self._all, key=lambda one: one.busy):
            try:
                if driver.submit(attempt):
                    return driver
            except (RuntimeError, MemoryError, OSError) as error:
                log.warning("no thread can be started to move bytes: %s", error)
        attempt.lose()
        return None

    def reset(self) -> None:
        """End all running requests as broken, and reuse none of their connections."""
        for driver in self._all:
            driver.reset()

    def close(self) -> None:
        """End all running requests as broken, for good."""
        self._is_closed = True
        for driver in self._all:
            driver.close()


class CurlTransport:
    """Sends ranged GETs, at most `connections` at once to one host."""

    def __init__(
        self,
        connections: int,
        *,
        environ: Mapping[str, str] | None = None,
        stall_s: int = STALL_S,
        threads: int = THREADS,
        is_local: Callable[[], bool] = lambda: True,
    ) -> None:
        """With `is_local()`, links may lead to this machine, because the API runs on it."""
        self._environ = {**os.environ, **(environ or {})}
        self._is_local = is_local
        self._connections = connections
        self._stall_s = stall_s
        self._trust = find_trust(os.environ if environ is None else environ)
        self._hosts: dict[str, trio.CapacityLimiter] = {}
        self._drivers = Drivers(
            threads, lambda: Driver(connections, self._configure, self._prepare)
        )
        # A disk may keep a thread waiting for seconds, so no reader's bytes come by such a thread.
        # One is enough, since writes to one file wait for each other.
        self._copiers = Drivers(
            1,
            lambda: Driver(connections, self._configure, self._prepare, COPY_PATIENCE),
        )

    async def fetch(self, request: RangeRequest, delivery: Delivery) -> Outcome:
        """Send `request`; raises `InvalidAnswer` for a link that must not be used.

        All other failures are returned. Once this returns or raises, no method of `delivery` runs
        or will be called, and nothing writes to its memory, unless `delivery.abandon` was called.
        """
        netloc = check_url(request.url)
        proxy = route_of(request.url, self._environ).proxy
        token, over = trio.lowlevel.current_trio_token(), trio.Event()

        def on_over() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(over.set)

        host = self._hosts.setdefault(netloc, trio.CapacityLimiter(self._connections))
        async with host:
            attempt = Attempt(request, delivery, self._stall_s, on_over)
            attempt.proxy = proxy
            driver = (self._copiers if request.to_file else self._drivers).submit(attempt)
            try:
                await _wait(over, driver, request.timeout_s)
            finally:
                if driver is not None and not over.is_set():
                    # A cancelled fetch waits for the end of its thread's round, so that nothing is
                    # written afterwards; its connection is closed, since the rest of the body is on
                    # it.
                    await _end(attempt, driver, over, delivery)
        if attempt.refused is not None and attempt.outcome.head is None:
            raise InvalidAnswer(
                f"UP42 signed a link that leads to {attempt.refused}, where no store can be: "
                "it was not used; report this"
            )
        if not over.is_set():
            return Outcome(None, FailureKind.LOCAL, attempt.outcome.body_bytes)
        if attempt.crash is not None:
            raise attempt.crash
        return attempt.outcome

    def reset(self) -> None:
        """Drop idle connections and break those in use."""
        self._drivers.reset()
        self._copiers.reset()

    def close(self) -> None:
        """Close all connections."""
        self._drivers.close()
        self._copiers.close()

    def _configure(self, transfer: Transfer) -> None:
        set_ = transfer.set
        set_(pycurl.NOSIGNAL, 1)
        set_(pycurl.FOLLOWLOCATION, 0)
        set_(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        for option, value in (
            (pycurl.CAINFO, self._trust.file),
            (pycurl.CAPATH, self._trust.directory),
            (pycurl.PROXY_CAINFO, self._trust.file),
            (pycurl.PROXY_CAPATH, self._trust.directory),
        ):
            set_(option, value)
        set_(pycurl.NOPROXY, "")  # the environment is read by `net.proxies`
        set_(pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_S)
        set_(pycurl.LOW_SPEED_LIMIT, STALL_BYTES_S)
        set_(pycurl.LOW_SPEED_TIME, self._stall_s)
        set_(pycurl.BUFFERSIZE, RECEIVE_BYTES)
        set_(pycurl.TCP_KEEPALIVE, 1)
        set_(pycurl.USERAGENT, f"up42fs/{__version__}")
        set_(pycurl.NETRC, pycurl.NETRC_IGNORED)
        set_(_SUPPRESS_CONNECT_HEADERS, 1)

    def _prepare(self, transfer: Transfer, attempt: Attempt) -> None:
        request = attempt.request
        # The store refuses signed requests with any other headers (contract §6, Forbidden headers).
        headers = ["Accept-Encoding: identity"]
        if request.if_match is not None:
            headers.append(f"If-Match: {request.if_match}")
        transfer.set_headers(headers)
        transfer.set(pycurl.URL, request.url)
        transfer.set(pycurl.RANGE, f"{request.span.start}-{request.span.stop - 1}")
        transfer.set(pycurl.TIMEOUT_MS, max(1, int(request.timeout_s * 1000)))
        proxy = attempt.proxy
        transfer.set(pycurl.PROXY, proxy.url if proxy else "")
        name, word = (proxy.login if proxy else None) or (None, None)
        transfer.set(pycurl.PROXYUSERNAME, name)
        transfer.set(pycurl.PROXYPASSWORD, word)
        attempt.may_connect = None if proxy else self._may_connect

    def _may_connect(self, address: str) -> bool:
        return may_connect(address, local=self._is_local())


async def _wait(over: trio.Event, driver: Driver | None, timeout_s: float) -> None:
    """Return when the request is over, or when its thread is stuck or out of time."""
    ends_s = trio.current_time() + timeout_s + _END_S
    while not over.is_set():
        with trio.move_on_at(min(trio.current_time() + STUCK_S, ends_s)):
            await over.wait()
        if over.is_set() or trio.current_time() >= ends_s:
            return
        if driver is not None and driver.is_stuck:
            log.warning("a thread that moves bytes is stuck; its requests go to another one")
            return


async def _end(attempt: Attempt, driver: Driver, over: trio.Event, delivery: Delivery) -> None:
    """Stop a request that nothing waits for; once this returns, the delivery is not called."""
    attempt.cut()
    driver.wake()
    with trio.move_on_after(_END_S) as limit:
        limit.shield = True  # the argument came with trio 0.27
        await over.wait()
    if not over.is_set() and attempt.place is not None:
        # The thread did not end its round in time and may be in the middle of a write to that
        # memory, which stays lent for as long as a transfer refers to it.
        delivery.abandon()

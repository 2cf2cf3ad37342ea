"""Hedges: sends a request for a part's bytes, and a second one if the first lags behind.

Theory. The second request fills memory of its own, so two answers never write to one place. As soon
as it holds more than the part, the first request is cancelled. Once that has ended, or its memory
was abandoned to it (`Delivery.abandon`), nothing else writes to the part: the bytes of the second
request are copied over, and the rest follows as it arrives. Both are judged by one version pin, and
there is a second request only if a strong ETag is pinned, so the bytes are the same whichever wins.
Only parts that a reader waits for are hedged.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import trio
from cachetools import LRUCache

from up42fs.errors import Up42fsError
from up42fs.net.hedging import HostTimes
from up42fs.ranges import intersect
from up42fs.store.egress.egress import Egress
from up42fs.store.http.answer import Delivery, Outcome, RangeRequest, VersionPin
from up42fs.store.http.transport import CurlTransport
from up42fs.store.part import Part
from up42fs.types import ByteRange, Bytes

#: Number of hosts remembered.
MOST_HOSTS = 64
#: Interval at which two running requests are compared, seconds.
_TICK_S = 0.02
#: Interval at which a lagging part that no reader waits for is checked again, seconds.
_LOOK_S = 0.25


def lacking(part: Part, stop: int) -> ByteRange | None:
    """The bytes of `part` before offset `stop` that are still to come; None if there are none."""
    rest = part.missing
    return intersect(rest, ByteRange(0, stop)) if rest is not None and stop else None


class _Second:
    """The bytes of the second request: held, and after `follow` passed on to the part."""

    def __init__(self, span: ByteRange, on_bytes: Callable[[], None]) -> None:
        self.filled = 0
        self._span = span
        self._memory = memoryview(bytearray(len(span) + 1))
        self._on_bytes = on_bytes
        self._part: Part | None = None
        self._lock = threading.Lock()

    @property
    def stop(self) -> int:
        """The offset up to which bytes are held."""
        return self._span.start + self.filled

    def leads(self, part: Part) -> bool:
        """Whether more bytes are held than `part` has."""
        rest = part.missing
        return rest is not None and rest.start < self.stop

    def space(self) -> memoryview:
        """The memory for the missing bytes, and one byte more."""
        return self._memory[self.filled :]

    def write(self, data: Bytes) -> bool:
        """Append `data`; False if it does not fit."""
        stop = self.filled + len(data)
        if stop > len(self._span):
            return False
        self._memory[self.filled : stop] = data
        return self.fill(len(data))

    def fill(self, count: int) -> bool:
        """Count the next `count` bytes as written."""
        with self._lock:
            self.filled = min(self.filled + count, len(self._span))
            if self._part is not None:
                return self._pass_on(self._part)
        self._on_bytes()
        return True

    def abandon(self) -> None:
        """No-op: nothing else writes to this memory, and only copies of it are handed out."""

    def follow(self, part: Part) -> None:
        """Pass on all bytes, past and future, to `part`; nothing else may write to it."""
        with self._lock:
            self._part = part
            self._pass_on(part)

    def _pass_on(self, part: Part) -> bool:
        rest = part.missing
        if rest is None or rest.start >= self.stop:
            return rest is not None
        start = self._span.start
        return part.write(self._memory[rest.start - start : self.stop - start])


class Paces:
    """The pace of each host, LRU."""

    def __init__(self) -> None:
        self._by_host: LRUCache[str, HostTimes] = LRUCache(MOST_HOSTS)

    def of(self, url: str) -> HostTimes:
        """The pace of the host of `url`."""
        host = urlsplit(url).netloc
        pace = self._by_host.get(host)
        if pace is None:
            pace = self._by_host[host] = HostTimes()
        return pace


class Race:
    """One request and, possibly, a hedge. Used once."""

    def __init__(
        self,
        transport: CurlTransport,
        egress: Egress | None,
        pace: HostTimes,
        pin: VersionPin,
        count: Callable[[str, int], None],
        clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._egress = egress
        self._pace = pace
        self._pin = pin
        self._count = count
        self._clock = clock
        self._first_scope = trio.CancelScope()
        self._first_over = trio.Event()
        self._has_second = False
        self._was_raced = False
        self._came_bytes = 0
        self._results: list[Delivery] = []

    async def run(self, request: RangeRequest, part: Part) -> Delivery:
        """Fill `part` with the bytes of `request`; return the delivery that decides.

        Raises `Up42fsError`.
        """
        first = Delivery(request.span, self._pin, part, self._clock)
        if request.if_match is None or self._pace.limit_s(has_begun=False) is None:
            return await self._send(request, first)
        caught: Up42fsError | None = None
        span = request.span
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery, first, request, part)
            with self._first_scope:
                try:
                    self._results.append(await self._send(request, first))
                except Up42fsError as error:
                    caught = error
            self._first_over.set()
            if lacking(part, span.stop) is None or not self._has_second:
                nursery.cancel_scope.cancel()
        if self._was_raced:
            rest = lacking(part, span.stop)
            kept_bytes = (span.stop if rest is None else rest.start) - span.start
            self._count("hedges_bytes", max(0, self._came_bytes - kept_bytes))
        if caught is not None:
            raise caught
        return self._results[-1]

    async def _send(self, request: RangeRequest, delivery: Delivery) -> Delivery:
        self._count("requests", 1)
        self._count("bytes_asked", len(request.span))
        outcome: Outcome | None = None
        try:
            if self._egress is not None:
                await self._egress.pay(len(request.span), is_wanted=request.is_wanted)
            outcome = await self._transport.fetch(request, delivery)
            if self._egress is not None:
                self._egress.give_back(len(request.span) - outcome.body_bytes)
        finally:  # the bytes of a cancelled request were received all the same
            came_bytes = outcome.body_bytes if outcome else delivery.body_bytes
            self._came_bytes += came_bytes
            self._count("bytes_fetched", came_bytes)
        delivery.finish(outcome)
        if delivery.first_s is not None and outcome.kind is None:
            self._pace.note(delivery.first_s, delivery.gap_s)
        return delivery

    async def _watch(
        self, nursery: trio.Nursery, first: Delivery, request: RangeRequest, part: Part
    ) -> None:
        """Send a second request once the first lags and a reader waits for the part."""
        while True:
            limit_s = self._pace.limit_s(has_begun=first.first_s is not None) or math.inf
            left_s = limit_s - (self._clock() - first.heard_at_s)
            if left_s <= 0 and part.wanted:
                break
            await trio.sleep(max(left_s, _LOOK_S))
        rest = lacking(part, request.span.stop)
        if rest is not None and self._pace.take():
            self._has_second = self._was_raced = True
            self._count("hedges", 1)
            span = ByteRange(rest.start, request.span.stop)
            await self._overtake(nursery, replace(request, span=span, is_wanted=False), part)

    async def _overtake(self, nursery: trio.Nursery, request: RangeRequest, part: Part) -> None:
        token, news = trio.lowlevel.current_trio_token(), trio.Event()

        def on_bytes() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(news.set, idempotent=True)

        second = _Second(request.span, on_bytes)
        over = trio.Event()

        async def send() -> None:
            delivery = Delivery(request.span, self._pin, second, self._clock)
            try:
                result = await self._send(request, delivery)
                if second.filled or self._first_over.is_set():
                    self._results.append(result)
            except Up42fsError:
                pass  # for example a spent budget: the first request reports its own errors
            finally:
                over.set()
                news.set()

        nursery.start_soon(send)
        await news.wait()
        while not second.leads(part):
            if over.is_set():
                self._has_second = False  # the first request decides the result
                if self._first_over.is_set():
                    nursery.cancel_scope.cancel()
                return
            await trio.sleep(_TICK_S)  # the first request is still running and may win
        self._count("hedges_won", 1)
        self._first_scope.cancel()
        await self._first_over.wait()
        second.follow(part)
        await over.wait()
        nursery.cancel_scope.cancel()

"""The threads that move bytes: late, stuck, dead, impossible to start; what they may write."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest
import trio

from up42fs.net.retry import FailureKind
from up42fs.store.buffers import Buffers
from up42fs.store.http import driver as driver_module
from up42fs.store.http import transport as transport_module
from up42fs.store.http.answer import Delivery, RangeRequest, ResponseHead, VersionPin
from up42fs.store.http.libcurl import Multi, Transfer
from up42fs.store.http.transport import MOST_THREADS, CurlTransport
from up42fs.store.part import Part
from up42fs.types import ByteRange, Bytes

DATA = bytes(range(1, 256)) * 400  # no zero in it: a zero is what C's streams add
SPAN = ByteRange(1000, 51_000)
WANTED = DATA[SPAN.start : SPAN.stop]
HEAD = (
    f'HTTP/1.1 206 Partial Content\r\nContent-Length: {len(SPAN)}\r\nETag: "a"\r\n'
    f"Content-Range: bytes {SPAN.start}-{SPAN.stop - 1}/{len(DATA)}\r\n\r\n"
).encode()


class Keeper:
    """Keeps a part for ever."""

    def let_go(self, part: Part) -> None:
        raise AssertionError("nobody evicts it")

    def may_go(self) -> None: ...


class Store:
    """Sends a head and the first 100 bytes of the body, 100 more when told, then the rest."""

    def __init__(self, *, at_once: bool) -> None:
        self.url = ""
        self.go_on = trio.Event()
        self.rest = trio.Event()
        self.connections = 0
        if at_once:
            self.go_on.set()
            self.rest.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                await stream.send_all(HEAD + WANTED[:100])
                await self.go_on.wait()
                await stream.send_all(WANTED[100:200])
                await self.rest.wait()
                await stream.send_all(WANTED[200:])

    async def start(self, nursery: trio.Nursery) -> None:
        serve = partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1")
        (listener, *_) = await nursery.start(serve)
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/object"


async def started(nursery: trio.Nursery, *, at_once: bool = True) -> Store:
    store = Store(at_once=at_once)
    await store.start(nursery)
    return store


class Sink(Delivery):
    """Keeps what came."""

    def __init__(self) -> None:
        self.data = bytearray()

    def begin(self, head: ResponseHead) -> bool:
        return True

    def space(self) -> memoryview | None:
        return None

    def write(self, data: Bytes) -> bool:
        self.data += data
        return True

    def fill(self, count: int) -> bool:
        raise AssertionError("there is no place")

    def abandon(self) -> None:
        raise AssertionError("there is no place")


def request(store: Store, timeout_s: float = 20.0) -> RangeRequest:
    return RangeRequest(store.url, SPAN, None, timeout_s)


async def read(transport: CurlTransport, store: Store) -> tuple[FailureKind | None, bytes]:
    sink = Sink()
    outcome = await transport.fetch(request(store), sink)
    return outcome.kind, bytes(sink.data)


class Held:
    """Holds the threads that move bytes where they are about to call libcurl."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = False
        self.held = threading.Event()
        self.may_go = threading.Event()
        perform = Multi.perform

        def held(multi: Multi) -> None:
            if self.is_on:
                self.held.set()
                assert self.may_go.wait(20)
            perform(multi)

        monkeypatch.setattr(Multi, "perform", held)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


@pytest.mark.claim("S110")
async def test_a_late_writer_writes_to_nobodys_memory(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread comes back when another answer has filled the part, and the answer went out."""
    monkeypatch.setattr(transport_module, "_END_S", 0.05)
    held = Held(monkeypatch)
    store = await started(nursery, at_once=False)
    buffers = Buffers(8 << 20)
    part = Part(SPAN, Keeper(), wanted=True, deadline_s=0)
    part.begin(buffers)
    transport = CurlTransport(1, threads=1)
    async with trio.open_nursery() as first:
        first.start_soon(
            transport.fetch, request(store), Delivery(SPAN, VersionPin(len(DATA)), part)
        )
        await until(lambda: part.filled == 100)
        held.is_on = True
        assert await trio.to_thread.run_sync(held.held.wait, 10)
        early = part.view(ByteRange(SPAN.start, SPAN.start + 100))
        first.cancel_scope.cancel()
    assert part.write(WANTED[100:]), "the other answer's bytes, as `Race` copies them"
    assert part.missing is None
    reply = part.view(SPAN)
    store.go_on.set()
    await trio.sleep(0.1)  # 100 bytes more are in the late one's socket; a zero follows them
    held.is_on = False
    held.may_go.set()
    await trio.sleep(0.1)
    store.rest.set()
    # The only thread takes this one when it is through with the first.
    assert (await read(transport, store))[0] is None
    assert bytes(early) == WANTED[:100]
    assert bytes(reply) == WANTED
    transport.close()


async def test_memory_of_a_late_writer_is_lent_to_nobody_until_it_is_gone(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "_END_S", 0.05)
    held = Held(monkeypatch)
    store = await started(nursery, at_once=False)
    buffers = Buffers(64 << 20)
    big = ByteRange(SPAN.start, SPAN.start + (1 << 20))  # mapped: small ones are never lent again
    part = Part(big, Keeper(), wanted=True, deadline_s=0)
    part.begin(buffers)
    transport = CurlTransport(1, threads=1)
    async with trio.open_nursery() as first:
        first.start_soon(
            transport.fetch, request(store), Delivery(SPAN, VersionPin(len(DATA)), part)
        )
        await until(lambda: part.filled == 100)
        held.is_on = True
        assert await trio.to_thread.run_sync(held.held.wait, 10)
        first.cancel_scope.cancel()
    part.finish(None)
    assert (buffers.idle_bytes, buffers.lent_bytes) == (1 << 20, 1 << 20), "the late one's is lent"
    other = buffers.take(len(big))
    other[: len(big)] = b"\xff" * len(big)
    held.is_on = False
    store.go_on.set()
    store.rest.set()
    held.may_go.set()
    assert (await read(transport, store))[0] is None
    assert bytes(other[: len(big)]) == b"\xff" * len(big)
    await until(lambda: buffers.lent_bytes == 1 << 20)
    transport.close()


@pytest.mark.parametrize("extra", [1, 2, 50_000])
async def test_a_body_longer_than_the_range_counts_for_no_more_than_was_asked(
    nursery: trio.Nursery, extra: int
) -> None:
    """A store that ignores ranges: the first byte behind the place is a zero, and a data byte."""
    whole = b"\x01" * 100 + b"\0" * extra
    answer = f'HTTP/1.1 200 OK\r\nContent-Length: {len(whole)}\r\nETag: "a"\r\n\r\n'.encode()

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(answer + whole)

    listening = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
    (listener, *_) = await nursery.start(listening)
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/object"
    asked = ByteRange(0, 100)
    part = Part(ByteRange(0, 100), Keeper(), wanted=True, deadline_s=0)
    part.begin(Buffers(1 << 20))
    transport = CurlTransport(1)
    for span in (asked, ByteRange(0, 60)):
        part.filled = 0
        delivery = Delivery(span, VersionPin(len(whole)), part)
        outcome = await transport.fetch(RangeRequest(url, span, None, 10), delivery)
        assert outcome.kind is None, "what was asked for has come"
        assert part.filled == len(span)
    transport.close()


def test_a_part_takes_no_more_than_its_range() -> None:
    async def main() -> None:
        part = Part(ByteRange(0, 10), Keeper(), wanted=True, deadline_s=0)
        part.begin(Buffers(1 << 20))
        assert part.fill(8)
        assert part.fill(8)
        assert (part.filled, part.missing) == (10, None)
        assert not part.write(b"x")

    trio.run(main)


# threads that fail -------------------------------------------------------------------------------


@pytest.mark.claim("S111")
@pytest.mark.parametrize("name", ["perform", "wait", "ended", "remove"])
async def test_a_thread_that_fails_is_replaced_and_its_requests_may_be_sent_again(
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    store = await started(nursery)
    transport = CurlTransport(4)
    method, strikes = getattr(Multi, name), [True]

    def strike(*arguments: Any) -> Any:
        if strikes:
            strikes.pop()
            raise RuntimeError("libcurl's multi interface failed: error 3")
        return method(*arguments)

    monkeypatch.setattr(Multi, name, strike)
    with caplog.at_level(logging.ERROR):
        with trio.fail_after(10):
            kind, _ = await read(transport, store)
    assert kind in (FailureKind.LOCAL, None), "`wait` may strike when all has come"
    assert not strikes
    assert "a thread that moves bytes failed" in caplog.text
    with trio.fail_after(10):
        for _ in range(8):
            assert await read(transport, store) == (None, WANTED)
    transport.close()


async def test_all_requests_of_a_thread_that_fails_are_ended(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await started(nursery, at_once=False)
    transport = CurlTransport(8, threads=1)
    perform = Multi.perform
    fails: list[object] = []

    def strike(multi: Multi) -> None:
        if fails:
            fails.pop()
            raise MemoryError
        perform(multi)

    monkeypatch.setattr(Multi, "perform", strike)
    kinds: list[FailureKind | None] = []

    async def fetch() -> None:
        kinds.append((await transport.fetch(request(store), Sink())).kind)

    with trio.fail_after(10):
        async with trio.open_nursery() as many:
            for _ in range(5):
                many.start_soon(fetch)
            await until(lambda: store.connections == 5)
            fails.append(True)
    assert kinds == [FailureKind.LOCAL] * 5
    store.go_on.set()
    store.rest.set()
    assert await read(transport, store) == (None, WANTED)
    transport.close()


async def test_a_burst_of_requests_wakes_a_busy_thread_once(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, held = await started(nursery), Held(monkeypatch)
    transport = CurlTransport(8, threads=1)
    assert await read(transport, store) == (None, WANTED)
    wakes, wake = [], Multi.wake

    def counted(multi: Multi) -> None:
        wakes.append(multi)
        wake(multi)

    monkeypatch.setattr(Multi, "wake", counted)
    got: list[tuple[FailureKind | None, bytes]] = []

    async def fetch() -> None:
        got.append(await read(transport, store))

    with trio.fail_after(20):
        async with trio.open_nursery() as burst:
            held.is_on = True
            burst.start_soon(fetch)
            # It holds before libcurl is called, so it has looked, and may be woken once more.
            await until(held.held.is_set)
            for _ in range(6):
                burst.start_soon(fetch)
            await until(lambda: transport._drivers._all[0].busy == 7)
            assert len(wakes) == 2
            held.is_on = False
            held.may_go.set()
    assert got == [(None, WANTED)] * 7
    transport.close()


async def test_a_request_after_a_reset_wakes_the_thread(nursery: trio.Nursery) -> None:
    store = await started(nursery)
    transport = CurlTransport(2, threads=1)
    for _ in range(20):
        assert await read(transport, store) == (None, WANTED)
        transport.reset()
        began_s = trio.current_time()
        assert await read(transport, store) in ((None, WANTED), (FailureKind.BROKEN, b""))
        # The idle thread looks by itself only after a minute.
        assert trio.current_time() - began_s < 15
    transport.close()


@pytest.mark.claim("S111")
async def test_where_no_thread_can_be_started_the_request_is_lost_and_the_next_one_is_not(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await started(nursery)
    transport = CurlTransport(2)
    with monkeypatch.context() as full:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        full.setattr(threading.Thread, "start", refuse)
        with trio.fail_after(5):
            assert await read(transport, store) == (FailureKind.LOCAL, b"")
    assert await read(transport, store) == (None, WANTED)
    transport.close()


async def test_a_thread_that_runs_takes_what_another_cannot_be_started_for(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await started(nursery, at_once=False)
    transport = CurlTransport(2, threads=2)
    got: list[tuple[FailureKind | None, bytes]] = []

    async def fetch() -> None:
        got.append(await read(transport, store))

    with trio.fail_after(10):
        async with trio.open_nursery() as both:
            both.start_soon(fetch)  # keeps the first thread busy
            await until(lambda: store.connections == 1)

            def refuse(_: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(threading.Thread, "start", refuse)
            both.start_soon(fetch)
            await until(lambda: store.connections == 2)
            store.go_on.set()
            store.rest.set()
    assert got == [(None, WANTED)] * 2
    transport.close()


async def test_a_request_that_cannot_be_begun_harms_no_other(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await started(nursery)
    transport = CurlTransport(1, threads=1)
    set_headers = Transfer.set_headers
    with monkeypatch.context() as poor:

        def refuse(*_: object) -> None:
            raise MemoryError

        poor.setattr(Transfer, "set_headers", refuse)
        assert await read(transport, store) == (FailureKind.LOCAL, b"")
    assert Transfer.set_headers is set_headers
    assert await read(transport, store) == (None, WANTED)
    assert "could not be begun" in caplog.text
    transport.close()


@pytest.mark.claim("S111")
async def test_nothing_waits_for_a_thread_that_is_stuck(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "_END_S", 0.05)
    monkeypatch.setattr(transport_module, "STUCK_S", 0.3)
    monkeypatch.setattr(driver_module, "STUCK_S", 0.3)
    store = await started(nursery)
    held = Held(monkeypatch)
    transport = CurlTransport(4, threads=1)
    held.is_on = True
    with trio.fail_after(10):
        assert await read(transport, store) == (FailureKind.LOCAL, b"")
        held.is_on = False  # the next thread is sound; the first one is still held
        for _ in range(3):
            assert await read(transport, store) == (None, WANTED)
    held.may_go.set()
    transport.close()


async def test_there_are_never_many_threads(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "_END_S", 0.01)
    monkeypatch.setattr(transport_module, "STUCK_S", 0.05)
    monkeypatch.setattr(driver_module, "STUCK_S", 0.05)
    store = await started(nursery)
    held = Held(monkeypatch)
    transport = CurlTransport(20, threads=2)
    held.is_on = True
    for _ in range(MOST_THREADS + 4):
        assert await read(transport, store) == (FailureKind.LOCAL, b"")
    assert len(transport._drivers) <= MOST_THREADS
    held.is_on = False
    held.may_go.set()
    assert await read(transport, store) == (None, WANTED)
    transport.close()


# a store that does not answer at all -------------------------------------------------------------


@pytest.mark.claim("S112")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("limit", ["connect", "total"])
async def test_dropped_packets_are_a_host_out_of_reach(
    monkeypatch: pytest.MonkeyPatch, scheme: str, limit: str
) -> None:
    """A full backlog drops the first packet of a connection, as a firewall does."""
    monkeypatch.setattr(transport_module, "CONNECT_TIMEOUT_S", 1 if limit == "connect" else 20)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/object"
        transport = CurlTransport(1)
        timeout_s = 8.0 if limit == "connect" else 0.5
        with trio.fail_after(6):
            outcome = await transport.fetch(RangeRequest(url, SPAN, None, timeout_s), Sink())
        transport.close()
    assert (outcome.kind, outcome.head) == (FailureKind.UNREACHABLE, None)


async def test_a_silent_answer_on_a_kept_connection_is_no_host_out_of_reach(
    nursery: trio.Nursery,
) -> None:
    asked = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal asked
        while await stream.receive_some():
            asked += 1
            if asked == 1:
                await stream.send_all(HEAD + WANTED)

    (listener, *_) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/object"
    transport = CurlTransport(1, stall_s=1)
    assert (await transport.fetch(RangeRequest(url, SPAN, None, 9), Sink())).kind is None
    with trio.fail_after(8):
        outcome = await transport.fetch(RangeRequest(url, SPAN, None, 9), Sink())
    assert outcome.kind is FailureKind.STALLED
    assert asked == 2
    transport.close()

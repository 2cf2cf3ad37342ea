#!/usr/bin/env python3
"""A line with a delay and a limited rate, as a TCP proxy on loopback.

    line.py --to PORT [--delay-ms 50] [--shared-mbit 0] [--connection-mbit 0]

What clients send arrives `delay` later, so every request waits once, and a TLS handshake by as many
turns as it has. Answers flow at once, within the rate of the whole line and of its
connection (0: no limit). Prints its port; ends when its standard input does.

Knows nothing of HTTP: it serves TLS as well and parses nothing. Bytes are spliced in the kernel, so
this one thread is not what limits a measurement; `contrib/bench/README.md` has its own limits.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

HOST = "127.0.0.1"
#: How much one connection may take from the line at a time: small enough to share it fairly.
TURN_BYTES = 64 << 10
#: A limited connection without a shared line moves this much of a second's bytes at a time.
TURN_S = 0.01
#: Sleeps are this late at worst; a rate is made up for by this much of it.
SLACK_S = 0.02
REQUEST_BYTES = 64 << 10
PIPE_BYTES = 1 << 20
#: Small, so that a client that goes away has not been sent much more than it took.
SEND_BUFFER_BYTES = 256 << 10
F_SETPIPE_SZ = 1031


@dataclass(slots=True)
class Meter:
    """A rate: bytes are paid for after they were moved, then it is busy until they are through."""

    bytes_s: float
    free_at_s: float = 0.0

    def pay(self, count: int) -> float:
        """Account for `count` bytes; return the moment from which the next may move."""
        if not self.bytes_s:
            return 0.0
        now = time.monotonic()
        self.free_at_s = max(self.free_at_s, now - SLACK_S) + count / self.bytes_s
        return self.free_at_s


@dataclass(frozen=True)
class Line:
    """`delay_s` before what clients send arrives; rates in bytes a second, 0 for none."""

    upstream: int
    delay_s: float
    shared: Meter
    connection_bytes_s: float

    async def serve(self, client: trio.SocketStream) -> None:
        """Carry one connection until either side ends it."""
        store = await trio.open_tcp_stream(HOST, self.upstream)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        async with client, store, trio.open_nursery() as nursery:
            try:
                nursery.start_soon(self._carry_requests, client, store, nursery.cancel_scope)
                await self._carry_answers(store.socket, client.socket)
            except (OSError, trio.BrokenResourceError):
                pass
            nursery.cancel_scope.cancel()

    async def _carry_requests(
        self, client: trio.SocketStream, store: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Pass on each piece when its time has come; several may be on their way."""
        entry, leaving = trio.open_memory_channel[tuple[float, bytes]](math.inf)

        async def deliver() -> None:
            async for due_s, piece in leaving:
                await trio.sleep_until(due_s)
                await store.send_all(piece)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(deliver)
                while piece := await client.receive_some(REQUEST_BYTES):
                    entry.send_nowait((trio.current_time() + self.delay_s, piece))
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError):
            pass
        # HTTP clients do not half-close: whoever stops sending has gone, whatever is on its way.
        scope.cancel()

    async def _carry_answers(
        self, store: trio.socket.SocketType, client: trio.socket.SocketType
    ) -> None:
        own = Meter(self.connection_bytes_s)
        turn = TURN_BYTES if self.shared.bytes_s else PIPE_BYTES
        if own.bytes_s:
            turn = min(turn, int(own.bytes_s * TURN_S))
        with kernel_pipe() as (outlet, inlet):
            while count := await splice(store.fileno(), inlet, turn, store, None):
                due_s = max(self.shared.pay(count), own.pay(count))
                while count:
                    count -= await splice(outlet, client.fileno(), count, None, client)
                wait_s = due_s - time.monotonic()
                if wait_s > 0:
                    await trio.sleep(wait_s)


async def splice(
    source: int,
    target: int,
    count: int,
    readable: trio.socket.SocketType | None,
    writable: trio.socket.SocketType | None,
) -> int:
    """Move up to `count` bytes between a socket and a pipe, waiting for it; 0 at its end."""
    while True:
        try:
            return os.splice(source, target, count, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        except BlockingIOError:
            if readable is not None:
                await trio.lowlevel.wait_readable(readable)
            if writable is not None:
                await trio.lowlevel.wait_writable(writable)


@contextmanager
def kernel_pipe() -> Iterator[tuple[int, int]]:
    outlet, inlet = os.pipe2(os.O_NONBLOCK)
    try:
        fcntl.fcntl(inlet, F_SETPIPE_SZ, PIPE_BYTES)
        yield outlet, inlet
    finally:
        os.close(outlet)
        os.close(inlet)


async def run(line: Line) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST, backlog=1024)
        nursery.start_soon(partial(trio.serve_listeners, line.serve, listeners))
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=int, required=True, metavar="PORT")
    parser.add_argument("--delay-ms", type=float, default=50)
    parser.add_argument("--shared-mbit", type=float, default=0, help="of all connections together")
    parser.add_argument("--connection-mbit", type=float, default=0, help="of each connection")
    args = parser.parse_args()
    shared = Meter(args.shared_mbit * 1e6 / 8)
    line = Line(args.to, args.delay_ms / 1e3, shared, args.connection_mbit * 1e6 / 8)
    trio.run(run, line)


if __name__ == "__main__":
    main()

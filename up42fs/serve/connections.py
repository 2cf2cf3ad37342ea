"""Connections of clients: accepted, limited in number and time, and served by hypercorn's HTTP/1.1.

Knows sockets and hypercorn; nothing of paths.

Theory. hypercorn's own server waits for ever, and shielded, for a client that reads nothing, and
accepts any number of them. So its protocol (h11 and ASGI) is used here with a loop of our own:
1. A client has `HEAD_S` to send the head of a request, counted from its first byte or from the end
   of the last answer. It may send it in any pieces, but not longer than that.
2. A client that takes none of the next 64 KiB for `STALL_S` is dropped.
3. There are at most `most` connections. If one more comes, the one that has waited longest for a
   request is closed; if all are busy, the newcomer waits in the kernel's queue.
4. When a client leaves, all work for its request is cancelled.

HTTP/2 is refused: it allows a client many requests on one connection, and GDAL, curl and browsers
do without.
"""

from __future__ import annotations

import errno
import logging
import math
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Request
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGISendEvent, ConnectionState
from hypercorn.utils import suppress_body

from up42fs import supervise
from up42fs.deadlines import patient_s

log = logging.getLogger(__name__)

Address = tuple[str, int]
#: The facts of a connection that the application gets, by key: a dictionary of its own for each.
About = Callable[[Address, Address], dict[str, object]]
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

#: Limits of one client, seconds; see above.
HEAD_S = patient_s(20.0)
STALL_S = patient_s(30.0)
HANDSHAKE_S = patient_s(10.0)
#: How long what a client still sends is read and dropped, so that it sees the answer.
LINGER_S = 1.0
#: Bytes that are given to the socket at once.
PIECE_BYTES = 64 << 10
#: Bytes that the kernel may queue for each of the first `MOST_QUEUES` clients. It wakes us when a
#: third is free, and a wake-up costs more than copying 100 KiB.
QUEUE_BYTES, MOST_QUEUES = 2 << 20, 16
#: The most connections, if the process may open as many files.
MOST_CONNECTIONS = 1000
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_FULL_PAUSE_S = 0.1
_MOST_QUEUED = Path("/proc/sys/net/core/wmem_max")


def most_connections() -> int:
    """The number of connections that leaves descriptors for everything else."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(8, min(MOST_CONNECTIONS, limit // 2))


def widen(plain: trio.SocketStream) -> None:
    """Let the kernel queue `QUEUE_BYTES`, if it allows so much: else its own choice is larger."""
    with suppress(OSError, ValueError):
        if int(_MOST_QUEUED.read_text()) >= QUEUE_BYTES:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)


class _UncopiedStream(HTTPStream):
    """hypercorn's answer to one request; bodies that are views of memory are not copied."""

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Send one message of the application."""
        if message is None:
            # The application ended early. If the head was on its way when the client left,
            # hypercorn takes it for not sent and begins another one.
            with suppress(h11.LocalProtocolError):
                await super().app_send(message)
            return
        if message["type"] != "http.response.body":
            await super().app_send(message)
            return
        body: object = message.get("body", b"")
        if not isinstance(body, memoryview) or self.state is not ASGIHTTPState.RESPONSE:
            await super().app_send(message)
            return
        if len(body) and not suppress_body(self.scope["method"], int(self.response["status"])):
            await self.send(Body(stream_id=self.stream_id, data=cast(bytes, body)))
        if not message.get("more_body", False):
            await self._send_closed()


class _StrictParser(h11.Connection):
    """h11's parser, to which all that follows the last request of a connection is an error.

    A client may send requests without waiting for answers. What it sends after one that says
    `Connection: close`, or that is answered so, is ignored (RFC 9112, 9.6); the answer is sent.
    """

    def next_event(self) -> Any:
        """The next event; none while an answer that ends the connection is sent."""
        if self.their_state is h11.MUST_CLOSE and self.trailing_data[0]:
            return h11.PAUSED
        return super().next_event()


class _Http1(H11Protocol):
    """HTTP/1.1, without hypercorn's upgrades to HTTP/2 and WebSocket."""

    def __init__(self, app: AppWrapper, config: Config, *others: Any) -> None:
        super().__init__(app, config, *others)
        self.connection = _StrictParser(
            h11.SERVER, max_incomplete_event_size=config.h11_max_incomplete_size
        )

    async def _check_protocol(self, event: h11.Request) -> None:
        """Offer no upgrade."""

    async def _create_stream(self, request: h11.Request) -> None:
        self.stream = _UncopiedStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of the answer."""
        if not isinstance(event, Body):
            await super().stream_send(event)
            return
        connection = cast(h11.Connection, self.connection)
        try:
            pieces = connection.send_with_data_passthrough(h11.Data(data=event.data)) or []
        except h11.LocalProtocolError:
            if connection.their_state is not h11.ERROR:
                raise
            return
        for piece in pieces:
            await self.send(RawData(data=piece))


class ClientConnection:
    """One client's connection."""

    def __init__(self, stream: Stream, client: Address, server: Address) -> None:
        self.client = client
        self.server = server
        #: Since when it waits for a request, by trio's clock; infinity while it is answered.
        self.idle_since_s = trio.current_time()
        self._stream = stream
        self._is_tls = isinstance(stream, trio.SSLStream)
        self._sending = trio.Lock()
        self._scope = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._is_answered = self._is_broken = False

    async def run(
        self, app: AppWrapper, config: Config, context: WorkerContext, about: dict[str, object]
    ) -> None:
        """Serve requests until the client leaves, stalls or is closed."""
        try:
            with self._scope:
                if isinstance(self._stream, trio.SSLStream):
                    with trio.fail_after(HANDSHAKE_S):
                        await self._stream.do_handshake()
                async with TaskGroup() as group:
                    protocol = _Http1(
                        app,
                        config,
                        context,
                        group,
                        ConnectionState(about),
                        self._is_tls,
                        self.client,
                        self.server,
                        self._handle,
                    )
                    await self._read(protocol)
                    self.close()
        except _GONE:
            self._is_broken = True
        finally:
            await self._end()

    def close(self) -> None:
        """End the connection now, and all work for it."""
        self._scope.cancel()

    async def _read(self, protocol: H11Protocol) -> None:
        while True:
            data: bytes | bytearray = b""
            with trio.CancelScope(deadline=self._deadline_s()) as self._waiting:
                try:
                    data = await self._stream.receive_some(PIECE_BYTES)
                except _GONE:  # raised from the group of tasks, it would come in a group of errors
                    self._is_broken = True
                    return
            if self._waiting.cancelled_caught or not data:
                return
            await protocol.handle(RawData(bytes(data)))

    def _deadline_s(self) -> float:
        return self.idle_since_s + HEAD_S if math.isfinite(self.idle_since_s) else math.inf

    async def _handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not event.data:  # the end of an answer is often nothing
                return
            try:
                await self._send(event.data)
            except _GONE:
                self._is_broken = True
                self.close()
                await trio.lowlevel.checkpoint()  # ends the task that sends
        elif isinstance(event, Closed):
            self._is_answered = True
            self.close()
        elif isinstance(event, Updated):
            self.idle_since_s = trio.current_time() if event.idle else math.inf
            self._waiting.deadline = self._deadline_s()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            if not isinstance(self._stream, trio.SSLStream):
                await _send_all(self._stream.socket, data)
                return
            for at in range(0, len(data), PIECE_BYTES):
                with trio.fail_after(STALL_S):
                    await self._stream.send_all(data[at : at + PIECE_BYTES])

    async def _end(self) -> None:
        """Close the socket; after a whole answer so that the client can still read it."""
        stream = self._stream
        with (
            trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER_S),
            suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            if self._is_answered and not self._is_broken and isinstance(stream, trio.SocketStream):
                await stream.send_eof()
                while await stream.receive_some(PIECE_BYTES):
                    pass
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if self._is_broken:
            with suppress(OSError):  # the kernel drops what the client did not take
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(plain)


async def _send_all(target: trio.socket.SocketType, data: bytes) -> None:
    """Send all; raises TooSlowError if the client takes nothing for a while."""
    with trio.fail_after(STALL_S) as scope:
        sent = await target.send(data)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while len(rest):
            scope.deadline = trio.current_time() + STALL_S
            rest = rest[await target.send(rest) :]


class Clients:
    """All connections of a server."""

    def __init__(self, most: int, about: About) -> None:
        self._most = most
        self._about = about
        self._open: set[ClientConnection] = set()
        self._freed = trio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def close_idle(self) -> None:
        """Close the connections that wait for a request."""
        for connection in self._open:
            if math.isfinite(connection.idle_since_s):
                connection.close()

    async def serve(
        self,
        listener: trio.SocketListener | trio.SSLListener[trio.SocketStream],
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        nursery: trio.Nursery,
    ) -> None:
        """Accept connections for ever, and serve each in `nursery`."""
        while True:
            await self._room()
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                log.warning("no more connections for now: %s", error)
                await trio.sleep(_FULL_PAUSE_S)
                continue
            supervise.start(nursery, self._run, stream, app, config, context)

    async def _run(
        self, stream: Stream, app: AppWrapper, config: Config, context: WorkerContext
    ) -> None:
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        try:
            client = plain.socket.getpeername()[:2]
            server = plain.socket.getsockname()[:2]
        except OSError:  # it has left already
            await trio.aclose_forcefully(plain)
            return
        if len(self._open) < MOST_QUEUES:
            widen(plain)
        connection = ClientConnection(stream, client, server)
        self._open.add(connection)
        try:
            await connection.run(app, config, context, self._about(client, server))
        finally:
            self._open.discard(connection)
            self._freed.set()

    async def _room(self) -> None:
        """Wait until there is room for one more connection."""
        while len(self._open) >= self._most:
            self._freed = trio.Event()
            idlest = min(self._open, key=lambda each: each.idle_since_s)
            if math.isfinite(idlest.idle_since_s):
                idlest.close()
            await self._freed.wait()

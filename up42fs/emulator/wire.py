"""An HTTP/1.1 server on trio and h11 that can also misbehave on purpose, byte by byte.

The handler takes `Request` values and returns `Response` values, with `Effects` that define how the
wire fails. Knows nothing of UP42: routes, signatures and journals belong to the handler.

Rejected: an ASGI server. ASGI cannot express a reset before the headers, a body that is shorter or
longer than its Content-Length, a stall at byte k or a drip; the server would repair or refuse them.
Here h11 parses requests and writes heads, and the body goes directly to the socket, so that it may
break any rule, and may be sent by sendfile without passing through Python.

Sizes are counted before the bytes leave: a client that has its whole response must find it complete
in the journal. File reads happen on the trio thread: they are bounded (1 MiB) and come from the
page cache; this server runs on the machine of its clients, for tests and demos.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import h11
import trio

from up42fs.emulator.content import BLOCK_BYTES, FileContent, ObjectContent

MAX_BODY_BYTES = 16 << 20
IDLE_S = 75.0
#: Responses up to this size are sent in one packet with their head.
COALESCE_BYTES = 64 << 10
#: Steps a second in which a paced body is sent.
STEPS_PER_S = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case, `path` percent-decoded, `raw_target` as sent."""

    method: str
    raw_target: str
    headers: dict[str, str]
    body: bytes
    connection_id: int

    @property
    def raw_path(self) -> str:
        """Path as sent, still percent-encoded."""
        return self.raw_target.partition("?")[0]

    @property
    def path(self) -> str:
        """Path, percent-decoded."""
        return unquote(self.raw_path)

    @property
    def raw_query(self) -> str:
        """Query as sent, without the question mark."""
        return self.raw_target.partition("?")[2]

    @property
    def query(self) -> list[tuple[str, str]]:
        """Query as pairs, repeated keys kept in order."""
        return parse_qsl(self.raw_query, keep_blank_values=True)

    def get(self, key: str, default: str | None = None) -> str | None:
        """Return the last query value of `key`."""
        return dict(self.query).get(key, default)

    def values(self, key: str) -> list[str]:
        """Return all query values of `key`, also comma-joined ones, as Spring binds lists."""
        return [
            part for k, text in self.query if k == key for part in text.split(",") if part.strip()
        ]


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes `[start, stop)` of a content."""

    content: ObjectContent
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Response:
    """One response. Without `has_length` the body is chunked, as from a store that gunzips.

    `declared_length` replaces the true length in Content-Length, for responses to HEAD.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Slice = b""
    has_length: bool = True
    declared_length: int | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """How the wire treats one response; sizes in bytes of body, times in seconds."""

    latency_s: float = 0.0
    rate_bytes_s: float | None = None
    reset_before_headers: bool = False
    stall_before_headers_s: float = 0.0
    cut_body_at: int | None = None
    short_body: int | None = None
    too_long_body: int | None = None
    stall_body_at: int | None = None
    stall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A response, how to send it, and the function that counts body bytes sent."""

    response: Response
    effects: Effects = field(default_factory=Effects)
    count: Callable[[int], None] = lambda _bytes: None


Handler = Callable[[Request], Awaitable[Exchange]]


class _GoneError(Exception):
    """The peer has left, or the connection is to end here."""


@dataclass(slots=True)
class WireConnection:
    """One client connection: handles requests one after the other until either side ends."""

    stream: trio.SocketStream
    connection_id: int
    handler: Handler
    idle_s: float = IDLE_S
    _http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.SERVER))

    async def run(self) -> None:
        """Serve until the client leaves, goes idle, or an effect ends the connection."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, _GoneError):
            pass
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.aclose_forcefully(self.stream)

    async def _serve_one(self) -> bool:
        try:
            request = await self._receive()
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
            return False
        if request is None:
            return False
        exchange = await self.handler(request)
        await self._send(request, exchange)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    # -- requests in

    async def _receive(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        with trio.move_on_after(self.idle_s):
            while True:
                event = await self._next_event()
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > MAX_BODY_BYTES:
                        raise h11.RemoteProtocolError("body too large", error_status_hint=413)
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    return self._request(head, bytes(body))
                else:
                    return None
        return None

    async def _next_event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self.stream.send_all(self._http.send(go_on) or b"")
            self._http.receive_data(await self.stream.receive_some(65536))

    def _request(self, head: h11.Request, body: bytes) -> Request:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in head.headers}
        method, target = head.method.decode("ascii"), head.target.decode("latin-1")
        return Request(method, target, headers, body, self.connection_id)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        text = f"{error}\n".encode()
        status = error.error_status_hint
        await self.stream.send_all(
            b"HTTP/1.1 %d Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, len(text), text)
        )

    # -- answers out

    async def _send(self, request: Request, exchange: Exchange) -> None:
        effects = exchange.effects
        await self._pause(effects.latency_s)
        if effects.reset_before_headers:
            self._reset()
        await self._pause(effects.stall_before_headers_s)
        response = exchange.response
        length = len(response.body)
        head = self._head(response, length)
        if request.method == "HEAD" or length == 0:
            await self.stream.send_all(head + self._end())
            return
        if not response.has_length:
            await self._send_chunked(head, response, exchange)
        elif isinstance(response.body, bytes) and length <= COALESCE_BYTES and _is_plain(effects):
            exchange.count(length)
            await self.stream.send_all(head + response.body)
            self._account(length)
        else:
            await self.stream.send_all(head)
            await self._send_body(response.body, exchange)

    def _head(self, response: Response, length: int) -> bytes:
        # A file name from a link's query may contain characters that a header value may not.
        headers = [(name.encode(), _header_value(value)) for name, value in response.headers]
        if response.has_length and response.status not in (204, 304):
            declared = response.declared_length if response.declared_length is not None else length
            headers.append((b"Content-Length", str(declared).encode()))
        event = h11.Response(status_code=response.status, headers=headers)
        return self._http.send(event) or b""

    def _end(self) -> bytes:
        return self._http.send(h11.EndOfMessage()) or b""

    def _account(self, length: int) -> None:
        """Make h11 account for a body of the declared length that bypassed it."""
        self._http.send_with_data_passthrough(h11.Data(data=_Sent(length)))  # type: ignore[arg-type]
        self._end()

    async def _send_chunked(self, head: bytes, response: Response, exchange: Exchange) -> None:
        await self.stream.send_all(head)
        body, sent, effects = response.body, 0, exchange.effects
        for piece in _pieces(body, 0, len(body)):
            if effects.cut_body_at is not None and sent + len(piece) > effects.cut_body_at:
                exchange.count(effects.cut_body_at - sent)
                data = h11.Data(data=bytes(piece[: effects.cut_body_at - sent]))
                await self.stream.send_all(self._http.send(data) or b"")
                self._reset()
            exchange.count(len(piece))
            await self.stream.send_all(self._http.send(h11.Data(data=bytes(piece))) or b"")
            sent += len(piece)
        await self.stream.send_all(self._end())

    async def _send_body(self, body: bytes | Slice, exchange: Exchange) -> None:
        effects, length = exchange.effects, len(body)
        stop = length - min(length, effects.short_body or 0)
        if effects.cut_body_at is not None:
            stop = min(stop, effects.cut_body_at)
        pause_at = effects.stall_body_at
        if pause_at is not None and pause_at < stop:
            await self._send_span(body, 0, pause_at, exchange)
            await self._pause(effects.stall_s)
            await self._send_span(body, pause_at, stop, exchange)
        else:
            await self._send_span(body, 0, stop, exchange)
        if effects.cut_body_at is not None and effects.cut_body_at < length:
            self._reset()
        if effects.too_long_body:
            exchange.count(effects.too_long_body)
            await self.stream.send_all(b"\xff" * effects.too_long_body)
            raise _GoneError
        if stop < length:
            raise _GoneError
        self._account(length)

    async def _send_span(self, body: bytes | Slice, start: int, stop: int, ex: Exchange) -> None:
        rate = ex.effects.rate_bytes_s
        if rate is not None:
            await self._send_paced(body, start, stop, ex, rate)
        elif isinstance(body, Slice) and isinstance(body.content, FileContent):
            path = body.content.path
            await self._send_file(str(path), body.start + start, body.start + stop, ex.count)
        else:
            for piece in _pieces(body, start, stop):
                ex.count(len(piece))
                await self.stream.send_all(piece)

    async def _send_paced(
        self, body: bytes | Slice, start: int, stop: int, ex: Exchange, rate: float
    ) -> None:
        step = max(1, min(BLOCK_BYTES, int(rate / STEPS_PER_S)))
        due = trio.current_time()
        for at in range(start, stop, step):
            end = min(at + step, stop)
            due += (end - at) / rate
            for piece in _pieces(body, at, end):
                ex.count(len(piece))
                await self.stream.send_all(piece)
            await self._pause(due - trio.current_time())

    async def _send_file(
        self, path: str, start: int, stop: int, count: Callable[[int], None]
    ) -> None:
        """Send `[start, stop)` of a file to the socket within the kernel."""
        sock = self.stream.socket
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while start < stop:
                wanted = min(stop - start, BLOCK_BYTES)
                count(wanted)
                sent = -1
                while sent < 0:
                    try:
                        sent = os.sendfile(sock.fileno(), source, start, wanted)
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(sock)
                count(sent - wanted)
                if sent == 0:
                    raise _GoneError  # the file shrank while it was served
                start += sent
                await trio.lowlevel.checkpoint()
        finally:
            os.close(source)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but end at once if the client hangs up."""
        if seconds <= 0:
            return
        with trio.move_on_after(seconds):
            await trio.lowlevel.wait_readable(self.stream.socket)
            if not await self.stream.socket.recv(1, socket.MSG_PEEK):
                raise _GoneError
            await trio.sleep_forever()

    def _reset(self) -> None:
        """End the connection by a TCP reset instead of a clean close."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _GoneError


class _Sent:
    """Stands for body bytes that bypassed h11 (its documented passthrough)."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def _is_plain(effects: Effects) -> bool:
    return (
        effects.rate_bytes_s is None
        and effects.cut_body_at is None
        and not effects.short_body
        and not effects.too_long_body
        and effects.stall_body_at is None
    )


def _pieces(body: bytes | Slice, start: int, stop: int) -> Iterator[bytes | memoryview]:
    if isinstance(body, Slice):
        return body.content.pieces(body.start + start, body.start + stop)
    return iter((memoryview(body)[start:stop],))


def _header_value(text: str) -> bytes:
    """Return `text` as h11 accepts it: no line breaks, no blanks at its ends."""
    return "".join(c if c.isprintable() else " " for c in text).strip().encode()

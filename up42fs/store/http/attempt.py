"""One request as its driving thread sees it: parses the head, feeds the sink, counts bytes.

Knows HTTP heads and sinks; nothing of libcurl but its error codes, of threads or of waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pycurl

from up42fs.net.proxies import Proxy
from up42fs.net.retry import Kind
from up42fs.store.http.ports import Head, Outcome, RangeRequest, Sink

ERROR_BODY_BYTES = 4096
#: A larger head is refused, in bytes.
HEAD_BYTES = 64 * 1024

#: CURLE_PROXY, which pycurl does not name: a SOCKS proxy does not connect.
_E_PROXY = 97
_KINDS = {
    pycurl.E_COULDNT_RESOLVE_HOST: Kind.UNREACHABLE,
    pycurl.E_COULDNT_RESOLVE_PROXY: Kind.UNREACHABLE,
    pycurl.E_COULDNT_CONNECT: Kind.UNREACHABLE,
    _E_PROXY: Kind.UNREACHABLE,
    pycurl.E_SSL_CONNECT_ERROR: Kind.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: Kind.TLS,
    pycurl.E_SSL_CACERT_BADFILE: Kind.TLS,
    pycurl.E_SSL_CERTPROBLEM: Kind.TLS,
    pycurl.E_SSL_CIPHER: Kind.TLS,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: Kind.GARBLED,
    pycurl.E_UNSUPPORTED_PROTOCOL: Kind.GARBLED,  # not HTTP/1.x
    pycurl.E_BAD_CONTENT_ENCODING: Kind.GARBLED,
}


class Attempt:
    """A running request. `on_over` is called once, when no more of the answer will come.

    Any thread may set `stop` and call `cut`; everything else belongs to the driving thread.
    """

    def __init__(
        self, request: RangeRequest, sink: Sink, stall_s: float, on_over: Callable[[], None]
    ) -> None:
        self.request = request
        self.stop = False
        self.place: memoryview | None = None  # where the body may be written directly
        self.crash: BaseException | None = None
        self.proxy: Proxy | None = None
        self.may_connect: Callable[[str], bool] | None = None  # None: the proxy connects
        self.refused: str | None = None  # a forbidden address that the host's name resolved to
        self._gate = threading.Lock()  # held while the sink is called
        self._is_lost = False
        self._lacks_socket = False
        self._sink = sink
        self._stall_s = stall_s
        self._on_over = on_over
        self._kind: Kind | None = None
        self._head: Head | None = None
        self._is_data = False
        self._has_enough = False
        self._has_stalled = False
        self._body_bytes = 0
        self._error_body = bytearray()
        self._heard_at_s = time.monotonic()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._head_bytes = 0

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
        """Stop the request; once this returns, the sink is not running and never called again."""
        with self._gate:
            self.stop = True

    def on_address(self, address: str) -> bool:
        """Check `address` before connecting to it; return whether it is allowed."""
        if self.may_connect is None or self.may_connect(address):
            return True
        self.refused = address
        return False

    def on_no_socket(self) -> None:
        """Note that this machine has no socket left for the request."""
        self._lacks_socket = True

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

    def end(self, code: int, *, was_sent: bool) -> None:
        """End with libcurl's `code`, or because we broke it off."""
        self._kind = self._kind_of(code, was_sent=was_sent)
        self.place = None
        self._on_over()

    def refuse(self) -> None:
        """End before it began: nothing is sent any more."""
        self.stop = True
        self.end(pycurl.E_WRITE_ERROR, was_sent=False)

    def lose(self) -> None:
        """End because of a failure on this machine; a retry may succeed."""
        self._is_lost = True
        self.place = None
        self._on_over()

    @property
    def outcome(self) -> Outcome:
        """How the request ended."""
        kind = Kind.LOCAL if self._is_lost else self._kind
        return Outcome(self._head, kind, self._body_bytes, bytes(self._error_body))

    def _kind_of(self, code: int, *, was_sent: bool) -> Kind | None:
        if self._has_enough and not self.stop:
            return None
        if self._has_stalled:
            return Kind.STALLED
        if self._lacks_socket and code == pycurl.E_COULDNT_CONNECT:
            return Kind.LOCAL
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return Kind.STALLED if was_sent else Kind.UNREACHABLE
        if code:
            return _KINDS.get(code, Kind.BROKEN)
        # libcurl accepts a truncated head; this code does not.
        return None if self._head is not None else Kind.BROKEN

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
        return self._head_bytes <= HEAD_BYTES

    def _begin(self) -> bool:
        self._head = Head(self._status, dict(self._headers))
        self._is_data = self._status in (200, 206)
        if self._is_data:
            self._has_enough = not self._sink.begin(self._head)
            self.place = None if self._has_enough else self._sink.space()
        return not self._has_enough

    def _on_body(self, data: bytes) -> bool:
        self._body_bytes += len(data)
        if not self._is_data:
            self._error_body += data[: ERROR_BODY_BYTES - len(self._error_body)]
            return True
        self._has_enough = not self._sink.write(data)
        # Take the last bytes of a body whole, so that the connection can be reused.
        return not self._has_enough or self._is_over()

    def _on_placed(self, count: int) -> bool:
        self._has_enough = not self._sink.fill(count)
        return not self._has_enough or self._is_over()

    def _is_over(self) -> bool:
        assert self._head is not None
        return self._head.headers.get("content-length") == str(self._body_bytes)

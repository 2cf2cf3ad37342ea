"""Ranged GETs by libcurl in worker threads.

Knows HTTP and libcurl; nothing of links' lives, versions, parts or retries.

Theory. libcurl moves bytes at two to three times the speed and a third of the processor time of
what Python offers on the trio thread, and `perform` holds no GIL while it waits. So each request
is one blocking call on an easy handle in a worker thread; a handle keeps its connection and goes
back to the idle list of its host, last in first out, so that few connections stay warm.
Who touches what: an *attempt* belongs to its worker until `perform` returns; the trio thread only
sets `stop`, which the worker sees at the next bytes or, on a silent line, within a second (the
progress callback). A cancelled fetch does not wait for that: its thread is abandoned and finds
nobody; its connection is closed, since the rest of the body is still on it.
Nothing is written before the head was seen to be final and the sink accepted it.
"""

from __future__ import annotations

import ipaddress
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pycurl
import trio

from up42fs import __version__
from up42fs.core.retry import Kind
from up42fs.errors import InvalidAnswer
from up42fs.patience import patient_s
from up42fs.store.ports import Head, Outcome, RangeRequest, Sink

CONNECT_TIMEOUT_S = max(1, round(patient_s(10)))
#: A line silent for so long, or about as long slower than this, has stalled.
STALL_BYTES_S = 1024
STALL_S = max(1, round(patient_s(10)))
RECEIVE_BYTES = 256 * 1024
ERROR_BODY_BYTES = 4096
#: A head larger than this is not one.
HEAD_BYTES = 64 * 1024

#: CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name: a proxy's answer to CONNECT is no
#: answer of the store.
_SUPPRESS_CONNECT_HEADERS = 265
_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
_KINDS = {
    pycurl.E_COULDNT_RESOLVE_HOST: Kind.UNREACHABLE,
    pycurl.E_COULDNT_RESOLVE_PROXY: Kind.UNREACHABLE,
    pycurl.E_COULDNT_CONNECT: Kind.UNREACHABLE,
    pycurl.E_SSL_CONNECT_ERROR: Kind.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: Kind.TLS,
    pycurl.E_SSL_CACERT_BADFILE: Kind.TLS,
    pycurl.E_SSL_CERTPROBLEM: Kind.TLS,
    pycurl.E_SSL_CIPHER: Kind.TLS,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: Kind.GARBLED,
    pycurl.E_UNSUPPORTED_PROTOCOL: Kind.GARBLED,  # not HTTP/1.x
    pycurl.E_BAD_CONTENT_ENCODING: Kind.GARBLED,
}


def find_ca_file(environ: Mapping[str, str]) -> str:
    """The certificate bundle: SSL_CERT_FILE, else the system's, else certifi's.

    pycurl's wheels bundle a libcurl whose compiled-in path need not exist on this machine. The
    system's bundle comes before certifi's as it holds the certificates of inspecting proxies.
    """
    for path in (environ.get("SSL_CERT_FILE"), *_SYSTEM_CA_FILES):
        if path and Path(path).is_file():
            return path
    return certifi.where()


def check_url(url: str) -> str:
    """The host of `url`, with its port; raises InvalidAnswer unless it is safe to speak to."""
    parts = urlsplit(url)
    if parts.username or parts.password or not parts.hostname:
        raise InvalidAnswer("UP42 signed a link that cannot be used: report this")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise InvalidAnswer("UP42 signed a link that is not https: report this")
    return parts.netloc


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Attempt:
    """One request as its worker sees it: parses the head, asks the sink, passes bytes on."""

    def __init__(self, sink: Sink, stall_s: float) -> None:
        self.stop = False
        self.stalled = False
        self.enough = False
        self.head: Head | None = None
        self.body_bytes = 0
        self.error_body = bytearray()
        self.crash: BaseException | None = None
        self._sink = sink
        self._stall_s = stall_s
        self._heard_at_s = math.inf  # until it was sent
        self._status = 0
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_data = False

    def on_header(self, line: bytes) -> int:
        """Take one header line; another value than its length makes libcurl abort."""
        return len(line) if self._guard(self._on_header, line) else 0

    def on_body(self, data: bytes) -> int:
        """Take bytes of the body."""
        return len(data) if self._guard(self._on_body, data) else 0

    def on_progress(self, *_: object) -> int:
        """Called at least once a second; non-zero aborts."""
        # libcurl's own low-speed limit averages over seconds: it is late to notice silence.
        now_s = time.monotonic()
        self._heard_at_s = min(self._heard_at_s, now_s)
        self.stalled = now_s - self._heard_at_s > self._stall_s
        return int(self.stop or self.stalled)

    def _guard(self, handle: Callable[[bytes], bool], data: bytes) -> bool:
        # pycurl would print an exception and go on; it belongs to whoever waits for the fetch.
        self._heard_at_s = time.monotonic()
        try:
            return not self.stop and handle(data)
        except BaseException as error:
            self.crash = error
            return False

    def _on_header(self, line: bytes) -> bool:
        if self.head is not None:
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
        self.head = Head(self._status, dict(self._headers))
        self._is_data = self._status in (200, 206)
        self.enough = self._is_data and not self._sink.begin(self.head)
        return not self.enough

    def _on_body(self, data: bytes) -> bool:
        self.body_bytes += len(data)
        if not self._is_data:
            self.error_body += data[: ERROR_BODY_BYTES - len(self.error_body)]
            return True
        self.enough = not self._sink.write(data)
        # The last bytes of a body are taken whole, so that the connection stays usable.
        return not self.enough or self._is_over()

    def _is_over(self) -> bool:
        assert self.head is not None
        return self.head.headers.get("content-length") == str(self.body_bytes)


@dataclass(slots=True)
class _Host:
    limiter: trio.CapacityLimiter
    idle: list[pycurl.Curl] = field(default_factory=list)


class CurlTransport:
    """Sends ranged GETs, at most `connections` at once to one host."""

    def __init__(
        self, connections: int, *, environ: Mapping[str, str] | None = None, stall_s: int = STALL_S
    ) -> None:
        self._connections = connections
        self._stall_s = stall_s
        self._ca_file = find_ca_file(os.environ if environ is None else environ)
        self._hosts: dict[str, _Host] = {}
        self._live: set[_Attempt] = set()
        self._generation = 0

    async def fetch(self, request: RangeRequest, sink: Sink) -> Outcome:
        """See `ports.Transport.fetch`; raises InvalidAnswer for a link that must not be used."""
        netloc = check_url(request.url)
        host = self._hosts.get(netloc)
        if host is None:
            host = self._hosts[netloc] = _Host(trio.CapacityLimiter(self._connections))
        attempt = _Attempt(sink, self._stall_s)
        self._live.add(attempt)
        try:
            kind = await trio.to_thread.run_sync(
                self._perform, host, request, attempt, limiter=host.limiter, abandon_on_cancel=True
            )
        finally:
            # Whoever no longer waits wants no more: an abandoned worker ends within a second.
            attempt.stop = True
            self._live.discard(attempt)
        if attempt.crash is not None:
            raise attempt.crash
        return Outcome(attempt.head, kind, attempt.body_bytes, bytes(attempt.error_body))

    def reset(self) -> None:
        """Drop idle connections and break those in use."""
        self._generation += 1
        for attempt in self._live:
            attempt.stop = True
        for host in self._hosts.values():
            idle, host.idle = host.idle, []
            for curl in idle:
                curl.close()

    def close(self) -> None:
        """Drop everything."""
        self.reset()
        self._hosts.clear()

    def _perform(self, host: _Host, request: RangeRequest, attempt: _Attempt) -> Kind | None:
        """Run one request; in a worker thread."""
        generation = self._generation
        curl = _take(host.idle) or self._new_handle()
        try:
            self._prepare(curl, request, attempt)
            curl.perform()
        except pycurl.error as error:
            return self._ended(curl, int(error.args[0]), attempt)
        finally:
            _detach(curl)
            if generation == self._generation:
                host.idle.append(curl)
            else:
                curl.close()
        # libcurl is content with a head that was cut off; we are not.
        return None if attempt.head is not None else Kind.BROKEN

    def _ended(self, curl: pycurl.Curl, code: int, attempt: _Attempt) -> Kind | None:
        if attempt.enough and not attempt.stop:
            return None
        if attempt.stalled:
            return Kind.STALLED
        if code == pycurl.E_OPERATION_TIMEDOUT:
            connected = curl.getinfo(pycurl.PRETRANSFER_TIME) > 0
            return Kind.STALLED if connected else Kind.UNREACHABLE
        return _KINDS.get(code, Kind.BROKEN)

    def _new_handle(self) -> pycurl.Curl:
        curl = pycurl.Curl()
        set_ = curl.setopt
        set_(pycurl.NOSIGNAL, 1)
        set_(pycurl.FOLLOWLOCATION, 0)
        set_(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        set_(pycurl.CAINFO, self._ca_file)
        set_(pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_S)
        set_(pycurl.LOW_SPEED_LIMIT, STALL_BYTES_S)
        set_(pycurl.LOW_SPEED_TIME, self._stall_s)
        set_(pycurl.BUFFERSIZE, RECEIVE_BYTES)
        set_(pycurl.TCP_KEEPALIVE, 1)
        set_(pycurl.USERAGENT, f"up42fs/{__version__}")
        set_(pycurl.NETRC, pycurl.NETRC_IGNORED)
        set_(_SUPPRESS_CONNECT_HEADERS, 1)
        set_(pycurl.NOPROGRESS, 0)
        return curl

    def _prepare(self, curl: pycurl.Curl, request: RangeRequest, attempt: _Attempt) -> None:
        # The store refuses signed requests with other than these (contract §6, Forbidden headers).
        headers = ["Accept-Encoding: identity"]
        if request.if_match is not None:
            headers.append(f"If-Match: {request.if_match}")
        set_ = curl.setopt
        set_(pycurl.URL, request.url)
        set_(pycurl.RANGE, f"{request.span.start}-{request.span.stop - 1}")
        set_(pycurl.HTTPHEADER, headers)
        set_(pycurl.TIMEOUT_MS, max(1, int(request.timeout_s * 1000)))
        if is_loopback(urlsplit(request.url).hostname or ""):
            set_(pycurl.PROXY, "")
        else:
            curl.unsetopt(pycurl.PROXY)  # libcurl then reads HTTPS_PROXY and NO_PROXY
        set_(pycurl.HEADERFUNCTION, attempt.on_header)
        set_(pycurl.WRITEFUNCTION, attempt.on_body)
        set_(pycurl.XFERINFOFUNCTION, attempt.on_progress)


def _take(idle: list[pycurl.Curl]) -> pycurl.Curl | None:
    try:
        return idle.pop()
    except IndexError:
        return None


def _ignore(data: bytes) -> int:
    return len(data)


def _detach(curl: pycurl.Curl) -> None:
    # An idle handle must not keep the last attempt's buffers, nor its link.
    curl.setopt(pycurl.HEADERFUNCTION, _ignore)
    curl.setopt(pycurl.WRITEFUNCTION, _ignore)
    curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: 0)
    curl.setopt(pycurl.URL, "http://localhost/")

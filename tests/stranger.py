"""A service by somebody else, who read the contract loosely: for what the emulator would not say.

One origin for API, identity server and object store. Extra fields, other key orders and header
spellings, answers in pieces, errors in plain words, links signed in an own way. `rows`, `items`
and `hooks` are the test's to change. Keeps what it was asked, with the headers that matter.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from up42fs.emulator import pattern_bytes

TOKEN = "stranger-token-7f3a"
ME = "0d1f5a52-0000-4000-8000-00000000beef"


def asset_id(number: int) -> str:
    return f"{number:08d}-1111-4111-8111-{number:012d}"


def row(number: int, **fields: Any) -> dict[str, Any]:
    """An asset of 300 000 bytes; its pattern's seed is its number."""
    return {
        "surprise": {"deep": [1, {"er": None}]},
        "updatedAt": "2025-02-03T04:05:06.789+02:00",
        "size": 300_000,
        "name": f"file {number}.bin",
        "createdAt": "2025-01-01T00:00:00Z",
        "id": asset_id(number),
        "contentType": "application/octet-stream",
        "stac": 17,
    } | fields


@dataclass
class Stranger:
    """The running service. A hook answers (status, headers, body), or None for the usual."""

    url: str = ""
    rows: list[dict[str, Any]] = field(default_factory=lambda: [row(n) for n in range(1, 4)])
    items: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    coverage: dict[str, Any] | None = None
    hooks: dict[str, Callable[[str], tuple[int, dict[str, str], bytes] | None]] = field(
        default_factory=dict
    )
    link: Callable[[str], str] | None = None
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {
            "UP42_API_URL": self.url, "UP42_AUTH_URL": self.url,
            "UP42_USERNAME": "me@example.com", "UP42_PASSWORD": "a strange passw0rd",
        }  # fmt: skip

    def asked(self, part: str) -> list[tuple[str, str, dict[str, str]]]:
        return [request for request in self.seen if part in request[1]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("content-length") or 0))
        stranger, path = self.server.stranger, urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        stranger.seen.append((self.command, self.path, headers))
        for pattern, hook in stranger.hooks.items():
            if re.search(pattern, self.path) and (made := hook(self.path)) is not None:
                self._send(*made)
                return
        if path.endswith("/token"):
            self._json({"token_type": "bearer", "expires_in": "299", "access_token": TOKEN})
        elif path.startswith("/bucket/"):
            self._object(path)
        elif headers.get("authorization") != f"Bearer {TOKEN}":
            self._send(401, {"content-type": "text/plain"}, b"who are you?")
        else:
            self._api(path, urlsplit(self.path).query)

    def _api(self, path: str, query: str) -> None:
        stranger = self.server.stranger
        if path.endswith("/userinfo"):
            self._json({"sub": ME, "nickname": "me"})
        elif path.endswith("/download-url"):
            self._sign(path.split("/")[-2])
        elif "/stac" in path:
            self._json({"links": [], "features": self._found(), "collections": [], "x": 1})
        elif path.startswith("/v2/assets/"):
            self._metadata(path.split("/")[3])
        elif path in ("/v2/assets", "/v2/orders"):
            self._page(stranger.rows if path == "/v2/assets" else stranger.orders, query)
        elif path.startswith("/v2/orders/") and (one := self._order(path.split("/")[3])):
            self._json(one)
        elif path.startswith("/v2/coverage/orders/") and stranger.coverage is not None:
            self._json(stranger.coverage)
        else:
            self._send(404, {"content-type": "text/plain"}, b"no such thing here")

    def _order(self, wanted: str) -> dict[str, Any] | None:
        return next((o for o in self.server.stranger.orders if o["id"] == wanted), None)

    def _found(self) -> list[dict[str, Any]]:
        """The items that fit the filter; what it does not understand, it ignores."""
        try:
            asked = json.loads(self._body or b"{}").get("filter")
        except (ValueError, AttributeError):
            asked = None
        return [item for item in self.server.stranger.items if _fits(item, asked)]

    def _page(self, rows: list[dict[str, Any]], query: str) -> None:
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        number, size = int(asked.get("page", 0)), int(asked.get("size", 20))
        pages = max(1, -(-len(rows) // size))
        self._json({
            "weather": "fine", "totalPages": pages, "content": rows[number * size:][:size],
            "pageable": {"sort": None}, "number": number, "totalElements": len(rows),
        })  # fmt: skip

    def _metadata(self, wanted: str) -> None:
        found = [row for row in self.server.stranger.rows if row.get("id") == wanted]
        if found:
            self._json(found[0])
        else:
            self._send(404, {"content-type": "text/plain"}, b"never heard of it")

    def _sign(self, wanted: str) -> None:
        stranger = self.server.stranger
        link = stranger.link(wanted) if stranger.link else f"{stranger.url}/bucket/{wanted}?k=s3cr"
        self._json({"note": "enjoy", "url": link})

    def _object(self, path: str) -> None:
        found = [r for r in self.server.stranger.rows if r.get("id") == path.split("/")[-1]]
        if not found:
            self._send(404, {}, b"")
            return
        number = int(str(found[0]["id"])[:8])
        size = int(found[0].get("true size", found[0]["size"]))
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range") or "")
        start, stop = (int(span[1]), min(int(span[2]) + 1, size)) if span else (0, size)
        headers = {"content-range": f"bytes {start}-{stop - 1}/{size}", "etag": 'W/"weak"'}
        self._send(206 if span else 200, headers, pattern_bytes(number, start, stop - start))

    def _json(self, value: Any) -> None:
        body = json.dumps(value, indent=1).encode()
        self.send_response(200)
        self.send_header("content-type", "application/vnd.stranger+json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), 1000):
            piece = body[at : at + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


_PROPERTIES = {
    "asset_id": "up42-system:asset_id",
    "job_id": "up42-system:job_id",
    "order_id": "up42-order:id",
}


def _fits(item: dict[str, Any], asked: Any) -> bool:
    if not isinstance(asked, dict) or not isinstance(asked.get("args"), list):
        return True
    op, args = asked.get("op"), asked["args"]
    if op in ("and", "or"):
        return (all if op == "and" else any)(_fits(item, one) for one in args)
    if op == "not":
        return not _fits(item, args[0])
    name = args[0].get("property") if isinstance(args[0], dict) else None
    value = item["properties"].get(_PROPERTIES.get(str(name), name))
    if op == "isNull":
        return value is None
    if op == "in":
        return value in args[1]
    return op != "=" or value == args[1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stranger: Stranger

    def handle_error(self, *_: Any) -> None:
        pass  # clients hang up


@contextmanager
def stranger(certificate: Path | None = None) -> Iterator[Stranger]:
    """Serve until the block ends; over TLS with a certificate, whose key lies beside it."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
            # The handshake belongs to each connection's own thread, not to the one that accepts.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "https" if certificate else "http"
        server.stranger = Stranger(f"{scheme}://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.stranger
        finally:
            server.shutdown()
            thread.join()

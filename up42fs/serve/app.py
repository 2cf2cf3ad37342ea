"""The ASGI application: the gate, the routes, the access log, and headers that every answer has.

Knows the engine and what `gate` decides; `files.Tree` answers for the tree, `page` for people.

The access log has a line for each request: user or address, method, path, status, bytes, time. It
never holds a token, a link or a query: a client may write anything into it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from up42fs import supervise
from up42fs.engine import Engine, prometheus
from up42fs.serve import gate
from up42fs.serve.addresses import encoded
from up42fs.serve.files import Message, Send, Tree, refuse, reply, wire
from up42fs.serve.gate import Peer, Refusal, Rules
from up42fs.serve.page import WebPage
from up42fs.visible import visible

log = logging.getLogger(__name__)
access = logging.getLogger("up42fs.serve.access")

#: Sent with every answer: nobody guesses types, frames this, or learns addresses from it.
_ALWAYS = wire(
    [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
    ]
)
_SAME_ORIGIN = wire([("cross-origin-resource-policy", "same-origin")])
#: Paths that do not belong to the tree.
_FIXED = frozenset({b"/", b"/healthz", b"/metrics", b"/status.json"})
_PAGE = b"/-/"
_TEXT = ("content-type", "text/plain; charset=utf-8")
#: Prometheus' text format.
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_LONGEST_PATH = 1024


class App:
    """The application for one engine."""

    def __init__(
        self,
        engine: Engine,
        rules: Rules,
        *,
        proxies: bool = False,
        mountpoint: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        """`mountpoint` tells where the same storage is mounted on this machine, if it is."""
        self._engine = engine
        self._rules = rules
        self._tree = tree = Tree(engine, proxies=proxies)
        page = WebPage(engine, tree, mountpoint)
        self._routes = Starlette(
            routes=[
                Route("/healthz", _Answers(self._health)),
                Route("/metrics", _Answers(self._metrics)),
                Route("/status.json", _At(tree, b"/.up42fs/status.json")),
                *page.routes(),
            ],
        )
        self._routes.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1003})
            return
        headers = _headers(scope)
        peer = scope.get("state", {}).get("peer", Peer())
        watched = _Watched(send, self._always(headers))
        began_s = time.monotonic()
        try:
            await self._serve(scope, receive, watched.send, headers, peer)
        except Exception as error:
            supervise.report(self._serve, error)
            if not watched.status:
                await refuse(watched.send, 500, "up42fs failed; its log says why")
        finally:
            self._engine.metrics.count("serve.requests")
            if access.isEnabledFor(logging.INFO):
                self._note(scope, peer, watched, time.monotonic() - began_s)

    async def _serve(
        self, scope: Any, receive: Any, send: Send, headers: Mapping[str, str], peer: Peer
    ) -> None:
        if self._rules.origins and gate.preflight(self._rules, scope["method"], headers):
            await reply(send, 204, b"", gate.preflight_headers())
            return
        entry = gate.admit(self._rules, peer, scope["method"], scope["raw_path"], headers)
        if isinstance(entry, Refusal):
            self._engine.metrics.count("serve.refused")
            await refuse(send, entry.status, entry.words, list(entry.headers))
            return
        scope["path"] = entry.path.decode("latin-1")
        scope["state"] |= {
            "entry": entry,
            "headers": headers,
            "base": self._base(scope, headers) + entry.prefix,
        }
        # Nearly all requests are for the tree; asking each route first takes as long as a lookup.
        is_fixed = entry.path in _FIXED or entry.path.startswith(_PAGE)
        await (self._routes if is_fixed else self._tree)(scope, receive, send)

    def _base(self, scope: Any, headers: Mapping[str, str]) -> str:
        """The address of this server, as the client knows it."""
        host, port = scope["server"]
        netloc = headers.get("host") or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        scheme, prefix = scope["scheme"], ""
        if self._rules.is_behind_proxy:
            scheme = "https" if headers.get("x-forwarded-proto") == "https" else scheme
            prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
            prefix = encoded(prefix) if prefix.startswith("/") else ""
        return f"{scheme}://{netloc}{prefix}"

    def _always(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        shared = gate.cors_headers(self._rules, headers)
        return _ALWAYS + (wire(shared) if shared else _SAME_ORIGIN)

    async def _health(self, send: Send) -> None:
        await reply(send, 200, b"ok\n", [_TEXT, ("cache-control", "no-store")])

    async def _metrics(self, send: Send) -> None:
        body = prometheus.render(self._engine.status()).encode(errors="replace")
        headers = [("content-type", _PROMETHEUS), ("cache-control", "no-store")]
        await reply(send, 200, body, headers)

    def _note(self, scope: Any, peer: Peer, watched: _Watched, took_s: float) -> None:
        client = (scope.get("client") or ("?", 0))[0]
        who = f"{client} uid {peer.uid}" if peer.uid is not None else client
        raw, token = gate.without_token(scope["raw_path"])
        path = visible(raw.decode("latin-1")[:_LONGEST_PATH])
        access.info(
            "%s %s %s%s%s %s %d bytes %.3f s",
            who,
            visible(scope["method"][:16]),
            "/~<redacted>" if token else "",
            path,
            "?<redacted>" if scope["query_string"] else "",
            watched.status or "-",
            watched.sent_bytes,
            took_s,
        )


class _Watched:
    """Adds headers to an answer, and remembers its status and length."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0
        self.sent_bytes = 0

    async def send(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers]
        else:
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


class _Answers:
    """An endpoint that needs nothing of the request."""

    def __init__(self, answer: Callable[[Send], Awaitable[None]]) -> None:
        self._answer = answer

    async def __call__(self, _scope: Any, _receive: Any, send: Send) -> None:
        await self._answer(send)


def _headers(scope: Any) -> dict[str, str]:
    """The headers by name in lower case; values of one name are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _At:
    """The tree's answer for another path."""

    def __init__(self, tree: Tree, path: bytes) -> None:
        self._tree = tree
        self._path = path

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        entry = scope["state"]["entry"]
        scope["state"]["entry"] = gate.moved(entry, self._path)
        await self._tree(scope, receive, send)

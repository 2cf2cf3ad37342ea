"""The page for people at `/`, and the facts that it asks for.

Knows the engine and the static files in `static/`; the script there draws. Everything that the page
shows comes from this server, and no fact costs a request to UP42 that the tree would not cost.

- `/-/NAME`: a static file
- `/-/about`: the account, where it is mounted, what is cached, what things cost, what is wrong
- `/-/info/PATH`: the attributes of a file or directory
- `/-/cached/PATH`: bytes on this machine of each file in a directory
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

import trio
from starlette.routing import Route

from up42fs.engine import Engine
from up42fs.errors import NoAttribute, NotShared, Up42fsError
from up42fs.fs.xattrs import CACHED
from up42fs.serve import pages
from up42fs.serve.addresses import joined
from up42fs.serve.files import Send, Tree, TreeRequest, ask_of, refuse, reply, status_of
from up42fs.serve.gate import moved

#: Files of a directory whose cached bytes are counted.
MOST_COUNTED = 500
#: Seconds that a mount point is remembered: finding it reads other processes' status.
MOUNTPOINT_S = 30.0
_KINDS = {"html": pages.HTML_KIND, "css": "text/css", "js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_COUNTERS = (
    *("api.requests", "store.requests", "store.bytes_fetched", "store.disk_hits_bytes"),
    *("store.signs", "serve.requests", "serve.redirects", "serve.bytes"),
)

Find = Callable[[], Awaitable[str | None]]


class WebPage:
    """The page and its endpoints."""

    def __init__(self, engine: Engine, tree: Tree, mountpoint: Find | None = None) -> None:
        """`mountpoint` finds where the same storage is mounted on this machine."""
        self._engine = engine
        self._tree = tree
        self._find = mountpoint
        self._mountpoint: str | None = None
        self._found_s = -MOUNTPOINT_S
        folder = resources.files(__package__) / "static"
        self._files = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}

    def routes(self) -> list[Route]:
        """The routes of the page; the others belong to the tree."""
        return [
            Route("/", _Endpoint(self._home)),
            Route("/-/about", _Endpoint(self._about)),
            Route("/-/info/{path:path}", _Endpoint(self._info)),
            Route("/-/cached/{path:path}", _Endpoint(self._cached)),
            Route("/-/{name}", _Endpoint(self._static)),
        ]

    async def _home(self, scope: Any, send: Send) -> None:
        ask = ask_of(scope)
        if pages.wants_json(ask.headers.get("accept", ""), ask.says("json")):
            await self._tree(scope, None, send)
            return
        await self._send_file("page.html", send)

    async def _static(self, scope: Any, send: Send) -> None:
        await self._send_file(scope["path_params"]["name"], send)

    async def _send_file(self, name: str, send: Send) -> None:
        body = self._files.get(name)
        if body is None:
            await refuse(send, 404, "there is no such file")
            return
        kind = _KINDS.get(name.rpartition(".")[2], "application/octet-stream")
        headers = [
            ("content-type", kind),
            ("content-security-policy", _POLICY),
            ("cache-control", "no-cache"),
        ]
        await reply(send, 200, body, headers)

    async def _about(self, scope: Any, send: Send) -> None:
        ask = ask_of(scope)
        status = self._engine.status()
        counters = status["counters"]
        assert isinstance(counters, Mapping)
        is_trusted = ask.entry.is_trusted
        about = {
            "base": ask.base,
            "version": status["version"],
            "account": status["account"] if is_trusted else None,
            "api": status["api"],
            "assets": status["assets"],
            "orders": status["orders"],
            "bytes": status["bytes"],
            "catalogue": status["catalogue"] if is_trusted else {},
            "cache": status["disk_cache"] if is_trusted else None,
            "egress": status["egress"],
            "store": status["store"],
            "counters": {name: counters.get(name, 0) for name in _COUNTERS},
            "notes": status["notes"] if is_trusted else [],
            "errors": status.get("recent_errors", []) if is_trusted else [],
            "mountpoint": await self._mounted_at() if is_trusted else None,
            "proxies": self._tree.proxies,
        }
        await _send_json(about, send)

    async def _info(self, scope: Any, send: Send) -> None:
        ask = _inner(scope, b"/-/info")
        engine = self._engine
        found = await engine.stat(ask.path)
        attributes = {}
        async with engine.at(ask.path) as place:
            for name, value in (await place.xattrs(is_trusted=ask.entry.is_trusted)).items():
                attributes[name.removeprefix("user.")] = value.decode(errors="replace")
        about = {
            "path": ask.path,
            "href": joined(ask.base, ask.path, is_dir=found.is_dir),
            "size": None if found.is_dir else found.size,
            "cached": None if found.is_dir else await self._cached_bytes(ask.path),
            "attributes": attributes,
        }
        await _send_json(about, send)

    async def _cached(self, scope: Any, send: Send) -> None:
        ask = _inner(scope, b"/-/cached")
        cached = {}
        for entry in (await self._engine.entries(ask.path))[:MOST_COUNTED]:
            if not entry.is_dir:
                held = await self._cached_bytes(f"{ask.path.rstrip('/')}/{entry.name}")
                if held:
                    cached[entry.name] = held
        await _send_json(cached, send)

    async def _cached_bytes(self, path: str) -> int:
        try:
            return int(await self._engine.attribute(path, CACHED))
        except (NoAttribute, NotShared):
            return 0

    async def _mounted_at(self) -> str | None:
        if self._find is not None and trio.current_time() - self._found_s >= MOUNTPOINT_S:
            self._found_s = trio.current_time()
            self._mountpoint = await self._find()
        return self._mountpoint


class _Endpoint:
    """An endpoint whose failures become a status."""

    def __init__(self, answer: Callable[[Any, Send], Awaitable[None]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Any, _receive: Any, send: Send) -> None:
        try:
            await self._answer(scope, send)
        except Up42fsError as error:
            await refuse(send, status_of(error), str(error))


def _inner(scope: Any, mark: bytes) -> TreeRequest:
    """The request, for the path of the tree behind `mark`."""
    entry = scope["state"]["entry"]
    scope["state"]["entry"] = moved(entry, entry.path.removeprefix(mark) or b"/")
    return ask_of(scope)


async def _send_json(value: object, send: Send) -> None:
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    await reply(send, 200, body, [("content-type", pages.JSON_KIND), ("cache-control", "no-store")])

"""Answers to requests for paths of the tree: redirects, bytes, documents, directories.

Knows the engine and ASGI; `conditions`, `documents` and `pages` decide what an answer holds, and
`gate` has admitted the request.

A file that UP42 signs links to is answered by a redirect to one, which lives for `LINK_LASTS_S`
more seconds at least. Bytes come through the cache instead if the request or the server says
`proxy`; if the file has no link of its own; if a budget limits the fetched bytes, which can only be
counted here; and if a page of another origin or an untrusted user asks, since the object store
answers no such page, and a link works for everybody.

An error in the middle of a body closes the connection before its announced end, so that a client
cannot take a part for the whole.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import trio

from up42fs import logs
from up42fs.engine import Engine, Place
from up42fs.engine.objects import Readable, id_of, open_object
from up42fs.errors import InvalidArgument, NotFound, OtherVersion, SignInFailed, Up42fsError
from up42fs.fs.tree.nodes import Attributes
from up42fs.model.names import mime_type
from up42fs.readahead.tuning import Reading
from up42fs.serve import pages
from up42fs.serve.addresses import decoded
from up42fs.serve.conditions import (
    Representation,
    Verdict,
    http_date,
    is_conditional,
    judge,
    moment_of,
)
from up42fs.serve.documents import with_addresses
from up42fs.serve.gate import AdmittedRequest
from up42fs.store.members.extent import StoredObject
from up42fs.types import Bytes, Version
from up42fs.visible import visible

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[str, str]]

#: A client that is redirected has this long to begin with the link, seconds.
LINK_LASTS_S = 15.0
#: Bytes of a body that are read and sent at once: the first, the most and the least. They double
#: while reads take less than `QUICK_S`, as those out of the cache, so that bytes that come over a
#: slow line are passed on as they come. All bodies together share `CHUNKS_BYTES`.
FIRST_CHUNK_BYTES, MOST_CHUNK_BYTES, LEAST_CHUNK_BYTES = 256 << 10, 4 << 20, 128 << 10
CHUNKS_BYTES = 32 << 20
QUICK_S = 0.02
#: With more bodies than this, chunks are copied. A view of the cache's memory, which a slow client
#: takes long to read, keeps megabytes around it from being reused.
MOST_VIEWS = 16
#: Fields of a query.
MOST_FIELDS = 16
#: The name under which reads are accounted for.
PROGRAM = "serve"
#: Delivered files may be pages with scripts, which must not run under this server's address.
_SANDBOX = ("content-security-policy", "default-src 'none'; sandbox")
_STATUSES = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EISDIR: 404,
    errno.ENODATA: 404,
    errno.EINVAL: 400,
    errno.E2BIG: 413,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EDQUOT: 403,
    errno.EROFS: 405,
    errno.ESTALE: 503,
    errno.ENETUNREACH: 503,
    errno.ENOMEM: 503,
    errno.ETIMEDOUT: 504,
    errno.EIO: 502,
}
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class TreeRequest:
    """One admitted request: `base` begins the addresses in its answer."""

    is_get: bool
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    base: str
    entry: AdmittedRequest

    def says(self, name: str) -> bool | None:
        """Whether the query switches `name` on; None if it does not mention it."""
        values = self.query.get(name)
        return None if values is None else values[-1].casefold() not in ("0", "no", "off", "false")


def ask_of(scope: Mapping[str, Any]) -> TreeRequest:
    """The request of an ASGI scope that the gate has admitted; raises InvalidArgument."""
    state = scope["state"]
    entry: AdmittedRequest = state["entry"]
    query = scope["query_string"].decode("latin-1")
    if query.count("&") >= MOST_FIELDS:
        raise InvalidArgument(f"the query has more than {MOST_FIELDS} fields")
    return TreeRequest(
        scope["method"] == "GET",
        decoded(entry.path),
        state["headers"],
        parse_qs(query, keep_blank_values=True, max_num_fields=MOST_FIELDS) if query else {},
        state["base"],
        entry,
    )


async def reply(send: Send, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
    """Send a whole answer; the server leaves the body out where the request is a HEAD."""
    every = [*(headers or []), ("content-length", str(len(body)))]
    await send({"type": "http.response.start", "status": status, "headers": wire(every)})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, status: int, words: str, headers: Headers | None = None) -> None:
    """Send a sentence as an answer."""
    kind = ("content-type", "text/plain; charset=utf-8")
    text = visible(logs.redact(words)) + "\n"
    told = [kind, ("cache-control", "no-store"), *(headers or [])]
    await reply(send, status, text.encode(errors="replace"), told)


def wire(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI sends them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def status_of(error: Up42fsError) -> int:
    """The HTTP status of a failure."""
    if isinstance(error, SignInFailed):
        return 502  # UP42 refuses the server's account; the client has done nothing wrong
    return _STATUSES.get(error.errno, 500)


class Tree:
    """The ASGI application that answers for paths of the tree."""

    def __init__(self, engine: Engine, *, proxies: bool) -> None:
        self._engine = engine
        self._must_proxy = engine.settings.max_egress is not None
        #: Whether bytes come through here unless a request says otherwise.
        self.proxies = proxies or self._must_proxy
        self._bodies = 0

    async def __call__(self, scope: Any, _receive: Any, send: Send) -> None:
        """Answer one request; each failure before the first byte becomes a status."""
        is_begun = False

        async def tracked(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            ask = ask_of(scope)
            try:
                await self._answer(ask, tracked)
            except OtherVersion:
                # The path leads to a newer version by now: look it up again.
                if is_begun:
                    raise
                await self._answer(ask, tracked)
        except Up42fsError as error:
            if is_begun:
                log.warning("a body is cut short: %s", error)
                return
            status = status_of(error)
            headers = [("retry-after", str(_RETRY_AFTER_S))] if status in (503, 504) else []
            await refuse(send, status, str(error), headers)

    async def _answer(self, ask: TreeRequest, send: Send) -> None:
        if (object_id := id_of(ask.path)) is not None:
            await self._by_id(ask, object_id, send)
            return
        async with self._engine.at(ask.path) as place:
            mode = place.attributes.mode
            if stat.S_ISDIR(mode):
                await self._directory(ask, place, send)
            elif stat.S_ISLNK(mode):
                raise NotFound(f"{visible(ask.path)}: it is of use on a mount only")
            elif ask.entry.path.endswith(b"/"):
                raise NotFound(f"{visible(ask.path)}: it is a file, and no directory")
            elif place.has_link and not self._goes_through(ask):
                await self._redirect(place, send)
            else:
                await self._content(ask, place, send)

    def _goes_through(self, ask: TreeRequest) -> bool:
        """Whether the bytes of a file that has links come through here."""
        if self._must_proxy or ask.entry.is_from_page or not ask.entry.is_trusted:
            return True
        said = ask.says("proxy")
        return self.proxies if said is None else said

    async def _redirect(self, place: Place, send: Send) -> None:
        link = await place.link(LINK_LASTS_S)
        self._engine.metrics.count("serve.redirects")
        await reply(send, 302, b"", [("location", link.url), ("cache-control", "no-store")])

    async def _by_id(self, ask: TreeRequest, object_id: str, send: Send) -> None:
        """Answer for a file that is named by its ID, as `up42fs.stac.stable` names it."""
        if self._goes_through(ask):
            known = StoredObject(object_id, None, object_id)
            file = await open_object(self._engine.store, known, Reading.ANY)
            try:
                headers = [("content-type", content_type(ask.path))]
                modified_s = moment_of(file.version.modified if file.version else None)
                await self._stream(ask, file, modified_s or 0, headers, send)
            finally:
                file.close()
            return
        link = await self._engine.store.link(object_id, LINK_LASTS_S)
        self._engine.metrics.count("serve.redirects")
        await reply(send, 302, b"", [("location", link.url), ("cache-control", "no-store")])

    # directories ---------------------------------------------------------------------------

    async def _directory(self, ask: TreeRequest, place: Place, send: Send) -> None:
        listing = await place.listing()
        kind, body = pages.directory(
            ask.path,
            listing,
            ask.base,
            is_json=pages.wants_json(ask.headers.get("accept", ""), ask.says("json")),
        )
        headers = [("content-type", kind), ("cache-control", "no-cache"), ("vary", "Accept")]
        await self._whole(ask, body, headers, _made_s(place.attributes), send)

    # files ---------------------------------------------------------------------------------

    async def _content(self, ask: TreeRequest, place: Place, send: Send) -> None:
        is_trusted = ask.entry.is_trusted
        async with place.opened(program=PROGRAM, is_trusted=is_trusted) as file:
            headers = [("content-type", content_type(ask.path))]
            if not place.is_rendered:
                await self._stream(ask, file, _made_s(place.attributes), headers, send)
                return
            body = bytes(await file.read(0, file.size))
        directory = ask.path.rpartition("/")[0]
        body = with_addresses(body, directory, ask.base)
        headers.append(("cache-control", "no-cache"))
        await self._whole(ask, body, headers, _made_s(place.attributes), send)

    async def _whole(
        self, ask: TreeRequest, body: bytes, headers: Headers, modified_s: int, send: Send
    ) -> None:
        """Answer with a body in memory, whose entity tag is made from it."""
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        content = Representation(len(body), tag, modified_s)
        # What is made on request has no time that says whether it changed.
        told = {n: v for n, v in ask.headers.items() if n not in _DATED}
        verdict = judge(told, content, is_get=ask.is_get)
        headers = [*headers, *_described(content, verdict, is_dated=False)]
        await _start(send, verdict, headers)
        await send({"type": "http.response.body", "body": body[verdict.start : verdict.stop]})

    async def _stream(
        self, ask: TreeRequest, file: Readable, modified_s: int, headers: Headers, send: Send
    ) -> None:
        if file.version is None and is_conditional(ask.headers):
            await file.read(0, 1)  # the version comes with the first bytes
        content = _described_by(file.version, file.size, modified_s)
        verdict = judge(ask.headers, content, is_get=ask.is_get)
        if not ask.is_get or verdict.start == verdict.stop:
            await _start(send, verdict, headers + _of_bytes(content, verdict))
            await send({"type": "http.response.body", "body": b""})
            return
        with self._body():
            # The first bytes come before the head, so that a failure is a status.
            chunk = min(FIRST_CHUNK_BYTES, verdict.stop - verdict.start)
            data = await file.read(verdict.start, chunk)
            content = _described_by(file.version, file.size, modified_s)
            await _start(send, verdict, headers + _of_bytes(content, verdict))
            await self._pass(file, data, verdict, send)

    async def _pass(self, file: Readable, data: Bytes, verdict: Verdict, send: Send) -> None:
        """Send the bytes from `data` on to the end; the next ones are read meanwhile."""
        into, pieces = trio.open_memory_channel[Bytes | Up42fsError](0)
        async with trio.open_nursery() as nursery:
            at = verdict.start + len(data)
            if at < verdict.stop:
                nursery.start_soon(self._read, file, at, verdict.stop, into)
            at = verdict.start
            while True:
                at += len(data)
                self._engine.metrics.count("serve.bytes", len(data))
                body = bytes(data) if self._bodies > MOST_VIEWS else data
                more = at < verdict.stop
                await send({"type": "http.response.body", "body": body, "more_body": more})
                if not more:
                    return
                found = await pieces.receive()
                if isinstance(found, Up42fsError):
                    break
                data = found
        raise found

    async def _read(
        self,
        file: Readable,
        at: int,
        stop: int,
        into: trio.MemorySendChannel[Bytes | Up42fsError],
    ) -> None:
        """Read the bytes `[at, stop)` piece by piece, each while the one before is sent."""
        chunk = FIRST_CHUNK_BYTES
        while at < stop:
            share = min(MOST_CHUNK_BYTES, CHUNKS_BYTES // self._bodies)
            chunk = max(LEAST_CHUNK_BYTES, min(chunk, share))
            size = min(chunk, stop - at)
            # What lies in one part of the store is sent as a view of it; across two it is copied.
            here = len(file.ahead(at, size))
            if here >= LEAST_CHUNK_BYTES:
                size = here
            began_s = trio.current_time()
            try:
                data = await file.read(at, size)
            except Up42fsError as error:
                await into.send(error)
                return
            chunk = chunk * 2 if trio.current_time() - began_s < QUICK_S else chunk // 2
            at += size
            await into.send(data)

    @contextmanager
    def _body(self) -> Iterator[None]:
        self._bodies += 1
        try:
            yield
        finally:
            self._bodies -= 1


_DATED = frozenset({"if-modified-since", "if-unmodified-since"})


def _made_s(attributes: Attributes) -> int:
    return attributes.mtime_ns // 1_000_000_000


def _described_by(version: Version | None, size: int, modified_s: int) -> Representation:
    if version is None:
        return Representation(size, None, modified_s)
    return Representation(size, version.etag or _tag(version.generation), modified_s)


def _of_bytes(content: Representation, verdict: Verdict) -> Headers:
    """The headers of delivered bytes."""
    return [*_described(content, verdict), _SANDBOX, ("cache-control", "private, no-cache")]


def _tag(generation: str | None) -> str | None:
    return None if generation is None else f'"{generation}"'


def _described(content: Representation, verdict: Verdict, *, is_dated: bool = True) -> Headers:
    """The headers about a body and its version."""
    headers = [("accept-ranges", "bytes")]
    if content.etag is not None:
        headers.append(("etag", content.etag))
    if is_dated:
        headers.append(("last-modified", http_date(content.modified_s)))
    if verdict.status == 206:
        told = f"bytes {verdict.start}-{verdict.stop - 1}/{content.size}"
        headers.append(("content-range", told))
    elif verdict.status == 416:
        headers.append(("content-range", f"bytes */{content.size}"))
    return headers


async def _start(send: Send, verdict: Verdict, headers: Headers) -> None:
    if verdict.status != 304:
        headers = [*headers, ("content-length", str(verdict.stop - verdict.start))]
    start = {"type": "http.response.start", "status": verdict.status, "headers": wire(headers)}
    await send(start)


def content_type(path: str) -> str:
    """The Content-Type of a file, by its name."""
    name = path.rpartition("/")[2]
    extension = name.rpartition(".")[2].lower()
    kind = _KINDS.get(extension) or mime_type(name, None) or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


_KINDS = {
    "json": "application/json",
    "geojson": "application/geo+json",
    "readme": "text/plain",
    "metrics": "text/plain",
    "changes": "text/plain",
}

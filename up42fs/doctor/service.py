"""The features of an account's service: the open questions of UP42's API, as mere reads.

Each probe sends one or a few requests and says in words what came back. None of them changes
anything: they are GET, HEAD, searches, and the signing of one link. The words are made of numbers,
of statuses and of names of fields, never of IDs, names, texts or links: a report can be shown to
anybody.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import trio

from up42fs.api.network import make_http
from up42fs.config.settings import Settings
from up42fs.doctor.finding import Finding, fail, ok, warn
from up42fs.engine.account import connect
from up42fs.errors import Up42fsError
from up42fs.metrics import Metrics
from up42fs.net import expiry

STEP_TIMEOUT_S = 20.0
#: Pages are asked for this many rows, to learn how many the service gives.
LARGE_PAGE = 1000
#: The most that is read of one answer, bytes: it may be a file.
MOST_BYTES = 16 << 20
_STAC = "/v2/assets/stac"
_GEO = "application/geo+json, application/json, */*;q=0.5"
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,39}")
_ID = re.compile(r"[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """What came back: `status` 0 if nothing did; a document if it was JSON."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    document: Any = None
    error: str = ""

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    def rows(self, *keys: str) -> list[Any]:
        if isinstance(self.document, Mapping):
            for key in keys:
                if isinstance(self.document.get(key), list):
                    return list(self.document[key])
        return []

    def __str__(self) -> str:
        return str(self.status) if self.status else self.error or "no answer"


class ProbedService:
    """Sends requests as the account, each once, and remembers what probes need of each other."""

    def __init__(self, http: httpx.AsyncClient, api: str, token: str) -> None:
        self._http, self._api, self.token = http, api, token
        self.asset_id = self.stac_id = self.order_id = self.link = ""

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        accept: str = "*/*",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ProbeResponse:
        bearer = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return await self._send(
            method, self._api + path, {"Accept": accept, **bearer, **(headers or {})}, body
        )

    async def ask_store(self, method: str, **headers: str) -> ProbeResponse:
        return await self._send(method, self.link, headers, None)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Any
    ) -> ProbeResponse:
        try:
            with trio.fail_after(STEP_TIMEOUT_S):
                request = self._http.build_request(method, url, headers=dict(headers), json=body)
                response = await self._http.send(request, stream=True)
                try:
                    content = await _some(response)
                finally:
                    await response.aclose()
        except trio.TooSlowError:
            return ProbeResponse(0, error=f"no answer within {STEP_TIMEOUT_S:.0f} s")
        except httpx.HTTPError as error:
            return ProbeResponse(0, error=type(error).__name__)
        document = None
        with suppress(ValueError):
            document = json.loads(content)
        return ProbeResponse(response.status_code, response.headers, document)


async def _some(response: httpx.Response) -> bytes:
    if "json" not in response.headers.get("content-type", ""):
        return b""  # a file: its head is enough
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            break
    return b"".join(pieces)


Probe = Callable[[ProbedService], Awaitable[str]]


async def examine(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Run every probe; a probe that fails is a line of its own and stops none of the others."""
    try:
        async with connect(settings, Metrics()) as connection:
            token = await connection.tokens.token()
    except Up42fsError as error:
        words, _, cure = str(error).partition("; ")
        yield fail("account", words, cure or "up42fs doctor")
        return
    yield ok("token", _about_token(token))
    async with make_http() as http:
        service = ProbedService(http, settings.api, token)
        for name, probe in PROBES:
            try:
                words = await probe(service)
            except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
                words = f"an answer that is not understood ({type(error).__name__})"
                yield warn(name, words, _SEND)
                continue
            yield ok(name, words)


_SEND = "send this report to the makers of up42fs: up42fs doctor --account --json"


def _about_token(token: str) -> str:
    """The life of a token and what claims it has, if it tells."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        life_s = int(claims["exp"]) - int(claims["iat"])
    except (IndexError, ValueError, KeyError, TypeError):
        return "it does not say how long it lives"
    return f"it lives {life_s} s; claims {_names(claims)}"


def _names(found: Iterable[object]) -> str:
    """Names of fields, as far as they look like that: an ID or a text is none."""
    texts = {name for name in map(str, found) if _FIELD.fullmatch(name)}
    names = sorted(name for name in texts if not _ID.search(name))
    return ", ".join(names[:24]) or "none"


def _shape(answer: ProbeResponse) -> str:
    if isinstance(answer.document, Mapping):
        return f"{answer} with {_names(answer.document)}"
    return f"{answer}, no JSON object"


# -- the probes, in an order in which later ones use what earlier ones found


async def _assets(service: ProbedService) -> str:
    answer = await service.ask("GET", f"/v2/assets?page=0&size={LARGE_PAGE}&sort=createdAt,asc")
    rows = [row for row in answer.rows("content") if isinstance(row, Mapping)]
    if not answer.is_ok:
        return f"{_shape(answer)}: STAC alone lists the storage"
    sized = [row for row in rows if isinstance(row.get("size"), int) and row["size"] > 0]
    smallest = min(sized or rows, key=lambda row: row.get("size") or 0, default={})
    service.asset_id = str(smallest.get("id") or "")
    total = answer.document.get("totalElements")
    limit = answer.document.get("size")
    fields = {name for row in rows for name in row}
    return (
        f"{answer}; asked for {LARGE_PAGE} rows, got {len(rows)} of {_count(total)}, page size "
        f"{_count(limit)}; fields {_names(fields)}"
    )


async def _orders(service: ProbedService) -> str:
    answer = await service.ask("GET", f"/v2/orders?page=0&size={LARGE_PAGE}")
    rows = [row for row in answer.rows("content") if isinstance(row, Mapping)]
    tasking = [row for row in rows if row.get("type") == "TASKING"]
    service.order_id = str(next((row.get("id") for row in tasking or rows), "") or "")
    bare = sum(not row.get("createdAt") or not row.get("orderDetails") for row in rows)
    listing = sum("assets" in row for row in rows)
    return (
        f"{answer}; got {len(rows)}, {len(tasking)} of them tasking; {bare} without createdAt or "
        f"orderDetails, {listing} list their assets; fields {_names({n for r in rows for n in r})}"
    )


async def _coverage(service: ProbedService) -> str:
    if not service.order_id:
        return "not asked: there is no order"
    return _shape(await service.ask("GET", f"/v2/coverage/orders/{service.order_id}"))


async def _landing(service: ProbedService) -> str:
    answer = await service.ask("GET", f"{_STAC}/", accept=_GEO)
    classes = [str(name).rpartition("/")[2] for name in answer.rows("conformsTo")]
    filters = sorted({name for name in classes if "cql" in name or "filter" in name})
    advanced = any("advanced" in name for name in classes)
    return (
        f"{answer}; {len(classes)} conformance classes, about filters {_names(filters)}; advanced "
        f"comparison operators {'are' if advanced else 'are not'} announced"
    )


async def _queryables(service: ProbedService) -> str:
    answer = await service.ask("GET", f"{_STAC}/queryables", accept=_GEO)
    properties = answer.document.get("properties") if isinstance(answer.document, Mapping) else None
    return f"{answer}; {_names(properties or ())}"


async def _search(service: ProbedService) -> str:
    answer = await service.ask("POST", f"{_STAC}/search", body={"limit": 500}, accept=_GEO)
    rows = [row for row in answer.rows("features") if isinstance(row, Mapping)]
    first = [
        _ids(await service.ask("POST", f"{_STAC}/search", body={"limit": 10}, accept=_GEO))
        for _ in range(2)
    ]
    links = [link for link in answer.rows("links") if isinstance(link, Mapping)]
    follows = next((link for link in links if link.get("rel") == "next"), {})
    files = [f for row in rows for f in (row.get("assets") or {}).values() if isinstance(f, dict)]
    service.stac_id = _stac_id(service, files)
    return (
        f"{answer}; asked for 500 items, got {len(rows)}; twice the same order: "
        f"{'yes' if first[0] == first[1] else 'no'}; next link "
        f"{follows.get('method', 'GET') if follows else 'none'}"
    )


def _ids(answer: ProbeResponse) -> list[object]:
    return [row.get("id") for row in answer.rows("features") if isinstance(row, Mapping)]


def _stac_id(service: ProbedService, files: Iterable[Mapping[str, Any]]) -> str:
    """The ID of one file that is no delivery."""
    for file in files:
        path = urlsplit(str(file.get("href"))).path.removesuffix("/download-url")
        id_ = path.rpartition("/")[2]
        is_delivery = "original" in (file.get("roles") or ()) or file.get("title") == "Data"
        if path.startswith("/v2/assets/") and not is_delivery and id_ != service.asset_id:
            return id_
    return ""


async def _items(service: ProbedService) -> str:
    answer = await service.ask("POST", f"{_STAC}/search", body={"limit": 100}, accept=_GEO)
    rows = [row for row in answer.rows("features") if isinstance(row, Mapping)]
    said = [row["properties"] for row in rows if isinstance(row.get("properties"), Mapping)]
    files = [f for row in rows for f in (row.get("assets") or {}).values() if isinstance(f, dict)]
    hrefs = [str(file.get("href")) for file in files]
    suffixed = sum(urlsplit(href).path.endswith("/download-url") for href in hrefs)
    versions = {str(p.get("up42-system:metadata_version")) for p in said}
    shown = sorted(v for v in versions if re.fullmatch(r"[\d.]{1,12}", v))
    with_order = sum("up42-order:id" in p for p in said)
    with_job = sum("up42-system:job_id" in p for p in said)
    return (
        f"{len(rows)} items, {with_order} name their order and {with_job} a job; metadata versions "
        f"{' '.join(shown) or 'none'}; {len(files)} files, {suffixed} hrefs end in /download-url; "
        f"hosts {_hosts(hrefs)}; fields of files {_names({n for f in files for n in f})}"
    )


def _hosts(urls: Iterable[str]) -> str:
    hosts = {urlsplit(url).hostname or "none" for url in urls}
    return ", ".join(sorted(host for host in hosts if len(host) < 64)[:4]) or "none"


async def _filters(service: ProbedService) -> str:
    if not service.asset_id:
        return "not asked: there is no asset"
    is_it = {"op": "=", "args": [{"property": "asset_id"}, service.asset_id]}
    forms = {
        "=": is_it,
        "or": {"op": "or", "args": [is_it, is_it]},
        "in": {"op": "in", "args": [{"property": "asset_id"}, [service.asset_id]]},
        "isNull": {"op": "isNull", "args": [{"property": "order_id"}]},
    }
    said = []
    for name, expression in forms.items():
        body = {"limit": 5, "filter": expression, "filter-lang": "cql2-json"}
        answer = await service.ask("POST", f"{_STAC}/search", body=body, accept=_GEO)
        said.append(f"{name} {answer}, {len(answer.rows('features'))} found")
    return "; ".join(said)


async def _accepts(service: ProbedService) -> str:
    body = {"limit": 1}
    said = [
        f"{kind} {await service.ask('POST', f'{_STAC}/search', body=body, accept=kind)}"
        for kind in ("*/*", "application/json", "application/geo+json")
    ]
    return "; ".join(said)


async def _collections(service: ProbedService) -> str:
    answer = await service.ask("GET", f"{_STAC}/collections?limit=500", accept=_GEO)
    rows = [row for row in answer.rows("collections") if isinstance(row, Mapping)]
    own = sum(bool(row.get("assets")) for row in rows)
    return f"{answer}; asked for 500, got {len(rows)}, {own} have assets of their own"


async def _metadata(service: ProbedService) -> str:
    if not service.stac_id:
        return "not asked: no file of an item was found"
    answer = await service.ask("GET", f"/v2/assets/{service.stac_id}/metadata")
    has_size = isinstance(answer.document, Mapping) and _is_count(answer.document.get("size"))
    return f"of a STAC file: {answer}, {'with' if has_size else 'without'} a size"


async def _direct(service: ProbedService) -> str:
    if not service.asset_id:
        return "not asked: there is no asset"
    answer = await service.ask(
        "GET", f"/v2/assets/{service.asset_id}", headers={"Range": "bytes=0-0"}
    )
    target = answer.headers.get("location")
    leads = f" to {_hosts([target])}" if target else ""
    ranges = "yes" if answer.status == 206 else "no"
    return f"GET /v2/assets/{{id}}: {answer}{leads}; answers a range: {ranges}"


async def _links(service: ProbedService) -> str:
    id_ = service.asset_id or service.stac_id
    if not id_:
        return "not asked: there is no asset"
    answer = await service.ask("POST", f"/v2/assets/{id_}/download-url")
    service.link = str((answer.document or {}).get("url") or "") if answer.is_ok else ""
    if not service.link:
        return _shape(answer)
    sent = parse_qs(urlsplit(service.link).query)
    query = {key.lower(): values[-1] for key, values in sent.items()}
    style = "V4" if "x-goog-algorithm" in query else "V2" if "googleaccessid" in query else "other"
    life_s = expiry.lifetime_s(service.link, expiry.server_time(answer.headers.get("date")))
    quoted = '"' in query.get("response-content-disposition", "")
    said = "quoted" if quoted else "plain" if "response-content-disposition" in query else "none"
    return f"signed {style}, life {life_s:.0f} s, file name {said}, host {_hosts([service.link])}"


async def _store(service: ProbedService) -> str:
    if not service.link:
        return "not asked: there is no link"
    head = await service.ask_store("HEAD")
    some = await service.ask_store("GET", Range="bytes=0-0")
    wanted = ("etag", "last-modified", "x-goog-generation", "x-goog-hash", "accept-ranges")
    shown = _names(name for name in wanted if name in some.headers)
    encoding = _names([some.headers.get("x-goog-stored-content-encoding", "")])
    return f"HEAD {head}; a range {some}, headers {shown}; stored encoding {encoding}"


async def _errors(service: ProbedService) -> str:
    unknown = await service.ask("GET", f"/v2/assets/{uuid4()}/metadata")
    bad = await service.ask("GET", "/v2/assets?workspaceId=a")
    refused = await service.ask("GET", "/v2/assets?size=1", token="not-a-token")  # noqa: S106
    limits = {
        name.lower()
        for answer in (unknown, bad, refused)
        for name in answer.headers
        if "ratelimit" in name.lower().replace("-", "") or name.lower() == "retry-after"
    }
    return (
        f"unknown ID {_shape(unknown)}; bad parameter {_shape(bad)}; bad token {_shape(refused)}; "
        f"headers about limits {_names(limits)}"
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(value: object) -> str:
    return str(value) if _is_count(value) else "?"


PROBES: tuple[tuple[str, Probe], ...] = (
    ("assets", _assets),
    ("orders", _orders),
    ("coverage", _coverage),
    ("stac", _landing),
    ("queryables", _queryables),
    ("collections", _collections),
    ("search", _search),
    ("items", _items),
    ("filters", _filters),
    ("accept", _accepts),
    ("metadata", _metadata),
    ("download", _direct),
    ("links", _links),
    ("store", _store),
    ("errors", _errors),
)

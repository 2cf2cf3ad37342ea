"""Shared state of the handlers: storage, switches, journal, and the shapes of errors.

Handlers are plain functions from a `ReceivedCall` to a `Response`; the server waits and sends.
Knows nothing of sockets.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from up42fs.emulator.clock import US, format_http
from up42fs.emulator.external import ExternalStore
from up42fs.emulator.faults import FaultBox, Faults
from up42fs.emulator.journal import RequestJournal
from up42fs.emulator.storage import Storage
from up42fs.emulator.wire import Request, Response

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Urls:
    """The addresses of the three servers."""

    api_url: str
    auth_url: str
    store_url: str

    @property
    def control_url(self) -> str:
        """The control endpoint, on the API's port."""
        return f"{self.api_url}/_emulator"


class ApiError(Exception):
    """A response other than success; its body follows the `error_shape` switch."""

    def __init__(self, status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


@dataclass(slots=True)
class EmulatedService:
    """The state that all three servers share."""

    storage: Storage
    box: FaultBox
    urls: Urls
    journal: RequestJournal = field(default_factory=RequestJournal)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    link_secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    external: ExternalStore | None = None

    @property
    def faults(self) -> Faults:
        """The current switches."""
        return self.box.faults

    @property
    def public_url(self) -> str:
        """The API's address in bodies: by switch not the one that clients use."""
        return self.faults.public_url or self.urls.api_url + (self.faults.api_prefix or "")

    def revoke_tokens(self) -> None:
        """Invalidate every token issued so far."""
        self.secret = secrets.token_bytes(32)

    def revoke_links(self) -> None:
        """Invalidate every link signed so far."""
        self.link_secret = secrets.token_bytes(32)

    def now_s(self) -> float:
        """The servers' clock in Unix seconds; all planes share it, and `date_skew_s` is added."""
        return time.time() + self.faults.date_skew_s

    def now_us(self) -> int:
        """The servers' clock in whole microseconds."""
        return int(self.now_s() * US)

    def date(self) -> str:
        """The `Date` header of a response made now."""
        return format_http(self.now_us())


@dataclass(slots=True)
class ReceivedCall:
    """One request, as a handler receives it."""

    service: EmulatedService
    request: Request
    params: dict[str, str]
    struck: bool = False

    @property
    def storage(self) -> Storage:
        """The emulated storage."""
        return self.service.storage

    @property
    def faults(self) -> Faults:
        """The current switches."""
        return self.service.faults

    @property
    def strikes(self) -> Faults:
        """The switches that strike this request; all off if it is not struck."""
        return self.faults if self.struck else Faults()

    def json(self) -> Any:
        """Parse the JSON body; an empty one is an empty object. 400 if it is malformed."""
        if not self.request.body:
            return {}
        try:
            return json.loads(self.request.body)
        except ValueError as error:
            raise ApiError(400, f"Malformed JSON request: {error}") from None


Handle = Callable[[ReceivedCall], Response]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`pattern` has `{name}` for one path segment; journal and switches use the route's `name`."""

    method: str
    pattern: str
    name: str
    handle: Handle
    is_public: bool = False

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Return the path parameters, or None if the request does not match."""
        if method != self.method:
            return None
        found = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.pattern), path)
        return found.groupdict() if found else None


def json_response(value: Any, status: int = 200, media_type: str = JSON) -> Response:
    """Return `value` as a JSON response."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, (("Content-Type", media_type),), body)


def error_response(
    shape: str, status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Return an error in one of the three shapes of contract §7.2."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    media_type, body = JSON, {}
    if shape == "problem":
        media_type = "application/problem+json"
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    elif shape == "basic":
        body = {"code": status, "message": detail, "details": None}
    else:
        body = {"data": None, "error": {"code": status, "message": detail, "details": None}}
    answer = json_response(body, status, media_type)
    return Response(status, answer.headers + headers, answer.body)


def struck_response(faults: Faults, now_us: int, rng: random.Random) -> Response:
    """Return the response that `fail_status` requests, with its Retry-After."""
    status = faults.fail_status or 500
    headers = _retry_after(faults.retry_after, now_us)
    if faults.fail_body == "empty":
        return Response(status, headers)
    if faults.fail_body == "html" or status == 502:
        page = f"<html><title>{status}</title><body>upstream {rng.randrange(9999)}</body></html>"
        return Response(status, (("Content-Type", "text/html"), *headers), page.encode())
    return error_response(faults.error_shape, status, f"Emulated status {status}.", headers)


def _retry_after(text: str | None, now_us: int) -> tuple[tuple[str, str], ...]:
    if text is None:
        return ()
    if text.startswith("date:"):
        text = format_http(now_us + int(float(text[5:]) * US))
    return (("Retry-After", text),)

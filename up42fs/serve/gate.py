"""Admission of requests: users of this machine, tokens, host names, methods, pages of other sites.

Pure: takes what is known of a request and returns a refusal, or what the request may do.

Theory. Three kinds of clients are kept out.
1. *Other machines.* Only addresses of loopback are open without a token; the command line refuses
   others unless there is a token and TLS, or a proxy in front that takes care of both.
2. *Other users of this machine*, who reach loopback as well. Without a token the kernel is asked
   which user's socket a connection comes from: the user who serves and root may enter. So
   `http://127.0.0.1:8042/...` works in your programs as it is, and in nobody else's. With
   `allow_other` others may read bytes and documents, but get no links and no account data, as on a
   mount; with `share_links` everything. A client with the token may do everything.
3. *Pages of other sites* in your browser. Their requests come from your own user, but name another
   host (DNS rebinding), or the browser says that they are cross-site. Both are refused; `--cors`
   lets pages of listed origins read.

A token is sent as `Authorization: Bearer TOKEN`, as the password of Basic, or stands in front of
the path, `/~TOKEN/orders/...`, for programs that take nothing but an address. In the last case the
addresses in documents begin likewise.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from up42fs.serve.addresses import is_ours

#: A path that anyone may ask for, and what it tells is whether the server lives.
HEALTH = b"/healthz"
_METHODS = frozenset({"GET", "HEAD"})
_TOKEN_MARK = b"/~"
_ANY = "*"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection: the user's ID, None if the kernel could not tell it."""

    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of admission. `owner` is the ID of the user who serves."""

    owner: int
    token: str | None = field(default=None, repr=False)
    is_local: bool = True
    is_behind_proxy: bool = False
    hosts: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()
    allow_other: bool = False
    share_links: bool = False

    @property
    def tells_users_apart(self) -> bool:
        """Whether it matters which user a connection comes from."""
        return self.token is None and not self.is_behind_proxy

    def allows(self, origin: str) -> bool:
        """Whether pages of an origin may read."""
        return _ANY in self.origins or origin in self.origins


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status, a sentence that says why, and further headers."""

    status: int
    words: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """An admitted request: its path without the token, and whether it is trusted.

    `prefix` stands in front of every path in addresses. `is_from_page`: a page of another origin
    asks, which could not follow a redirect to the object store.
    """

    path: bytes
    prefix: str = ""
    is_trusted: bool = True
    is_from_page: bool = False


def admit(
    rules: Rules, peer: Peer, method: str, raw_path: bytes, headers: Mapping[str, str]
) -> AdmittedRequest | Refusal:
    """Admit a request or refuse it. Names of headers are in lower case."""
    host = headers.get("host")
    if host is not None and not is_ours(host, rules.hosts, is_local=rules.is_local):
        return Refusal(
            HTTPStatus.FORBIDDEN,
            "this server is not known by the name in the address; allow the name by --host NAME",
        )
    path, shown = without_token(raw_path)
    if path != HEALTH:
        refused = _stranger(rules, peer, headers, shown)
        if refused is not None:
            return refused
    origin = headers.get("origin")
    if _is_cross_site(rules, headers):
        return Refusal(
            HTTPStatus.FORBIDDEN, "a page of another site asks; allow its origin by --cors ORIGIN"
        )
    if method not in _METHODS:
        allowed = (("allow", "GET, HEAD"),)
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this server is read-only", allowed)
    if _has_body(headers):
        close = (("connection", "close"),)
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request has no body here", close)
    return AdmittedRequest(
        path,
        prefix=f"/~{shown.decode('latin-1')}" if shown else "",
        is_trusted=_is_trusted(rules, peer),
        is_from_page=origin is not None and rules.allows(origin),
    )


def moved(entry: AdmittedRequest, path: bytes) -> AdmittedRequest:
    """The same request for another path."""
    return replace(entry, path=path)


def preflight(rules: Rules, method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks if a page of an allowed origin may send a request."""
    origin = headers.get("origin", "")
    is_asking = method == "OPTIONS" and "access-control-request-method" in headers
    host = headers.get("host", "")
    is_known = is_ours(host, rules.hosts, is_local=rules.is_local)
    return is_asking and is_known and rules.allows(origin)


def cors_headers(rules: Rules, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headers that let the page of an allowed origin read the answer."""
    if not rules.origins:
        return []
    vary = [("vary", "Origin")]
    origin = headers.get("origin")
    if origin is None or not rules.allows(origin):
        return vary
    return [
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", _EXPOSED),
        *vary,
    ]


def preflight_headers() -> list[tuple[str, str]]:
    """Further headers of the answer to a browser that asks before it sends."""
    return [
        ("access-control-allow-methods", "GET, HEAD"),
        ("access-control-allow-headers", _ACCEPTED),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "600"),
    ]


_EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag, Last-Modified"
_ACCEPTED = (
    "Accept, Authorization, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "If-Unmodified-Since, Range"
)


def _stranger(
    rules: Rules, peer: Peer, headers: Mapping[str, str], in_path: bytes
) -> Refusal | None:
    """Refuse other users and those without the token."""
    if rules.token is not None:
        told = in_path or _told(headers.get("authorization", ""))
        if hmac.compare_digest(told, rules.token.encode()):
            return None
        asked = (("www-authenticate", 'Basic realm="up42fs", charset="UTF-8"'),)
        return Refusal(
            HTTPStatus.UNAUTHORIZED,
            "send the token: as Authorization: Bearer TOKEN, as a password, or as /~TOKEN/...",
            asked,
        )
    if in_path:
        return Refusal(HTTPStatus.NOT_FOUND, "this server has no token; leave /~TOKEN out")
    if rules.is_behind_proxy or rules.allow_other or peer.uid in (rules.owner, 0):
        return None
    return Refusal(
        HTTPStatus.FORBIDDEN,
        "this server belongs to another user of this machine. Its user can let others in by "
        "--token-file FILE, or by -o allow_other",
    )


def _is_trusted(rules: Rules, peer: Peer) -> bool:
    if rules.token is not None or rules.is_behind_proxy or rules.share_links:
        return True
    return peer.uid in (rules.owner, 0)


def without_token(raw_path: bytes) -> tuple[bytes, bytes]:
    """Split `/~TOKEN/path` into path and token."""
    if not raw_path.startswith(_TOKEN_MARK):
        return raw_path, b""
    token, slash, rest = raw_path.removeprefix(_TOKEN_MARK).partition(b"/")
    return slash + rest or b"/", token


def _told(authorization: str) -> bytes:
    """The token in an Authorization header."""
    scheme, _, value = authorization.partition(" ")
    if scheme.casefold() == "bearer":
        return value.strip().encode(errors="replace")
    if scheme.casefold() != "basic":
        return b""
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b""
    return password or user


def _is_cross_site(rules: Rules, headers: Mapping[str, str]) -> bool:
    """Whether the browser says that a page of another site asks, which may not.

    A link that the user follows to this server is no page's request.
    """
    origin = headers.get("origin")
    if origin is not None and rules.allows(origin):
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and (
        headers.get("sec-fetch-dest") in ("document", None)
    )
    return headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link


def _has_body(headers: Mapping[str, str]) -> bool:
    return headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers

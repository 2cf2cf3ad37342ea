"""Decides which URLs in UP42's responses may be followed, and which resource they name.

A bearer token goes to the configured API origin and nowhere else, so a link is never followed as
written: once it is known to be the API's, its path and query are appended to the API's own address
(the documented example has `http://` links, contract §5.2).

Theory. A link is the API's if its host is the API's host. If the API is reached through a gateway
(`UP42_API_URL`), links with the host that the API believes to have are also the API's: UP42's
public hosts, or the host in the document's own `self` or `root` link. A gateway may have a path
prefix that the bodies do not know: in a link, the part before `/v2/` belongs to the link's host,
and the part from there on is the API's. Relative links resolve against the document's address: the
request's URL, or an item's `self`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from up42fs.errors import ConfigurationError, InvalidAnswer, InvalidArgument
from up42fs.net.hosts import is_loopback, is_near

_ASSET_PATH = re.compile(r"/v2/assets/([A-Za-z0-9._~-]+)")
_STAC_PATH = "/v2/assets/stac"
_SUFFIX = "/download-url"
#: A part of a path, still percent-encoded, that every server reads the same way.
_PLAIN = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!2[Ff]|5[Cc]|[01]|7[Ff])[0-9A-Fa-f]{2})+")
_DOTS = re.compile(r"(?:\.|%2[Ee]){1,2}")
#: The hosts of UP42's own API (contract §1.1).
_PUBLIC_HOSTS = frozenset({"api.up42.com", "api.sa.up42.com"})
#: Longest URLs in responses and longest IDs, characters: httpx and libcurl take no URL above 64
#: KiB, and servers little above 8.
MOST_LINK = 16384
MOST_SEGMENT = 1024
#: Links of a document that are examined, once for each of its files.
_MOST_LINKS = 100
_VISIBLE = re.compile(r"[!-~]+")
#: Characters of a host after percent-decoding: a name, or an IPv4 or IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
#: Names below `/v2/assets/` that are not asset IDs.
_RESERVED = frozenset({"stac", ".", ".."})


@dataclass(frozen=True, slots=True)
class NextLink:
    """The URL of the next page, on the API's own origin; `body` is set for POST."""

    url: str
    body: Mapping[str, Any] | None = field(default=None)


def require_secure(url: str, *, setting: str = "the URL") -> str:
    """Return `url` without a trailing slash if secrets may be sent there.

    That is https to any host, or http to the loopback; no user name or password in the URL.
    Otherwise raises ConfigurationError, whose message names `setting`, the user's setting of the
    URL.
    """
    parts = _split(url)
    host = parts.hostname if parts is not None else None
    if parts is None or host is None or parts.scheme not in ("http", "https"):
        raise ConfigurationError(
            f"{setting} is not a web address; give one such as https://api.up42.com"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"{setting} carries a user name or password for {host}; "
            "remove it and set UP42_USERNAME and UP42_PASSWORD instead"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{setting} ({host}) has a query; give scheme, host and path only")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{setting} would send secrets to {host} unencrypted; use https://{host}"
        )
    return url.rstrip("/")


def is_safe_link(url: str, api_url: str) -> bool:
    """Whether a presigned link of the API may be used: https to a host that could be a store.

    If the API is on this machine, links may name this machine, also without TLS. Links of a public
    API may not: a server on the loopback or in the link-local network (clouds' metadata) is not a
    store.
    """
    # urlsplit drops characters that libcurl keeps: allow only URLs that both read alike.
    parts = _split(url) if len(url) <= MOST_LINK and _VISIBLE.fullmatch(url) else None
    if parts is None or not parts.hostname or parts.scheme not in ("http", "https"):
        return False
    if is_loopback(urlsplit(api_url).hostname or ""):
        return is_loopback(parts.hostname) or (parts.scheme == "https" and _is_far(parts.hostname))
    return parts.scheme == "https" and _is_far(parts.hostname)


def _is_far(host: str) -> bool:
    """Whether the host, judged by its spelling, could be a store elsewhere."""
    return _HOST.fullmatch(unquote(host).strip("[]")) is not None and not is_near(host)


def segment(identifier: str) -> str:
    """Quote an ID as one path segment; raises InvalidArgument if it cannot be one."""
    is_short = 0 < len(identifier) <= MOST_SEGMENT
    if not is_short or identifier in (".", "..") or not identifier.isprintable():
        shown = identifier[:MOST_SEGMENT]
        raise InvalidArgument(f"{shown!r} is not a UP42 ID; check how it was spelled")
    return quote(identifier, safe="")


def asset_id_of_href(
    href: str, api_url: str, document: Mapping[str, Any] | None = None
) -> tuple[str | None, str | None]:
    """Return (ID to sign, None), or (None, why it cannot be signed) (contract §3.4, §5.5).

    The ID is an asset ID or, for any other API resource, its path, which UP42's SDK signs the same
    way: `signing_path` accepts both. hrefs come with and without `/download-url`. `document` is the
    document that holds the link.
    """
    links = (document or {}).get("links")
    found = _below_api(href, api_url, links, at=_self_of(links))
    if isinstance(found, str):
        return None, found
    path = found.path.rstrip("/").removesuffix(_SUFFIX)
    match = _ASSET_PATH.fullmatch(path)
    if match is not None and match[1] not in _RESERVED:
        return match[1], None
    if not _is_signable(path):
        return None, "its link does not name a UP42 asset"
    return path, None


def signing_path(asset_id: str) -> str:
    """Return the path that signs a link to a result of `asset_id_of_href`; InvalidArgument."""
    if asset_id.startswith("/") and _is_signable(asset_id):
        return asset_id + _SUFFIX
    return f"/v2/assets/{segment(asset_id)}{_SUFFIX}"


def _is_signable(path: str) -> bool:
    """Whether every part of a path is plain, so that it is sent exactly as it is written."""
    parts = path.split("/")
    return (
        path not in ("/v2/assets", "/v2/assets/stac")
        and path.startswith("/v2/")
        and len(parts) > 3
        and all(_PLAIN.fullmatch(part) and not _DOTS.fullmatch(part) for part in parts[1:])
    )


def next_link(
    links: object, api_url: str, *, sent_body: Mapping[str, Any] | None, at: str | None = None
) -> NextLink | None:
    """Return the `rel: next` link of a STAC response; None on the last page (contract §5.2, §5.6).

    `sent_body` is the body of this page's request (None for GET), `at` its URL; a link with `merge`
    adds to the body. Raises InvalidAnswer if the link leaves the API's host or cannot be followed.
    """
    found = next(_related(links, "next", most=None), None)
    if found is None:
        return None
    url = _on_own_origin(found.get("href"), api_url, links, at)
    method = str(found.get("method") or ("POST" if found.get("body") else "GET")).upper()
    if method == "GET" and _is_sendable(url):
        return NextLink(url)
    body = found.get("body")
    if method != "POST" or not isinstance(body, Mapping) or not _is_sendable([url, body]):
        raise InvalidAnswer("UP42's link to the next page cannot be followed; try again later")
    merged = {**(sent_body or {}), **body} if found.get("merge") is True else dict(body)
    return NextLink(url, merged)


def _is_sendable(value: object) -> bool:
    """Whether `value` can be serialised: JSON parsers accept numbers and texts that fail here."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _related(
    links: object, *relations: str, most: int | None = _MOST_LINKS
) -> Iterator[Mapping[str, Any]]:
    """Yield the links of one of these `relations` among the first `most` links of a document."""
    for link in links[:most] if isinstance(links, list | tuple) else ():
        if isinstance(link, Mapping) and link.get("rel") in relations:
            yield link


def _on_own_origin(href: object, api_url: str, links: object, at: str | None) -> str:
    found = _below_api(href, api_url, links, at) if isinstance(href, str) else "it is no link"
    if isinstance(found, str):
        raise InvalidAnswer(
            f"UP42's link to the next page was not followed, {found}; "
            "check UP42_API_URL and any proxy"
        )
    query = f"?{found.query}" if found.query else ""
    return f"{api_url.rstrip('/')}{found.path}{query}"


def _below_api(href: str, api_url: str, links: object, at: str | None) -> SplitResult | str:
    """Return a link with its path below the API's address, or why it is no link of the API."""
    parts = _resolve(href, at or api_url + "/")
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return f"its link is not a web address of at most {MOST_LINK} characters"
    api = urlsplit(api_url)
    prefix: str | None = api.path
    if parts.hostname == api.hostname:
        if not parts.path.startswith((api.path + "/", "/v2/")):
            return f"its link is outside {api.hostname}{api.path}"
    else:
        prefix = _other_prefix(parts.hostname, api, links)
    if prefix is None:
        return f"its link points at {parts.hostname}, not at {api.hostname}"
    path = parts.path
    if prefix and path.startswith(prefix + "/"):
        path = path[len(prefix) :]
    return parts._replace(path=path) if path.startswith("/") else "its link has no path"


def _other_prefix(host: str, api: SplitResult, links: object) -> str | None:
    """Return the API's path prefix at another of its hosts; None if `host` is not the API's."""
    if host in _PUBLIC_HOSTS:
        # Each region has its own API; neither is a gateway to the other.
        return None if api.hostname in _PUBLIC_HOSTS else ""
    for link in _related(links, "self", "root"):
        parts = _split(str(link.get("href")))
        if parts is not None and parts.hostname == host and _STAC_PATH in parts.path:
            return parts.path[: parts.path.index(_STAC_PATH)]
    return None


def _self_of(links: object) -> str | None:
    href = next(_related(links, "self"), {}).get("href")
    return href if isinstance(href, str) and href.startswith("http") else None


def _resolve(href: str, at: str) -> SplitResult | None:
    if len(href) > MOST_LINK or len(at) > MOST_LINK:
        return None
    try:
        return _split(urljoin(at, href))
    except ValueError:
        return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # malformed ports raise only here
    except ValueError:
        return None
    return parts

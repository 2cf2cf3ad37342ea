"""Which URLs of UP42's answers may be followed, and what they name.

Knows nothing of requests. A bearer token goes to the configured API origin and nowhere else, so
a link is never followed as written: its path and query are put behind the API's own origin, after
its host was found to be the API's (the documented example has `http://` links, contract §5.2).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from up42fs.errors import ConfigurationError, InvalidAnswer, InvalidArgument

_ASSET_PATH = re.compile(r"/v2/assets/([A-Za-z0-9._~-]+?)(?:/download-url)?/?")
_VISIBLE = re.compile(r"[!-~]+")
#: Names below `/v2/assets/` that are not asset IDs.
_RESERVED = frozenset({"stac", ".", ".."})


@dataclass(frozen=True, slots=True)
class NextLink:
    """Where the next page is: on the API's own origin; `body` is set for POST."""

    url: str
    body: Mapping[str, Any] | None = field(default=None)


def require_secure(url: str, *, setting: str = "the URL") -> str:
    """Return `url` without a trailing slash if it may be sent secrets, else ConfigurationError.

    That is https to any host, or http to the loopback; no user name or password in the URL.
    `setting` names where the user gave it, for the message.
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

    An API on this machine may name this machine, without TLS too. A public one may not: what
    answers on the loopback or in the link-local network (clouds' metadata) is nobody's store.
    """
    # urlsplit drops what libcurl would not: only what both read alike may pass.
    parts = _split(url) if _VISIBLE.fullmatch(url) else None
    if parts is None or not parts.hostname or parts.scheme not in ("http", "https"):
        return False
    if is_loopback(urlsplit(api_url).hostname or ""):
        return parts.scheme == "https" or is_loopback(parts.hostname)
    return parts.scheme == "https" and not _is_local(parts.hostname)


def _is_local(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def segment(identifier: str) -> str:
    """Quote an ID as one path segment; raises InvalidArgument for what cannot be one."""
    if identifier in ("", ".", "..") or not identifier.isprintable():
        raise InvalidArgument(f"{identifier!r} is not a UP42 ID; check how it was spelled")
    return quote(identifier, safe="")


def asset_id_of_href(href: str, api_url: str) -> tuple[str | None, str | None]:
    """The asset ID that `href` names, or None and why not (contract §3.4, §5.5).

    hrefs come with and without `/download-url`.
    """
    parts = _resolve(href, api_url)
    api = urlsplit(api_url)
    if parts is None or parts.scheme not in ("http", "https"):
        return None, "its link is not a web address"
    if parts.hostname != api.hostname:
        return None, f"its link points at {parts.hostname}, not at {api.hostname}"
    if not parts.path.startswith(api.path):
        return None, f"its link is outside {api.hostname}{api.path}"
    match = _ASSET_PATH.fullmatch(parts.path[len(api.path) :])
    if match is None or match[1] in _RESERVED:
        return None, "its link does not name a UP42 asset"
    return match[1], None


def next_link(
    links: object, api_url: str, *, sent_body: Mapping[str, Any] | None
) -> NextLink | None:
    """The `rel: next` link of a STAC answer, or None on the last page (contract §5.2, §5.6).

    `sent_body` is the body this page was asked with (None for GET); a link with `merge` adds to
    it. Raises InvalidAnswer where the link leaves the API's host or cannot be followed.
    """
    found = _rel_next(links)
    if found is None:
        return None
    url = _on_own_origin(found.get("href"), api_url)
    method = str(found.get("method") or ("POST" if found.get("body") else "GET")).upper()
    if method == "GET":
        return NextLink(url)
    body = found.get("body")
    if method != "POST" or not isinstance(body, Mapping):
        raise InvalidAnswer("UP42's link to the next page cannot be followed; try again later")
    merged = {**(sent_body or {}), **body} if found.get("merge") is True else dict(body)
    return NextLink(url, merged)


def _rel_next(links: object) -> Mapping[str, Any] | None:
    if not isinstance(links, Sequence) or isinstance(links, str):
        return None
    for link in links:
        if isinstance(link, Mapping) and link.get("rel") == "next":
            return link
    return None


def _on_own_origin(href: object, api_url: str) -> str:
    parts = _resolve(href, api_url) if isinstance(href, str) else None
    api = urlsplit(api_url)
    if parts is None or parts.hostname != api.hostname or parts.scheme not in ("http", "https"):
        host = parts.hostname if parts is not None else None
        raise InvalidAnswer(
            f"UP42's link to the next page points at {host or 'no host'} instead of "
            f"{api.hostname} and was not followed; check UP42_API_URL and any proxy"
        )
    if not parts.path.startswith(api.path + "/"):
        raise InvalidAnswer("UP42's link to the next page leaves the API; check UP42_API_URL")
    query = f"?{parts.query}" if parts.query else ""
    return f"{api.scheme}://{api.netloc}{parts.path}{query}"


def _resolve(href: str, api_url: str) -> SplitResult | None:
    try:
        return _split(urljoin(api_url + "/", href))
    except ValueError:
        return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # malformed ports raise only here
    except ValueError:
        return None
    return parts

"""Extracts the message of UP42's error bodies, in words fit for a user.

Handles three documented shapes (contract §7.2), Keycloak's, legacy 200 responses with an error
inside, and anything that a gateway sends instead. All text passes through `redact`: an error text
may quote the request, and a request carries secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx

LONGEST_WORDS = 300
#: Characters of a text that are examined.
_MOST_LOOKED_AT = 4096
#: Matches each address, with or without a query: a pattern that failed at the end of an address
#: would be retried from each one within it.
_QUERY = re.compile(r"(https?://[^\s?#\"'<>]*)(?:[?#][^\s\"'<>]*)?", re.IGNORECASE)
_USERINFO = re.compile(r"(https?://)[^\s/@\"']*@", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*)*")
_BEARER = re.compile(r"(bearer\s+)[^\s\"',;]+", re.IGNORECASE)


def explain(response: httpx.Response, document: Any) -> tuple[str | None, str]:
    """Return (error code, or None; UP42's message, or "") of a response with JSON `document`."""
    if isinstance(document, Mapping):
        return _explain_object(document)
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if document is None and response.content:
        return None, f"an answer that is not JSON ({kind or 'no content type'})"
    return None, ""


def inner_error(document: Mapping[str, Any]) -> int | None:
    """Return the status of a legacy 200's error (200 if it names none); None without an error."""
    error = document.get("error")
    if not error or document.get("data") is not None or not document.keys() <= {"data", "error"}:
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    if isinstance(code, int) and 400 <= code <= 599:
        return code
    named = HTTPStatus.__members__.get(code) if isinstance(code, str) else None
    return int(named) if named is not None and named >= 400 else 200


def unwrap(document: dict[str, Any]) -> dict[str, Any]:
    """Return the object in a legacy `{"data": {...}, "error": null}` envelope, else `document`."""
    data = document.get("data")
    if isinstance(data, dict) and document.keys() <= {"data", "error"}:
        return data
    return document


def redact(words: str) -> str:
    """Make one line of at most 300 characters, without tokens, user info or queries of URLs."""
    words = words[:_MOST_LOOKED_AT]
    words = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    words = _USERINFO.sub(r"\1", words)
    words = _QUERY.sub(r"\1", words)
    words = _BEARER.sub(r"\1<token>", words)
    words = _JWT.sub("<token>", words)
    return words if len(words) <= LONGEST_WORDS else words[: LONGEST_WORDS - 1] + "…"


def _explain_object(document: Mapping[str, Any]) -> tuple[str | None, str]:
    error = document.get("error")
    if isinstance(error, Mapping):
        return _code(error.get("code")), _words(error.get("message"), error.get("details"))
    if isinstance(error, str):
        described = document.get("error_description") or document.get("message")
        return _code(error), _words(described) or _words(error)
    code = _code(document.get("code")) or _code(document.get("type"))
    first = document.get("title") or document.get("message")
    return code, _words(first, document.get("detail") or document.get("details"))


def _code(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str) or value in ("", "about:blank"):
        return None
    return redact(str(value))


def _words(*values: object) -> str:
    texts = [v[:_MOST_LOOKED_AT] for v in values if isinstance(v, str) and v.strip()]
    return redact(": ".join(dict.fromkeys(texts)))

"""Responses too large for their parser: the switch `bloat`."""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import replace
from typing import Any

from up42fs.emulator.wire import Response

#: Empty lists: 60 MB of text, 58 KB packed, 1.5 GiB parsed.
LISTS = 20 << 20
ROWS = 134_000
DEPTH = 100_000
LONG = 70_000
_ROWS_IN = ("content", "features", "collections")


def bloated(response: Response, how: str | None) -> Response:
    """Return the response made too large in one way, if it is a JSON object in memory."""
    if how is None or response.status != 200 or not isinstance(response.body, bytes):
        return response
    if how == "lists":
        packed = (*response.headers, ("Content-Encoding", "gzip"))
        return replace(response, headers=packed, body=_lists())
    if how == "deep":
        return replace(response, body=b'{"content":' + b"[" * DEPTH + b"]" * DEPTH + b"}")
    document = json.loads(response.body)
    for key in _ROWS_IN if isinstance(document, dict) else ():
        rows = document.get(key)
        if rows and how == "rows":
            document[key] = (rows * (ROWS // len(rows) + 1))[:ROWS]
    return replace(
        response, body=json.dumps(_lengthened(document) if how == "long" else document).encode()
    )


@functools.cache
def _lists() -> bytes:
    return gzip.compress(b'{"content":[' + b"[]," * LISTS + b"[]]}", 9)


def _lengthened(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _lengthened(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_lengthened(one, key) for one in value]
    return value + "x" * LONG if key in ("id", "href", "url") and isinstance(value, str) else value

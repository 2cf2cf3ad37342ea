"""Sanitises a status document, since any user may have written it.

Any user of a machine can mount a file system that calls itself up42fs, with any content in its
`.up42fs/status.json`: unexpected types, endless lists, numbers such as NaN, control characters that
take over a terminal. Pure: takes a parsed JSON value and returns a document of bounded size whose
known members have the types that `Engine.status` gives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from up42fs.visible import visible

#: The longest string kept, characters, and the most members of one object or list.
MOST_CHARACTERS = 1000
MOST_MEMBERS = 1000
#: Deeper values are dropped.
MOST_DEPTH = 8
_MOST_NUMBER = 1 << 63

#: The type of each known member, as an example value; for a list, an example of its members.
#: `{None: x}` is an object with any names.
_NUMBERS: dict[Any, Any] = {None: 0}
_FILE = {
    "name": "",
    "bytes_read": 0,
    "reads": 0,
    "waited_seconds": 0,
    "programs": {None: 0},
}
_FETCHED = {"id": "", "name": "", "bytes_fetched": 0, "requests": 0, "wasted_bytes": 0}
_ERROR = {"time": "", "level": "", "message": ""}
_LISTING = {"complete": False, "rows_so_far": 0, "seconds_since_refresh": 0, "error": ""}
_SHAPE: dict[Any, Any] = {
    **dict.fromkeys(("version", "mountpoint", "log", "log_file", "api"), ""),
    **dict.fromkeys(("account", "account_name", "workspace"), ""),
    **dict.fromkeys(("pid", "mounted_seconds", "assets", "orders", "bytes", "tasks"), 0),
    "for_others": False,
    "notes": [""],
    "listed_by": {None: ""},
    "catalogue": {None: _LISTING},
    "refreshed_by": {"pid": 0, "is_this": False},
    "kernel": {
        "read_ahead_kib": 0,
        "max_background": 0,
        "parallel_dirops": False,
        "direct_images": False,
        "request_limit_s": 0,
    },
    "sizes": {"files": 0, "unknown": 0},
    "store": _NUMBERS,
    "open": _NUMBERS,
    "counters": _NUMBERS,
    "egress": {"left_bytes": 0, "limit_bytes": 0, "period_seconds": 0, "free_again_at": ""},
    "traffic": {"bytes": 0, "warn_bytes": 0, "period_seconds": 0, "mostly_by": ""},
    "disk_cache": {
        **dict.fromkeys(("directory", "files", "off_because"), ""),
        **dict.fromkeys(("limit_bytes", "used_bytes", "queued_bytes"), 0),
    },
    "sidecars": {"directory": "", "files": 0, "bytes": 0, "limit_bytes": 0},
    "edits": {"made": 0, "failed": {None: ""}},
    "archives": [{"name": "", "done_bytes": 0, "bytes": 0}],
    "top_files": [_FILE],
    "fetched_files": [_FETCHED],
    "recent_errors": [_ERROR],
}
#: Members that a valid document may lack or have as null; other missing members become 0 or empty.
_OPTIONAL = frozenset(
    {
        *("rows_so_far", "seconds_since_refresh", "error", "off_because", "free_again_at"),
        "mostly_by",
        *_SHAPE["kernel"],
        *_SHAPE.keys(),
    }
)
#: Members that callers access without checking that they exist.
_ALWAYS = ("catalogue", "store", "open", "counters")


def status(document: object) -> dict[str, Any]:
    """Return a mount's sanitised status; raises ValueError if `document` is no object."""
    if not isinstance(document, dict):
        raise ValueError("a status is a JSON object")
    tamed = _tamed(document, MOST_DEPTH)
    assert isinstance(tamed, dict)
    for name, shape in _SHAPE.items():
        if name in tamed:
            tamed[name] = _shaped(tamed[name], shape)
    for name in _ALWAYS:
        if tamed.get(name) is None:
            tamed[name] = {}
    return tamed


def _tamed(value: object, depth: int) -> Any:
    """Bound a value's depth and lengths, and replace unusual numbers and unprintable characters."""
    match value:
        case str():
            return visible(value[:MOST_CHARACTERS])
        case bool() | None:
            return value
        case int() | float():
            return value if math.isfinite(value) and abs(value) < _MOST_NUMBER else None
        case dict() if depth:
            first = list(value.items())[:MOST_MEMBERS]
            return {
                visible(str(name)[:MOST_CHARACTERS]): _tamed(inner, depth - 1)
                for name, inner in first
            }
        case list() if depth:
            return [_tamed(inner, depth - 1) for inner in value[:MOST_MEMBERS]]
        case _:
            return None


def _shaped(value: Any, shape: Any) -> Any:
    """Return `value` if it has the shape's type, otherwise None; complete objects."""
    match shape:
        case bool():
            return value if isinstance(value, bool) else None
        case int():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return value if is_number else None
        case str():
            return value if isinstance(value, str) else None
        case list():
            found = value if isinstance(value, list) else []
            shaped = [_shaped(inner, shape[0]) for inner in found]
            return [inner for inner in shaped if inner is not None]
        case _:
            return _shaped_object(value, shape)


def _shaped_object(value: Any, shape: Mapping[Any, Any]) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    if None in shape:
        shaped = {name: _shaped(inner, shape[None]) for name, inner in value.items()}
        return {name: inner for name, inner in shaped.items() if inner is not None}
    made = dict(value)
    for name, inner in shape.items():
        found = _shaped(value.get(name), inner)
        if found is None and name not in _OPTIONAL:
            found = {} if isinstance(inner, dict) else type(inner)()
        made[name] = found
    return made

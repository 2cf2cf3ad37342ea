"""Corrects fields of STAC documents to the core schemas, with as few changes as possible.

Input is objects of UP42's JSON, output is JSON of the same shape: valid fields stay as sent,
invalid ones are left out, missing required ones get the weakest true value (see `stac_documents`).
Core fields: STAC 1.0 and 1.1, common metadata.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from up42fs.model import geojson
from up42fs.model.stac import StacItem

STAC_VERSION = "1.0.0"
_KNOWN_VERSIONS = re.compile(r"1\.[01]\.\d+")
_WORLD = [-180.0, -90.0, 180.0, 90.0]
_FIRST_MOMENT, _LAST_MOMENT = "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
_RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", re.ASCII)
_LICENSE = re.compile(r"[A-Za-z0-9_.+-]+")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PROVIDER_ROLES = frozenset({"producer", "licensor", "processor", "host"})


def clean(value: Any) -> Any:
    """A deep copy that every JSON parser accepts: no NaN, no lone surrogates."""
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def common(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` without common metadata that core schemas refuse; moments in UTC, ranges whole."""
    kept = {}
    for key, value in fields.items():
        used = _utc(value) if key in _MOMENTS else value
        if _COMMON.get(key, _any)(used):
            kept[key] = used
    return kept if kept.keys() >= _RANGE else without(kept, *_RANGE)


def properties(sent: Mapping[str, Any], item: StacItem) -> dict[str, Any]:
    """An item's properties, with a `datetime` or, if it has none, a range."""
    said = sent.get("properties")
    said = said if isinstance(said, dict) else {}
    kept = common(said)
    if "datetime" in kept:
        return kept
    if kept.keys() >= _RANGE:
        return {"datetime": None, **kept}
    ends = (_utc(said.get(key)) for key in ("start_datetime", "end_datetime"))
    known = next((end for end in ends if end is not None), _said(item.datetime))
    if known is not None:
        return {"datetime": known, **kept}
    last = kept.get("created") or kept.get("updated") or _LAST_MOMENT
    return {"datetime": None, "start_datetime": _FIRST_MOMENT, "end_datetime": last, **kept}


def place(
    sent: Mapping[str, Any], item: StacItem
) -> tuple[dict[str, Any] | None, list[float] | None]:
    """An item's geometry and box: both, or neither."""
    geometry, bbox = sent.get("geometry"), sent.get("bbox")
    box = next((list(each) for each in (bbox, item.bbox) if geojson.is_bbox(each)), None)
    if geojson.is_geometry(geometry):
        if "bbox" in geometry and not geojson.is_bbox(geometry["bbox"]):
            geometry = without(geometry, "bbox")
        return geojson.simple(geometry), box or geojson.bounds(geometry)
    return (geojson.outline(box), box) if box else (None, None)


def extent(sent: Mapping[str, Any], items: Sequence[StacItem]) -> dict[str, Any]:
    """A collection's extent as sent, else that of `items`, else the Earth at any time."""
    said = sent.get("extent")
    said = said if isinstance(said, dict) else {}
    intervals = [
        [_utc(moment) for moment in interval]
        for interval in _rows(said, "temporal", "interval")
        if isinstance(interval, list) and len(interval) == 2
    ]
    return {
        **said,
        "spatial": {"bbox": _boxes(said, items)},
        "temporal": {"interval": intervals or [_span(items)]},
    }


def _boxes(said: Mapping[str, Any], items: Sequence[StacItem]) -> list[list[float]]:
    boxes = [list(box) for box in _rows(said, "spatial", "bbox") if geojson.is_bbox(box)]
    if len(boxes) == 2:
        # The first box is the whole; STAC 1.1 refuses a whole with a single part.
        return [geojson.union(boxes), *boxes]
    known = [item.bbox for item in items if geojson.is_bbox(item.bbox)]
    return boxes or ([geojson.union(known)] if known else [_WORLD])


def _rows(extent: Mapping[str, Any], kind: str, key: str) -> list[Any]:
    part = extent.get(kind)
    rows = part.get(key) if isinstance(part, dict) else None
    return rows if isinstance(rows, list) else []


def _span(items: Sequence[StacItem]) -> list[str | None]:
    moments = [item.datetime for item in items if item.datetime is not None]
    return [_said(min(moments)), _said(max(moments))] if moments else [None, None]


def summaries(value: Any) -> dict[str, Any]:
    """The non-empty summaries: sets, ranges, schemas."""
    rows = value.items() if isinstance(value, dict) else ()
    return {key: row for key, row in rows if isinstance(row, list | dict) and row}


def version(sent: Mapping[str, Any]) -> str:
    """The STAC version of a document, or 1.0.0 if it is no known one."""
    said = sent.get("stac_version")
    return said if isinstance(said, str) and _KNOWN_VERSIONS.fullmatch(said) else STAC_VERSION


def extensions(sent: Mapping[str, Any]) -> list[str]:
    """The extensions a document declares, each once."""
    said = sent.get("stac_extensions")
    texts = (text for text in (said if isinstance(said, list) else []) if isinstance(text, str))
    return list(dict.fromkeys(texts))


def license_of(sent: Mapping[str, Any]) -> str:
    """The license of a collection; UP42's are proprietary (contract §5.2)."""
    said = sent.get("license")
    return said if isinstance(said, str) and _LICENSE.fullmatch(said) else "proprietary"


def without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in keys}


# -- moments


def _utc(value: object) -> str | None:
    """A moment as sent if it is RFC 3339 in UTC, else converted to that; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value.strip())
        return value if _RFC3339_UTC.fullmatch(value) else _said(moment)
    except (ValueError, OverflowError):
        return None


def _said(moment: dt.datetime | None) -> str | None:
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return aware.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"


# -- the core schemas' rules for common metadata (STAC 1.0, 1.1: basics, instrument, provider)


def _any(_value: object) -> bool:
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_filled_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_license(value: object) -> bool:
    return isinstance(value, str) and _LICENSE.fullmatch(value) is not None


def _are_providers(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_provider, value))


def _is_provider(value: object) -> bool:
    if not isinstance(value, dict) or not _is_filled_text(value.get("name")):
        return False
    roles = value.get("roles", [])
    texts = _is_text(value.get("url", "")) and _is_text(value.get("description", ""))
    return texts and _are_texts(roles) and set(roles) <= _PROVIDER_ROLES


_RANGE = frozenset({"start_datetime", "end_datetime"})
_MOMENTS = _RANGE | {"datetime", "created", "updated"}
_COMMON: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(_MOMENTS, _is_text),
    "title": _is_text,
    "description": _is_filled_text,
    "keywords": _are_texts,
    "roles": _are_texts,
    "platform": _is_text,
    "constellation": _is_text,
    "mission": _is_text,
    "instruments": _are_texts,
    "gsd": _is_positive,
    "license": _is_license,
    "providers": _are_providers,
}

"""GeoJSON geometries: checks, bounding boxes, and the outline of a box.

Coordinates are longitude and latitude in degrees, optionally with a height (RFC 7946). A sound
geometry passes unchanged, also one that crosses the antimeridian; only a box is turned into a
geometry, which is cut in two there (RFC 7946 §3.1.9, §5.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

#: How deep `coordinates` nest in each type: 0 is one position.
_DEPTHS = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
_FEWEST_POSITIONS = {"LineString": 2, "MultiLineString": 2, "Polygon": 4, "MultiPolygon": 4}
#: Limit of positions of an outline, all parts together; a larger one is replaced by its bounding
#: box.
MOST_POSITIONS = 50_000
#: Collections nested deeper than this are an attack, not a footprint.
_MAX_NESTING = 8


def is_number(value: object) -> bool:
    """Whether `value` is a finite JSON number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_geometry(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether `value` is a geometry of limited size and depth, with a position and closed rings."""
    return _is_small(value) and _is_geometry(value, _MAX_NESTING)


def _is_small(value: object) -> bool:
    """Whether the numbers of positions and lists are within the limit; stops counting beyond it."""
    rest, seen = [value], 0
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [one.get("coordinates"), one.get("geometries")]
        elif isinstance(one, list):
            seen += 1
            if seen + len(one) > 2 * MOST_POSITIONS:
                return False
            rest += [part for part in one if isinstance(part, list | dict)]
            if len(rest) + seen > 2 * MOST_POSITIONS:
                return False
    return seen <= MOST_POSITIONS + 1000


def _is_geometry(value: object, nesting: int) -> bool:
    if not isinstance(value, dict) or nesting == 0:
        return False
    kind = value.get("type")
    if kind == "GeometryCollection":
        parts = value.get("geometries")
        return _filled(parts) and all(_is_geometry(part, nesting - 1) for part in parts)
    if not isinstance(kind, str) or kind not in _DEPTHS:
        return False
    fewest = _FEWEST_POSITIONS.get(kind, 1)
    closed = kind.endswith("Polygon")
    return _sound(value.get("coordinates"), _DEPTHS[kind], fewest, closed)


def simple(geometry: dict[str, Any]) -> dict[str, Any]:
    """A sound geometry without GeometryCollections, which STAC and layers of a GIS do not accept.

    Of a collection the parts of the highest dimension are kept: areas, else lines, else points.
    """
    if geometry["type"] != "GeometryCollection":
        return geometry
    parts = list(_parts(geometry))
    for kind in ("Polygon", "LineString", "Point"):
        found = [part for part in parts if str(part["type"]).endswith(kind)]
        if len(found) == 1:
            return {"type": found[0]["type"], "coordinates": found[0]["coordinates"]}
        if found:
            many = [
                one
                for part in found
                for one in (
                    part["coordinates"]
                    if part["type"].startswith("Multi")
                    else [part["coordinates"]]
                )
            ]
            return {"type": f"Multi{kind}", "coordinates": many}
    raise AssertionError("a sound collection has parts")


def _parts(geometry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if geometry["type"] != "GeometryCollection":
        yield geometry
        return
    for part in geometry["geometries"]:
        yield from _parts(part)


def is_bbox(value: object) -> TypeGuard[Sequence[float]]:
    """Whether `value` is 4 or 6 finite numbers: west, south(, lowest), east, north(, highest)."""
    return isinstance(value, list | tuple) and len(value) in (4, 6) and all(map(is_number, value))


def flat(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east and north of a box of four or six numbers."""
    if len(bbox) == 6:
        return bbox[0], bbox[1], bbox[3], bbox[4]
    west, south, east, north = bbox
    return west, south, east, north


def outline(bbox: Sequence[float]) -> dict[str, Any]:
    """The geometry of a box; two parts if it crosses the antimeridian (west > east)."""
    west, south, east, north = flat(bbox)
    if (west, south) == (east, north):
        return {"type": "Point", "coordinates": [west, south]}
    if west <= east:
        return {"type": "Polygon", "coordinates": _rings(west, south, east, north)}
    halves = [_rings(west, south, 180.0, north), _rings(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": halves}


def bounds(geometry: dict[str, Any]) -> list[float]:
    """West, south, east, north of a sound geometry; never smaller than the area it covers."""
    positions = list(_positions(geometry))
    longitudes = [position[0] for position in positions]
    latitudes = [position[1] for position in positions]
    return [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]


def union(boxes: Sequence[Sequence[float]]) -> list[float]:
    """One box around one or more boxes; as wide as the Earth if one of them crosses ±180°."""
    flats = [flat(box) for box in boxes]
    west = min(box[0] for box in flats)
    east = max(box[2] for box in flats)
    if any(box[0] > box[2] for box in flats):
        west, east = -180.0, 180.0
    return [west, min(box[1] for box in flats), east, max(box[3] for box in flats)]


def meet(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes meet; west > east crosses the antimeridian."""
    return any(
        left[0] <= right[2] and right[0] <= left[2] and left[1] <= right[3] and right[1] <= left[3]
        for left in _halves(one)
        for right in _halves(other)
    )


def _halves(bbox: Sequence[float]) -> list[tuple[float, float, float, float]]:
    west, south, east, north = flat(bbox)
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _rings(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    # Counterclockwise, as RFC 7946 §3.1.6 requires.
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def _sound(value: Any, depth: int, fewest: int, closed: bool) -> bool:
    if depth == 0:
        return isinstance(value, list) and len(value) >= 2 and all(map(is_number, value))
    if not _filled(value) or not all(_sound(part, depth - 1, fewest, closed) for part in value):
        return False
    if depth > 1:
        return True
    return len(value) >= fewest and (not closed or value[0] == value[-1])


def _filled(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value)


def _positions(geometry: dict[str, Any]) -> Iterator[list[float]]:
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _positions(part)
    else:
        yield from _flatten(geometry["coordinates"], _DEPTHS[geometry["type"]])


def _flatten(value: Any, depth: int) -> Iterator[list[float]]:
    if depth == 0:
        yield value
    else:
        for part in value:
            yield from _flatten(part, depth - 1)

"""Tests whether a GeoJSON geometry intersects a footprint, here a rectangle in degrees.

Pure. Exact for the planar case: edges are clipped against the rectangle, and a rectangle wholly
inside a polygon is found by the even-odd rule over all of its rings, including holes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

Box = tuple[float, float, float, float]


def polygon(box: Box) -> dict[str, Any]:
    """Return the box as a GeoJSON polygon."""
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def boxes_intersect(one: Box, other: Box) -> bool:
    """Return whether two boxes (west, south, east, north) share a point."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def intersects_box(geometry: dict[str, Any], box: Box) -> bool:
    """Return whether a GeoJSON geometry shares a point with `box`; raises ValueError."""
    if geometry.get("type") == "Feature":
        return intersects_box(geometry["geometry"], box)
    if geometry.get("type") == "GeometryCollection":
        return any(intersects_box(part, box) for part in geometry["geometries"])
    try:
        return any(_part_intersects(kind, part, box) for kind, part in _parts(geometry))
    except (TypeError, IndexError, KeyError):
        raise ValueError(f"not a geometry: {geometry.get('type')}") from None


def _parts(geometry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind in ("Point", "LineString", "Polygon"):
        yield kind, coordinates
    elif kind in ("MultiPoint", "MultiLineString", "MultiPolygon"):
        for part in coordinates:
            yield kind.removeprefix("Multi"), part
    else:
        raise KeyError(kind)


def _part_intersects(kind: str, part: Any, box: Box) -> bool:
    if kind == "Point":
        return _clips(part, part, box)
    lines = [part] if kind == "LineString" else part
    if any(_clips(a, b, box) for line in lines for a, b in pairwise(line)):
        return True
    return kind == "Polygon" and _is_inside(box[0], box[1], part)


def _clips(a: list[float], b: list[float], box: Box) -> bool:
    """Return whether the segment a-b has a point in the box (Liang-Barsky)."""
    enter, leave = 0.0, 1.0
    for axis in (0, 1):
        low, high, at, step = box[axis], box[axis + 2], a[axis], b[axis] - a[axis]
        if step == 0:
            if not low <= at <= high:
                return False
            continue
        first, last = sorted(((low - at) / step, (high - at) / step))
        enter, leave = max(enter, first), min(leave, last)
    return enter <= leave


def _is_inside(x: float, y: float, rings: list[list[list[float]]]) -> bool:
    inside = False
    for ring in rings:
        for (ax, ay, *_), (bx, by, *_) in pairwise(ring):
            if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                inside = not inside
    return inside

"""The documents of an order: the order itself, the area it is about, and how much of that came.

Pure: from UP42's JSON, of which nothing is required (contract §4.2, §14), to JSON. GeoJSON follows
RFC 7946. An area that UP42 does not send, or that is no geometry, is no feature; the document is
valid all the same, because an order without an area is no error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from up42fs.model import geojson

ORDER, AREA, COVERAGE = "order.json", "aoi.geojson", "coverage.geojson"
TASKING = "TASKING"
#: Foreign members (RFC 7946 §6.1): square kilometres and percent of each part of a coverage.
PARTS = "up42fs:parts"
#: Features nested deeper than this are an attack.
_MOST_NESTING = 4
_COPIED = {
    "order_id": "id",
    "name": "displayName",
    "order_type": "type",
    "order_status": "status",
}
_COPIED_DETAILS = {
    "image_id": "imageId",
    "sub_status": "subStatus",
    "acquisition_start": "acquisitionStart",
    "acquisition_end": "acquisitionEnd",
}


def names(order_type: str | None) -> tuple[str, ...]:
    """The documents that an order of this type has."""
    return (ORDER, AREA, COVERAGE) if order_type == TASKING else (ORDER, AREA)


def area(order: Mapping[str, Any]) -> dict[str, Any]:
    """The area of interest: what was ordered of an archive, or is to be taken by a tasking."""
    details = _mapping(order.get("orderDetails"))
    said = {shown: order.get(key) for shown, key in _COPIED.items()}
    said |= {shown: details.get(key) for shown, key in _COPIED_DETAILS.items()}
    properties = {key: value for key, value in said.items() if isinstance(value, str)}
    wanted = (details.get("aoi"), details.get("geometry"), order.get("featureCollection"))
    found = next((found for value in wanted if (found := list(_geometries(value)))), [])
    return _collection("aoi", [_feature(geometry, properties) for geometry in found])


def coverage(order_id: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What was delivered of a tasking's area, and what is still missing: `part` tells which."""
    features: list[dict[str, Any]] = []
    parts: dict[str, Any] = {}
    for part in ("covered", "remainder"):
        of_part = _mapping(said.get(part))
        figures = {"sq_km": of_part.get("sqKmArea"), "percentage": of_part.get("percentage")}
        figures = {key: value for key, value in figures.items() if geojson.is_number(value)}
        if figures:
            parts[part] = figures
        properties = {"part": part, "order_id": order_id, **figures}
        found = _geometries(of_part.get("geometry"))
        features += [_feature(geometry, properties) for geometry in found]
    return _collection("coverage", features) | {PARTS: parts}


def _collection(name: str, features: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "name": name, "features": features}


def _feature(geometry: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "properties": dict(properties), "geometry": geometry}


def _geometries(value: object, nesting: int = _MOST_NESTING) -> Iterator[dict[str, Any]]:
    """The geometries of a geometry, feature or feature collection; none of anything else."""
    if not isinstance(value, Mapping) or nesting == 0:
        return
    if value.get("type") == "FeatureCollection":
        features = value.get("features")
        for feature in features if isinstance(features, list) else ():
            yield from _geometries(feature, nesting - 1)
    elif value.get("type") == "Feature":
        yield from _geometries(value.get("geometry"), nesting - 1)
    elif geojson.is_geometry(value):
        shown = geojson.simple(value)
        yield {key: shown[key] for key in ("type", "coordinates")}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

"""GeoJSON of a directory's outlines, for a GIS to show the location of its images.

Entries come with the path of their file relative to the document. RFC 7946; an outline is the
item's geometry as UP42 sent it, else its bounding box.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from up42fs.model import geojson
from up42fs.model.stac import StacItem

#: Foreign member (RFC 7946 §6.1): the number of entries without outline, and therefore without
#: feature.
WITHOUT_OUTLINE = "up42fs:without_outline"


@dataclass(frozen=True, slots=True)
class FootprintEntry:
    """One asset, or one of its items, and its path.

    `id` is the asset's, `path` relative to the document, `collection` the product collection
    (`phr`), `status` the CNAM status. `bbox` (degrees, four or six numbers) is used if the item has
    no outline or is not known, e.g. from the extent of the STAC collection.
    """

    id: str
    path: str
    title: str | None = None
    status: str | None = None
    collection: str | None = None
    item: StacItem | None = None
    bbox: tuple[float, ...] | None = None


def feature_collection(
    entries: Iterable[FootprintEntry], name: str = "footprints"
) -> dict[str, Any]:
    """A GeoJSON FeatureCollection, ready for `json.dumps`; `name` becomes the layer's name.

    Properties of a feature: id, title, path, datetime (UTC), cloud_cover (percent), gsd (metres),
    collection, status; null where unknown. Entries without any outline are only counted.
    """
    made = [feature(entry) for entry in entries]
    return {
        "type": "FeatureCollection",
        "name": name,
        WITHOUT_OUTLINE: made.count(None),
        "features": [one for one in made if one is not None],
    }


def feature(entry: FootprintEntry) -> dict[str, Any] | None:
    """The GeoJSON feature of an entry; None if it has no outline."""
    outline = _outline(entry)
    if outline is None:
        return None
    return {"type": "Feature", "properties": _properties(entry), "geometry": outline}


def outline_of(items: Sequence[StacItem]) -> dict[str, Any] | None:
    """The outline of one or several items as one geometry; None if none of them has any."""
    found = (_outline(FootprintEntry(item.id, "", item=item)) for item in items)
    outlines = [outline for outline in found if outline is not None]
    if len(outlines) < 2:
        return outlines[0] if outlines else None
    return geojson.simple({"type": "GeometryCollection", "geometries": outlines})


def _outline(entry: FootprintEntry) -> dict[str, Any] | None:
    item = entry.item
    geometry = item.document.get("geometry") if item is not None else None
    if geojson.is_geometry(geometry):
        shown = geojson.simple(geometry)
        return {key: value for key, value in shown.items() if key in ("type", "coordinates")}
    for bbox in (item.bbox if item is not None else None, entry.bbox):
        if bbox is not None and geojson.is_bbox(bbox):
            return geojson.outline(bbox)
    return None


def _properties(entry: FootprintEntry) -> dict[str, Any]:
    item = entry.item or StacItem(entry.id, None, entry.id)
    return {
        "id": entry.id,
        "title": entry.title or item.user_title or item.title,
        "path": entry.path,
        "datetime": _text(item.datetime),
        "cloud_cover": item.cloud_cover,
        "gsd": item.gsd,
        "collection": entry.collection or item.product_collection,
        "status": entry.status,
    }


def _text(moment: dt.datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

"""GeoJSON of the outlines of items, for a GIS to show the location of their images.

Theory. A document may show a hundred thousand items, so each item is drawn once, when UP42 sends
it, and kept as a short text: `draw` takes from the item what a feature shows, with the geometry as
JSON, and `line` puts the name of the file around it. RFC 7946; an outline is the item's geometry as
UP42 sent it, else its bounding box.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from up42fs.model import geojson
from up42fs.model.stac import StacItem

_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a feature shows of an item.

    `datetime` is RFC 3339 in UTC, `cloud_cover` in percent, `gsd` in metres, `geometry` JSON; it is
    None if the item has no outline. `collection` is the product collection (`phr`).
    """

    title: str | None = None
    datetime: str | None = None
    cloud_cover: float | None = None
    gsd: float | None = None
    collection: str | None = None
    geometry: str | None = None


#: An asset of which no item is known.
NOTHING = Drawn()


@dataclass(frozen=True, slots=True)
class Shown:
    """An asset that a feature is of: its ID, its path from the document, UP42's words about it.

    `directory` is the path of its directory: of the files that UP42 made of it, or of the members
    of its archive. `status` is the CNAM status. Title and collection override those of the asset's
    items.
    """

    id: str
    path: str
    title: str | None = None
    collection: str | None = None
    status: str | None = None
    directory: str | None = None


def draw(item: StacItem) -> Drawn:
    """What a feature shows of an item, which must have its document."""
    outline = outline_of([item])
    return Drawn(
        title=item.user_title or item.title,
        datetime=_text(item.datetime),
        cloud_cover=item.cloud_cover,
        gsd=item.gsd,
        collection=item.product_collection,
        geometry=None if outline is None else json.dumps(outline),
    )


def line(shown: Shown, drawn: Drawn) -> str | None:
    """The GeoJSON feature of an item of an asset, as one line; None if it has no outline.

    Its properties are null where unknown.
    """
    if drawn.geometry is None:
        return None
    properties = {
        "id": shown.id,
        "title": shown.title or drawn.title,
        "path": shown.path,
        "directory": shown.directory,
        "datetime": drawn.datetime,
        "cloud_cover": drawn.cloud_cover,
        "gsd": drawn.gsd,
        "collection": shown.collection or drawn.collection,
        "status": shown.status,
    }
    said = _ENCODER.encode(properties)
    return f'{{"type": "Feature", "properties": {said}, "geometry": {drawn.geometry}}}'


def pack(items: Iterable[StacItem]) -> str:
    """Items as they are drawn, as one short text."""
    return json.dumps([astuple(draw(item)) for item in items], separators=(",", ":"))


def unpack(text: str) -> tuple[Drawn, ...]:
    """The inverse of `pack`; raises ValueError or TypeError for anything else."""
    return tuple(Drawn(*row) for row in json.loads(text))


def outline_of(items: Sequence[StacItem]) -> dict[str, Any] | None:
    """The outline of one or several items as one geometry; None if none of them has any."""
    found = [outline for item in items if (outline := _outline(item)) is not None]
    if len(found) < 2:
        return found[0] if found else None
    return geojson.simple({"type": "GeometryCollection", "geometries": found})


def _outline(item: StacItem) -> dict[str, Any] | None:
    geometry = item.document.get("geometry")
    if geojson.is_geometry(geometry):
        shown = geojson.simple(geometry)
        return {key: value for key, value in shown.items() if key in ("type", "coordinates")}
    if item.bbox is not None and geojson.is_bbox(item.bbox):
        return geojson.outline(item.bbox)
    return None


def _text(moment: dt.datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

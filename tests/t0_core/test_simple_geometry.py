"""Collections of geometries become what STAC takes: nothing else is changed, nothing sound lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformed_support import validate

from up42fs.model import geojson
from up42fs.model import stac_documents as static_stac
from up42fs.model.outlines import draw
from up42fs.model.stac import StacItem

RING = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
POINT = {"type": "Point", "coordinates": [5.0, 6.0]}
LINE = {"type": "LineString", "coordinates": [[0.0, 0.0], [2.0, 2.0]]}
AREA = {"type": "Polygon", "coordinates": [RING]}
AREAS = {"type": "MultiPolygon", "coordinates": [[RING], [RING]]}
POINTS = {"type": "MultiPoint", "coordinates": [[1.0, 2.0]]}
simple_parts = st.sampled_from([POINT, POINTS, LINE, AREA, AREAS])
geometries = st.recursive(
    simple_parts,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda parts: {"type": "GeometryCollection", "geometries": parts}
    ),
    max_leaves=6,
)


@given(geometries)
def test_what_comes_out_is_sound_and_simple(geometry: dict[str, Any]) -> None:
    if not geojson.is_geometry(geometry):  # nested too deep
        return
    found = geojson.simple(geometry)
    assert geojson.is_geometry(found)
    assert found["type"] != "GeometryCollection"
    if geometry["type"] != "GeometryCollection":
        assert found is geometry
    if "Polygon" in str(geometry):
        assert found["type"].endswith("Polygon")


def test_areas_of_a_collection_are_kept_all() -> None:
    both = {"type": "GeometryCollection", "geometries": [AREA, POINT, AREAS, LINE]}
    assert geojson.simple(both)["coordinates"] == [[RING]] * 3
    one = {"type": "GeometryCollection", "geometries": [POINT, AREA]}
    assert geojson.simple(one) == AREA


@pytest.mark.claim("S37")
@given(geometries)
def test_an_item_of_any_outline_is_valid(geometry: dict[str, Any]) -> None:
    document = {"geometry": geometry, "properties": {"datetime": "2024-01-01T00:00:00Z"}}
    item = StacItem("one", None, "asset", document=document)
    made = static_stac.item_document(item, files={}, self_contained=True)
    validate(made)
    assert "GeometryCollection" not in str(draw(item).geometry)

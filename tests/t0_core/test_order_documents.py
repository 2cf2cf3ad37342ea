"""Documents of orders: what they keep of UP42's JSON, and that they are valid in any case."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.model import geojson
from up42fs.model import order_documents as documents

BOX = {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]]}
POINT = {"type": "Point", "coordinates": [13.4, 52.5]}


def feature(geometry: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"own": 1}, "geometry": geometry}


def collection(*geometries: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [feature(each) for each in geometries]}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.sampled_from(["Polygon"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "features", "geometry", "coordinates", "aoi", "orderDetails", "covered")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
GEOMETRIES = st.sampled_from([BOX, POINT])
AREAS = st.one_of(
    GEOMETRIES,
    GEOMETRIES.map(feature),
    st.lists(GEOMETRIES, max_size=3).map(lambda several: collection(*several)),
)


def check(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The features of a document, which must be GeoJSON."""
    json.dumps(document, allow_nan=False)
    assert document["type"] == "FeatureCollection"
    for each in document["features"]:
        assert each.keys() == {"type", "properties", "geometry"}
        assert each["type"] == "Feature"
        assert geojson.is_geometry(each["geometry"])
    return list(document["features"])


@pytest.mark.claim("S302")
@given(JSON)
def test_whatever_comes_the_documents_are_geojson(said: Any) -> None:
    order = said if isinstance(said, dict) else {"orderDetails": said}
    check(documents.area(order))
    check(documents.coverage("id", order))


@given(AREAS, st.sampled_from(["aoi", "geometry"]))
def test_the_area_is_found_in_every_shape(area: dict[str, Any], key: str) -> None:
    order = {"id": "i", "displayName": "n", "type": "TASKING", "status": None,
             "orderDetails": {key: area, "imageId": "scene"}}  # fmt: skip
    expected = [area] if "coordinates" in area else None
    if area["type"] == "Feature":
        expected = [area["geometry"]]
    if expected is None:
        expected = [each["geometry"] for each in area["features"]]
    found = check(documents.area(order))
    assert [each["geometry"] for each in found] == expected
    for each in found:
        assert each["properties"] == {
            "order_id": "i", "name": "n", "order_type": "TASKING", "image_id": "scene",
        }  # fmt: skip


@given(AREAS, AREAS, st.floats(0, 100))
def test_the_coverage_says_which_part_is_which(
    covered: dict[str, Any], rest: dict[str, Any], share: float
) -> None:
    said = {
        "covered": {"sqKmArea": 12.5, "percentage": share, "geometry": covered},
        "remainder": {"sqKmArea": None, "percentage": 100 - share, "geometry": rest},
    }
    document = documents.coverage("i", said)
    check(document)
    assert document[documents.PARTS] == {
        "covered": {"sq_km": 12.5, "percentage": share},
        "remainder": {"percentage": 100 - share},
    }
    parts = [each["properties"]["part"] for each in document["features"]]
    assert parts == sorted(parts), "covered comes first"


def test_an_order_without_details_has_no_area() -> None:
    odd: list[Any] = [None, {"geometry": {}}, {"geometry": {"some": "geometry"}}]
    for details in odd:
        order = {"orderDetails": details}
        assert documents.area(order)["features"] == []
    assert documents.coverage("i", {})["features"] == []


def test_only_taskings_have_a_coverage() -> None:
    assert documents.names("TASKING") == ("order.json", "aoi.geojson", "coverage.geojson")
    for kind in ("ARCHIVE", None, "NEW"):
        assert documents.names(kind) == ("order.json", "aoi.geojson")

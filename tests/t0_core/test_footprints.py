"""`footprints.geojson`: RFC 7946, and GDAL opens it (issue 3, item 8)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.model import geojson, outlines
from up42fs.model.outlines import Shown, draw, line
from up42fs.model.stac import StacItem

SUMMER = timezone(timedelta(hours=2))
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
#: Fiji, as RFC 7946 §3.1.9 wants it: cut at the antimeridian.
ACROSS = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[177, -20], [180, -20], [180, -15], [177, -15], [177, -20]]],
        [[[-180, -20], [-178, -20], [-178, -15], [-180, -15], [-180, -20]]],
    ],
}


def make_item(geometry: Any = None, bbox: tuple[float, ...] | None = None) -> StacItem:
    return StacItem(
        "item-1",
        "collection-1",
        "asset-1",
        title="scene",
        datetime=datetime(2024, 5, 1, 10, tzinfo=UTC),
        gsd=0.5,
        cloud_cover=12.5,
        bbox=bbox,
        product_collection="phr",
        document={"geometry": geometry},
    )


SHOWN = Shown("a", "x")


def only(item: StacItem, shown: Shown = SHOWN) -> dict[str, Any]:
    made = line(shown, draw(item))
    assert made is not None
    return json.loads(made)


def document(*features: tuple[Shown, StacItem]) -> str:
    made = [line(shown, draw(item)) for shown, item in features]
    lines = ",".join(one for one in made if one is not None)
    return f'{{"type": "FeatureCollection", "name": "footprints", "features": [{lines}]}}'


def test_a_feature_says_what_and_where() -> None:
    shown = Shown("asset-1", "a b.zip", status="SUCCESSFUL")
    assert only(make_item(SQUARE), shown) == {
        "type": "Feature",
        "properties": {
            "id": "asset-1",
            "title": "scene",
            "path": "a b.zip",
            "directory": None,
            "datetime": "2024-05-01T10:00:00.000Z",
            "cloud_cover": 12.5,
            "gsd": 0.5,
            "collection": "phr",
            "status": "SUCCESSFUL",
        },
        "geometry": SQUARE,
    }


def test_what_the_asset_says_wins_over_the_item() -> None:
    said = only(make_item(SQUARE), Shown("a", "x", title="mine", collection="spot"))["properties"]
    assert said["title"] == "mine"
    assert said["collection"] == "spot"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (make_item(ACROSS, (177, -20, -178, -15)), ACROSS),
        (make_item(None, (0, 0, 1, 1)), SQUARE),
        (make_item(None, (0, 0, 5, 1, 1, 9)), SQUARE),
        (make_item({"type": "Polygon", "coordinates": []}, (0, 0, 1, 1)), SQUARE),
        (make_item(None, (177, -20, -178, -15)), ACROSS),
        (make_item(None, (7, 8, 7, 8)), {"type": "Point", "coordinates": [7, 8]}),
    ],
)
def test_the_outline_is_the_geometry_else_the_box(item: StacItem, expected: dict[str, Any]) -> None:
    assert only(item)["geometry"] == expected


@pytest.mark.parametrize("item", [make_item(), make_item(None, (0, 0, float("nan"), 1))])
def test_what_has_no_outline_has_no_feature(item: StacItem) -> None:
    assert line(Shown("a", "x"), draw(item)) is None


def test_what_is_kept_is_what_is_drawn() -> None:
    """Also a title that is no Unicode, and a datetime of another zone."""
    items = [
        make_item(SQUARE),
        make_item(),
        replace(make_item(ACROSS), user_title='"Größe" \ud800', gsd=None, cloud_cover=None),
        replace(make_item(SQUARE), datetime=datetime(2024, 5, 1, 10, tzinfo=SUMMER)),
    ]
    assert outlines.unpack(outlines.pack(items)) == tuple(map(draw, items))
    assert draw(items[-1]).datetime == "2024-05-01T08:00:00.000Z"


# -- geometries

positions = st.lists(st.floats(-90, 90), min_size=2, max_size=3)
rings = st.lists(positions, min_size=3, max_size=5).map(lambda ring: [*ring, ring[0]])
shapes = st.one_of(
    st.tuples(st.just("Point"), positions),
    st.tuples(st.just("MultiPoint"), st.lists(positions, min_size=1, max_size=3)),
    st.tuples(st.just("LineString"), st.lists(positions, min_size=2, max_size=3)),
    st.tuples(st.just("Polygon"), st.lists(rings, min_size=1, max_size=2)),
    st.tuples(
        st.just("MultiPolygon"),
        st.lists(st.lists(rings, min_size=1, max_size=2), min_size=1, max_size=2),
    ),
).map(lambda shape: {"type": shape[0], "coordinates": shape[1]})
geometries = shapes | st.lists(shapes, min_size=1, max_size=2).map(
    lambda parts: {"type": "GeometryCollection", "geometries": parts}
)


@given(geometries)
def test_a_sound_geometry_passes_and_its_bounds_hold_it(geometry: dict[str, Any]) -> None:
    assert geojson.is_geometry(geometry)
    item = make_item(geometry)
    assert only(item)["geometry"] == geojson.simple(geometry)
    assert outlines.unpack(outlines.pack([item])) == (draw(item),)
    west, south, east, north = geojson.bounds(geometry)
    numbers = json.dumps(geometry)
    assert west <= east
    assert south <= north
    assert repr(west) in numbers
    assert repr(north) in numbers


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "Polygon",
        {},
        {"type": []},
        {"type": "Point"},
        {"type": "Point", "coordinates": [1]},
        {"type": "Point", "coordinates": [1, None]},
        {"type": "Point", "coordinates": [1, float("inf")]},
        {"type": "Point", "coordinates": [1, True]},
        {"type": "Point", "coordinates": [10**400, 1]},
        {"type": "LineString", "coordinates": [[0, 0]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]},
        {"type": "Polygon", "coordinates": [[0, 0], [1, 1]]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "GeometryCollection", "geometries": [{"type": "Point"}]},
        {"type": "Circle", "coordinates": [0, 0]},
    ],
)
def test_what_is_no_geometry(value: object) -> None:
    assert not geojson.is_geometry(value)


def test_collections_within_collections_end() -> None:
    value: dict[str, Any] = {"type": "Point", "coordinates": [0, 0]}
    for _ in range(50):
        value = {"type": "GeometryCollection", "geometries": [value]}
    assert not geojson.is_geometry(value)


def test_one_box_around_several() -> None:
    assert geojson.union([(0, 0, 1, 1), (5, -1, 0, 6, 2, 9)]) == [0, -1, 6, 2]
    assert geojson.union([(170, 0, -170, 1), (0, 0, 1, 1)]) == [-180, 0, 180, 1]


# -- GDAL

OGRINFO = shutil.which("ogrinfo")


@pytest.mark.skipif(OGRINFO is None, reason="ogrinfo is not installed")
def test_gdal_opens_it(tmp_path: Path) -> None:
    features = [
        (Shown("asset-1", "100% Größe.zip", title='"quoted"'), make_item(SQUARE)),
        (Shown("asset-2", "b.zip", status="FAILED"), make_item(ACROSS)),
        (Shown("asset-3", "c.zip"), make_item()),
    ]
    path = tmp_path / "footprints.geojson"
    path.write_text(document(*features))
    # A proxy or a driver of the machine must not decide.
    answer = subprocess.run(
        [OGRINFO or "", "-ro", "-al", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    assert answer.stderr == ""
    for expected in (
        "using driver `GeoJSON' successful",
        "Layer name: footprints",
        "Feature Count: 2",
        "Extent: (-180.000000, -20.000000) - (180.000000, 1.000000)",
        'title (String) = "quoted"',
        "path (String) = 100% Größe.zip",
        "datetime (DateTime) = 2024/05/01 10:00:00",
        "cloud_cover (Real) = 12.5",
        "status (String) = FAILED",
    ):
        assert expected in answer.stdout


@pytest.mark.skipif(OGRINFO is None, reason="ogrinfo is not installed")
def test_gdal_opens_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "footprints.geojson"
    path.write_text(document((Shown("a", "x"), make_item())))
    answer = subprocess.run(
        [OGRINFO or "", "-ro", "-al", str(path)], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0
    assert "Feature Count: 0" in answer.stdout

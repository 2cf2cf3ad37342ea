"""Hypothesis strategies and plain builders shared by all rings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from up42fs.types import Asset, CnamStatus, Order

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return EPOCH + timedelta(minutes=minutes)


def make_asset(number: int, **fields: object) -> Asset:
    values: dict[str, object] = {
        "id": f"{number:08x}-0000-4000-8000-000000000000",
        "name": f"asset{number}.zip",
        "title": None,
        "size": 1000 + number,
        "created_at": at(number),
        "updated_at": at(number),
    }
    return Asset(**(values | fields))  # type: ignore[arg-type]


def make_order(number: int, **fields: object) -> Order:
    values: dict[str, object] = {
        "id": f"0000000f-{number:04x}-4000-8000-000000000000",
        "display_name": f"order {number}",
        "status": "FULFILLED",
        "type": "ARCHIVE",
        "created_at": at(number),
        "updated_at": at(number),
    }
    return Order(**(values | fields))  # type: ignore[arg-type]


#: Assets over few IDs, orders, tags and names, so that clashes and moves are common.
assets = st.builds(
    make_asset,
    st.integers(0, 9),
    name=st.sampled_from(["scene.zip", "scene.zip", "a/b.tif", None, ".."]),
    title=st.sampled_from([None, "", "title", "x/y"]),
    size=st.sampled_from([None, 0, 1, 5_000_000_000]),
    created_at=st.integers(0, 5).map(at),
    updated_at=st.integers(5, 9).map(at),
    tags=st.lists(st.sampled_from(["t", "a/b", "a_b", "ü"]), max_size=3, unique=True).map(tuple),
    cnam_status=st.sampled_from(CnamStatus),
    order_id=st.sampled_from([None, make_order(1).id, make_order(2).id, "unknown-order"]),
)
orders = st.builds(
    make_order,
    st.integers(1, 3),
    display_name=st.sampled_from([None, "same", "same", "a/b"]),
    updated_at=st.integers(5, 9).map(at),
)

#: JSON of any kind, and rows with keys that UP42 uses.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text()
    | st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE100)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "name", "title", "size", "createdAt", "updatedAt", "tags", "order", "orderId",
        "geospatialMetadataExtractionStatus", "geospatialMetadataExtraction", "contentType",
        "displayName", "status", "type", "properties", "assets", "bbox", "collection", "links",
        "datetime", "proj:epsg", "gsd", "eo:cloud_cover", "up42-user:tags", "href", "roles",
    ]
)  # fmt: skip
ROWS = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=6), max_size=12)

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_helpers import API, recorded
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON, ROWS

from up42fs.api.explain import unwrap
from up42fs.api.schema import (
    EPOCH,
    parse_asset,
    parse_collection,
    parse_item,
    parse_order,
    parse_time,
)
from up42fs.types import Asset, CnamStatus, Order


@given(ROWS, st.text(min_size=1).filter(lambda text: bool(text.strip())))
def test_any_object_with_an_id_parses(row: dict[str, Any], row_id: str) -> None:
    row = {**row, "id": row_id}
    for found in (parse_asset(row), parse_order(row)):
        assert found is not None
        assert found.id == row_id
        assert found.created_at.utcoffset() == found.updated_at.utcoffset() == timedelta(0)
        assert all(tag and isinstance(tag, str) for tag in found.tags)
    item, collection = parse_item(row, API), parse_collection(row, API)
    assert item is not None
    assert collection is not None
    for text in (parse_asset(row).name, parse_asset(row).title, item.title):  # type: ignore[union-attr]
        assert text is None or text.encode()
    assert all((file.asset_id is None) == (file.refusal is not None) for file in item.assets)


@given(JSON)
def test_any_value_without_an_id_is_skipped(value: Any) -> None:
    if isinstance(value, dict):
        value.pop("id", None)
    assert parse_asset(value) is None
    assert parse_order(value) is None
    assert parse_item(value, API) is None
    assert parse_collection(value, API) is None


@pytest.mark.parametrize("bad", [None, -7, 1.5, "", "  ", ["x"], "\ud800", True])
def test_an_id_that_cannot_be_asked_for_is_none(bad: Any) -> None:
    assert parse_asset({"id": bad}) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-12-07T14:25:34.968Z", datetime(2022, 12, 7, 14, 25, 34, 968000, UTC)),
        ("2022-10-25T14:58:28.139788Z", datetime(2022, 10, 25, 14, 58, 28, 139788, UTC)),
        ("2021-05-31T09:51:52.100000+00:00", datetime(2021, 5, 31, 9, 51, 52, 100000, UTC)),
        ("2021-05-31T11:51:52+02:00", datetime(2021, 5, 31, 9, 51, 52, tzinfo=UTC)),
        ("2021-05-31T09:51:52", datetime(2021, 5, 31, 9, 51, 52, tzinfo=UTC)),
        ("2021-05-31T09:51:52.123456789Z", datetime(2021, 5, 31, 9, 51, 52, 123456, UTC)),
        ("created-at", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("", None),
        ("2021-05-31t09:51:52z", datetime(2021, 5, 31, 9, 51, 52, tzinfo=UTC)),
        (1700000000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1700000000500, datetime(2023, 11, 14, 22, 13, 20, 500000, UTC)),
        (10**30, None),
        (float("nan"), None),
        (True, None),
        (None, None),
    ],
)
def test_moments(text: Any, moment: datetime | None) -> None:
    assert parse_time(text) == moment


def asset(**row: Any) -> Asset:
    found = parse_asset({"id": "a", **row})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [
        (0, None),
        ("0", None),
        (0.0, None),
        (1, 1),
        (2**40, 2**40),
        ("300", 300),
        (300.0, 300),
        (-1, None),
        ("-1", None),
        ("many", None),
        ("9" * 30, None),
        (2**63, None),
        (1.5, None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_sizes(size: Any, size_bytes: int | None) -> None:
    assert asset(size=size).size == size_bytes


def test_missing_times_fall_back_to_each_other_then_the_epoch() -> None:
    at = datetime(2024, 1, 2, tzinfo=UTC)
    text = "2024-01-02T00:00:00Z"
    for row in ({"createdAt": text}, {"updatedAt": text}, {"createdAt": "x", "updatedAt": text}):
        assert (asset(**row).created_at, asset(**row).updated_at) == (at, at)
    assert (asset().created_at, asset().updated_at) == (EPOCH, EPOCH)


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"geospatialMetadataExtractionStatus": "SUCCESSFUL"}, CnamStatus.SUCCESSFUL),
        ({"geospatialMetadataExtraction": "FAILED"}, CnamStatus.FAILED),
        ({"geospatialMetadataExtractionStatus": "in_progress"}, CnamStatus.IN_PROGRESS),
        ({"geospatialMetadataExtractionStatus": "PONDERING"}, CnamStatus.UNTOLD),
        ({"geospatialMetadataExtractionStatus": None}, CnamStatus.UNTOLD),
        ({"geospatialMetadataExtractionStatus": {}}, CnamStatus.UNTOLD),
        ({}, CnamStatus.UNTOLD),
    ],
)
def test_cnam_statuses(row: dict[str, Any], status: CnamStatus) -> None:
    assert asset(**row).cnam_status is status


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["b", "a", "b"], ("b", "a")),
        (["berlin/2024 spring", "é"], ("berlin/2024 spring", "é")),
        (["a", 3, None, "", " ", ["x"]], ("a",)),
        ("one", ("one",)),
        ({"a": 1}, ()),
        (None, ()),
        ([], ()),
    ],
)
def test_tags(tags: Any, found: tuple[str, ...]) -> None:
    assert asset(tags=tags).tags == found


def test_the_order_is_found_in_both_spellings() -> None:
    assert asset(orderId="o").order_id == "o"
    assert asset(order={"id": "o"}).order_id == "o"
    assert asset(order="o", orderId=None).order_id is None


def test_a_lone_surrogate_does_not_spread() -> None:
    assert asset(name=json.loads('"a\\ud800b"')).name == "a\ufffdb"


# Recorded bodies


def test_the_current_asset_shape() -> None:
    found = parse_asset(recorded("up42-py_asset_metadata_2025.json"))
    assert found == Asset(
        id="7babc885-be3b-41e2-8a7b-9ef7288f8f53",
        name="asset-name",
        title="title",
        size=300,
        created_at=EPOCH,
        updated_at=EPOCH,
        tags=("some", "tags"),
        cnam_status=CnamStatus.NOT_PROCESSED,
        content_type="geotiff",
        order_id="order-id",
        account_id="account-id",
        workspace_id="workspace-id",
        product_id="product-id",
        collection="collection-name",
        producer="producer-name",
        source="PROCESSING",
    )


def test_the_asset_shapes_of_2022_and_2023() -> None:
    old = parse_asset(recorded("up42-py_asset_metadata_2023.json"))
    assert old is not None
    assert (old.size, old.cnam_status, old.order_id) == (256248634, CnamStatus.SUCCESSFUL, "string")
    assert old.created_at == datetime(2022, 12, 7, 14, 25, 34, 968000, UTC)
    live = parse_asset(recorded("data-recipes_asset_v1_live_2022.json"))
    assert live is not None
    assert live.name == "oneatlas_a9147c99-3bf3-463e-a5e6-564912b15cf1.zip"
    assert (live.size, live.title, live.tags) == (14024332, None, ())
    assert live.order_id == "a9147c99-3bf3-463e-a5e6-564912b15cf1"


@pytest.mark.parametrize(
    ("name", "order"),
    [
        (
            "up42-py_order_tasking_v2_2026.json",
            Order(
                id="c765a338-1b3a-4c3a-8c75-6b6d1fcca96d",
                display_name="tasking-order",
                status="CREATED",
                type="TASKING",
                created_at=EPOCH,
                updated_at=EPOCH,
                tags=("some", "tags"),
                account_id="9deb2fc0-8ca4-4d9d-ac43-1313f2ef0772",
                workspace_id="workspace_id_123",
                product_id="37948e61-8b1b-4065-8cd8-2cd508422372",
                sub_status="FEASIBILITY_WAITING_UPLOAD",
            ),
        ),
        (
            "up42-py_order_info_live_2023-12.json",
            Order(
                id="e11961c3-9172-4dd2-afcf-c8494439468f",
                display_name=None,
                status="FULFILLED",
                type="ARCHIVE",
                created_at=datetime(2023, 12, 6, 15, 56, 17, 268879, UTC),
                updated_at=datetime(2023, 12, 6, 16, 3, 24, 958921, UTC),
                account_id="5e600478-45d4-4d1c-b900-a0073c9992c9",
                workspace_id="0764cd46-4f84-453c-965d-9b0a1739b15e",
                product_id="a1d8233e-9344-429f-a27a-50202584de3f",
            ),
        ),
    ],
)
def test_recorded_orders(name: str, order: Order) -> None:
    assert parse_order(recorded(name)) == order


@pytest.mark.parametrize(
    "name",
    [
        "up42-py_order_tasking_being_fulfilled_10assets_2023.json",
        "up42-py_order_tasking_placed_2024.json",
    ],
)
def test_more_recorded_orders(name: str) -> None:
    found = parse_order(unwrap(recorded(name)))
    assert found is not None
    assert found.type == "TASKING"
    assert found.status in ("BEING_FULFILLED", "PLACED")


def test_a_transformed_item() -> None:
    name = "up42-py_stac_item_cnam_sentinel2_reconstructed.json"
    found = parse_item(recorded(name), API)
    assert found is not None
    assert found.asset_id == "e11961c3-9172-4dd2-afcf-c8494439468f"
    assert found.order_id == "e1693a6c-1bfa-4b0a-acd9-752d73dd6e0e"
    assert (found.platform, found.constellation) == ("sentinel-2a", "sentinel-2")
    assert (found.gsd, found.cloud_cover, found.epsg) == (10.0, 88.99, 32632)
    assert found.datetime == datetime(2023, 4, 26, 10, 26, 11, tzinfo=UTC)
    assert found.metadata_version == "0.0.14"
    assert len(found.assets) == 21
    files = {file.key: file for file in found.assets}
    assert files["aot.tiff"].asset_id == "f5b31cdf-f0fb-4da2-b700-ea8d0fcc34ae"
    assert files["aot.tiff"].roles == ("data",)
    assert all(file.asset_id for file in found.assets)
    assert found.document["stac_version"] == "1.0.0"


@pytest.mark.parametrize(
    "name",
    [
        "up42_data-recipes_stac_collection_items.json",
        "up42_data-recipes_stac_search_cql2_workspace.json",
        "up42_data-recipes_stac_search_intersects_cql2.json",
        "up42_data-recipes_stac_search_intersects_point.json",
        "up42-py_stac_search_page_with_next_2023.json",
    ],
)
def test_recorded_items(name: str) -> None:
    rows = recorded(name)["features"]
    assert rows
    for row in rows:
        found = parse_item(row, API)
        assert found is not None
        assert found.asset_id
        assert found.datetime
        assert [file.key for file in found.assets] == list(row["assets"])
        assert all(file.asset_id for file in found.assets)
        assert found.bbox is not None


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("up42_data-recipes_stac_collections_page_default.json", 10),
        ("up42_data-recipes_stac_collections_limit20.json", 20),
        ("up42_data-recipes_stac_collections_workspace.json", 10),
    ],
)
def test_recorded_collections(name: str, count: int) -> None:
    found = [parse_collection(row, API) for row in recorded(name)["collections"]]
    assert len(found) == count
    for collection in found:
        assert collection is not None
        assert collection.asset_id
        assert collection.workspace_id
        assert len(collection.assets) <= 1
        for delivery in collection.assets:
            assert delivery.title == "Original Delivery"
            assert delivery.asset_id == collection.asset_id

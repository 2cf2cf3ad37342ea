"""Bodies that strangers' servers may send, through a real client: values, or an error that says so.

Bodies as UP42 sends them are mutated: nulls, missing and wrong fields, numbers as texts, dates in
other shapes, deeper values than anybody expects. Nothing but an `Up42fsError` may come out, and
what comes out can be written down, named and shown.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio
from api_helpers import API, ID, Bench, recorded, reply
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from up42fs.catalog.snapshot import item_rows
from up42fs.catalog.stac_only import asset_part, merged, order_part, scenes_of
from up42fs.errors import InvalidAnswer, Up42fsError
from up42fs.model import names, outlines
from up42fs.model.outlines import Shown, draw, line
from up42fs.model.stac import in_order, transformed_files

ITEM: dict[str, Any] = {
    "type": "Feature",
    "id": "item",
    "collection": "collection",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
    "bbox": [0, 0, 1, 1],
    "properties": {
        "datetime": "2021-05-31T09:51:52.100000+00:00",
        "created": "2021-06-01T00:00:00Z",
        "gsd": 0.5,
        "eo:cloud_cover": 7,
        "proj:epsg": 32633,
        "up42-system:asset_id": ID,
        "up42-order:id": ID,
        "up42-user:tags": ["a"],
    },
    "links": [{"rel": "self", "href": f"{API}/v2/assets/stac/collections/c/items/item"}],
    "assets": {"b02.tiff": {"href": f"{API}/v2/assets/{ID}", "type": "image/tiff"}},
}  # fmt: skip
SEARCH: dict[str, Any] = {
    "type": "FeatureCollection",
    "features": [ITEM],
    "links": [
        {
            "rel": "next",
            "method": "POST",
            "href": f"{API}/v2/assets/stac/search",
            "body": {"limit": 10, "token": "next:item"},
        }
    ],
}
COLLECTIONS = {
    "collections": [
        {
            "id": "collection",
            "title": "SCENE",
            "up42-system:asset_id": ID,
            "extent": {"temporal": {"interval": [["2021-05-31T09:51:52Z", None]]}},
            "assets": {"a.zip": {"href": f"{API}/v2/assets/{ID}", "title": "Original Delivery"}},
            "links": [],
        }
    ],
    "links": [{"rel": "next", "href": f"{API}/v2/assets/stac/collections?token=next:x"}],
}
ASSETS: dict[str, Any] = {
    "content": [
        {
            "id": ID,
            "name": "a.zip",
            "size": 300,
            "createdAt": "2022-12-07T14:25:34.968Z",
            "updatedAt": "2022-12-07T14:25:34.968Z",
            "tags": ["a"],
            "title": None,
            "contentType": "application/zip",
            "orderId": ID,
            "geospatialMetadataExtractionStatus": "SUCCESSFUL",
        }
    ],
    "totalPages": 1,
    "totalElements": 1,
    "size": 100,
}
RECORDED = {
    "search": "up42-py_stac_search_page_with_next_2023.json",
    "collections": "up42_data-recipes_stac_collections_limit20.json",
    "assets": "up42-py_assets_page_2023.json",
    "orders": "up42-py_orders_page_v1_2023.json",
}
OWN: dict[str, Any] = {
    "search": SEARCH,
    "collections": COLLECTIONS,
    "assets": ASSETS,
    "orders": ASSETS,
}
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, float("inf"), float("nan"), "", "x", "12", "0.5", [], [None], {},
    {"a": 1}, "2024-05-01", "2024-05-01T10:00:00", "2024-05-01T10:00:00.123456789Z", 1714557600000,
    "\ud800", "a/b", "..", [[]], {"type": "GeometryCollection", "geometries": None}, 10**40,
    "\U0001f701" * 300, ["a", None, 3], {"href": None}, "NEW_STATUS",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@st.composite
def mutated(draw: st.DrawFn, body: Any) -> Any:
    changed = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(changed))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        at = changed
        for key in path:
            at = at[key]
        if draw(st.booleans()) and draw(st.booleans()):
            del at[last]
        else:
            at[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return changed


async def use(kind: str, bench: Bench) -> None:
    """Read a listing and do with its rows what the mount does."""
    client = bench.client
    if kind == "assets":
        for asset in await every(client.all_assets()):
            assert names.asset_name(asset.name, asset.title, asset.content_type, asset.id)
    elif kind == "orders":
        await every(client.all_orders())
    elif kind == "collections":
        rows = await every(client.all_collections())
        merged(map(asset_part, scenes_of(rows, [])))
        merged(map(order_part, scenes_of(rows, [])))
        item_rows.unpack_collections(item_rows.pack_collections(tuple(rows)))
    else:
        items = await every(client.search({}))
        for item in in_order(items):
            transformed_files(item)
            for file in item.assets:
                if file.asset_id is not None:
                    await client.sign(file.asset_id)
        assert item_rows.unpack(item_rows.pack(items)) == tuple(items)
        item_rows.unpack_documents(item_rows.pack_documents(items))
        for item, drawn in zip(items, outlines.unpack(outlines.pack(items)), strict=True):
            assert drawn == draw(item)
            feature = json.loads(line(Shown(item.id, "p"), drawn) or "{}")
            json.dumps(feature, allow_nan=False)


async def every(rows: AsyncIterator[Any]) -> list[Any]:
    return [row async for row in rows]


def read(kind: str, body: Any) -> None:
    async def main() -> None:
        asked = 0

        def answer(request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            if request.url.path.endswith("/download-url"):
                return reply({"url": "https://storage.googleapis.com/x?Expires=1"})
            if asked > 2:
                empty = {"content": [], "totalElements": 0, "features": [], "collections": []}
                return reply(empty)
            text = json.dumps(body).encode()
            return httpx.Response(200, content=text, headers={"content-type": "application/json"})

        with trio.fail_after(300):
            with suppress(Up42fsError):
                await use(kind, Bench(answer))

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("kind", OWN)
def test_no_body_breaks_a_listing(kind: str) -> None:
    @settings(max_examples=60)
    @given(mutated(OWN[kind]))
    def hold(body: Any) -> None:
        read(kind, body)

    hold()


async def test_a_total_that_is_nonsense_ends(autojump_clock: MockClock) -> None:
    rows = iter(range(10_000))

    def answer(request: httpx.Request) -> httpx.Response:
        content = [ASSETS["content"][0] | {"id": f"{next(rows)}-{n}"} for n in range(10)]
        if int(request.url.params["page"]) > 1:
            content = []
        return reply({"content": content, "totalElements": 10**30, "totalPages": 10**28})

    bench = Bench(answer)
    await every(bench.client.all_assets())
    assert len(bench.service.requests) < 200


@pytest.mark.parametrize("kind", RECORDED)
def test_no_change_of_a_recorded_body_breaks_a_listing(kind: str) -> None:
    original = recorded(RECORDED[kind])

    @settings(max_examples=15)
    @given(mutated(original))
    def hold(body: Any) -> None:
        read(kind, body)

    hold()


# What such bodies mean


async def test_ids_numbers_and_times_in_other_types() -> None:
    row = {
        "id": 12,
        "size": "300",
        "createdAt": 1700000000000,
        "updatedAt": "2023-11-14T22:13:21",
        "orderId": 7,
        "tags": "a, b",
        "geospatialMetadataExtractionStatus": "SOMETHING_NEW",
    }
    page = {"content": [row], "totalElements": "1", "totalPages": "1", "size": 100.0}
    bench = Bench(lambda _: reply(page))
    found = await bench.client.assets_page(0, size=100)
    (asset,) = found.items
    assert (found.total, found.total_pages, found.size) == (1, 1, 100)
    assert (asset.id, asset.size, asset.order_id, asset.tags) == ("12", 300, "7", ("a", "b"))
    assert (asset.created_at.year, (asset.updated_at - asset.created_at).seconds) == (2023, 1)


async def test_numbers_of_items_as_texts() -> None:
    said = ITEM["properties"] | {"gsd": "0.5", "eo:cloud_cover": "7", "proj:epsg": "32633"}
    item = ITEM | {"properties": said, "bbox": ["0", "0.0", 1, 1]}
    bench = Bench(lambda _: reply({"features": [item], "links": None}))
    (found,) = await every(bench.client.search({}))
    assert (found.gsd, found.cloud_cover, found.epsg) == (0.5, 7.0, 32633)
    assert found.bbox == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("search", {"features": None, "links": None}),
        ("search", {"features": []}),
        ("collections", {"collections": None}),
        ("assets", {"content": None, "totalElements": 0}),
        ("assets", {"empty": True}),
    ],
)
async def test_empty_answers(kind: str, body: dict[str, Any]) -> None:
    client = Bench(lambda _: reply(body)).client
    listing = {
        "search": lambda: client.search({}),
        "collections": client.all_collections,
        "assets": client.all_assets,
    }[kind]
    assert await every(listing()) == []


@pytest.mark.parametrize("body", [{"content": None, "totalElements": 3}, {"features": "x"}, {}])
async def test_what_is_missing_is_not_empty(body: dict[str, Any]) -> None:
    client = Bench(lambda _: reply(body)).client
    for listing in (client.all_assets, lambda: client.search({})):
        with pytest.raises(InvalidAnswer):
            await every(listing())


async def test_an_empty_page_is_not_the_last_one() -> None:
    pages = [
        {"features": [], "links": SEARCH["links"]},
        {"features": [ITEM], "links": []},
    ]
    bench = Bench(lambda _: reply(pages[min(len(bench.service.requests), 2) - 1]))
    assert [item.id for item in await every(bench.client.search({}))] == ["item"]


async def test_a_next_link_that_cannot_be_sent_is_an_error() -> None:
    for bad in ({"token": "\ud800"}, {"limit": float("inf")}):
        links = [{**SEARCH["links"][0], "body": bad}]
        text = json.dumps({"features": [], "links": links}).encode()

        def answer(_: httpx.Request, text: bytes = text) -> httpx.Response:
            return httpx.Response(200, content=text)

        bench = Bench(answer)
        with pytest.raises(InvalidAnswer, match="next page"):
            await every(bench.client.search({}))

"""STAC: landing page, paging by key, search, writes, quirks."""

from __future__ import annotations

import json
from typing import Any

import pystac
import pytest
from emulator_support import ACCOUNT, BIG, FILE, Emulator, Start

from up42fs.emulator import Storage, SyntheticSize
from up42fs.emulator.storage import stable_id
from up42fs.emulator.synthetic import synthetic_storage

BASE = "/v2/assets/stac"
COLLECTION, ITEM = stable_id("collection"), stable_id("item")


def _many(count: int = 25) -> Storage:
    return synthetic_storage(ACCOUNT, SyntheticSize(count, 3, 4))


def _link(answer: dict[str, Any], rel: str) -> dict[str, Any] | None:
    return next((link for link in answer["links"] if link["rel"] == rel), None)


async def _all(emulator: Emulator, path: str, key: str) -> list[dict[str, Any]]:
    """Follow GET next links to the end."""
    rows: list[dict[str, Any]] = []
    for _ in range(100):
        answer = await emulator.get(path)
        rows += answer[key]
        following = _link(answer, "next")
        if following is None:
            return rows
        assert following["method"] == "GET"
        path = following["href"].removeprefix(emulator.urls.api_url)
    raise AssertionError("the next links never end")


async def test_landing_page_with_and_without_slash(emulator: Emulator) -> None:
    page = await emulator.get(BASE + "/")
    assert page == await emulator.get(BASE)
    assert (page["id"], page["type"]) == ("up42-storage", "Catalog")
    search = _link(page, "search")
    assert search is not None
    assert (search["method"], search["href"]) == ("POST", f"{emulator.urls.api_url}{BASE}/search")


async def test_queryables(emulator: Emulator) -> None:
    names = (await emulator.get(f"{BASE}/queryables"))["properties"]
    assert {"asset_id", "order_id", "workspace_id", "tags", "title", "geometry"} <= set(names)


async def test_collections_come_ten_a_page_newest_first(start: Start) -> None:
    storage = _many()
    emulator = await start(storage)
    first = await emulator.get(f"{BASE}/collections")
    assert len(first["collections"]) == 10
    token = _link(first, "next")["href"].partition("token=")[2]  # type: ignore[index]
    assert token == f"next:{first['collections'][-1]['id']}"
    rows = await _all(emulator, f"{BASE}/collections?limit=7&workspace_id={ACCOUNT.workspace_id}",
                      "collections")  # fmt: skip
    wanted = sorted(storage.collections.values(), key=lambda c: -c.created_us)
    assert [row["id"] for row in rows] == [collection.id for collection in wanted]
    other = await emulator.get(f"{BASE}/collections", workspace_id=ACCOUNT.other_workspace_id)
    assert other["collections"] == []


async def test_prev_tokens_go_back(start: Start) -> None:
    emulator = await start(_many())
    first = await emulator.get(f"{BASE}/collections", limit=5)
    second = await emulator.get(f"{BASE}/collections", limit=5,
                                token=f"next:{first['collections'][-1]['id']}")  # fmt: skip
    back = _link(second, "prev")["href"].partition("token=")[2]  # type: ignore[index]
    again = await emulator.get(f"{BASE}/collections", limit=5, token=back)
    assert again["collections"] == first["collections"]


async def test_pages_are_stable_against_inserts_and_tokens_break_with_their_object(
    start: Start,
) -> None:
    emulator = await start(_many())
    first = await emulator.get(f"{BASE}/collections", limit=5)
    last = first["collections"][-1]
    token = f"next:{last['id']}"
    expected = await emulator.get(f"{BASE}/collections", limit=5, token=token)
    await emulator.op("add_asset", name="new.zip", cnam_status="SUCCESSFUL")
    now = await emulator.get(f"{BASE}/collections", limit=5, token=token)
    assert now["collections"] == expected["collections"]
    answer = await emulator.api("DELETE", f"{BASE}/collections/{last['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    broken = await emulator.api("GET", f"{BASE}/collections", params={"limit": 5, "token": token})
    assert broken.status_code == 400


async def test_documents_parse_as_stac(emulator: Emulator) -> None:
    collection = pystac.Collection.from_dict(await emulator.get(f"{BASE}/collections/{COLLECTION}"))
    assert collection.extra_fields["up42-system:asset_id"] == BIG
    item = pystac.Item.from_dict(
        await emulator.get(f"{BASE}/collections/{COLLECTION}/items/{ITEM}")
    )
    assert item.assets["b01.tiff"].href == f"{emulator.urls.api_url}/v2/assets/{FILE}"
    assert item.collection_id == COLLECTION
    assert item.properties["up42-order:status"] == "FULFILLED"
    assert item.geometry is not None
    page = await emulator.get(f"{BASE}/collections/{COLLECTION}/items", collections=COLLECTION)
    assert [feature["id"] for feature in page["features"]] == [ITEM]


async def test_unknown_ids(emulator: Emulator) -> None:
    nothing = stable_id("nothing")
    for path in (f"/collections/{nothing}", f"/collections/{nothing}/items",
                 f"/collections/{COLLECTION}/items/{nothing}",
                 f"/collections/{nothing}/items/{ITEM}"):  # fmt: skip
        assert (await emulator.api("GET", BASE + path)).status_code == 404


@pytest.mark.parametrize("switch", ["yes", "mixed"])
async def test_suffixed_hrefs(start: Start, switch: str) -> None:
    emulator = await start(_many(40), href_suffix=switch)
    rows = await _all(emulator, f"{BASE}/search?limit=100", "features")
    hrefs = [asset["href"] for row in rows for asset in row["assets"].values()]
    suffixed = [href.endswith("/download-url") for href in hrefs]
    assert any(suffixed)
    assert all(suffixed) == (switch == "yes")
    href = next(href for href in hrefs if href.endswith("/download-url"))
    answer = await emulator.api("POST", href.removeprefix(emulator.urls.api_url))
    assert answer.status_code == 200


async def test_http_next_links_name_an_origin_where_nobody_listens(start: Start) -> None:
    emulator = await start(_many(), http_next_link=True)
    href = _link(await emulator.get(f"{BASE}/collections"), "next")["href"]  # type: ignore[index]
    assert href.startswith(f"http://127.0.0.1{BASE}/collections?")


# -- search


async def _search(emulator: Emulator, **body: Any) -> dict[str, Any]:
    answer = await emulator.api("POST", f"{BASE}/search", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_search_pages_by_the_body_given_back(start: Start) -> None:
    storage = _many()
    emulator = await start(storage)
    body: dict[str, Any] = {"limit": 4, "sortby": [{"field": "datetime", "direction": "asc"}]}
    seen: list[str] = []
    for _ in range(100):
        page = await _search(emulator, **body)
        seen += [feature["id"] for feature in page["features"]]
        following = _link(page, "next")
        if following is None:
            break
        assert following["method"] == "POST"
        assert following["body"] == {**body, "token": f"next:{seen[-1]}"}
        body = following["body"]
    wanted = sorted(storage.items.values(), key=lambda item: item.datetime_us)
    assert seen == [item.id for item in wanted]


async def test_default_search_is_ten_items(start: Start) -> None:
    emulator = await start(_many())
    assert len((await _search(emulator))["features"]) == 10
    assert len((await _search(emulator, filter={}))["features"]) == 10
    odd = {"max_items": 50, "limit": 50, "filter": {"filter": {}}}
    assert len((await _search(emulator, filter=odd))["features"]) == 10


async def test_each_filter_agrees_with_the_rows(start: Start) -> None:
    storage = _many(60)
    emulator = await start(storage)
    items = list(storage.items.values())
    asset = storage.asset_of_item(items[7])
    middle = sorted(item.datetime_us for item in items)[30]
    from up42fs.emulator.clock import format_z

    box = [-90.0, -30.0, 40.0, 30.0]
    ring = [[-90, -30], [40, -30], [40, 30], [-90, 30], [-90, -30]]
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"ids": [items[3].id, items[5].id]}, {items[3].id, items[5].id}),
        ({"collections": [items[3].collection_id]}, {items[3].id}),
        ({"filter": _equal("asset_id", asset.id)}, {items[7].id}),
        ({"filter": _equal("order_id", asset.order_id)},
         {i.id for i in items if storage.asset_of_item(i).order_id == asset.order_id}),
        ({"filter": {"op": "and", "args": [_equal("order_id", asset.order_id),
                                          _equal("asset_id", asset.id)]}}, {items[7].id}),
        ({"filter": _equal("tags", "tag 0002")},
         {i.id for i in items if "tag 0002" in (storage.asset_of_item(i).tags or [])}),
        ({"filter": {"op": "<", "args": [{"property": "gsd"}, 0.4]}}, set()),
        ({"datetime": f"../{format_z(middle)}"}, {i.id for i in items if i.datetime_us <= middle}),
        ({"datetime": f"{format_z(middle)}/.."}, {i.id for i in items if i.datetime_us >= middle}),
        ({"datetime": format_z(middle)}, {i.id for i in items if i.datetime_us == middle}),
        ({"bbox": box}, {i.id for i in items if _meets(i.bbox, box)}),
        ({"intersects": {"type": "Polygon", "coordinates": [ring]}},
         {i.id for i in items if _meets(i.bbox, box)}),
    ]  # fmt: skip
    for body, wanted in cases:
        found = await _search(emulator, **body, limit=100)
        assert {feature["id"] for feature in found["features"]} == wanted, body


def _equal(name: str, value: Any) -> dict[str, Any]:
    return {"op": "=", "args": [{"property": name}, value]}


def _meets(one: tuple[float, ...], other: list[float]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


@pytest.mark.parametrize(
    "body",
    [{"filter": {"op": "frob", "args": [1]}}, {"datetime": "soon"}, {"limit": 0},
     {"filter": {"op": "=", "args": [{"property": "no"}, 1]}}, {"token": "next:nothing"},
     {"bbox": [1, 2]}, {"intersects": {"type": "Blob"}}, [1]],
)  # fmt: skip
async def test_bad_searches_are_problems(emulator: Emulator, body: Any) -> None:
    answer = await emulator.api("POST", f"{BASE}/search", json=body)
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")


async def test_get_search_says_the_same_as_post(start: Start) -> None:
    storage = _many()
    emulator = await start(storage)
    item = next(iter(storage.items.values()))
    asset_id = storage.asset_of_item(item).id
    for query in ({"ids": item.id}, {"filter": f"asset_id = '{asset_id}'"},
                  {"filter": json.dumps(_equal("id", item.id))},
                  {"collections": item.collection_id, "sortby": "-datetime"}):  # fmt: skip
        answer = await emulator.get(f"{BASE}/search", **query)
        assert [feature["id"] for feature in answer["features"]] == [item.id], query
    rows = await _all(emulator, f"{BASE}/search?limit=6&sortby=%2Bdatetime", "features")
    assert len(rows) == 25
    bad = await emulator.api("GET", f"{BASE}/search", params={"filter": "= ="})
    assert bad.status_code == 400


# -- writes


async def test_patching_an_item_changes_the_asset(emulator: Emulator) -> None:
    path = f"{BASE}/collections/{COLLECTION}/items/{ITEM}"
    body = {"up42-user:title": "Patched", "up42-user:tags": ["x/y"]}
    patched = (await emulator.api("PATCH", path, json=body)).json()
    assert patched == await emulator.get(path)
    assert patched["properties"]["up42-user:title"] == "Patched"
    asset = await emulator.get(f"/v2/assets/{BIG}/metadata")
    assert (asset["title"], asset["tags"]) == ("Patched", ["x/y"])
    refused = await emulator.api("PATCH", path, json={"up42-user:tags": ["?"]})
    assert refused.status_code == 400


async def test_deleting_a_collection_takes_items_files_and_asset_with_it(
    emulator: Emulator,
) -> None:
    url = await emulator.sign(FILE)
    assert (await emulator.api("DELETE", f"{BASE}/collections/{COLLECTION}")).status_code == 204
    for method, path in (("GET", f"{BASE}/collections/{COLLECTION}"),
                         ("DELETE", f"{BASE}/collections/{COLLECTION}"),
                         ("GET", f"/v2/assets/{BIG}/metadata"),
                         ("POST", f"/v2/assets/{FILE}/download-url")):  # fmt: skip
        assert (await emulator.api(method, path)).status_code == 404
    assert (await emulator.client.get(url)).status_code == 404
    assert (await _search(emulator))["features"] == []

"""Switches for what other installations of the API do: each changes what it says, and no more."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import pytest
from emulator_support import FORM, TOKEN_PATH, Emulator, Start, small_storage

from up42fs.emulator import SyntheticSize
from up42fs.emulator.storage import EmulatedAccount
from up42fs.emulator.synthetic import synthetic_storage

STAC = "/v2/assets/stac"


def many() -> Any:
    return synthetic_storage(
        EmulatedAccount("demo@up42fs.example", "demo"), SyntheticSize(50, 4, 2)
    )


async def search(emulator: Emulator, **body: Any) -> list[dict[str, Any]]:
    answer = await emulator.api("POST", f"{STAC}/search", json={"limit": 100, **body})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["features"])


def equals(name: str, value: str) -> dict[str, Any]:
    return {"op": "=", "args": [{"property": name}, value]}


@pytest.mark.parametrize("switch", ["yes", "mixed"])
async def test_items_without_an_order_are_not_found_by_it(start: Start, switch: str) -> None:
    emulator = await start(many())
    before = {row["id"]: row for row in await search(emulator)}
    order_id = next(row["properties"]["up42-order:id"] for row in before.values())
    by_order = {row["id"] for row in await search(emulator, filter=equals("order_id", order_id))}
    await emulator.faults(items_without_order=switch)
    after = {row["id"]: row for row in await search(emulator)}
    assert after.keys() == before.keys()
    bare = {id_ for id_, row in after.items() if "up42-order:id" not in row["properties"]}
    assert bare == set(after) if switch == "yes" else 5 < len(bare) < 45
    found = {row["id"] for row in await search(emulator, filter=equals("order_id", order_id))}
    assert found == by_order - bare


@pytest.mark.parametrize("status", [400, 501])
async def test_in_is_refused_wherever_it_stands(emulator: Emulator, status: int) -> None:
    await emulator.faults(in_refused=status)
    among = {"op": "in", "args": [{"property": "asset_id"}, ["a"]]}
    for wanted in (among, {"op": "and", "args": [among, among]}):
        answer = await emulator.api("POST", f"{STAC}/search", json={"filter": wanted})
        assert answer.status_code == status
    assert await search(emulator, filter={"op": "or", "args": [equals("asset_id", "a")] * 2}) == []


async def test_basic_cql2_alone_is_accepted_as_advertised(start: Start) -> None:
    emulator = await start(many())
    landing = await emulator.get(f"{STAC}/")
    assert not any("advanced" in text for text in landing["conformsTo"])
    await emulator.faults(advanced_refused=501)
    name = {"property": "collection_name"}
    for wanted in (
        {"op": "in", "args": [name, ["phr"]]},
        {"op": "not", "args": [{"op": "like", "args": [name, "p%"]}]},
        {"op": "between", "args": [{"property": "gsd"}, 0, 1]},
    ):
        answer = await emulator.api("POST", f"{STAC}/search", json={"filter": wanted})
        assert answer.status_code == 501
    basic = {"op": "not", "args": [{"op": "isNull", "args": [name]}]}
    assert len(await search(emulator, filter=basic)) == 50
    await emulator.faults(null_refused=400)
    answer = await emulator.api("POST", f"{STAC}/search", json={"filter": basic})
    assert answer.status_code == 400


@pytest.mark.parametrize("switch", ["yes", "mixed"])
async def test_orders_may_have_neither_dates_nor_details(start: Start, switch: str) -> None:
    account = EmulatedAccount("demo@up42fs.example", "demo")
    emulator = await start(synthetic_storage(account, SyntheticSize(1, 40, 0)))
    await emulator.faults(bare_orders=switch)
    rows = (await emulator.get("/v2/orders", size=100))["content"]
    bare = [row for row in rows if "createdAt" not in row]
    assert len(bare) == len(rows) if switch == "yes" else 0 < len(bare) < len(rows)
    assert all("updatedAt" not in row and "orderDetails" not in row for row in bare)
    one = await emulator.get(f"/v2/orders/{bare[0]['id']}")
    assert one == bare[0]


@pytest.mark.parametrize("switch", ["yes", "mixed"])
async def test_two_files_may_have_one_id(start: Start, switch: str) -> None:
    emulator = await start(many())
    await emulator.faults(files_twice=switch)
    twice = 0
    rows = await search(emulator)
    for row in rows:
        hrefs = [file["href"] for file in row["assets"].values()]
        twice += len(hrefs) > len(set(hrefs))
    assert twice == len(rows) if switch == "yes" else 5 < twice < 45


async def test_coverage_comes_in_both_shapes_or_not_at_all(start: Start) -> None:
    storage = small_storage()
    (order,) = storage.orders.values()
    area = {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]]}
    order.type, order.status, order.details = "TASKING", "BEING_FULFILLED", {"geometry": area}
    emulator = await start(storage)
    path = f"/v2/coverage/orders/{order.id}"
    said = await emulator.get(path)
    assert [said[part]["percentage"] for part in ("covered", "remainder")] == [50, 50]
    features = said["covered"]["geometry"]["features"]
    assert features[0]["geometry"]["coordinates"][0][2] == [2, 4], "the western half"
    await emulator.faults(coverage_shape="geometry")
    assert (await emulator.get(path))["remainder"]["geometry"]["type"] == "MultiPolygon"
    await emulator.faults(coverage_shape="404")
    assert (await emulator.api("GET", path)).status_code == 404
    order.type = "ARCHIVE"
    await emulator.faults(coverage_shape="features")
    assert (await emulator.api("GET", path)).status_code == 404


async def test_results_may_name_no_asset(start: Start) -> None:
    storage = small_storage()
    (item,) = storage.items.values()
    storage.asset_of_item(item).job_id = "job 1"
    emulator = await start(storage)
    (row,) = await search(emulator, filter=equals("job_id", "job 1"))
    assert row["properties"]["up42-system:job_id"] == "job 1"
    assert "up42-system:asset_id" in row["properties"]
    await emulator.faults(result_asset="none")
    (row,) = await search(emulator, filter=equals("job_id", "job 1"))
    assert "up42-system:asset_id" not in row["properties"]


@pytest.mark.parametrize(
    ("accept", "search_status", "list_status"),
    [
        ("application/json", 406, 200),
        ("application/geo+json, application/json", 200, 200),
        ("application/geo+json", 200, 406),
        ("*/*;q=0.1", 200, 200),
    ],
)
async def test_strict_accept(
    emulator: Emulator, accept: str, search_status: int, list_status: int
) -> None:
    await emulator.faults(strict_accept=True)
    headers = {"Accept": accept}
    answer = await emulator.api("POST", f"{STAC}/search", json={}, headers=headers)
    assert answer.status_code == search_status
    for path in (f"{STAC}/collections", "/v2/assets"):
        assert (await emulator.api("GET", path, headers=headers)).status_code == list_status


async def test_odd_rows_and_totals(start: Start) -> None:
    emulator = await start(many(), rows_without_id=2, rows_twice=3, total_off=-1)
    rows: list[dict[str, Any]] = []
    for page in range(4):
        answer = await emulator.get("/v2/assets", page=page, size=20)
        assert (answer["totalElements"], answer["totalPages"]) == (54, 3)
        rows += answer["content"]
    assert len(rows) == 55
    ids = [row["id"] for row in rows if "id" in row]
    assert len(ids) == 53
    assert len(set(ids)) == 50


async def test_a_scope_may_be_refused(emulator: Emulator) -> None:
    await emulator.faults(scope_refused=True)
    url = emulator.urls.auth_url + TOKEN_PATH
    refused = await emulator.client.post(url, data={**FORM, "scope": "openid"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    assert (await emulator.client.post(url, data=FORM)).status_code == 200


async def test_a_gateway_with_a_prefix_whose_bodies_name_the_public_host(start: Start) -> None:
    emulator = await start(api_prefix="/up42", public_url="https://api.up42.com")
    assert (await emulator.api("GET", "/v2/assets")).status_code == 404
    answer = await emulator.get(f"/up42{STAC}/collections", limit=1)
    (collection,) = answer["collections"]
    for link in answer["links"] + collection["links"]:
        assert link["href"].startswith("https://api.up42.com/v2/assets/stac")
    answer = await emulator.get(f"/up42{STAC}/collections/{collection['id']}/items")
    (item,) = answer["features"]
    (file,) = item["assets"].values()
    assert file["href"].startswith("https://api.up42.com/v2/assets/")
    path = file["href"].removeprefix("https://api.up42.com")
    signed = await emulator.api("POST", f"/up42{path}/download-url")
    assert signed.status_code == 200


@pytest.mark.parametrize("style", ["absolute", "path", "relative", "query"])
async def test_next_links_resolve_against_the_request(start: Start, style: str) -> None:
    emulator = await start(many(), next_link=style)
    for path, key in ((f"{STAC}/collections", "collections"),):
        url, seen = f"{emulator.urls.api_url}{path}?limit=20", []
        while url:
            headers = {"Authorization": f"Bearer {emulator.token}"}
            answer = (await emulator.client.get(url, headers=headers)).json()
            seen += [row["id"] for row in answer[key]]
            href = next((li["href"] for li in answer["links"] if li["rel"] == "next"), None)
            assert href is None or href.startswith(
                {"absolute": "http", "path": "/v2", "relative": "coll", "query": "?"}[style]
            )
            url = urljoin(url, href) if href else ""
        assert len(seen) == len(set(seen)) == 50
    first = (await emulator.api("POST", f"{STAC}/search", json={"limit": 20})).json()
    link = next(link for link in first["links"] if link["rel"] == "next")
    url = urljoin(f"{emulator.urls.api_url}{STAC}/search", link["href"])
    assert url == f"{emulator.urls.api_url}{STAC}/search"


async def test_hrefs_elsewhere_can_be_signed(emulator: Emulator) -> None:
    await emulator.faults(odd_hrefs="yes")
    ((file,),) = [row["assets"].values() for row in await search(emulator)]
    path = file["href"].removeprefix(emulator.urls.api_url)
    assert path.startswith("/v2/files/")
    assert (await emulator.api("POST", f"{path}/download-url")).status_code == 200


@pytest.mark.parametrize(
    ("switch", "after"),
    [("kept", ("New", ["alpha", "beta"])), ("cleared", ("New", [])), ("refused", None)],
)
async def test_an_edit_of_the_title_alone(emulator: Emulator, switch: str, after: Any) -> None:
    await emulator.faults(half_edit=switch)
    asset = next(a for a in (await emulator.get("/v2/assets"))["content"] if a["title"])
    (item,) = await search(emulator)
    path = f"/v2/assets/{asset['id']}/metadata"
    item_path = f"{STAC}/collections/{item['collection']}/items/{item['id']}"
    for method, url, prefix in (("POST", path, ""), ("PATCH", item_path, "up42-user:")):
        await emulator.op("set_metadata", id=asset["id"], title="Old", tags=["alpha", "beta"])
        answer = await emulator.api(method, url, json={f"{prefix}title": "New"})
        assert answer.status_code == (200 if after else 400)
        now = await emulator.get(path)
        assert (now["title"], now["tags"]) == (after or ("Old", ["alpha", "beta"]))
        whole = {f"{prefix}title": "Both", f"{prefix}tags": ["c"]}
        assert (await emulator.api(method, url, json=whole)).status_code == 200


async def test_files_without_names(start: Start) -> None:
    emulator = await start(assets_without_names=True, content_type_says="application/gzip")
    rows = (await emulator.get("/v2/assets"))["content"]
    assert all("name" not in row and row["contentType"] == "application/gzip" for row in rows)
    assert "filename" in await emulator.sign(rows[0]["id"])
    await emulator.faults(links_without_names=True)
    link = await emulator.sign(rows[0]["id"])
    assert "disposition" not in link
    assert (await emulator.client.get(link)).status_code == 200


async def test_collections_with_assets_of_their_own(start: Start) -> None:
    emulator = await start(small_storage(), collection_assets=True)
    (collection,) = (await emulator.get(f"{STAC}/collections"))["collections"]
    files = collection["assets"]
    assert files["big.zip"]["title"] == "Original Delivery"
    assert files["thumbnail.png"]["roles"] == ["thumbnail"]
    for file in files.values():
        answer = await emulator.fetch(file["href"].rpartition("/")[2])
        assert answer.status_code == 200
        assert answer.content.startswith(b"\x89PNG") or file is files["big.zip"]


async def test_a_collection_is_given_files_of_its_own(emulator: Emulator) -> None:
    asset_id = (await emulator.get("/v2/assets"))["content"][-1]["id"]
    own = [{"key": "quicklook.jpg", "media_type": "image/jpeg", "content_base64": "aGVsbG8="}]
    await emulator.op("put_items", asset_id=asset_id, items=[], collection_files=own)
    rows = (await emulator.get(f"{STAC}/collections"))["collections"]
    (file,) = [row["assets"]["quicklook.jpg"] for row in rows if "quicklook.jpg" in row["assets"]]
    assert (await emulator.fetch(file["href"].rpartition("/")[2])).content == b"hello"

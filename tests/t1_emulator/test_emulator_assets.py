"""`/v2/assets` and `/v2/orders`: parameters, envelope, writes, links."""

from __future__ import annotations

from typing import Any

import pytest
from emulator_support import ACCOUNT, BIG, BIG_BYTES, EMPTY, FILE, NOTE, NOTE_BYTES, Emulator, Start

from up42fs.emulator import SyntheticSize
from up42fs.emulator.storage import stable_id
from up42fs.emulator.synthetic import synthetic_storage

ORDER = stable_id("order")


def _ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["content"]]


async def test_the_list_is_newest_first_in_springs_envelope(emulator: Emulator) -> None:
    answer = await emulator.get("/v2/assets")
    assert _ids(answer) == [EMPTY, NOTE, BIG]
    assert (answer["totalElements"], answer["totalPages"], answer["size"]) == (3, 1, 20)
    assert answer["pageable"]["offset"] == 0
    big = answer["content"][2]
    assert big["size"] == BIG_BYTES
    assert big["createdAt"] == "2024-03-01T10:00:00.123456Z"
    assert answer["content"][1]["createdAt"] == "2024-03-01T10:00:01.123Z"


async def test_pages_beyond_the_end_and_odd_sizes(emulator: Emulator) -> None:
    page = await emulator.get("/v2/assets", page=1, size=2)
    assert (_ids(page), page["last"], page["first"]) == ([BIG], True, False)
    beyond = await emulator.get("/v2/assets", page=9, size=2)
    assert (beyond["content"], beyond["totalPages"], beyond["empty"]) == ([], 2, True)
    odd = await emulator.get("/v2/assets", page=-1, size=0)
    assert (odd["number"], odd["size"]) == (0, 20)
    nothing = await emulator.get("/v2/assets", search="no such thing")
    assert (nothing["content"], nothing["totalPages"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"search": "BIG"}, [BIG]),
        ({"search": ORDER[:13]}, [BIG]),
        ({"search": "note.t"}, [NOTE]),
        ({"tags": ["beta", "gamma"]}, [BIG]),
        ({"tags": "gamma,alpha"}, [BIG]),
        ({"sources": "USER"}, [NOTE]),
        ({"collectionNames": "phr"}, [BIG]),
        ({"producerNames": "airbus"}, [BIG]),
        ({"geospatialMetadataExtractionStatus": "SUCCESSFUL"}, [BIG]),
        ({"createdAfter": "2024-03-01T10:00:01Z"}, [EMPTY, NOTE]),
        ({"createdBefore": "2024-03-01T10:00:01Z"}, [BIG]),
        ({"workspaceId": ACCOUNT.workspace_id}, [EMPTY, NOTE, BIG]),
        ({"workspaceId": ACCOUNT.other_workspace_id}, []),
        ({"sort": "size,desc"}, [BIG, NOTE, EMPTY]),
        ({"sort": "title"}, [BIG, NOTE, EMPTY]),
        ({"sort": ["source,asc", "createdAt,asc"]}, [BIG, EMPTY, NOTE]),
        ({"unknown": "ignored"}, [EMPTY, NOTE, BIG]),
    ],
)
async def test_each_parameter(
    emulator: Emulator, query: dict[str, Any], expected: list[str]
) -> None:
    assert _ids(await emulator.get("/v2/assets", **query)) == expected


@pytest.mark.parametrize(
    "query",
    [{"workspaceId": "a"}, {"createdAfter": "soon"}, {"sort": "colour,asc"}, {"sort": "name,up"}],
)
async def test_bad_values_are_problems(emulator: Emulator, query: dict[str, str]) -> None:
    answer = await emulator.api("GET", "/v2/assets", params=query)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"title", "status", "detail", "type"} == set(answer.json())


async def test_page_size_switches(start: Start) -> None:
    emulator = await start(max_page_size=2)
    assert (await emulator.get("/v2/assets", size=100))["size"] == 2
    await emulator.faults(page_size_error_above=50)
    assert (await emulator.api("GET", "/v2/assets", params={"size": 51})).status_code == 400
    assert (await emulator.get("/v2/assets", size=50))["size"] == 2


async def test_metadata_reads_and_writes(emulator: Emulator) -> None:
    path = f"/v2/assets/{BIG}/metadata"
    before = await emulator.get(path)
    after = (await emulator.api("POST", path, json={"title": "New"})).json()
    assert (after["title"], after["tags"]) == ("New", ["alpha", "beta"])
    assert after["updatedAt"] > before["updatedAt"] >= before["createdAt"]
    cleared = (await emulator.api("POST", path, json={"title": None, "tags": []})).json()
    assert (cleared["title"], cleared["tags"]) == (None, [])
    tags = ["berlin/2024 spring", "Überwachung", "a.b-c_d:e"]
    assert (await emulator.api("POST", path, json={"tags": tags})).json()["tags"] == tags
    # The newest change leads a list by updatedAt, also after lists were remembered.
    assert _ids(await emulator.get("/v2/assets", sort="updatedAt,desc"))[0] == BIG
    await emulator.api("POST", f"/v2/assets/{NOTE}/metadata", json={"title": "x"})
    assert _ids(await emulator.get("/v2/assets", sort="updatedAt,desc"))[:2] == [NOTE, BIG]


@pytest.mark.parametrize(
    "body", [{"tags": ["semi;colon"]}, {"tags": "a"}, {"tags": [1]}, {"title": 5}, [1]]
)
async def test_bad_metadata_is_refused(emulator: Emulator, body: Any) -> None:
    answer = await emulator.api("POST", f"/v2/assets/{BIG}/metadata", json=body)
    assert answer.status_code == 400
    assert (await emulator.get(f"/v2/assets/{BIG}/metadata"))["tags"] == ["alpha", "beta"]


async def test_malformed_json_and_unknown_ids(emulator: Emulator) -> None:
    path = f"/v2/assets/{BIG}/metadata"
    assert (await emulator.api("POST", path, content=b"{")).status_code == 400
    unknown = stable_id("nothing")
    for method, tail in (("GET", "/metadata"), ("POST", "/metadata"), ("POST", "/download-url"),
                         ("GET", "")):  # fmt: skip
        answer = await emulator.api(method, f"/v2/assets/{unknown}{tail}")
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")
    assert (await emulator.api("GET", "/v2/nothing")).status_code == 404
    assert (await emulator.api("DELETE", f"/v2/assets/{BIG}")).status_code == 404


async def test_stac_assets_have_metadata_only_by_switch(emulator: Emulator) -> None:
    path = f"/v2/assets/{FILE}/metadata"
    assert (await emulator.api("GET", path)).status_code == 404
    await emulator.faults(stac_asset_metadata=True)
    assert (await emulator.get(path))["size"] == 100_000


async def test_direct_download_three_ways(emulator: Emulator) -> None:
    path = f"/v2/assets/{NOTE}"
    streamed = await emulator.api("GET", path)
    assert (streamed.status_code, streamed.content) == (200, NOTE_BYTES)
    assert streamed.headers["content-disposition"] == 'attachment; filename="note.txt"'
    await emulator.faults(asset_get="redirect")
    redirected = await emulator.api("GET", path)
    assert redirected.status_code == 302
    signed = await emulator.client.get(redirected.headers["location"])
    assert signed.content == NOTE_BYTES
    await emulator.faults(asset_get="404")
    assert (await emulator.api("GET", path)).status_code == 404


@pytest.mark.parametrize("status", [404, 410])
async def test_assets_gone_leaves_links_and_stac(start: Start, status: int) -> None:
    emulator = await start(assets_gone=status)
    for method, path in (("GET", "/v2/assets"), ("GET", f"/v2/assets/{BIG}/metadata"),
                         ("POST", f"/v2/assets/{BIG}/metadata")):  # fmt: skip
        assert (await emulator.api(method, path)).status_code == status
    items = await emulator.get("/v2/assets/stac/search")
    href = items["features"][0]["assets"]["b01.tiff"]["href"]
    answer = await emulator.api("POST", href.removeprefix(emulator.urls.api_url) + "/download-url")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("shape", "keys"),
    [("problem", {"type", "title", "status", "detail"}), ("basic", {"code", "message", "details"}),
     ("v1", {"data", "error"})],
)  # fmt: skip
async def test_error_shapes(start: Start, shape: str, keys: set[str]) -> None:
    emulator = await start(error_shape=shape)
    answer = await emulator.api("GET", "/v2/orders/nothing")
    assert (answer.status_code, set(answer.json())) == (404, keys)


# -- orders


async def test_orders_list_and_one(emulator: Emulator) -> None:
    answer = await emulator.get("/v2/orders")
    (row,) = answer["content"]
    assert row == await emulator.get(f"/v2/orders/{ORDER}")
    assert row["displayName"] == "One/Order"
    assert "assets" not in row
    assert "orderDetails" not in row
    await emulator.faults(order_assets=True)
    assert (await emulator.get(f"/v2/orders/{ORDER}"))["assets"] == [BIG]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"status": "FULFILLED"}, 1),
        ({"status": ["PLACED", "FULFILLED"]}, 1),
        ({"status": "PLACED"}, 0),
        ({"displayName": "one/"}, 1),
        ({"type": "TASKING"}, 0),
        ({"orderIds": f"{stable_id('other')},{ORDER}"}, 1),
        ({"tags": "x"}, 0),
        ({"budgetIds": "x"}, 0),
        ({"workspaceId": ACCOUNT.other_workspace_id}, 0),
    ],
)
async def test_order_parameters(emulator: Emulator, query: dict[str, Any], count: int) -> None:
    assert (await emulator.get("/v2/orders", **query))["totalElements"] == count


async def test_order_writes(emulator: Emulator) -> None:
    path = f"/v2/orders/{ORDER}"
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = await emulator.api("PATCH", path, content=b'{"tags":["t"]}', headers=headers)
    assert answer.json()["tags"] == ["t"]
    assert (await emulator.api("POST", f"{path}/cancellation")).status_code == 409
    await emulator.op("progress_order", id=ORDER, status="CREATED")
    canceled = await emulator.api("POST", f"{path}/cancellation")
    assert canceled.json() == {"orderId": ORDER, "status": "CANCELED"}
    assert (await emulator.get(path))["status"] == "CANCELED"


async def test_every_asset_of_a_large_storage_is_listed_once(start: Start) -> None:
    storage = synthetic_storage(ACCOUNT, SyntheticSize(730, 40, 10))
    emulator = await start(storage)
    for sort in ("createdAt,asc", "updatedAt,desc", "source,asc"):
        seen: list[str] = []
        for page in range(8):
            seen += _ids(await emulator.get("/v2/assets", page=page, size=100, sort=sort))
        assert sorted(seen) == sorted(storage.assets)
    tagged = await emulator.get("/v2/assets", tags="tag 0003")
    assert 0 < tagged["totalElements"] < 730

import json
import logging
import ssl
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import trio
from api_helpers import API, DATE_S, ID, PASSWORD, Bench, recorded, reply, script
from trio.testing import MockClock

from up42fs.api.client import STAC_TYPES, Client
from up42fs.api.links import NextLink
from up42fs.api.network import make_http
from up42fs.api.transport import Limits
from up42fs.errors import (
    AccessDenied,
    ConfigurationError,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidArgument,
    NotFound,
    Offline,
    Unavailable,
    Up42fsError,
    VersionChanged,
)
from up42fs.net.pacing import Rate

ASSET = {"id": ID, "name": "a.zip", "size": 300}
STAC = "/v2/assets/stac"


def page(*rows: Any, **fields: Any) -> dict[str, Any]:
    return {"content": list(rows), "totalPages": 1, "totalElements": len(rows)} | fields


# Requests as the contract has them


async def test_a_listing_asks_for_one_page_of_one_workspace() -> None:
    bench = Bench(script((page(ASSET), 200)), workspace="w 1")
    found = await bench.client.assets_page(
        3, size=50, search="a&b", created_before=datetime(2024, 1, 2, tzinfo=UTC)
    )
    assert [asset.id for asset in found.items] == [ID]
    (request,) = bench.service.requests
    assert request.url.path == "/v2/assets"
    assert dict(request.url.params) == {
        "page": "3",
        "size": "50",
        "sort": "createdAt,asc",
        "workspaceId": "w 1",
        "search": "a&b",
        "createdBefore": "2024-01-02T00:00:00Z",
    }
    assert request.headers["authorization"] == "Bearer token1"
    assert request.headers["accept"] == "application/json"


async def test_orders_are_filtered_by_repeated_keys() -> None:
    bench = Bench(script((page({"id": "o"}), 200)))
    await bench.client.orders_page(0, size=20, status=["PLACED", "BEING_FULFILLED"])
    (request,) = bench.service.requests
    assert request.url.path == "/v2/orders"
    assert request.url.params.get_list("status") == ["PLACED", "BEING_FULFILLED"]
    assert "workspaceId" not in request.url.params


async def test_recorded_pages_parse() -> None:
    bench = Bench(script((recorded("up42-py_assets_page_2023.json"), 200)))
    found = await bench.client.assets_page(0, size=10)
    assert (found.number, found.total_pages, found.total, found.size) == (0, 1, 1, 10)
    assert [asset.id for asset in found.items] == [ID]
    bench = Bench(script((recorded("up42-py_orders_page_v1_2023.json"), 200)))
    orders = await bench.client.orders_page(0, size=10)
    assert [order.status for order in orders.items] == ["FULFILLED"]


async def test_one_asset_and_one_order_and_their_documents() -> None:
    bench = Bench(script((ASSET, 200)))
    assert (await bench.client.asset(ID)).size == 300
    assert await bench.client.asset_document(ID) == ASSET
    assert (await bench.client.asset(ID.upper())).id == ID
    assert bench.service.paths[0] == f"/v2/assets/{ID}/metadata"
    bench = Bench(script((recorded("up42-py_order_v1_2023.json"), 200)))
    order = await bench.client.order("adb2ab75-b504-4475-9b33-1f67517e3145")
    assert order.status == "FULFILLED"
    assert bench.service.paths == [f"/v2/orders/{order.id}"]
    assert (await bench.client.order_document(order.id))["dataProvider"] == "OneAtlas"


async def test_another_assets_metadata_does_not_pass_for_the_one_asked() -> None:
    bench = Bench(script(({"id": "another", "size": 1}, 200)))
    with pytest.raises(InvalidAnswer, match=ID):
        await bench.client.asset(ID)


async def test_ids_are_quoted_and_impossible_ones_refused_without_a_request() -> None:
    bench = Bench(script(({"id": "a/b ?"}, 200)))
    await bench.client.asset("a/b ?")
    assert bench.service.requests[0].url.raw_path == b"/v2/assets/a%2Fb%20%3F/metadata"
    with pytest.raises(InvalidArgument):
        await bench.client.asset("..")
    assert len(bench.service.requests) == 1


async def test_signing_is_a_bare_post_whose_link_lives_by_the_servers_clock() -> None:
    url = recorded("up42-py_download_url_examples_2023.json")["archive_asset"]["url"]
    url = url.replace("Expires=1691664318", f"Expires={DATE_S + 290}")
    bench = Bench(script(({"url": url}, 200)))
    link = await bench.client.sign(ID)
    assert link.url == url
    assert link.lifetime_s == 290
    (request,) = bench.service.requests
    assert (request.method, request.url.path) == ("POST", f"/v2/assets/{ID}/download-url")
    assert request.content == b""
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "document",
    [{}, {"url": None}, {"url": "http://storage.example/o?Signature=s3cret"}, {"url": 3}],
)
async def test_a_link_that_would_leak_is_not_used(document: Any) -> None:
    bench = Bench(script((document, 200)))
    with pytest.raises(InvalidAnswer, match=ID) as caught:
        await bench.client.sign(ID)
    assert "s3cret" not in str(caught.value)


async def test_signing_is_retried_although_it_is_a_post(autojump_clock: MockClock) -> None:
    link = {"url": "https://storage.example/o"}
    bench = Bench(script(({}, 503), httpx.ReadError("reset"), (link, 200)))
    await bench.client.sign(ID)
    assert bench.metrics["api.requests"] == 3
    assert bench.metrics["api.retries"] == 2


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"title": "New", "tags": ("a", "b")}, {"title": "New", "tags": ["a", "b"]}),
        ({"title": None, "tags": ()}, {"title": None, "tags": []}),
    ],
)
async def test_an_update_sends_title_and_tags(
    changes: dict[str, Any], body: dict[str, Any]
) -> None:
    bench = Bench(script((ASSET | {"title": "New"}, 200)))
    found = await bench.client.update_asset(ID, **changes)
    assert found.title == "New"
    (request,) = bench.service.requests
    assert (request.method, request.url.path) == ("POST", f"/v2/assets/{ID}/metadata")
    assert json.loads(request.content) == body


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ([{"name": "no id"}, None, 3], "3 rows without a usable ID were left out"),
        ([None], "1 row without a usable ID was left out"),
    ],
)
async def test_rows_without_an_id_are_counted_and_told_once(
    bad: list[Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = page(ASSET, *bad)
    bench = Bench(script((rows, 200)))
    with caplog.at_level(logging.WARNING, "up42fs"):
        found = await bench.client.assets_page(0, size=20)
        await bench.client.assets_page(0, size=20)
    assert (len(found.items), found.rows) == (1, 1 + len(bad))
    assert bench.metrics["api.rows_skipped"] == 2 * len(bad)
    assert [record.getMessage() for record in caplog.records] == [f"listing assets: {told}"]


@pytest.mark.parametrize(
    ("envelope", "total_pages", "total", "size"),
    [
        ({"totalPages": 7, "totalElements": 61, "size": 10}, 7, 61, 10),
        ({"totalElements": 61, "size": 10}, 7, 61, 10),
        ({"totalPages": 0, "totalElements": 61}, 31, 61, None),
        ({"last": True}, 4, None, None),
        ({"last": False}, 5, None, None),
        ({}, 5, None, None),
        ({"totalPages": None, "totalElements": "many", "size": 0}, 5, None, None),
        ({"totalPages": True, "totalElements": -1, "size": -3}, 5, None, None),
    ],
)
async def test_an_envelope_needs_only_its_content(
    envelope: dict[str, Any], total_pages: int, total: int | None, size: int | None
) -> None:
    bench = Bench(script(({"content": [ASSET, {"id": "b"}], **envelope}, 200)))
    found = await bench.client.assets_page(3, size=2)
    assert (found.total_pages, found.total, found.size) == (total_pages, total, size)


@pytest.mark.parametrize("envelope", [{"totalPages": 0, "totalElements": 0}, {}, {"last": False}])
async def test_an_empty_listing_has_no_pages(envelope: dict[str, Any]) -> None:
    bench = Bench(script(({"content": [], **envelope}, 200)))
    found = await bench.client.assets_page(0, size=20)
    assert (found.items, found.total_pages) == ((), 0)


@pytest.mark.parametrize("document", [{}, {"content": None}, {"content": {"id": "x"}}])
async def test_an_answer_without_a_page_is_an_error(document: Any) -> None:
    with pytest.raises(InvalidAnswer):
        await Bench(script((document, 200))).client.assets_page(0, size=20)


# What goes wrong


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (400, InvalidArgument, 1),
        (403, AccessDenied, 1),
        (404, NotFound, 1),
        (409, VersionChanged, 1),
        (410, NotFound, 1),
        (302, InvalidAnswer, 4),
        (401, AccessDenied, 2),
    ],
)
async def test_errors_name_the_operation_and_say_what_up42_said(
    status: int, error: type[Up42fsError], requests: int
) -> None:
    body = {"title": "Sorry", "status": status, "detail": "because of reasons"}
    bench = Bench(script((body, status)))
    with pytest.raises(error) as caught:
        await bench.client.sign(ID)
    assert type(caught.value) is error
    words = str(caught.value)
    assert words.startswith(f"signing a link for asset {ID} failed: UP42 (api.up42.com) answered")
    assert f"{status} " in words
    assert "Sorry: because of reasons; " in words
    assert len(bench.service.requests) == requests


async def test_a_stale_token_is_replaced_once() -> None:
    bench = Bench(script(({}, 401), (ASSET, 200)))
    await bench.client.asset(ID)
    assert bench.service.bearers == ["Bearer token1", "Bearer token2"]
    assert bench.metrics["api.renewals"] == 1
    assert bench.metrics["api.retries"] == 0


async def test_many_callers_with_one_stale_token_cause_one_renewal(
    autojump_clock: MockClock,
) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await trio.sleep(1)
        return reply(ASSET, 401 if request.headers["authorization"] == "Bearer token1" else 200)

    bench = Bench(answer)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(bench.client.asset, ID)
    assert len(bench.service.sign_ins) == 2
    assert len(bench.service.requests) == 20


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (httpx.ConnectError("no route"), Offline, "HTTPS_PROXY"),
        (httpx.ConnectTimeout("slow"), Offline, "network"),
        (httpx.ProxyError("407"), Offline, "HTTPS_PROXY"),
        (httpx.ReadTimeout("slow"), DeadlineExceeded, "slow"),
        (httpx.ReadError("reset"), Unavailable, "broke the connection"),
        (httpx.RemoteProtocolError("incomplete"), Unavailable, "broke the connection"),
        (httpx.DecodingError("bad gzip"), InvalidAnswer, "cannot be right"),
    ],
)
async def test_a_network_that_stays_broken(
    autojump_clock: MockClock, failure: Exception, error: type[Up42fsError], words: str
) -> None:
    bench = Bench(script(failure))
    with pytest.raises(error, match=words) as caught:
        await bench.client.asset(ID)
    assert type(caught.value) is error
    assert trio.current_time() < 31
    assert bench.metrics["api.requests"] == 1 + bench.metrics["api.retries"] > 1


async def test_a_failed_handshake_says_what_to_check(autojump_clock: MockClock) -> None:
    failure = httpx.ConnectError("handshake")
    failure.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    with pytest.raises(Unavailable, match="SSL_CERT_FILE"):
        await Bench(script(failure)).client.asset(ID)


async def test_a_page_of_html_is_asked_for_again_then_an_error(autojump_clock: MockClock) -> None:
    html = httpx.Response(200, html="<h1>Sign in to this hotel</h1>")
    assert (await Bench(script(html, (ASSET, 200))).client.asset(ID)).id == ID
    with pytest.raises(InvalidAnswer, match="proxy or a sign-in page"):
        await Bench(script(html)).client.asset(ID)


@pytest.mark.parametrize("document", [[ASSET], "text", 3, None])
async def test_json_that_is_no_object_is_an_invalid_answer(
    autojump_clock: MockClock, document: Any
) -> None:
    with pytest.raises(InvalidAnswer):
        await Bench(script((document, 200))).client.asset(ID)


@pytest.mark.parametrize(
    ("code", "error"), [(404, NotFound), ("FORBIDDEN", AccessDenied), ("ODD", InvalidAnswer)]
)
async def test_an_error_inside_a_200_is_an_error(code: Any, error: type[Up42fsError]) -> None:
    document = {"data": None, "error": {"code": code, "message": "hidden words"}}
    with pytest.raises(error, match="hidden words"):
        await Bench(script((document, 200))).client.asset(ID)


async def test_who_waits_for_a_token_hears_what_went_wrong(autojump_clock: MockClock) -> None:
    """And not that it took long, though the ceiling strikes in the middle of an attempt."""

    async def break_off(request: httpx.Request) -> httpx.Response:
        await trio.sleep(3)
        raise httpx.RemoteProtocolError("peer closed connection")

    bench = Bench(lambda _: reply(ASSET))
    bench.service.on_sign_in = break_off
    errors: list[Up42fsError] = []

    async def ask() -> None:
        with pytest.raises(Unavailable, match="identity server") as caught:
            await bench.client.asset(ID)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert len(errors) == 3
    assert trio.current_time() <= 26
    assert len(bench.service.sign_ins) < 10  # not once more for each who waited


async def test_a_call_ends_at_its_ceiling(autojump_clock: MockClock) -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    bench = Bench(hang)
    with pytest.raises(DeadlineExceeded, match=f"asset {ID}.* 25 s"):
        await bench.client.asset(ID)
    assert trio.current_time() == pytest.approx(25)


async def test_the_callers_deadline_ends_retries_early(autojump_clock: MockClock) -> None:
    bench = Bench(script(({"title": "Overloaded"}, 503)))
    with trio.fail_after(1), pytest.raises(Unavailable, match="Overloaded"):
        await bench.client.asset(ID)
    assert trio.current_time() < 1


# Rate and concurrency


async def test_no_more_requests_at_once_than_allowed(autojump_clock: MockClock) -> None:
    running = peak = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await trio.sleep(1)
        running -= 1
        return reply(ASSET)

    bench = Bench(answer)
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(bench.client.asset, ID)
    assert peak == 16
    assert len(bench.service.requests) == 40


async def test_requests_are_spread_over_time(autojump_clock: MockClock) -> None:
    sent: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(trio.current_time())
        return reply(ASSET)

    bench = Bench(answer, limits=Limits(rate=Rate(10, 5)))
    async with trio.open_nursery() as nursery:
        for _ in range(25):
            nursery.start_soon(bench.client.asset, ID)
    assert sent[:5] == pytest.approx([sent[0]] * 5, abs=0.01)
    assert sent[-1] - sent[0] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("retry_after", ["10", "Tue, 14 Nov 2023 22:13:30 GMT"])
async def test_a_429_pauses_every_caller_of_the_host(
    autojump_clock: MockClock, retry_after: str
) -> None:
    sent: list[tuple[float, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((trio.current_time(), request.url.path))
        return reply({}, 429, retry_after=retry_after) if len(sent) == 1 else reply(ASSET)

    bench = Bench(answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.client.asset, ID)
        await trio.sleep(1)
        for _ in range(5):
            nursery.start_soon(bench.client.asset, ID)
    start_s = sent[0][0]
    assert [path for at_s, path in sent if at_s - start_s < 9.99] == [f"/v2/assets/{ID}/metadata"]
    assert len(sent) == 7
    assert bench.metrics["api.throttled"] == 1


async def test_who_has_no_time_for_the_pause_is_told_at_once(autojump_clock: MockClock) -> None:
    bench = Bench(script(reply({}, 429, retry_after="20"), (ASSET, 200)))
    with pytest.raises(Unavailable, match="429"), trio.fail_after(5):
        await bench.client.asset(ID)
    start_s = trio.current_time()
    with pytest.raises(Unavailable, match="20 s"), trio.fail_after(5):
        await bench.client.sign(ID)
    assert trio.current_time() == pytest.approx(start_s, abs=0.01)
    assert bench.metrics["api.requests"] == 1
    assert (await bench.client.asset(ID)).id == ID


async def test_bytes_and_requests_are_counted() -> None:
    bench = Bench(script((ASSET, 200)))
    await bench.client.asset(ID)
    assert bench.metrics["api.requests"] == bench.metrics["auth.requests"] == 1
    assert bench.metrics["api.bytes"] == len(json.dumps(ASSET))


# Secrets


async def test_no_secret_reaches_errors_logs_or_reprs(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    leaky = {"title": "Bad", "detail": "Bearer token1 at https://s.example/o?Signature=s3cret"}
    said: list[str] = []
    caplog.set_level(logging.DEBUG)
    for replies in ([(leaky, 400)], [(leaky, 503)], [httpx.ReadError("reset")]):
        bench = Bench(script(*replies))
        with pytest.raises(Up42fsError) as caught:
            await bench.client.sign(ID)
        error: BaseException | None = caught.value
        while error is not None:
            said += [str(error), repr(error)]
            error = error.__cause__
    said += [record.getMessage() for record in caplog.records] + [repr(bench.tokens._current)]
    for secret in ("token1", PASSWORD, "s3cret"):
        assert not [words for words in said if secret in words]
    assert said


# STAC


@pytest.mark.claim("S163")
@pytest.mark.claim("S167")
@pytest.mark.parametrize("gateway", ["https://proxy.example/up42", "http://127.0.0.1:9/"])
async def test_behind_a_gateway_everything_is_asked_there(gateway: str) -> None:
    """Also where its bodies name UP42 itself, in hrefs of files and of next pages."""
    public = f"{API}/v2/assets/stac"
    item = {
        "id": "i",
        "collection": "c",
        "properties": {"up42-system:asset_id": ID},
        "links": [{"rel": "self", "href": f"{public}/collections/c/items/i"}],
        "assets": {
            "a.tif": {"href": f"{API}/v2/assets/{ID}"},
            "b.tif": {"href": f"{API}/v2/catalog/quicklooks/{ID}/download-url"},
        },
    }
    collection = {"id": "c", "links": [], "assets": {}}

    def answer(request: httpx.Request) -> httpx.Response:
        path, later = request.url.path, b"token" in request.url.query + request.content
        if path.endswith("/download-url"):
            return reply({"url": "https://storage.googleapis.com/x?Expires=1"})
        more = {"rel": "next", "href": f"{public}/search", "body": {"token": "next:i"}}
        if path.endswith("/collections"):
            more = {"rel": "next", "href": f"{public}/collections?token=next:c"}
            return reply({"collections": [collection], "links": [] if later else [more]})
        if path.endswith("/search"):
            return reply({"features": [item], "links": [] if later else [more]})
        return reply(collection if path.endswith("/c") else item)

    bench = Bench(answer, api_url=gateway)
    (found,) = [row async for row in bench.client.search({})]
    assert [row.id async for row in bench.client.all_collections()] == ["c"]
    await bench.client.collection("c")
    await bench.client.update_item("c", "i", title="x", tags=[])
    stac_requests = list(bench.service.requests)
    for file in found.assets:
        assert file.asset_id is not None
        await bench.client.sign(file.asset_id)
    base = gateway.rstrip("/")
    for request in bench.service.requests:
        assert str(request.url).startswith(f"{base}/v2/assets/") or "catalog" in request.url.path
        assert request.url.host == httpx.URL(gateway).host
    assert len(stac_requests) == 6
    for request in stac_requests:
        assert request.headers["accept"] == STAC_TYPES
    assert bench.service.requests[-1].url == f"{base}/v2/catalog/quicklooks/{ID}/download-url"


async def test_a_limit_that_was_taken_is_not_what_a_later_refusal_is_about() -> None:
    refused = reply({"title": "Bad Request", "detail": "unknown operator"}, 400)

    def answer(request: httpx.Request) -> httpx.Response:
        if b"bad" in request.content:
            return httpx.Response(400, headers=refused.headers, content=refused.content)
        return reply({"features": [], "links": []})

    bench = Bench(answer)
    for body, requests in (({"bad": 1}, 4), ({}, 1), ({"bad": 1}, 1)):
        before = len(bench.service.requests)
        try:
            assert [row async for row in bench.client.search(body)] == []
        except InvalidArgument:
            assert "bad" in body
        assert len(bench.service.requests) - before == requests


async def test_collections_are_paged_by_their_next_links() -> None:
    first = recorded("up42_data-recipes_stac_collections_page_default.json")
    last = first | {"links": []}
    bench = Bench(script((first, 200), (last, 200)), workspace="w1")
    one = await bench.client.collections_page(limit=10)
    assert len(one.items) == 10
    assert one.next is not None
    two = await bench.client.collections_page(one.next)
    assert two.next is None
    start, onward = bench.service.requests
    assert start.url.path == f"{STAC}/collections"
    assert dict(start.url.params) == {"limit": "10", "workspace_id": "w1"}
    assert str(onward.url) == one.next.url
    assert onward.url.params["token"].startswith("next:")


async def test_http_next_links_go_to_the_apis_own_origin() -> None:
    link = {"rel": "next", "href": "http://api.up42.com/v2/assets/stac/collections?token=next:1"}
    bench = Bench(script(({"collections": [], "links": [link]}, 200)))
    found = await bench.client.collections_page()
    assert found.next == NextLink(f"{API}/v2/assets/stac/collections?token=next:1")


async def test_a_foreign_next_link_is_refused_before_a_token_is_sent() -> None:
    link = {"rel": "next", "href": "https://evil.example/v2/assets/stac/collections"}
    bench = Bench(script(({"collections": [], "links": [link]}, 200)))
    with pytest.raises(InvalidAnswer, match=r"evil\.example"):
        await bench.client.collections_page()
    assert {request.url.host for request in bench.service.requests} == {"api.up42.com"}


async def test_a_search_follows_links_with_their_body_as_given() -> None:
    first = recorded("up42-py_stac_search_page_with_next_2023.json")
    last = recorded("up42_data-recipes_stac_search_cql2_workspace.json")
    bench = Bench(script((first, 200), (last, 200)))
    query = {"filter": {"op": "=", "args": [{"property": "order_id"}, "o"]}}
    found = [item async for item in bench.client.search(query)]
    assert len(found) == 1 + len(last["features"])
    start, onward = bench.service.requests
    assert (start.method, start.url.path) == ("POST", f"{STAC}/search")
    assert json.loads(start.content) == query | {"limit": 100}
    assert json.loads(onward.content)["token"] == "next:12345"


async def test_items_of_a_collection() -> None:
    body = recorded("up42_data-recipes_stac_collection_items.json")
    bench = Bench(script((body, 200)))
    (item,) = [item async for item in bench.client.all_items("c/1")]
    assert item.collection_id == "ec5f97fe-3f27-4529-a0c0-e97224840a41"
    assert bench.service.requests[0].url.raw_path == (
        b"/v2/assets/stac/collections/c%2F1/items?limit=100"
    )


async def test_one_collection() -> None:
    row = recorded("up42_data-recipes_stac_collections_page_default.json")["collections"][0]
    bench = Bench(script((row, 200)))
    assert (await bench.client.collection(row["id"])).title == row["title"]
    assert bench.service.paths == [f"{STAC}/collections/{row['id']}"]


async def test_a_stac_answer_without_its_list_is_an_error() -> None:
    with pytest.raises(InvalidAnswer, match="features"):
        await Bench(script(({"collections": []}, 200))).client.items_page("c")


# The HTTP client


def test_an_unencrypted_api_is_refused() -> None:
    bench = Bench(script(({}, 200)))
    with pytest.raises(ConfigurationError, match="UP42_API_URL"):
        Client(bench.http, bench.tokens, "http://api.up42.com", metrics=bench.metrics)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HTTPS_PROXY", "gopher://me:hunter2@proxy.example", "HTTPS_PROXY"),
        ("HTTPS_PROXY", "socks4://me:hunter2@proxy.example", "SOCKS"),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem", "SSL_CERT_FILE"),
    ],
)
def test_settings_of_the_environment_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=words) as caught:
        make_http()
    assert "hunter2" not in str(caught.value)


async def test_limits_and_proxies_of_the_http_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with make_http() as http:
        assert (http.timeout.connect, http.timeout.read) == (10, 15)
        assert not http.follow_redirects


@pytest.mark.parametrize("failure", [({}, 503), ({}, 429), httpx.ReadError("reset"), ({}, 504)])
async def test_an_update_that_may_have_been_carried_out_is_not_repeated(failure: Any) -> None:
    bench = Bench(script(failure, (ASSET, 200)))
    with pytest.raises(Unavailable):
        await bench.client.update_asset(ID, title="x", tags=())
    assert len(bench.service.requests) == 1


async def test_a_stale_token_is_renewed_for_an_update() -> None:
    bench = Bench(script(({}, 401), (ASSET, 200)))
    await bench.client.update_asset(ID, title="x", tags=())
    assert len(bench.service.requests) == 2


async def test_an_items_update_is_a_patch_made_once(autojump_clock: MockClock) -> None:
    item = {"id": "scene", "properties": {"up42-user:title": "x", "up42-user:tags": ["a"]}}
    # A good token that STAC refuses (contract §7.4) was not let in: that is asked again.
    bench = Bench(script(({}, 401), ({}, 401), (item, 200), ({}, 503)))
    found = await bench.client.update_item("col", "scene", title="x", tags=("a",))
    assert (found.user_title, found.user_tags) == ("x", ("a",))
    request = bench.service.requests[-1]
    assert (request.method, request.url.path) == (
        "PATCH",
        "/v2/assets/stac/collections/col/items/scene",
    )
    assert json.loads(request.content) == {"up42-user:title": "x", "up42-user:tags": ["a"]}
    with pytest.raises(Unavailable):
        await bench.client.update_item("col", "scene", title=None, tags=())
    cleared: dict[str, Any] = {"up42-user:title": None, "up42-user:tags": []}
    assert json.loads(bench.service.requests[-1].content) == cleared

"""The client against the emulator, over real sockets, in one nursery."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from up42fs.api.auth import Credentials, TokenSource
from up42fs.api.client import Client
from up42fs.api.network import make_http
from up42fs.api.transport import Limits
from up42fs.emulator import EmulatorSettings, Remote, SyntheticSize, Urls, serve
from up42fs.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Offline,
    SignInFailed,
    Unavailable,
    Up42fsError,
)
from up42fs.metrics import Metrics
from up42fs.types import CnamStatus

SIZE = SyntheticSize(assets=130, orders=7, tags=3)


@dataclass
class Bench:
    """A running emulator and a client signed in to it."""

    urls: Urls
    client: Client
    metrics: Metrics
    remote: Remote

    async def control(self, work: Callable[[], Any]) -> Any:
        """The control client blocks; it must not block the emulator beside it."""
        return await trio.to_thread.run_sync(work)

    async def faults(self, **switches: Any) -> None:
        await self.control(partial(self.remote.faults, **switches))

    async def count(self, route: str | None = None) -> int:
        found: int = await self.control(partial(self.remote.count, route))
        return found


def make_client(
    http: httpx.AsyncClient,
    urls: Urls,
    metrics: Metrics,
    password: str = "demo",
    limits: Limits | None = None,
) -> Client:
    credentials = Credentials("demo@up42fs.example", password)
    tokens = TokenSource(http, urls.auth_url, credentials, metrics=metrics, limits=limits)
    return Client(http, tokens, urls.api_url, metrics=metrics, limits=limits)


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            urls = await nursery.start(serve, EmulatorSettings(synthetic=SIZE))
            metrics = Metrics()
            async with make_http() as http:
                client = make_client(http, urls, metrics)
                yield Bench(urls, client, metrics, Remote(urls.control_url))
        nursery.cancel_scope.cancel()


async def test_every_asset_and_order_once_in_few_requests() -> None:
    async with running() as bench:
        assets = [asset async for asset in bench.client.all_assets()]
        assert len({asset.id for asset in assets}) == len(assets) == 130
        assert await bench.count("assets.list") == 3  # two pages, and the look whether they held
        orders = [order async for order in bench.client.all_orders()]
        assert len({order.id for order in orders}) == len(orders) == 7
        assert await bench.count("orders.list") == 1
        assert await bench.count("auth.token") == 1
        assert {asset.cnam_status for asset in assets} <= set(CnamStatus)
        assert all(asset.size is not None for asset in assets)
        assert {asset.order_id for asset in assets} - {None} <= {order.id for order in orders}
        assert await bench.client.asset(assets[0].id) == assets[0]
        assert await bench.client.order(orders[0].id) == orders[0]


@pytest.mark.parametrize(
    ("switches", "requests"),
    [({"page_size_error_above": 50}, 1 + 3 + 1), ({"max_page_size": 30}, 5 + 1)],
)
async def test_servers_with_smaller_pages(switches: dict[str, Any], requests: int) -> None:
    async with running() as bench:
        await bench.faults(**switches)
        assets = {asset.id async for asset in bench.client.all_assets()}
        assert len(assets) == 130
        assert await bench.count("assets.list") == requests


async def test_an_order_finds_its_assets_by_search() -> None:
    async with running() as bench:
        assets = [asset async for asset in bench.client.all_assets()]
        order_id = next(asset.order_id for asset in assets if asset.order_id)
        found = {asset.id async for asset in bench.client.all_assets(search=order_id)}
        assert found == {asset.id for asset in assets if asset.order_id == order_id}
        assert found


@pytest.mark.parametrize("style", ["v2", "v4"])
@pytest.mark.parametrize("skew_s", [0.0, -7200.0])
async def test_a_link_reads_the_object_and_lives_by_the_servers_clock(
    style: str, skew_s: float
) -> None:
    async with running() as bench:
        await bench.faults(link_style=style, date_skew_s=skew_s, link_life_s=200.0)
        asset = (await bench.client.assets_page(0, size=1)).items[0]
        link = await bench.client.sign(asset.id)
        assert link.lifetime_s == pytest.approx(200, abs=2)
        async with httpx.AsyncClient(trust_env=False) as plain:
            part = await plain.get(link.url, headers={"Range": "bytes=0-99"})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes 0-99/{asset.size}"


async def test_title_and_tags_are_changed() -> None:
    async with running() as bench:
        asset = (await bench.client.assets_page(0, size=1)).items[0]
        changed = await bench.client.update_asset(asset.id, title="Neu", tags=["a b", "c/d"])
        assert (changed.title, changed.tags) == ("Neu", ("a b", "c/d"))
        assert await bench.client.asset(asset.id) == changed
        cleared = await bench.client.update_asset(asset.id, title="Neu", tags=[])
        assert (cleared.title, cleared.tags) == ("Neu", ())


@pytest.mark.parametrize(
    "switches", [{}, {"http_next_link": True}, {"href_suffix": "mixed"}], ids=str
)
async def test_stac_is_walked_and_its_files_can_be_signed(switches: dict[str, Any]) -> None:
    async with running() as bench:
        await bench.faults(**switches)
        collections = [found async for found in bench.client.all_collections()]
        assets = {asset.id: asset async for asset in bench.client.all_assets()}
        assert {found.asset_id for found in collections} <= set(assets)
        assert len(collections) > 50
        page = await bench.client.collections_page(limit=10)
        assert page.next is not None
        onward = await bench.client.collections_page(page.next)
        assert not {one.id for one in page.items} & {two.id for two in onward.items}
        items = [item async for item in bench.client.search({})]
        assert len({item.id for item in items}) == len(items)
        transformed = next(
            item
            for item in items
            if assets[item.asset_id or ""].cnam_status is CnamStatus.SUCCESSFUL
        )
        assert transformed.collection_id is not None
        listed = [item async for item in bench.client.all_items(transformed.collection_id)]
        assert transformed in listed
        collection = await bench.client.collection(transformed.collection_id)
        assert collection.asset_id == transformed.asset_id
        for file in transformed.assets:
            assert file.asset_id is not None
            assert (await bench.client.sign(file.asset_id)).url.startswith(bench.urls.store_url)


async def test_search_by_order() -> None:
    async with running() as bench:
        items = [item async for item in bench.client.search({})]
        order_id = next(item.order_id for item in items if item.order_id)
        query = {"filter": {"op": "=", "args": [{"property": "order_id"}, order_id]}}
        found = {item.id async for item in bench.client.search(query)}
        assert found == {item.id for item in items if item.order_id == order_id}


@pytest.mark.parametrize("shape", ["problem", "basic", "v1"])
async def test_an_unknown_asset_is_not_found_in_every_error_shape(shape: str) -> None:
    async with running() as bench:
        await bench.faults(error_shape=shape)
        unknown = "00000000-0000-4000-8000-000000000000"
        for ask in (bench.client.asset, bench.client.sign):
            with pytest.raises(NotFound, match=unknown):
                await ask(unknown)


async def asks(bench: Bench) -> None:
    await bench.client.assets_page(0, size=5)


@pytest.mark.parametrize(
    ("switches", "requests"),
    [
        ({"fail_status": 503, "fail_next": 2}, 3),
        ({"fail_status": 502, "fail_body": "html", "fail_next": 1}, 2),
        ({"fail_status": 429, "retry_after": "1", "fail_next": 1}, 2),
        ({"fail_status": 429, "retry_after": "date:1", "fail_next": 1}, 2),
        ({"fail_status": 401, "fail_next": 1}, 2),
        ({"reset_before_headers": True, "fail_next": 1}, 2),
        ({"cut_body_at": 50, "fail_next": 1}, 2),
        ({"short_body": 10, "fail_next": 1}, 2),
    ],
    ids=str,
)
async def test_what_passes_is_waited_out(switches: dict[str, Any], requests: int) -> None:
    async with running() as bench:
        await bench.client.orders_page(0, size=1)
        await bench.faults(fail_plane="api", **switches)
        await asks(bench)
        assert await bench.count("assets.list") == requests


@pytest.mark.parametrize(
    ("switches", "error"),
    [
        ({"fail_status": 400}, InvalidArgument),
        ({"fail_status": 403}, AccessDenied),
        ({"fail_status": 401}, AccessDenied),
        ({"assets_gone": 410}, NotFound),
        ({"assets_gone": 404}, NotFound),
    ],
    ids=str,
)
async def test_what_stays_is_told(switches: dict[str, Any], error: type[Up42fsError]) -> None:
    async with running() as bench:
        await bench.faults(fail_plane="api", **switches)
        with pytest.raises(error, match="listing assets failed"):
            await asks(bench)


@pytest.mark.parametrize(
    ("switches", "fewest", "most"),
    [({"fail_status": 503}, 2, 30), ({"stall_before_headers_s": 60.0}, 1, 1)],
    ids=str,
)
async def test_a_callers_deadline_holds(switches: dict[str, Any], fewest: int, most: int) -> None:
    async with running() as bench:
        await bench.faults(fail_plane="api", **switches)
        # The deadline may also pass while an attempt is under way.
        with pytest.raises((Unavailable, trio.TooSlowError)), trio.fail_after(1):
            await asks(bench)
        assert fewest <= await bench.count("assets.list") <= most


async def test_an_expired_token_is_replaced() -> None:
    async with running() as bench:
        await asks(bench)
        await bench.faults(date_skew_s=400.0)
        await asks(bench)
        assert await bench.count("auth.token") == 2


async def test_a_wrong_password_is_one_sign_in() -> None:
    async with running() as bench, make_http() as http:
        client = make_client(http, bench.urls, Metrics(), password="wrong")
        for _ in range(3):
            with pytest.raises(SignInFailed, match=r"demo@up42fs\.example"):
                await client.assets_page(0, size=1)
        assert await bench.count("auth.token") == 1


async def test_nobody_listening_is_offline() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    for listener in listeners:
        await listener.aclose()
    url = f"http://127.0.0.1:{port}"
    async with make_http() as http:
        client = make_client(http, Urls(url, url, url), Metrics())
        with pytest.raises(Offline, match="check the network"):
            await client.assets_page(0, size=1)


async def test_a_silent_server_meets_the_read_timeout() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        serve_silence: Callable[..., Awaitable[Any]] = partial(
            trio.serve_tcp, silent, 0, host="127.0.0.1"
        )
        listeners = await nursery.start(serve_silence)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with make_http(read_timeout_s=0.1) as http:
            metrics = Metrics()
            client = make_client(http, Urls(url, url, url), metrics, limits=Limits(ceiling_s=1))
            with pytest.raises(DeadlineExceeded):
                await client.assets_page(0, size=1)
            assert metrics["auth.requests"] > 1
        nursery.cancel_scope.cancel()


async def test_stac_answers_although_it_refuses_a_good_token_at_times() -> None:
    async with running() as bench:
        await bench.faults(stac_random_401_share=0.4)
        found = [collection async for collection in bench.client.all_collections()]
        assert len(found) == SIZE.assets
        assert bench.metrics["api.retries"] > 0

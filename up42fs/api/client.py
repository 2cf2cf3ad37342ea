"""UP42's storage API: one method per endpoint, which returns parsed values.

Knows the names of UP42's endpoints and parameters; nothing of retries (`transport`), tokens
(`auth`), the spelling of fields (`schema`), or the use of the values.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from up42fs.api import links, pages, schema
from up42fs.api.auth import TokenSource
from up42fs.api.links import NextLink
from up42fs.api.oddities import Oddities
from up42fs.api.pages import Memo, Page, StacPage
from up42fs.api.transport import ApiTransport, Bearer, Call, Limits
from up42fs.config.quantities import show_count
from up42fs.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidAnswer,
    InvalidArgument,
    NotFound,
    Up42fsError,
)
from up42fs.metrics import Metrics
from up42fs.model.stac import StacCollection, StacItem
from up42fs.net import expiry
from up42fs.net.retry import Plane
from up42fs.types import Asset, CnamStatus, Order, SignedUrl

log = logging.getLogger(__name__)

#: Items are GeoJSON: a strict server answers 406 to a request that accepts plain JSON only.
STAC_TYPES = "application/geo+json, application/json, */*;q=0.5"

T = TypeVar("T")
R = TypeVar("R", StacCollection, StacItem)


class Client:
    """The API at `api_url` as one account sees it, in one workspace or (None) in all of them.

    Every method raises the errors of `ApiTransport.fetch` and `TokenSource.token`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        tokens: TokenSource,
        api_url: str,
        *,
        metrics: Metrics,
        workspace: str | None = None,
        stac_base: str = "/v2/assets/stac",
        limits: Limits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api_url = links.require_secure(api_url, setting="UP42_API_URL")
        self._stac_url = f"{self._api_url}/{stac_base.strip('/')}"
        self._metrics = metrics
        self._workspace = workspace
        self._lists_workspace = False
        self._transport = ApiTransport(
            http,
            plane=Plane.API,
            metrics=metrics,
            bearer=Bearer(tokens.token, tokens.discard),
            limits=limits,
            jitter=jitter,
        )
        self._warned: set[str] = set()
        self._stac_limits: dict[str, tuple[int, ...]] = {}
        self._oddities = Oddities()

    # Orders and assets (contract §2 to §4)

    async def orders_page(
        self,
        page: int,
        *,
        size: int,
        sort: str = pages.OLDEST_FIRST,
        status: Sequence[str] = (),
        display_name: str | None = None,
    ) -> Page[Order]:
        """`GET /v2/orders`, page from 0 (§4.1).

        `status` keeps orders in any of these, `display_name` those with it in their name.
        """
        params = self._page_params(page, size, sort)
        if status:
            params["status"] = list(status)
        if display_name is not None:
            params["displayName"] = display_name
        document = await self._list("listing orders", "/v2/orders", params)
        return self._page(document, self._oddities.parse_order, page, size, "listing orders")

    async def assets_page(
        self,
        page: int,
        *,
        size: int,
        sort: str = pages.OLDEST_FIRST,
        search: str | None = None,
        created_before: datetime | None = None,
        cnam_status: CnamStatus | None = None,
        source: str | None = None,
        workspace: str | None = None,
    ) -> Page[Asset]:
        """`GET /v2/assets`, page from 0; `search` is a substring of name, title, order ID (§2)."""
        params = self._page_params(page, size, sort)
        if source is not None:
            params["sources"] = source
        if workspace is not None:
            params["workspaceId"] = workspace
        if search is not None:
            params["search"] = search
        if created_before is not None:
            moment = created_before.astimezone(UTC)
            params["createdBefore"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if cnam_status is not None:
            params["geospatialMetadataExtractionStatus"] = cnam_status.value
        document = await self._list("listing assets", "/v2/assets", params)
        return self._page(document, self._oddities.parse_asset, page, size, "listing assets")

    def all_orders(self, *, memo: Memo | None = None) -> AsyncGenerator[Order, None]:
        """Yield every order once, by `pages.crawl`."""
        return pages.crawl(
            lambda page, size, sort: self.orders_page(page, size=size, sort=sort), memo=memo
        )

    def all_assets(
        self,
        *,
        search: str | None = None,
        created_before: datetime | None = None,
        memo: Memo | None = None,
    ) -> AsyncGenerator[Asset, None]:
        """Yield every asset once, by `pages.crawl`."""
        return pages.crawl(
            lambda page, size, sort: self.assets_page(
                page, size=size, sort=sort, search=search, created_before=created_before
            ),
            memo=memo,
        )

    async def order(self, order_id: str) -> Order:
        """`GET /v2/orders/{id}` (§4.1)."""
        document = await self.order_document(order_id)
        return _only(self._oddities.parse_order(document), document, order_id, "order")

    async def asset(self, asset_id: str) -> Asset:
        """`GET /v2/assets/{id}/metadata` (§3.1)."""
        document = await self.asset_document(asset_id)
        return _only(self._oddities.parse_asset(document), document, asset_id, "asset")

    async def order_document(self, order_id: str) -> dict[str, Any]:
        return await self._get(f"reading order {order_id}", f"/v2/orders/{links.segment(order_id)}")

    async def order_coverage(self, order_id: str) -> dict[str, Any]:
        """`GET /v2/coverage/orders/{id}` (§14)."""
        return await self._get(
            f"reading the coverage of order {order_id}",
            f"/v2/coverage/orders/{links.segment(order_id)}",
        )

    async def asset_document(self, asset_id: str) -> dict[str, Any]:
        return await self._get(
            f"reading asset {asset_id}", f"/v2/assets/{links.segment(asset_id)}/metadata"
        )

    async def sign(self, asset_id: str) -> SignedUrl:
        """`POST /v2/assets/{id}/download-url`: a fresh link, also for STAC assets (§3.4).

        `asset_id` may also be the path of another API resource (see `links`). The link's lifetime
        follows from the link itself and the response's `Date`. The POST changes nothing and is
        retried like a GET.
        """
        operation = f"signing a link for asset {asset_id}"
        url = f"{self._api_url}{links.signing_path(asset_id)}"
        answer = await self._transport.fetch(Call(operation, "POST", url))
        link = answer.document.get("url")
        if not isinstance(link, str) or not links.is_safe_link(link, self._api_url):
            raise InvalidAnswer(
                f"{operation} failed: UP42 answered without a usable https link; try again later"
            )
        return SignedUrl(link, expiry.lifetime_s(link, answer.server_now_s))

    async def update_asset(self, asset_id: str, *, title: str | None, tags: Sequence[str]) -> Asset:
        """`POST /v2/assets/{id}/metadata` (§3.2).

        Title None and tags () clear them. Raises InvalidArgument with UP42's message for values
        that it rejects. The request is not retried: between two attempts another client may have
        changed the tags, and the second attempt would overwrite that change. After Unavailable the
        change may or may not have been made.
        """
        body = {"title": title, "tags": list(tags)}
        operation = f"changing title or tags of asset {asset_id}"
        url = f"{self._api_url}/v2/assets/{links.segment(asset_id)}/metadata"
        call = Call(operation, "POST", url, json=body, once=True)
        document = (await self._transport.fetch(call)).document
        return _only(self._oddities.parse_asset(document), document, asset_id, "asset")

    # STAC (contract §5)

    async def collections_page(
        self, after: NextLink | None = None, *, limit: int = 100
    ) -> StacPage[StacCollection]:
        """`GET .../collections`, or the page at the link `after` (§5.2)."""
        params: dict[str, Any] = {"limit": limit}
        if self._workspace:
            params["workspace_id"] = self._workspace
        return await self._stac_page(
            "listing STAC collections",
            after or NextLink(f"{self._stac_url}/collections"),
            params if after is None else None,
            ("collections", lambda row: schema.parse_collection(row, self._api_url)),
        )

    async def collection(self, collection_id: str) -> StacCollection:
        """`GET .../collections/{id}` (§5.2)."""
        operation = f"reading STAC collection {collection_id}"
        url = f"{self._stac_url}/collections/{links.segment(collection_id)}"
        answer = await self._transport.fetch(self._stac_call(operation, NextLink(url)))
        found = schema.parse_collection(answer.document, self._api_url)
        return _only(found, answer.document, collection_id, "STAC collection")

    async def update_item(
        self, collection_id: str, item_id: str, *, title: str | None, tags: Sequence[str]
    ) -> StacItem:
        """`PATCH .../collections/{id}/items/{id}`: like `update_asset`, not retried (§5.7)."""
        operation = f"changing title or tags of STAC item {item_id}"
        call = Call(
            operation,
            "PATCH",
            self._item_url(collection_id, item_id),
            json={"up42-user:title": title, "up42-user:tags": list(tags)},
            accept=STAC_TYPES,
            refused_at_times=True,
            once=True,
        )
        document = (await self._transport.fetch(call)).document
        found = schema.parse_item(document, self._api_url)
        return _only(found, document, item_id, "STAC item")

    async def items_page(
        self, collection_id: str, after: NextLink | None = None, *, limit: int = 100
    ) -> StacPage[StacItem]:
        """`GET .../collections/{id}/items`, or the page at the link `after` (§5.3)."""
        url = f"{self._stac_url}/collections/{links.segment(collection_id)}/items"
        return await self._stac_page(
            f"listing the items of STAC collection {collection_id}",
            after or NextLink(url),
            {"limit": limit} if after is None else None,
            ("features", lambda row: schema.parse_item(row, self._api_url)),
        )

    async def search_page(
        self, body: Mapping[str, Any], after: NextLink | None = None
    ) -> StacPage[StacItem]:
        """`POST .../search` with `body`, or the page at the link `after` (§5.6)."""
        return await self._stac_page(
            "searching the STAC items",
            after or NextLink(f"{self._stac_url}/search", body),
            None,
            ("features", lambda row: schema.parse_item(row, self._api_url)),
        )

    def all_collections(self) -> AsyncGenerator[StacCollection, None]:
        """Yield every collection once, newest first."""
        return self._crawl_links(
            "collections", lambda link, limit: self.collections_page(link, limit=limit)
        )

    def all_items(self, collection_id: str) -> AsyncGenerator[StacItem, None]:
        """Yield every item of a collection once."""
        return self._crawl_links(
            "items", lambda link, limit: self.items_page(collection_id, link, limit=limit)
        )

    def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
        """Yield every item that matches `body` (without `limit`), once."""
        return self._crawl_links(
            "search", lambda link, limit: self.search_page({**body, "limit": limit}, link)
        )

    # Shared

    def _crawl_links(self, listing: str, fetch: pages.FetchStacPage[R]) -> AsyncGenerator[R, None]:
        """Yield all rows, with the limit that was accepted before for this listing, if any."""

        # Once a limit was accepted, a later 400 is not about the limit.
        def learn(limit: int) -> None:
            self._stac_limits[listing] = (limit,)

        limits = self._stac_limits.get(listing, pages.STAC_LIMITS)
        return pages.crawl_links(fetch, limits=limits, on_limit=learn)

    def _item_url(self, collection_id: str, item_id: str) -> str:
        collection = f"{self._stac_url}/collections/{links.segment(collection_id)}"
        return f"{collection}/items/{links.segment(item_id)}"

    def _page_params(self, page: int, size: int, sort: str) -> dict[str, Any]:
        params: dict[str, Any] = {"page": page, "size": size, "sort": sort}
        if self._workspace:
            params["workspaceId"] = self._workspace
        return params

    async def _list(self, operation: str, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        try:
            document = await self._get(operation, path, params)
        except (NotFound, InvalidArgument, AccessDenied) as error:
            if self._workspace and not self._lists_workspace:
                await self._check_workspace(path, error)
            raise
        self._lists_workspace = True
        return document

    async def _check_workspace(self, path: str, refusal: Up42fsError) -> None:
        """Raise ConfigurationError if `path` is listed for all workspaces, and not for this one.

        A workspace that does not exist may be answered with 404, as a listing that is gone; STAC,
        which is read then, would show other workspaces.
        """
        one = {"page": 0, "size": 1}
        with suppress(NotFound, InvalidArgument, AccessDenied):
            await self._get("listing a workspace", path, one | {"workspaceId": self._workspace})
            return
        try:
            await self._get("listing all workspaces", path, one)
        except Up42fsError:
            return
        raise ConfigurationError(
            f"this account has no workspace {self._workspace} at {self._api_url}, although its "
            "storage is listed; correct the option workspace (UP42_WORKSPACE), or leave it out to "
            "see all workspaces"
        ) from refusal

    async def _get(
        self, operation: str, path: str, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        call = Call(operation, "GET", self._api_url + path, params=params)
        return (await self._transport.fetch(call)).document

    def _page(
        self,
        document: Mapping[str, Any],
        parse_row: Callable[[object], T | None],
        number: int,
        size: int,
        operation: str,
    ) -> Page[T]:
        page = pages.parse_page(document, parse_row, number=number, size=size)
        self._count_skipped(page.rows - len(page.items), operation)
        return page

    async def _stac_page(
        self,
        operation: str,
        link: NextLink,
        params: Mapping[str, Any] | None,
        rows: tuple[str, Callable[[object], T | None]],
    ) -> StacPage[T]:
        document = (await self._transport.fetch(self._stac_call(operation, link, params))).document
        key, parse_row = rows
        # Some servers write null for an empty list.
        content = [] if document.get(key, "") is None else document.get(key)
        if not isinstance(content, list):
            raise InvalidAnswer(
                f"{operation} failed: UP42 answered without `{key}`; try again later"
            )
        found = tuple(row for row in map(parse_row, content) if row is not None)
        self._count_skipped(len(content) - len(found), operation)
        onward = links.next_link(
            document.get("links"), self._api_url, sent_body=link.body, at=link.url
        )
        return StacPage(found, onward)

    def _stac_call(
        self, operation: str, link: NextLink, params: Mapping[str, Any] | None = None
    ) -> Call:
        return Call(
            operation,
            "GET" if link.body is None else "POST",
            link.url,
            params,
            json=link.body,
            accept=STAC_TYPES,
            refused_at_times=True,
        )

    def _count_skipped(self, skipped: int, operation: str) -> None:
        if skipped <= 0:
            return
        self._metrics.count("api.rows_skipped", skipped)
        # Every refresh returns the same rows, so one warning is enough.
        level = logging.DEBUG if operation in self._warned else logging.WARNING
        self._warned.add(operation)
        rows, were = show_count(skipped, "row"), "was" if skipped == 1 else "were"
        log.log(level, "%s: %s without a usable ID %s left out", operation, rows, were)


def _only(found: T | None, document: Mapping[str, Any], asked: str, kind: str) -> T:
    """Return `found` if its ID is the requested one: another's size or name must not be used."""
    if found is None or str(document.get("id")).casefold() != asked.casefold():
        raise InvalidAnswer(
            f"reading {kind} {asked} failed: UP42 answered with something else; try again later"
        )
    said = document.get("properties")
    tags = document.get("tags"), said.get("up42-user:tags") if isinstance(said, Mapping) else None
    if any(map(schema.lost_tags, tags)):
        # Saving the known tags after an edit would delete the others.
        raise InvalidAnswer(
            f"reading {kind} {asked} failed: it has too many tags, or too long ones; "
            "shorten them in the UP42 console"
        )
    return found

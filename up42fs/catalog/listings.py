"""UP42's listings in the two forms the catalogue reads: whole, or the newest rows first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from up42fs.api.client import Client
from up42fs.api.pages import Memo, Page
from up42fs.catalog.unsettled import BEING_FULFILLED
from up42fs.types import Asset, CnamStatus, Order

#: Rows per page of a refresh: enough to meet known rows in one page, and quick to send.
_NEWEST_ROWS = 100


@dataclass(frozen=True, slots=True)
class Assets:
    """`/v2/assets` as the catalogue's listing."""

    client: Client
    memo: Memo = field(default_factory=Memo)

    def everything(self) -> AsyncIterator[Asset]:
        """Every asset once."""
        return self.client.all_assets(memo=self.memo)

    def told(self) -> int | None:
        """The total that UP42 reported with them."""
        return self.memo.total

    async def newest(self, page: int) -> Page[Asset]:
        """A page of the assets that changed last, pages from 0."""
        return await self.client.assets_page(page, size=_NEWEST_ROWS, sort="updatedAt,desc")


@dataclass(frozen=True, slots=True)
class Orders:
    """`/v2/orders` as the catalogue's listing."""

    client: Client
    memo: Memo = field(default_factory=Memo)

    def everything(self) -> AsyncIterator[Order]:
        """Every order once."""
        return self.client.all_orders(memo=self.memo)

    def told(self) -> int | None:
        """The total that UP42 reported with them."""
        return self.memo.total

    async def newest(self, page: int) -> Page[Order]:
        """A page of the orders that changed last, pages from 0."""
        return await self.client.orders_page(page, size=_NEWEST_ROWS, sort="updatedAt,desc")


@dataclass(frozen=True, slots=True)
class ListedNarrowly:
    """Narrower requests to `/v2/assets` and `/v2/orders`."""

    client: Client

    def older_than(self, moment: datetime) -> AsyncIterator[Asset]:
        """Assets created before `moment`, newest first; a few of its second may follow."""
        return self.client.all_assets(created_before=moment + timedelta(seconds=1))

    async def of_order(self, order_id: str) -> list[Asset]:
        """The assets of one order."""
        # `search` matches names and titles, too (contract §2).
        found = self.client.all_assets(search=order_id)
        return [asset async for asset in found if asset.order_id == order_id]

    async def unsettled_assets(self) -> Page[Asset]:
        """The newest assets that are being transformed."""
        return await self.client.assets_page(
            0, size=_NEWEST_ROWS, sort="createdAt,desc", cnam_status=CnamStatus.IN_PROGRESS
        )

    async def unsettled_orders(self) -> Page[Order]:
        """The newest orders that are being fulfilled."""
        return await self.client.orders_page(
            0, size=_NEWEST_ROWS, sort="createdAt,desc", status=[BEING_FULFILLED]
        )

    async def asset(self, asset_id: str) -> Asset:
        """One asset; raises NotFound if it is gone."""
        return await self.client.asset(asset_id)

    async def order(self, order_id: str) -> Order:
        """One order; raises NotFound if it is gone."""
        return await self.client.order(order_id)

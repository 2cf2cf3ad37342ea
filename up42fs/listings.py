"""What UP42's API lists, as the catalogue wants to read it: whole, or the newest rows first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from up42fs.api.client import Client
from up42fs.api.pages import Page
from up42fs.types import Asset, Order

#: Rows a refresh asks for: enough to meet known ground in one page, quick to send.
_NEWEST_ROWS = 100


@dataclass(frozen=True, slots=True)
class Assets:
    """`/v2/assets` as the catalogue's listing."""

    client: Client

    def everything(self) -> AsyncIterator[Asset]:
        """Every asset once."""
        return self.client.all_assets()

    async def newest(self, page: int) -> Page[Asset]:
        """A page of the assets that changed last, pages from 0."""
        return await self.client.assets_page(page, size=_NEWEST_ROWS, sort="updatedAt,desc")


@dataclass(frozen=True, slots=True)
class Orders:
    """`/v2/orders` as the catalogue's listing."""

    client: Client

    def everything(self) -> AsyncIterator[Order]:
        """Every order once."""
        return self.client.all_orders()

    async def newest(self, page: int) -> Page[Order]:
        """A page of the orders that changed last, pages from 0."""
        return await self.client.orders_page(page, size=_NEWEST_ROWS, sort="updatedAt,desc")

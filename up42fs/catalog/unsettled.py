"""Narrower requests than a whole listing, for rows that UP42 is still working on.

Knows which rows are unsettled; `sync` decides when to look again. Only UP42's own listings support
such requests: a storage that STAC alone lists is read whole.

Theory. `updatedAt` is only inferred to move when a transformation ends or an order is fulfilled
(contract §2.2), so rows in those states are requested again: one page of all rows in the state now,
and each row that was known in it and has left it by itself. If no row is unsettled, no request is
sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from up42fs.catalog.index import Changes, Index
from up42fs.errors import NotFound
from up42fs.types import Asset, CnamStatus, Order

T_co = TypeVar("T_co", Asset, Order, covariant=True)
Row = TypeVar("Row", Asset, Order)

BEING_FULFILLED = "BEING_FULFILLED"
#: Rows requested one by one in one look; the others wait for the next.
MOST_ONE_BY_ONE = 20


class Found(Protocol[T_co]):
    """One page of rows, as `api.pages.Page` provides it."""

    @property
    def items(self) -> Sequence[T_co]: ...  # noqa: D102
    @property
    def total_pages(self) -> int: ...  # noqa: D102


class Narrow(Protocol):
    """Sends narrower requests; every method raises an `Up42fsError`."""

    def older_than(self, moment: datetime) -> AsyncIterator[Asset]:
        """Assets created before `moment`, newest first, perhaps a few that are not."""
        ...

    async def of_order(self, order_id: str) -> Sequence[Asset]:
        """The assets of one order."""
        ...

    async def unsettled_assets(self) -> Found[Asset]:
        """The newest assets that are being transformed."""
        ...

    async def unsettled_orders(self) -> Found[Order]:
        """The newest orders that are being fulfilled."""
        ...

    async def asset(self, asset_id: str) -> Asset:
        """One asset."""
        ...

    async def order(self, order_id: str) -> Order:
        """One order."""
        ...


async def look_at_assets(index: Index, narrow: Narrow) -> Changes:
    """The new states of assets that were being transformed."""
    unsettled = list(index.with_status(CnamStatus.IN_PROGRESS))
    if not unsettled:
        return Changes()
    rows, gone = await _look(unsettled, await narrow.unsettled_assets(), narrow.asset)
    return Changes(assets=tuple(rows), removed_assets=gone)


async def look_at_orders(index: Index, narrow: Narrow) -> Changes:
    """The new states of orders that were being fulfilled."""
    unsettled = [order for order in index.orders.values() if order.status == BEING_FULFILLED]
    if not unsettled:
        return Changes()
    rows, gone = await _look(unsettled, await narrow.unsettled_orders(), narrow.order)
    return Changes(orders=tuple(rows), removed_orders=gone)


async def _look(
    unsettled: Iterable[Row], page: Found[Row], one: Callable[[str], Awaitable[Row]]
) -> tuple[list[Row], frozenset[str]]:
    """Rows as they are now, and IDs that are gone."""
    rows = list(page.items)
    listed = {row.id for row in rows}
    oldest = rows[-1].created_at if rows and page.total_pages > 1 else None
    settled = [
        row.id
        for row in unsettled
        if row.id not in listed and (oldest is None or row.created_at > oldest)
    ]
    gone: set[str] = set()
    for row_id in settled[:MOST_ONE_BY_ONE]:
        try:
            rows.append(await one(row_id))
        except NotFound:
            gone.add(row_id)
    return rows, frozenset(gone)

"""A listing of the service in memory, as `catalog.sync` reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import trio

from up42fs.catalog.index import Index
from up42fs.catalog.sync import Sync


@dataclass
class Page:
    items: tuple
    total: int | None
    total_pages: int


@dataclass
class Service:
    """A listing in memory that counts what is asked of it."""

    rows: dict = field(default_factory=dict)
    page_size: int = 2
    full_passes: int = 0
    newest_pages: int = 0
    fail: Exception | None = None
    hang: bool = False
    row_latency_s: float = 0.0
    #: Rows that are counted and cannot be known; a total that is another one each time it is told.
    uncounted: int = 0
    drifts: bool = False
    tells: int = 0
    #: What answers narrower requests, as `catalog.listings.OwnListing` does.
    own: Any = None

    async def everything(self) -> AsyncIterator:
        self.full_passes += 1
        if self.hang:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self.fail:
            raise self.fail
        for row in list(self.rows.values()):
            await trio.sleep(self.row_latency_s)
            yield row

    async def newest(self, page: int) -> Page:
        self.newest_pages += 1
        await trio.lowlevel.checkpoint()
        if self.fail:
            raise self.fail
        rows = sorted(self.rows.values(), key=lambda row: row.updated_at, reverse=True)
        pages = -(-len(rows) // self.page_size)
        part = rows[page * self.page_size : (page + 1) * self.page_size]
        return Page(tuple(part), self._total(), pages)

    def told(self) -> int | None:
        return self._total()

    def _total(self) -> int:
        self.tells += self.drifts
        return len(self.rows) + self.uncounted + self.tells

    def put(self, *rows) -> None:
        self.rows |= {row.id: row for row in rows}


def sync_of(index: Index, *, assets: Service, orders: Service, **settings: Any) -> Sync:
    return Sync(index, assets=cast("Any", assets), orders=cast("Any", orders), **settings)

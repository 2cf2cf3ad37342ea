"""`order.json`, `aoi.geojson` and `coverage.geojson` in the directories of orders.

`model.order_documents` makes them of UP42's answers. One answer serves the first two.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import trio
from cachetools import TTLCache

from up42fs.catalog.index import Index
from up42fs.catalog.order_details import REFRESH_S, OrderDetails
from up42fs.fs.branches.made import MadeDocuments
from up42fs.fs.branches.transformed import to_json
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import order_documents as model

#: Documents kept.
MOST = 64


class OrderDocuments(MadeDocuments):
    """The documents of orders, made when they are opened and kept for a minute."""

    prefix = "order/"

    def __init__(self, index: Index, details: OrderDetails, *, lists: bool) -> None:
        self.lists = lists
        self._index = index
        self._details = details
        self._kept: TTLCache[Node, bytes] = TTLCache(MOST, REFRESH_S, trio.current_time)

    def names(self, directory: Node) -> Iterable[str]:
        """The documents of an order that UP42 lists; others may have none."""
        if directory.kind is not Kind.ORDER or directory.id not in self._index.orders:
            return ()
        return model.names(self._index.orders[directory.id].type)

    def node(self, directory: Node, name: str) -> Node | None:
        """The node of an order's document."""
        if name not in self.names(directory):
            return None
        return Node(Kind.DOCUMENT, f"{self.prefix}{directory.id}/{name}")

    async def ensure(self, document: Node, layout: Layout) -> None:
        """Make a document, by one request if UP42 was not asked lately; raises `Up42fsError`."""
        order_id, name = self._about(document)
        updated_at = self._updated_at(order_id)
        if name == model.COVERAGE:
            made = model.coverage(order_id, await self._details.coverage(order_id, updated_at))
        else:
            order = dict(await self._details.order(order_id, updated_at))
            made = order if name == model.ORDER else model.area(order)
        self._kept[document] = to_json(made)

    def known(self, document: Node) -> bytes | None:
        """The document if it was made within the last minute."""
        return self._kept.get(document)

    def is_private(self, document: Node) -> bool:
        """The order itself always has the account's IDs, as `user.up42.json` has."""
        return self._about(document)[1] == model.ORDER

    def times(self, document: Node) -> tuple[datetime, datetime] | None:
        """When the order changed last; its area is as old as the order."""
        order_id, name = self._about(document)
        order = self._index.orders.get(order_id)
        if order is None:
            return None
        made = order.created_at if name == model.AREA else order.updated_at
        return made, order.updated_at

    def _about(self, document: Node) -> tuple[str, str]:
        order_id, _, name = document.id.removeprefix(self.prefix).rpartition("/")
        return order_id, name

    def _updated_at(self, order_id: str) -> datetime | None:
        order = self._index.orders.get(order_id)
        return None if order is None else order.updated_at

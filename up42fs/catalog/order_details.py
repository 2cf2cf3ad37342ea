"""An order beyond its row in the listing: the whole object, and its coverage.

Requested when a document of the order is opened, then kept for a minute, or until the order is
known to have changed. All who wait for the same answer share one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import trio

from up42fs.api.client import Client
from up42fs.catalog.cached_answers import Answers
from up42fs.errors import NotFound
from up42fs.flights import Flights
from up42fs.model.order_documents import COVERAGE, ORDER

#: Age of an answer that makes the next use request it again, and timeout of a request, seconds.
REFRESH_S = 60.0
TIMEOUT_S = 60.0
#: Answers kept. One may be a few hundred kB: areas can have many vertices.
MOST = 64

#: An order, when it changed, and what is asked of it.
_Key = tuple[str, datetime | None, str]
Document = Mapping[str, Any]


class OrderDetails:
    """Answers about single orders. Flights run in `nursery`."""

    def __init__(self, nursery: trio.Nursery, client: Client) -> None:
        self._client = client
        self._answers: Answers[_Key, Document] = Answers(
            Flights(nursery, "reading an order", timeout_s=TIMEOUT_S),
            self._ask,
            fresh_s=REFRESH_S,
            most=MOST,
            weigh=lambda _: 1,
            shows_stale=False,
        )

    async def order(self, order_id: str, updated_at: datetime | None) -> Document:
        """UP42's object of an order as it is since `updated_at`; raises an `Up42fsError`."""
        return await self._answers.get((order_id, updated_at, ORDER))

    async def coverage(self, order_id: str, updated_at: datetime | None) -> Document:
        """The coverage of a tasking, empty if UP42 has none; raises an `Up42fsError`."""
        return await self._answers.get((order_id, updated_at, COVERAGE))

    async def _ask(self, key: _Key) -> Document:
        order_id, _, about = key
        if about == ORDER:
            return await self._client.order_document(order_id)
        try:
            return await self._client.order_coverage(order_id)
        except NotFound:  # nothing was planned or delivered yet
            return {}

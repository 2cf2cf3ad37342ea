"""The terms of a search that only UP42's STAC search can answer: place, time and cloud cover."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import trio

from up42fs.api.client import Client
from up42fs.catalog.cached_answers import Answers
from up42fs.errors import InvalidArgument
from up42fs.flights import Flights
from up42fs.metrics import Metrics
from up42fs.model.query import Query, parse_query
from up42fs.model.stac import delivered_as

log = logging.getLogger(__name__)

#: Age of an answer that makes the next use start a refresh, and timeout of one search, seconds.
REFRESH_S = 60.0
SEARCH_TIMEOUT_S = 120.0
#: Rows of a page; the source may request fewer if UP42 refuses so many.
PAGE_ROWS = 100
#: Searches cached.
MOST = 256


class Searches:
    """Asset IDs by query, cached and refreshed by age. Flights run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        client: Client,
        *,
        metrics: Metrics,
        shows_stale: bool = True,
    ) -> None:
        self._client = client
        self._metrics = metrics
        #: Until UP42 refuses it: add filters so that the answer has fewer assets that the terms
        #: answered from memory exclude anyway.
        self._narrows = True
        self._answers: Answers[str, frozenset[str]] = Answers(
            Flights(nursery, "searching the storage", timeout_s=SEARCH_TIMEOUT_S),
            self._search,
            fresh_s=REFRESH_S,
            most=MOST,
            weigh=lambda _: 1,
            shows_stale=shows_stale,
        )

    async def asset_ids(self, query: Query) -> frozenset[str] | None:
        """Assets with an item that matches; None if no term needs STAC. Raises an `Up42fsError`."""
        if not query.needs_search:
            return None
        return await self._answers.get(query.canonical())

    async def _search(self, canonical: str) -> frozenset[str]:
        query = parse_query(canonical)
        body = query.stac_body(PAGE_ROWS, narrow=self._narrows) if query else None
        assert query is not None, "only such queries are asked"
        assert body is not None, "likewise"
        try:
            return await self._found(query, body)
        except InvalidArgument:
            plain = query.stac_body(PAGE_ROWS, narrow=False)
            if plain is None or plain == body:
                raise
            found = await self._found(query, plain)
            log.info("UP42 takes no `isNull` in searches: they are asked without memory's terms")
            self._narrows = False
            return found

    async def _found(self, query: Query, body: Mapping[str, Any]) -> frozenset[str]:
        self._metrics.count("catalog.searches")
        found: set[str] = set()
        async for item in self._client.search(body):
            if query.holds_beyond_search(item):
                found |= delivered_as(item)
        return frozenset(found)

"""The processing jobs whose results the storage holds: one search finds all of them.

Theory. UP42 lists no jobs with its assets; the items of results name theirs (contract §14). A
search for items that name one is basic CQL2. If UP42 refuses it, or finds nothing although assets
came from processing, the items of those assets are searched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import trio

from up42fs.api.client import Client
from up42fs.catalog.cached_answers import Answers
from up42fs.catalog.index import RESULTS, Index
from up42fs.catalog.items import Items
from up42fs.errors import InvalidArgument
from up42fs.flights import Flights
from up42fs.metrics import Metrics
from up42fs.model.stac import StacItem, delivered_as
from up42fs.types import Asset

log = logging.getLogger(__name__)

#: Age of an answer that makes the next use start a refresh, and timeout of one, seconds.
REFRESH_S = 60.0
TIMEOUT_S = 120.0
#: Assets whose items are searched together.
TOGETHER = 100
_NAMES_A_JOB: Mapping[str, Any] = {
    "op": "not",
    "args": [{"op": "isNull", "args": [{"property": "job_id"}]}],
}

#: Assets by job.
Found = Mapping[str, frozenset[str]]


class Jobs:
    """Results by job, cached and refreshed by age. Flights run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        client: Client,
        index: Index,
        items: Items,
        *,
        metrics: Metrics,
        shows_stale: bool = True,
    ) -> None:
        self._client = client
        self._index = index
        self._items = items
        self._metrics = metrics
        self._answers: Answers[None, Found] = Answers(
            Flights(nursery, "searching the results of jobs", timeout_s=TIMEOUT_S),
            self._search,
            fresh_s=REFRESH_S,
            most=1,
            weigh=lambda _: 1,
            shows_stale=shows_stale,
        )

    async def all(self) -> Found:
        """The assets that are results, by job; raises an `Up42fsError`."""
        return await self._answers.get(None)

    async def _search(self, _key: None) -> Found:
        self._metrics.count("catalog.searches")
        body = {"filter": _NAMES_A_JOB, "filter-lang": "cql2-json"}
        found: list[StacItem] = []
        try:
            found = [item async for item in self._client.search(body)]
        except InvalidArgument as error:
            log.info("UP42 cannot be asked for all results of jobs: %s", error)
        jobs = _by_job(found)
        if not jobs and self._index.has_results:
            jobs = _by_job(await self._items_of_results())
        return jobs

    async def _items_of_results(self) -> list[StacItem]:
        results = [asset for asset in self._index.assets.values() if asset.source in RESULTS]
        found: list[StacItem] = []
        for first in range(0, len(results), TOGETHER):
            several: list[Asset] = results[first : first + TOGETHER]
            await self._items.learn(several)
            for asset in several:
                found += await self._items.of_asset(asset)
        return found


def _by_job(items: Iterable[StacItem]) -> Found:
    found: dict[str, frozenset[str]] = {}
    for item in items:
        if item.job_id is not None:
            found[item.job_id] = found.get(item.job_id, frozenset()) | delivered_as(item)
    return found

"""Answers of the service that are shown while they age: the old one at once, a fresh one behind.

Knows nothing of what is asked. For listings where a look from memory is worth more than the last
minute's news; a listing that must be current asks by `Flights` itself.

Theory. An answer is *fresh* for `fresh_s` seconds from when it was asked. After that it is still
given out at once, and its next use starts one flight behind it. A refresh that fails leaves the
answer as it is and is tried again after a pause; one that says the thing is gone removes it.
Answers may be *kept* across mounts: the first use of one is like that of an aged one.
Only who asks something unknown waits, and gets the error if it fails; errors are not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import trio
from cachetools import LRUCache

from up42fs.catalog.single_flight import Flights
from up42fs.deadlines import patient_s
from up42fs.errors import NotFound, Up42fsError

log = logging.getLogger(__name__)

#: Pause before a failed refresh is tried again, seconds.
PAUSE_AFTER_FAILURE_S = patient_s(5.0)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Q = TypeVar("Q", bound=Hashable, contravariant=True)


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V
    fresh_until_s: float


class Keeper(Protocol[Q, V]):
    """Where answers are kept across mounts (see `kept.Kept`)."""

    async def load(self, key: Q, /) -> V | None:
        """The answer that was kept."""
        ...

    async def save(self, key: Q, value: V | None, /) -> None:
        """Keep an answer, or None where what it is about is gone."""
        ...


class Answers(Generic[K, V]):
    """Answers by question, least recently used dropped first.

    `weigh` tells what an answer counts against `most`; a single one above it is not kept.
    """

    def __init__(
        self,
        flights: Flights[K, V],
        ask: Callable[[K], Awaitable[V]],
        *,
        fresh_s: float,
        most: int,
        weigh: Callable[[V], int],
        keeper: Keeper[K, V] | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._flights = flights
        self._ask = ask
        self._fresh_s = fresh_s
        self._kept: LRUCache[K, _Answer[V]] = LRUCache(most, lambda answer: weigh(answer.value))
        self._weigh = weigh
        self._keeper = keeper
        self._clock = clock

    async def get(self, key: K) -> V:
        """The answer in memory, else a kept or fetched one; raises an `Up42fsError`."""
        answer = self._kept.get(key) or await self._recall(key)
        if answer is None:
            return await self._flights.join(key, partial(self._fetch, key))
        if self._clock() >= answer.fresh_until_s:
            self._flights.start(key, partial(self._fetch, key))
        return answer.value

    async def _recall(self, key: K) -> _Answer[V] | None:
        """The answer of an earlier mount, which has aged."""
        value = await self._keeper.load(key) if self._keeper is not None else None
        learned = self._kept.get(key)  # meanwhile
        if learned is not None or value is None or self._weigh(value) > self._kept.maxsize:
            return learned
        answer = self._kept[key] = _Answer(value, self._clock())
        return answer

    def known(self, key: K) -> V | None:
        """The answer in memory, however old; asks nothing."""
        answer = self._kept.get(key)
        return None if answer is None else answer.value

    async def _fetch(self, key: K) -> V:
        asked_at_s = self._clock()
        try:
            value = await self._ask(key)
        except NotFound:
            self._kept.pop(key, None)
            if self._keeper is not None:
                await self._keeper.save(key, None)
            raise
        except Up42fsError as error:
            self._pause(key, error)
            raise
        if self._keeper is not None and self.known(key) != value:
            await self._keeper.save(key, value)
        if self._weigh(value) <= self._kept.maxsize:
            self._kept[key] = _Answer(value, asked_at_s + self._fresh_s)
        return value

    def _pause(self, key: K, error: Up42fsError) -> None:
        answer = self._kept.get(key)
        if answer is not None:
            log.debug("the last known answer stays: %s", error)
            again_s = self._clock() + PAUSE_AFTER_FAILURE_S
            self._kept[key] = replace(answer, fresh_until_s=again_s)

"""A cache of the service's answers that serves a stale one at once and refreshes it behind.

Use it for listings where an answer from memory is worth more than the last minute's changes; a
listing that must be current uses `Flights` directly.

Theory. An answer is *fresh* for `fresh_s` seconds from its request. A stale answer is still
returned at once, and its use starts one refresh in the background. Only the first request for an
unknown key waits, and raises the error if it fails; errors are not cached. Answers may be *kept*
across mounts, in the snapshot; one loaded from an earlier mount counts as stale.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

import trio
from cachetools import LRUCache

from up42fs.catalog.recorder import Recorder
from up42fs.deadlines import patient_s
from up42fs.errors import NotFound, Up42fsError
from up42fs.flights import Flights

log = logging.getLogger(__name__)

#: Pause before a failed refresh is retried, seconds.
PAUSE_AFTER_FAILURE_S = patient_s(5.0)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Cached(Generic[V]):
    value: V
    fresh_until_s: float


@dataclass(frozen=True, slots=True)
class StoredAnswers(Generic[K, V]):
    """Answers to one kind of question. `question` names one; `pack` and `unpack` encode it."""

    recorder: Recorder
    question: Callable[[K], str]
    pack: Callable[[V], bytes]
    unpack: Callable[[bytes], V]

    async def load(self, key: K) -> V | None:
        """The kept answer; None if there is none. Never raises."""
        return await trio.to_thread.run_sync(self._load, self.question(key))

    async def save(self, key: K, value: V | None) -> None:
        """Keep an answer; None removes it, because its subject is gone."""
        packed = None if value is None else await trio.to_thread.run_sync(self.pack, value)
        self.recorder.note_answer(self.question(key), packed)

    def _load(self, question: str) -> V | None:
        packed = self.recorder.snapshot.answer(question)
        try:
            return None if packed is None else self.unpack(packed)
        except (ValueError, TypeError, LookupError, OverflowError, zlib.error) as error:
            log.debug("the stored answer %s cannot be used: %s", question, error)
            return None


@dataclass(slots=True)
class Answers(Generic[K, V]):
    """Answers by question, LRU by the weights `weigh`; one heavier than `most` is not cached.

    Without `shows_stale` a stale answer is shown only if its refresh fails.
    """

    flights: Flights[K, V]
    ask: Callable[[K], Awaitable[V]]
    fresh_s: float
    most: int
    weigh: Callable[[V], int]
    keeper: StoredAnswers[K, V] | None = None
    shows_stale: bool = True
    _kept: LRUCache[K, _Cached[V]] = field(init=False)

    def __post_init__(self) -> None:
        weigh = self.weigh
        self._kept = LRUCache(self.most, lambda answer: weigh(answer.value))

    async def get(self, key: K) -> V:
        """The answer in memory, else a kept or fetched one; raises an `Up42fsError`."""
        answer = self._kept.get(key) or await self._recall(key)
        if answer is None:
            return await self.flights.join(key, partial(self._fetch, key))
        if trio.current_time() >= answer.fresh_until_s:
            if not self.shows_stale:
                return await self._refreshed(key, answer.value)
            self.flights.start(key, partial(self._fetch, key))
        return answer.value

    async def _refreshed(self, key: K, known: V) -> V:
        try:
            return await self.flights.join(key, partial(self._fetch, key))
        except NotFound:
            raise
        except Up42fsError:
            return known

    async def _recall(self, key: K) -> _Cached[V] | None:
        """Load the answer of an earlier mount, as stale."""
        value = await self.keeper.load(key) if self.keeper is not None else None
        learned = self._kept.get(key)  # another task may have fetched it meanwhile
        if learned is not None or value is None or self.weigh(value) > self._kept.maxsize:
            return learned
        answer = self._kept[key] = _Cached(value, trio.current_time())
        return answer

    async def recall(self, key: K) -> V | None:
        """The answer in memory, else the one of an earlier mount, however old; sends no request."""
        answer = self._kept.get(key) or await self._recall(key)
        return None if answer is None else answer.value

    def known(self, key: K) -> V | None:
        """The answer in memory, however old; sends no request."""
        answer = self._kept.get(key)
        return None if answer is None else answer.value

    async def _fetch(self, key: K) -> V:
        asked_at_s = trio.current_time()
        try:
            value = await self.ask(key)
        except NotFound:
            # The subject is gone, and so is the answer.
            self._kept.pop(key, None)
            if self.keeper is not None:
                await self.keeper.save(key, None)
            raise
        except Up42fsError as error:
            # The stale answer stays; the refresh is retried after a pause.
            self._pause(key, error)
            raise
        if self.keeper is not None and self.known(key) != value:
            await self.keeper.save(key, value)
        if self.weigh(value) <= self._kept.maxsize:
            self._kept[key] = _Cached(value, asked_at_s + self.fresh_s)
        return value

    def _pause(self, key: K, error: Up42fsError) -> None:
        answer = self._kept.get(key)
        if answer is not None:
            log.debug("the last known answer stays: %s", error)
            again_s = trio.current_time() + PAUSE_AFTER_FAILURE_S
            self._kept[key] = replace(answer, fresh_until_s=again_s)

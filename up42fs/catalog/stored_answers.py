"""Keeps answers of the service in the snapshot: a listing made once is shown offline and at once.

Knows the snapshot and how an answer is encoded; `cached_answers` decides when to refresh.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import trio

from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot.snapshot import Snapshot

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class StoredAnswers(Generic[K, V]):
    """Answers to one kind of question. `question` names one; `pack` and `unpack` encode it."""

    def __init__(
        self,
        snapshot: Snapshot,
        recorder: Recorder,
        *,
        question: Callable[[K], str],
        pack: Callable[[V], bytes],
        unpack: Callable[[bytes], V],
    ) -> None:
        self._snapshot = snapshot
        self._recorder = recorder
        self._question = question
        self._pack = pack
        self._unpack = unpack

    async def load(self, key: K) -> V | None:
        """The kept answer; None if there is none. Never raises."""
        question = self._question(key)
        return await trio.to_thread.run_sync(self._load, question)

    async def save(self, key: K, value: V | None) -> None:
        """Keep an answer; None removes it, because its subject is gone."""
        packed = None if value is None else await trio.to_thread.run_sync(self._pack, value)
        self._recorder.note_answer(self._question(key), packed)

    def _load(self, question: str) -> V | None:
        packed = self._snapshot.answer(question)
        try:
            return None if packed is None else self._unpack(packed)
        except (ValueError, TypeError, LookupError, OverflowError, zlib.error) as error:
            log.debug("the stored answer %s cannot be used: %s", question, error)
            return None

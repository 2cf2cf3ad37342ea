"""Accounts for the reads of open files, and limits crowds to heads and tails.

A crowd is a program that opens every file it finds, unasked: an indexer, a thumbnailer. It may read
attributes and the head of a file, which shows its type and often its contents, and its tail; a read
between them is refused, since it would download the file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from up42fs.errors import CrowdRefused
from up42fs.fs.files.ledger import Account, Ledger
from up42fs.metrics import Metrics

log = logging.getLogger(__name__)

#: Bytes that a crowd may read from either end of a file.
HEAD_BYTES = 1 << 20
TAIL_BYTES = 128 << 10
#: Bytes of a program's name that the kernel stores.
_NAME_BYTES = 15


class Watch:
    """Accounts for opened files. `crowd` holds names of programs."""

    def __init__(
        self,
        ledger: Ledger,
        metrics: Metrics,
        crowd: frozenset[str] = frozenset(),
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._crowd = {_shortened(name) for name in crowd}
        self._clock = clock
        self._told: set[str] = set()

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    def is_crowd(self, program: str) -> bool:
        return program in self._crowd

    def open(self, object_id: str, *, name: str, size: int, program: str) -> Watched:
        account = self._ledger.open(object_id, name=name, size=size, program=program)
        if not self.is_crowd(program):
            return Watched(account, self._clock)
        self._metrics.count("fs.crowd_opens")
        return Watched(account, self._clock, lambda: self._refuse(account, program))

    def _refuse(self, account: Account, program: str) -> CrowdRefused:
        self._metrics.count("fs.crowd_refused")
        account.refused += 1
        what = f"{account.name}: {program} may read heads of files only; see the option crowd"
        if program not in self._told:
            self._told.add(program)
            log.info("%s (said once)", what)
        return CrowdRefused(what)


@dataclass(frozen=True, slots=True)
class Watched:
    """The account of an open file; `refuse` makes the error for a crowd, None for other readers."""

    account: Account
    clock: Callable[[], float]
    refuse: Callable[[], CrowdRefused] | None = None

    def check(self, offset: int, size: int) -> None:
        """Raise CrowdRefused if a crowd reads between head and tail."""
        stop = min(offset + size, self.account.size)
        if self.refuse and stop > HEAD_BYTES and offset < self.account.size - TAIL_BYTES:
            raise self.refuse()


def _shortened(name: str) -> str:
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")

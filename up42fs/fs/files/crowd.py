"""Accounts for the reads of open files, and limits crowds to heads and tails.

A crowd is a program that opens every file it finds, unasked: an indexer, a thumbnailer. It may read
attributes and the head of a file, which shows its type and often its contents, and its tail; a read
between them is refused, since it would download the file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from up42fs.errors import CrowdRefused, Up42fsError
from up42fs.fs.files.ledger import Account, Ledger
from up42fs.fs.files.ports import OpenFile
from up42fs.metrics import Metrics
from up42fs.types import ByteRange, Bytes

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
        """The accounts."""
        return self._ledger

    def is_crowd(self, program: str) -> bool:
        """Whether `program` is a crowd."""
        return program in self._crowd

    def open(
        self, file: OpenFile, object_id: str, *, name: str, size: int, program: str
    ) -> OpenFile:
        """Wrap `file`, opened by `program`, to account for its reads."""
        account = self._ledger.open(object_id, name=name, size=size, program=program)
        if self.is_crowd(program):
            self._metrics.count("fs.crowd_opens")
            return _CrowdFile(file, account, self._clock, lambda: self._refuse(account, program))
        return _WatchedFile(file, account, self._clock)

    def _refuse(self, account: Account, program: str) -> CrowdRefused:
        self._metrics.count("fs.crowd_refused")
        account.refused += 1
        what = f"{account.name}: {program} may read heads of files only; see the option crowd"
        if program not in self._told:
            self._told.add(program)
            log.info("%s (said once)", what)
        return CrowdRefused(what)


class _WatchedFile:
    """An open file whose reads are accounted for."""

    def __init__(self, file: OpenFile, account: Account, clock: Callable[[], float]) -> None:
        self._file = file
        self._account = account
        self._clock = clock

    async def read(self, offset: int, size: int) -> Bytes:
        """Read from the file."""
        began_s = self._clock()
        try:
            data = await self._file.read(offset, size)
        except Up42fsError as error:
            self._account.errors[type(error).__name__] += 1
            raise
        if len(data):
            span = ByteRange(offset, offset + len(data))
            self._account.note_read(span, self._clock() - began_s)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _CrowdFile(_WatchedFile):
    """An open file of which only head and tail can be read."""

    def __init__(
        self,
        file: OpenFile,
        account: Account,
        clock: Callable[[], float],
        refuse: Callable[[], CrowdRefused],
    ) -> None:
        super().__init__(file, account, clock)
        self._refuse = refuse

    async def read(self, offset: int, size: int) -> Bytes:
        """Read the head or tail; raises CrowdRefused between them."""
        stop = min(offset + size, self._account.size)
        if stop > HEAD_BYTES and offset < self._account.size - TAIL_BYTES:
            raise self._refuse()
        return await super().read(offset, size)


def _shortened(name: str) -> str:
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")

"""Accounts for the reads of open files, for `status` and `explain`, and limits crowds.

A crowd is a program that opens every file it finds, unasked: an indexer, a thumbnailer, a backup.
It may read attributes and the head of a file, which shows its type and often its contents, and its
tail; a read between them is refused, since it would download the file. How long the head may be is
set for each program: nothing at all for those that have no use for a part. The end of a packed
member is no tail: all before it would be inflated.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import trio
from cachetools import LRUCache

from up42fs.errors import CrowdRefused
from up42fs.metrics import Metrics
from up42fs.ranges import RangeSet, coalesce
from up42fs.timeline import Timeline
from up42fs.types import ByteRange

log = logging.getLogger(__name__)

#: Files kept; the least recently opened are evicted first.
MOST_FILES = 1024
#: Ranges kept of a file; more are merged across ever larger gaps.
MOST_SPANS = 1024
#: Bytes of a file's end that a crowd may read, if its head may be as long.
TAIL_BYTES = 128 << 10
#: A crowd that may read so much of each file may look into zips as well: that costs less, bytes.
LOOK_BYTES = 4 << 20
#: Programs that can use all of a file or nothing: where the whole is more than they may read,
#: they fail at once, and the file manager takes the thumbnail that `up42fs thumbnail` makes.
WHOLE_ONLY = ("tumblerd", "gdk-pixbuf-thumbnailer")
#: Bytes of a program's name that the kernel stores.
_NAME_BYTES = 15


@dataclass(slots=True)
class FileReads:
    """The reads of one file since the mount was made. Times in seconds."""

    name: str
    size: int
    opens: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    reads: int = 0
    bytes_read: int = 0
    waited_s: float = 0.0
    slowest_s: float = 0.0
    spans: RangeSet = field(default_factory=RangeSet)
    #: First reads of bytes, on trio's clock. A repeated read is not in it.
    timeline: Timeline = field(default_factory=Timeline)
    gap_bytes: int = 4096

    def note_read(self, span: ByteRange, took_s: float, now_s: float) -> None:
        """Record that a reader got the bytes of `span` at `now_s`, after `took_s` seconds."""
        self.reads += 1
        self.bytes_read += len(span)
        self.waited_s += took_s
        self.slowest_s = max(self.slowest_s, took_s)
        if not self.spans.covers(span):
            self._note_first(span, now_s - took_s, now_s)

    def note_hit(self, start: int, stop: int, clock: Callable[[], float]) -> None:
        """Record a read of `[start, stop)` that took no time worth measuring."""
        self.reads += 1
        self.bytes_read += stop - start
        if not self.spans.holds(start, stop):
            now_s = clock()
            self._note_first(ByteRange(start, stop), now_s, now_s)

    def _note_first(self, span: ByteRange, began_s: float, now_s: float) -> None:
        """Record bytes of which some were not read before."""
        self.timeline.note(span, began_s, now_s)
        self.spans.add(span)
        if self.spans.count > MOST_SPANS:
            self._simplify()

    def _simplify(self) -> None:
        while self.spans.count > MOST_SPANS // 2:  # to half, so that this runs seldom
            self.spans = RangeSet(coalesce(self.spans, self.gap_bytes))
            self.gap_bytes *= 4

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "programs": dict(self.opens.most_common()),
            "reads": self.reads,
            "refused": self.refused,
            "bytes_read": self.bytes_read,
            "bytes_touched": self.spans.total,
            "waited_seconds": round(self.waited_s, 3),
            "slowest_seconds": round(self.slowest_s, 3),
            "errors": dict(self.errors),
        }


class Ledger:
    """The accounts of one mount, by object ID."""

    def __init__(self) -> None:
        self._accounts: LRUCache[str, FileReads] = LRUCache(MOST_FILES)

    def open(self, object_id: str, *, name: str, size: int, program: str) -> FileReads:
        account = self._accounts.get(object_id)
        if account is None or account.size != size:
            account = self._accounts[object_id] = FileReads(name, size)
        account.opens[program] += 1
        return account

    def account(self, object_id: str) -> FileReads | None:
        """The account of one object; None if it was never opened."""
        return self._accounts.get(object_id)

    def explain(self, object_id: str) -> dict[str, Any] | None:
        """The account of one object with its `ranges`; None if it was never opened.

        `ranges` are [start, stop) pairs, in bytes.
        """
        account = self.account(object_id)
        if account is None:
            return None
        return account.describe() | {"ranges": [[span.start, span.stop] for span in account.spans]}

    def top_program(self) -> str | None:
        """The program that opened the files of which most was read; None if nothing was."""
        read: Counter[str] = Counter()
        for account in self._accounts.values():
            for program, opens in account.opens.items():
                read[program] += account.bytes_read * opens // account.opens.total()
        found = read.most_common(1)
        return found[0][0] if found and found[0][1] else None

    def top(self, most: int = 10) -> list[Mapping[str, Any]]:
        """The files with the most bytes read."""
        read = [account for account in self._accounts.values() if account.reads]
        read.sort(key=lambda account: account.bytes_read, reverse=True)
        return [account.describe() for account in read[:most]]


class Watch:
    """Accounts for opened files. `crowd`: bytes of a file's head that each program may read."""

    def __init__(
        self,
        ledger: Ledger,
        metrics: Metrics,
        crowd: Mapping[str, int] = MappingProxyType({}),
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.ledger = ledger
        self._metrics = metrics
        self._crowd = {_shortened(name): head_bytes for name, head_bytes in crowd.items()}
        self._clock = clock
        self._told: set[str] = set()

    def is_crowd(self, program: str) -> bool:
        return program in self._crowd

    def may_look(self, program: str) -> bool:
        """Whether a program may cause the request that a look into a zip takes."""
        return self._crowd.get(program, LOOK_BYTES) >= LOOK_BYTES

    def open(
        self, object_id: str, *, name: str, size: int, program: str, has_tail: bool = True
    ) -> Watched:
        """Account for an opened file. Without `has_tail` its end costs as much as all of it."""
        account = self.ledger.open(object_id, name=name, size=size, program=program)
        if not self.is_crowd(program):
            return Watched(account, self._clock)
        self._metrics.count("fs.crowd_opens")
        head_bytes = self._crowd[program]
        if size > head_bytes and program in map(_shortened, WHOLE_ONLY):
            head_bytes = 0
        return Watched(
            account,
            self._clock,
            lambda: self._refuse(account, program, head_bytes),
            head_bytes=head_bytes,
            tail_bytes=min(TAIL_BYTES, head_bytes) if has_tail else 0,
        )

    def _refuse(self, account: FileReads, program: str, head_bytes: int) -> CrowdRefused:
        self._metrics.count("fs.crowd_refused")
        account.refused += 1
        allowed = f"only the first {head_bytes:,} bytes of a file" if head_bytes else "no file"
        if not head_bytes and self._crowd[program]:
            allowed = f"no file of more than {self._crowd[program]:,} bytes"
        what = f"{account.name}: {program} may read {allowed}; see the option crowd"
        if program not in self._told:
            self._told.add(program)
            log.info("%s (said once)", what)
        return CrowdRefused(what)


@dataclass(frozen=True, slots=True)
class Watched:
    """The account of an open file; `refuse` makes the error for a crowd, None for other readers."""

    account: FileReads
    clock: Callable[[], float]
    refuse: Callable[[], CrowdRefused] | None = None
    head_bytes: int = 0
    tail_bytes: int = 0

    def check(self, offset: int, size: int) -> None:
        """Raise CrowdRefused if a crowd reads between head and tail."""
        stop = min(offset + size, self.account.size)
        if self.refuse and stop > self.head_bytes and offset < self.account.size - self.tail_bytes:
            raise self.refuse()


def _shortened(name: str) -> str:
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")

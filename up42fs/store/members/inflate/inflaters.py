"""All inflating of one store: two at a time, states that rest, and where they count.

Knows runs and their limits; nothing of members' bytes.

Theory. Two inflaters use the processor at once, and two go on for readers that were told to come
back later; everything else waits its turn by chunks. A run that nobody wants rests with its state
for `REST_S`, or until `MOST_RESTING` others rest, so that a reader that goes on finds it. Parts of
packed members have slots of their own: those of the network are needed by the bytes that they wait
for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from up42fs import supervise
from up42fs.deadlines import LISTING_S, at_most_s, patient_s
from up42fs.readahead.plan import Access
from up42fs.store.buffers import Buffers
from up42fs.store.disk.cache import DiskCache, Runner
from up42fs.store.fetcher import Fetcher
from up42fs.store.handle import OpenFile
from up42fs.store.members.inflate.patience import LONGEST_S
from up42fs.store.members.inflate.run import Run
from up42fs.store.memory import MemoryCache
from up42fs.store.part import Carrier, Part
from up42fs.store.slots import Slots
from up42fs.types import Version

T = TypeVar("T")

#: Inflaters that use the processor at once.
MOST_RUNNING = 2
#: Runs that go on for readers which were told to come back later, at once.
MOST_BEHIND = 2
#: How long the state of a run that nobody wants is kept, seconds, and how many are.
REST_S = patient_s(60.0)
MOST_RESTING = 8
#: A run that rests for longer keeps other mounts from nothing any more, seconds.
QUIET_S = 2.0
#: Parts of packed members that wait at once, and those of them that nobody waits for.
_MOST_PARTS = 64
_MOST_PARTS_AHEAD = 48


@dataclass(frozen=True, slots=True)
class Upstream:
    """The way to the packed bytes of a member: `fetcher` holds the archive from `base` on."""

    fetcher: Fetcher
    base: int
    open: Callable[[Access], OpenFile]

    @property
    def version(self) -> Version | None:
        """The archive's version, if it is known."""
        return self.fetcher.source.pin.version


async def to_its_end(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Run `job` in a worker thread; cancellation waits for it, since it uses its run's memory."""
    return await trio.to_thread.run_sync(job, limiter=limiter)


class _Held:
    """The memory of a run, which counts against the budget of parts."""

    in_use = True

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def held_bytes(self) -> int:
        """Bytes that count against the budget."""
        return self._run.held_bytes

    def evict(self) -> None:
        """Never called: it is in use."""


class Inflaters:
    """The state that all packed members of a store share."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        cache: MemoryCache,
        buffers: Buffers,
        disk: DiskCache | None,
        run_part: Callable[[tuple[Carrier, Part]], Awaitable[None]],
        run: Runner,
    ) -> None:
        """`run` runs an engine's work in a thread."""
        self.cache = cache
        self.buffers = buffers
        self.disk = disk
        self.slots: Slots[tuple[Carrier, Part]] = Slots(
            nursery, run_part, total=_MOST_PARTS, ahead=_MOST_PARTS_AHEAD, group=lambda job: job[0]
        )
        self.threads = trio.CapacityLimiter(MOST_RUNNING)
        self.behind = trio.Semaphore(MOST_BEHIND)
        self.run = run
        self._nursery = nursery
        self._runs: dict[Run, _Held] = {}
        self._resting: OrderedDict[Run, None] = OrderedDict()
        self._is_closed = False

    @property
    def longest_s(self) -> float:
        """The longest that a read of a packed member may take, seconds."""
        # A request of the kernel must be answered before its own deadline.
        return min(patient_s(LONGEST_S), 0.97 * at_most_s(patient_s(LISTING_S)))

    @property
    def running(self) -> int:
        """Runs that somebody wants."""
        return len(self._runs) - len(self._resting)

    @property
    def resting(self) -> int:
        """Runs that rest."""
        return len(self._resting)

    def start(self, run: Run) -> None:
        """Start a run."""
        held = self._runs[run] = _Held(run)
        self.cache.add(held)
        supervise.start(self._nursery, run.go)

    def ended(self, run: Run) -> None:
        """A run is over."""
        held = self._runs.pop(run, None)
        if held is not None:
            self.cache.remove(held)

    def recount(self, run: Run) -> None:
        """Count the memory of a run once more: its engine was made."""
        held = self._runs.get(run)
        if held is not None:
            self.cache.recount(held)

    async def rest(self, run: Run, on_quiet: Callable[[], None]) -> bool:
        """Return when a run is wanted again; False once it has rested for long enough.

        `on_quiet` is called if that is not within `QUIET_S`; until then it keeps its requests.
        """
        run.woken = trio.Event()
        self._resting[run] = None
        while len(self._resting) > MOST_RESTING:
            self._resting.popitem(last=False)[0].evict()
        try:
            with trio.move_on_after(QUIET_S):
                await run.woken.wait()
            if not run.woken.is_set():
                run.pause()
                on_quiet()
                with trio.move_on_after(REST_S):
                    await run.woken.wait()
        finally:
            self._resting.pop(run, None)
        return run.woken.is_set() and not run.is_evicted

    def close(self) -> None:
        """End all runs."""
        self._is_closed = True
        for run in list(self._runs):
            run.cancel()

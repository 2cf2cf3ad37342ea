"""Shares one request to the service among all tasks that need its answer at the same moment.

Theory. A *flight* is one request under way. It runs in the given nursery and not in the first
caller's task: that reader may be interrupted while others still wait. It has its own deadline, so
no caller waits for ever. All callers waiting at its end get its answer or its error; neither is
cached here. A caller whose own deadline is earlier learns the flight's last error (see
`deadlines.Trouble`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from up42fs import supervise
from up42fs.deadlines import Trouble, awaiting, watched, within
from up42fs.errors import Unavailable, Up42fsError, copied

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Flight(Generic[V]):
    error: Up42fsError
    trouble: Trouble = field(default_factory=Trouble)
    landed: trio.Event = field(default_factory=trio.Event)
    #: One value once it is known; a tuple, since None may be an answer.
    answer: tuple[V] | None = None


class Flights(Generic[K, V]):
    """Flights by key. `doing` describes one in messages, "listing items", and may use `{key}`."""

    def __init__(self, nursery: trio.Nursery, doing: str, *, timeout_s: float) -> None:
        self._nursery = nursery
        self._doing = doing
        self._timeout_s = timeout_s
        self._flights: dict[K, _Flight[V]] = {}

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The answer of the flight under way, or of a new one that does `work`."""
        flight = self.start(key, work)
        with awaiting(flight.trouble):
            await flight.landed.wait()
        if flight.answer is None:
            raise copied(flight.error) from flight.error
        return flight.answer[0]

    async def briefly(
        self, key: K, work: Callable[[], Awaitable[V]], seconds: float, most: int
    ) -> tuple[V] | None:
        """Like `join`; None if that takes longer, or `most` others are under way already."""
        if len(self._flights) >= most and key not in self._flights:
            return None
        with trio.move_on_after(seconds):
            return (await self.join(key, work),)
        return None

    def start(self, key: K, work: Callable[[], Awaitable[V]]) -> _Flight[V]:
        """Start a flight without waiting for it, unless one is under way; return it."""
        flight = self._flights.get(key)
        if flight is None:
            doing = self._doing.format(key=key)
            flight = _Flight(Unavailable(f"{doing} was given up: the mount is being ended"))
            supervise.start(self._nursery, self._run, key, flight, work)
            self._flights[key] = flight
        return flight

    async def _run(self, key: K, flight: _Flight[V], work: Callable[[], Awaitable[V]]) -> None:
        doing = self._doing.format(key=key)
        late = (
            f"{doing} took longer than {self._timeout_s:.0f} s; "
            "the network or UP42 is slow: try again"
        )
        try:
            with watched(flight.trouble), within(self._timeout_s, late):
                flight.answer = (await work(),)
        except Up42fsError as error:
            flight.error = error
        except Exception as error:
            flight.error = supervise.failure(error, doing)
            raise
        finally:
            del self._flights[key]
            flight.landed.set()

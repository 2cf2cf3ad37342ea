"""Limits the edits that wait for UP42: how many run, and how long others wait for a place.

Theory. Any thread of any program may begin an edit, and while UP42 is silent each one waits for its
whole deadline. Edits that wait their turn behind those would wait for several deadlines, and take
the tasks that other rare requests need (a `close` of a sidecar). While UP42 answers, places become
free all the time, so an edit may wait for one. If no place has become free for `STUCK_S`, all that
wait are refused, and so is each new one until an edit ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from up42fs.deadlines import request_s
from up42fs.errors import Overloaded

#: Edits that run at a time, and that wait for a place.
MOST_RUNNING = 32
MOST_WAITING = 96
#: After so long without an edit that ended, UP42 counts as silent, seconds.
STUCK_S = request_s(3.0)


class EditQueue:
    """The edits of one mount, in the order of their arrival."""

    def __init__(self) -> None:
        self._places = trio.Semaphore(MOST_RUNNING)
        self._waiting = 0
        self._progress_s = 0.0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places; raises Overloaded, and then nothing was begun."""
        await self._take()
        try:
            yield
        finally:
            self._progress_s = trio.current_time()
            self._places.release()

    async def _take(self) -> None:
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._wait()
        else:
            self._progress_s = trio.current_time()

    async def _wait(self) -> None:
        if self._waiting >= MOST_WAITING:
            raise _overloaded(f"and {MOST_WAITING} for their turn")
        self._waiting += 1
        try:
            while (left_s := self._progress_s + STUCK_S - trio.current_time()) > 0:
                with trio.move_on_after(left_s):
                    await self._places.acquire()
                    return
        finally:
            self._waiting -= 1
        raise _overloaded("and UP42 answers none of them")


def _overloaded(why: str) -> Overloaded:
    return Overloaded(
        f"{MOST_RUNNING} edits wait for UP42 already, {why}: this one was not begun; try again"
    )

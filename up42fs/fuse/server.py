"""Serves the kernel's device: leads its requests to their answers, many of which never wait.

Theory. pyfuse3 spends 100 µs on a request, most of it on its own tasks and objects, holds Python's
lock while the kernel copies an answer, and lists directories only with all attributes. A walk of a
large storage is hundreds of thousands of requests that memory answers in 10 µs. So:

1. One task leads: it reads a request from the `device` and awaits its answer itself (`answers`).
   Most handlers never wait, and then the leader reads on: no task, no lock, no turn of the event
   loop.
2. When a handler does wait, another task takes the lead at that very moment (`_announced`); the
   one that waited ends with its answer. So there is always exactly one reader of the device. If too
   many wait (`Places`) a handler may only try: its first wait is cancelled, and the request kept.
3. While readers are busy, a client that asks for names without end is made to pause (`Shares`).
4. The leader gives way to the other tasks after `LEAD_S` at the latest, sooner if requests wait.
5. Requests that come rarely go to libfuse (`passage`).

Interrupts end waiting requests that only read (`interrupts`); edits are carried out, and answered
within their deadline.
"""

from __future__ import annotations

import errno
import math
import socket
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import trio

from up42fs import supervise
from up42fs.fuse import protocol
from up42fs.fuse.answers import DeviceAnswers
from up42fs.fuse.boundary import (
    METADATA_DEADLINE_S,
    READ_DEADLINE_S,
    Limit,
    forget_latest,
    late,
    limit_of_latest,
    without_deadlines,
)
from up42fs.fuse.device import Device
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.interrupts import Interrupts, Wait
from up42fs.fuse.load import HeldRequest, Places, Shares
from up42fs.fuse.passage import Passage
from up42fs.fuse.protocol import Opcode, RequestHead

#: The longest that the leader may keep the event loop from other tasks, seconds: while no other
#: request waits, and while some do.
LEAD_S = 0.002
BUSY_LEAD_S = 0.000_3
#: Interval between checks for requests whose deadline passed without a place, seconds.
_LATE_S = 0.25
#: Pause of the leader after an internal error, seconds.
_DEFECT_PAUSE_S = 0.05

#: What storms consist of. The others are few for each file, or answered by a client that waits.
_STORMY = frozenset(
    {
        Opcode.LOOKUP,
        Opcode.GETATTR,
        Opcode.OPENDIR,
        Opcode.READDIR,
        Opcode.READDIRPLUS,
        Opcode.GETXATTR,
        Opcode.LISTXATTR,
    }
)
#: Requests that change nothing, so that a signal may end their wait.
_ENDABLE = _STORMY | {Opcode.OPEN, Opcode.READ, Opcode.STATFS}
R = TypeVar("R")


@dataclass(slots=True)
class _Turn:
    """A task's time as leader. `scope` ends what its first waiting request waits for.

    To enter a scope for each request costs a quarter of one that does not wait. So there is one a
    task, without a deadline until a request waits; the task is that request's from then on.
    `places` are those that it takes one of: None as long as this task leads.
    """

    scope: trio.CancelScope
    waiting: RequestHead | None = None
    limit: Limit | None = None
    places: Places | None = None

    def wait_for(self, request: RequestHead, limit: Limit | None) -> None:
        """The handler of `request` begins to wait."""
        self.waiting, self.limit = request, limit
        if limit is not None:
            self.scope.deadline = trio.current_time() + limit.seconds

    def lead_on(self) -> None:
        """It is answered, and no other task leads."""
        self.waiting, self.limit = None, None
        self.scope.deadline = math.inf


class Server:
    """Serves one mount until it is unmounted, or stopped."""

    def __init__(
        self, device_fd: int, libfuse: socket.socket, handlers: Handlers, *, uid: int, gid: int
    ) -> None:
        """`libfuse` is the near end of a SEQPACKET pair; the caller closes both descriptors."""
        self._device = device = Device(device_fd)
        self._passage = Passage(device, libfuse)
        #: Passes libfuse's answers on until cancelled.
        self.relay = self._passage.relay
        #: Set when the device reports that the mount is gone.
        self.is_gone = device.is_gone
        #: Reads no more requests.
        self.stop = device.stop
        self._handlers = without_deadlines(handlers)
        self._reads, self._others = Places(), Places()
        self._late_keeper_runs = False
        self._shares = Shares()
        self._answers = DeviceAnswers(
            device,
            self._handlers,
            self._shares,
            uid=uid,
            gid=gid,
            otherwise=self._passage.pass_on,
        )
        self._answers.by_opcode[Opcode.INTERRUPT] = self._interrupt

    async def serve(self) -> None:
        """Serve until the mount is gone, or `stop` was called and the last answer was sent."""
        self._device.begin()
        async with trio.open_nursery() as self._nursery:
            self._interrupts = Interrupts(self._nursery)
            self._nursery.start_soon(self._lead)

    def end_waits(self) -> None:
        """Fail all requests that wait and change nothing, now and later."""
        self._interrupts.end_all()

    async def _interrupt(self, _: RequestHead) -> None:
        self._interrupts.interrupted(protocol.handle(self._device.view))

    # reading -------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """Lead until another task does, or the mount has ended; survives internal errors."""
        while True:
            try:
                await self._follow_requests()
                return
            except trio.BusyResourceError:
                return  # another task leads
            except Exception as error:
                supervise.report(self._lead, error)
            with suppress(MemoryError):  # then it reads on at once
                await trio.sleep(_DEFECT_PAUSE_S)

    async def _follow_requests(self) -> None:
        """Read and answer until another task has taken the lead, or the mount has ended."""
        while not self._device.is_ended:
            with trio.CancelScope() as scope:
                turn = _Turn(scope)
                try:
                    await self._take(turn)
                except Exception:
                    if turn.waiting is not None and turn.places is not None:
                        self._over(turn.waiting, turn.places)
                    raise
            if scope.cancelled_caught and turn.waiting is not None:
                self._refuse_cancelled(turn.waiting, turn.limit, scope)
            if turn.places is not None:
                await self._leave(turn.waiting, turn.places)
                return

    async def _take(self, turn: _Turn) -> None:
        until = perf_counter() + self._lead_s
        while not self._device.is_ended:
            request = self._device.next()
            if request is None:
                if not await self._device.readable():
                    return
                until = perf_counter() + self._lead_s
                continue
            began_s = perf_counter()
            if request.opcode in _STORMY:
                pause_s = self._shares.pause_s(request.pid, began_s)
                if pause_s and self._put_off(request, pause_s):
                    continue
            await self._follow_up(request, turn)
            if turn.places is not None:
                return
            now_s = perf_counter()
            is_read = request.opcode == Opcode.READ
            took_s = now_s - began_s
            if not is_read:
                # More is work that is done once, as to group a storage by tags. Its client is no
                # storm for that, which would make the rest of an `ls` wait.
                took_s = min(took_s, LEAD_S)
            self._shares.took(request.pid, took_s, now_s, is_read=is_read)
            if now_s > until:
                await trio.lowlevel.checkpoint()
                until = perf_counter() + self._lead_s

    def _put_off(self, request: RequestHead, pause_s: float) -> bool:
        """Answer a request after a pause; False where there is no room to keep it."""
        if self._others.are_full:
            return False
        until_s = trio.current_time() + METADATA_DEADLINE_S
        try:
            held = HeldRequest(request, bytes(self._device.view[: request.length]), until_s)
            supervise.start(self._nursery, self._answer_later, held, pause_s)
        except MemoryError:
            return False
        self._others.take()
        return True

    async def _answer_later(self, held: HeldRequest, pause_s: float) -> None:
        try:
            await trio.sleep(pause_s)
            began_s = perf_counter()
            await self._answer_held(held)
            now_s = perf_counter()
            self._shares.took(held.head.pid, min(now_s - began_s, LEAD_S), now_s, is_read=False)
        except Exception as error:
            self._device.refuse(held.head.unique, error, self._answer_later)
        await self._leave(held.head, self._others)

    @property
    def _lead_s(self) -> float:
        return BUSY_LEAD_S if len(self._interrupts) else LEAD_S

    async def _follow_up(self, request: RequestHead, turn: _Turn) -> None:
        """Answer one request; where it waits, another task leads afterwards."""
        places = self._reads if request.opcode == Opcode.READ else self._others
        if places.are_full and request.opcode in _ENDABLE:
            await self._try(request, places)
            return

        def waits() -> None:
            turn.wait_for(request, limit_of_latest())
            try:
                self._nursery.start_soon(self._lead)
            except MemoryError:
                return  # no room for another task: this one leads on, after its answer
            turn.places = places
            places.take()
            with suppress(MemoryError):  # then no signal ends it
                self._note_wait(request, turn.scope)

        forget_latest()
        await _announced(self._answers.answer(request), waits)
        if turn.waiting is not None and turn.places is None:
            turn.lead_on()

    async def _leave(self, request: RequestHead | None, places: Places) -> None:
        """A request that waited is answered: its place is another's, if there is one."""
        assert request is not None, "or there would be no place"
        self._over(request, places)
        while (held := places.next()) is not None:
            places.take()
            try:
                await self._answer_held(held)
            finally:
                self._over(held.head, places)

    def _note_wait(self, request: RequestHead, scope: trio.CancelScope) -> None:
        """The handler of a request begins to wait; cancelling `scope` ends it."""
        if request.opcode in _ENDABLE:
            is_deaf = request.opcode == Opcode.READ and protocol.is_direct(self._device.view)
            self._interrupts.begin(request.unique, Wait(request.pid, scope.cancel, is_deaf))

    def _refuse_cancelled(
        self, request: RequestHead, limit: Limit | None, scope: trio.CancelScope
    ) -> None:
        """Answer a request whose wait ended with its time, or with its reader."""
        number = self._ended_wait_errno
        if trio.current_time() >= scope.deadline:
            operation = limit.operation if limit is not None else "request"
            number = late(self._handlers, operation)
        self._device.send(protocol.refusal(request.unique, number))

    @property
    def _ended_wait_errno(self) -> int:
        """Of a wait that ends with its reader, or like the kernel's own at the mount's end."""
        return errno.ECONNABORTED if self._device.is_ended else errno.EINTR

    def _over(self, request: RequestHead, places: Places) -> None:
        self._interrupts.over(request.unique)
        places.leave()

    async def _try(self, request: RequestHead, places: Places) -> None:
        """Answer a request without letting it wait, or hold it until there is a place."""
        message = bytes(self._device.view[: request.length])
        with trio.CancelScope() as trial:
            trial.cancel()
            await self._answers.answer(request)
        if not trial.cancelled_caught:
            return
        limit_s = READ_DEADLINE_S if places is self._reads else METADATA_DEADLINE_S
        places.hold(HeldRequest(request, message, trio.current_time() + limit_s))

        def end() -> None:
            if places.withdraw(request.unique):
                self._interrupts.over(request.unique)
                self._device.send(protocol.refusal(request.unique, self._ended_wait_errno))

        self._interrupts.begin(request.unique, Wait(request.pid, end))
        if not self._late_keeper_runs:
            supervise.start_for_good(self._nursery, self._refuse_late)
            self._late_keeper_runs = True

    async def _answer_held(self, held: HeldRequest) -> None:
        """Answer a held request that got a place; its deadline counts from its arrival."""
        self._interrupts.over(held.head.unique)
        # The buffer is free: each request is parsed before the next one is read.
        self._device.put_back(held.message)
        limit: Limit | None = None

        def waits() -> None:
            nonlocal limit
            limit = limit_of_latest()
            self._note_wait(held.head, scope)

        forget_latest()
        with trio.CancelScope(deadline=held.until_s) as scope:
            await _announced(self._answers.answer(held.head), waits)
        if scope.cancelled_caught:
            self._refuse_cancelled(held.head, limit, scope)

    async def _refuse_late(self) -> None:
        """Refuse held requests whose deadline passed, until none are held."""
        try:
            while not self._device.is_ended:
                kept = [places for places in (self._reads, self._others) if len(places)]
                if not kept:
                    return
                await trio.sleep(_LATE_S)
                for places in kept:
                    while (held := places.late(trio.current_time())) is not None:
                        self._interrupts.over(held.head.unique)
                        self._device.send(protocol.refusal(held.head.unique, errno.ETIMEDOUT))
        finally:
            self._late_keeper_runs = False


@types.coroutine
def _announced(work: Coroutine[Any, Any, R], waits: Callable[[], None]) -> Generator[Any, Any, R]:
    """Await `work`; call `waits` when it first has to wait, and never if it does not."""
    try:
        trap = work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    waits()
    while True:
        failure: BaseException | None = None
        try:
            answer = yield trap
        except BaseException as error:
            failure = error
        try:
            trap = work.send(answer) if failure is None else work.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

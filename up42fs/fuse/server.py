"""Serves the kernel's device: answers frequent requests itself, passes the rest to libfuse.

Theory. pyfuse3 spends 100 µs on a request, most of it on its own tasks and objects, holds Python's
lock while the kernel copies an answer, and lists directories only with all attributes. A walk of a
large storage is hundreds of thousands of requests that memory answers in 10 µs. So:

1. One task leads: it reads a request and awaits its handler itself. Most handlers never wait, and
   then the leader reads on: no task, no lock, no turn of the event loop.
2. When a handler does wait, another task takes the lead at that very moment (`_announced`); the
   one that waited ends with its answer. So there is always exactly one reader of the device. If too
   many wait (`Places`) a handler may only try: its first wait is cancelled, and the request kept.
3. While readers are busy, a client that asks for names without end is made to pause (`Shares`).
4. A client that walks sends its next request some microseconds after an answer. The leader lingers
   for it in the kernel before it goes back to the event loop, which costs more than the request;
   and it gives way to the other tasks after `LEAD_S` at the latest, sooner if requests wait.
5. Requests that come rarely go to libfuse as they are, and its answers to the device as they are.
   These are small and few, so the socket never fills: nothing that carries data goes there.

Rules. The device is read without blocking: the kernel may take a request back between the poll and
the read. An answer that comes too late is dropped; references in it are given back, because the
kernel never saw them. Interrupts end waiting requests that only read (`interrupts`); edits are
carried out, and answered within their deadline.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import socket
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import pyfuse3
import trio

from up42fs import supervise
from up42fs.fs.tree.nodes import Absent
from up42fs.fuse import protocol
from up42fs.fuse.boundary import (
    METADATA_DEADLINE_S,
    READ_DEADLINE_S,
    Limit,
    forget_latest,
    late,
    limit_of_latest,
    without_deadlines,
)
from up42fs.fuse.callers import Onlookers
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.handshake import MAX_WRITE_BYTES
from up42fs.fuse.interrupts import Interrupts, Wait
from up42fs.fuse.load import HeldRequest, Places, Shares
from up42fs.fuse.protocol import Entries, Names, NamesPlus, Opcode, RequestHead

log = logging.getLogger(__name__)

#: The longest that the leader may keep the event loop from other tasks, seconds: while no other
#: request waits, and while some do.
LEAD_S = 0.002
BUSY_LEAD_S = 0.000_3
#: How long the leader may build one answer of a listing, seconds: if readers need the thread, and
#: otherwise. The kernel asks for the rest again. It has room for some thousands of names, which
#: would keep readers waiting for 12 ms, and each directory may have to be counted first.
BUSY_LISTING_S = 0.001
LISTING_S = 0.02
#: Interval between checks for requests whose deadline passed without a place, seconds.
_LATE_S = 0.25
#: How long the leader waits for the next request of the same client, seconds.
LINGER_S = 0.000_05
#: The kernel requires room for the largest WRITE and its head for every read.
_MESSAGE_BYTES = MAX_WRITE_BYTES + 4096
#: More is never made of it: some 16 times the largest request that was ever agreed on.
_MOST_MESSAGE_BYTES = 32 << 20
#: Of libfuse's answers, which carry no data.
_REPLY_BYTES = 64 * 1024
#: Pause of the leader after an internal error, seconds.
_DEFECT_PAUSE_S = 0.05
#: How long a handle that nobody received may take to close, seconds.
_RELEASE_S = 2.0
#: `select` does not accept larger descriptors.
_MOST_SELECTABLE = 1024

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
Answer = Callable[[RequestHead], Coroutine[Any, Any, None]]


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
        self._device_fd = device_fd
        self._libfuse = libfuse
        self._handlers = without_deadlines(handlers)
        self._owner = (uid, gid)
        self._entries = Entries(uid, gid)
        self._onlookers = Onlookers()
        self._message = bytearray(_MESSAGE_BYTES)
        self._view = memoryview(self._message)
        self._libfuse_reply = memoryview(bytearray(_REPLY_BYTES))
        self._is_ended = False
        #: Set when the device reports that the mount is gone.
        self.is_gone = trio.Event()
        self._reads, self._others = Places(), Places()
        self._late_keeper_runs = False
        self._shares = Shares()
        self._queue = trio.Lock()
        self._lingers = device_fd < _MOST_SELECTABLE
        self._answers: dict[int, Answer] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._forget,
            Opcode.GETATTR: self._getattr,
            Opcode.OPEN: self._open,
            Opcode.READ: self._read,
            Opcode.WRITE: self._write,
            Opcode.STATFS: self._statfs,
            Opcode.RELEASE: self._release,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.INTERRUPT: self._interrupt,
        }

    async def serve(self) -> None:
        """Serve until the mount is gone, or `stop` was called and the last answer was sent."""
        os.set_blocking(self._device_fd, False)
        async with trio.open_nursery() as self._nursery:
            self._interrupts = Interrupts(self._nursery)
            self._nursery.start_soon(self._lead)

    def stop(self) -> None:
        """Read no more requests."""
        self._is_ended = True
        trio.lowlevel.notify_closing(self._device_fd)

    def end_waits(self) -> None:
        """Fail all requests that wait and change nothing, now and later."""
        self._interrupts.end_all()

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
        while not self._is_ended:
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
        while not self._is_ended:
            request = self._next()
            if request is None:
                if not await self._readable():
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
            held = HeldRequest(request, bytes(self._view[: request.length]), until_s)
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
            self._defect(held.head.unique, error)
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
        await _announced(self._answered(request), waits)
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
            is_deaf = request.opcode == Opcode.READ and protocol.is_direct(self._view)
            self._interrupts.begin(request.unique, Wait(request.pid, scope.cancel, is_deaf))

    def _refuse_cancelled(
        self, request: RequestHead, limit: Limit | None, scope: trio.CancelScope
    ) -> None:
        """Answer a request whose wait ended with its time, or with its reader."""
        number = self._ended_wait_errno
        if trio.current_time() >= scope.deadline:
            operation = limit.operation if limit is not None else "request"
            number = late(self._handlers, operation)
        self._send(protocol.refusal(request.unique, number))

    @property
    def _ended_wait_errno(self) -> int:
        """Of a wait that ends with its reader, or like the kernel's own at the mount's end."""
        return errno.ECONNABORTED if self._is_ended else errno.EINTR

    def _over(self, request: RequestHead, places: Places) -> None:
        self._interrupts.over(request.unique)
        places.leave()

    async def _try(self, request: RequestHead, places: Places) -> None:
        """Answer a request without letting it wait, or hold it until there is a place."""
        message = bytes(self._view[: request.length])
        with trio.CancelScope() as trial:
            trial.cancel()
            await self._answered(request)
        if not trial.cancelled_caught:
            return
        limit_s = READ_DEADLINE_S if places is self._reads else METADATA_DEADLINE_S
        places.hold(HeldRequest(request, message, trio.current_time() + limit_s))

        def end() -> None:
            if places.withdraw(request.unique):
                self._interrupts.over(request.unique)
                self._send(protocol.refusal(request.unique, self._ended_wait_errno))

        self._interrupts.begin(request.unique, Wait(request.pid, end))
        if not self._late_keeper_runs:
            supervise.start_for_good(self._nursery, self._refuse_late)
            self._late_keeper_runs = True

    async def _answer_held(self, held: HeldRequest) -> None:
        """Answer a held request that got a place; its deadline counts from its arrival."""
        self._interrupts.over(held.head.unique)
        # The buffer is free: each request is parsed before the next one is read.
        self._message[: len(held.message)] = held.message
        limit: Limit | None = None

        def waits() -> None:
            nonlocal limit
            limit = limit_of_latest()
            self._note_wait(held.head, scope)

        forget_latest()
        with trio.CancelScope(deadline=held.until_s) as scope:
            await _announced(self._answered(held.head), waits)
        if scope.cancelled_caught:
            self._refuse_cancelled(held.head, limit, scope)

    async def _refuse_late(self) -> None:
        """Refuse held requests whose deadline passed, until none are held."""
        try:
            while not self._is_ended:
                kept = [places for places in (self._reads, self._others) if len(places)]
                if not kept:
                    return
                await trio.sleep(_LATE_S)
                for places in kept:
                    while (held := places.late(trio.current_time())) is not None:
                        self._interrupts.over(held.head.unique)
                        self._send(protocol.refusal(held.head.unique, errno.ETIMEDOUT))
        finally:
            self._late_keeper_runs = False

    async def _readable(self) -> bool:
        try:
            await trio.lowlevel.wait_readable(self._device_fd)
        except trio.ClosedResourceError:
            return False
        return True

    def _next(self) -> RequestHead | None:
        """Return the next request, or None; its bytes stay in `_view` until a handler waits."""
        while True:
            try:
                length = os.readv(self._device_fd, [self._message])
            except BlockingIOError:
                if not self._lingers or not select.select([self._device_fd], (), (), LINGER_S)[0]:
                    return None
            except OSError as error:
                if not self._is_readable_yet(error):
                    return None
            else:
                try:
                    return protocol.head(self._view[:length])
                except Exception as error:
                    self._defect(int.from_bytes(self._message[8:16], sys.byteorder), error)

    def _is_readable_yet(self, error: OSError) -> bool:
        """Whether to read on after `error`, which is raised if something is used up just now."""
        if error.errno == errno.ENOENT:
            return True  # taken back while it was read
        if error.errno == errno.EINVAL and self._has_grown():
            return True
        if supervise.is_short_of_anything(error):
            raise error  # `_lead` reads again after a pause
        self._is_ended = True
        self.is_gone.set()
        if error.errno != errno.ENODEV:
            log.warning("the FUSE device cannot be read: %s", error)
        return False

    def _has_grown(self) -> bool:
        """Make room for larger requests: the kernel says that some do not fit."""
        room = 2 * len(self._message)
        if room > _MOST_MESSAGE_BYTES:
            return False
        log.info("the kernel wants room for larger requests: %d KiB", room >> 10)
        self._message = bytearray(room)
        self._view = memoryview(self._message)
        return True

    # answering -----------------------------------------------------------------------------

    async def _answered(self, request: RequestHead) -> None:
        try:
            await self._answers.get(request.opcode, self._pass_on)(request)
        except pyfuse3.FUSEError as error:
            self._send(protocol.refusal(request.unique, error.errno))
        except Exception as error:
            self._defect(request.unique, error)

    def _defect(self, unique: int, error: Exception) -> None:
        """Answer with an error in any case: otherwise the program would wait, unkillable."""
        number = errno.ENOMEM if supervise.is_short_of_memory(error) else errno.EIO
        self._send(protocol.refusal(unique, number))
        supervise.report(self._answered, error)

    def _reply(self, request: RequestHead, body: protocol.Buffer) -> bool:
        """Send a reply; return False if the kernel no longer wants it."""
        head = protocol.reply_head(request.unique, len(body))
        try:
            os.writev(self._device_fd, (head, body))
        except OSError as error:
            if not self._is_late(error):
                self._send(protocol.refusal(request.unique, errno.EIO))
            return False
        return True

    def _send(self, message: protocol.Buffer) -> bool:
        try:
            os.write(self._device_fd, message)
        except OSError as error:
            self._is_late(error)
            return False
        return True

    def _is_late(self, error: OSError) -> bool:
        """Whether the kernel no longer wants the answer; logs any other reason."""
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return True
        log.error("the kernel refused an answer: %s", error)
        return False

    async def _lookup(self, request: RequestHead) -> None:
        name = protocol.name(self._view, request.length)
        found = await self._handlers.lookup(request.node, name)
        is_told = self._reply(request, self._entries.entry(found))
        if isinstance(found, Absent):
            return
        if not found.is_dir:
            self._onlookers.asked_for_file(request.pid, request.node)
        if not is_told:
            self._handlers.forget([(found.inode, 1)])

    async def _forget(self, request: RequestHead) -> None:
        self._handlers.forget(protocol.forgets(self._view, request))

    async def _getattr(self, request: RequestHead) -> None:
        found = await self._handlers.getattr(request.node, request)
        self._reply(request, self._entries.attributes(found))

    async def _open(self, request: RequestHead) -> None:
        flags = protocol.open_flags(self._view)
        opened = await self._handlers.open(request.node, flags, request)
        if not self._reply(request, protocol.opened(opened)):
            with _to_the_end():  # the reader may have ended with its request
                await self._handlers.release(opened.handle)

    async def _read(self, request: RequestHead) -> None:
        handle, offset, size = protocol.read_in(self._view)
        data = self._handlers.read_again(handle, offset, size)
        if data is None:
            is_mapped = protocol.fills_page_cache(self._view)
            data = await self._handlers.read(handle, offset, size, is_mapped)
        self._reply(request, data)

    async def _write(self, request: RequestHead) -> None:
        written = await self._handlers.write(*protocol.write_in(self._view))
        self._reply(request, protocol.count(written))

    async def _release(self, request: RequestHead) -> None:
        await self._handlers.release(protocol.handle(self._view))
        self._reply(request, b"")

    async def _opendir(self, request: RequestHead) -> None:
        handle = await self._handlers.opendir(request.node, request)
        if not self._reply(request, protocol.opened_directory(handle)):
            with _to_the_end():
                await self._handlers.releasedir(handle)

    async def _readdir(self, request: RequestHead) -> None:
        handle, offset, room = protocol.read_in(self._view)
        names = Names(room, self._listing_until_s())
        await self._handlers.list_names(handle, offset, names.add)
        self._reply(request, names.reply())

    async def _readdirplus(self, request: RequestHead) -> None:
        handle, offset, room = protocol.read_in(self._view)
        listing = NamesPlus(room, *self._owner, self._listing_until_s())
        bare = None if self._onlookers.wants_files(request.pid) else listing.add_name
        await self._handlers.readdir(handle, offset, listing.add, bare)
        if not listing.is_full:
            self._onlookers.listed_names(request.pid, request.node)
        if not self._reply(request, listing.reply()):
            self._handlers.forget((inode, 1) for inode in listing.inodes())

    def _listing_until_s(self) -> float:
        return perf_counter() + (BUSY_LISTING_S if self._shares.are_reads_busy else LISTING_S)

    async def _releasedir(self, request: RequestHead) -> None:
        await self._handlers.releasedir(protocol.handle(self._view))
        self._reply(request, b"")

    async def _getxattr(self, request: RequestHead) -> None:
        room = protocol.xattr_size(self._view)
        name = protocol.xattr_name(self._view, request.length)
        value = await self._handlers.getxattr(request.node, name, request)
        self._reply_xattr(request, value, room)

    async def _listxattr(self, request: RequestHead) -> None:
        room = protocol.xattr_size(self._view)
        names = await self._handlers.listxattr(request.node, request)
        self._reply_xattr(request, b"".join(name + b"\0" for name in names), room)

    def _reply_xattr(self, request: RequestHead, value: bytes, room: int) -> None:
        if room and len(value) > room:
            raise pyfuse3.FUSEError(errno.ERANGE)
        self._reply(request, value if room else protocol.count(len(value)))

    async def _statfs(self, request: RequestHead) -> None:
        self._reply(request, protocol.usage(*await self._handlers.statfs()))

    async def _interrupt(self, _: RequestHead) -> None:
        self._interrupts.interrupted(protocol.handle(self._view))

    # libfuse -------------------------------------------------------------------------------

    async def _pass_on(self, request: RequestHead) -> None:
        message = bytes(self._view[: request.length])
        if self._hand_over(message):
            return
        async with self._queue:  # only one task may wait for a descriptor
            while not self._hand_over(message):
                await trio.lowlevel.wait_writable(self._libfuse)

    def _hand_over(self, message: bytes) -> bool:
        try:
            self._libfuse.send(message)
        except BlockingIOError:
            return False
        return True

    async def relay(self) -> None:
        """Pass libfuse's answers on until cancelled, then those that have arrived by then."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._libfuse)
                self._hand_on()
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        with suppress(BlockingIOError):
            while length := self._libfuse.recv_into(self._libfuse_reply):
                self._send(self._libfuse_reply[:length])


def _to_the_end() -> trio.CancelScope:
    """A scope for what follows a request that was cancelled."""
    return trio.CancelScope(shield=True, deadline=trio.current_time() + _RELEASE_S)


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

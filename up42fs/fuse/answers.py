"""The answers to the frequent requests: what an opcode asks for, the call, and its reply.

Knows the messages, the handlers and who looks on; nothing of tasks or deadlines: a handler that
waits makes its answer wait. References in an answer that comes too late are given back, because the
kernel never saw them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import pyfuse3
import trio

from up42fs.fs.tree.nodes import Absent
from up42fs.fuse import protocol
from up42fs.fuse.callers import Onlookers
from up42fs.fuse.device import Device
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.load import Shares
from up42fs.fuse.protocol import Entries, Names, NamesPlus, Opcode, RequestHead

Answer = Callable[[RequestHead], Coroutine[Any, Any, None]]

#: How long it may take to build one answer of a listing, seconds: if readers need the thread, and
#: otherwise. The kernel asks for the rest again. It has room for some thousands of names, which
#: would keep readers waiting for 12 ms, and each directory may have to be counted first.
BUSY_LISTING_S = 0.001
LISTING_S = 0.02
#: How long a handle that nobody received may take to close, seconds.
_RELEASE_S = 2.0


class DeviceAnswers:
    """Answers the requests of one device; those of no opcode here go to `otherwise`."""

    def __init__(
        self,
        device: Device,
        handlers: Handlers,
        shares: Shares,
        *,
        uid: int,
        gid: int,
        otherwise: Answer,
    ) -> None:
        self._device = device
        #: The handlers without their deadlines: the caller keeps those.
        self.handlers = handlers
        self._shares = shares
        self._owner = (uid, gid)
        self._entries = Entries(uid, gid)
        self._onlookers = Onlookers()
        self._otherwise = otherwise
        self.by_opcode: dict[int, Answer] = {
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
        }

    async def answer(self, request: RequestHead) -> None:
        """Answer the device's latest request; waits as long as its handler does."""
        try:
            await self.by_opcode.get(request.opcode, self._otherwise)(request)
        except pyfuse3.FUSEError as error:
            self._device.send(protocol.refusal(request.unique, error.errno))
        except Exception as error:
            self._device.refuse(request.unique, error, self.answer)

    async def _lookup(self, request: RequestHead) -> None:
        name = protocol.name(self._device.view, request.length)
        found = await self.handlers.lookup(request.node, name)
        is_told = self._device.reply(request, self._entries.entry(found))
        if isinstance(found, Absent):
            return
        if not found.is_dir:
            self._onlookers.asked_for_file(request.pid, request.node)
        if not is_told:
            self.handlers.forget([(found.inode, 1)])

    async def _forget(self, request: RequestHead) -> None:
        self.handlers.forget(protocol.forgets(self._device.view, request))

    async def _getattr(self, request: RequestHead) -> None:
        found = await self.handlers.getattr(request.node, request)
        self._device.reply(request, self._entries.attributes(found))

    async def _open(self, request: RequestHead) -> None:
        flags = protocol.open_flags(self._device.view)
        opened = await self.handlers.open(request.node, flags, request)
        if not self._device.reply(request, protocol.opened(opened)):
            with _to_the_end():  # the reader may have ended with its request
                await self.handlers.release(opened.handle)

    async def _read(self, request: RequestHead) -> None:
        handle, offset, size = protocol.read_in(self._device.view)
        data = self.handlers.read_again(handle, offset, size)
        if data is None:
            is_mapped = protocol.fills_page_cache(self._device.view)
            data = await self.handlers.read(handle, offset, size, is_mapped)
        self._device.reply(request, data)

    async def _write(self, request: RequestHead) -> None:
        written = await self.handlers.write(*protocol.write_in(self._device.view))
        self._device.reply(request, protocol.count(written))

    async def _release(self, request: RequestHead) -> None:
        await self.handlers.release(protocol.handle(self._device.view))
        self._device.reply(request, b"")

    async def _opendir(self, request: RequestHead) -> None:
        handle = await self.handlers.opendir(request.node, request)
        if not self._device.reply(request, protocol.opened_directory(handle)):
            with _to_the_end():
                await self.handlers.releasedir(handle)

    async def _readdir(self, request: RequestHead) -> None:
        handle, offset, room = protocol.read_in(self._device.view)
        names = Names(room, self._listing_until_s())
        await self.handlers.list_names(handle, offset, names.add)
        self._device.reply(request, names.reply())

    async def _readdirplus(self, request: RequestHead) -> None:
        handle, offset, room = protocol.read_in(self._device.view)
        listing = NamesPlus(room, *self._owner, self._listing_until_s())
        bare = None if self._onlookers.wants_files(request.pid) else listing.add_name
        await self.handlers.readdir(handle, offset, listing.add, bare)
        if not listing.is_full:
            self._onlookers.listed_names(request.pid, request.node)
        if not self._device.reply(request, listing.reply()):
            self.handlers.forget((inode, 1) for inode in listing.inodes())

    def _listing_until_s(self) -> float:
        return perf_counter() + (BUSY_LISTING_S if self._shares.are_reads_busy else LISTING_S)

    async def _releasedir(self, request: RequestHead) -> None:
        await self.handlers.releasedir(protocol.handle(self._device.view))
        self._device.reply(request, b"")

    async def _getxattr(self, request: RequestHead) -> None:
        room = protocol.xattr_size(self._device.view)
        name = protocol.xattr_name(self._device.view, request.length)
        value = await self.handlers.getxattr(request.node, name, request)
        self._reply_xattr(request, value, room)

    async def _listxattr(self, request: RequestHead) -> None:
        room = protocol.xattr_size(self._device.view)
        names = await self.handlers.listxattr(request.node, request)
        self._reply_xattr(request, b"".join(name + b"\0" for name in names), room)

    def _reply_xattr(self, request: RequestHead, value: bytes, room: int) -> None:
        if room and len(value) > room:
            raise pyfuse3.FUSEError(errno.ERANGE)
        self._device.reply(request, value if room else protocol.count(len(value)))

    async def _statfs(self, request: RequestHead) -> None:
        self._device.reply(request, protocol.usage(*await self.handlers.statfs()))


def _to_the_end() -> trio.CancelScope:
    """A scope for what follows a request that was cancelled."""
    return trio.CancelScope(shield=True, deadline=trio.current_time() + _RELEASE_S)

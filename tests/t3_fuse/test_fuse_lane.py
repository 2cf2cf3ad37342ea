"""Serving the device: a socket stands for it, and another for libfuse."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyfuse3
import pytest
import trio

from up42fs.fs.nodes import Absent, Attributes, Opened
from up42fs.fuse import lane as lane_module
from up42fs.fuse.lane import Lane
from up42fs.fuse.protocol import Opcode

FILE = Attributes(7, 0o100444, 1, 5, 1, 2, 300.0)
DIRECTORY = Attributes(8, 0o40555, 2, 0, 1, 2, 300.0)
TIMEOUT_S = 10.0


class Handlers:
    """Answers at once, or when the gate of a call is opened."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.gates: dict[int, trio.Event] = {}
        self.waiting = 0
        self.found: Attributes | Absent = FILE
        self.forgotten: list[tuple[int, int]] = []

    async def lookup(self, parent: int, name: bytes) -> Attributes | Absent:
        self.calls.append(("lookup", parent, name))
        return self.found

    def forget(self, inodes: Any) -> None:
        self.forgotten.extend(inodes)

    async def getattr(self, inode: int) -> Attributes:
        self.calls.append(("getattr", inode))
        if inode in self.gates:
            self.waiting += 1
            await self.gates[inode].wait()
            self.waiting -= 1
        if inode == 13:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return FILE

    async def open(self, inode: int, flags: int, thread_id: int, uid: int) -> Opened:
        self.calls.append(("open", inode, flags, thread_id))
        return Opened(42, keep_cache=True, direct_io=False)

    async def read(self, handle: int, offset: int, size: int) -> memoryview:
        self.calls.append(("read", handle, offset, size))
        return memoryview(b"0123456789")[offset : offset + size]

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        self.calls.append(("write", handle, offset, data))
        return len(data)

    async def release(self, handle: int) -> None:
        self.calls.append(("release", handle))

    async def opendir(self, inode: int) -> int:
        self.calls.append(("opendir", inode))
        return 41

    async def readdir(self, handle: int, offset: int, take: Any, take_file: Any = None) -> None:
        self.calls.append(("readdir", handle, offset, take_file is None))
        take("dir", DIRECTORY, 1)
        if take_file is None:
            take("file", FILE, 2)
        else:
            take_file("file", FILE.inode, FILE.mode, 2)

    async def list_names(self, handle: int, offset: int, take: Any) -> None:
        self.calls.append(("list_names", handle, offset))
        take("file", FILE.inode, FILE.mode, 2)

    async def releasedir(self, handle: int) -> None:
        self.calls.append(("releasedir", handle))

    async def getxattr(self, inode: int, name: bytes, uid: int) -> bytes:
        self.calls.append(("getxattr", inode, name))
        return b"value"

    async def listxattr(self, inode: int, uid: int) -> list[bytes]:
        return [b"user.a", b"user.b"]


class Kernel:
    """The far ends: what the kernel sends and gets, and what libfuse does."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers
        self.device, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.libfuse, passage = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passage.setblocking(False)
        self.ends = (self.device, near, self.libfuse, passage)
        self.lane = Lane(near.fileno(), passage, handlers, uid=10, gid=20)  # type: ignore[arg-type]
        self._unique = 0

    async def send(self, opcode: int, body: bytes = b"", node: int = 1, thread_id: int = 3) -> int:
        self._unique += 1
        head = struct.pack(
            "=IIQQIIIHH", 40 + len(body), opcode, self._unique, node, 0, 0, thread_id, 0, 0
        )
        await trio.socket.from_stdlib_socket(self.device).send(head + body)
        return self._unique

    async def receive(self) -> tuple[int, int, bytes]:
        """(unique, errno, body) of the next reply."""
        message = await trio.socket.from_stdlib_socket(self.device).recv(1 << 21)
        length, error, unique = struct.unpack_from("=IiQ", message)
        assert length == len(message)
        return unique, -error, bytes(message[16:])

    async def ask(self, opcode: int, body: bytes = b"", **request: int) -> tuple[int, bytes]:
        unique = await self.send(opcode, body, **request)
        answered, error, reply = await self.receive()
        assert answered == unique
        return error, reply


@asynccontextmanager
async def served(handlers: Handlers) -> AsyncIterator[Kernel]:
    kernel = Kernel(handlers)
    try:
        with trio.fail_after(TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kernel.lane.relay)
                async with trio.open_nursery() as serving:
                    serving.start_soon(kernel.lane.serve)
                    yield kernel
                    kernel.lane.stop()
                nursery.cancel_scope.cancel()
    finally:
        for end in kernel.ends:
            end.close()


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


async def test_each_request_is_one_call(handlers: Handlers) -> None:
    async with served(handlers) as kernel:
        assert (await kernel.ask(Opcode.LOOKUP, b"scene.tif\0", node=5))[1][:8] == b"\7" + bytes(7)
        assert len((await kernel.ask(Opcode.GETATTR, bytes(16), node=7))[1]) == 104
        opened = await kernel.ask(Opcode.OPEN, struct.pack("=II", 0o100000, 0), node=7)
        assert struct.unpack("=QII", opened[1]) == (42, 2, 0)
        read = struct.pack("=QQIIQII", 42, 2, 3, 0, 0, 0, 0)
        assert await kernel.ask(Opcode.READ, read) == (0, b"234")
        write = struct.pack("=QQIIQII", 42, 8, 4, 0, 0, 0, 0) + b"data"
        assert await kernel.ask(Opcode.WRITE, write) == (0, b"\4" + bytes(7))
        assert await kernel.ask(Opcode.RELEASE, struct.pack("=QIIQ", 42, 0, 0, 0)) == (0, b"")
        assert (await kernel.ask(Opcode.OPENDIR, bytes(8), node=8))[1][:8] == b"\x29" + bytes(7)
        assert await kernel.ask(Opcode.RELEASEDIR, struct.pack("=QIIQ", 41, 0, 0, 0)) == (0, b"")
    assert handlers.calls == [
        ("lookup", 5, b"scene.tif"),
        ("getattr", 7),
        ("open", 7, 0o100000, 3),
        ("read", 42, 2, 3),
        ("write", 42, 8, b"data"),
        ("release", 42),
        ("opendir", 8),
        ("releasedir", 41),
    ]


async def test_refusals_and_forgotten_inodes(handlers: Handlers) -> None:
    handlers.found = Absent(60.0)
    async with served(handlers) as kernel:
        assert await kernel.ask(Opcode.GETATTR, bytes(16), node=13) == (errno.ESTALE, b"")
        error, reply = await kernel.ask(Opcode.LOOKUP, b"none\0")
        assert (error, reply[:8], reply[16:24]) == (0, bytes(8), b"\x3c" + bytes(7))
        await kernel.send(Opcode.FORGET, struct.pack("=Q", 2), node=7)
        await kernel.send(Opcode.INTERRUPT, bytes(8))
        await kernel.send(Opcode.BATCH_FORGET, struct.pack("=IIQQ", 1, 0, 8, 1))
        await kernel.ask(Opcode.GETATTR, bytes(16))  # neither of those is answered
    assert handlers.forgotten == [(7, 2), (8, 1)]


async def test_attributes_by_size_first(handlers: Handlers) -> None:
    async with served(handlers) as kernel:

        async def getxattr(room: int) -> tuple[int, bytes]:
            return await kernel.ask(Opcode.GETXATTR, struct.pack("=II", room, 0) + b"user.x\0")

        assert await getxattr(0) == (0, b"\5" + bytes(7))
        assert await getxattr(4) == (errno.ERANGE, b"")
        assert await getxattr(5) == (0, b"value")
        listed = await kernel.ask(Opcode.LISTXATTR, struct.pack("=II", 100, 0))
        assert listed == (0, b"user.a\0user.b\0")


async def test_who_waits_keeps_nobody_waiting(handlers: Handlers) -> None:
    handlers.gates[7] = trio.Event()
    async with served(handlers) as kernel:
        slow = [await kernel.send(Opcode.GETATTR, bytes(16), node=7) for _ in range(3)]
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        assert handlers.waiting == 3
        handlers.gates[7].set()
        assert sorted([(await kernel.receive())[0] for _ in slow]) == slow
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0


async def test_no_more_wait_than_are_allowed(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "MOST_WAITING", 2)
    handlers.gates = {node: trio.Event() for node in (1, 2, 3)}
    async with served(handlers) as kernel:
        for node in (1, 2, 3):
            await kernel.send(Opcode.GETATTR, bytes(16), node=node)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waiting == 2
        handlers.gates[1].set()
        assert (await kernel.receive())[0] == 1
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waiting == 2
        handlers.gates[3].set()
        assert (await kernel.receive())[0] == 3
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        handlers.gates[2].set()
        assert (await kernel.receive())[0] == 2
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0


async def test_many_that_wait_and_many_that_do_not(handlers: Handlers) -> None:
    async with served(handlers) as kernel:
        for round_ in range(20):
            handlers.gates[7] = trio.Event()
            sent = [await kernel.send(Opcode.GETATTR, bytes(16), node=7) for _ in range(5)]
            sent += [await kernel.send(Opcode.GETATTR, bytes(16), node=8) for _ in range(5)]
            early = [(await kernel.receive())[0] for _ in range(5)]
            assert early == sent[5:], round_
            handlers.gates[7].set()
            assert sorted([(await kernel.receive())[0] for _ in range(5)]) == sent[:5]


async def test_files_are_listed_by_name_until_somebody_asks_for_one(handlers: Handlers) -> None:
    listing = struct.pack("=QQIIQII", 41, 0, 4096, 0, 0, 0, 0)
    async with served(handlers) as kernel:
        first = (await kernel.ask(Opcode.READDIRPLUS, listing, node=8))[1]
        assert first[:8] == b"\x08" + bytes(7), "directories always with their attributes"
        assert first[160:288] == bytes(128)
        await kernel.ask(Opcode.LOOKUP, b"file\0", node=8, thread_id=4)
        await kernel.ask(Opcode.READDIRPLUS, listing, node=8)
        await kernel.ask(Opcode.LOOKUP, b"file\0", node=8)
        full = (await kernel.ask(Opcode.READDIRPLUS, listing, node=9))[1]
        assert full[160:168] == b"\x07" + bytes(7)
        names = (await kernel.ask(Opcode.READDIR, listing, node=8))[1]
        assert names == struct.pack("=QQII", 7, 2, 4, 8) + b"file" + bytes(4)
    listed = [call for call in handlers.calls if call[0] != "lookup"]
    assert listed == [
        ("readdir", 41, 0, False),
        ("readdir", 41, 0, False),
        ("readdir", 41, 0, True),
        ("list_names", 41, 0),
    ]


def late(opcodes_to_fail: int) -> Callable[..., int]:
    real = os.writev

    def writev(fd: int, buffers: Any) -> int:
        nonlocal opcodes_to_fail
        if opcodes_to_fail:
            opcodes_to_fail -= 1
            raise OSError(errno.ENOENT, "taken back")
        return real(fd, buffers)

    return writev


async def test_what_the_kernel_no_longer_wants_is_given_back(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane_module.os, "writev", late(4))
    async with served(handlers) as kernel:
        await kernel.send(Opcode.LOOKUP, b"file\0")
        await kernel.send(Opcode.OPEN, bytes(8))
        await kernel.send(Opcode.OPENDIR, bytes(8))
        await kernel.send(Opcode.READDIRPLUS, struct.pack("=QQIIQII", 41, 0, 4096, 0, 0, 0, 0))
        await kernel.ask(Opcode.GETATTR, bytes(16))
    assert handlers.forgotten == [(FILE.inode, 1), (DIRECTORY.inode, 1)]
    assert ("release", 42) in handlers.calls
    assert ("releasedir", 41) in handlers.calls
    assert not caplog.records


async def test_what_comes_rarely_passes_through_libfuse(handlers: Handlers) -> None:
    statfs = 17
    async with served(handlers) as kernel:
        libfuse = trio.socket.from_stdlib_socket(kernel.libfuse)
        unique = await kernel.send(statfs, b"body", node=9)
        seen = await libfuse.recv(4096)
        assert struct.unpack_from("=IIQQ", seen) == (44, statfs, unique, 9)
        assert seen[40:] == b"body"
        await libfuse.send(struct.pack("=IiQ", 21, 0, unique) + b"reply")
        assert await kernel.receive() == (unique, 0, b"reply")


async def test_requests_wait_for_libfuse_without_keeping_others_waiting(handlers: Handlers) -> None:
    async with served(handlers) as kernel:
        body = bytes(60_000)
        for _ in range(8):  # more than the socket holds
            await kernel.send(21, body)
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        libfuse = trio.socket.from_stdlib_socket(kernel.libfuse)
        for unique in range(1, 9):
            seen = await libfuse.recv(1 << 17)
            assert struct.unpack_from("=IIQ", seen) == (60_040, 21, unique)


async def test_the_end_of_the_mount_ends_it(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(handlers)

    def gone(*_: object) -> int:
        raise OSError(errno.ENODEV, "unmounted")

    monkeypatch.setattr(lane_module.os, "readv", gone)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel.lane.serve)
            kernel.device.send(b"x")
    for end in kernel.ends:
        end.close()

"""Serving the device: a socket stands for it, and another for libfuse."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyfuse3
import pytest
import trio

from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.fuse import answers as answers_module
from up42fs.fuse import load, protocol
from up42fs.fuse import server as server_module
from up42fs.fuse.answers import BUSY_LISTING_S, LISTING_S
from up42fs.fuse.boundary import boundary
from up42fs.fuse.interrupts import Fate, Interrupts
from up42fs.fuse.notices import DeviceNotices
from up42fs.fuse.protocol import Opcode
from up42fs.fuse.server import LEAD_S, Server
from up42fs.metrics import Metrics

FILE = Attributes(7, 0o100444, 1, 5, 1, 2, 300.0)
DIRECTORY = Attributes(8, 0o40555, 2, 0, 1, 2, 300.0)
TIMEOUT_S = 10.0


class Handlers:
    """Answers at once, or when the gate of a call is opened."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.metrics = Metrics()
        self.gates: dict[int, trio.Event] = {}
        self.waiting = 0
        self.found: Attributes | Absent = FILE
        self.forgotten: list[tuple[int, int]] = []

    async def lookup(self, parent: int, name: bytes) -> Attributes | Absent:
        self.calls.append(("lookup", parent, name))
        return self.found

    def forget(self, inodes: Any) -> None:
        self.forgotten.extend(inodes)

    @boundary(60.0)
    async def gate(self, number: int) -> None:
        if number in self.gates:
            self.waiting += 1
            try:
                await self.gates[number].wait()
            finally:
                self.waiting -= 1

    async def statfs(self) -> tuple[int, int, int]:
        return 9, 1, 7

    async def getattr(self, inode: int, ctx: object = None) -> Attributes:
        self.calls.append(("getattr", inode))
        await self.gate(inode)
        if inode == 13:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return FILE

    async def open(self, inode: int, flags: int, ctx: Any) -> Opened:
        self.calls.append(("open", inode, flags, ctx.pid))
        return Opened(42, keep_cache=True, direct_io=False)

    def read_again(self, handle: int, offset: int, size: int) -> None:
        """Nothing is kept from one read to the next."""

    async def read(
        self, handle: int, offset: int, size: int, is_mapped: bool = False
    ) -> memoryview:
        self.calls.append(("read", handle, offset, size))
        await self.gate(handle)
        return memoryview(b"0123456789")[offset : offset + size]

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        self.calls.append(("write", handle, offset, data))
        return len(data)

    async def release(self, handle: int) -> None:
        self.calls.append(("release", handle))

    async def opendir(self, inode: int, ctx: Any) -> int:
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

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        self.calls.append(("getxattr", inode, name))
        return b"value"

    async def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        return [b"user.a", b"user.b"]


class Kernel:
    """The far ends: what the kernel sends and gets, and what libfuse does."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers
        self.device, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.libfuse, passage = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passage.setblocking(False)
        self.ends = (self.device, near, self.libfuse, passage)
        self.server = Server(near.fileno(), passage, handlers, uid=10, gid=20)  # type: ignore[arg-type]
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
                nursery.start_soon(kernel.server.relay)
                async with trio.open_nursery() as serving:
                    serving.start_soon(kernel.server.serve)
                    yield kernel
                    kernel.server.stop()
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


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOMEM, "no memory"), MemoryError()], ids=["kernel", "python"]
)
@pytest.mark.claim("S132")
async def test_a_read_of_the_device_without_memory_is_repeated(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    readv, failures = os.readv, iter([error, error])

    def short(*arguments: Any) -> int:
        for failure in failures:
            raise failure
        return readv(*arguments)

    monkeypatch.setattr(os, "readv", short)
    async with served(handlers) as kernel:
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=7))[0] == 0
    assert not list(failures)


@pytest.mark.claim("S132")
async def test_a_pause_without_memory_ends_nothing(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the requests that wait then would never be answered."""
    readv, sleep, failures = os.readv, trio.sleep, [MemoryError(), MemoryError()]

    def short(*arguments: Any) -> int:
        if len(failures) == 2 and handlers.waiting:
            raise failures.pop()
        return readv(*arguments)

    async def no_sleep(seconds: float) -> None:
        if len(failures) == 1:
            raise failures.pop()
        await sleep(seconds)

    monkeypatch.setattr(os, "readv", short)
    monkeypatch.setattr(trio, "sleep", no_sleep)
    gate = handlers.gates[7] = trio.Event()
    async with served(handlers) as kernel:
        waiting = await kernel.send(Opcode.GETATTR, bytes(16), node=7)
        while failures:
            await sleep(0.001)
        gate.set()
        assert (await kernel.receive())[:2] == (waiting, 0)


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


@pytest.fixture
def two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_WAITING", 2)


async def test_who_has_no_place_waits_without_a_task(handlers: Handlers, two_places: None) -> None:
    handlers.gates = {node: trio.Event() for node in (1, 2, 3, 4)}
    async with served(handlers) as kernel:
        for node in (1, 2, 3, 4):
            await kernel.send(Opcode.GETATTR, bytes(16), node=node)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waiting == 2
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0, "what need not wait"
        assert (await kernel.ask(Opcode.STATFS))[1][:24] == struct.pack("=QQQ", 9, 1, 1)
        handlers.gates[1].set()
        assert (await kernel.receive())[0] == 1
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waiting == 2
        handlers.gates[3].set()
        assert (await kernel.receive())[0] == 3
        handlers.gates[2].set()
        handlers.gates[4].set()
        assert sorted([(await kernel.receive())[0] for _ in range(2)]) == [2, 4]


async def test_readers_take_no_place_of_others(handlers: Handlers, two_places: None) -> None:
    handlers.gates = {node: trio.Event() for node in (7, 42)}
    async with served(handlers) as kernel:
        read = struct.pack("=QQIIQII", 42, 2, 3, 0, 0, 0, 0)
        readers = [await kernel.send(Opcode.READ, read) for _ in range(6)]
        slow = [await kernel.send(Opcode.GETATTR, bytes(16), node=7) for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waiting == 4
        handlers.gates[7].set()
        assert sorted([(await kernel.receive())[0] for _ in slow]) == slow
        handlers.gates[42].set()
        answers = [await kernel.receive() for _ in readers]
        assert sorted(answer[0] for answer in answers) == readers
        assert {answer[1:] for answer in answers} == {(0, b"234")}


async def test_time_without_a_place_counts(
    handlers: Handlers, two_places: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "METADATA_DEADLINE_S", 0.3)
    handlers.gates = {node: trio.Event() for node in (1, 2, 3, 4)}
    async with served(handlers) as kernel:
        for node in (1, 2, 3, 4):
            await kernel.send(Opcode.GETATTR, bytes(16), node=node)
        await trio.testing.wait_all_tasks_blocked(0.01)
        handlers.gates[1].set()
        assert (await kernel.receive())[0] == 1
        assert sorted([(await kernel.receive())[:2] for _ in range(2)]) == [
            (3, errno.ETIMEDOUT),
            (4, errno.ETIMEDOUT),
        ]
        handlers.gates[2].set()
        assert (await kernel.receive())[0] == 2


async def test_an_interrupt_ends_a_wait_whose_reader_ends(
    handlers: Handlers, two_places: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {3: Fate.ENDS, 4: Fate.GOES_ON}
    monkeypatch.setattr(Interrupts, "_seen", lambda _, wait: found[wait.thread_id])
    handlers.gates = {node: trio.Event() for node in (1, 2, 3)}
    async with served(handlers) as kernel:
        for node, thread_id in ((1, 4), (2, 3), (3, 3)):
            await kernel.send(Opcode.GETATTR, bytes(16), node=node, thread_id=thread_id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for unique in (1, 3, 2, 99):
            await kernel.send(Opcode.INTERRUPT, struct.pack("=Q", unique))
        assert sorted([(await kernel.receive())[:2] for _ in range(2)]) == [
            (2, errno.EINTR),
            (3, errno.EINTR),
        ]
        assert handlers.waiting == 1
        handlers.gates[1].set()
        assert (await kernel.receive())[:2] == (1, 0)


@pytest.mark.claim("S16")
async def test_a_wait_ends_with_its_time(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The time of each handler is its own, whatever others are called while it waits."""

    class Limited(Handlers):
        @boundary(0.2, "getattr")
        async def getattr(self, inode: int, ctx: object = None) -> Attributes:
            return await super().getattr(inode, ctx)

        @boundary(30.0)
        async def read(
            self, handle: int, offset: int, size: int, is_mapped: bool = False
        ) -> memoryview:
            return await super().read(handle, offset, size, is_mapped)

    limited = Limited()
    limited.gates = {node: trio.Event() for node in (1, 42)}
    async with served(limited) as kernel:
        read = struct.pack("=QQIIQII", 42, 2, 3, 0, 0, 0, 0)
        slow = await kernel.send(Opcode.GETATTR, bytes(16), node=1)
        reader = await kernel.send(Opcode.READ, read)
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        assert (await kernel.receive())[:2] == (slow, errno.ETIMEDOUT)
        assert limited.metrics["fuse.errors_ETIMEDOUT"] == 1
        assert "getattr: no answer within its deadline (ETIMEDOUT)" in caplog.text
        assert limited.waiting == 1, "the reader has more time"
        limited.gates[42].set()
        assert (await kernel.receive())[:2] == (reader, 0)
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
    assert len(kernel.server._interrupts) == 0


@pytest.mark.claim("S16")
async def test_who_leads_on_for_lack_of_memory_keeps_no_deadline(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for another task the leader answers what waits, and then leads as before."""

    class Limited(Handlers):
        @boundary(0.2, "getattr")
        async def getattr(self, inode: int, ctx: object = None) -> Attributes:
            return await super().getattr(inode, ctx)

    limited = Limited()
    async with served(limited) as kernel:
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        start_soon = trio.Nursery.start_soon
        patched = {"is_full": True}

        def full(nursery: trio.Nursery, function: Any, *args: Any, **more: Any) -> None:
            if patched["is_full"] and function == kernel.server._lead:
                raise MemoryError
            start_soon(nursery, function, *args, **more)

        monkeypatch.setattr(trio.Nursery, "start_soon", full)
        limited.gates[1] = trio.Event()
        for _ in range(2):
            assert await kernel.ask(Opcode.GETATTR, bytes(16), node=1) == (errno.ETIMEDOUT, b"")
        await trio.sleep(0.3)
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        slow = await kernel.send(Opcode.GETATTR, bytes(16), node=1)
        await trio.sleep(0.05)
        limited.gates[1].set()
        assert (await kernel.receive())[:2] == (slow, 0)
        await trio.sleep(0.3)  # the time of that one would be up by now
        patched["is_full"] = False
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0


@pytest.mark.claim("S123")
async def test_a_storm_pauses_while_others_are_answered(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stormy(load.Shares):
        def pause_s(self, client: int, now_s: float) -> float:
            return 0.2 if client == 4 else 0.0

    monkeypatch.setattr(server_module, "Shares", Stormy)
    async with served(handlers) as kernel:
        handlers.gates[7] = trio.Event()
        storm = [
            await kernel.send(Opcode.LOOKUP, b"scene.tif\0", node=5, thread_id=4),
            await kernel.send(Opcode.GETATTR, bytes(16), node=13, thread_id=4),
            await kernel.send(Opcode.GETATTR, bytes(16), node=7, thread_id=4),
        ]
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        assert (await kernel.ask(Opcode.OPENDIR, bytes(8), node=8))[0] == 0
        assert ("lookup", 5, b"scene.tif") not in handlers.calls
        answers = sorted([(await kernel.receive())[:2] for _ in range(2)])
        assert answers == [(storm[0], 0), (storm[1], errno.ESTALE)]
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        handlers.gates[7].set()
        assert (await kernel.receive())[:2] == (storm[2], 0)
        assert kernel.server._others._taken == 0


@pytest.mark.claim("S123")
async def test_work_that_is_done_once_makes_no_storm_of_its_client(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged: list[tuple[float, bool]] = []

    def took(_: load.Shares, client: int, seconds: float, now_s: float, *, is_read: bool) -> None:
        charged.append((seconds, is_read))

    async def slow(*_: Any) -> Any:
        time.sleep(0.02)
        return FILE

    monkeypatch.setattr(load.Shares, "took", took)
    monkeypatch.setattr(handlers, "getattr", slow)
    async with served(handlers) as kernel:
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
        assert (await kernel.ask(Opcode.GETATTR, bytes(16), node=8))[0] == 0
    assert charged
    assert all(seconds <= LEAD_S for seconds, _ in charged)


@pytest.mark.claim("S118")
@pytest.mark.parametrize("opcode", [Opcode.READDIR, Opcode.READDIRPLUS])
async def test_a_read_is_answered_between_the_pieces_of_a_long_listing(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, opcode: Opcode
) -> None:
    """Each look at the clock takes 10 µs, and there is one for each name."""
    names = [f"name-{number}" for number in range(700)]

    async def list_names(handle: int, offset: int, take: Any, take_file: Any = None) -> None:
        handlers.calls.append(("listing", offset))
        for after in range(offset + 1, len(names) + 1):
            if not (take_file or take)(names[after - 1], 7, 1 << 15, after):
                return

    monkeypatch.setattr(handlers, "list_names", list_names)
    monkeypatch.setattr(handlers, "readdir", list_names)
    ticks = itertools.count()
    for module in (protocol, answers_module):
        monkeypatch.setattr(module, "perf_counter", lambda: 1e-5 * next(ticks))
    monkeypatch.setattr(load.Shares, "pause_s", lambda *_: 0.0)
    read = struct.pack("=QQIIQII", 42, 2, 3, 0, 0, 0, 0)
    async with served(handlers) as kernel:
        monkeypatch.setattr(kernel.server._shares, "_judge", lambda _: None)
        for is_busy in (False, True):
            kernel.server._shares.are_reads_busy = is_busy
            pieces: list[int] = []
            while not pieces or pieces[-1]:
                at = struct.pack("=QQIIQII", 41, sum(pieces), 1 << 20, 0, 0, 0, 0)
                sent = [await kernel.send(opcode, at), await kernel.send(Opcode.READ, read)]
                listing, data = await kernel.receive(), await kernel.receive()
                assert [listing[0], data[0]] == sent
                pieces.append(listing[2].count(b"name-"))
            assert sum(pieces) == len(names)
            longest = (BUSY_LISTING_S if is_busy else LISTING_S) / 1e-5
            assert 0.9 * min(longest, len(names)) <= max(pieces) <= longest


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
    monkeypatch.setattr(os, "writev", late(4))
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
    mknod = 8
    async with served(handlers) as kernel:
        libfuse = trio.socket.from_stdlib_socket(kernel.libfuse)
        unique = await kernel.send(mknod, b"body", node=9)
        seen = await libfuse.recv(4096)
        assert struct.unpack_from("=IIQQ", seen) == (44, mknod, unique, 9)
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

    monkeypatch.setattr(os, "readv", gone)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel.server.serve)
            kernel.device.send(b"x")
    for end in kernel.ends:
        end.close()


@pytest.mark.claim("S350")
async def test_waits_that_change_nothing_end_before_edits_do(
    handlers: Handlers, two_places: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in tasks, those without a place, and those that begin to wait after all ended."""
    handlers.gates = {node: trio.Event() for node in (1, 2, 3, 42)}
    written = trio.Event()

    async def write(handle: int, offset: int, data: bytes) -> int:
        await written.wait()
        return len(data)

    monkeypatch.setattr(handlers, "write", write)
    async with served(handlers) as kernel:
        read = struct.pack("=QQIIQII", 42, 2, 3, 0, 0, 0, 0)
        edit = await kernel.send(Opcode.WRITE, struct.pack("=QQIIQII", 1, 0, 0, 0, 0, 0, 0))
        ended = [await kernel.send(Opcode.READ, read) for _ in range(3)]
        ended += [await kernel.send(Opcode.GETATTR, bytes(16), node=node) for node in (1, 2)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waiting == 3, "two reads and one look; one of each has no place"
        kernel.server.end_waits()
        ended.append(await kernel.send(Opcode.GETATTR, bytes(16), node=3))
        answers = [(await kernel.receive())[:2] for _ in ended]
        assert sorted(number for number, _ in answers) == ended
        assert {error for _, error in answers} == {errno.EINTR}
        written.set()
        assert (await kernel.receive())[:2] == (edit, 0)


@pytest.mark.claim("S350")
async def test_a_mount_that_is_gone_says_so_and_its_readers_end(handlers: Handlers) -> None:
    handlers.gates = {1: trio.Event()}
    async with served(handlers) as kernel:
        await kernel.send(Opcode.GETATTR, bytes(16), node=1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not kernel.server.is_gone.is_set()

        def gone(*_: object) -> int:
            raise OSError(errno.ENODEV, "unmounted")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "readv", gone)
            kernel.device.send(b"x")
            await kernel.server.is_gone.wait()
        kernel.server.end_waits()
        assert (await kernel.receive())[:2] == (1, errno.ECONNABORTED)


DEFECTS = [
    (RuntimeError("can't start new thread"), errno.EIO),
    (MemoryError(), errno.ENOMEM),
    (OSError(errno.EMFILE, "Too many open files"), errno.EIO),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), errno.ENOMEM),
    (ExceptionGroup("two", [ValueError("bug"), KeyError("bug")]), errno.EIO),
    (struct.error("bug"), errno.EIO),
]
#: Every request that a handler answers, with a body that can be parsed.
REQUESTS = {
    "lookup": (Opcode.LOOKUP, b"file\0"),
    "getattr": (Opcode.GETATTR, bytes(16)),
    "open": (Opcode.OPEN, bytes(8)),
    "read": (Opcode.READ, struct.pack("=QQIIQII", 1, 0, 4, 0, 0, 0, 0)),
    "write": (Opcode.WRITE, struct.pack("=QQIIQII", 1, 0, 0, 0, 0, 0, 0)),
    "release": (Opcode.RELEASE, bytes(24)),
    "opendir": (Opcode.OPENDIR, bytes(8)),
    "list_names": (Opcode.READDIR, struct.pack("=QQIIQII", 41, 0, 4096, 0, 0, 0, 0)),
    "readdir": (Opcode.READDIRPLUS, struct.pack("=QQIIQII", 41, 0, 4096, 0, 0, 0, 0)),
    "releasedir": (Opcode.RELEASEDIR, bytes(24)),
    "getxattr": (Opcode.GETXATTR, struct.pack("=II", 100, 0) + b"user.a\0"),
    "listxattr": (Opcode.LISTXATTR, struct.pack("=II", 100, 0)),
}


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
@pytest.mark.parametrize(("error", "number"), DEFECTS, ids=lambda it: type(it).__name__)
@pytest.mark.claim("S130")
async def test_a_surprise_in_any_handler_is_an_error_of_that_request_alone(
    handlers: Handlers, error: Exception, number: int, waits: bool
) -> None:
    async def surprise(*_args: Any) -> None:
        if waits:
            await trio.sleep(0.001)
        raise error

    async with served(handlers) as kernel:
        for name, (opcode, body) in REQUESTS.items():
            called = kernel.server._answers.handlers  # without their deadlines
            handler = getattr(called, name)
            setattr(called, name, surprise)
            assert (await kernel.ask(opcode, body))[0] == number, name
            setattr(called, name, handler)
            assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0, name


@pytest.mark.claim("S130")
async def test_requests_that_cannot_be_parsed_are_answered(handlers: Handlers) -> None:
    async with served(handlers) as kernel:
        for opcode in (opcode for opcode, _ in REQUESTS.values()):
            await kernel.send(opcode)  # no body
        answered = {(await kernel.receive())[0] for _ in REQUESTS}
        assert answered == set(range(1, len(REQUESTS) + 1))
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0


@pytest.mark.claim("S130")
async def test_a_head_that_cannot_be_parsed_is_answered(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_message: memoryview) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(protocol, "head", no_memory)
    async with served(handlers) as kernel:
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == errno.ENOMEM
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0


@pytest.mark.claim("S130")
async def test_an_answer_that_the_kernel_refuses_is_followed_by_an_error(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_fd: int, _buffers: Any) -> int:
        monkeypatch.undo()
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "writev", refused)
    async with served(handlers) as kernel:
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == errno.EIO
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0
    assert "the kernel refused an answer" in caplog.text


@pytest.mark.claim("S130")
async def test_the_leader_goes_on_where_there_is_no_memory_for_another_task(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(handlers) as kernel:
        await trio.testing.wait_all_tasks_blocked(0.01)
        real = kernel.server._nursery.start_soon

        class Poor:
            def start_soon(self, *args: Any) -> None:
                kernel.server._nursery = nursery
                raise MemoryError

        nursery, kernel.server._nursery = kernel.server._nursery, Poor()  # type: ignore[assignment]
        handlers.gates[7] = trio.Event()
        await kernel.send(Opcode.GETATTR, bytes(16), node=7)
        await trio.testing.wait_all_tasks_blocked(0.01)
        handlers.gates[7].set()
        assert (await kernel.receive())[1] == 0
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0
        assert real is not None


@pytest.mark.claim("S136")
def test_nothing_is_written_to_a_device_that_was_given_up(tmp_path: Any) -> None:
    """The number of the device's descriptor is another file's by then."""
    device, far = os.pipe()
    far, device = device, far
    notices = DeviceNotices(device)
    notices.forget_attributes(7)
    assert os.read(far, 100)
    notices.close()
    os.close(device)
    other = os.open(tmp_path / "catalogue", os.O_RDWR | os.O_CREAT)
    try:
        assert other == device, "the number is used again"
        notices.forget_attributes(7)
        notices.forget_name(1, b"name")
        notices.forget_names([(1, b"name")])
        assert os.fstat(other).st_size == 0
    finally:
        os.close(other)
        os.close(far)


def test_names_are_forgotten_although_there_was_no_thread_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    far, device = os.pipe()
    notices = DeviceNotices(device)
    notices.forget_name(1, b"first")
    monkeypatch.undo()
    notices.forget_name(1, b"second")
    read = b""
    while b"second" not in read:
        read += os.read(far, 100)
    assert b"first" in read
    notices.close()
    os.close(device)
    os.close(far)

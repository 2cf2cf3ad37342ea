"""What a read of bytes in memory passes through, from the device to them: counted, not timed."""

from __future__ import annotations

import base64
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

import pytest
import trio
from harness import Emulator, emulator
from tiff_support import Image, tiles_of, write_tiff

import up42fs
from up42fs.config.settings import resolve
from up42fs.emulator.content import pattern_bytes
from up42fs.engine import Engine
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.protocol import Opcode
from up42fs.fuse.server import Server

PACKAGE = str(Path(up42fs.__file__).parent) + "/"
PAGE = 4096
SIZE = 2 << 20
TILES = tiles_of(1024, 1024, 256, 1)
TIFF = write_tiff([Image(1024, 1024, 256, [60_000] * TILES)])
MOST_MODULES = 15
MOST_CALLS = 70


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "3,1,1") as running:
        running.remote.storage("add_asset", name="warm.bin", size=SIZE, seed=7)
        content = base64.b64encode(TIFF).decode()
        running.remote.storage("add_asset", name="warm.tif", content_base64=content)
        yield running


class Calls:
    """The calls of our functions, as (module, function)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    @contextmanager
    def counted(self) -> Iterator[None]:
        def note(frame: FrameType, event: str, _: object) -> None:
            name = frame.f_code.co_filename
            if event == "call" and name.startswith(PACKAGE):
                self.all.append((name.removeprefix(PACKAGE), frame.f_code.co_qualname))

        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(None)

    @property
    def of_read(self) -> list[tuple[str, str]]:
        """From the request in the server's buffer to its answer; none of it waits."""
        began = self.all.index(("fuse/answers.py", "DeviceAnswers._read"))
        return self.all[began : self.all.index(("fuse/protocol.py", "reply_head")) + 1]

    def share(self, package: str) -> float:
        """The share of calls of a package's functions, and of what they alone use."""
        of_package = sum(module.startswith((package, "ranges")) for module, _ in self.all)
        return of_package / len(self.all)


class Kernel:
    """The far end of the device: sends READs of one open file."""

    def __init__(self, device: socket.socket, handle: int) -> None:
        self._device = device
        self._handle = handle
        self._unique = 0

    async def read(self, offset: int, size: int) -> bytes:
        self._unique += 1
        body = struct.pack("=QQIIQII", self._handle, offset, size, 0, 0, 0, 0)
        head = struct.pack(
            "=IIQQIIIHH", 40 + len(body), Opcode.READ, self._unique, 2, 0, 0, 3, 0, 0
        )
        self._device.send(head + body)
        await trio.lowlevel.wait_readable(self._device)
        message = self._device.recv(SIZE + PAGE)
        assert struct.unpack_from("=iQ", message, 4) == (0, self._unique)
        return message[16:]


@asynccontextmanager
async def kernel_of(store: Emulator, home: Path, path: str) -> AsyncIterator[Kernel]:
    """A server of the whole engine, on a socket that stands for the device, and an open file."""
    settings = resolve(
        arguments={"cache_dir": str(home)}, mount_options={}, environ=store.env, file={}
    )
    device, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    device.setblocking(False)
    with trio.fail_after(60), device, near:
        async with Engine.open(settings) as engine:
            engine.start()
            handlers = Handlers(engine.filesystem, engine.metrics, uid=0, gid=0)
            server = Server(near.fileno(), near, handlers, uid=0, gid=0)
            async with engine.opened(path) as file, trio.open_nursery() as nursery:
                nursery.start_soon(server.serve)
                yield Kernel(device, file._opened.handle)
                server.stop()


@pytest.mark.parametrize("offset", [0, PAGE, 77 * PAGE])
async def test_a_warm_read_passes_few_modules(store: Emulator, tmp_path: Path, offset: int) -> None:
    calls = Calls()
    async with kernel_of(store, tmp_path, "/assets/warm.bin") as kernel:
        for _ in range(2):
            await kernel.read(offset, PAGE)
        with calls.counted():
            data = await kernel.read(offset, PAGE)
    assert data == pattern_bytes(7, offset, PAGE)
    modules = {module for module, _ in calls.of_read}
    assert len(modules) <= MOST_MODULES, sorted(modules)
    assert len(calls.of_read) <= MOST_CALLS, Counter(calls.of_read)


@pytest.mark.parametrize("name", ["warm.bin", "warm.tif"])
async def test_the_planner_is_a_third_of_warm_reads_in_order(
    store: Emulator, tmp_path: Path, name: str
) -> None:
    calls = Calls()
    async with kernel_of(store, tmp_path, f"/assets/{name}") as kernel:
        for offset in range(0, 128 * PAGE, 16 * PAGE):
            await kernel.read(offset, 16 * PAGE)
        with calls.counted():
            for offset in range(0, 128 * PAGE, PAGE):
                await kernel.read(offset, PAGE)
    assert calls.share("readahead/") <= 1 / 3
    assert len(calls.all) <= 128 * MOST_CALLS

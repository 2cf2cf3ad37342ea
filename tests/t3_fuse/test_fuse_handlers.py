"""The handlers, called as pyfuse3 would call them, without a kernel."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pyfuse3
import pytest
from fs_support import World, content
from strategies import make_asset

from up42fs.errors import BadHandle, NoAttribute
from up42fs.fs.filesystem import KERNEL_TTL_S
from up42fs.fs.tree.nodes import Absent, Attributes, Opened, Usage
from up42fs.fuse.callers import UNKNOWN
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.operations import AS_THEY_ARE, Operations
from up42fs.fuse.protocol import BLOCK_SIZE_BYTES
from up42fs.metrics import Metrics

CTX = pyfuse3.RequestContext()
TOKEN: Any = object()  # what the kernel's buffer is known by; the double only counts
FILE = Attributes(
    7, 0o100444, 3, 5_000_000_001, 1_700_000_000_123_456_000, 1_800_000_000_000_001_000, 300.0
)
DIRECTORY = Attributes(8, 0o40555, 2, 0, 11, 12, 0.0)
WRITING = (
    "setattr", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link", "create",
    "write", "setxattr", "removexattr",
)  # fmt: skip
LEFT_OUT = ("access", "fsyncdir", "poll")
#: What the kernel need not tell where there are no sidecars to keep.
KEEPING = ("flush", "fsync")
#: Arguments by the names that pyfuse3 gives them; 1 for all others.
ARGUMENTS: dict[str, Any] = {
    "name": b"x", "name_old": b"x", "name_new": b"y", "new_name": b"y", "value": b"v",
    "target": b"t", "buf": b"data", "attr": pyfuse3.EntryAttributes(),
    "fields": pyfuse3.SetattrFields(), "ctx": CTX,
}  # fmt: skip


class RecordingDirectories:
    """Remembers which open directories were read and closed."""

    def __init__(self, asked: Callable[..., None]) -> None:
        self.asked = asked

    def read(self, handle: int, offset: int, take: Any, take_file: Any = None) -> None:
        self.asked("readdir", handle, offset)

    def close(self, handle: int) -> None:
        self.asked("releasedir", handle)


class RecordingFilesystem:
    """Answers what it was given; remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.found: Attributes | Absent = FILE
        self.usage = Usage(0, 0)
        self.data: bytes | memoryview = b""
        self.error: Exception | None = None
        self.sidecars = None
        self.directories = RecordingDirectories(self.asked)

    def asked(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def lookup(self, parent: int, name: str) -> Attributes | Absent:
        self.asked("lookup", parent, name)
        return self.found

    def forget(self, inode: int, count: int) -> None:
        self.asked("forget", inode, count)

    async def getattr(self, inode: int, asker: object = None) -> Attributes:
        self.asked("getattr", inode)
        assert isinstance(self.found, Attributes)
        return self.found

    async def opendir(self, inode: int, program: Any = None) -> int:
        self.asked("opendir", inode)
        return 41

    async def open(
        self, inode: int, flags: int, program: str, *, is_trusted: bool = True
    ) -> Opened:
        self.asked("open", inode, flags, program, *([] if is_trusted else ["stranger"]))
        return Opened(42, keep_cache=False, direct_io=True)

    def is_unpacked(self, handle: int) -> bool:
        return False

    def read_again(self, handle: int, offset: int, size: int) -> None:
        return None

    async def read(
        self, handle: int, offset: int, size: int, *, is_mapped: bool = False
    ) -> bytes | memoryview:
        self.asked("read", handle, offset, size)
        return self.data

    def release(self, handle: int) -> None:
        self.asked("release", handle)

    def statfs(self) -> Usage:
        self.asked("statfs")
        return self.usage

    async def getxattr(self, inode: int, name: str, *, is_trusted: bool = True) -> bytes:
        self.asked("getxattr", inode, name, *([] if is_trusted else ["stranger"]))
        return b"value"

    async def listxattr(self, inode: int, *, is_trusted: bool = True) -> Iterable[str]:
        self.asked("listxattr", inode, *([] if is_trusted else ["stranger"]))
        return {"user.up42.id": 1, "user.xdg.tags": 2}.keys()


@pytest.fixture
def fs() -> RecordingFilesystem:
    return RecordingFilesystem()


@pytest.fixture
def operations(fs: RecordingFilesystem) -> Operations:
    return Operations(Handlers(fs, Metrics(), uid=1234, gid=5678))  # type: ignore[arg-type]


async def refusal(awaitable: Any) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await awaitable
    number: int = caught.value.errno
    return number


# entries ---------------------------------------------------------------------------------------


async def test_the_fields_of_a_file(operations: Operations, fs: RecordingFilesystem) -> None:
    for entry in (
        await operations.lookup(1, b"scene.zip", CTX),
        await operations.getattr(7, CTX),
    ):
        assert isinstance(entry, pyfuse3.EntryAttributes)
        assert (entry.st_ino, entry.st_mode, entry.st_nlink) == (7, 0o100444, 3)
        assert (entry.st_uid, entry.st_gid) == (1234, 5678)
        assert entry.st_size == 5_000_000_001
        assert entry.st_blksize == BLOCK_SIZE_BYTES == 131_072
        assert entry.st_blocks == 9_765_626
        assert entry.st_blocks * 512 >= entry.st_size
        assert entry.st_mtime_ns == entry.st_atime_ns == FILE.mtime_ns
        assert entry.st_ctime_ns == FILE.ctime_ns
        assert entry.entry_timeout == entry.attr_timeout == 300.0
        assert entry.generation == 0
    assert fs.calls == [("lookup", 1, "scene.zip"), ("getattr", 7)]


async def test_the_fields_of_a_directory_not_to_be_remembered(
    operations: Operations, fs: RecordingFilesystem
) -> None:
    fs.found = DIRECTORY
    entry = await operations.lookup(1, b"orders", CTX)
    assert (entry.st_ino, entry.st_mode, entry.st_blocks) == (8, 0o40555, 0)
    assert entry.entry_timeout == entry.attr_timeout == 0.0


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2)])
async def test_blocks_follow_the_size(
    operations: Operations, fs: RecordingFilesystem, size: int, blocks: int
) -> None:
    fs.found = FILE._replace(size=size)
    assert (await operations.getattr(7, CTX)).st_blocks == blocks


@pytest.mark.parametrize("ttl_s", [0.0, KERNEL_TTL_S])
async def test_a_miss_is_an_answer_that_the_kernel_may_remember(
    operations: Operations, fs: RecordingFilesystem, ttl_s: float
) -> None:
    fs.found = Absent(ttl_s)
    entry = await operations.lookup(1, b"scene.zip.aux.xml", CTX)
    assert isinstance(entry, pyfuse3.EntryAttributes)
    assert entry.st_ino == 0
    assert entry.entry_timeout == ttl_s
    assert operations.metrics.snapshot() == {}


async def test_names_that_are_no_utf_8_pass(
    operations: Operations, fs: RecordingFilesystem
) -> None:
    await operations.lookup(1, b"\xff\xc3\xbc", CTX)
    await operations.getxattr(7, b"user.\xff", CTX)
    assert fs.calls == [("lookup", 1, "\udcffü"), ("getxattr", 7, "user.\udcff")]


# handles ---------------------------------------------------------------------------------------


async def test_opening(operations: Operations, fs: RecordingFilesystem) -> None:
    opened = await operations.open(7, os.O_RDONLY, CTX)
    assert isinstance(opened, pyfuse3.FileInfo)
    assert (opened.fh, opened.keep_cache, opened.direct_io) == (42, False, True)
    assert await operations.opendir(8, CTX) == 41
    assert fs.calls == [("open", 7, os.O_RDONLY, UNKNOWN), ("opendir", 8)]


@pytest.mark.parametrize("data", [b"abc", memoryview(b"xabcx")[1:4], bytearray(b"abc")])
async def test_reading_hands_on_the_buffer_without_a_copy(
    operations: Operations, fs: RecordingFilesystem, data: Any
) -> None:
    fs.data = data
    assert await operations.read(42, 10, 3) is data
    assert memoryview(data).c_contiguous
    assert fs.calls == [("read", 42, 10, 3)]


async def test_what_answers_nothing_answers_none(
    operations: Operations, fs: RecordingFilesystem
) -> None:
    calls: list[Awaitable[object]] = [
        operations.forget([(7, 2), (8, 1)]),
        operations.release(42),
        operations.releasedir(41),
        operations.readdir(41, 5, TOKEN),
    ]
    assert [await call for call in calls] == [None] * 4
    assert fs.calls == [
        *(("forget", 7, 2), ("forget", 8, 1), ("release", 42)),
        *(("releasedir", 41), ("readdir", 41, 5)),
    ]


async def test_an_error_is_its_errno_and_counted(
    operations: Operations, fs: RecordingFilesystem
) -> None:
    fs.error = BadHandle("not open")
    for awaitable in (
        operations.lookup(1, b"x", CTX),
        operations.getattr(7, CTX),
        operations.opendir(8, CTX),
        operations.readdir(41, 0, TOKEN),
        operations.open(7, 0, CTX),
        operations.read(42, 0, 1),
        operations.statfs(CTX),
        operations.getxattr(7, b"user.x", CTX),
        operations.listxattr(7, CTX),
        operations.release(42),
        operations.releasedir(41),
    ):
        assert await refusal(awaitable) == errno.EBADF
    assert operations.metrics.snapshot() == {"fuse.errors_EBADF": 11}


# df, attributes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used_bytes", "blocks"), [(0, 0), (1, 1), (4096, 1), (4097, 2), (50 << 40, 50 << 28)]
)
async def test_df(
    operations: Operations, fs: RecordingFilesystem, used_bytes: int, blocks: int
) -> None:
    fs.usage = Usage(used_bytes, 77)
    data = await operations.statfs(CTX)
    assert isinstance(data, pyfuse3.StatvfsData)
    assert data.f_bsize == data.f_frsize == 4096
    assert (data.f_blocks, data.f_bfree, data.f_bavail) == (blocks, 0, 0)
    assert (data.f_files, data.f_ffree, data.f_favail) == (77, 0, 0)
    assert data.f_namemax == 255


@pytest.mark.parametrize(
    "name",
    [
        *(b"security.capability", b"security.selinux", b"security.\xff"),
        *(b"system.posix_acl_access", b"system.posix_acl_default", b"trusted.overlay.opaque"),
    ],
)
async def test_foreign_attributes_never_reach_the_file_system(
    operations: Operations, fs: RecordingFilesystem, name: bytes
) -> None:
    assert await refusal(operations.getxattr(7, name, CTX)) == errno.EOPNOTSUPP
    assert fs.calls == []


async def test_attributes(operations: Operations, fs: RecordingFilesystem) -> None:
    assert await operations.getxattr(7, b"user.up42.id", CTX) == b"value"
    names = await operations.listxattr(7, CTX)
    assert names == [b"user.up42.id", b"user.xdg.tags"]
    assert isinstance(names, list)
    fs.error = NoAttribute("user.x")
    assert await refusal(operations.getxattr(7, b"user.x", CTX)) == errno.ENODATA


# what is not there -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITING)
async def test_every_writing_handler_is_erofs(
    operations: Operations, fs: RecordingFilesystem, name: str
) -> None:
    parameters = inspect.signature(getattr(pyfuse3.Operations, name)).parameters
    arguments = [ARGUMENTS.get(parameter, 1) for parameter in list(parameters)[1:]]
    assert await refusal(getattr(operations, name)(*arguments)) == errno.EROFS
    assert fs.calls == []
    assert getattr(operations, name).__name__ == name


@pytest.mark.parametrize("name", LEFT_OUT + KEEPING)
async def test_what_is_left_out_is_enosys_so_that_the_kernel_stops_asking(
    operations: Operations, name: str
) -> None:
    parameters = inspect.signature(getattr(pyfuse3.Operations, name)).parameters
    assert (name in AS_THEY_ARE) == (name in KEEPING)
    assert await refusal(getattr(operations, name)(*[0] * (len(parameters) - 1))) == errno.ENOSYS


def test_every_handler_of_pyfuse3_is_accounted_for() -> None:
    calls = {name for name, value in vars(pyfuse3.Operations).items() if callable(value)}
    calls = {name for name in calls if not name.startswith("_")} - {"init", "stacktrace"}
    assert len(calls) > 25
    ours = {name for name in vars(Operations) if not name.startswith("_")} | set(AS_THEY_ARE)
    assert calls - ours == set(LEFT_OUT)
    assert set(WRITING) <= ours
    assert ours - calls == {"supports_dot_lookup", "enable_writeback_cache"}


def test_a_call_stands_on_one_side_of_the_conversion() -> None:
    """What is converted is no handler as it is; and every handler serves pyfuse3 or the server."""
    converted = {name for name in vars(Operations) if not name.startswith("_")}
    assert not converted & set(AS_THEY_ARE)
    handlers = {name for name in vars(Handlers) if not name.startswith("_")}
    assert handlers - converted - set(AS_THEY_ARE) == {"list_names", "takes_long"}


def test_operations_take_the_arguments_that_pyfuse3_gives(operations: Operations) -> None:
    names = {name for name in vars(Operations) if callable(getattr(Operations, name))}
    for name in {*names, *AS_THEY_ARE} - {"mknod", "symlink"}:
        if name.startswith("_"):
            continue
        base = list(inspect.signature(getattr(pyfuse3.Operations, name)).parameters)[1:]
        taken = list(inspect.signature(getattr(operations, name)).parameters)
        assert taken[: len(base)] == base, name


def test_the_kernel_is_not_asked_for_what_it_must_not_do() -> None:
    assert Operations.supports_dot_lookup is False
    assert Operations.enable_writeback_cache is False
    assert not Operations.enable_acl


# the whole, without a kernel -------------------------------------------------------------------


async def test_a_file_system_answers_through_the_handlers() -> None:
    asset = make_asset(3, size=1000, tags=("t",))
    world = World(asset)
    operations = Operations(Handlers(world.fs, Metrics(), uid=1, gid=2))
    tags = await operations.lookup(1, b"tags", CTX)
    tag = await operations.lookup(tags.st_ino, b"t", CTX)
    file = await operations.lookup(tag.st_ino, b"asset3.zip", CTX)
    assert (file.st_size, file.st_nlink, file.st_uid) == (1000, 3, 1)
    assert await refusal(operations.open(file.st_ino, os.O_RDWR, CTX)) == errno.EROFS
    assert await refusal(operations.open(tag.st_ino, os.O_RDONLY, CTX)) == errno.EISDIR
    assert await refusal(operations.opendir(file.st_ino, CTX)) == errno.ENOTDIR
    assert await refusal(operations.getattr(999, CTX)) == errno.ENOENT
    opened = await operations.open(file.st_ino, os.O_RDONLY, CTX)
    assert bytes(await operations.read(opened.fh, 990, 100)) == content(asset.id, 990, 1000)
    await operations.release(opened.fh)
    assert await refusal(operations.read(opened.fh, 0, 1)) == errno.EBADF
    world.remove(asset)
    assert await refusal(operations.getattr(file.st_ino, CTX)) == errno.ESTALE
    assert (await operations.lookup(tags.st_ino, b"t", CTX)).st_ino == 0
    await operations.forget([(tags.st_ino, 1), (tag.st_ino, 1), (file.st_ino, 1)])
    assert world.fs.gauges() == {"inodes": 1, "open_files": 0, "open_directories": 0}

"""One FUSE session: mount, serve until unmounted, tell the kernel what to forget, unmount.

Knows pyfuse3's process-wide session and its hazards; nothing of the file system behind it.

Theory. pyfuse3 holds one session per process in module globals, so there is one `Session` per
process. The ways it can freeze or die, and the cure of each (measured, see docs/architecture.md):
1. libfuse reads the device with the GIL held, where it has it and not `lane`. If the client is
   killed between trio's poll and that read, the process sleeps until the next request: a 1 Hz
   SIGALRM interrupts the read.
2. Invalidating from the loop can wait on a page or directory that only the loop can release.
   Names go through a queue with its own thread (`notices`); attributes without their pages, which
   takes no lock. Data is never invalidated: an open after a change simply does not keep the page
   cache.
3. Wrong kernel options end `main()` silently: a session that ends before the mount was seen to
   answer is an error.
4. `terminate()` and an unmount from outside wait for the handlers in flight, which nobody will
   read: after a grace period they are cancelled. The unmount shows as an error on the device.
5. Touching the mount from the loop is a deadlock by design: the readiness probe is a thread.
6. During the handshake (`negotiate`) the session's descriptor is a socket that carries one reply
   and nothing else; and `main()` ends pyfuse3's queue of names when it returns. Nothing is
   invalidated before the mount is there: until then the kernel has nothing to forget.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyfuse3
import trio

from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fs.filesystem import Invalidation
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.init_reply import Negotiated
from up42fs.fuse.lane import Lane
from up42fs.fuse.mounts import Mount, mount_at
from up42fs.fuse.negotiate import HandshakeFailed, negotiate
from up42fs.fuse.notices import DeviceNotices, LibfuseNotices, Notices
from up42fs.fuse.operations import Operations
from up42fs.fuse.protocol import bytes_of
from up42fs.fuse.read_ahead import ReadAhead
from up42fs.fuse.tuning import CONGESTION_THRESHOLD, MAX_BACKGROUND

log = logging.getLogger(__name__)

#: Requests handled at once. Reads wait for the network; metadata must find a free worker.
MAX_TASKS = 512
#: Likewise of those that come rarely, where `lane` serves the others.
MAX_RARE_TASKS = 64
#: How long the mount may take to answer its first request, seconds.
READY_TIMEOUT_S = 10.0
#: How long handlers in flight may go on after a request to stop, seconds.
GRACE_S = 2.0
#: How long an edit waits for the kernel to forget old names, seconds.
FORGET_TIMEOUT_S = 2.0
#: Set to `off`, it leaves the handshake to libfuse: for tests, and to see whose fault something is.
HANDSHAKE_VARIABLE = "UP42FS_HANDSHAKE"
_ALARM_S = 1.0
_DEVICE_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How the kernel is asked to mount; always nosuid, nodev, and read-only unless `writes`.

    `negotiates` is whether the handshake is ours, or libfuse's with its defaults.
    """

    source: str
    allow_other: bool = False
    writes: bool = False
    negotiates: bool = field(default_factory=lambda: os.environ.get(HANDSHAKE_VARIABLE) != "off")

    def to_fuse(self) -> set[str]:
        """Options in libfuse's words."""
        options = {
            "rw" if self.writes else "ro", "nosuid", "nodev", "noatime", "default_permissions",
            f"fsname={self.source}", "subtype=up42fs",
        }  # fmt: skip
        return options | ({"allow_other"} if self.allow_other else set())


class Session:
    """The mount of this process."""

    def __init__(self, operations: Operations, mountpoint: Path, options: MountOptions) -> None:
        self._operations = operations
        self._mountpoint = mountpoint
        self._options = options
        self._stopping = trio.Event()
        self._is_mounted = False
        self._has_answered = False
        self._read_ahead: ReadAhead | None = None
        self._lane: Lane | None = None
        self._notices: Notices = LibfuseNotices()
        #: What the kernel agreed to; None where libfuse's defaults hold.
        self.negotiated: Negotiated | None = None

    @asynccontextmanager
    async def mounted(self) -> AsyncIterator[None]:
        """Mount on entry, unmount on exit whatever happens; raises ConfigurationError."""
        close = await self._mount()
        self._is_mounted = True
        try:
            with _alarm() if self._lane is None else nullcontext():
                yield
        finally:
            self._is_mounted = False
            if self._read_ahead is not None:
                self._read_ahead.close()
            self._notices.close()
            close()

    async def _mount(self) -> Callable[[], None]:
        """Mount in the better way that works here; returns what unmounts."""
        options = self._options.to_fuse()
        handlers: Handlers | None = getattr(self._operations, "handlers", None)
        reason = "fusermount3's reason stands above, or in the log of a background mount"
        if self._options.negotiates:
            try:
                attached = await negotiate(
                    self._operations,
                    self._mountpoint,
                    options,
                    max_background=MAX_BACKGROUND,
                    congestion_threshold=CONGESTION_THRESHOLD,
                    keeps_device=handlers is not None,
                )
            except HandshakeFailed as error:
                reason = str(error)
                log.info("mounting with libfuse's defaults, which are slower: %s", reason)
            else:
                self.negotiated = attached.negotiated
                if handlers is not None and attached.libfuse is not None:
                    self._notices = DeviceNotices(attached.device_fd)
                    self._lane = Lane(
                        attached.device_fd,
                        attached.libfuse,
                        handlers,
                        uid=self._operations.uid,
                        gid=self._operations.gid,
                    )
                return attached.close
        try:
            pyfuse3.init(self._operations, str(self._mountpoint), options)
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot mount at {self._mountpoint}: {error}; {reason}"
            ) from None
        return lambda: pyfuse3.close(unmount=True)

    async def serve(
        self, *, task_status: trio.TaskStatus[Mount | None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve requests until unmounted or stopped; reports the mount once it answers.

        None where it was stopped before.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_stopped, nursery.cancel_scope)
            nursery.start_soon(self._end_when_disconnected, nursery.cancel_scope)
            nursery.start_soon(self._probe, task_status)
            if self._lane is None:
                await pyfuse3.main(max_tasks=MAX_TASKS)
            else:
                nursery.start_soon(self._lane.relay)
                async with trio.open_nursery() as serving:
                    serving.start_soon(partial(pyfuse3.main, max_tasks=MAX_RARE_TASKS))
                    await self._lane.serve()
                    pyfuse3.terminate()
            nursery.cancel_scope.cancel()
        if self._stopping.is_set() and not self._has_answered:
            task_status.started(None)
        log.info("unmounted %s", self._mountpoint)

    def stop(self) -> None:
        """Stop serving: unmounts when `mounted` is left."""
        self._stopping.set()

    def vary_read_ahead(self, mount: Mount, wide_kib: int) -> int:
        """From now on the kernel reads ahead `wide_kib`, less where files are read in pieces.

        Returns how far it does there, in KiB.
        """
        if self._read_ahead is not None:
            self._read_ahead.close()
        self._read_ahead = self._operations.handlers.read_ahead = ReadAhead(mount, wide_kib)
        return self._read_ahead.pieces_kib

    def invalidate(self, stale: Sequence[Invalidation]) -> None:
        """Make the kernel forget names and attributes; never blocks."""
        if not self._is_mounted:
            return
        for item in stale:
            if item.name is None:
                self._notices.forget_attributes(item.inode)
            else:
                self._notices.forget_name(item.inode, bytes_of(item.name))

    async def invalidated(self, stale: Sequence[Invalidation]) -> None:
        """Make the kernel forget, and return when it has, or after `FORGET_TIMEOUT_S`.

        For edits: who made one must not see the old names. The names must be of directories that
        the kernel does not hold locked for the call that is answered (see 2 above).
        """
        self.invalidate([item for item in stale if item.name is None])
        names = [(item.inode, bytes_of(item.name)) for item in stale if item.name is not None]
        if not names or not self._is_mounted:
            return
        with trio.move_on_after(FORGET_TIMEOUT_S):
            forget = partial(self._notices.forget_names, names)
            await trio.to_thread.run_sync(forget, abandon_on_cancel=True)
            return
        log.info("the kernel has not forgotten %d names in time", len(names))

    async def _end_when_stopped(self, scope: trio.CancelScope) -> None:
        await self._stopping.wait()
        if self._lane is None:
            pyfuse3.terminate()
        else:
            self._lane.stop()
        await trio.sleep(GRACE_S)
        scope.cancel()

    async def _end_when_disconnected(self, scope: trio.CancelScope) -> None:
        device = select.poll()
        device.register(_device_fd(), 0)
        while not device.poll(0):  # noqa: ASYNC110  (pyfuse3 owns the descriptor's events)
            await trio.sleep(_DEVICE_POLL_S)
        await trio.sleep(GRACE_S)
        scope.cancel()

    async def _probe(self, task_status: trio.TaskStatus[Mount | None]) -> None:
        with trio.move_on_after(READY_TIMEOUT_S):
            await trio.to_thread.run_sync(os.statvfs, self._mountpoint, abandon_on_cancel=True)
            mount = await trio.to_thread.run_sync(mount_at, self._mountpoint)
            if mount is not None:
                self._has_answered = True
                task_status.started(mount)
                return
        raise Unavailable(
            f"the mount at {self._mountpoint} did not answer within {READY_TIMEOUT_S:.0f} s"
        )


def _device_fd() -> int:
    """The descriptor of /dev/fuse, which pyfuse3 keeps to itself."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if link.readlink() == Path("/dev/fuse"):
                return int(link.name)
    raise Unavailable("the FUSE device was closed while mounting; mount again")


@contextmanager
def _alarm() -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, _ALARM_S, _ALARM_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

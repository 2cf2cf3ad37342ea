"""One FUSE session: mount, serve until unmounted, invalidate the kernel's caches, unmount.

Theory. pyfuse3 holds one session per process in module globals, so there is one `Session` per
process. The ways it can freeze or die, and the remedies (all measured):

1. libfuse reads the device with the GIL held, if it has the device instead of `server`. If the
   client is killed between trio's poll and that read, the process sleeps until the next request: a
   1 Hz SIGALRM interrupts the read.
2. Invalidating from the loop can wait on a page or directory that only the loop can release. Names
   go through a queue with its own thread (`notices`); attributes without their pages, which takes
   no lock. Data is never invalidated: an open after a change simply does not keep the page cache.
3. Wrong kernel options end `main()` silently: a session that ends before the mount was seen to
   answer is an error.
4. `terminate()` and an unmount from outside wait for the handlers in flight. After a request to
   stop they have a grace period, edits a longer one than reads. After an unmount nobody receives
   their answers, so reads are cancelled at once. The unmount shows as an error on the device.
5. Touching the mount from the loop is a deadlock by design: the readiness probe is a thread.
6. A program that sees an empty directory in place of the mount may act on it: `rsync --delete`
   removes its copies. So the mount is taken away only where that was asked for (a signal, an
   unmount) or where it never answered. In every other case, a defect or SIGKILL, it stays without
   its process and answers ENOTCONN.
7. During the handshake (`negotiate`) the session's descriptor is a socket that carries one reply
   and nothing else; and `main()` ends pyfuse3's queue of names when it returns. Nothing is
   invalidated before the mount is there: until then the kernel has nothing to forget.
8. The handshake of our own may succeed and the mount answer nothing all the same, on a kernel or
   libfuse that nobody tried. Until it answered nobody uses it, so it is taken away, and mounted
   once more as libfuse does it.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyfuse3
import trio

from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fs.invalidation import Invalidation
from up42fs.fuse.attach import HandshakeFailed, is_connected, negotiate, take_away
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.handshake import Negotiated
from up42fs.fuse.mount_table import Mount, mount_at
from up42fs.fuse.notices import DeviceNotices, LibfuseNotices, Notices
from up42fs.fuse.operations import Operations
from up42fs.fuse.protocol import bytes_of
from up42fs.fuse.server import Server
from up42fs.fuse.tuning import CONGESTION_THRESHOLD, ReadAhead, wanted_background
from up42fs.supervise import is_short_of_anything, kept_going, start_for_good

log = logging.getLogger(__name__)

#: Concurrent requests. Reads wait for the network; metadata requests must find a free worker.
MAX_TASKS = 512
#: Concurrent rare requests, if `server` serves the others: more than edits may take.
MAX_RARE_TASKS = 160
#: The longest that the mount may take to answer its first request, seconds.
READY_TIMEOUT_S = 10.0
#: Likewise after a handshake of our own; then libfuse's is tried.
FIRST_TIMEOUT_S = 4.0
#: How long handlers in flight may go on after a request to stop, seconds, and how long those that
#: change nothing.
GRACE_S = 2.0
READS_GRACE_S = 1.0
#: The longest that an edit waits for the kernel to forget old names, seconds.
FORGET_TIMEOUT_S = 2.0
#: If set to `off`, libfuse does the handshake: for tests, and to locate the cause of a problem.
HANDSHAKE_VARIABLE = "UP42FS_HANDSHAKE"
#: Said once where the handshake is libfuse's.
PLAIN = "mounting with libfuse's defaults, which are slower: %s"
#: With the mount point, twice.
ENDS_BY_DEFECT = (
    'the mount at %s ends by a defect; it answers "Transport endpoint is not connected" until you '
    "mount again: up42fs mount %s"
)
_ALARM_S = 1.0
_DEVICE_POLL_S = 0.5
_AGAIN_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Mount options for the kernel; always nosuid, nodev, and read-only unless `writes`.

    `negotiates`: up42fs does the handshake, otherwise libfuse with its defaults.
    """

    source: str
    allow_other: bool = False
    writes: bool = False
    negotiates: bool = field(default_factory=lambda: os.environ.get(HANDSHAKE_VARIABLE) != "off")

    def to_fuse(self) -> set[str]:
        options = {
            "rw" if self.writes else "ro", "nosuid", "nodev", "noatime", "default_permissions",
            f"fsname={self.source}", "subtype=up42fs",
        }  # fmt: skip
        return options | ({"allow_other"} if self.allow_other else set())


class Session:
    """The mount of this process."""

    def __init__(self, handlers: Handlers, mountpoint: Path, options: MountOptions) -> None:
        self._handlers = handlers
        self._operations = Operations(handlers)
        self._mountpoint = mountpoint
        self._options = options
        self._stopping = trio.Event()
        self._is_mounted = False
        self._has_answered = False
        self._is_to_stay = False
        self._has_ended = False
        self._device_fd = -1
        self._read_ahead: ReadAhead | None = None
        self._server: Server | None = None
        self._close: Callable[..., None] = _nothing_to_close
        self._alarms = ExitStack()
        self._notices: Notices = LibfuseNotices()
        self._line: Mount | None = None
        #: Called when the mount begins to end, once or more often.
        self.on_end: Callable[[], None] = lambda: None
        #: What the kernel agreed to; None where libfuse's defaults hold.
        self.negotiated: Negotiated | None = None

    @asynccontextmanager
    async def mounted(self) -> AsyncIterator[None]:
        """Mount on entry, unmount on exit unless a defect is why; raises ConfigurationError."""
        await self._mount()
        self._is_mounted = True
        try:
            with self._alarms:
                yield
        finally:
            self._is_mounted = False
            if self._read_ahead is not None:
                self._read_ahead.close()
            self._notices.close()
            is_to_go = self._has_ended or not self._has_answered
            if not is_to_go:
                log.error(ENDS_BY_DEFECT, self._mountpoint, self._mountpoint, exc_info=True)
            self._close(unmount=is_to_go and not self._is_to_stay)

    async def _mount(self) -> None:
        reason = "fusermount3's reason stands above, or in the log of a background mount"
        if self._options.negotiates:
            try:
                attached = await negotiate(
                    self._operations,
                    self._mountpoint,
                    self._options.to_fuse(),
                    max_background=wanted_background(),
                    congestion_threshold=CONGESTION_THRESHOLD,
                )
            except HandshakeFailed as error:
                reason = str(error)
                log.info(PLAIN, reason)
            else:
                self.negotiated = attached.negotiated
                self._device_fd = attached.device_fd
                self._notices = DeviceNotices(attached.device_fd)
                self._server = Server(
                    attached.device_fd,
                    attached.libfuse,
                    self._handlers,
                    uid=self._handlers.uid,
                    gid=self._handlers.gid,
                )
                self._close = attached.close
                return
        self._mount_plainly(reason)

    def _mount_plainly(self, reason: str) -> None:
        """Mount as libfuse does it; `reason` is why not otherwise."""
        before = _devices()
        try:
            pyfuse3.init(self._operations, str(self._mountpoint), self._options.to_fuse())
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot mount at {self._mountpoint}: {error}; {reason}"
            ) from None
        # Descriptors that existed before belong to another mount, inherited by this process.
        self._device_fd = next(iter(_devices() - before), -1)
        self._close = pyfuse3.close
        self._alarms.enter_context(_alarm())

    def _mount_anew(self) -> None:
        """Take away a mount that answers nothing, and mount plainly in its place."""
        reason = "after the handshake the mount does not answer"
        log.warning(PLAIN, reason)
        self._notices.close()
        self._close()
        self._close = _nothing_to_close
        self._server, self.negotiated, self._notices = None, None, LibfuseNotices()
        self._mount_plainly(reason)

    async def serve(
        self, *, task_status: trio.TaskStatus[Mount | None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve to the end; reports the mount once it answers, None if stopped before."""
        if self._server is not None and not await self._answers(task_status, FIRST_TIMEOUT_S):
            self._mount_anew()
        if not self._has_ended and not await self._answers(task_status, READY_TIMEOUT_S):
            raise Unavailable(
                f"the mount at {self._mountpoint} did not answer within {READY_TIMEOUT_S:.0f} s"
            )
        if self._stopping.is_set() and not self._has_answered:
            task_status.started(None)
        log.info("unmounted %s", self._mountpoint)

    async def _answers(self, task_status: trio.TaskStatus[Mount | None], limit_s: float) -> bool:
        """Serve to the end; False where the mount did not answer at first, and is still there."""
        async with trio.open_nursery() as nursery:
            start_for_good(nursery, self._end_when_stopped, nursery.cancel_scope)
            start_for_good(nursery, self._end_when_disconnected, nursery.cancel_scope)
            nursery.start_soon(self._probe, task_status, limit_s, nursery.cancel_scope)
            if self._server is None:
                await kept_going(partial(pyfuse3.main, max_tasks=MAX_TASKS))
            else:
                start_for_good(nursery, self._server.relay)
                async with trio.open_nursery() as serving:
                    start_for_good(serving, partial(pyfuse3.main, max_tasks=MAX_RARE_TASKS))
                    await kept_going(self._server.serve)
                    _terminate()
            nursery.cancel_scope.cancel()
        is_there = is_connected(self._device_fd) and not self._stopping.is_set()
        self._has_ended = self._has_answered or not is_there
        return self._has_ended

    def stop(self, *, leave: bool = False) -> None:
        """Stop serving; `mounted` then unmounts, or with `leave` leaves ENOTCONN."""
        self._is_to_stay = leave
        self._stopping.set()

    def take_away(self) -> None:
        """Unmount, unless the mount is to stay or is gone; for a loop that hangs, from a thread."""
        if self._line is None or self._is_to_stay:
            return
        if mount_at(self._mountpoint) == self._line and is_connected(self._device_fd):
            take_away(self._mountpoint)

    def vary_read_ahead(self, mount: Mount, wide_kib: int) -> int:
        """Read ahead `wide_kib`, less in files read in pieces; return those KiB."""
        if self._read_ahead is not None:
            self._read_ahead.close()
        self._read_ahead = self._handlers.read_ahead = ReadAhead(mount, wide_kib)
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

        For edits: their callers must not see the old names. The names must be of directories that
        the kernel does not hold locked for the current call (see 2 above).
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
        self.on_end()
        if self._server is None:
            _terminate()
        else:
            self._server.stop()
        await self._end_handlers(scope, READS_GRACE_S)

    async def _end_when_disconnected(self, scope: trio.CancelScope) -> None:
        gone = self._server.is_gone if self._server else trio.Event()
        while is_connected(self._device_fd) and not gone.is_set():
            with trio.move_on_after(_DEVICE_POLL_S):
                await gone.wait()  # libfuse does not tell, so the device is looked at as well
        self.on_end()
        await self._end_handlers(scope, 0.0)

    async def _end_handlers(self, scope: trio.CancelScope, reads_s: float) -> None:
        """Give reads and other calls their time to end, then cancel them."""
        await trio.sleep(reads_s)
        if self._server is not None:
            self._server.end_waits()
        await trio.sleep(GRACE_S - reads_s)
        scope.cancel()

    async def _probe(
        self, task_status: trio.TaskStatus[Mount | None], limit_s: float, scope: trio.CancelScope
    ) -> None:
        with trio.move_on_after(limit_s):
            try:
                await _in_thread(os.stat, self._mountpoint)
                await _in_thread(os.statvfs, self._mountpoint)
                mount = await _in_thread(mount_at, self._mountpoint)
            except OSError as error:
                log.warning("the mount answers with an error: %s", error)
                mount = None
            if mount is not None:
                self._has_answered = True
                self._line = mount
                task_status.started(mount)
                return
        scope.cancel()


async def _in_thread(look: Callable[[Path], T], place: Path) -> T:
    """Return the result of `look`; retries while threads, memory or descriptors are short."""
    while True:
        try:
            return await trio.to_thread.run_sync(look, place, abandon_on_cancel=True)
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_short_of_anything(error):
                raise
        await trio.sleep(_AGAIN_S)


def _nothing_to_close(*, unmount: bool = True) -> None:
    """There is no session: the second attempt to mount failed."""


def _terminate() -> None:
    """End pyfuse3's loop; no-op between two runs of it."""
    with suppress(RuntimeError):
        pyfuse3.terminate()


def _devices() -> set[int]:
    """The descriptors of /dev/fuse in this process; pyfuse3 does not expose its own."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if link.readlink() == Path("/dev/fuse"):
                found.add(int(link.name))
    return found


@contextmanager
def _alarm() -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, _ALARM_S, _ALARM_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

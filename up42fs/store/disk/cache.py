"""The disk cache for async callers: loads while they wait, writes behind, turns off after an error.

`disk.files` manages the files, `disk.layered` decides whose bytes may be used. All file access is
in worker threads: a few for loads, one for writes.

Theory. The cache is a convenience, so nothing may fail or wait because of it.

- Bytes to write queue up in memory, up to `queue_bytes`, and up to three times that with fetches
  that are cancelled while they wait for room. A fetch that finds the queue full waits as long as
  the disk writes at `QUICK_BYTES_S` or more, otherwise once and at most `PATIENCE_S`: while the
  queue is congested, bytes of later fetches are not kept. So a fast disk keeps all of a file that
  is read once, and a slow one delays nobody.
- An error of the file system, a load of more than `SLOW_S` or a queue without progress for as long
  turns the cache off for this mount, with one warning: a disk that failed once fails again. Reads
  then go on as if nothing were on disk.
- Shortage of a shared resource (room on the disk, descriptors, memory, threads) turns the cache off
  only for a while, longer each time.
"""

from __future__ import annotations

import errno
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import trio
from cachetools import TTLCache

from up42fs import supervise
from up42fs.deadlines import patient_s
from up42fs.metrics import Metrics
from up42fs.ranges import intersect
from up42fs.store.disk import claims, locks
from up42fs.store.disk.cached_files import CacheRoom, Use
from up42fs.store.disk.files import CellFiles, Survey, Wanted
from up42fs.store.disk.format import Label, is_cacheable
from up42fs.types import ByteRange

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Concurrent loads.
LOADERS = 4
#: The longest a fetch waits for room in the queue, seconds.
PATIENCE_S = 0.25
#: If the disk writes at least this fast, fetches wait longer, bytes a second.
QUICK_BYTES_S = 100e6
#: A disk that takes longer is not used, seconds.
SLOW_S = 5.0
#: The longest that unmounting waits for queued writes, seconds.
FLUSH_S = 5.0
#: The end of an object, kept if possible because archives have their directory there, bytes.
END_BYTES = 128 << 10
#: How long the cache is off after a shortage: the first time, and at most, seconds.
FIRST_PAUSE_S = patient_s(10.0)
LONGEST_PAUSE_S = 300.0
#: The modification time of a file in use is updated at most this often, seconds.
TOUCH_S = 60.0
#: Files with such updates remembered.
MOST_TOUCHED = 4096
#: The file of claims is closed after so long without a claim, seconds.
REST_S = 2.0


#: Runs a blocking job in another thread; returns its result, and raises its exceptions.
Runner = Callable[[Callable[[], Any], trio.CapacityLimiter], Awaitable[Any]]


async def in_thread(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Run `job` in a worker thread; cancellation abandons it there."""
    return await trio.to_thread.run_sync(job, limiter=limiter, abandon_on_cancel=True)


class _Taken(NamedTuple):
    """What an attempt to lock made: a descriptor, or None."""

    number: int | None


class Look(NamedTuple):
    """What a look at the disk found, for one range.

    `survey`: what the cells under it hold. `is_ours`: no other process fetches it; `claim` then
    keeps others from fetching it, and is to be released.
    """

    survey: Survey | None
    is_ours: bool
    claim: locks.Claim | None


class Lock:
    """A lock that other mounts see, until it is released."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def release(self) -> None:
        """Give it back, once."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class DiskCache:
    """The cached bytes of one account, shared with other mounts. Tasks run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        files: CellFiles,
        room: CacheRoom,
        metrics: Metrics,
        *,
        directory: Path,
        queue_bytes: int,
        run: Runner = in_thread,
    ) -> None:
        self.is_on = True
        self._nursery = nursery
        self._files = files
        self._claims = locks.ClaimFile(files.root)
        self._claimed_s = -math.inf
        self._resting: trio.CancelScope | None = None
        self._room = room
        self._metrics = metrics
        self._directory = directory
        self._queue_bytes = queue_bytes
        self._run = run
        self._loaders = trio.CapacityLimiter(LOADERS)
        self._writer = trio.CapacityLimiter(1)
        self._reason: str | None = None
        self._jobs = 0
        self._pending_bytes = 0
        self._written_bytes = 0
        self._last_file = ("", 0)  # (object ID, bytes); only the writing thread uses it
        self._is_congested = False
        self._progress = trio.Event()
        self._progress_s = -SLOW_S
        self._touched: TTLCache[str, None] = TTLCache(MOST_TOUCHED, TOUCH_S, trio.current_time)
        self._is_closed = False
        self._pause_s = 0.0
        self._resumed_s = -math.inf
        self._to_remove: set[str] = set()
        #: Files that are to be deleted: what they hold is not looked at any more.
        self._removing: Counter[str] = Counter()

    @classmethod
    def below(
        cls,
        directory: Path,
        nursery: trio.Nursery,
        metrics: Metrics,
        *,
        key: str,
        limit_bytes: int,
        queue_bytes: int,
        run: Runner,
        is_below_kernel: bool = True,
    ) -> DiskCache:
        """Create the cache of account `key` in this user's cache directory."""
        blocks = directory / "blocks"
        return cls(
            nursery,
            CellFiles(blocks, key, metrics, is_below_kernel=is_below_kernel),
            CacheRoom(blocks, limit_bytes, metrics),
            metrics,
            directory=directory,
            queue_bytes=queue_bytes,
            run=run,
        )

    def status(self) -> dict[str, object]:
        """The cache's entry in `status.json`."""
        return {
            "directory": str(self._directory),
            "files": str(self._files.root.path),
            "limit_bytes": self._room.cap_bytes,
            "used_bytes": self._room.used_bytes,
            "queued_bytes": self._pending_bytes,
            "off_because": self._reason,
        }

    # loading -------------------------------------------------------------------------------

    async def label(self, object_id: str) -> Label | None:
        """Return the cached label (version and stamp) of an object; None if there is none."""
        if self._removing[object_id]:
            return None
        return await self._load(lambda: self._files.label(object_id))

    async def survey(self, wanted: Wanted) -> Survey | None:
        """Return the ranges held of an object, unverified; None if nothing may be used."""
        if self._removing[wanted.object_id]:
            return None
        return await self._load(lambda: self._files.survey(wanted))

    async def look(self, wanted: Wanted, span: ByteRange, *, claiming: bool) -> Look | None:
        """Look what other processes stored of `span` meanwhile; None if the cache is off.

        With `claiming` the range is claimed as well, unless another process has claimed it. One
        visit to a thread.
        """
        region = claims.region(wanted.object_id, span) if claiming else None
        claim = None if region is None else locks.Claim(self._claims, region)
        if claim is not None:
            self._note_claim()

        def job() -> Look:
            # First the claim, then the look: what was stored before it was given back is seen.
            is_ours = claim is None or claim.take()
            survey = None
            if not self._removing[wanted.object_id]:
                survey = self._files.survey(wanted, span)
            return Look(survey, is_ours, claim if is_ours else None)

        look = None
        try:
            look = await self._load(job)
        finally:
            if look is None and claim is not None:
                claim.release()
        return look

    def _note_claim(self) -> None:
        self._claimed_s = trio.current_time()
        if self._resting is None and not self._is_closed:
            scope = trio.CancelScope()
            supervise.start(self._nursery, self._rest, scope)
            self._resting = scope  # not before: a task for which there is no memory ends no rest

    async def _rest(self, scope: trio.CancelScope) -> None:
        """Close the file of claims once nothing was claimed for a while, until the next claim."""
        try:
            with scope:
                left_s = REST_S
                while left_s > 0:
                    await trio.sleep(left_s)
                    left_s = self._claimed_s + REST_S - trio.current_time()
        finally:
            self._resting = None
        await self._load(self._claims.rest)

    async def load(self, wanted: Wanted, span: ByteRange, into: memoryview) -> int | None:
        """Read verified bytes from `span.start` on; return their number, None if unusable.

        Once the cache is off, or after cancellation, an abandoned worker may still write to `into`.
        """
        touch = self._is_to_touch(wanted.object_id)

        def job() -> int | None:
            if touch:
                self._files.touch(wanted.object_id)
            return self._files.load(wanted, span, into)

        loaded = await self._load(job)
        if loaded:
            self._metrics.count("store.disk_hits_bytes", loaded)
        return loaded

    async def lock(self, object_id: str) -> Lock | None:
        """Lock an object against other mounts; None if one of them has locked it.

        Release the lock, also when the task is cancelled.
        """
        root = self._files.root
        fd = await self._load(lambda: _Taken(locks.take(root, object_id)))
        if fd is None:
            return Lock(lambda: None)  # the cache is off, or fails: nothing is shared
        if fd.number is None:
            return None
        held = locks.Held(root, object_id, fd.number)

        def unlock() -> list[ByteRange]:
            held.leave()
            return []

        # The file is deleted in a thread, if there is time for that; it is closed in any case.
        return Lock(lambda: self._submit(unlock, 0, lambda _: held.close()))

    async def _load(self, job: Callable[[], T]) -> T | None:
        if not self.is_on:
            return None
        with trio.move_on_after(SLOW_S):
            try:
                loaded: T = await self._run(job, self._loaders)
                return loaded
            except Exception as error:
                self._fail(error)
                return None
        self._turn_off(f"it did not answer within {SLOW_S:.0f} s")
        return None

    def _is_to_touch(self, object_id: str) -> bool:
        if object_id in self._touched:
            return False
        self._touched[object_id] = None
        return True

    # keeping -------------------------------------------------------------------------------

    async def wait_for_room(self, wanted_bytes: int) -> None:
        """Return once `wanted_bytes` can be queued, or when waiting is not worthwhile."""
        while self._is_to_wait(wanted_bytes):
            before_bytes = self._written_bytes
            with trio.move_on_after(PATIENCE_S):
                while self._is_to_wait(wanted_bytes):
                    await self._progress.wait()
                return
            if self._written_bytes - before_bytes < QUICK_BYTES_S * PATIENCE_S:
                break
        else:
            return
        self._is_congested = True
        if trio.current_time() - self._progress_s > SLOW_S:
            self._turn_off(f"it kept nothing within {SLOW_S:.0f} s")

    def keep(
        self,
        label: Label,
        span: ByteRange | None,
        data: memoryview,
        *,
        use: Use,
        is_valid: Callable[[], bool],
        on_kept: Callable[[list[ByteRange]], None],
        claim: locks.Claim | None = None,
    ) -> None:
        """Queue `data`, the bytes of `span`, for writing; skipped if the queue has no room.

        `is_valid` runs in a worker thread just before the write and can still cancel it; `on_kept`
        is always called once, with the ranges that were written. Without `span` only the label is
        kept. The claim of the range is released when it is written, in the same thread.
        """
        if not self.is_on or not is_cacheable(label):
            on_kept([])
            return
        if span is not None and self._has_no_room_at_all(len(span)):
            self._metrics.count("store.disk_skipped_bytes", len(span))
            on_kept([])
            return

        def job() -> list[ByteRange]:
            try:
                return self._store(label, span, data, use) if is_valid() else []
            finally:
                if claim is not None:
                    claim.release()

        self._submit(job, len(data), on_kept)

    def remove(self, object_id: str) -> None:
        """Delete the cached file of an object."""

        def job() -> list[ByteRange]:
            self._last_file = ("", 0)
            self._files.remove(object_id)
            return []

        def removed(_: list[ByteRange]) -> None:
            self._removing[object_id] -= 1
            if not self._removing[object_id]:
                del self._removing[object_id]

        if self.is_on:
            self._removing[object_id] += 1
            self._submit(job, 0, removed)
        else:
            # The cache is off: remove the file first of all once it is on again.
            self._to_remove.add(object_id)

    async def aclose(self) -> None:
        """Wait for queued writes, at most `FLUSH_S` seconds, then turn the cache off."""
        with trio.move_on_after(FLUSH_S):
            while self._jobs and self.is_on:
                await self._progress.wait()
        self._is_closed = True
        self.is_on = False
        if self._resting is not None:
            self._resting.cancel()
        self._claims.close()
        self._files.root.close()

    def _store(
        self, label: Label, span: ByteRange | None, data: memoryview, use: Use
    ) -> list[ByteRange]:
        file_bytes = self._file_bytes(label.object_id)
        if not self._room.admit(len(data), file_bytes=file_bytes, use=use):
            end = _end(span, label.version.size)
            kept_bytes = len(end) if end else 0
            if not self._room.admit(kept_bytes, file_bytes=file_bytes, use=Use.END):
                end, kept_bytes = None, 0
            self._metrics.count("store.disk_skipped_bytes", len(data) - kept_bytes)
            if end is None or span is None:
                return []
            data, span = data[end.start - span.start :][:kept_bytes], end
        kept = self._files.store(label, span, data)
        kept_bytes = sum(map(len, kept))
        self._metrics.count("store.disk_writes_bytes", kept_bytes)
        self._last_file = (label.object_id, file_bytes + kept_bytes)
        return kept

    def _file_bytes(self, object_id: str) -> int:
        """Disk use of the object's file; not measured again if it was the last one written."""
        last_id, last_bytes = self._last_file
        return last_bytes if last_id == object_id else self._files.used_bytes(object_id)

    def _is_to_wait(self, wanted_bytes: int) -> bool:
        return self.is_on and not self._is_congested and self._lacks_room(wanted_bytes)

    def _has_no_room_at_all(self, wanted_bytes: int) -> bool:
        # A fetch that was cancelled while it waited has its bytes already; in the end all are
        # cancelled.
        times = 1 if self._is_congested else 3
        return self._lacks_room(wanted_bytes, times)

    def _lacks_room(self, wanted_bytes: int, times: int = 1) -> bool:
        # One span always fits an empty queue.
        limit_bytes = self._queue_bytes * times
        return self._pending_bytes > 0 and self._pending_bytes + wanted_bytes > limit_bytes

    def _submit(
        self,
        job: Callable[[], list[ByteRange]],
        size_bytes: int,
        on_kept: Callable[[list[ByteRange]], None],
    ) -> None:
        try:
            supervise.start(self._nursery, self._change, job, size_bytes, on_kept)
        except BaseException:
            on_kept([])  # no memory for a task: nothing of this job is left behind
            raise
        # The task begins after this.
        if not self._jobs:
            self._progress_s = trio.current_time()
        self._jobs += 1
        self._pending_bytes += size_bytes

    async def _change(
        self,
        job: Callable[[], list[ByteRange]],
        size_bytes: int,
        on_kept: Callable[[list[ByteRange]], None],
    ) -> None:
        kept: list[ByteRange] = []
        try:
            kept = await self._run(lambda: job() if self.is_on else [], self._writer)
        except Exception as error:
            self._fail(error)
        finally:
            # First, since `on_kept` may fail: a job that stays counted would fill the queue for
            # good, and its end would be waited for at unmount.
            self._jobs -= 1
            self._pending_bytes -= size_bytes
            self._written_bytes += size_bytes
            if self._pending_bytes <= self._queue_bytes // 2:
                self._is_congested = False
            self._progress_s = trio.current_time()
            try:
                on_kept(kept)
            finally:
                self._wake()

    def _wake(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    def _fail(self, error: Exception) -> None:
        """Turn the cache off, for a while or for good depending on `error`."""
        if isinstance(error, OSError) and not supervise.is_short_of_anything(error):
            self._turn_off(_words(error))
            return
        if not supervise.is_short_of_anything(error):
            supervise.report(self._fail, error)  # an internal error
        self._pause(_words(error) if isinstance(error, OSError) else supervise.words(error))

    def _pause(self, why: str) -> None:
        if not self._stop(why):
            return
        now_s = trio.current_time()
        is_new = now_s - self._resumed_s > LONGEST_PAUSE_S
        self._pause_s = FIRST_PAUSE_S if is_new else min(2 * self._pause_s, LONGEST_PAUSE_S)
        try:
            supervise.start(self._nursery, self._resume, self._pause_s)
        except BaseException:
            self.is_on, self._reason = True, None  # or nothing would ever turn it on again
            raise
        log.log(
            logging.WARNING if is_new else logging.DEBUG,
            "the disk cache in %s is off for a while: %s; files are read from UP42. "
            "If that lasts: check the disk's room and the limits of the process (ulimit -a)",
            self._directory, why,
        )  # fmt: skip

    async def _resume(self, pause_s: float) -> None:
        await trio.sleep(pause_s)
        if self._is_closed:
            return
        self.is_on, self._reason = True, None
        self._resumed_s = trio.current_time()
        log.debug("the disk cache in %s is tried again", self._directory)
        ids, self._to_remove = self._to_remove, set()
        for object_id in ids:
            self.remove(object_id)

    def _stop(self, why: str) -> bool:
        """Turn the cache off; False if it was off already."""
        if not self.is_on:
            return False
        self.is_on = False
        self._reason = why
        self._claims.rest()
        self._files.root.close()
        self._wake()
        return True

    def _turn_off(self, why: str) -> None:
        if not self._stop(why):
            return
        log.warning(
            "the disk cache in %s is off until the next mount: %s; files are read from UP42. "
            "Check the disk, or choose another with cache_dir, or none with cache_size=0",
            self._directory, why,
        )  # fmt: skip


def _end(span: ByteRange | None, size: int) -> ByteRange | None:
    """The part of `span` within the last `END_BYTES` of the object."""
    return intersect(span, ByteRange(max(0, size - END_BYTES), size)) if span else None


def _words(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"{error.strerror or type(error).__name__} ({name})"

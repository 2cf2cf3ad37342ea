"""Reads pieces of files in parallel, with a progress bar; Ctrl-C stops between two reads."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from up42fs.cli.progress import progress
from up42fs.cli.running import read_status
from up42fs.cli.terminal import say
from up42fs.cli.warm.plan import Job
from up42fs.cli.warm.ranges import pieces
from up42fs.errors import Up42fsError
from up42fs.types import ByteRange

#: Concurrent readers; the mount sees each as a sequential run and reads ahead of it in parallel.
READERS = 6
_READ_BYTES = 1 << 20
#: A piece starts once at most this many bytes wait for the disk; the longest wait for that,
#: seconds.
MOST_QUEUED_BYTES = 8 << 20
CATCH_UP_S = 10.0


class Troubles:
    """Reports failures and goes on."""

    def __init__(self) -> None:
        self.status = 0

    def attempt(self, plan: Callable[[Path], Job | None], path: Path) -> Job | None:
        """Plan a file; None, with a report, if planning fails."""
        try:
            return plan(path)
        except (OSError, Up42fsError) as error:
            self.note(path, error)
            return None

    def note(self, path: Path, error: Exception) -> None:
        """Report an error of a file; the command then fails at its end."""
        self.status = 1
        reason = error.strerror if isinstance(error, OSError) else error
        say(f"up42fs: {path}: {reason}", to_error=True)


def read(mountpoint: Path, jobs: list[Job], troubles: Troubles) -> tuple[bool, int]:
    """Read all jobs; return whether all were read (not stopped), and the number of bytes."""
    with progress("warming", sum(job.bytes for job in jobs)) as advance:
        reading = _Reading(mountpoint, advance, troubles)
        return reading.run(jobs), reading.read_bytes


class _Reading:
    """Reads pieces of files in threads until done or stopped."""

    def __init__(
        self, mountpoint: Path, on_bytes: Callable[[int], None], troubles: Troubles
    ) -> None:
        self._mountpoint = mountpoint
        self.read_bytes = 0
        self._on_bytes = on_bytes
        self._troubles = troubles
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failed: set[Path] = set()

    def run(self, jobs: list[Job]) -> bool:
        """Read all; return False if Ctrl-C stopped it. Running reads are completed."""
        pieces = self._pieces(jobs)
        with ThreadPoolExecutor(READERS) as readers:
            running: set[Future[None]] = set()
            try:
                for job, span in pieces:
                    running.add(readers.submit(self._piece, job, span))
                    if len(running) > READERS:
                        running = self._settle(running)
                while running:
                    running = self._settle(running)
            except KeyboardInterrupt:
                self._stop.set()
                return False
        return True

    def _pieces(self, jobs: list[Job]) -> Iterator[tuple[Job, ByteRange]]:
        for job in jobs:
            for span in pieces(job.spans, job.piece_bytes):
                yield job, span

    def _settle(self, running: set[Future[None]]) -> set[Future[None]]:
        done, rest = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        return rest

    def _piece(self, job: Job, span: ByteRange) -> None:
        if self._stop.is_set() or job.path in self._failed:
            return
        self._let_disk_catch_up()
        try:
            self._read_span(job, span)
        except OSError as error:
            with self._lock:
                if job.path not in self._failed:
                    self._failed.add(job.path)
                    self._troubles.note(job.path, error)

    def _let_disk_catch_up(self) -> None:
        """Wait for the mount's queue to the disk: bytes that find it full are not kept."""
        deadline_s = time.monotonic() + CATCH_UP_S
        while time.monotonic() < deadline_s and not self._stop.is_set():
            disk = (read_status(self._mountpoint) or {}).get("disk_cache") or {}
            if disk.get("queued_bytes", 0) < MOST_QUEUED_BYTES:
                return
            self._stop.wait(0.05)

    def _read_span(self, job: Job, span: ByteRange) -> None:
        if job.is_exact and self._fetch(job.path, span):
            return
        descriptor = os.open(job.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            position = span.start
            while position < span.stop and not self._stop.is_set():
                data = os.pread(descriptor, min(_READ_BYTES, span.stop - position), position)
                if not data:
                    return  # the file is now shorter
                position += len(data)
                self._count(len(data))
        finally:
            os.close(descriptor)

    def _fetch(self, path: Path, span: ByteRange) -> bool:
        """Make the mount fetch a span and no other bytes; return whether it supports that."""
        try:
            count = int(os.getxattr(path, f"user.up42.fetch.{span.start}-{span.stop}"))
        except OSError as error:
            if error.errno == errno.ENODATA:  # the mount is of an older release
                return False
            raise
        self._count(count)
        return True

    def _count(self, count: int) -> None:
        with self._lock:
            self.read_bytes += count
            self._on_bytes(count)

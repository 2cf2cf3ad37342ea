"""One pace of requests for all processes of an account on a host: a small file under a lock.

`net.pacing` decides; this keeps its state where others find it, as `store.egress` keeps a budget.
Blocking, for worker threads; a call takes some microseconds unless others wait for the lock.

Times are those of the machine's monotonic clock, which all its processes share; the file names the
boot in which they count. Anything else in the file counts as nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from up42fs.net import pacing
from up42fs.ownership import open_directory

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 512
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class PaceBook:
    """The pace of one account at one host. Raises OSError."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._boot = _boot()

    def admit(self, rate: pacing.Rate, longest_s: float) -> float:
        """Reserve a request; return in how many seconds to send it.

        Nothing is reserved if that is `longest_s` or more.
        """
        with self._opened() as descriptor:
            now_s = self._clock()
            pace, send_at_s = pacing.plan_admission(self._read(descriptor, rate), rate, now_s)
            if send_at_s - now_s < longest_s:
                self._write(descriptor, pace)
            return send_at_s - now_s

    def pause(self, rate: pacing.Rate, pause_s: float) -> None:
        """Hold the requests of all processes for `pause_s` seconds."""
        with self._opened() as descriptor:
            pace = self._read(descriptor, rate)
            self._write(descriptor, pacing.plan_pause(pace, rate, self._clock(), pause_s))

    def is_paused(self, rate: pacing.Rate) -> bool:
        """Whether requests are held now."""
        with self._opened() as descriptor:
            return self._read(descriptor, rate).paused_until_s > self._clock()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        directory = open_directory(self.path.parent)
        try:
            descriptor = os.open(self.path.name, _FLAGS, 0o600, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, rate: pacing.Rate) -> pacing.Pace:
        with suppress(ValueError, TypeError, KeyError):
            found = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
            if found["boot"] == self._boot:
                pace = pacing.Pace(float(found["arrival"]), float(found["paused"]))
                return pacing.plausible(pace, rate, self._clock())
        return pacing.Pace()

    def _write(self, descriptor: int, pace: pacing.Pace) -> None:
        # JSON has no infinity: a pace that never paused did so when the machine started.
        arrival_s, paused_s = max(pace.arrival_s, 0.0), max(pace.paused_until_s, 0.0)
        text = json.dumps({"boot": self._boot, "arrival": arrival_s, "paused": paused_s})
        os.pwrite(descriptor, text.encode().ljust(_MOST_BYTES), 0)


def _boot() -> str:
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return ""

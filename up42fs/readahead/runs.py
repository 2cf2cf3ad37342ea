"""One run of reads of one open handle, and whether a read continues it.

`plan` has the theory; it calls such a run a stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from up42fs.readahead.tuning import BUFFER_BYTES, Tuning
from up42fs.types import ByteRange


class Move(Enum):
    """How a read relates to the run it belongs to."""

    JUMP = auto()  # begins a run, or repeats a read
    ON = auto()  # continues upward
    DOWN = auto()  # continues downward


@dataclass(slots=True)
class Stream:
    """One run of reads over `[start, stop)`; `skipped` bytes of it were left out so far.

    `run_bytes` were read going up, `fall_bytes` going down; `asked` is the read-ahead beyond it.
    `touched_at` is the total of bytes read through the handle up to and including its last read.
    """

    start: int
    stop: int
    run_bytes: int
    last_bytes: int
    touched_at: int
    first_bytes: int = 0  # of its first read
    before_bytes: int = 0  # of the read before the last one
    passed: int = 0  # offset that the program has certainly passed, despite the kernel's read-ahead
    skipped: int = 0
    fall_bytes: int = 0
    whole_from: int = 0  # nothing was left out from this offset on
    level: int | None = None  # of the last tile that it has certainly passed
    in_tiles: bool = False
    is_scan: bool = False  # the file is read as bytes, not as an image
    asked: list[ByteRange] = field(default_factory=list)

    def give_up(self) -> list[ByteRange]:
        """Forget the read-ahead beyond the run and return it."""
        asked, self.asked = self.asked, []
        return [ByteRange(max(s.start, self.stop), s.stop) for s in asked if s.stop > self.stop]

    def pass_over(self, read: ByteRange, slack: int, *, goes_on: bool) -> ByteRange | None:
        """Return the bytes that the program has certainly passed since the last call.

        `goes_on`: nothing was left out before `read`. The kernel reads ahead: it requests more when
        the program reaches the last piece requested. So the program certainly wanted only the bytes
        up to two reads before the end of a run, or up to `slack` bytes before it, and the pages at
        the start of a run.
        """
        start = self.passed if goes_on else read.start
        stop = read.stop - min(slack, self.before_bytes + len(read))
        if not goes_on:
            stop = max(stop, min(read.start + BUFFER_BYTES, read.stop))
        self.passed = max(start, stop)
        return ByteRange(start, stop) if start < stop else None

    def accepts(self, read: ByteRange, tuning: Tuning) -> bool:
        """Whether `read` can continue this run, allowing for reads that arrive out of order."""
        if read.start >= self.stop:
            return read.start - self.stop <= min(tuning.forward_bytes, self.run_bytes)
        if read.stop > self.stop - tuning.back_bytes - self.last_bytes:
            return True
        return self.start - tuning.back_bytes <= read.stop <= self.start + self.last_bytes

    def distance(self, read: ByteRange) -> int:
        """Distance of `read` from the nearer end of the run, in bytes."""
        return min(abs(read.start - self.stop), abs(read.stop - self.start))

    def extend(self, read: ByteRange) -> Move:
        """Add `read` to the run."""
        self.before_bytes, self.last_bytes = self.last_bytes, len(read)
        if read.stop > self.stop:
            self.skipped += max(0, read.start - self.stop)
            self.run_bytes += min(len(read), read.stop - self.stop)
            self.stop = read.stop
            return Move.ON
        if read.start < self.start:
            self.fall_bytes += min(len(read), self.start - read.start)
            self.start = read.start
            return Move.DOWN
        late = min(len(read), self.skipped)
        self.skipped -= late
        self.run_bytes += late
        return Move.ON if late else Move.JUMP

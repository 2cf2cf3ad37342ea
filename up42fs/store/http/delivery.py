"""One answer's body on its way into a part: checked, skipped, held back or passed on.

Used by a worker thread while the request runs (`begin`, `write`), then by the trio thread
(`finish`). Knows nothing of retries: it only says how the answer was refused, if it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from up42fs.store.http.answer import Final, Garbled, Take, VersionPin, judge
from up42fs.store.http.ports import Head, Outcome
from up42fs.types import ByteRange, Bytes


class Writer(Protocol):
    """Takes an object's bytes in order."""

    def write(self, data: Bytes) -> bool:
        """Append `data`; False if nobody wants it any more. Any thread, never blocks."""
        ...

    def space(self) -> memoryview | None:
        """Where the bytes still to come belong, if they can be written there directly.

        It is longer than they are by a byte at least, which may be written to.
        """
        ...

    def fill(self, count: int) -> bool:
        """The next `count` bytes are in their place; False if nobody wants more."""
        ...

    def abandon(self) -> None:
        """A late writer may still write to what `space` gave: use other memory from here on."""
        ...


class Delivery:
    """A sink for the bytes of `asked`, which go to `writer` once they are known to be right."""

    def __init__(
        self,
        asked: ByteRange,
        pin: VersionPin,
        writer: Writer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Garbled | Final | None = None
        self.body_bytes = 0  # that came
        self.first_s: float | None = None  # from asking to the head
        self.gap_s = 0.0  # the longest silence after it
        self.heard_at_s = clock()
        self._clock = clock
        self._asked = asked
        self._pin = pin
        self._writer = writer
        self._skip = 0
        self._left = len(asked)
        self._prove: int | None = None
        self._held = bytearray()

    def begin(self, head: Head) -> bool:
        """Accept or refuse the body."""
        now_s = self._clock()
        self.first_s, self.heard_at_s = now_s - self.heard_at_s, now_s
        judgement = judge(head, self._asked, self._pin)
        if not isinstance(judgement, Take):
            self.refused = judgement
            return False
        self._skip, self._prove = judgement.skip, judgement.prove
        return True

    def space(self) -> memoryview | None:
        """The place of the bytes asked for and a byte more, where the body is nothing else."""
        if self._skip or self._prove is not None:
            return None
        space = self._writer.space()
        return None if space is None or len(space) <= self._left else space[: self._left + 1]

    def fill(self, count: int) -> bool:
        """So many more bytes are in their place; False if nobody wants more."""
        self._hear(count)
        # A body longer than the range reaches the byte behind the place, which is not data.
        count = min(count, self._left)
        self._left -= count
        return self._writer.fill(count) and self._left > 0

    def abandon(self) -> None:
        """Leave the place to whoever may still write to it."""
        self._writer.abandon()

    def write(self, data: Bytes) -> bool:
        """Take the next bytes of the body; False once there are enough."""
        self._hear(len(data))
        if self._prove is not None:
            self._held += data
            return len(self._held) <= self._prove
        view = memoryview(data)
        if self._skip:
            skipped = min(self._skip, len(view))
            self._skip -= skipped
            view = view[skipped:]
            if not view:
                return True
        view = view[: self._left]
        self._left -= len(view)
        return self._writer.write(view) and self._left > 0

    def finish(self, outcome: Outcome) -> None:
        """Pass on what was held back, if the whole body proves right."""
        if self._prove is None or outcome.kind is not None:
            return
        if len(self._held) != self._prove:
            self.refused = Garbled(f"a body of another length than {self._prove} bytes")
            return
        self._writer.write(memoryview(self._held)[self._skip : self._skip + self._left])

    def _hear(self, count: int) -> None:
        self.body_bytes += count
        now_s = self._clock()
        self.gap_s = max(self.gap_s, now_s - self.heard_at_s)
        self.heard_at_s = now_s

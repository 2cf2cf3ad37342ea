"""Passes one answer's body on to a part: validated, skipped, or held back.

Used by a worker thread while the request runs (`begin`, `write`), then by the trio thread
(`finish`). Knows nothing of retries: it only reports why the answer was refused, if it was.
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
        """Append `data`; False if no more is wanted. Any thread, never blocks."""
        ...

    def space(self) -> memoryview | None:
        """The memory for the missing bytes, if they can be written there directly.

        It is at least one byte longer than they are; that byte may be overwritten.
        """
        ...

    def fill(self, count: int) -> bool:
        """Count the next `count` bytes as written; False if no more are wanted."""
        ...

    def abandon(self) -> None:
        """Use other memory from here on: a late writer may still write to what `space` returned."""
        ...


class Delivery:
    """A sink that passes the bytes of `asked` on to `writer` once they are known to be right."""

    def __init__(
        self,
        asked: ByteRange,
        pin: VersionPin,
        writer: Writer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Garbled | Final | None = None
        self.body_bytes = 0  # received
        self.first_s: float | None = None  # from the request to the head
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
        """The memory for the requested bytes and one more; None if the body has other bytes too."""
        if self._skip or self._prove is not None:
            return None
        space = self._writer.space()
        return None if space is None or len(space) <= self._left else space[: self._left + 1]

    def fill(self, count: int) -> bool:
        """Count `count` more bytes as written; False if no more are wanted."""
        self._hear(count)
        # A body longer than the range overflows into the extra byte, which is not data.
        count = min(count, self._left)
        self._left -= count
        return self._writer.fill(count) and self._left > 0

    def abandon(self) -> None:
        """Leave the memory to a late writer."""
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
        """Pass on the bytes held back, if the whole body has the proven length."""
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

"""Learns the version of an object whose size nobody knows: by reading its first bytes.

UP42 gives transformed files no size (contract §5.8). One ranged GET tells it, and brings what a
reader asks for first anyway. Knows nothing of handles or of what the bytes mean.
"""

from __future__ import annotations

from up42fs.store.http.answer import VersionPin
from up42fs.types import ByteRange, Bytes

#: What is asked for: the span that the first read of a file would fetch (`readahead.plan`).
HEAD_BYTES = 128 << 10


class Head:
    """The first bytes of an object, as a target of `Source.fetch`; full once the size is known."""

    def __init__(self, pin: VersionPin, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.stopped = False
        self.wanted = True
        self._pin = pin
        self._bytes = bytearray()

    @property
    def content(self) -> bytes:
        """What came."""
        return bytes(self._bytes)

    @property
    def missing(self) -> ByteRange | None:
        """What is still to come; before the first answer all that may be there."""
        size = self._pin.size
        stop = HEAD_BYTES if size is None else min(HEAD_BYTES, size)
        return ByteRange(len(self._bytes), stop) if len(self._bytes) < stop else None

    def write(self, data: Bytes) -> bool:
        """Append `data`; False once stopped. Any thread."""
        if not self.stopped:
            self._bytes += data
        return not self.stopped

    def space(self) -> memoryview | None:
        """No place: how many bytes will come is not known."""
        return None

    def fill(self, count: int) -> bool:  # noqa: ARG002
        """Nothing is written to a place."""
        raise AssertionError("there is no place")

    def abandon(self) -> None:
        """There is no place that anybody could write to."""

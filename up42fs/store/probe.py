"""Learns the version of an object of unknown size by reading its first bytes.

UP42 reports no size of transformed files (contract §5.8). One ranged GET reveals it, and brings the
bytes that a reader requests first anyway. Knows nothing of handles or of what the bytes mean.
"""

from __future__ import annotations

from up42fs.store.http.answer import VersionPin
from up42fs.types import ByteRange, Bytes

#: The span to request: the one that the first read of a file would fetch (`readahead.plan`).
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
        """The bytes received."""
        return bytes(self._bytes)

    @property
    def missing(self) -> ByteRange | None:
        """The range still to come; before the first answer, all of `HEAD_BYTES`."""
        size = self._pin.size
        stop = HEAD_BYTES if size is None else min(HEAD_BYTES, size)
        return ByteRange(len(self._bytes), stop) if len(self._bytes) < stop else None

    def write(self, data: Bytes) -> bool:
        """Append `data`; False once stopped. Any thread."""
        if not self.stopped:
            self._bytes += data
        return not self.stopped

    def space(self) -> memoryview | None:
        """None: the body's length is unknown, so it cannot be written directly."""
        return None

    def fill(self, count: int) -> bool:  # noqa: ARG002
        """Not supported, since `space` offers no memory."""
        raise AssertionError("there is no place")

    def abandon(self) -> None:
        """No-op: `space` offers no memory that a late writer could write to."""

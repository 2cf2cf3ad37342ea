"""Recent read failures of one handle, raised again for overlapping reads without another request.

Pure: takes the time as an argument. Knows nothing of what failed.

Theory. When a read-ahead request of the kernel fails, the kernel requests the one page again, and
the program waits for both. If the first took its whole deadline, the second would take another. So
a failure that took long is repeated to the next overlapping read for a moment: long enough for the
kernel, too short for a person to notice.
"""

from __future__ import annotations

from up42fs.errors import Up42fsError, copied
from up42fs.ranges import intersect
from up42fs.types import ByteRange

#: A failure that took longer than this is repeated for as long, seconds.
REPEATED_S = 1.0


class FailedReads:
    """The latest failures of one handle; several, as the kernel reads ahead in several requests."""

    def __init__(self) -> None:
        self._news: list[tuple[ByteRange, Up42fsError, float]] = []

    def check(self, wanted: ByteRange, now_s: float) -> None:
        """Raise the error that a read overlapping `wanted` failed with a moment ago, if any."""
        if not self._news:
            return
        self._news = [news for news in self._news if now_s - news[2] < REPEATED_S]
        for span, error, _ in self._news:
            if intersect(span, wanted) is not None:
                raise copied(error) from error

    def note(self, wanted: ByteRange, error: Up42fsError, began_at_s: float, now_s: float) -> None:
        """Record that `wanted`, requested at `began_at_s`, failed with `error`."""
        if now_s - began_at_s >= REPEATED_S:
            self._news.append((wanted, error, now_s))

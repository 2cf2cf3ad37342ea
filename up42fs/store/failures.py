"""The news of a failed read, told again to whoever asks for the same bytes at once.

Pure: told the time. Knows nothing of what failed.

Theory. The kernel asks twice: when its read-ahead request failed, it asks for the one page again,
and the program waits for both. Where the first took its whole deadline, the second would take
another. So a failure that took long to find out is the answer to the next question too, for a
moment: long enough for the kernel, too short for a person to notice.
"""

from __future__ import annotations

from up42fs.errors import Up42fsError
from up42fs.ranges import intersect
from up42fs.types import ByteRange

#: A failure that took longer than this is told again for as long, seconds.
REPEATED_S = 1.0


class FailedReads:
    """The latest failures of one handle; several, as the kernel reads ahead in several requests."""

    def __init__(self) -> None:
        self._news: list[tuple[ByteRange, Up42fsError, float]] = []

    def check(self, wanted: ByteRange, now_s: float) -> None:
        """Raise the error that bytes of `wanted` just failed with, if any."""
        if not self._news:
            return
        self._news = [news for news in self._news if now_s - news[2] < REPEATED_S]
        for span, error, _ in self._news:
            if intersect(span, wanted) is not None:
                raise type(error)(*error.args) from error

    def note(self, wanted: ByteRange, error: Up42fsError, began_at_s: float, now_s: float) -> None:
        """`wanted` failed with `error`, having been asked for at `began_at_s`."""
        if now_s - began_at_s >= REPEATED_S:
            self._news.append((wanted, error, now_s))

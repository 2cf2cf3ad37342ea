"""How long a reader waits for bytes that a packed member has to be inflated up to.

Pure: the caller passes the time.

Theory. Nothing tells at which packed byte an offset lies, so a jump far into a member that nobody
has read costs all that comes before. A program that waits in a read cannot do anything else, and
some cannot be interrupted. So a jump is waited for as a first listing is, `LONGEST_S` while bytes
flow, and not at all if the line is known to be too slow for that: the reader is told at once, and
its bytes are inflated behind.
"""

from __future__ import annotations

from collections import deque

#: The longest that a reader waits, seconds.
LONGEST_S = 100.0
#: A rate is measured over so many seconds, and not before so many.
WINDOW_S = 10.0
LEAST_S = 3.0
#: Without bytes for so long, nothing flows: the store's own error is waited for, seconds.
SILENT_S = 3.0
#: Silence of the line within a measurement that begins a new one, seconds.
_SILENCE_S = 30.0


class Flow:
    """The rate at which packed bytes were used lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._grew_s = 0.0

    def note(self, now_s: float, at: int) -> None:
        """The offset `at` is reached."""
        samples = self._samples
        if samples and (at < samples[-1][1] or now_s - samples[-1][0] > _SILENCE_S):
            samples.clear()
        if not samples or at > samples[-1][1]:
            self._grew_s = now_s
        samples.append((now_s, at))
        while len(samples) > 2 and samples[1][0] <= now_s - WINDOW_S:
            samples.popleft()

    def begin(self) -> None:
        """Begin a new measurement: nobody wanted bytes in between."""
        self._samples.clear()

    def bytes_s(self, now_s: float) -> float | None:
        """Bytes a second up to now; None if it was not measured for long enough, or none come."""
        if not self._samples or now_s - self._grew_s > SILENT_S:
            return None
        began_s, at = self._samples[0]
        if now_s - began_s < LEAST_S:
            return None
        return (self._samples[-1][1] - at) / (now_s - began_s) or None


def lacking_s(to_go: int, bytes_s: float | None) -> float | None:
    """Seconds until `to_go` bytes have come; None if the rate is not known."""
    if bytes_s is None:
        return None
    return to_go / bytes_s if bytes_s > 0 else float("inf")


def is_too_long(
    to_go: int, bytes_s: float | None, waited_s: float, longest_s: float = LONGEST_S
) -> bool:
    """Whether a reader that has waited `waited_s` should be told now to come back later."""
    lacking = lacking_s(to_go, bytes_s)
    return lacking is not None and waited_s + lacking > longest_s

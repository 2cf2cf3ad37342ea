"""Which bytes of a file something happened to, and when: a bounded list.

Pure: the caller gives the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from up42fs.types import ByteRange

#: Moments kept of a file; if there are more, neighbours are merged.
MOST_MOMENTS = 512
#: What follows within so many seconds, and touches, is the same moment.
_JOIN_S = 0.05


@dataclass(slots=True)
class Moment:
    """The bytes [start, stop), from `began_s` to `ended_s` on the caller's clock."""

    began_s: float
    ended_s: float
    start: int
    stop: int


@dataclass(slots=True)
class Timeline:
    """Moments in the order in which they were noted."""

    _moments: list[Moment] = field(default_factory=list)

    def __iter__(self) -> Iterator[Moment]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)

    def since(self, first_s: float) -> list[list[float]]:
        """The moments as [began, ended, start, stop]; times in seconds after `first_s`."""
        return [
            [round(one.began_s - first_s, 3), round(one.ended_s - first_s, 3), one.start, one.stop]
            for one in self._moments
        ]

    def note(self, span: ByteRange, began_s: float, ended_s: float) -> None:
        """Add `span`, whose bytes came or were read between two moments of the clock, seconds."""
        new = Moment(began_s, ended_s, span.start, span.stop)
        last = self._moments[-1] if self._moments else None
        if last and _between(last, new) <= 0 and new.began_s - last.ended_s <= _JOIN_S:
            self._moments[-1] = _joined(last, new)
            return
        self._moments.append(new)
        if len(self._moments) > MOST_MOMENTS:
            self._thin()

    def _thin(self) -> None:
        """Merge neighbours, a quarter of all, where the fewest bytes lie between the two."""
        moments = self._moments
        gaps = sorted(range(1, len(moments)), key=lambda i: _between(moments[i - 1], moments[i]))
        taken: set[int] = set()  # the later ones of the pairs
        for index in gaps:
            if len(taken) >= MOST_MOMENTS // 4:
                break
            if index - 1 not in taken and index + 1 not in taken:
                taken.add(index)
        self._moments = [
            _joined(one, moments[index + 1]) if index + 1 in taken else one
            for index, one in enumerate(moments)
            if index not in taken
        ]


def _between(one: Moment, other: Moment) -> int:
    """Bytes between two moments; not above 0 if they touch or overlap."""
    return max(one.start, other.start) - min(one.stop, other.stop)


def _joined(one: Moment, other: Moment) -> Moment:
    return Moment(
        min(one.began_s, other.began_s),
        max(one.ended_s, other.ended_s),
        min(one.start, other.start),
        max(one.stop, other.stop),
    )

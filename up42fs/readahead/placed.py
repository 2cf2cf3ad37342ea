"""The plan of a file that stands within a larger object, as a stored member does in its archive.

Moves ranges between the file's offsets, in which `plan` thinks, and the object's. Knows nothing of
archives but how long a member's local header usually is.

Theory. A file within an object is read as the same file alone would be: `Placed` passes its reads
to the file's own plan, and the plan's ranges back. Only where a zip's member begins is not known:
its local header stands before it, and is often longer than the directory's entry. Asking for the
header first would cost each member a round trip, so `FirstReach` asks for it together with what the
first read needs, wherever within `HEADER_BYTES` the data may begin.
"""

from __future__ import annotations

from collections.abc import Iterable

from up42fs.ranges import coalesce, intersect, subtract
from up42fs.readahead.neighbours import Neighbours
from up42fs.readahead.plan import Access, Coverage, Plan
from up42fs.readahead.tiff import Get
from up42fs.types import ByteRange

#: Most local headers are shorter, names and extra fields included. The data after a longer one
#: costs one more request.
HEADER_BYTES = 512
#: A local header without its name and extra fields: what must be read to find the data.
LOCAL_BYTES = 30


def moved(span: ByteRange, by: int) -> ByteRange:
    """The range `by` bytes further on."""
    return ByteRange(span.start + by, span.stop + by)


def _all_moved(spans: Iterable[ByteRange], by: int) -> tuple[ByteRange, ...]:
    return tuple(ByteRange(span.start + by, span.stop + by) for span in spans)


class _Within:
    """The coverage of a file that begins at `base` of an object."""

    def __init__(self, have: Coverage, base: int) -> None:
        self._have = have
        self._base = base

    def missing(self, span: ByteRange) -> list[ByteRange]:
        return [moved(hole, -self._base) for hole in self._have.missing(moved(span, self._base))]


class _Nothing:
    def missing(self, span: ByteRange) -> list[ByteRange]:
        return [span]


class Placed:
    """The plan of one handle of a file that begins at `base`, in the object's offsets.

    `neighbours` are given for a small file, whose requests may extend to the files around it.
    """

    is_passing = False

    def __init__(self, access: Access, base: int, neighbours: Neighbours | None = None) -> None:
        self.base = base
        self.has_missed = access.has_missed
        self._access = access
        self._neighbours = neighbours

    @property
    def run_bytes(self) -> int:
        """Bytes read upward by the run that the last read belongs to."""
        return self._access.run_bytes

    def reads_again(self, start: int, stop: int, have: Coverage) -> bool:
        """See `Access.reads_again`."""
        base = self.base
        return self._access.reads_again(start - base, stop - base, _Within(have, base))

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """See `Access.on_read`."""
        base = self.base
        plan = self._access.on_read(moved(read, -base), _Within(have, base), window_bytes)
        demand = _all_moved(plan.demand, base)
        if self._neighbours is not None:
            demand = tuple(self._neighbours.grown(span, have) for span in demand)
        return Plan(
            demand,
            _all_moved(plan.ahead, base),
            _all_moved(plan.guesses, base),
            _all_moved(plan.cancel, base),
            _all_moved(plan.keep, base),
        )

    def learn(self, near: ByteRange, get: Get) -> None:
        """See `Access.learn`."""
        base = self.base
        self._access.learn(moved(near, -base), lambda span: get(moved(span, base)))

    def on_close(self) -> Plan:
        """See `Access.on_close`."""
        plan = self._access.on_close()
        return Plan(
            cancel=_all_moved(plan.cancel, self.base), keep=_all_moved(plan.keep, self.base)
        )


class FirstReach:
    """Plans the read of a local header, with what the member's first read needs.

    `header_at` is the header's place in an object of `size` bytes. `access` plans `wanted`, in the
    member's offsets, and is used up by it; without `wanted` only the header is read.
    """

    is_passing = False

    def __init__(
        self,
        header_at: int,
        size: int,
        *,
        access: Access | None = None,
        wanted: ByteRange | None = None,
        window_bytes: int = 0,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.has_missed = False
        self.run_bytes = 0
        self._window_bytes = window_bytes
        self._header_at = header_at
        self._size = size
        self._access = access
        self._wanted = wanted
        self._neighbours = neighbours

    @property
    def header(self) -> ByteRange:
        """The bytes to read."""
        return ByteRange(self._header_at, self._header_at + LOCAL_BYTES)

    @property
    def is_within(self) -> bool:
        """Whether the object is long enough to hold a header there."""
        return self.header.stop <= self._size

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:  # noqa: ARG002
        """The header, and the reach of the first read; `read` is the header."""
        plan = Plan()
        if self._access is not None and self._wanted is not None:
            plan = self._access.on_read(self._wanted, _Nothing(), self._window_bytes)
        near, *far = coalesce([read, *around(self._header_at, plan.demand, self._size)])
        demand = have.missing(near)
        if self._neighbours is not None:
            demand = coalesce(self._neighbours.grown(span, have) for span in demand)
        # What is read ahead follows what is demanded, which holds its beginning.
        later = _all_moved(plan.ahead, self._header_at + HEADER_BYTES)
        bounds = ByteRange(0, self._size)
        far += [both for span in later if (both := intersect(span, bounds))]
        ahead = [hole for span in far for hole in have.missing(span)]
        return Plan(tuple(demand), tuple(hole for one in ahead for hole in subtract(one, demand)))

    def learn(self, near: ByteRange, get: Get) -> None:
        """Nothing: a header has no structure."""

    def reads_again(self, start: int, stop: int, have: Coverage) -> bool:  # noqa: ARG002
        """False: each header is read once."""
        return False


def around(header_at: int, spans: Iterable[ByteRange], size: int) -> list[ByteRange]:
    """The object's ranges that hold `spans` of a member, wherever its data begins.

    What begins at the member's first byte is extended to its local header.
    """
    found = []
    for span in spans:
        start = header_at + (LOCAL_BYTES + span.start if span.start else 0)
        stop = min(header_at + HEADER_BYTES + span.stop, size)
        if start < stop:
            found.append(ByteRange(start, stop))
    return coalesce(found)

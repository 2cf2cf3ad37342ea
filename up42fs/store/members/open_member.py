"""One open handle of a stored member, which is read through its archive's fetcher.

Knows where the member's bytes begin, or how to find that out; the plan thinks in the member's own
offsets (`readahead.placed`).
"""

from __future__ import annotations

from contextlib import suppress

from up42fs.errors import DamagedArchive
from up42fs.ranges import intersect, subtract
from up42fs.readahead.placed import FirstReach, Placed, moved
from up42fs.readahead.plan import Access, Exact, Plan
from up42fs.store.fetcher import Fetcher
from up42fs.store.handle import OpenFile, Windows
from up42fs.store.http.tally import Tally
from up42fs.store.insights import Insights
from up42fs.store.members.view import View
from up42fs.types import ByteRange, Bytes


async def place(
    fetcher: Fetcher,
    view: View,
    name: str,
    first: FirstReach | None = None,
    tally: Tally | None = None,
) -> int:
    """Find out where the member's bytes begin, and check that they end within its archive.

    `first` is the plan of the request for its local header. Raises an `Up42fsError`.
    """
    if view.parent is not None and view.parent.base is None:
        await place(fetcher, view.parent, name)
    if view.base is None:
        first = first or reach_of(view, fetcher)
        if tally is not None:
            tally.count("store.reads")
        header = await fetcher.read(first, first.header, 0, tally) if first.is_within else b""
        if not view.place(header):
            raise damaged(name, "it does not stand where the archive's directory says")
    base = view.base
    assert base is not None, "it was placed"
    end = fetcher.size
    if view.parent is not None and view.parent.span is not None:
        end = view.parent.span.stop
    if base + view.size > end:
        raise damaged(name, "it ends beyond its archive")
    return base


def reach_of(view: View, fetcher: Fetcher) -> FirstReach:
    """The plan of the request for nothing but the member's local header."""
    return FirstReach(view.header_at, fetcher.size)


def damaged(name: str, what: str) -> DamagedArchive:
    """The error of a member whose archive is wrong about it."""
    return DamagedArchive(
        f"{name}: {what}; the archive is damaged: ask UP42 for a new delivery, or unpack the "
        "archive with a program that mends it"
    )


class OpenMember(OpenFile):
    """One open handle of one stored member, `size` bytes of it."""

    def __init__(
        self,
        fetcher: Fetcher,
        view: View,
        access: Access,
        tally: Tally,
        name: str,
        *,
        size: int,
        windows: Windows,
        insights: Insights,
    ) -> None:
        super().__init__(fetcher, access, tally, name, windows=windows, insights=insights)
        self._view = view
        self.size = size
        self._placed: Placed | None = None
        self._is_begun = False

    def read_again(self, offset: int, size: int) -> memoryview | None:
        """See `OpenFile.read_again`."""
        placed = self._placed
        stop = min(offset + size, self._view.size)
        if placed is None or not 0 <= offset < stop or self._is_closed or self._failed.news:
            return None
        data = self._fetcher.read_again(placed, placed.base + offset, placed.base + stop)
        if data is not None:
            self._tally.count_hit(stop - offset)
        return data

    def ahead(self, offset: int, most: int) -> Bytes:
        """See `OpenFile.ahead`."""
        placed = self._placed
        stop = min(offset + most, self.size, self._view.size)
        if placed is None or self._is_closed or offset >= stop:
            return b""
        return self._fetcher.ahead(placed.base + offset, placed.base + stop)

    async def _fetch(self, wanted: ByteRange, window_bytes: int) -> Bytes:
        if wanted.stop > self._view.size:
            raise damaged(
                self._name,
                f"it has {self._view.size} bytes in the archive, whose directory says {self.size}",
            )
        placed = self._placed or await self._place(wanted, window_bytes)
        data = await self._fetcher.read(
            placed, moved(wanted, placed.base), window_bytes, self._tally
        )
        if self._access.has_learned:
            self._access.has_learned = False
            self._insights.learned(self._view)
        return data

    async def _place(self, wanted: ByteRange, window_bytes: int) -> Placed:
        """Place the handle's plan; a local header that must be read comes with `wanted`."""
        view, fetcher = self._view, self._fetcher
        if view.parent is not None:
            await place(fetcher, view.parent, self._name)
        neighbours = None if isinstance(self._access, Exact) else view.neighbours
        if neighbours is not None and not self._is_begun:
            self._is_begun = True
            neighbours.note(view.whole)
        first = None
        if view.base is None and not fetcher.source.is_ready:
            await fetcher.source.ready()
        # A header that costs no request is read alone, and the plan is placed exactly. `FirstReach`
        # would read ahead from where the data begins at the latest, and leave a few hundred bytes
        # before that for a request of their own.
        if view.base is None and not self._can_be_placed():
            first = FirstReach(
                view.header_at, fetcher.size, access=self._access.twin(), wanted=wanted,
                window_bytes=window_bytes, neighbours=neighbours,
            )  # fmt: skip
        base = await place(fetcher, view, self._name, first, self._tally)
        self._placed = Placed(self._access, base, neighbours)
        self._placed.has_missed |= first is not None and first.has_missed
        return self._placed

    async def ensure_cached_bytes(self) -> int:
        """Bytes of the member in memory or on disk; those that are not placed yet do not count."""
        source = self._fetcher.source
        if not source.is_ready:
            await source.ready()
        if self._view.base is None and self._can_be_placed():
            with suppress(DamagedArchive):
                await place(self._fetcher, self._view, self._name)
        span = self._view.span
        return source.held_within(self._fetcher.spans, span) if span is not None else 0

    def _can_be_placed(self) -> bool:
        """Whether it takes no request to find out where the member begins."""
        parent = self._view.parent
        if parent is not None and parent.base is None:
            return False
        header = reach_of(self._view, self._fetcher).header
        return header.stop <= self._fetcher.size and not self._fetcher.lacks(header)

    def close(self) -> None:
        """Cancel this handle's read-ahead."""
        if self._is_closed:
            return
        self._is_closed = True
        self._windows.leave(self._access)
        self._fetcher.handles -= 1
        self._fetcher.give_up_abandoned()
        plan = self._placed.on_close() if self._placed is not None else Plan()
        self._fetcher.cancel(plan.cancel)
        self._view.closed()
        if self._view.handles:
            return
        self._insights.closed(self._view)
        span = self._view.span
        # What comes with a small member is mostly its neighbours', which will be read next.
        if span is not None and self._view.neighbours is None:
            self._fetcher.cancel(subtract(span, plan.keep))


class OpenSparse(OpenMember):
    """One open handle of a sparse member, whose holes are not in the archive."""

    def read_again(self, offset: int, size: int) -> memoryview | None:
        """See `OpenFile.read_again`."""
        stop = min(offset + size, self.size)
        if not 0 <= offset < stop:
            return None
        for start, at, length in self._view.extent.segments:
            if start <= offset and stop <= start + length:
                return super().read_again(self._packed(at) + offset - start, stop - offset)
        return None

    def ahead(self, offset: int, most: int) -> Bytes:  # noqa: ARG002
        """None: holes are not in memory."""
        return b""

    async def _fetch(self, wanted: ByteRange, window_bytes: int) -> Bytes:
        pieces: list[Bytes] = []
        position = wanted.start
        for start, at, length in self._view.extent.segments:
            both = intersect(wanted, ByteRange(start, start + length)) if length else None
            if both is None:
                continue
            pieces.append(bytes(both.start - position))
            packed = moved(both, self._packed(at) - start)
            pieces.append(await super()._fetch(packed, window_bytes))
            position = both.stop
        pieces.append(bytes(wanted.stop - position))
        return b"".join(pieces)

    def _packed(self, at: int) -> int:
        """The offset within the member's bytes of offset `at` of the archive."""
        return at - (self._view.extent.data_at or 0)

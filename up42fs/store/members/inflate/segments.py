"""Reads by the seek points that a member's file brings along: each inflates its own segments.

Knows packed bytes and segments; nothing of runs or readers. `ready` finds the points.

Theory. Looking for points costs a request, so it is done once, before a long way would be
inflated. For most members it shows at the local header that there are none: nothing stands between
the member and the next one. So the request for the header is made to extend as far as a run needs
that follows, unless points are likely.

A round trip costs more than a chunk, so the packed bytes of all that one read plans to fetch
(`add`) are requested together, as far as they adjoin: a row of tiles is one request. Parts wait
for their own bytes of it. The requests end with the last part that needs any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from up42fs.ranges import RangeSet
from up42fs.store.members.inflate import ready
from up42fs.store.members.inflate.engines import DamagedStreamError, UnsupportedMethodError
from up42fs.store.members.inflate.inflater import Packing
from up42fs.store.members.inflate.inflaters import Inflaters
from up42fs.store.members.inflate.inflow import Inflow
from up42fs.store.members.inflate.packed_bytes import PackedBytes
from up42fs.types import ByteRange, Bytes


class Segments:
    """The segments of one member, if it brings points along."""

    def __init__(
        self,
        packing: Packing,
        packed: PackedBytes,
        inflaters: Inflaters,
        near: Callable[[int], int],
    ) -> None:
        """`near` tells which output offset a run has reached that could go on to another."""
        self._near = near
        self._packing = packing
        self._packed = packed
        self._inflaters = inflaters
        self._found: ready.Ready | None = None
        self._has_looked = not ready.may_have(packed.extent)
        self._looking = trio.Lock()
        self._is_likely = not self._has_looked and ready.is_likely(packed.extent)
        self._is_look_due = False
        self._coming = RangeSet()  # output that parts were made for
        self._users = 0
        self._inflow: Inflow | None = None
        self._opening = trio.Lock()

    def add(self, span: ByteRange, *, wanted: bool) -> None:
        """A part was made for this output; see `Due`."""
        if not self._is_likely and self._found is None:
            return
        self._coming.add(span)
        self._is_look_due |= wanted and span.start - self._near(span.start) >= ready.FROM_BYTES

    def discard(self, span: ByteRange) -> None:
        """That part is over."""
        self._coming.discard(span)

    @contextmanager
    def used(self) -> Iterator[None]:
        """A part is filled."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._close()

    def _close(self) -> None:
        if self._inflow is not None:
            self._inflow.close()
            self._inflow = None

    @property
    def is_look_due(self) -> bool:
        """Whether a reader looks for points now, or is about to, for which prefetches wait."""
        return self._is_look_due and not self._has_looked

    def start(self, at: int) -> ready.Start | None:
        """The point at which a run to output offset `at` may begin, if segments are too long."""
        return self._found.start(at) if self._found is not None else None

    @property
    def size(self) -> int | None:
        """The size of the unpacked file, if it brought points along that say so."""
        return self._found.size if self._found is not None else None

    def distrust(self) -> None:
        """Use the points no more: they led to damaged bytes."""
        self._found = None

    @property
    def are_known(self) -> bool:
        """Whether there are some."""
        return self._found is not None

    async def are_worth_it(self, asked: ByteRange) -> bool:
        """Whether to read `asked` by segments, and not by a run that could go on to it.

        Looks for points if the way is long. Raises an `Up42fsError`.
        """
        if self._found is not None:
            return True
        if self._has_looked or asked.start - self._near(asked.start) < ready.FROM_BYTES:
            return False
        async with self._looking:
            if not self._has_looked:
                await self._look(asked)
                self._has_looked = True
                self._is_likely = self._found is not None
        return self._found is not None

    async def _look(self, asked: ByteRange) -> None:
        packed = self._packed
        data_at = packed.data_at
        if data_at is None:
            try:
                data_at = await self._data_at(asked)
            except DamagedStreamError:
                return  # the run that follows tells it
        inflow = await packed.open_another()
        try:
            self._found = await ready.find(
                packed.extent, self._packing.size, data_at, await packed.archive_size(),
                inflow.exactly,
            )  # fmt: skip
            packed.settle(inflow)
        finally:
            inflow.close()
        if self._found is not None:
            packed.close_left()

    async def _data_at(self, asked: ByteRange) -> int:
        """Read the local header; the request for it extends to what a run needs that follows."""
        packed = self._packed
        is_likely = ready.is_likely(packed.extent)
        limit = packed.data_from if is_likely else packed.limit(asked.stop, self._packing.size)
        first = await packed.open()
        try:
            data_at = await packed.find_data(first, limit)
        except BaseException:
            first.close()
            raise
        packed.leave(first)
        return data_at

    async def _packed_bytes(self, segment: ready.Segment, asked: ByteRange) -> Bytes:
        """The packed bytes of a segment; those of adjoining output that is due come with them."""
        assert self._found is not None, "it has a segment"
        due = self._found.packed(self._coming.around(asked.start) or asked)
        async with self._opening:
            if self._inflow is None:
                self._inflow = await self._packed.open_another(is_scattered=True)
        inflow = self._inflow
        text = await inflow.exactly(segment.packed, due)
        self._packed.settle(inflow)
        return text

    async def inflated(self, asked: ByteRange) -> tuple[ByteRange, memoryview] | None:
        """The segments that hold the first bytes of `asked`; None if no run of them is right.

        Raises an `Up42fsError`.
        """
        segment = self._found.segment(asked.start, asked.stop) if self._found is not None else None
        if segment is None:
            return None
        text = await self._packed_bytes(segment, asked)
        length, method = len(segment.out), self._packing.method
        view = self._inflaters.buffers.take(length + 1)
        try:
            await self._inflaters.run(
                lambda: ready.inflated(method, segment, text, view[: length + 1]),
                self._inflaters.threads,
            )
        except (DamagedStreamError, UnsupportedMethodError):
            self._found = None  # a wrong index; it is not looked for again
            return None
        self._coming.discard(segment.out)
        return segment.out, view[:length].toreadonly()

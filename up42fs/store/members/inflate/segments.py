"""Reads by the seek points that a member's file brings along: each inflates its own segments.

Knows packed bytes and segments; nothing of runs or readers. `ready` finds the points.

Theory. Looking for points costs a request, so it is done once, before a long way would be
inflated. For most members it shows at the local header that there are none: nothing stands between
the member and the next one. So the request for the header is made to extend as far as a run needs
that follows, unless points are likely.
"""

from __future__ import annotations

import trio

from up42fs.store.members.inflate import ready
from up42fs.store.members.inflate.engines import DamagedStreamError
from up42fs.store.members.inflate.inflater import Packing
from up42fs.store.members.inflate.inflaters import Inflaters
from up42fs.store.members.inflate.packed_bytes import PackedBytes
from up42fs.types import ByteRange


class Segments:
    """The segments of one member, if it brings points along."""

    def __init__(self, packing: Packing, packed: PackedBytes, inflaters: Inflaters) -> None:
        self._packing = packing
        self._packed = packed
        self._inflaters = inflaters
        self._found: ready.Ready | None = None
        self._has_looked = not ready.may_have(packed.extent)
        self._looking = trio.Lock()

    @property
    def are_known(self) -> bool:
        """Whether there are some."""
        return self._found is not None

    async def are_worth_it(self, asked: ByteRange, near: int) -> bool:
        """Whether to read `asked` by segments, when a run could go on from output offset `near`.

        Looks for points if the way is long. Raises an `Up42fsError`.
        """
        if self._found is not None:
            return True
        if self._has_looked or asked.start - near < ready.FROM_BYTES:
            return False
        async with self._looking:
            if not self._has_looked:
                await self._look(asked)
                self._has_looked = True
        return self._found is not None

    async def _look(self, asked: ByteRange) -> None:
        packed = self._packed
        is_likely = ready.is_likely(packed.extent)
        limit = packed.head_stop if is_likely else packed.limit(asked.stop, self._packing.size)
        first = await packed.open()
        try:
            data_at = await packed.find_data(first, limit)
        except DamagedStreamError:
            first.close()
            return  # the run that follows tells it
        except BaseException:
            first.close()
            raise
        packed.leave(first)
        inflow = await packed.open_another()
        try:
            self._found = await ready.find(
                packed.extent, self._packing.size, data_at, await packed.archive_size(),
                inflow.exactly,
            )  # fmt: skip
        finally:
            inflow.close()
        if self._found is not None:
            packed.close_left()

    async def inflated(self, asked: ByteRange) -> tuple[ByteRange, memoryview] | None:
        """The segments that hold the first bytes of `asked`; None if no run of them is right.

        Raises an `Up42fsError`.
        """
        segment = self._found.segment(asked.start, asked.stop) if self._found is not None else None
        if segment is None:
            return None
        inflow = await self._packed.open_another()
        try:
            text = await inflow.exactly(segment.packed)
            self._packed.settle(inflow)
        finally:
            inflow.close()
        length, method = len(segment.out), self._packing.method
        view = self._inflaters.buffers.take(length + 1)
        try:
            await self._inflaters.run(
                lambda: ready.inflated(method, segment, text, view[: length + 1]),
                self._inflaters.threads,
            )
        except DamagedStreamError:
            self._found = None  # a wrong index; it is not looked for again
            return None
        return segment.out, view[:length].toreadonly()

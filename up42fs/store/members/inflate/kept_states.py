"""The seek points of one packed member: their index, and their windows on disk or in memory.

Knows slots and the disk cache; nothing of engines or readers.

Theory. The slots of a member are an object of the disk cache like any other, `<member>#points`, of
the member's version: so they are found by every mount, verified, counted in `cache_size` and
evicted with the rest. The index is in memory, the windows are not: they are loaded when a run
starts. Without a disk cache, and until it has written them, windows are held in memory, where they
count like other bytes and make room for them; a point whose window went is no point any more.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from up42fs.archive.slots import SLOT_BYTES, State, States, decode, encode, slot_of, slots_bytes
from up42fs.ranges import split
from up42fs.store.disk.cache import DiskCache
from up42fs.store.disk.cached_files import Use
from up42fs.store.disk.files import Wanted
from up42fs.store.disk.format import CELL_BYTES, Label
from up42fs.store.memory import MemoryCache
from up42fs.types import ByteRange, Version

_POINTS = "#points"
#: Slots that are read at once, bytes.
_LOAD_BYTES = 64 * SLOT_BYTES


def points_id(member_id: str) -> str:
    """The object ID of a member's points in the disk cache."""
    return f"{member_id}{_POINTS}"


def is_points_id(object_id: str) -> bool:
    """Whether an object of the disk cache is a member's points."""
    return object_id.endswith(_POINTS)


class _HeldState:
    """A point with its window in memory."""

    def __init__(self, point: State, on_evicted: Callable[[State], None]) -> None:
        self.point = point
        self.in_use = False
        self._on_evicted = on_evicted

    @property
    def held_bytes(self) -> int:
        """Bytes that count against the budget."""
        return len(self.point.window)

    def evict(self) -> None:
        """Forget the point."""
        self._on_evicted(self.point)


class KeptStates:
    """The points of one member of `size` bytes, about `span` bytes apart."""

    def __init__(
        self, member_id: str, size: int, span: int, *, disk: DiskCache | None, cache: MemoryCache
    ) -> None:
        self.index = States()
        self._id = points_id(member_id)
        self._span = span
        self._size = slots_bytes(size, span)
        self._disk = disk
        self._cache = cache
        self._held: dict[int, _HeldState] = {}  # by output offset
        self._version: Version | None = None
        self._is_over = False
        self._loading = trio.Lock()

    async def load(self, member: Version, *, again: bool = False) -> None:
        """Find the points on disk that are those of a version of the member.

        They are read once; with `again` once more, since other mounts make points, too.
        """
        version = Version(self._size, member.etag)
        async with self._loading:
            if self._version == version and not again:
                return
            if self._version not in (None, version):
                self.clear()
            self._version = version
            if self._disk is None or not member.tells_apart:
                return
            wanted = Wanted(self._id, self._size, None, version)
            survey = await self._disk.survey(wanted)
            for span in survey.spans if survey is not None else ():
                first, last = -(-span.start // SLOT_BYTES), span.stop // SLOT_BYTES
                if first < last:
                    whole = ByteRange(first * SLOT_BYTES, last * SLOT_BYTES)
                    for piece in split(whole, _LOAD_BYTES):
                        await self._load(self._disk, wanted, piece)

    async def _load(self, disk: DiskCache, wanted: Wanted, span: ByteRange) -> None:
        data = memoryview(bytearray(len(span)))
        loaded = await disk.load(wanted, span, data)
        for at in range(0, (loaded or 0) // SLOT_BYTES * SLOT_BYTES, SLOT_BYTES):
            point = decode(data[at : at + SLOT_BYTES])
            is_placed = point is not None and self._place(point) == span.start + at
            if point is not None and is_placed and point.out_at not in self._held:
                self.index.add(point)

    async def window(self, point: State) -> State | None:
        """The point with its window; None if it is lost, and then it is no point any more."""
        held = self._held.get(point.out_at)
        if held is not None:
            self._cache.touch(held)
            return held.point
        if self._disk is not None and self._version is not None:
            start = self._place(point)
            span = ByteRange(start, start + SLOT_BYTES)
            data = memoryview(bytearray(SLOT_BYTES))
            wanted = Wanted(self._id, self._size, None, self._version)
            # A load ends where a cell does: the slot may lie in two of them.
            filled = 0
            while filled < SLOT_BYTES:
                rest = ByteRange(span.start + filled, span.stop)
                loaded = await self._disk.load(wanted, rest, data[filled:])
                if not loaded:
                    break
                filled += loaded
            found = decode(data) if filled == SLOT_BYTES else None
            if found is not None and found.out_at == point.out_at:
                return found
        self.index.discard(point.out_at)
        return None

    def add(self, point: State, member: Version | None) -> None:
        """Keep a point that was made of a version of the member."""
        if (
            self._is_over
            or point.crc32 is None
            or point.out_at >= self._span * (self._size // SLOT_BYTES)
        ):
            return
        self.index.add(point)
        held = _HeldState(point, self._forget)
        earlier = self._held.pop(point.out_at, None)
        if earlier is not None:
            self._cache.remove(earlier)
        self._held[point.out_at] = held
        self._cache.add(held)
        if self._disk is None or member is None or not member.tells_apart:
            return
        held.in_use = True
        start = self._place(point)
        span = ByteRange(start, start + SLOT_BYTES)
        lead = bytes(self._gap(point) * SLOT_BYTES)

        def on_kept(spans: list[ByteRange]) -> None:
            held.in_use = False
            is_kept = any(one.start <= span.start and span.stop <= one.stop for one in spans)
            if is_kept and self._held.get(point.out_at) is held:
                del self._held[point.out_at]
                self._cache.remove(held)

        label = Label(self._id, Version(self._size, member.etag))
        self._disk.keep(
            label, ByteRange(start - len(lead), span.stop), memoryview(lead + encode(point)),
            use=Use.READ, is_valid=lambda: not self._is_over, on_kept=on_kept,
        )  # fmt: skip

    def clear(self) -> None:
        """Forget all points that are in memory."""
        self.index.clear()
        for held in self._held.values():
            self._cache.remove(held)
        self._held.clear()

    def drop(self) -> None:
        """Forget all points, on disk, too: they led to wrong bytes, or to a damaged member's."""
        self.clear()
        if self._disk is not None:
            self._disk.remove(self._id)

    def close(self) -> None:
        """Keep no more points: the member is of another version now."""
        self._is_over = True
        self.clear()

    def _place(self, point: State) -> int:
        return slot_of(point.out_at, self._span) * SLOT_BYTES

    def _gap(self, point: State) -> int:
        """Empty slots to write before the point's: a cell of the disk cache holds one run."""
        before = self.index.before(point.out_at - 1)
        slot = slot_of(point.out_at, self._span)
        empty = slot - (slot_of(before.out_at, self._span) + 1 if before is not None else 0)
        return empty if 0 < empty < CELL_BYTES // SLOT_BYTES + 1 else 0

    def _forget(self, point: State) -> None:
        self._held.pop(point.out_at, None)
        self.index.discard(point.out_at)

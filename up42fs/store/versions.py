"""Versions of objects whose size UP42 does not report, learned from their first bytes.

One GET of an object's head tells its size and its version. Callers that ask at the same time share
it, and its bytes are cached for the reader who comes next. If none will come, a GET of one byte
tells the same; that byte is dropped, and the disk cache is left alone.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from up42fs import supervise
from up42fs.deadlines import Turns, request_s, within
from up42fs.errors import Up42fsError
from up42fs.store.disk.cache import DiskCache
from up42fs.store.http.tally import Tallies
from up42fs.store.members.archives import linked
from up42fs.store.members.extent import StoredObject
from up42fs.store.objects import Objects
from up42fs.store.part import Part
from up42fs.types import ByteRange, Version

#: The longest a size may take to learn: less than `stat` may take, so that the reason is told.
SIZE_DEADLINE_S = request_s(25.0)
#: The first bytes of an object of unknown size, whose answer tells the size: those that the first
#: read of a file would fetch (`readahead.plan`). UP42 reports no size of transformed files.
HEAD_BYTES = 128 << 10
#: The first bytes of an object of which the size alone is of use: HEAD needs a link of its own,
#: since the method is signed, too.
SIZE_BYTES = 1


class PinnedVersions:
    """The versions of all objects of one store."""

    def __init__(
        self,
        nursery: trio.Nursery,
        objects: Objects,
        disk: DiskCache | None,
        tallies: Tallies,
        read_deadline_s: float,
    ) -> None:
        self._nursery = nursery
        self._objects = objects
        self._disk = disk
        self._tallies = tallies
        self._limit_s = min(read_deadline_s, SIZE_DEADLINE_S)
        self._probes: dict[str, Turns] = {}

    def __len__(self) -> int:
        """How many are being learned."""
        return len(self._probes)

    async def ensure(self, origin: StoredObject, *, head: bool = True) -> Version:
        """Return the object's version: from memory or disk, else by a link and a GET of its head.

        Without `head` only one byte is asked for. Of a member it is the version of the outermost
        archive. Concurrent callers for one object share the requests, and the head is cached for
        its reader. Raises an `Up42fsError`.
        """
        origin = linked(origin)
        object_id = origin.object_id
        known = self._objects.version(object_id)
        if known is not None:
            return known
        turns = self._probes.setdefault(object_id, Turns())
        late = f"{origin.name}: its size did not come in time; try again"
        try:
            with within(self._limit_s, late) as scope:
                async with turns.turn():
                    known = self._objects.version(object_id) or await self.kept(origin)
                    return known or await self._probe(origin, scope.deadline, head=head)
        finally:
            if turns.are_over:
                self._probes.pop(object_id, None)

    def start(self, origin: StoredObject, *, head: bool = True) -> None:
        """Like `ensure`, in the background: waits for nothing and raises nothing."""
        origin = linked(origin)
        object_id = origin.object_id
        if self._objects.version(object_id) is None and object_id not in self._probes:
            supervise.start(self._nursery, self._ask_ahead, origin, head)

    async def kept(self, origin: StoredObject) -> Version | None:
        """The version of which the disk cache has bytes, if they are of the origin's state."""
        label = await self._disk.label(origin.object_id) if self._disk else None
        if label is None or (label.object_id, label.stamp) != (origin.object_id, origin.stamp):
            return None
        return label.version

    async def _ask_ahead(self, origin: StoredObject, head: bool) -> None:
        with suppress(Up42fsError):  # a caller that needs the version gets the error itself
            await self.ensure(origin, head=head)

    async def _probe(self, origin: StoredObject, deadline_s: float, *, head: bool) -> Version:
        object_id, name = origin.object_id, origin.name
        self._tallies.of(object_id, name).count("store.probes")
        source = self._objects.source(object_id, name, None, origin.stamp)
        asked = ByteRange(0, HEAD_BYTES if head else SIZE_BYTES)
        part = Part(asked, None, wanted=True, deadline_s=deadline_s)
        part.begin(self._objects.buffers)
        try:
            # Another process may ask for a head at the same time. One byte is not worth a look.
            await (source if head else source.filled_by).fetch(part)
        finally:
            part.finish(None)
        version = source.pin.version
        assert version is not None, "a source fills its part, or raises"
        fetcher = self._objects.replace(object_id, source, version.size)
        if head:
            # The first byte alone would keep the first cell from the disk: it is written whole.
            fetcher.adopt(bytes(part.peek(part.span)) if part.filled else b"")
        if not version.size:  # of an empty object nothing but its version is kept
            source.keep(None, memoryview(b""))
        return version

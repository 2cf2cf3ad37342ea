"""What is known of stored members: where each begins in its archive's bytes, and its structure.

Knows offsets and insights; nothing of handles, names or how bytes are fetched.

Theory. A view has no bytes of its own: its archive's fetcher holds them, in the same parts and
cells, of the same version. What readers know of a file, its format, tiles and windows, belongs to
the view, as if the member stood alone. A view lives while handles of it are open and as long as
`Insights` keeps its structure; the place of its data is kept longer, since it takes a request to
learn.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from up42fs.readahead.neighbours import SMALL_BYTES, Neighbours
from up42fs.readahead.placed import HEADER_BYTES, LOCAL_BYTES, around, moved
from up42fs.readahead.plan import Insight
from up42fs.store.members.extent import Extent
from up42fs.types import ByteRange, Bytes

_LOCAL = b"PK\x03\x04"


class View:
    """One stored member of an archive that is read as a file.

    `size` is the number of bytes that it has in the archive. `parent` is the view that the archive
    itself is, if it is a stored member too.
    """

    def __init__(self, views: Views, object_id: str, extent: Extent, parent: View | None) -> None:
        self.object_id = object_id
        self.extent = extent
        self.parent = parent
        self.size = extent.packed_size
        self.handles = 0
        self.insight = self._new_insight()
        self._views = views

    @property
    def base(self) -> int | None:
        """Where its bytes begin in the fetcher's object; None while that is not known."""
        start = self.parent.base if self.parent is not None else 0
        if start is None:
            return None
        data_at = self.extent.data_at
        return self._views.places.get(self.object_id) if data_at is None else start + data_at

    @property
    def header_at(self) -> int:
        """Where its local header stands in the fetcher's object; its parent's base is known."""
        start = self.parent.base if self.parent is not None else 0
        assert start is not None, "the parent is placed first"
        return start + self.extent.header_at

    def place(self, header: Bytes) -> bool:
        """Take the place of the data from its local header; False if it is none."""
        head = bytes(header[:LOCAL_BYTES])
        if len(head) < LOCAL_BYTES or not head.startswith(_LOCAL):
            return False
        name, extra = struct.unpack_from("<HH", head, 26)
        self._views.places[self.object_id] = self.header_at + LOCAL_BYTES + int(name) + int(extra)
        return True

    @property
    def span(self) -> ByteRange | None:
        """Its bytes in the fetcher's object; None if there are none, or not known where."""
        base = self.base
        return ByteRange(base, base + self.size) if base is not None and self.size else None

    @property
    def whole(self) -> ByteRange:
        """Header and data, wherever the data begins; its parent's base is known."""
        base = self.base
        end = self.header_at + HEADER_BYTES if base is None else base
        return ByteRange(self.header_at, max(end + self.size, self.header_at + LOCAL_BYTES))

    def around(self, spans: Sequence[ByteRange]) -> list[ByteRange]:
        """The object's ranges that hold `spans` of the member; its parent's base is known."""
        base = self.base
        if base is None:
            return around(self.header_at, spans, self._views.size)
        return [moved(span, base) for span in spans]

    @property
    def neighbours(self) -> Neighbours | None:
        """The runs of small members in the object, if this is a small one."""
        return self._views.neighbours if self.size <= SMALL_BYTES else None

    @property
    def insight_bytes(self) -> int:
        """Memory that the member's parsed structure takes, in bytes."""
        return self.insight.structure.held_bytes

    def forget_insight(self) -> None:
        """Drop the member's parsed structure; it is parsed again after the next open."""
        self.insight.structure.forget()
        self._views.drop_idle(self)

    def opened(self) -> Insight:
        """Count one more open handle; return the member's parsed structure."""
        if not self.handles and self.insight.structure.is_forgotten:
            self.insight = self._new_insight(self.insight)
        self.handles += 1
        self._views.keep(self)
        return self.insight

    def closed(self) -> None:
        """Count one open handle less."""
        self.handles -= 1
        self._views.drop_idle(self)

    def _new_insight(self, before: Insight | None = None) -> Insight:
        budget = before.structure.budget.renewed() if before is not None else None
        insight = Insight(self.size, budget)
        if self.extent.segments:
            insight.structure.forget()  # offsets within a sparse file are not those of its data
        return insight


class Views:
    """The stored members of one object of `size` bytes that are read as files."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.neighbours = Neighbours(size)
        #: Where the data of zips' members begin, by object ID.
        self.places: dict[str, int] = {}
        self._known: dict[str, View] = {}

    def of(self, object_id: str, extent: Extent, parent: View | None) -> View:
        """The view of a member; one that is not opened is not kept."""
        view = self._known.get(object_id)
        if view is None or view.extent != extent:
            view = View(self, object_id, extent, parent)
        return view

    def keep(self, view: View) -> None:
        """Keep a view that is opened."""
        self._known[view.object_id] = view

    def drop_idle(self, view: View) -> None:
        """Forget a view that has neither handles nor a structure."""
        if not view.handles and not view.insight_bytes and self._known.get(view.object_id) is view:
            del self._known[view.object_id]

    def __iter__(self) -> Iterator[View]:
        return iter(list(self._known.values()))

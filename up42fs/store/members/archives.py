"""The stored members of all objects of a store, found by their extents.

Knows which fetcher holds a member's bytes; nothing of handles.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from up42fs.store.fetcher import Fetcher
from up42fs.store.members.extent import Extent, StoredObject
from up42fs.store.members.view import View, Views


class StoredMembers:
    """All views of one store. `fetcher_of` returns the fetcher of an object that is no view."""

    def __init__(self, fetcher_of: Callable[[StoredObject], Fetcher]) -> None:
        self._fetcher_of = fetcher_of
        self._views: WeakKeyDictionary[Fetcher, Views] = WeakKeyDictionary()

    def view(self, object_id: str, extent: Extent) -> tuple[Fetcher, View]:
        """The view of a stored member, and the fetcher that holds its bytes."""
        fetcher, parent = self.place_of(extent.archive)
        views = self._views.get(fetcher)
        if views is None:
            views = self._views[fetcher] = Views(fetcher.size)
        return fetcher, views.of(object_id, extent, parent)

    def place_of(self, origin: StoredObject) -> tuple[Fetcher, View | None]:
        """The fetcher that holds an archive's bytes, and its view if it is a stored member."""
        if origin.extent is not None and origin.extent.is_view:
            return self.view(origin.object_id, origin.extent)
        return self._fetcher_of(origin), None

    def known(self, fetcher: Fetcher) -> list[View]:
        """The views of a fetcher that have open handles, or a structure."""
        return list(self._views.get(fetcher, ()))


def holder(extent: Extent) -> StoredObject:
    """The object whose fetcher holds the bytes of a stored member."""
    archive = extent.archive
    return holder(archive.extent) if archive.extent and archive.extent.is_view else archive


def linked(origin: StoredObject) -> StoredObject:
    """The object that has a link: this one, or the outermost archive that it is a member of."""
    return linked(origin.extent.archive) if origin.extent is not None else origin

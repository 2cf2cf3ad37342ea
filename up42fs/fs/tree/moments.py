"""Modification times of the directories of orders, tags, states and assets.

Theory. A directory's time moves when an entry is added, as on any disk: `find -newer`, `tar
--newer-mtime` and indexers rely on it. The times derive from a directory's assets, so that every
mount of an account shows the same: an order's from their delivery, a tag's and a state's from their
last change, as UP42 does not report when a tag was added. Additions, removals and renames that this
mount observes also count, from then on, since a removal leaves no trace in the assets. While the
storage is listed for the first time, assets count as found, not as added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.catalog.transformations import Transformations
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.types import Asset, CnamStatus

_ORDERS, _TAGS, _ASSETS = Node(Kind.ORDERS), Node(Kind.TAGS), Node(Kind.ASSETS)
KINDS = frozenset(
    {
        *(Kind.ORDERS, Kind.TAGS, Kind.ASSETS, Kind.WORKSPACES),
        *(Kind.ORDER, Kind.TAG, Kind.STATUS, Kind.WORKSPACE),
    }
)


@dataclass(frozen=True, slots=True)
class _Moment:
    """Times of the content and of the attributes, in nanoseconds since 1970."""

    mtime_ns: int
    ctime_ns: int


class Moments:
    """The times of one mount's directories; `clock_ns` is the wall clock."""

    def __init__(
        self,
        index: Index,
        transformations: Transformations,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._transformations = transformations
        self._clock_ns = clock_ns
        self._known: dict[Node, _Moment] = {}
        self._moved_ns: dict[Node, int] = {}
        self.born_ns = clock_ns()

    def of(self, node: Node) -> tuple[int, int]:
        """Times of content and attributes, nanoseconds; the mount's if the index has none."""
        place = node._replace(place="")
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._told(place)
        moved_ns = self._moved_ns.get(place, 0)
        mtime_ns = max(found.mtime_ns or self.born_ns, moved_ns)
        return mtime_ns, max(found.ctime_ns or self.born_ns, mtime_ns)

    def moved(self, node: Node) -> int:
        """Time at which this mount last saw a directory change, 0 if never."""
        return self._moved_ns.get(node, 0)

    def move(self, node: Node) -> None:
        """Note that a directory's content changed now."""
        self._moved_ns[node] = self._clock_ns()

    def follow(self, delta: Delta, renamed: Iterable[Node]) -> set[Node]:
        """Follow a change of the index; `renamed` have new names. Return affected directories.

        They include directories whose times were never requested.
        """
        moved = {node._replace(place="") for node in renamed if node.kind in KINDS}
        if not self._index.is_complete:
            moved |= self._known.keys()
            self._known.clear()
            return moved
        for asset_id, was in delta.was.items():
            moved |= _moved_by(was, self._index.assets.get(asset_id))
        now_ns = self._clock_ns()
        for node in moved:
            if self._exists(node):
                self._moved_ns[node] = now_ns
            else:
                self._moved_ns.pop(node, None)
                self._known.pop(node, None)
        orders = {Node(Kind.ORDER, order_id) for order_id in delta.orders}
        for node in orders:
            self._known.pop(node, None)
        return moved | orders

    def _exists(self, node: Node) -> bool:
        match node.kind:
            case Kind.ORDER:
                return self._index.has_order(node.id)
            case Kind.TAG:
                return bool(self._index.ids_with_tag(node.id))
            case _:
                return True

    def _told(self, node: Node) -> _Moment:
        """The index's times of a directory; zeros if it has none."""
        assets = self._index.assets
        match node.kind:
            case Kind.ORDER:
                return self._of_order(node.id)
            case Kind.TAG:
                ids = self._index.ids_with_tag(node.id)
                return _Moment(*[assets.latest_ns(ids)[1]] * 2)
            case Kind.STATUS:
                ids = self._index.ids_with_status(CnamStatus(node.id))
                return _Moment(*[assets.latest_ns(ids)[1]] * 2)
            case Kind.WORKSPACE:
                ids = self._index.assets.ids_of_workspace(node.id)
                return _Moment(*[assets.latest_ns(ids)[0]] * 2)
            case Kind.TAGS:
                return _Moment(*[assets.latest_ns()[1]] * 2)
            case Kind.ORDERS:
                times = map(attrgetter("created_at"), self._index.orders.values())
                latest = max(times, default=None)
                return _Moment(*[to_us(latest) * 1000 if latest else 0] * 2)
            case _:
                created_ns = assets.latest_ns()[0]
                return _Moment(*[max(created_ns, self._transformations.latest_ns())] * 2)

    def _of_order(self, order_id: str) -> _Moment:
        ids, order = self._index.ids_of_order(order_id), self._index.orders.get(order_id)
        came_ns = [self._index.assets.latest_ns(ids)[0]]
        came_ns += map(self._transformations.at_ns, ids)
        if order is None:
            return _Moment(*[max(came_ns)] * 2)
        came_ns.append(to_us(order.created_at) * 1000)
        return _Moment(max(came_ns), to_us(order.updated_at) * 1000)


def _moved_by(was: Asset | None, now: Asset | None) -> set[Node]:
    """The directories that an asset entered or left, or in which its files appeared or vanished."""
    before, after = set(_places(was)), set(_places(now))
    if _has_files(was) != _has_files(now):
        return before | after
    return before ^ after


def _places(asset: Asset | None) -> Iterator[Node]:
    if asset is None:
        return
    yield _ASSETS
    if asset.cnam_status is not CnamStatus.UNTOLD:
        yield Node(Kind.STATUS, asset.cnam_status.value)
    if asset.order_id is not None:
        yield Node(Kind.ORDER, asset.order_id)
    if asset.workspace_id is not None:
        yield Node(Kind.WORKSPACE, asset.workspace_id)
    for tag in asset.tags:
        yield Node(Kind.TAG, tag)


def _has_files(asset: Asset | None) -> bool:
    return asset is not None and asset.cnam_status is CnamStatus.SUCCESSFUL

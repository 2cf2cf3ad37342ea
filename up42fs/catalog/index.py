"""The catalogue in memory: assets and orders with indexes by order, tag and status.

Values are immutable. Only `apply` changes the index; it returns the changes, so that names, link
counts and kernel entries follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import NamedTuple, TypeVar

from up42fs.catalog.snapshot.assets import AssetTable
from up42fs.model.names import FILE
from up42fs.types import Asset, CnamStatus, Order

G = TypeVar("G", str, CnamStatus)

#: The sources of assets that came from processing (contract §2, §5.4).
PROCESSED = "PROCESSING"
RESULTS = frozenset({PROCESSED, "ANALYTICS"})


class ListingKind(Enum):
    """The two listings whose rows fill the index."""

    ASSETS = "assets"
    ORDERS = "orders"


@dataclass(frozen=True, slots=True)
class Changes:
    """The result of a refresh: objects as they are now, and IDs that are gone."""

    assets: tuple[Asset, ...] = ()
    orders: tuple[Order, ...] = ()
    removed_assets: frozenset[str] = frozenset()
    removed_orders: frozenset[str] = frozenset()


@dataclass(slots=True)
class Delta:
    """The effect of an `apply`: changed objects by ID, and groups whose members changed.

    `was` maps each asset ID to its previous value, None if it is new. `renames_orders` and
    `renames_tags` mean that the set of orders or tags, or the name of an order, may have changed.
    """

    assets: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    statuses: set[CnamStatus] = field(default_factory=set)
    was: dict[str, Asset | None] = field(default_factory=dict)
    #: For assets whose extension was learned anew: the extension they were named by before.
    extensions: dict[str, str | None] = field(default_factory=dict)
    renames_orders: bool = False
    renames_tags: bool = False

    def __bool__(self) -> bool:
        return bool(self.assets or self.orders)


@dataclass(slots=True)
class _Grouping:
    """IDs of assets by order, tag and CNAM status."""

    # Dicts instead of sets: a dict of a dozen IDs takes a fifth of the memory.
    by_order: dict[str, dict[str, None]] = field(default_factory=dict)
    by_tag: dict[str, dict[str, None]] = field(default_factory=dict)
    by_status: dict[CnamStatus, dict[str, None]] = field(default_factory=dict)

    def fill(self, assets: AssetTable) -> None:
        by_order, by_tag, by_status = self.by_order, self.by_tag, self.by_status
        for asset_id, status, order_id, tags in assets.groups():
            if status is not CnamStatus.UNTOLD:
                by_status.setdefault(status, {})[asset_id] = None
            if order_id is not None:
                by_order.setdefault(order_id, {})[asset_id] = None
            for tag in tags:
                by_tag.setdefault(tag, {})[asset_id] = None


class Index:
    """The catalogue in memory."""

    def __init__(
        self,
        *,
        shows_all_orders: bool = False,
        shows_workspaces: bool = True,
        named_by: str = FILE,
    ) -> None:
        """With `shows_all_orders` also those orders are shown that have no assets.

        `named_by` is one of the styles of `model.names`.
        """
        self._shows_workspaces = shows_workspaces
        #: How many assets are of each workspace and source; counted when it is first needed.
        self._origins: Counter[tuple[str | None, str | None]] | None = None
        self.named_by = named_by
        self._shows_all_orders = shows_all_orders
        self._made_groups: _Grouping | None = _Grouping()
        self._learned: dict[str, tuple[datetime, int]] = {}
        self._edited: dict[str, tuple[datetime, datetime]] = {}
        #: Sum of the known sizes of all assets in bytes, and how many have no known size.
        self.total_bytes = 0
        self.unsized = 0
        #: Whether all assets are known. Until then an order may have assets that are not.
        self.is_complete = True
        #: Whether UP42 counts assets in several workspaces; what they are is not known with that.
        self.is_told_of_workspaces = False
        #: Every asset by ID; read only.
        self.assets = AssetTable()
        self.assets.style = named_by
        #: Every order that UP42 listed, by ID, with or without assets; read only.
        self.orders: dict[str, Order] = {}

    def count(self, status: CnamStatus) -> int:
        return len(self.ids_with_status(status))

    def is_transformed(self, asset_id: str) -> bool:
        """Whether an asset exists and has transformed files."""
        return self.assets.status(asset_id) is CnamStatus.SUCCESSFUL

    def count_transformed(self, asset_ids: Iterable[str]) -> int:
        """How many of these assets are there and have transformed files."""
        # A tag may have a million: each costs some 40 ns this way.
        successful = self._groups.by_status.get(CnamStatus.SUCCESSFUL, {})
        return sum(map(successful.__contains__, asset_ids))

    def order_ids(self) -> Iterable[str]:
        """Orders that have assets, or may have some; `/v2/orders` may not list all of them."""
        if self.is_complete and not self._shows_all_orders:
            return self._groups.by_order.keys()
        return self._groups.by_order.keys() | self.orders.keys()

    def has_order(self, order_id: str) -> bool:
        return order_id in self._groups.by_order or (
            (self._shows_all_orders or not self.is_complete) and order_id in self.orders
        )

    def tags(self) -> Iterable[str]:
        """Tags that at least one asset carries."""
        return self._groups.by_tag.keys()

    def workspaces(self) -> Sequence[str]:
        """The workspaces of the assets, if there are several; else none."""
        if not self._shows_workspaces:
            return ()
        found = {workspace for workspace, _ in self._counted_origins() if workspace is not None}
        return sorted(found) if len(found) > 1 else ()

    @property
    def has_workspaces(self) -> bool:
        """Whether the assets are in several workspaces."""
        return bool(self.workspaces()) or (
            self._shows_workspaces and self.is_told_of_workspaces and not self.is_complete
        )

    @property
    def has_results(self) -> bool:
        """Whether some asset came from processing."""
        return any(source in RESULTS for _, source in self._counted_origins())

    def ids_of_order(self, order_id: str) -> Collection[str]:
        return self._groups.by_order.get(order_id, ())

    def ids_with_tag(self, tag: str) -> Collection[str]:
        return self._groups.by_tag.get(tag, ())

    def ids_with_status(self, status: CnamStatus) -> Collection[str]:
        if self._made_groups is None:
            return self.assets.ids_with_status(status)
        return self._groups.by_status.get(status, ())

    def order_of(self, asset: Asset) -> Order | None:
        """The asset's order; None if it has none or UP42 does not list it."""
        return self.orders.get(asset.order_id) if asset.order_id else None

    def with_status(self, status: CnamStatus) -> Iterable[Asset]:
        return [self.assets[asset_id] for asset_id in self.ids_with_status(status)]

    def complete(self) -> Delta:
        """Note that all assets are known: orders without assets are no longer shown."""
        hides = not (self.is_complete or self._shows_all_orders)
        empty = self.orders.keys() - self._groups.by_order.keys() if hides else set()
        self.is_complete = True
        return Delta(orders=set(empty), renames_orders=bool(empty))

    def apply(self, changes: Changes) -> Delta:
        """Apply `changes`; unchanged objects among them cost nothing and are not reported."""
        delta = Delta()
        for order in changes.orders:
            if self.orders.get(order.id) != order:
                self.orders[order.id] = order
                delta.orders.add(order.id)
                delta.renames_orders = True
        for order_id in changes.removed_orders:
            if self.orders.pop(order_id, None) is not None:
                delta.orders.add(order_id)
                delta.renames_orders = True
        for asset in changes.assets:
            self._put(self._with_learned_size(asset), delta)
        for asset_id in changes.removed_assets:
            self._drop(asset_id, delta)
        return delta

    def apply_edit(self, before: Asset, after: Asset) -> Delta:
        """Apply an edit that this mount just made to an asset's title or tags only.

        `before` is the state that was edited: facts known of its bytes hold for `after`.
        """
        delta = Delta()
        self._put(self._with_learned_size(before), delta)
        self._edited[after.id] = (after.updated_at, self.bytes_time(before))
        self._put(self._with_learned_size(after), delta)
        return delta

    def bytes_time(self, asset: Asset) -> datetime:
        """When the bytes may have changed last: `updated_at`, unless our own edit moved that."""
        edited_at, bytes_time = self._edited.get(asset.id, (None, asset.updated_at))
        return bytes_time if edited_at == asset.updated_at else asset.updated_at

    def load(self, assets: AssetTable, orders: Iterable[Order]) -> None:
        """Fill an empty index, without a delta."""
        self.orders.update((order.id, order) for order in orders)
        self.assets = assets
        assets.style = self.named_by
        self._origins = None
        self._note_origins()
        self._made_groups = None
        for asset_id in self._learned.keys() & assets.keys():
            assets.put(self._with_learned_size(assets[asset_id]))
        self.total_bytes, self.unsized = assets.total_size()

    def _counted_origins(self) -> Counter[tuple[str | None, str | None]]:
        if self._origins is None:
            self._origins = self.assets.origins()
        return self._origins

    def _note_origins(self) -> None:
        self.assets.has_workspaces = bool(self.workspaces())

    @property
    def _groups(self) -> _Grouping:
        """The groups; after `load` they are built on first use."""
        if self._made_groups is None:
            self._made_groups = _Grouping()
            self._made_groups.fill(self.assets)
        return self._made_groups

    def restore_sizes(self, sizes: Iterable[tuple[str, datetime, int]]) -> None:
        """Use sizes learned in an earlier mount, each for an asset as it was then updated."""
        for asset_id, updated_at, size in sizes:
            self._learned[asset_id] = (updated_at, size)

    def learn_size(self, asset_id: str, size: int) -> Delta:
        """Prefer the object store's size to the listing's until the asset is updated."""
        asset = self.assets.get(asset_id)
        delta = Delta()
        if asset is not None and asset.size != size:
            self._learned[asset_id] = (self.bytes_time(asset), size)
            self._put(replace(asset, size=size), delta)
        return delta

    def learn_extension(self, asset_id: str, extension: str) -> Delta:
        """Use this extension from now on for an asset that has no name of its own."""
        asset, extensions = self.assets.get(asset_id), self.assets.extensions
        delta = Delta()
        if asset is not None and extensions.get(asset_id) != extension:
            delta.extensions[asset_id] = extensions.get(asset_id)
            extensions[asset_id] = extension
            self._regroup(self._groups, asset_id, asset, asset, delta)
        return delta

    def _with_learned_size(self, asset: Asset) -> Asset:
        learned = self._learned.get(asset.id)
        if learned is None:
            return asset
        if learned[0] == self.bytes_time(asset):
            return replace(asset, size=learned[1])
        del self._learned[asset.id]
        return asset

    def _put(self, asset: Asset, delta: Delta) -> None:
        old = self.assets.get(asset.id)
        if old == asset:
            return
        groups = self._groups  # builds the groups before `put`
        self.assets.put(asset)
        self._regroup(groups, asset.id, old, asset, delta)

    def _drop(self, asset_id: str, delta: Delta) -> None:
        groups = self._groups
        old = self.assets.pop(asset_id)
        self._learned.pop(asset_id, None)
        self._edited.pop(asset_id, None)
        if old is not None:
            self._regroup(groups, asset_id, old, None, delta)

    def _regroup(
        self,
        groups: _Grouping,
        asset_id: str,
        old: Asset | None,
        new: Asset | None,
        delta: Delta,
    ) -> None:
        """Update groups and totals to an asset's new state, and note in `delta` what changed."""
        delta.assets.add(asset_id)
        delta.was.setdefault(asset_id, old)
        self._move_origin(old, new)
        for asset, sign in ((old, -1), (new, 1)):
            if asset is not None:
                self.total_bytes += sign * (asset.size or 0)
                self.unsized += sign * (asset.size is None)
        was, now = _groups(old), _groups(new)
        delta.statuses |= was.statuses | now.statuses
        delta.orders |= was.orders | now.orders
        delta.tags |= was.tags | now.tags
        _move(groups.by_status, asset_id, was.statuses, now.statuses)
        delta.renames_orders |= _move(groups.by_order, asset_id, was.orders, now.orders)
        delta.renames_tags |= _move(groups.by_tag, asset_id, was.tags, now.tags)

    def _move_origin(self, old: Asset | None, new: Asset | None) -> None:
        was = None if old is None else (old.workspace_id, old.source)
        now = None if new is None else (new.workspace_id, new.source)
        if was == now:
            return
        if self._origins is None:
            self._note_origins()
            return
        is_new = now is not None and now not in self._origins
        for origin, step in ((was, -1), (now, 1)):
            if origin is not None:
                self._origins[origin] += step
        gone = [origin for origin, count in self._origins.items() if not count]
        for origin in gone:
            del self._origins[origin]
        if gone or is_new:
            self._note_origins()

    def __repr__(self) -> str:
        return f"<Index {len(self.assets)} assets, {len(self.orders)} orders>"


class _Groups(NamedTuple):
    statuses: frozenset[CnamStatus] = frozenset()
    orders: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


_NO_GROUPS = _Groups()


def _groups(asset: Asset | None) -> _Groups:
    if asset is None:
        return _NO_GROUPS
    orders = _NO_GROUPS.orders if asset.order_id is None else frozenset((asset.order_id,))
    told = asset.cnam_status is not CnamStatus.UNTOLD
    statuses = frozenset((asset.cnam_status,)) if told else _NO_GROUPS.statuses
    return _Groups(statuses, orders, frozenset(asset.tags))


def _move(
    groups: dict[G, dict[str, None]], member: str, old: frozenset[G], new: frozenset[G]
) -> bool:
    """Move a member from `old` groups to `new` ones; return whether a group came or went."""
    listed = False
    for group in old - new:
        members = groups[group]
        members.pop(member, None)
        if not members:
            del groups[group]
            listed = True
    for group in new - old:
        members_now = groups.get(group)
        if members_now is None:
            groups[group] = {member: None}
            listed = True
        else:
            members_now[member] = None
    return listed

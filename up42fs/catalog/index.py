"""What the storage holds, in memory: assets and orders with indexes by order, tag and status.

Knows nothing of HTTP, names or inodes. Values are immutable; the one way to change the index is
`apply`, which returns what changed, so that names, link counts and kernel entries follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from up42fs.types import Asset, CnamStatus, Order


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh learned: objects as they are now, and IDs that are gone."""

    assets: tuple[Asset, ...] = ()
    orders: tuple[Order, ...] = ()
    removed_assets: frozenset[str] = frozenset()
    removed_orders: frozenset[str] = frozenset()


@dataclass(slots=True)
class Delta:
    """What an `apply` changed: objects by ID, and groups whose members came, went or changed."""

    assets: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    statuses: set[CnamStatus] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.assets or self.orders)


class Index:
    """The catalogue in memory."""

    def __init__(self) -> None:
        self._assets: dict[str, Asset] = {}
        self._orders: dict[str, Order] = {}
        self._by_order: dict[str, set[str]] = {}
        self._by_tag: dict[str, set[str]] = {}
        self._by_status: dict[CnamStatus, set[str]] = {status: set() for status in CnamStatus}
        self._learned: dict[str, tuple[datetime, int]] = {}
        self._total_bytes = 0

    @property
    def assets(self) -> Mapping[str, Asset]:
        """Every asset by ID."""
        return MappingProxyType(self._assets)

    @property
    def orders(self) -> Mapping[str, Order]:
        """Every order UP42 listed, by ID, with or without assets."""
        return MappingProxyType(self._orders)

    @property
    def total_bytes(self) -> int:
        """Sum of the known sizes of all assets, bytes."""
        return self._total_bytes

    def order_ids(self) -> Iterable[str]:
        """Orders that have assets; some may be unknown to `/v2/orders`."""
        return self._by_order.keys()

    def tags(self) -> Iterable[str]:
        """Tags that at least one asset carries."""
        return self._by_tag.keys()

    def of_order(self, order_id: str) -> Iterable[Asset]:
        """Assets of an order."""
        return self._pick(self._by_order.get(order_id, ()))

    def order_of(self, asset: Asset) -> Order | None:
        """The order an asset came with, where it has one that UP42 lists."""
        return self._orders.get(asset.order_id) if asset.order_id else None

    def with_tag(self, tag: str) -> Iterable[Asset]:
        """Assets that carry a tag."""
        return self._pick(self._by_tag.get(tag, ()))

    def with_status(self, status: CnamStatus) -> Iterable[Asset]:
        """Assets in a CNAM status."""
        return self._pick(self._by_status[status])

    def apply(self, changes: Changes) -> Delta:
        """Take over `changes`; unchanged objects among them cost nothing and are not reported."""
        delta = Delta()
        for order in changes.orders:
            if self._orders.get(order.id) != order:
                self._orders[order.id] = order
                delta.orders.add(order.id)
        for order_id in changes.removed_orders:
            if self._orders.pop(order_id, None) is not None:
                delta.orders.add(order_id)
        for asset in changes.assets:
            self._put(self._with_learned_size(asset), delta)
        for asset_id in changes.removed_assets:
            self._drop(asset_id, delta)
        return delta

    def learn_size(self, asset_id: str, size: int) -> Delta:
        """Believe the object store's size over the listing's until the asset is updated."""
        asset = self._assets.get(asset_id)
        delta = Delta()
        if asset is not None and asset.size != size:
            self._learned[asset_id] = (asset.updated_at, size)
            self._put(replace(asset, size=size), delta)
        return delta

    def _with_learned_size(self, asset: Asset) -> Asset:
        learned = self._learned.get(asset.id)
        if learned is None:
            return asset
        if learned[0] == asset.updated_at:
            return replace(asset, size=learned[1])
        del self._learned[asset.id]
        return asset

    def _put(self, asset: Asset, delta: Delta) -> None:
        old = self._assets.get(asset.id)
        if old == asset:
            return
        if old is not None:
            self._unlink(old, delta)
        self._assets[asset.id] = asset
        self._link(asset, delta)
        delta.assets.add(asset.id)

    def _drop(self, asset_id: str, delta: Delta) -> None:
        old = self._assets.pop(asset_id, None)
        self._learned.pop(asset_id, None)
        if old is not None:
            self._unlink(old, delta)
            delta.assets.add(asset_id)

    def _link(self, asset: Asset, delta: Delta) -> None:
        self._total_bytes += asset.size or 0
        self._by_status[asset.cnam_status].add(asset.id)
        delta.statuses.add(asset.cnam_status)
        if asset.order_id is not None:
            self._by_order.setdefault(asset.order_id, set()).add(asset.id)
            delta.orders.add(asset.order_id)
        for tag in asset.tags:
            self._by_tag.setdefault(tag, set()).add(asset.id)
            delta.tags.add(tag)

    def _unlink(self, asset: Asset, delta: Delta) -> None:
        self._total_bytes -= asset.size or 0
        self._by_status[asset.cnam_status].discard(asset.id)
        delta.statuses.add(asset.cnam_status)
        if asset.order_id is not None:
            _discard(self._by_order, asset.order_id, asset.id)
            delta.orders.add(asset.order_id)
        for tag in asset.tags:
            _discard(self._by_tag, tag, asset.id)
            delta.tags.add(tag)

    def _pick(self, ids: Iterable[str]) -> Iterable[Asset]:
        return [self._assets[asset_id] for asset_id in ids]

    def __repr__(self) -> str:
        return f"<Index {len(self._assets)} assets, {len(self._orders)} orders>"


def _discard(groups: dict[str, set[str]], group: str, member: str) -> None:
    members = groups.get(group)
    if members is None:
        return
    members.discard(member)
    if not members:
        del groups[group]

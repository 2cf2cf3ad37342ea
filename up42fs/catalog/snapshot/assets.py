"""All assets by ID: stored ones as columns, those changed since as objects.

Answers questions about all assets without making `Asset` objects; knows nothing of groups, names in
directories or callers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from up42fs.catalog.snapshot.columns import NO_SIZE, NOTHING, STATUSES, AssetColumns
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.model import names
from up42fs.model.names import is_plain
from up42fs.types import Asset, CnamStatus


class Figures(NamedTuple):
    """An asset's data for `stat`: size in bytes, times in ns since 1970, names in the views."""

    size: int | None
    created_ns: int
    updated_ns: int
    names: int


class Outline(NamedTuple):
    """The data that determines an asset's names. Sorted, the older comes first."""

    created_us: int
    id: str
    wish: str
    is_transformed: bool


#: An `Outline`, or a bare tuple of its fields: a hundred thousand tuples take half the time.
Member = tuple[int, str, str, bool]


class AssetTable(Mapping[str, Asset]):
    """Assets by ID. An asset in the columns is made anew at each access."""

    def __init__(self, columns: AssetColumns = NOTHING) -> None:
        self._columns = columns
        self._rows = dict(zip(columns.ids, range(len(columns.ids)), strict=True))
        self._made: dict[str, Asset] = {}
        #: Whether assets have a name in the view of their workspace.
        self.has_workspaces = False
        #: The columns that decide an asset's name.
        self.style = names.FILE
        #: Learned extensions, by ID, of assets that UP42 gives no name.
        self.extensions: dict[str, str] = {}
        #: The number of names that assets have in the views for their tags, and the index of no
        #: order.
        self._tag_names = [len(set(tags)) for tags in columns.tag_lists]
        self._no_order = columns.order_ids.index(None) if None in columns.order_ids else -1

    def __getitem__(self, asset_id: str) -> Asset:
        row = self._rows.get(asset_id)
        return self._made[asset_id] if row is None else self._columns.asset(row)

    def __contains__(self, asset_id: object) -> bool:
        return asset_id in self._rows or asset_id in self._made

    def __iter__(self) -> Iterator[str]:
        yield from self._rows
        yield from self._made

    def __len__(self) -> int:
        return len(self._rows) + len(self._made)

    def put(self, asset: Asset) -> None:
        self._rows.pop(asset.id, None)
        self._made[asset.id] = asset

    def pop(self, asset_id: str) -> Asset | None:
        row = self._rows.pop(asset_id, None)
        return self._made.pop(asset_id, None) if row is None else self._columns.asset(row)

    def figures(self, asset_id: str) -> Figures | None:
        """The data of an asset for `stat`; None if there is none."""
        row = self._rows.get(asset_id)
        if row is None:
            asset = self._made.get(asset_id)
            return None if asset is None else _figures(asset, self.has_workspaces)
        _, _, _, sizes, created_us, updated_us, statuses, tags, orders, *_ = self._columns
        places = 2 if not self.has_workspaces else 2 + self._has_workspace(row)
        size, has_order = sizes[row], orders[row] != self._no_order
        shown = (
            None if size == NO_SIZE else size,
            created_us[row] * 1000,
            updated_us[row] * 1000,
            places + self._tag_names[tags[row]] + has_order - (statuses[row] == _UNTOLD),
        )
        return tuple.__new__(Figures, shown)  # like `Figures(*shown)`, in half the time

    def size(self, asset_id: str) -> int | None:
        """The size of an asset in bytes; None if it is unknown, or there is no such asset."""
        row = self._rows.get(asset_id)
        if row is None:
            asset = self._made.get(asset_id)
            return None if asset is None else asset.size
        size = self._columns.sizes[row]
        return None if size == NO_SIZE else size

    def latest_ns(self, asset_ids: Iterable[str] | None = None) -> tuple[int, int]:
        """The latest creation and update of these assets or of all, ns since 1970; 0 for none."""
        created_us, updated_us = self._columns.created_us, self._columns.updated_us
        if asset_ids is None:
            rows: Collection[int] = self._rows.values()
            made: Iterable[Asset] = self._made.values()
            if len(rows) == len(created_us):
                columns = [max(created_us, default=0)], [max(updated_us, default=0)]
                return _latest(*columns, made)
        else:
            found = {id_: self._rows.get(id_) for id_ in asset_ids}
            rows = [row for row in found.values() if row is not None]
            made = [self._made[id_] for id_, row in found.items() if row is None]
        return _latest([created_us[row] for row in rows], [updated_us[row] for row in rows], made)

    def outlines(self, asset_ids: Iterable[str] | None = None) -> Iterator[Member]:
        """The data that determines the names of these assets, or of all."""
        columns, rows = self._columns, self._rows
        if asset_ids is None and len(rows) == len(columns.ids):
            by_file = self.style == names.FILE
            wishes = [
                wish if by_file and wish is not None and is_plain(wish) else self._wish(row)
                for row, wish in enumerate(columns.names)
            ]
            flags = [status == _TRANSFORMED for status in columns.statuses]
            found = zip(columns.created_us, columns.ids, wishes, flags, strict=True)
            return chain(found, map(self.outline, self._made.values()))
        return map(self._outline, self if asset_ids is None else asset_ids)

    def outline(self, asset: Asset) -> Outline:
        return self.outline_by(asset, self.extensions.get(asset.id))

    def outline_by(self, asset: Asset, extension: str | None) -> Outline:
        """Like `outline`, with this learned extension."""
        return outline(asset, extension, self.style)

    def wish(self, asset: Asset) -> str:
        """The name that an asset has where no other has it: `outline(asset).wish`, quicker."""
        learned = self.extensions.get(asset.id)
        return names.asset_name(
            asset.name, asset.title, asset.content_type, asset.id, learned, self.style
        )

    def _outline(self, asset_id: str) -> Outline:
        row, columns = self._rows.get(asset_id), self._columns
        if row is None:
            return self.outline(self._made[asset_id])
        is_transformed = columns.statuses[row] == _TRANSFORMED
        return Outline(columns.created_us[row], asset_id, self._wish(row), is_transformed)

    def _wish(self, row: int) -> str:
        columns = self._columns
        name = columns.names[row]
        if name is not None and self.style == names.FILE and is_plain(name):
            return name
        return names.asset_name(
            name,
            columns.titles[row],
            columns.content_type(row),
            columns.ids[row],
            self.extensions.get(columns.ids[row]),
            self.style,
        )

    def ids_with_status(self, status: CnamStatus) -> list[str]:
        """IDs of the assets in a CNAM status; checks every asset."""
        wanted, statuses = STATUSES.index(status), self._columns.statuses
        found = [id_ for id_, row in self._rows.items() if statuses[row] == wanted]
        found += [asset.id for asset in self._made.values() if asset.cnam_status is status]
        return found

    def origins(self) -> Counter[tuple[str | None, str | None]]:
        """How many assets are of each workspace and source."""
        columns, found = self._columns, Counter[tuple[str | None, str | None]]()
        of_rows = columns.shared
        counts = Counter(of_rows if len(self._rows) == len(of_rows) else self._shares_left())
        for number, count in counts.items():
            found[columns.shares[number].workspace_id, columns.shares[number].source] += count
        for asset in self._made.values():
            found[asset.workspace_id, asset.source] += 1
        return found

    def ids_of_workspace(self, workspace_id: str) -> list[str]:
        """IDs of the assets in a workspace; checks every asset."""
        shares, shared = self._columns.shares, self._columns.shared
        is_in = [share.workspace_id == workspace_id for share in shares]
        found = [id_ for id_, row in self._rows.items() if is_in[shared[row]]]
        found += [asset.id for asset in self._made.values() if asset.workspace_id == workspace_id]
        return found

    def _shares_left(self) -> list[int]:
        shared = self._columns.shared
        return [shared[row] for row in self._rows.values()]

    def _has_workspace(self, row: int) -> bool:
        return self._columns.shares[self._columns.shared[row]].workspace_id is not None

    def status(self, asset_id: str) -> CnamStatus | None:
        row = self._rows.get(asset_id)
        if row is not None:
            return self._columns.status(row)
        asset = self._made.get(asset_id)
        return None if asset is None else asset.cnam_status

    def groups(self) -> Iterator[tuple[str, CnamStatus, str | None, tuple[str, ...]]]:
        """ID, status, order and tags of every asset."""
        columns = self._columns
        status, orders, tags = columns.status, columns.orders, columns.tags
        for asset_id, row in self._rows.items():
            order_id, tag_list = columns.order_ids[orders[row]], columns.tag_lists[tags[row]]
            yield asset_id, status(row), order_id, tag_list
        for asset in self._made.values():
            yield asset.id, asset.cnam_status, asset.order_id, asset.tags

    def total_size(self) -> tuple[int, int]:
        """The sum of all sizes in bytes, and how many assets have none."""
        sizes: Collection[int] = self._columns.sizes
        if len(self._rows) < len(sizes):
            sizes = [self._columns.sizes[row] for row in self._rows.values()]
        made = [asset.size for asset in self._made.values()]
        unsized = sum(size == NO_SIZE for size in sizes) + made.count(None)
        return sum(size for size in (*sizes, *made) if size is not None and size > 0), unsized


def _latest(created_us: list[int], updated_us: list[int], made: Iterable[Asset]) -> tuple[int, int]:
    assets = list(made)
    if assets:  # Times are compared ten times as fast as they are converted, and no ls may wait.
        created_us.append(to_us(max(map(attrgetter("created_at"), assets))))
        updated_us.append(to_us(max(map(attrgetter("updated_at"), assets))))
    return max(created_us, default=0) * 1000, max(updated_us, default=0) * 1000


_TRANSFORMED = STATUSES.index(CnamStatus.SUCCESSFUL)
_UNTOLD = STATUSES.index(CnamStatus.UNTOLD)


def outline(asset: Asset, extension: str | None = None, style: str = names.FILE) -> Outline:
    """The data that determines an asset's names; `extension` is the learned one."""
    return Outline(
        to_us(asset.created_at),
        asset.id,
        names.asset_name(asset.name, asset.title, asset.content_type, asset.id, extension, style),
        asset.cnam_status is CnamStatus.SUCCESSFUL,
    )


def view_names(asset: Asset, has_workspaces: bool = False) -> int:
    """How many names an asset has in the views: `assets/`, state, order, workspace, each tag."""
    tags = len(set(asset.tags)) if len(asset.tags) > 1 else len(asset.tags)
    told = asset.cnam_status is not CnamStatus.UNTOLD
    has_workspace = has_workspaces and asset.workspace_id is not None
    return 1 + told + (asset.order_id is not None) + has_workspace + tags


def _figures(asset: Asset, has_workspaces: bool) -> Figures:
    created_ns, updated_ns = to_us(asset.created_at) * 1000, to_us(asset.updated_at) * 1000
    return Figures(asset.size, created_ns, updated_ns, view_names(asset, has_workspaces))

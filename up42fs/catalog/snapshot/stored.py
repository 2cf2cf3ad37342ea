"""What the snapshot takes and returns: rows, all that is stored, and what changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from up42fs.catalog.snapshot.assets import AssetTable
from up42fs.catalog.snapshot.member_tables import TableRow
from up42fs.catalog.snapshot.size_counts import Stamps
from up42fs.types import Asset, Order


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The STAC items of an asset at one `updated_us`, as `item_rows` encodes them."""

    asset_id: str
    updated_us: int
    items: str
    documents: bytes
    #: The items as `model.outlines` packs them; None if the writer made none.
    outlines: str | None = None
    #: The stamps that sizes of its files must have, by ID; None if the writer counted none.
    files: Stamps | None = None


@dataclass(frozen=True, slots=True)
class SizeRow:
    """A size in bytes from the object store; `stamp` is the version of the file's item."""

    object_id: str
    asset_id: str
    stamp: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored listings, and whether each was ever read to its end.

    `sizes` are those of assets that UP42 lists without one. `reached` is the progress of an
    interrupted listing of assets: all assets created after it are stored.
    """

    assets: AssetTable = field(default_factory=AssetTable)
    orders: tuple[Order, ...] = ()
    assets_complete: bool = False
    orders_complete: bool = False
    sizes: tuple[SizeRow, ...] = ()
    reached: datetime | None = None
    #: By asset ID, when the asset was seen to be transformed, microseconds since 1970.
    transformed_us: Mapping[str, int] = field(default_factory=dict)
    #: By asset ID, the learned extensions of assets without a name.
    extensions: Mapping[str, str] = field(default_factory=dict)
    #: By listing, how many rows its total counts more than it lists.
    uncounted: Mapping[str, int] = field(default_factory=dict)
    #: By asset ID, the stamp of bytes that turned out to be no archive.
    no_archives: Mapping[str, str] = field(default_factory=dict)
    #: Changes up to this one are in it; see `Snapshot.follow`.
    position: int = 0


@dataclass(frozen=True, slots=True)
class Followed:
    """What other processes wrote since a position.

    `is_all`: these are all rows there are, and no others.
    """

    position: int
    assets: Sequence[Asset] = ()
    orders: Sequence[Order] = ()
    removed_assets: Sequence[str] = ()
    removed_orders: Sequence[str] = ()
    complete: frozenset[str] = frozenset()
    is_all: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to write and IDs to remove, and the listings that are complete with them.

    Removing an asset removes its items, sizes and tables of members.
    """

    assets: Sequence[Asset] = ()
    orders: Sequence[Order] = ()
    removed_assets: Sequence[str] = ()
    removed_orders: Sequence[str] = ()
    complete: frozenset[str] = frozenset()
    items: Sequence[ItemRow] = ()
    sizes: Sequence[SizeRow] = ()
    reached: datetime | None = None
    #: By question; None removes the answer, because its subject is gone.
    answers: Mapping[str, bytes | None] = field(default_factory=dict)
    members: Sequence[TableRow] = ()
    #: By archive, when its table was used last, microseconds since 1970.
    members_used_us: Mapping[str, int] = field(default_factory=dict)

"""Many generated assets, for tests and benchmarks of large storages.

The counts determine everything: IDs, names and bytes (patterns) are the same in every run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from up42fs.emulator.clock import US, parse_us
from up42fs.emulator.content import EMPTY_ZIP, PatternContent
from up42fs.emulator.storage import (
    Collection,
    EmulatedAccount,
    EmulatedAsset,
    EmulatedOrder,
    Item,
    StacFile,
    Storage,
)

FIRST_US = parse_us("2023-01-01T00:00:00Z")
LAST_US = parse_us("2026-06-01T00:00:00Z")
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
#: Transformation states of ten successive assets.
_STATUSES = ("SUCCESSFUL", "NOT_PROCESSED") * 4 + ("FAILED", "IN_PROGRESS")
_UNTRANSFORMED = ("NOT_PROCESSED", "FAILED")
_PRODUCTS = (("airbus", "phr"), ("airbus", "pneo"), ("esa", "sentinel-2"), ("airbus", "spot"))


@dataclass(frozen=True, slots=True)
class SyntheticSize:
    """Counts of rows; `transformed` of the `assets` have `files` each (None: four of ten)."""

    assets: int
    orders: int
    tags: int
    transformed: int | None = None
    files: int = 2

    @classmethod
    def parse(cls, text: str) -> SyntheticSize:
        """Parse `ASSETS[,ORDERS[,TAGS[,TRANSFORMED[,FILES]]]]`; ValueError for anything else."""
        counts = [int(part) for part in text.split(",")]
        if not 1 <= len(counts) <= 5 or min(counts) < 0:
            raise ValueError(f"not ASSETS[,ORDERS[,TAGS[,TRANSFORMED[,FILES]]]]: {text}")
        assets = counts[0]
        orders = counts[1] if len(counts) > 1 else assets // 20
        tags = counts[2] if len(counts) > 2 else assets // 100
        return cls(assets, orders, tags, *counts[3:])

    def status(self, n: int) -> str:
        """The transformation state of asset number `n`."""
        if self.transformed is None:
            return _STATUSES[n % 10]
        if (n * self.transformed) // self.assets != ((n + 1) * self.transformed) // self.assets:
            return "SUCCESSFUL"
        # A few are always in progress, whatever the counts.
        return "IN_PROGRESS" if n % 5000 == 7 else _UNTRANSFORMED[n % 2]


def synthetic_storage(account: EmulatedAccount, size: SyntheticSize) -> Storage:
    """Return a storage with that many rows; bytes are patterns, up to 4 GiB for each asset."""
    storage = Storage(account)
    rng = random.Random(42)
    step_us = (LAST_US - FIRST_US) // max(1, size.assets)
    orders = [_order(account, rng, n, size.orders) for n in range(size.orders)]
    for order in orders:
        storage.orders[order.id] = order
    tags = [f"tag {n:04d}" for n in range(size.tags)]
    for n in range(size.assets):
        asset = _add_asset(storage, rng, n, FIRST_US + n * step_us, orders, tags, size.status(n))
        _add_collection(storage, rng, n, asset, size.files)
    storage.changed()
    return storage


def _order(account: EmulatedAccount, rng: random.Random, n: int, count: int) -> EmulatedOrder:
    created_us = FIRST_US + n * (LAST_US - FIRST_US) // max(1, count)
    return EmulatedOrder(
        _id(rng), f"Order {n:05d}", "FULFILLED", created_us, created_us + 600 * US,
        account.workspace_id, account.account_id, tags=[],
    )  # fmt: skip


def _add_asset(
    storage: Storage,
    rng: random.Random,
    n: int,
    created_us: int,
    orders: list[EmulatedOrder],
    tags: list[str],
    status: str,
) -> EmulatedAsset:
    account = storage.account
    order = rng.choice(orders) if orders else None
    producer, collection = _PRODUCTS[n % len(_PRODUCTS)]
    asset = EmulatedAsset(
        _id(rng), created_us, created_us + rng.randrange(3600) * US, account.workspace_id,
        account.account_id, name=f"{producer}_{n:06d}.zip", status=status,
        order_id=order.id if order else None, producer=producer, collection=collection,
        title=f"Scene {n:06d}" if n % 3 else None,
        tags=sorted(rng.sample(tags, min(len(tags), n % 4))),
    )  # fmt: skip
    storage.put_asset(asset, PatternContent(n % 16, rng.randrange(1 << 20, 4 << 30), EMPTY_ZIP))
    return asset


def _add_collection(
    storage: Storage, rng: random.Random, n: int, asset: EmulatedAsset, file_count: int
) -> None:
    is_transformed = asset.status == "SUCCESSFUL"
    title = f"SCENE_{n:06d}"
    west, south = rng.uniform(-170, 170), rng.uniform(-60, 60)
    collection_id = _id(rng)
    if is_transformed:
        files = tuple(StacFile(f"{key}.tiff", _id(rng), COG) for key in _keys(file_count))
        for file in files:
            storage.put_stac_file(file, PatternContent(n % 16, 3 << 20), asset.created_us)
    else:
        files = (StacFile("data", asset.id, "application/zip", "Data"),)
    item = Item(
        _id(rng), collection_id, title, asset.created_us - 86400 * US,
        (west, south, west + 0.1, south + 0.1), files,
        {"gsd": 0.5, "constellation": (asset.collection or "").upper(), "proj:epsg": 32633},
    )  # fmt: skip
    storage.put_collection(
        Collection(collection_id, asset.id, title, asset.created_us, [item], is_transformed)
    )


def _keys(count: int) -> list[str]:
    return ["pan", "ms", *(f"b{n:02d}" for n in range(1, count - 1))][:count]


def _id(rng: random.Random) -> str:
    # Format it here: `uuid.UUID` would take most of the start-up time of a large storage.
    h = f"{rng.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

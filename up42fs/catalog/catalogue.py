"""One account's catalogue: its listings, what is stored of them, and the questions about assets.

Makes the parts of this room once and passes each the others that it needs. It knows no file system:
`on_change` receives what a refresh changed, or another process of this account.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from functools import partial

import trio

from up42fs import supervise
from up42fs.api.client import Client
from up42fs.catalog.collections import Collections
from up42fs.catalog.crawl import ItemCrawl
from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.following import Following
from up42fs.catalog.index import Delta, Index, ListingKind
from up42fs.catalog.items import Items
from up42fs.catalog.jobs import Jobs
from up42fs.catalog.lazily import Lazily
from up42fs.catalog.listings import BEING_FULFILLED, UNFINISHED, AssetListing, OrderListing
from up42fs.catalog.metadata import AssetMetadata
from up42fs.catalog.on_demand import OnDemand
from up42fs.catalog.order_details import OrderDetails
from up42fs.catalog.recent_edits import Edited
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.searches import Searches
from up42fs.catalog.size_census import SizeCensus
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Stored
from up42fs.catalog.stored_items import Shelf
from up42fs.catalog.stored_members import TableShelf
from up42fs.catalog.sync import Sync
from up42fs.catalog.transformations import Transformations
from up42fs.config.settings import Settings
from up42fs.metrics import Metrics
from up42fs.model.stac import StacItem

#: Seconds between the first complete listing and the crawl for items, and the variable that changes
#: it, for tests that count requests.
CRAWL_AFTER_S = 3.0
CRAWL_VARIABLE = "UP42FS_CRAWL_AFTER_S"


class Catalogue:
    """The contents of one account's storage. Requests run in `nursery`.

    Without a `snapshot` nothing is stored. With `on_demand` nothing is asked of UP42 before a call
    needs it; if it also `follows`, a listing that another process read counts.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        client: Client,
        settings: Settings,
        metrics: Metrics,
        snapshot: Snapshot | None,
        stored: Stored,
        *,
        on_demand: bool = False,
        follows: bool = False,
    ) -> None:
        #: Called with what changed, except for edits, which know it themselves.
        self.on_change: Callable[[Delta], None] = lambda _: None
        self.index = Index(
            shows_all_orders=settings.orders == "all",
            # The names of workspaces are IDs of the account, which others may not see.
            shows_workspaces=settings.share_links or not settings.allow_other,
            named_by=settings.names,
        )
        self._load(stored)
        self.transformations = Transformations(self.index, stored.transformed_us, self.keep)

        self._nursery = nursery
        self._on_demand = on_demand
        self.edited = Edited()
        self._recorder: Recorder | None = None
        self._assets = AssetListing(client)
        watched = UNFINISHED if settings.orders == "all" else (BEING_FULFILLED,)
        self._orders = OrderListing(client, watched)
        self.sync = (partial(OnDemand, nursery) if on_demand else Sync)(
            self.index,
            assets=self._assets,
            orders=self._orders,
            on_change=self._changed,
            refresh_s=settings.refresh,
            known=[kind for kind in ListingKind if getattr(stored, f"{kind.value}_complete")],
            edited=self.edited,
            reached=stored.reached,
            uncounted=stored.uncounted,
            watched=watched,
            keep=self.keep,
        )
        self.sync.on_followed = self._followed

        self.shelf: Shelf | None = None
        self.tables: TableShelf | None = None
        self.census: SizeCensus | None = None
        self._following: Following | None = None
        self._lazily: Lazily | None = None
        if snapshot is not None:
            recorder = self._recorder = Recorder(
                snapshot, self.index, self.sync.is_synced, reached=lambda: self.sync.reached
            )
            self.shelf, self.tables = Shelf(recorder), TableShelf(recorder)
            self.census = SizeCensus(self.shelf, recorder)
            refresh_s, position = settings.refresh, stored.position
            if not on_demand:
                self._following = Following(
                    recorder, self.sync, refresh_s=refresh_s, position=position
                )
            elif follows and isinstance(self.sync, OnDemand):
                self._lazily = Lazily(recorder, self.sync, refresh_s=refresh_s, position=position)

        shows_stale = not on_demand  # nobody asks twice of a command
        self.items = Items(
            nursery, client, metrics=metrics, fallback=self._through_collections, shelf=self.shelf
        )
        self.collections = Collections(
            nursery, client, metrics=metrics, items=self.items, shelf=self.shelf,
            shows_stale=shows_stale,
        )  # fmt: skip
        self.descriptions = Descriptions(self.index, self.items, self.collections, self.shelf)
        self.searches = Searches(nursery, client, metrics=metrics, shows_stale=shows_stale)
        self.jobs = Jobs(
            nursery, client, self.index, self.items, metrics=metrics, shows_stale=shows_stale
        )
        self.order_details = OrderDetails(nursery, client)
        self.metadata = AssetMetadata(client, lambda: self._assets.own is None)
        self._crawl: ItemCrawl | None = None

    def _load(self, stored: Stored) -> None:
        self.index.restore_sizes(
            (row.object_id, datetime.fromisoformat(row.stamp), row.size)
            for row in stored.sizes
            if row.stamp
        )
        self.index.load(stored.assets, stored.orders)
        self.index.assets.extensions.update(stored.extensions)

    def start(self) -> None:
        """Start the background work; call it once."""
        go_on = partial(supervise.start_for_good, self._nursery)
        if self._recorder is not None:
            go_on(self._recorder.run)
        if self._on_demand:
            return
        if self._following is not None:
            go_on(self._following.run)
        go_on(self.sync.run)
        if self.shelf is not None:
            go_on(self._crawl_items, self.shelf)
        if self.census is not None:
            go_on(self.census.run)

    async def flush(self) -> None:
        """Store what is new; the snapshot is closed then."""
        if self._recorder is not None:
            await self._recorder.flush()

    def close(self) -> None:
        """Let another process refresh the catalogue."""
        for sharing in (self._following, self._lazily):
            if sharing is not None:
                sharing.close()

    def keep(self, question: str, packed: bytes | None) -> None:
        """Store an answer for later; None removes it."""
        if self._recorder is not None:
            self._recorder.note_answer(question, packed)

    def follow(self, delta: Delta) -> None:
        """Store a change of the index, and fetch the items that it calls for."""
        if self._recorder is not None:
            self._recorder.note(delta)
        if self._crawl is not None:
            self._crawl.note(delta)

    def status(self) -> dict[str, object]:
        """Its entries in `status.json`."""
        return {
            "assets": len(self.index.assets),
            "orders": len(self.index.orders),
            "bytes": self.index.total_bytes,
            "listed_by": {"assets": self._assets.mode, "orders": self._orders.mode},
            "catalogue": self.sync.status(),
            "refreshed_by": self._following.status() if self._following else None,
            "items": self._crawl.status() if self._crawl else None,
        }

    def notes(self) -> list[str]:
        """What the user should know of the listings."""
        lacking = [listing.missing for listing in (self._assets, self._orders) if listing.missing]
        return [
            f"UP42's STAC catalogue alone lists the storage; missing: {missing}"
            for missing in lacking
        ]

    async def _crawl_items(self, shelf: Shelf) -> None:
        """Once all assets are listed, fetch their items, with the lowest priority."""
        await self.sync.synced(ListingKind.ASSETS)
        await trio.sleep(float(os.environ.get(CRAWL_VARIABLE) or CRAWL_AFTER_S))
        if self._following is not None:
            await self._following.was_elected.wait()  # one crawl is enough for all
        self._crawl = ItemCrawl(self.index, self.items, shelf.versions, self.descriptions.complete)
        await self._crawl.run()

    async def _through_collections(self, asset_id: str) -> tuple[StacItem, ...]:
        return await self.collections.items_of_asset(asset_id)

    def _changed(self, delta: Delta) -> None:
        self.follow(delta)
        self.on_change(delta)

    def _followed(self, delta: Delta) -> None:
        """Another process of this account changed the snapshot: it is stored already."""
        if self._crawl is not None:
            self._crawl.note(delta)
        self.on_change(delta)

"""The one wiring point: builds a mount out of its layers, serves it, and takes it down.

Knows every layer and decides nothing else: what to do when is each layer's own business.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import trio

from up42fs import __version__, logs, supervise
from up42fs.api.client import Client
from up42fs.api.network import Reached
from up42fs.catalog.collections import Collections
from up42fs.catalog.crawl import ItemCrawl
from up42fs.catalog.index import Delta, Index
from up42fs.catalog.items import Items
from up42fs.catalog.listings import Assets, ListedNarrowly, Orders
from up42fs.catalog.metadata import AssetMetadata, ListedMetadata, StacMetadata
from up42fs.catalog.recent_edits import Edited
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.searches import Searches
from up42fs.catalog.snapshot.snapshot import Snapshot, Stored
from up42fs.catalog.stac_listing import AssetListing, OrderListing
from up42fs.catalog.stored_answers import KeptCounts
from up42fs.catalog.stored_items import Shelf
from up42fs.catalog.sync import Part, Sync
from up42fs.catalog.transformations import Transformations
from up42fs.config.settings import Settings
from up42fs.deadlines import LIMIT_S
from up42fs.errors import Up42fsError
from up42fs.fs.branches.branches import Branches
from up42fs.fs.control import VirtualFiles
from up42fs.fs.editing import Editing
from up42fs.fs.edits import locks as interlock
from up42fs.fs.edits.apply import Edits
from up42fs.fs.edits.journal import Journal
from up42fs.fs.edits.locks import Interlock
from up42fs.fs.files.crowd import Watch
from up42fs.fs.files.ledger import Ledger
from up42fs.fs.filesystem import AHEAD_BYTES, Filesystem, Invalidation
from up42fs.fs.naming import Naming
from up42fs.fs.privacy import Privacy
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.fs.writing import Writing
from up42fs.fuse.mount_table import Mount
from up42fs.fuse.operations import Operations
from up42fs.fuse.session import MountOptions, Session
from up42fs.fuse.tuning import Tuned, raise_read_ahead, tune
from up42fs.metrics import Metrics
from up42fs.model.stac import StacItem
from up42fs.mount import prometheus as exposition
from up42fs.mount import records, signals
from up42fs.mount import sleep as slept
from up42fs.mount.account import connect, load_and_sign_in, nothing_found
from up42fs.mount.allocator import return_memory
from up42fs.mount.ending import Ending
from up42fs.mount.places import account_key, egress_of, journal_path, overlay_of, snapshot_of
from up42fs.mount.seclusion import seclude
from up42fs.store.settings import StoreSettings
from up42fs.store.store import FileStore
from up42fs.types import SignedUrl, Version

log = logging.getLogger(__name__)

#: What the process needs beside the data it holds, MiB: `memory` is meant for all of it.
PROCESS_MIB = 64
#: Large directories are many objects and little garbage; looking through them takes longer than
#: listing them.
GC_THRESHOLD = (50_000, 20, 100)
#: When to try again to set the kernel's read-ahead.
_TUNING_PAUSES_S = (0.5, 1.0, 3.0)
#: Seconds between the first complete listing and the crawl for items, and how to change that: for
#: tests that count requests.
CRAWL_AFTER_S = 3.0
CRAWL_VARIABLE = "UP42FS_CRAWL_AFTER_S"


def serve(
    settings: Settings,
    mountpoint: Path,
    on_ready: Callable[[], None],
    notes: list[str],
    source: str | None = None,
) -> None:
    """Mount and serve until unmounted; calls `on_ready` once the mount answers.

    `notes` are what the user should know of this mount; what is found out while mounting is added.
    `source` is what `mount` and `df` show as the device, instead of where the account is.

    Raises an `Up42fsError` if it cannot be mounted; then no mount is left behind.
    """
    return_memory()
    seclude()
    faulthandler.register(signal.SIGUSR1)
    recent = logs.Recent()
    logging.getLogger(__package__).addHandler(recent)
    try:
        trio.run(_serve, settings, mountpoint, on_ready, recent, notes, source)
    except BaseExceptionGroup as group:
        ours = _first(group)
        if ours is None:
            raise
        raise ours from None
    finally:
        logging.getLogger(__package__).removeHandler(recent)


async def _serve(
    settings: Settings,
    mountpoint: Path,
    on_ready: Callable[[], None],
    recent: logs.Recent,
    notes: list[str],
    source: str | None,
) -> None:
    metrics = Metrics()
    async with connect(settings, metrics) as connection:
        snapshot = snapshot_of(settings)
        gc.disable()  # nothing that is loaded is garbage; enabled when all is there
        stored, is_empty = await load_and_sign_in(connection, snapshot)
        parts = _Mount(settings, mountpoint, connection.client, metrics, snapshot, stored, recent)
        parts.source, parts.reached = source, connection.reached
        parts.notes = tuple(notes)
        if is_empty:
            notes.append(nothing_found(settings))
        for note in notes:
            log.warning("%s", note)
        await parts.run(on_ready)


class _Mount:
    """The objects of one mount and the tasks that drive them."""

    def __init__(
        self,
        settings: Settings,
        mountpoint: Path,
        client: Client,
        metrics: Metrics,
        snapshot: Snapshot | None,
        stored: Stored,
        recent: logs.Recent,
    ) -> None:
        self._recent = recent
        self.source: str | None = None
        self.reached = Reached(settings.api)
        self._egress = egress_of(settings, metrics)
        crowd = frozenset(filter(None, settings.crowd.split(":")))
        self._watch = Watch(Ledger(), metrics, crowd)
        self._settings = settings
        self._mountpoint = mountpoint
        self._client = client
        self._metrics = metrics
        self._index = Index()
        self._index.restore_sizes(
            (row.object_id, datetime.fromisoformat(row.stamp), row.size)
            for row in stored.sizes
            if row.stamp
        )
        self._index.load(stored.assets, stored.orders)
        self._transformed_us = stored.transformed_us
        self._index.assets.extensions.update(stored.extensions)
        # What was loaded stays: looking through it again and again would stop the mount each time.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        self._started_s = time.time()
        self._record: records.Record | None = None
        #: What the user should know of this mount, for its status.
        self.notes: tuple[str, ...] = ()
        self._tuned: Tuned | None = None
        self._assets = AssetListing(Assets(client), client)
        self._orders = OrderListing(Orders(client), client)
        self._edited = Edited()
        self._sync = Sync(
            self._index,
            assets=self._assets,
            orders=self._orders,
            on_change=self._changed,
            refresh_s=settings.refresh,
            known=[part for part in Part if getattr(stored, f"{part.value}_complete")],
            edited=self._edited,
            narrow=lambda: ListedNarrowly(client) if self._assets.mode == "assets" else None,
            reached=stored.reached,
            uncounted=KeptCounts(snapshot, self._keep) if snapshot else None,
        )
        self._recorder = (
            Recorder(
                snapshot,
                self._index,
                self._sync.is_synced,
                reached=lambda: self._sync.reached,
            )
            if snapshot
            else None
        )
        self._naming = Naming(self._index, self._recorder.note_answer if self._recorder else None)
        self._shelf = Shelf(snapshot, self._recorder) if snapshot and self._recorder else None
        self._crawl: ItemCrawl | None = None
        self._edits = self._make_edits() if settings.rw else None
        self._overlay = overlay_of(settings)
        self._ending = Ending(lambda: self._session.take_away())

    def _make_edits(self) -> Edits:
        stac = StacMetadata(self._client)
        source = AssetMetadata(
            ListedMetadata(self._client), stac, lambda: self._assets.mode == "stac"
        )
        return Edits(
            self._index,
            source,
            journal=Journal(journal_path(self._settings, self._mountpoint)),
            locks=Interlock(interlock.default_path(), self._settings.api),
            edited=self._edited,
            publish=self._publish,
            refresh=self._sync.refresh_now,
            metrics=self._metrics,
        )

    async def run(self, on_ready: Callable[[], None]) -> None:
        edits, tag_directories = self._edits, TagDirectories()
        if edits is not None:
            await trio.to_thread.run_sync(edits.journal.load)
        async with trio.open_nursery() as nursery:
            held_mib = max(self._settings.memory - PROCESS_MIB, self._settings.memory // 4)
            settings = StoreSettings(
                memory_bytes=held_mib << 20,
                cache_dir=self._settings.storage_dir,
                cache_bytes=self._settings.cache_size,
                cache_key=account_key(self._settings),
            )
            self._store = FileStore(
                nursery,
                self._sign,
                settings,
                self._metrics,
                on_version=self._learned,
                egress=self._egress,
                is_local=lambda: self.reached.is_local,
            )
            self._filesystem = Filesystem(
                self._index,
                branches=self._branches(nursery),
                catalogue=self._sync,
                files=self._store,
                documents=self._client,
                virtual=VirtualFiles(
                    self._status,
                    lambda: exposition.render(self._status()),
                    edits.journal.render if edits else None,
                ),
                watch=self._watch,
                tag_directories=tag_directories if edits else None,
                overlay=self._overlay,
                umask=self._settings.umask,
                naming=self._naming,
                metrics=self._metrics,
                ahead_bytes=min(AHEAD_BYTES, settings.parts_bytes // 4),
            )
            self._filesystem.tell_kernel = self._tell_kernel
            self._filesystem.look_for_changes = self._sync.refresh_soon
            editing = (
                Editing(self._filesystem, self._index, edits, tag_directories) if edits else None
            )
            operations = Operations(
                self._filesystem,
                self._metrics,
                uid=self._settings.uid,
                gid=self._settings.gid,
                writing=Writing(self._filesystem, editing),
                privacy=Privacy(os.getuid(), self._settings.share_links),
            )
            options = MountOptions(
                self._source(),
                allow_other=self._settings.allow_other,
                writes=edits is not None or self._overlay is not None,
            )
            self._session = Session(operations, self._mountpoint, options)
            # Before there is a mount that an early signal could leave behind.
            await nursery.start(signals.listen, self._stop, self._sync.refresh_now)
            self._session.on_end = self._ending.begin
            async with self._session.mounted():
                await self._serve_session(nursery, on_ready)
                self._ending.begin()
            async with trio.open_nursery() as keeping:
                supervise.start(keeping, self._store.aclose)
                if self._recorder is not None:
                    supervise.start(keeping, self._recorder.flush)
            if self._record is not None:
                await supervise.contained(trio.to_thread.run_sync, records.remove, self._record)
            if self._overlay is not None:
                self._overlay.close()
            nursery.cancel_scope.cancel()
        self._ending.over()

    def _branches(self, nursery: trio.Nursery) -> Branches:
        client, metrics = self._client, self._metrics

        async def through_collections(asset_id: str) -> tuple[StacItem, ...]:
            return await collections.items_of_asset(asset_id)

        items = self._items = Items(
            nursery, client, metrics=metrics, fallback=through_collections, shelf=self._shelf
        )
        collections = Collections(nursery, client, metrics=metrics, items=items, shelf=self._shelf)
        return Branches(
            self._index,
            items=items,
            collections=collections,
            searches=Searches(nursery, client, metrics=metrics),
            lists_footprints=self._settings.footprints,
            transformations=Transformations(
                self._index,
                self._transformed_us,
                self._recorder.note_answer if self._recorder else None,
            ),
        )

    async def _serve_session(self, nursery: trio.Nursery, on_ready: Callable[[], None]) -> None:
        go_on = partial(supervise.start_for_good, nursery)
        go_on(self._sync.run)
        if self._recorder is not None:
            go_on(self._recorder.run)
        if self._egress is not None:
            go_on(self._egress.run)
        go_on(self._crawl_items)
        go_on(slept.watch, self._wake)
        self._filesystem.lets_others_in = (
            self._settings.allow_other and not self._settings.share_links
        )
        async with trio.open_nursery() as session:
            mount: Mount | None = await session.start(self._session.serve)
            if mount is None:
                return
            agreed = self._session.negotiated
            self._filesystem.open_files.are_images_direct = bool(agreed and agreed.maps_direct)
            await supervise.contained(self._tune, mount)
            log.info("mounted %s at %s", self._source(), self._mountpoint)
            await supervise.contained(self._keep_record)
            try:
                on_ready()
            except Exception as error:
                supervise.report(on_ready, error)
            supervise.start(nursery, self._tune_again, mount)

    async def _tune(self, mount: Mount) -> None:
        self._tuned = await trio.to_thread.run_sync(
            tune, mount, self._settings.read_ahead, self._session.negotiated
        )
        self._vary_read_ahead(mount)

    async def _keep_record(self) -> None:
        disk, log_file = self._store.disk_status(), self._settings.log_file
        self._record = records.Record(
            str(self._mountpoint),
            os.getpid(),
            log_file=str(log_file) if log_file else None,
            files=str(disk["files"]) if disk else None,
        )
        try:
            await trio.to_thread.run_sync(records.write, self._record)
        except OSError as error:
            log.debug("other commands will not know where this mount logs: %s", error)

    def _vary_read_ahead(self, mount: Mount) -> None:
        wide_kib = self._tuned.read_ahead_kib if self._tuned else None
        if wide_kib is not None:
            pieces_kib = self._session.vary_read_ahead(mount, wide_kib)
            self._store.tuning = replace(self._store.tuning, kernel_ahead_bytes=pieces_kib << 10)

    async def _tune_again(self, mount: Mount) -> None:
        """A rule of udev (contrib/udev) permits it a moment after the mount is there."""
        wanted_kib = self._settings.read_ahead
        for pause_s in _TUNING_PAUSES_S:
            tuned = self._tuned
            if tuned is None or tuned.read_ahead_kib is None or tuned.read_ahead_kib >= wanted_kib:
                return
            await trio.sleep(pause_s)
            now_kib = await trio.to_thread.run_sync(raise_read_ahead, mount, wanted_kib)
            self._tuned = replace(tuned, read_ahead_kib=now_kib)
            self._vary_read_ahead(mount)
            if now_kib == wanted_kib:
                log.info("kernel read-ahead is %d KiB now", wanted_kib)

    async def _crawl_items(self) -> None:
        """Once all assets are listed, learn their items behind everything else."""
        if self._shelf is None:
            return
        await self._sync.synced(Part.ASSETS)
        await trio.sleep(float(os.environ.get(CRAWL_VARIABLE) or CRAWL_AFTER_S))
        self._crawl = ItemCrawl(self._index, self._items, self._shelf.versions)
        await self._crawl.run()

    def _source(self) -> str:
        """What `mount` and `df` show as the device: mount(8) looks for what it was given."""
        if self.source:
            return self.source.replace(",", "_")
        if self._settings.api_url:
            return f"up42:{self._settings.api.partition('://')[2]}".replace(",", "_")
        return f"up42:{self._settings.region}"

    def _keep(self, question: str, packed: bytes) -> None:
        if self._recorder is not None:
            self._recorder.note_answer(question, packed)

    def _note(self, delta: Delta) -> None:
        """Tell those who follow the index behind."""
        if self._recorder is not None:
            self._recorder.note(delta)
        if self._crawl is not None:
            self._crawl.note(delta)

    async def _sign(self, object_id: str) -> SignedUrl:
        signed = await self._client.sign(object_id)
        self._naming.signed(object_id, signed.url)
        return signed

    def _tell_kernel(self, stale: list[Invalidation]) -> None:
        self._session.invalidate(stale)

    def _changed(self, delta: Delta) -> None:
        self._note(delta)
        self._session.invalidate(self._filesystem.apply(delta))

    async def _publish(self, delta: Delta) -> None:
        """An edit changed the index: the kernel has followed when this returns."""
        self._note(delta)
        await self._session.invalidated(self._filesystem.apply(delta))

    def _learned(self, object_id: str, version: Version | None) -> None:
        size = None if version is None else version.size
        self._session.invalidate(self._filesystem.learn_size(object_id, size))
        self._sync.refresh_now()

    def _status(self) -> dict[str, object]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mountpoint": str(self._mountpoint),
            "log_file": str(self._settings.log_file) if self._settings.log_file else None,
            "api": self._settings.api,
            "account": self._settings.username,
            "workspace": self._settings.workspace,
            "mounted_seconds": round(time.time() - self._started_s),
            "assets": len(self._index.assets),
            "orders": len(self._index.orders),
            "bytes": self._index.total_bytes,
            "listed_by": {"assets": self._assets.mode, "orders": self._orders.mode},
            "catalogue": self._sync.status(),
            "items": self._crawl.status() if self._crawl else None,
            "kernel": {
                "read_ahead_kib": self._tuned.read_ahead_kib if self._tuned else None,
                "max_background": self._tuned.max_background if self._tuned else None,
                "parallel_dirops": self._tuned.parallel_dirops if self._tuned else None,
                "direct_images": self._tuned.direct_images if self._tuned else None,
                "request_limit_s": LIMIT_S,
            },
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "store": self._store.gauges(),
            "egress": self._egress.status() if self._egress else None,
            "disk_cache": self._store.disk_status(),
            "sidecars": self._overlay.status() if self._overlay else None,
            "edits": self._edits.status() if self._edits else None,
            "open": self._filesystem.gauges(),
            "top_files": self._watch.ledger.top(),
            "fetched_files": self._store.tallies(),
            "notes": [*self.notes, *self._notes()],
            "counters": self._metrics.snapshot(),
            "recent_errors": self._recent.latest(),
        }

    def _stop(self, number: signal.Signals) -> None:
        leaves = number == signal.SIGTERM and self._settings.on_term == "leave"
        log.info("%s: %s", number.name, "leaving the mount" if leaves else "unmounting")
        self._session.stop(leave=leaves)

    def _notes(self) -> Iterator[str]:
        if not self._index.assets and self._sync.is_synced(Part.ASSETS):
            yield nothing_found(self._settings)
        for listing in (self._assets, self._orders):
            if listing.missing:
                yield f"UP42's STAC catalogue alone lists the storage; missing: {listing.missing}"

    def _wake(self) -> None:
        """After a suspend every link and connection is dead; say so before a reader finds out."""
        self._store.suspend()
        self._sync.refresh_now()


def _first(group: BaseExceptionGroup[BaseException]) -> Up42fsError | None:
    """The domain error of a group that has nothing worse in it."""
    ours, rest = group.split(Up42fsError)
    if ours is None or rest is not None:
        return None
    leaf: BaseException = ours
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf if isinstance(leaf, Up42fsError) else None

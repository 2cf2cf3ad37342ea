"""The engine: one account's catalogue, byte store and file system, and their background work.

Only this module connects these layers. It knows no FUSE binding, no mount point and no command, and
decides nothing that belongs to one of the layers.

`Engine.open` signs in, shows the catalogue that an earlier engine stored, and starts the background
work: refreshing, storing, crawling for items. On exit it stops running transfers and stores what is
new. Two hooks keep a kernel's cache up to date: `tell_kernel` receives the entries that a change
made stale, and edits await `kernel_has_forgotten`, so that they return only when every program sees
them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from up42fs import __version__, supervise
from up42fs.catalog.catalogue import Catalogue
from up42fs.catalog.index import Delta, ListingKind
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Stored
from up42fs.config.options import crowd_limits
from up42fs.config.settings import Settings
from up42fs.engine import prometheus
from up42fs.engine.account import (
    AccountConnection,
    account_key,
    connect,
    load_and_sign_in,
    nothing_found,
)
from up42fs.engine.paths import Paths
from up42fs.engine.places import (
    egress_of,
    journal_path,
    overlay_of,
    readme_of,
    snapshot_of,
    threshold_of,
)
from up42fs.fs.branches.archive_tables import ArchiveTables
from up42fs.fs.branches.archives import Archives
from up42fs.fs.branches.branches import Branches
from up42fs.fs.control import VirtualFiles
from up42fs.fs.editing import Editing
from up42fs.fs.edits import locks
from up42fs.fs.edits.apply import Edits
from up42fs.fs.edits.journal import Journal
from up42fs.fs.edits.locks import Interlock
from up42fs.fs.files.ledger import Ledger, Watch
from up42fs.fs.filesystem import AHEAD_BYTES, Filesystem
from up42fs.fs.invalidation import Invalidation
from up42fs.fs.naming import Naming
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.fs.whole_tree import WholeTree
from up42fs.fs.writing import Writing
from up42fs.garbage import collecting_nothing
from up42fs.metrics import Metrics
from up42fs.readahead.tuning import Tuning
from up42fs.store.settings import StoreSettings
from up42fs.store.store import FileStore
from up42fs.types import SignedUrl, Version

log = logging.getLogger(__name__)

#: Memory that the process needs beside its data, MiB: the setting `memory` covers both.
PROCESS_MIB = 64
#: Returns further entries for `status.json`, by key, from the code that uses the engine.
About = Callable[[], Mapping[str, object]]


class Engine(Paths):
    """One account's storage: `entries`, `stat`, `opened` and `attributes` by path."""

    def __init__(
        self,
        nursery: trio.Nursery,
        connection: AccountConnection,
        snapshot: Snapshot | None,
        stored: Stored,
        place: Path | None,
        about: About,
        *,
        on_demand: bool = False,
        follows: bool = False,
        is_below_kernel: bool = False,
    ) -> None:
        """Build the engine; call `open` instead. For sidecars it blocks or raises an error."""
        settings = self.settings = connection.settings
        self.metrics = metrics = connection.metrics
        self._nursery = nursery
        self._client = connection.client
        self._about = about
        self._started_s = time.time()
        self._is_started = self._is_closed = False
        #: What the user should know, for the status; `current_notes` adds more from the listings.
        self.notes: list[str] = []
        #: Whether UP42 listed no asset at sign-in; the first listing takes over from it.
        self._found_nothing = False
        #: Called with the entries that a kernel showing this tree must invalidate; must not block.
        self.tell_kernel: Callable[[list[Invalidation]], None] = lambda _: None
        #: Awaited by edits: returns when the kernel has invalidated the entries, or after some
        #: seconds.
        self.kernel_has_forgotten: Callable[[Sequence[Invalidation]], Awaitable[None]] = _at_once
        #: The last lines of the log, of which only the mount's process knows.
        self.log_text: Callable[[], bytes] = bytes
        self._on_demand = on_demand
        self._is_below_kernel = is_below_kernel

        self.catalogue = Catalogue(
            nursery, self._client, settings, metrics, snapshot, stored,
            on_demand=on_demand, follows=follows,
        )  # fmt: skip
        self.index, self.sync = self.catalogue.index, self.catalogue.sync
        self.catalogue.on_change = self._show
        self._naming = Naming(self.index, self.catalogue.keep)
        self._egress = egress_of(settings, metrics)
        self.watch = Watch(Ledger(), metrics, crowd_limits(settings.crowd))
        self._threshold = threshold_of(settings, metrics, self.watch.ledger.top_program)
        store_settings = self._store_settings()
        self.store = FileStore(
            nursery,
            self._sign,
            store_settings,
            metrics,
            on_version=self._learned,
            egress=self._egress,
            is_local=lambda: connection.reached.is_local,
        )
        self.overlay = overlay_of(settings)
        self.edits = self._make_edits(place) if settings.rw else None
        tag_directories = TagDirectories() if self.edits else None
        self._archives = self._make_archives(stored)
        super().__init__(
            Filesystem(
                self._make_tree(tag_directories, place),
                catalogue=self.sync,
                documents=self._client,
                watch=self.watch,
                umask=settings.umask,
                naming=self._naming,
                metrics=metrics,
                ahead_bytes=0 if on_demand else min(AHEAD_BYTES, store_settings.parts_bytes // 4),
            )
        )
        self.filesystem.tell_kernel = lambda stale: self.tell_kernel(stale)
        self.filesystem.look_for_changes = self.sync.refresh_soon
        editing = (
            Editing(self.filesystem, self.index, self.edits, tag_directories)
            if self.edits and tag_directories
            else None
        )
        self.writing = Writing(self.filesystem, editing)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        metrics: Metrics | None = None,
        *,
        place: Path | None = None,
        about: About = dict,
        starts: bool = True,
        on_demand: bool = False,
        follows: bool = False,
        is_below_kernel: bool = False,
    ) -> AsyncIterator[Engine]:
        """Sign in, build the engine and run its background work until exit.

        With `rw`, `place` (a mount point) says whose journal takes the edits; without one they can
        be undone until exit. `about` adds to `status`. Without `starts` the background work waits
        for `start`. `is_below_kernel`: a kernel shows this tree, and keeps what was read. Raises an
        `Up42fsError` if UP42 does not answer and nothing is stored.

        With `on_demand` nothing is asked of UP42 here, nor in the background: each call asks for
        what it needs, as narrowly as it can (`catalog.on_demand`). Commands and libraries open it
        so. If it also `follows`, a listing that another process read within `refresh` counts.
        """
        async with connect(settings, metrics or Metrics()) as connection:
            snapshot = snapshot_of(settings)
            failure: BaseException | None = None
            async with trio.open_nursery() as nursery:
                try:
                    with collecting_nothing():
                        stored, is_empty = (
                            (await _load(snapshot), False)
                            if on_demand
                            else await load_and_sign_in(connection, snapshot)
                        )
                        engine = cls(
                            nursery,
                            connection,
                            snapshot,
                            stored,
                            place,
                            about,
                            on_demand=on_demand,
                            follows=follows,
                            is_below_kernel=is_below_kernel,
                        )
                    try:
                        if is_empty:
                            engine._found_nothing = True
                        if engine.edits is not None:
                            await trio.to_thread.run_sync(engine.edits.journal.load)
                        if starts:
                            engine.start()
                        yield engine
                    finally:
                        with trio.CancelScope(shield=True):
                            await engine.aclose()
                except (Exception, KeyboardInterrupt, SystemExit) as error:
                    failure = error  # raised outside the nursery, which would wrap it in a group
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure

    def start(self) -> None:
        """Start the background work; before that, only what was stored is shown. Idempotent."""
        if self._is_started or self._is_closed:
            return
        self._is_started = True
        self.catalogue.start()
        for budget in (self._egress, self._threshold):
            if budget is not None:
                supervise.start_for_good(self._nursery, budget.run)

    async def aclose(self) -> None:
        """Stop transfers and store what is new. Idempotent; never raises a failure of either."""
        if self._is_closed:
            return
        self._is_closed = True
        async with trio.open_nursery() as keeping:
            supervise.start(keeping, self.store.aclose)
            supervise.start(keeping, self.catalogue.flush)
        self.catalogue.close()
        if self.overlay is not None:
            self.overlay.close()
        if self.edits is not None:
            self.edits.close()

    def wake(self) -> None:
        """Drop all links and connections and refresh the catalogue, after the machine slept."""
        self.store.suspend()
        self.sync.refresh_now()

    def status(self) -> dict[str, object]:
        """Return the status document: holdings, freshness, transfers."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "api": self.settings.api,
            "account": self.settings.username,
            "account_name": self.settings.account,
            "workspace": self.settings.workspace,
            "mounted_seconds": round(time.time() - self._started_s),
            **self.catalogue.status(),
            "sizes": self._sizes_status(),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "store": self.store.gauges(),
            "egress": self._egress.status() if self._egress else None,
            "traffic": self._threshold.status() if self._threshold else None,
            "disk_cache": self.store.disk_status(),
            "sidecars": self.overlay.status() if self.overlay else None,
            "archives": self._archives.tables.status() if self._archives else None,
            "edits": self.edits.status() if self.edits else None,
            "open": self.filesystem.gauges(),
            "top_files": self.watch.ledger.top(),
            "fetched_files": self.store.tallies(),
            "notes": self.current_notes(),
            "counters": self.metrics.snapshot(),
        } | dict(self._about())

    def _sizes_status(self) -> dict[str, int] | None:
        """Files whose items are known, and those of unknown size, with deliveries that have none.

        Without a snapshot these are the files that were listed lately.
        """
        census = self.catalogue.census
        if census is None:
            files, unknown = self.filesystem.tree.branches.registry.counts()
        elif census.files is None:
            return None
        else:
            files, unknown = census.files, census.unknown
        unsized = self.index.unsized
        return {"files": files + unsized, "unknown": unknown + unsized}

    # building ------------------------------------------------------------------------------

    def _store_settings(self) -> StoreSettings:
        settings = self.settings
        return StoreSettings(
            memory_bytes=max(settings.memory - PROCESS_MIB, settings.memory // 4) << 20,
            cache_dir=settings.storage_dir,
            cache_bytes=settings.cache_size,
            cache_key=account_key(settings),
            is_below_kernel=self._is_below_kernel,
            # Many short-lived processes guess each for itself, where a mount learns from all.
            tuning=Tuning(unproven_bytes=0) if self._on_demand else Tuning(),
        )

    def _make_tree(self, tag_directories: TagDirectories | None, place: Path | None) -> WholeTree:
        settings, catalogue = self.settings, self.catalogue
        virtual = VirtualFiles(
            self.status,
            lambda: prometheus.render(self.status()),
            self.edits.journal.render if self.edits else None,
            (lambda: self.log_text()) if self._is_below_kernel else None,
            readme_of(settings, place) if place and self._is_below_kernel else None,
        )
        branches = Branches(
            self.index,
            items=catalogue.items,
            collections=catalogue.collections,
            searches=catalogue.searches,
            jobs=catalogue.jobs,
            order_details=catalogue.order_details,
            lists_footprints=settings.footprints,
            lists_order_documents=settings.documents,
            lists_previews=settings.previews,
            transformations=catalogue.transformations,
            archives=self._archives,
            descriptions=catalogue.descriptions,
            nursery=self._nursery,
            spool_directory=settings.storage_dir,
        )
        return WholeTree(
            self.index,
            self.store,
            virtual,
            branches,
            tag_directories=tag_directories,
            overlay=self.overlay,
        )

    def _make_edits(self, place: Path | None) -> Edits:
        return Edits(
            self.index,
            self.catalogue.metadata,
            journal=Journal(journal_path(self.settings, place) if place else None),
            locks=Interlock(locks.default_path(), self.settings.api),
            edited=self.catalogue.edited,
            publish=self._publish,
            refresh=self.sync.refresh_now,
            metrics=self.metrics,
        )

    def _make_archives(self, stored: Stored) -> Archives | None:
        if self.settings.archives == "off":
            return None
        return Archives(
            self.index,
            ArchiveTables(
                self._nursery,
                self.index,
                self.store,
                shelf=self.catalogue.tables,
                metrics=self.metrics,
            ),
            lists=self.settings.archives == "on",
            refuted=stored.no_archives,
            keep=self.catalogue.keep,
        )

    # at work -------------------------------------------------------------------------------

    async def _sign(self, object_id: str) -> SignedUrl:
        signed = await self._client.sign(object_id)
        self._naming.signed(object_id, signed.url)
        return signed

    def _show(self, delta: Delta) -> None:
        self.tell_kernel(self.filesystem.changes.apply(delta))

    async def _publish(self, delta: Delta) -> None:
        """An edit changed the index: return once the kernel has followed."""
        self.catalogue.follow(delta)
        await self.kernel_has_forgotten(self.filesystem.changes.apply(delta))

    def _learned(self, object_id: str, version: Version | None) -> None:
        size = None if version is None else version.size
        self.tell_kernel(self.filesystem.changes.learn_size(object_id, size))
        self.sync.refresh_now()

    def current_notes(self) -> list[str]:
        """Return what the user should know of this engine now."""
        notes = [*self.notes]
        is_synced = self.sync.is_synced(ListingKind.ASSETS)
        if not self.index.assets if is_synced else self._found_nothing:
            notes.append(nothing_found(self.settings))
        return notes + self.catalogue.notes()


async def _load(snapshot: Snapshot | None) -> Stored:
    return await trio.to_thread.run_sync(snapshot.load) if snapshot else Stored()


async def _at_once(_stale: Sequence[Invalidation]) -> None:
    """Return at once, since no kernel follows."""

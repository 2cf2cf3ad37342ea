"""One mount: an engine served through FUSE until it is unmounted or stopped by a signal."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from up42fs import logs, supervise
from up42fs.config.settings import Settings
from up42fs.deadlines import LIMIT_S
from up42fs.engine import Engine
from up42fs.errors import Up42fsError
from up42fs.fs.privacy import Privacy
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.mount_table import Mount
from up42fs.fuse.session import ENDS_BY_DEFECT, MountOptions, Session
from up42fs.fuse.tuning import Tuned, raise_read_ahead, tune
from up42fs.mount import records, signals
from up42fs.mount.desktop import Desktop
from up42fs.mount.ending import Ending
from up42fs.mount.process import (
    GC_THRESHOLD,
    keep_spare,
    return_memory,
    seclude,
    wake_without_memory,
    watch_sleep,
)

log = logging.getLogger(__name__)

#: Pauses before further attempts to set the kernel's read-ahead, seconds.
_TUNING_PAUSES_S = (0.5, 1.0, 3.0)


def serve(
    settings: Settings,
    mountpoint: Path,
    on_ready: Callable[[], None],
    notes: list[str],
    source: str | None = None,
) -> None:
    """Mount and serve until unmounted; call `on_ready` once the mount answers.

    `notes` are warnings for the user about this mount; those found while mounting are added.
    `source` is the device that `mount` and `df` show, instead of the region or API address. Raises
    an `Up42fsError` if mounting fails; then no mount is left behind.
    """
    return_memory()
    seclude()
    faulthandler.register(signal.SIGUSR1)
    recent, ring = logs.Recent(), logs.Ring()
    ours = logging.getLogger("up42fs")
    ours.addHandler(recent)
    ours.addHandler(ring)
    try:
        trio.run(_Mount(settings, mountpoint, recent, ring, source).run, on_ready, notes)
    except BaseExceptionGroup as group:
        first = _first(group)
        if first is None:
            raise
        raise first from None
    except trio.TrioInternalError:
        # trio's own loop failed, mostly for lack of memory: no task saw that, and nobody unmounted.
        supervise.SPARE.release()
        log.error(ENDS_BY_DEFECT, mountpoint, mountpoint, exc_info=True)
        raise
    finally:
        ours.removeHandler(recent)
        ours.removeHandler(ring)


class _Mount:
    """The engine and the session of one mount, and the code that connects them."""

    _engine: Engine
    _session: Session

    def __init__(
        self,
        settings: Settings,
        mountpoint: Path,
        recent: logs.Recent,
        ring: logs.Ring,
        source: str | None,
    ) -> None:
        self._settings = settings
        self._mountpoint = mountpoint
        self._recent = recent
        self._ring = ring
        self._given_source = source
        self._record: records.MountRecord | None = None
        self._is_recorded = False
        self._tuned: Tuned | None = None
        self._ending = Ending(lambda: self._session.take_away())

    async def run(self, on_ready: Callable[[], None], notes: list[str]) -> None:
        wake_without_memory()
        async with (
            _told_at_the_desktop(self._mountpoint),
            Engine.open(
                self._settings,
                place=self._mountpoint,
                about=self._about,
                starts=False,
                is_below_kernel=True,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            self._engine = engine
            engine.log_text = self._ring.text
            engine.notes += notes
            notes[:] = engine.current_notes()
            for note in notes:
                log.warning("%s", note)
            # Loaded objects stay: collections that examine them repeatedly would stall the mount.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)
            settings = self._settings
            engine.filesystem.lets_others_in = settings.allow_other and not settings.share_links
            self._session = self._make_session()
            engine.tell_kernel = self._session.invalidate
            engine.kernel_has_forgotten = self._session.invalidated
            # Listen before mounting, so that an early signal leaves no mount behind.
            await nursery.start(signals.listen, self._stop, engine.sync.refresh_now)
            self._session.on_end = self._ending.begin
            async with self._session.mounted():
                try:
                    await self._serve_session(nursery, on_ready)
                finally:
                    self._ending.begin()  # the end after a defect has a deadline, too
            await engine.aclose()
            if self._record is not None:
                await supervise.contained(trio.to_thread.run_sync, records.remove, self._record)
            nursery.cancel_scope.cancel()
        self._ending.over()

    def _make_session(self) -> Session:
        settings, engine = self._settings, self._engine
        handlers = Handlers(
            engine.filesystem,
            engine.metrics,
            uid=settings.uid,
            gid=settings.gid,
            writing=engine.writing,
            privacy=Privacy(os.getuid(), settings.share_links),
        )
        options = MountOptions(
            self._source(),
            allow_other=settings.allow_other,
            writes=settings.rw or engine.overlay is not None,
        )
        return Session(handlers, self._mountpoint, options)

    async def _serve_session(self, nursery: trio.Nursery, on_ready: Callable[[], None]) -> None:
        self._engine.start()
        supervise.start_for_good(nursery, watch_sleep, self._engine.wake)
        supervise.start_for_good(nursery, keep_spare)
        async with trio.open_nursery() as session:
            mount: Mount | None = await session.start(self._session.serve)
            if mount is None:
                return
            agreed, files = self._session.negotiated, self._engine.filesystem.open_files
            files.are_images_direct = bool(agreed and agreed.maps_direct)
            await supervise.contained(self._tune, mount)
            log.info("mounted %s at %s", self._source(), self._mountpoint)
            await supervise.contained(self._keep_record)
            try:
                on_ready()
            except Exception as error:
                supervise.report(on_ready, error)
            supervise.start(nursery, self._tune_again, mount)
            if not self._is_recorded:
                supervise.start_for_good(nursery, self._keep_record)

    def _source(self) -> str:
        """The device that `mount` and `df` show; mount(8) searches for its own source."""
        if self._given_source:
            return self._given_source.replace(",", "_")
        if self._settings.api_url:
            return f"up42:{self._settings.api.partition('://')[2]}".replace(",", "_")
        return f"up42:{self._settings.region}"

    def _about(self) -> dict[str, object]:
        """Return the mount's own facts for the status, in addition to the engine's."""
        tuned, log_file = self._tuned, self._settings.log_file
        return {
            "mountpoint": str(self._mountpoint),
            "log": logs.place(),
            "log_file": str(log_file) if log_file else None,
            "kernel": {
                "read_ahead_kib": tuned.read_ahead_kib if tuned else None,
                "max_background": tuned.max_background if tuned else None,
                "parallel_dirops": tuned.parallel_dirops if tuned else None,
                "direct_images": tuned.direct_images if tuned else None,
                "request_limit_s": LIMIT_S,
            },
            "recent_errors": self._recent.latest(),
        }

    async def _keep_record(self) -> None:
        disk, log_file = self._engine.store.disk_status(), self._settings.log_file
        self._record = records.MountRecord(
            str(self._mountpoint),
            os.getpid(),
            log_file=str(log_file) if log_file else None,
            files=str(disk["files"]) if disk else None,
            log=logs.place(),
        )
        try:
            await trio.to_thread.run_sync(records.write, self._record)
        except OSError as error:
            if supervise.is_short_of_anything(error):
                raise  # it is tried again
            log.debug("other commands will not know where this mount logs: %s", error)
        self._is_recorded = True

    def _stop(self, number: signal.Signals) -> None:
        leaves = number == signal.SIGTERM and self._settings.on_term == "leave"
        log.info("%s: %s", number.name, "leaving the mount" if leaves else "unmounting")
        self._session.stop(leave=leaves)

    # the kernel's read-ahead ---------------------------------------------------------------

    async def _tune(self, mount: Mount) -> None:
        self._tuned = await trio.to_thread.run_sync(
            tune, mount, self._settings.read_ahead, self._session.negotiated
        )
        self._vary_read_ahead(mount)

    def _vary_read_ahead(self, mount: Mount) -> None:
        wide_kib = self._tuned.read_ahead_kib if self._tuned else None
        if wide_kib is not None:
            pieces_kib = self._session.vary_read_ahead(mount, wide_kib)
            store = self._engine.store
            store.tuning = replace(store.tuning, kernel_ahead_bytes=pieces_kib << 10)

    async def _tune_again(self, mount: Mount) -> None:
        """Retry: a udev rule (contrib/udev) allows more read-ahead only after mounting."""
        if self._tuned is None:  # this machine had nothing left for it
            await supervise.kept_going(self._tune, mount)
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


@asynccontextmanager
async def _told_at_the_desktop(mountpoint: Path) -> AsyncIterator[None]:
    """Show what `logs.FOR_DESKTOP` marks to the person at the desktop, where there is one."""
    desktop = Desktop.of_session(f"UP42 at {mountpoint}", os.environ)
    if desktop is None:
        yield
        return
    logger = logging.getLogger("up42fs")
    async with trio.open_nursery() as nursery:
        supervise.start_for_good(nursery, desktop.run)
        logger.addHandler(desktop)
        try:
            yield
        finally:
            logger.removeHandler(desktop)
            nursery.cancel_scope.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> Up42fsError | None:
    """Return the domain error of a group that holds only such errors."""
    ours, rest = group.split(Up42fsError)
    if ours is None or rest is not None:
        return None
    leaf = next(supervise.leaves(ours))
    return leaf if isinstance(leaf, Up42fsError) else None

"""Learns the STAC items of all assets in the background, those of transformed ones first.

`Items` sends the requests and keeps the answers.

Theory. While nothing is on the shelf, each directory of transformed files that you open costs a
request. So once the assets are listed, the crawl requests the items of all assets whose items are
missing or belong to another version of the asset: a batch at a time, newest first, one request
after another. Later it does the same for assets that a refresh changed. A directory that you open
meanwhile sends its own request at once.

Then come the assets that are not transformed. Their items hold no files, but they say when and
where a delivery was taken. They are worth a request for a hundred assets, and no more: where UP42
refuses searches for several assets, they are asked for only when you look at one. For those without
an item the list of collections is read once, which tells the same less exactly.

The crawl continues whatever UP42 answers, and reports errors in `status` and in the log.

Rejected: reading all items of the storage, since an item's asset is complete only when the last
page is read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import trio

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.items import Items
from up42fs.catalog.snapshot.item_rows import plain_version, to_us, version
from up42fs.catalog.together import MOST as BATCH
from up42fs.errors import InvalidArgument, Offline, Up42fsError
from up42fs.types import Asset, CnamStatus

log = logging.getLogger(__name__)

#: Pause after a failure, seconds: before the next batch, and before an asset is retried.
PAUSE_AFTER_FAILURE_S = 30.0
LONGEST_PAUSE_S = 1800.0
#: Assets that are looked at in a row, without other tasks in between.
AT_ONCE = 1000
#: Assets that fail in a row before the crawl pauses.
IN_VAIN = 3


@dataclass(frozen=True, slots=True)
class _Aside:
    """An asset that failed `times` times in a row and is retried at `due_s`."""

    due_s: float
    times: int


class ItemCrawl:
    """Keeps the shelf complete. `versions` returns the shelved ones by asset ID."""

    def __init__(
        self,
        index: Index,
        items: Items,
        versions: Callable[[], Awaitable[Mapping[str, int]]],
        finish: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`finish` is awaited each time that the items of all assets are known."""
        self._index = index
        self._items = items
        self._versions = versions
        self._finish = finish
        #: A dict for its order; the last key is requested next.
        self._missing: dict[str, None] = {}
        #: Assets that failed; when one is due it is added to `_missing`, too.
        self._aside: dict[str, _Aside] = {}
        self._refused: set[str] = set()
        #: Assets that are not transformed, whose items are requested when nothing else is missing.
        self._plain: dict[str, None] = {}
        self._is_plain_complete = False
        #: After failures: how many in a row, and when the next request is due.
        self._plain_failures = 0
        self._plain_due_s = -math.inf
        self._changed = trio.Event()
        self._started = False
        self._error: Up42fsError | None = None

    def note(self, delta: Delta) -> None:
        """Note that assets changed: their items may have changed, too."""
        if not self._started:
            return
        for asset_id in delta.assets:
            self._forget(asset_id)
            if self._index.is_transformed(asset_id):
                self._missing[asset_id] = None
            elif self._is_plain(asset_id):
                self._plain[asset_id] = None
        self._changed.set()

    def _is_plain(self, asset_id: str) -> bool:
        """Whether there is an asset that is not transformed."""
        return self._index.assets.status(asset_id) not in (None, CnamStatus.SUCCESSFUL)

    def status(self) -> dict[str, object]:
        """The crawl's state for `status.json`.

        Counts of the transformed assets, of those still to be requested, and of those UP42 refused;
        of the others still to be requested; whether several are requested together; and the
        current error.
        """
        return {
            "transformed": self._index.count(CnamStatus.SUCCESSFUL),
            "missing": len(self._missing | self._aside) if self._started else None,
            "refused": len(self._refused),
            "plain_missing": len(self._plain) if self._is_plain_complete else None,
            "together": self._items.together.is_possible,
            "error": str(self._error) if self._error else None,
        }

    async def run(self) -> None:
        """Crawl for ever; start it once the assets are listed, cancel it at unmount."""
        held = await self._versions()
        transformed = self._index.with_status(CnamStatus.SUCCESSFUL)
        missing = [a for a in transformed if held.get(a.id) != to_us(a.updated_at)]
        missing.sort(key=lambda asset: asset.created_at)
        self._missing = dict.fromkeys(asset.id for asset in missing)
        self._started = True
        for number, asset_id in enumerate(list(self._index.assets)):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if self._is_plain(asset_id):
                figures = self._index.assets.figures(asset_id)
                updated_us = figures.updated_ns // 1000 if figures else 0
                if held.get(asset_id) != plain_version(updated_us):
                    self._plain[asset_id] = None
        self._is_plain_complete = True
        while True:
            await self._until_wanted()
            await (self._next() if self._missing else self._next_plain())

    async def _until_wanted(self) -> None:
        while not self._missing and not self._is_plain_due():
            due_s = min((aside.due_s for aside in self._aside.values()), default=math.inf)
            if self._plain:
                due_s = min(due_s, self._plain_due_s)
            self._changed = trio.Event()
            with trio.move_on_at(due_s):
                await self._changed.wait()
            now_s = trio.current_time()
            due = [id_ for id_, aside in self._aside.items() if aside.due_s <= now_s]
            self._missing |= dict.fromkeys(due)

    def _is_plain_due(self) -> bool:
        return bool(self._plain) and trio.current_time() >= self._plain_due_s

    async def _next(self) -> None:
        wanted = list(reversed(self._missing))[:BATCH]
        assets = [self._index.assets[id_] for id_ in wanted if self._index.is_transformed(id_)]
        for asset_id in set(wanted) - {asset.id for asset in assets}:
            self._forget(asset_id)
        failed: Up42fsError | None = None
        # An asset that was set aside may have made its batch fail, so request it alone.
        together = [asset for asset in assets if asset.id not in self._aside]
        if len(together) > 1 and self._items.together.is_possible:
            try:
                await self._items.learn_many(together)
            except Offline as error:
                await self._pause(error)
                return
            except Up42fsError as error:
                log.debug("asking for the items of %d assets failed: %s", len(together), error)
                failed = None if isinstance(error, InvalidArgument) else error
            else:
                self._learned(together)
                return
        # A batch that failed, or any batch if UP42 refuses searches for several assets, is
        # requested one asset at a time.
        await self._one_by_one(assets, failed)

    async def _next_plain(self) -> None:
        """Request the items of the next assets that are not transformed, if that takes one search.

        A transformed asset that arrives meanwhile waits for one request at most.
        """
        wanted = list(reversed(self._plain))[:BATCH]
        assets = [self._index.assets[id_] for id_ in wanted if self._is_plain(id_)]
        try:
            if not self._items.together.is_possible:
                wanted = list(self._plain)
            elif assets:
                await self._items.learn_many(assets)
        except InvalidArgument as error:
            log.debug("the items of %d deliveries stay unknown: %s", len(assets), error)
        except Up42fsError as error:
            log.debug("asking for the items of %d deliveries failed: %s", len(assets), error)
            # An outage says nothing about this batch, so its pause does not grow.
            self._plain_failures = 1 if isinstance(error, Offline) else self._plain_failures + 1
            self._plain_due_s = trio.current_time() + _pause_s(self._plain_failures)
            return
        self._plain_failures = 0
        # An asset that changed while UP42 answered is requested again.
        changed = {asset.id for asset in assets if not self._is_unchanged(asset)}
        wanted = [asset_id for asset_id in wanted if asset_id not in changed]
        if self._plain.keys() <= set(wanted) and self._finish is not None:
            try:
                await self._finish()
            except Up42fsError as error:
                log.debug("what the collections tell of deliveries stays unknown: %s", error)
        for asset_id in wanted:
            self._plain.pop(asset_id, None)

    async def _one_by_one(self, assets: Iterable[Asset], failed: Up42fsError | None) -> None:
        """Request each asset's items; `failed`, if any, is the error of their batch."""
        in_vain = 0
        for asset in assets:
            try:
                await self._items.of_asset(asset)
            except Offline as error:
                await self._pause(error)
                return
            except Up42fsError as error:
                if isinstance(error, InvalidArgument):
                    # Refused for a reason: not retried until the asset changes.
                    self._refuse(asset.id, error)
                else:
                    # Set aside, so that the next assets are requested: it does not block the queue.
                    self._set_aside(asset.id)
                    self._tell(error)
                in_vain += 1
                # After several failures in a row the assets are not at fault: wait.
                if in_vain >= IN_VAIN:
                    await self._pause(error)
                    return
            else:
                in_vain = 0
                self._learned([asset])
                if failed is not None:
                    self._items.together.doubt(failed)
                    failed = None

    def _learned(self, assets: Iterable[Asset]) -> None:
        for asset in assets:
            if self._is_unchanged(asset):
                self._forget(asset.id)
        if self._error is not None and not self._aside:
            log.info("asking for the items of transformed assets works again")
            self._error = None

    def _is_unchanged(self, asset: Asset) -> bool:
        """Whether the items just requested are those of the asset as it is now.

        Compares versions: an asset out of the snapshot is a new object at each access.
        """
        now = self._index.assets.get(asset.id)
        return now is not None and version(now) == version(asset)

    def _forget(self, asset_id: str) -> None:
        self._missing.pop(asset_id, None)
        self._aside.pop(asset_id, None)
        self._refused.discard(asset_id)
        self._plain.pop(asset_id, None)

    def _set_aside(self, asset_id: str) -> None:
        self._missing.pop(asset_id, None)
        times = self._aside[asset_id].times + 1 if asset_id in self._aside else 1
        self._aside[asset_id] = _Aside(trio.current_time() + _pause_s(times), times)

    def _refuse(self, asset_id: str, error: Up42fsError) -> None:
        self._forget(asset_id)
        level = logging.DEBUG if self._refused else logging.WARNING
        log.log(level, "the items of asset %s stay unknown, UP42 refuses: %s", asset_id, error)
        self._refused.add(asset_id)

    async def _pause(self, error: Up42fsError) -> None:
        self._tell(error)
        await trio.sleep(PAUSE_AFTER_FAILURE_S)

    def _tell(self, error: Up42fsError) -> None:
        """Log only the first of a row of failures; `status` has the current one."""
        if self._error is None:
            log.warning(
                "the files of some transformed assets are not known yet, their directories "
                "ask when you open them; UP42 is asked again: %s",
                error,
            )
        self._error = error


def _pause_s(failures: int) -> float:
    """The pause after so many failures in a row, seconds: it doubles with each."""
    return min(PAUSE_AFTER_FAILURE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)

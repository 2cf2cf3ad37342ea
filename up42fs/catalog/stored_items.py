"""STAC items, collections and learned sizes in the snapshot, in the form their users need.

Reads run in a worker thread; the recorder does the writes.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio

from up42fs.catalog.cached_answers import StoredAnswers
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot import item_rows
from up42fs.catalog.snapshot.stored import ItemRow, SizeRow
from up42fs.model import outlines
from up42fs.model.outlines import Drawn
from up42fs.model.stac import StacCollection, StacItem, transformed_files
from up42fs.types import Asset

log = logging.getLogger(__name__)

#: Assets whose files are counted in a row, and the pause after them, seconds: other threads wait.
COUNTED_AT_ONCE = 100
COUNTING_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Shelved:
    """An asset's items at a `version`, without documents, and known file sizes, bytes by ID."""

    items: tuple[StacItem, ...]
    version: int
    sizes: Mapping[str, int]


class Shelf:
    """The items, collections and sizes of one snapshot."""

    def __init__(self, recorder: Recorder) -> None:
        self._snapshot = recorder.snapshot
        self._recorder = recorder
        #: The list of all collections, and the items of each that was opened.
        self.collections: StoredAnswers[None, tuple[StacCollection, ...]] = StoredAnswers(
            recorder,
            lambda _: "collections",
            item_rows.pack_collections,
            item_rows.unpack_collections,
        )
        self.items_of_collections: StoredAnswers[str, tuple[StacItem, ...]] = StoredAnswers(
            recorder,
            lambda collection_id: f"items of {collection_id}",
            item_rows.pack_whole,
            item_rows.unpack_whole,
        )

    async def load(self, asset_ids: Sequence[str]) -> dict[str, Shelved]:
        """The shelved items by asset ID, as far as known. Never raises."""
        found: dict[str, Shelved | None] = {}
        for asset_id in asset_ids:
            noted = self._recorder.unwritten_items(asset_id)
            if noted is not None:
                found[asset_id] = _shelved(asset_id, noted.updated_us, noted.items, {})
        written = [asset_id for asset_id in asset_ids if asset_id not in found]
        if written:
            found |= await trio.to_thread.run_sync(self._load, written)
        return {asset_id: held for asset_id, held in found.items() if held is not None}

    async def documents(self, asset_id: str) -> dict[str, Mapping[str, Any]]:
        """The documents of an asset's items by item ID, as far as they are kept."""
        noted = self._recorder.unwritten_items(asset_id)
        if noted is not None:
            return item_rows.unpack_documents(noted.documents)
        return await trio.to_thread.run_sync(self._load_documents, asset_id)

    async def whole(self, versions: Mapping[str, int]) -> dict[str, tuple[StacItem, ...]]:
        """The kept items, with documents, of assets that are kept in these versions."""
        noted = {asset_id: self._recorder.unwritten_items(asset_id) for asset_id in versions}
        rows = [
            (row.asset_id, row.updated_us, row.items, row.documents)
            for row in noted.values()
            if row is not None
        ]
        return await trio.to_thread.run_sync(self._whole, versions, rows)

    def _whole(
        self, versions: Mapping[str, int], noted: list[tuple[str, int, str, bytes]]
    ) -> dict[str, tuple[StacItem, ...]]:
        there = {row[0] for row in noted}
        rows = self._snapshot.whole_items([id_ for id_ in versions if id_ not in there])
        found = {}
        for asset_id, kept, text, packed in (*noted, *rows):
            if versions[asset_id] != kept:
                continue
            try:
                items = item_rows.unpack(text)
                documents = item_rows.unpack_documents(packed) if items else {}
                found[asset_id] = tuple(
                    replace(item, document=documents[item.id]) for item in items
                )
            except (ValueError, TypeError, LookupError, OverflowError, zlib.error) as error:
                log.debug("the stored items of asset %s cannot be used: %s", asset_id, error)
        return found

    async def outlines(self, versions: Mapping[str, int]) -> dict[str, tuple[Drawn, ...]]:
        """The kept items, as they are drawn, of assets that are kept in these versions."""
        noted = (self._recorder.unwritten_items(asset_id) for asset_id in versions)
        rows = [(row.asset_id, row.updated_us, row.outlines) for row in noted if row is not None]
        return await trio.to_thread.run_sync(self._outlines, versions, rows)

    def _outlines(
        self, versions: Mapping[str, int], noted: list[tuple[str, int, str | None]]
    ) -> dict[str, tuple[Drawn, ...]]:
        there = {row[0] for row in noted}
        rows = self._snapshot.outlines([id_ for id_ in versions if id_ not in there])
        found = {}
        for asset_id, kept, text in (*noted, *rows):
            if text is None or versions[asset_id] != kept:
                continue
            try:
                found[asset_id] = outlines.unpack(text)
            except (ValueError, TypeError) as error:
                log.debug("the stored outlines of asset %s cannot be used: %s", asset_id, error)
        return found

    async def versions(self) -> dict[str, int]:
        """By asset ID, the version (`item_rows.version`) of the kept items."""
        return await trio.to_thread.run_sync(self._snapshot.item_versions)

    async def without_items(self) -> list[str]:
        """IDs of the assets that are known to have no items."""
        unwritten = self._recorder.unwritten_without_items()
        return [*unwritten, *await trio.to_thread.run_sync(self._snapshot.without_items)]

    def put(self, asset: Asset, items: tuple[StacItem, ...]) -> None:
        """Keep all items of an asset as it is now; each must have its document."""
        packed = item_rows.pack(items), item_rows.pack_documents(items), outlines.pack(items)
        row = ItemRow(asset.id, item_rows.version(asset), *packed, stamps_of(items))
        self._recorder.note_items(row)

    def put_outlines(self, asset: Asset, items: tuple[StacItem, ...]) -> None:
        """Keep the outlines of items that an older release kept without, unless newer ones came."""
        if self._recorder.unwritten_items(asset.id) is None:
            self.put(asset, items)

    def put_size(self, object_id: str, asset_id: str, stamp: str | None, size: int) -> None:
        """Keep a size in bytes; it holds as long as the file's item has this `stamp`."""
        self._recorder.note_size(SizeRow(object_id, asset_id, stamp, size))

    async def count_files(self) -> tuple[int, int]:
        """How many files the kept items have, and of how many of these the size is known.

        Items that an older release kept are counted first, a few at a time.
        """
        has_more = True
        while has_more:
            has_more = await trio.to_thread.run_sync(self._count_some)
            await trio.sleep(COUNTING_PAUSE_S if has_more else 0.0)
        return await trio.to_thread.run_sync(self._snapshot.file_totals)

    def _count_some(self) -> bool:
        """Count the files of some assets; return whether there may be more."""
        counted: dict[str, Mapping[str, str | None]] = {}
        for asset_id, text in self._snapshot.uncounted_items(COUNTED_AT_ONCE):
            try:
                counted[asset_id] = stamps_of(item_rows.unpack(text))
            except (ValueError, TypeError, LookupError, OverflowError) as error:
                log.debug("the stored items of asset %s cannot be used: %s", asset_id, error)
                counted[asset_id] = {}
        if counted:
            self._snapshot.count_files(counted)
        return len(counted) == COUNTED_AT_ONCE

    def _load(self, asset_ids: Sequence[str]) -> dict[str, Shelved | None]:
        sizes: dict[str, dict[tuple[str, str | None], int]] = {}
        for asset_id, file_id, stamp, size in self._snapshot.sizes(asset_ids):
            sizes.setdefault(asset_id, {})[file_id, stamp] = size
        return {
            asset_id: _shelved(asset_id, updated_us, text, sizes.get(asset_id, {}))
            for asset_id, updated_us, text in self._snapshot.items(asset_ids)
        }

    def _load_documents(self, asset_id: str) -> dict[str, Mapping[str, Any]]:
        packed = self._snapshot.documents(asset_id)
        try:
            return item_rows.unpack_documents(packed) if packed else {}
        except (ValueError, TypeError, zlib.error) as error:
            log.debug("the stored documents of asset %s cannot be used: %s", asset_id, error)
            return {}


def _shelved(
    asset_id: str, updated_us: int, text: str, sizes: Mapping[tuple[str, str | None], int]
) -> Shelved | None:
    try:
        items = item_rows.unpack(text)
        stamps = (
            {f.asset_id: stamp_of(item) for item in items for f in item.assets} if sizes else {}
        )
        known = {id_: size for (id_, stamp), size in sizes.items() if stamps.get(id_) == stamp}
        return Shelved(items, updated_us, known) if items or updated_us < 0 else None
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        log.debug("the stored items of asset %s cannot be used: %s", asset_id, error)
        return None


def stamps_of(items: Iterable[StacItem]) -> dict[str, str | None]:
    """The files of an asset's items that UP42 made, by ID, with the stamps of their sizes."""
    return {
        file.asset_id: stamp_of(item)
        for item in items
        for file in transformed_files(item)
        if file.asset_id is not None
    }


def stamp_of(item: StacItem) -> str | None:
    """A stamp that changes when the bytes of an item's files may have; None if unknown."""
    return item.updated.isoformat() if item.updated is not None else None

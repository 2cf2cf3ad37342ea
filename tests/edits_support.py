"""A service of titles and tags in memory, with scripted failures, and a file system that edits."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import trio
from fs_support import World

from up42fs.catalog.index import Delta
from up42fs.catalog.metadata import AssetMetadata, Fresh
from up42fs.catalog.recent_edits import Edited
from up42fs.errors import AccessDenied, InvalidArgument, NotFound, Unavailable, VersionChanged
from up42fs.fs.editing import Editing
from up42fs.fs.edits.apply import Edits
from up42fs.fs.edits.journal import Journal
from up42fs.fs.edits.locks import Interlock
from up42fs.fs.invalidation import Invalidation
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.metrics import Metrics
from up42fs.model.intentions import Metadata
from up42fs.types import Asset

#: What a write answers: whether it is carried out, and the error it is answered with.
FAULTS: dict[str, tuple[bool, type[Exception] | None]] = {
    "ok": (True, None),
    "lost": (False, Unavailable),
    "cut": (True, Unavailable),
    "conflict": (False, VersionChanged),
    "conflict after all": (True, VersionChanged),
    "refused": (False, InvalidArgument),
    "denied": (False, AccessDenied),
    "gone": (False, NotFound),
}


class Service:
    """UP42's side: the assets, what each next write meets, and what happens just before it."""

    def __init__(self, assets: dict[str, Asset], delay_s: float = 0.1) -> None:
        self.assets = assets
        self.delay_s = delay_s
        self.script: deque[str] = deque()
        self.before_read: Callable[[str], None] = lambda _: None
        self.reads: list[str] = []
        self.writes: list[tuple[str, Metadata]] = []
        self.applied: list[tuple[str, Metadata]] = []

    def console(self, asset_id: str, **fields: Any) -> None:
        """Somebody else changes an asset."""
        asset = self.assets[asset_id]
        later = asset.updated_at + timedelta(seconds=1)
        self.assets[asset_id] = replace(asset, updated_at=later, **fields)

    async def read(self, asset_id: str) -> Fresh:
        await trio.sleep(self.delay_s)
        self.before_read(asset_id)
        self.reads.append(asset_id)
        asset = self.assets.get(asset_id)
        if asset is None:
            raise NotFound(asset_id)
        return Fresh(asset, Metadata(asset.title, asset.tags))

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        asset_id = fresh.asset.id
        fault = self.script.popleft() if self.script else "ok"
        carried_out, error = FAULTS[fault]
        self.writes.append((asset_id, wanted))
        if carried_out:
            self.applied.append((asset_id, wanted))
            self.console(asset_id, title=wanted.title, tags=wanted.tags)
        answer = self.assets[asset_id]
        await trio.sleep(self.delay_s)
        if error is not None:
            raise error(fault)
        return Fresh(answer, Metadata(answer.title, answer.tags))


class EditedWorld(World):
    """A file system with edits, and the service behind it."""

    def __init__(self, *assets: Asset, journal: Path | None = None, **more: Any) -> None:
        self.directories = TagDirectories()
        super().__init__(tag_directories=self.directories, **more)
        self.service = Service({asset.id: asset for asset in assets})
        self.told: list[Invalidation] = []
        self.refreshes = 0
        self.metrics = Metrics()
        self.edits = Edits(
            self.index,
            cast(AssetMetadata, self.service),
            journal=Journal(journal),
            locks=Interlock(None, ""),
            edited=Edited(),
            publish=self._publish,
            refresh=self._refresh,
            metrics=self.metrics,
            jitter=lambda: 0.5,
        )
        self.edits.journal.load()
        self.editing = Editing(self.fs, self.index, self.edits, self.directories)
        self.put(*assets)

    async def _publish(self, delta: Delta) -> None:
        self.told += self.fs.changes.apply(delta)

    def _refresh(self) -> None:
        self.refreshes += 1

    async def shown(self, path: str) -> dict[str, str]:
        """The listed attributes of what stands at a path."""
        return self.fs.xattrs.listed(self.fs.node(await self.walk(path)))

    @asynccontextmanager
    async def parent(self, path: str) -> AsyncIterator[tuple[int, str]]:
        """Inode of a path's directory, and the last name."""
        directory, _, name = path.rpartition("/")
        yield (await self.walk(directory) if directory else 1), name

    async def setxattr(self, path: str, name: str, value: str) -> None:
        await self.editing.setxattr(await self.walk(path), name, value.encode())

    async def removexattr(self, path: str, name: str) -> None:
        await self.editing.removexattr(await self.walk(path), name)

    async def link(self, source: str, path: str) -> None:
        inode = await self.walk(source)
        async with self.parent(path) as (parent, name):
            await self.editing.link(inode, parent, name)

    async def rename(self, source: str, path: str, flags: int = 0) -> None:
        async with self.parent(source) as old, self.parent(path) as new:
            await self.editing.rename(*old, *new, flags)

    async def call(self, what: str, path: str) -> Any:
        """`mkdir`, `rmdir` or `unlink` of a path."""
        async with self.parent(path) as (parent, name):
            return await getattr(self.editing, what)(parent, name)

"""When UP42 transformed assets, as far as somebody saw it: the times of the files that came of it.

UP42 does not tell. `updatedAt` moves when the status does, but with every edit too, and an item's
`updated` is mostly the provider's. So the moment is noted when the status is seen to change, or
when an item without a time of its own is first shown, and kept for later mounts: a file's time must
not move when its delivery gets a tag, or `rsync` would fetch it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.types import Asset, CnamStatus

#: What the moments are kept under in the snapshot, the asset's ID behind it.
QUESTION = "transformed "


class Transformations:
    """The moments by asset ID. `keep` writes one down for later mounts, or None to drop it."""

    def __init__(
        self,
        index: Index,
        known_us: Mapping[str, int] | None = None,
        keep: Callable[[str, bytes | None], None] | None = None,
    ) -> None:
        self._index = index
        self._us = {id_: us for id_, us in (known_us or {}).items() if id_ in index.assets}
        self._keep = keep or (lambda _question, _value: None)

    def at_ns(self, asset_id: str) -> int:
        """When the asset was transformed, in nanoseconds since 1970; 0 where nobody knows."""
        return self._us.get(asset_id, 0) * 1000

    def latest_ns(self) -> int:
        """The last of all moments known."""
        return max(self._us.values(), default=0) * 1000

    def learn(self, asset: Asset) -> None:
        """Something that has no time of its own is shown of the asset."""
        if asset.id not in self._us:
            self._note(asset)

    def follow(self, delta: Delta) -> None:
        """Note what `delta` tells; not while the storage is listed for the first time."""
        for asset_id, was in delta.was.items():
            asset = self._index.assets.get(asset_id)
            if asset is None:
                if self._us.pop(asset_id, None) is not None:
                    self._keep(QUESTION + asset_id, None)
            elif self._index.is_complete and _is_done(asset) and not _is_done(was):
                self._note(asset)

    def _note(self, asset: Asset) -> None:
        us = self._us[asset.id] = to_us(asset.updated_at)
        self._keep(QUESTION + asset.id, str(us).encode())


def _is_done(asset: Asset | None) -> bool:
    return asset is not None and asset.cnam_status is CnamStatus.SUCCESSFUL

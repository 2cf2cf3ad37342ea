"""The times at which UP42 transformed assets, as observed: the times of transformed files.

UP42 does not report them. `updatedAt` moves when the status does, but with every edit too, and an
item's `updated` is mostly the provider's. So the time is noted when the status is seen to change,
or when an item without a time of its own is first shown, and kept for later mounts: a file's time
must not move when its delivery gets a tag, or `rsync` would fetch it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.types import Asset, CnamStatus

#: Key prefix of the times in the snapshot; the asset's ID follows.
QUESTION = "transformed "


class Transformations:
    """The times by asset ID. `keep` stores one for later mounts; None removes it."""

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
        """When the asset was transformed, in nanoseconds since 1970; 0 if unknown."""
        return self._us.get(asset_id, 0) * 1000

    def latest_ns(self) -> int:
        """The latest known time, in nanoseconds since 1970; 0 if none is known."""
        return max(self._us.values(), default=0) * 1000

    def learn(self, asset: Asset) -> None:
        """Note an asset whose shown items have no time of their own."""
        if asset.id not in self._us:
            self._note(asset)

    def follow(self, delta: Delta) -> None:
        """Note the status changes of `delta`, unless the first listing is still incomplete."""
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

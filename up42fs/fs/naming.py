"""Learns the file type of deliveries without a name, from reads of them.

A delivery to which UP42 gives no name is called by its title and the extension of its content type,
which can be wrong. Its link contains a file name and its first bytes show its kind
(`model.file_kinds`): both are available when it is read, so that learning the type costs no
request. The name changes when its last reader has closed it, never before; it is kept for later
mounts, and the former name still opens it in this one (`Layout.find`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.tables import EXTENSION as QUESTION
from up42fs.model.file_kinds import HEAD_BYTES, extension
from up42fs.model.names import safe_name
from up42fs.types import Bytes


class Naming:
    """The open deliveries without a name; `keep` stores what was learned."""

    def __init__(
        self, index: Index, keep: Callable[[str, bytes | None], None] | None = None
    ) -> None:
        self._index = index
        self._keep = keep or (lambda _question, _value: None)
        #: Called with the changes that a new name makes in the index.
        self.on_change: Callable[[Delta], None] = lambda _: None
        self._handles: dict[int, str] = {}
        self._open: Counter[str] = Counter()
        self._links: dict[str, str] = {}
        self._heads: dict[str, bytes] = {}

    def opened(self, handle: int, asset_id: str) -> None:
        asset = self._index.assets.get(asset_id)
        if asset is not None and safe_name(asset.name) is None:
            self._handles[handle] = asset_id
            self._open[asset_id] += 1

    def signed(self, object_id: str, url: str) -> None:
        if object_id in self._open:
            self._links[object_id] = url

    def read(self, handle: int, data: Bytes) -> None:
        asset_id = self._handles.get(handle)
        if asset_id is not None:
            self._heads[asset_id] = bytes(data[:HEAD_BYTES])

    def closed(self, handle: int) -> None:
        """Note that a handle was closed; after the last one of its asset the name may change."""
        asset_id = self._handles.pop(handle, None)
        if asset_id is None:
            return
        self._open[asset_id] -= 1
        if self._open[asset_id]:
            return
        del self._open[asset_id]
        found = extension(self._links.pop(asset_id, None), self._heads.pop(asset_id, None))
        if found is not None and self._index.assets.extensions.get(asset_id) != found:
            self._keep(QUESTION + asset_id, found.encode())
            self.on_change(self._index.learn_extension(asset_id, found))

    def follow(self, delta: Delta) -> None:
        """Forget assets that left the storage."""
        assets = self._index.assets
        for asset_id in delta.assets:
            if asset_id not in assets and assets.extensions.pop(asset_id, None) is not None:
                self._keep(QUESTION + asset_id, None)

"""Sizes that UP42 does not tell: learned when somebody asks for one, and remembered.

Knows which nodes have bytes in storage and what their sizes are; nothing of how a size is found.

Theory. Plain listings ask for no size, so they must not cost requests: an unknown size is shown as
0 with no time to live, and the kernel asks again before it uses it (`stat`, `open`, a read at the
end). One size is two requests, a link and a range. A second question about a file of the same item
within `LISTING_S` is `ls -l`, which asks one file after another: then the sizes of all of them are
learned at once, as many at a time as the store allows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from up42fs.catalog.index import Index
from up42fs.errors import NotFound, Up42fsError
from up42fs.fs.nodes import Kind, Node
from up42fs.fs.ports import Files
from up42fs.fs.transformed import FileRegistry

log = logging.getLogger(__name__)

#: Two questions about files of one item within this many seconds are a listing.
LISTING_S = 2.0


class Sizes:
    """Sizes in bytes of assets and transformed files."""

    def __init__(self, index: Index, files: Files, registry: FileRegistry) -> None:
        self._index = index
        self._files = files
        self._registry = registry
        self._learned: dict[str, int] = {}
        self._asked: dict[str, tuple[str, float]] = {}

    def known(self, node: Node) -> int | None:
        """The size, None while nobody knows it."""
        if node.kind is Kind.ASSET:
            return self._index.assets[node.id].size
        return self._learned.get(node.id)

    async def ensure(self, node: Node) -> int:
        """The size, learned if need be; raises an `Up42fsError`."""
        known = self.known(node)
        if known is not None:
            return known
        siblings = self._listed_with(node)
        if not siblings:
            return await self._learn(node)
        async with trio.open_nursery() as nursery:
            for sibling in siblings:
                nursery.start_soon(self._try_to_learn, sibling)
        return await self._learn(node)

    def learn(self, node: Node, size: int) -> None:
        """The object store told the size."""
        if node.kind is Kind.ASSET:
            self._index.learn_size(node.id, size)
        else:
            self._learned[node.id] = size

    def label(self, node: Node) -> str:
        """How messages call the file."""
        if node.kind is Kind.ASSET:
            asset = self._index.assets[node.id]
            return f"{asset.name or asset.title or 'asset'} (asset {asset.id})"
        file = self._registry.get(node.id)
        if file is None:
            raise NotFound(f"file {node.id} is no longer in UP42 storage")
        return file.label

    async def _learn(self, node: Node) -> int:
        known = self.known(node)
        if known is None:
            version = await self._files.ensure_version(node.id, name=self.label(node))
            known = version.size
            self.learn(node, known)
        return known

    async def _try_to_learn(self, node: Node) -> None:
        try:
            await self._learn(node)
        except Up42fsError as error:
            log.debug("the size of %s was not learned: %s", node.id, error)

    def _listed_with(self, node: Node) -> Iterable[Node]:
        """The files to learn about together with `node`; none for a single question."""
        file = self._registry.get(node.id)
        if file is None:
            return ()
        now_s = trio.current_time()
        other, asked_s = self._asked.get(file.item.id, (node.id, now_s))
        self._asked[file.item.id] = (node.id, now_s)
        if other == node.id or now_s - asked_s > LISTING_S:
            return ()
        ids = self._registry.siblings(node.id)
        nodes = [Node(Kind.FILE, id_) for id_ in ids]
        return [sibling for sibling in nodes if self.known(sibling) is None]

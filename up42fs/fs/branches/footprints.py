"""`footprints.geojson`: the outlines of a directory's assets, built when the file is opened.

`fs.branches.outlines` converts them to GeoJSON.
"""

from __future__ import annotations

import logging

import trio
from cachetools import TTLCache

from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.items import Items
from up42fs.errors import DeadlineExceeded, Offline, Unavailable, Up42fsError
from up42fs.fs.branches.outlines import FootprintEntry, feature_collection
from up42fs.fs.branches.transformed import to_json
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model.stac import StacItem
from up42fs.types import Asset

log = logging.getLogger(__name__)

NAME = "footprints.geojson"
KINDS = frozenset({Kind.ORDER, Kind.TAG, Kind.QUERY})
PREFIX = "footprints/"
#: Seconds that a document is cached, and how many assets' items are fetched in parallel.
KEPT_S = 60.0
PARALLEL = 8
#: Assets whose items are fetched by one search: not more than memory holds.
TOGETHER = 100


def document_of(directory: Node) -> Node:
    return Node(Kind.DOCUMENT, f"{PREFIX}{directory.kind.value}/{directory.id}")


def directory_of(document: Node) -> Node:
    kind, _, id_ = document.id.removeprefix(PREFIX).partition("/")
    return Node(Kind(kind), id_)


class Footprints:
    """Documents by directory, cached for a minute."""

    prefix = PREFIX

    def __init__(self, items: Items, descriptions: Descriptions, *, lists: bool) -> None:
        self.lists = lists
        self._items = items
        self._descriptions = descriptions
        self._kept: TTLCache[Node, bytes] = TTLCache(64, KEPT_S, trio.current_time)

    def known(self, document: Node) -> bytes | None:
        """The document if it was built within the last minute."""
        return self._kept.get(document)

    def names(self, directory: Node) -> tuple[str, ...]:
        """Every order, tag and search has the document."""
        return (NAME,) if directory.kind in KINDS else ()

    def node(self, directory: Node, name: str) -> Node | None:
        """The document of a directory."""
        return document_of(directory) if name in self.names(directory) else None

    def is_private(self, document: Node) -> bool:
        """Whether only the user who mounted may read it: everybody may."""
        return False

    def times(self, document: Node) -> None:
        """None: the tree's own times apply."""

    async def ensure(self, document: Node, layout: Layout) -> bytes:
        """Return the document; fetches the items of the directory's assets. Raises `Up42fsError`.

        Unknown items take one search per hundred assets, or if that fails one per asset.
        """
        made = self._kept.get(document)
        if made is None:
            directory = directory_of(document)
            await layout.prepare(directory)
            paths = {
                node.id: name
                for name, node in layout.children(directory).items()
                if node.kind is Kind.ASSET
            }
            oldest_first = sorted(
                layout.members(directory), key=lambda asset: (asset.created_at, asset.id)
            )
            made = self._kept[document] = await self._make(
                layout.label(directory), oldest_first, paths
            )
        return made

    async def _make(self, label: str, assets: list[Asset], paths: dict[str, str]) -> bytes:
        items = self._items
        found: dict[str, tuple[StacItem, ...]] = {}
        for first in range(0, len(assets), TOGETHER):
            found |= await _items_of(items, assets[first : first + TOGETHER])
        entries = [
            FootprintEntry(
                id=asset.id,
                path=paths.get(asset.id, asset.id),
                item=item,
                title=asset.title,
                collection=asset.collection,
                status=asset.cnam_status.value or None,
            )
            for asset in assets
            for item in (found.get(asset.id) or (self._descriptions.of_collection(asset.id),))
        ]
        return to_json(feature_collection(entries, name=label))


async def _items_of(items: Items, assets: list[Asset]) -> dict[str, tuple[StacItem, ...]]:
    """Items by asset, without those of assets that fail. Raises if all fail."""
    found: dict[str, tuple[StacItem, ...]] = {}
    errors: list[Up42fsError] = []
    limiter = trio.CapacityLimiter(PARALLEL)
    try:
        await items.learn(assets)
    except (Offline, Unavailable, DeadlineExceeded):
        raise
    except Up42fsError as error:
        log.debug("footprints: one search an asset: %s", error)

    async def ask(asset: Asset) -> None:
        async with limiter:
            try:
                found[asset.id] = await items.whole(asset)
            except Up42fsError as error:
                errors.append(error)
                log.warning("footprints: asset %s is left out: %s", asset.id, error)

    async with trio.open_nursery() as nursery:
        for asset in assets:
            nursery.start_soon(ask, asset)
    if errors and not found:
        raise errors[0]
    return found

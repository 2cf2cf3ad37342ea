"""`visual.vrt` and `layers.qlr`: a directory's images as one layer, or as layers of QGIS.

Both are made when they are opened, from the items of the directory's assets; the mosaic also from
the head of each of its images, since UP42 tells neither sample types nor the place of each file.
`model.mosaic` writes them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio
from cachetools import TTLCache

from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.errors import NotFound, Up42fsError
from up42fs.fs.branches import footprints
from up42fs.fs.branches.made import MadeDocuments
from up42fs.fs.branches.transformed import FileRegistry
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import geotiff, mosaic
from up42fs.model.mosaic import MosaicImage, RasterLayer
from up42fs.model.stac import NO_EPSG

log = logging.getLogger(__name__)

VRT, QLR = "visual.vrt", "layers.qlr"
KINDS = frozenset({Kind.ORDER, Kind.TAG, Kind.QUERY})
PREFIX = "layers/"
KEPT_S = footprints.KEPT_S
#: Images of a mosaic, images whose heads are read in parallel, and bytes that are read of each.
MOST_IMAGES = 1000
PARALLEL = 8
HEAD_BYTES = 64 << 10

#: The first bytes of a file, at most so many; raises an `Up42fsError`.
FirstBytes = Callable[[Node, int], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class _Shown:
    """An image of the directory: its path from there, its label, the EPSG code that STAC tells."""

    path: str
    label: str
    node: Node
    epsg: int | None = None


async def _nothing(node: Node, _most: int) -> bytes:
    raise NotFound(f"{node.kind.value} {node.id} cannot be read")


def directory_of(document: Node) -> Node:
    _, kind, id_ = document.id.removeprefix(PREFIX).split("/", 2)
    return Node(Kind(kind), id_)


class Layers(MadeDocuments):
    """The documents of all directories, cached for a minute."""

    prefix = PREFIX

    def __init__(self, index: Index, items: Items, registry: FileRegistry, *, lists: bool) -> None:
        self.lists = lists
        self._index = index
        self._items = items
        self._registry = registry
        #: Set by the tree, which can read files.
        self.first_bytes: FirstBytes = _nothing
        self._kept: TTLCache[Node, bytes] = TTLCache(64, KEPT_S, trio.current_time)

    def known(self, document: Node) -> bytes | None:
        return self._kept.get(document)

    def names(self, directory: Node) -> tuple[str, ...]:
        """Both, where there are transformed assets: other directories may have nothing to show.

        A name that is listed can be read, so that `cp -r` works; see `ensure`.
        """
        match directory.kind:
            case Kind.ORDER:
                ids = self._index.ids_of_order(directory.id)
            case Kind.TAG:
                ids = self._index.ids_with_tag(directory.id)
            case _:
                return ()
        return (QLR, VRT) if self._index.count_transformed(ids) else ()

    def node(self, directory: Node, name: str) -> Node | None:
        """Orders, tags and searches have both, listed or not."""
        if directory.kind not in KINDS or name not in (QLR, VRT):
            return None
        return Node(Kind.DOCUMENT, f"{PREFIX}{name}/{directory.kind.value}/{directory.id}")

    async def ensure(self, document: Node, layout: Layout) -> bytes:
        """Return the document.

        Raises NotFound if the directory has no image and does not list the document. A listing
        cannot know the images without requests, so a listed document may be an empty one.
        """
        made = self._kept.get(document)
        if made is not None:
            return made
        name, directory = document.id.removeprefix(PREFIX).split("/")[0], directory_of(document)
        await layout.prepare(directory)
        label = layout.label(directory)
        shown = await self._images(directory, layout)
        if not shown and name not in self.names(directory):
            raise NotFound(f"{name}: {label} has no image that UP42 transformed, and no GeoTIFF")
        if name == QLR:
            made = await self._qlr(directory, label, await self._placed(shown))
        else:
            made = mosaic.vrt(await self._read(shown))
        self._kept[document] = made
        return made

    async def _qlr(self, directory: Node, label: str, shown: list[_Shown]) -> bytes:
        rasters = [RasterLayer(image.label, image.path, image.epsg) for image in shown]
        if len(rasters) > 1:
            epsg = await self._mosaic_epsg(directory, shown)
            rasters.insert(0, RasterLayer("Mosaic", VRT, epsg))
        return mosaic.qlr(label, rasters, footprints.NAME)

    async def _mosaic_epsg(self, directory: Node, shown: list[_Shown]) -> int | None:
        """The reference system of the mosaic beside the document.

        Where images differ, it depends on their bands and sample types, too, which only their heads
        tell. QGIS opens the mosaic next, so it is made of the same heads and kept.
        """
        known = [image.epsg for image in shown if image.epsg is not None]
        if len({*known}) < 2:
            return known[0] if known else None
        try:
            images = await self._read(shown)
        except Up42fsError as error:
            log.debug("layers: the mosaic cannot be made now: %s", error)
            return max(known, key=known.count)
        document = self.node(directory, VRT)
        if document is not None:
            self._kept[document] = mosaic.vrt(images)
        return mosaic.reference_system(images)

    async def _placed(self, shown: list[_Shown]) -> list[_Shown]:
        """The images, with the reference systems of which STAC does not tell from their heads.

        QGIS reads these heads next, from memory then.
        """
        unknown = [image for image in shown if image.epsg is None]
        try:
            heads = await self._read(unknown)
        except Up42fsError as error:
            log.debug("layers: reference systems are not known: %s", error)
            return shown
        found = {head.path: head.raster.epsg for head in heads if head.raster is not None}
        return [
            replace(image, epsg=found.get(image.path)) if image.epsg is None else image
            for image in shown
        ]

    async def _images(self, directory: Node, layout: Layout) -> list[_Shown]:
        """The image of each item to look at, or if there is none the deliveries that are images."""
        listed = list(layout.children(directory).items())
        below = [(name, node) for name, node in listed if node.kind is Kind.FILES]
        for first in range(0, len(below), footprints.TOGETHER):
            batch = below[first : first + footprints.TOGETHER]
            try:
                await self._items.learn(self._index.assets[node.id] for _, node in batch)
            except Up42fsError as error:
                log.debug("layers: one search an asset: %s", error)
        shown: list[_Shown] = []
        for name, node in below:
            await layout.prepare(node)
            for path, files in await self._items_below(name, node, layout):
                chosen = self._chosen(path, files)
                shown += [] if chosen is None else [chosen]
        if not shown:
            shown = [
                _Shown(name, name, node)
                for name, node in listed
                if node.kind is Kind.ASSET and name.lower().endswith((".tif", ".tiff"))
            ]
        if len(shown) > MOST_IMAGES:
            log.warning("layers: %d images are left out", len(shown) - MOST_IMAGES)
        return shown[:MOST_IMAGES]

    async def _items_below(
        self, name: str, node: Node, layout: Layout
    ) -> list[tuple[str, dict[str, Node]]]:
        """The files of each item in an asset's directory, and the item's path."""
        children = dict(layout.children(node))
        below = {key: child for key, child in children.items() if child.kind is Kind.ITEM}
        if not below:
            return [(name, children)]
        # An item's directory that nobody has opened is empty until it is prepared.
        for item in below.values():
            await layout.prepare(item)
        return [(f"{name}/{key}", dict(layout.children(item))) for key, item in below.items()]

    def _chosen(self, path: str, children: dict[str, Node]) -> _Shown | None:
        """The image of one item that is looked at first."""
        files = {
            file.stac.key: (name, node, file)
            for name, node in children.items()
            if node.kind is Kind.FILE and (file := self._registry.get(node.id)) is not None
        }
        best = mosaic.for_looking_at([file.stac for _, _, file in files.values()])
        if best is None:
            return None
        name, node, file = files[best.key]
        epsg = file.item.epsg if best.epsg is None else best.epsg
        label = file.item.title or path
        return _Shown(f"{path}/{name}", label, node, None if epsg == NO_EPSG else epsg)

    async def _read(self, shown: list[_Shown]) -> list[MosaicImage]:
        """What the heads of the images say, in their order. Raises if none can be read.

        Images that UP42 no longer has are no reason to raise: the document itself is there.
        """
        limiter = trio.CapacityLimiter(PARALLEL)
        found: dict[str, MosaicImage] = {}
        errors: list[Up42fsError] = []

        async def read(image: _Shown) -> None:
            async with limiter:
                try:
                    raster = await self._raster(image)
                except Up42fsError as error:
                    if not isinstance(error, NotFound):
                        errors.append(error)
                    log.warning("%s: %s is left out: %s", VRT, image.path, error)
                    found[image.path] = MosaicImage(image.path, None, "it could not be read")
                else:
                    why_not = "" if raster else "its head does not say where it lies, or how"
                    found[image.path] = MosaicImage(image.path, raster, why_not)

        async with trio.open_nursery() as nursery:
            for image in shown:
                nursery.start_soon(read, image)
        if errors and not any(image.raster for image in found.values()):
            raise errors[0]
        return [found[image.path] for image in shown]

    async def _raster(self, image: _Shown) -> geotiff.Raster | None:
        most = HEAD_BYTES
        while True:
            head = await self.first_bytes(image.node, most)
            try:
                raster = geotiff.parse(head)
            except geotiff.Beyond as beyond:
                if len(head) < most:  # it is cut off
                    return None
                most = beyond.stop
                continue
            if raster is not None and raster.epsg is None and image.epsg is not None:
                return replace(raster, epsg=image.epsg)
            return raster

"""`footprints.geojson`: the outlines of a directory's assets, built when the file is opened.

Theory. The document may be of a hundred thousand assets, so it is built a hundred at a time, from
the snapshot as far as their items are there, and written to a `Spool`: memory holds one piece. In
orders, tags and searches all unknown items are requested. The directories that show the whole
storage leave that to the crawl, but for a limited number, and say how many are missing.

`model.outlines` converts items to GeoJSON; the snapshot keeps them in that form.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import trio
from cachetools import LRUCache

from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.errors import DeadlineExceeded, NotFound, Offline, Unavailable, Up42fsError
from up42fs.flights import Flights
from up42fs.fs.branches.made import MadeDocuments
from up42fs.fs.branches.spool import Content, Spool, SpoolWriter
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import ROOT, Kind, Node
from up42fs.model.outlines import NOTHING, Drawn, Shown, draw, line
from up42fs.types import Asset

log = logging.getLogger(__name__)

NAME = "footprints.geojson"
#: Directories of a part of the storage, and those of all of it.
_PARTS = frozenset({Kind.ORDER, Kind.TAG, Kind.QUERY})
_WHOLES = frozenset({Kind.ROOT, Kind.ASSETS, Kind.STATUS})
KINDS = _PARTS | _WHOLES
PREFIX = "footprints/"
#: Seconds that a document is cached; a long one that is complete, as long as nothing changes.
KEPT_S = 60.0
LONG_KEPT_S = 3600.0
MOST_KEPT = 64
#: How many assets' items are fetched in parallel.
PARALLEL = 8
#: Assets whose items are fetched by one search: not more than memory holds.
TOGETHER = 100
#: Assets of the whole storage whose items are requested for one document; the crawl learns others.
MOST_ASKED = 1000
#: How long a document may take, seconds; its readers try again after their own deadlines.
BUILD_TIMEOUT_S = 900.0
#: Foreign members (RFC 7946 §6.1): the number of items and assets without outline, and therefore
#: without feature, and of assets whose outlines are not known yet.
WITHOUT_OUTLINE = "up42fs:without_outline"
NOT_YET_KNOWN = "up42fs:not_yet_known"


def document_of(directory: Node) -> Node:
    return Node(Kind.DOCUMENT, f"{PREFIX}{directory.kind.value}/{directory.id}")


def directory_of(document: Node) -> Node:
    kind, _, id_ = document.id.removeprefix(PREFIX).partition("/")
    return Node(Kind(kind), id_)


@dataclass(frozen=True, slots=True)
class _Made:
    content: Content
    made_at_s: float
    #: The layout's count of changes then, if all outlines were known; else None.
    changes: int | None


@dataclass(frozen=True, slots=True)
class _Places:
    """The paths of assets' files from the document on, and of their directories, by asset ID."""

    paths: Mapping[str, str]
    directories: Mapping[str, str]


class Footprints(MadeDocuments):
    """Documents by directory; `directory` is where long ones lie. Builds run in `nursery`."""

    prefix = PREFIX

    def __init__(
        self,
        index: Index,
        items: Items,
        descriptions: Descriptions,
        *,
        lists: bool,
        nursery: trio.Nursery | None = None,
        directory: Path | None = None,
    ) -> None:
        self.lists = lists
        self._index = index
        self._items = items
        self._descriptions = descriptions
        self._directory = directory
        self._flights: Flights[Node, Content] | None = None
        if nursery is not None:
            self._flights = Flights(nursery, f"making {NAME}", timeout_s=BUILD_TIMEOUT_S)
        self._kept: LRUCache[Node, _Made] = LRUCache(MOST_KEPT)
        self._layout: Layout | None = None

    def known(self, document: Node) -> Content | None:
        """The document, unless it was built too long ago."""
        made = self._kept.get(document)
        if made is None:
            return None
        age_s = trio.current_time() - made.made_at_s
        is_same = self._layout is not None and made.changes == self._layout.changes
        is_long = isinstance(made.content, Spool)
        lasts_s = LONG_KEPT_S if is_long and is_same else KEPT_S
        return made.content if age_s < lasts_s else None

    def names(self, directory: Node) -> tuple[str, ...]:
        """Every directory of assets, and the mount point, has the document."""
        return (NAME,) if directory.kind in KINDS else ()

    def node(self, directory: Node, name: str) -> Node | None:
        """The document of a directory."""
        return document_of(directory) if name in self.names(directory) else None

    async def ensure(self, document: Node, layout: Layout) -> Content:
        """Return the document; fetches the items of the directory's assets. Raises `Up42fsError`.

        Unknown items take one search per hundred assets, or if that fails one per asset.
        """
        self._layout = layout
        made = self.known(document)
        if made is None:
            build = partial(self._build, document, layout)
            made = await (self._flights.join(document, build) if self._flights else build())
        return made

    async def _build(self, document: Node, layout: Layout) -> Content:
        directory = directory_of(document)
        changes = layout.changes
        await layout.prepare(directory)
        shown, above = directory, ""
        if directory == ROOT:
            shown, above = Node(Kind.ASSETS), "assets/"
        paths: dict[str, str] = {}
        directories: dict[str, str] = {}
        for name, node in layout.children(shown).items():
            if node.kind is Kind.ASSET:
                paths[node.id] = above + name
            elif node.kind in (Kind.FILES, Kind.MEMBERS):
                directories[node.id] = above + name
        places = _Places(paths, directories)
        label = layout.label(directory) or ("UP42" if directory == ROOT else directory.kind.value)
        writer = SpoolWriter(self._directory)
        try:
            missing = await self._write(writer, label, places, is_part=directory.kind in _PARTS)
        except OSError as error:
            raise Unavailable(
                f"{NAME} of {label} cannot be written to {self._directory or 'a temporary file'}: "
                f"{error.strerror}; make room there"
            ) from error
        content = writer.finish()
        if missing:
            log.info("%s of %s: %d outlines are not known yet", NAME, label, missing)
        made_at_s = trio.current_time()
        self._kept[document] = _Made(content, made_at_s, None if missing else changes)
        return content

    async def _write(
        self, writer: SpoolWriter, label: str, places: _Places, *, is_part: bool
    ) -> int:
        """Write the document; return the number of assets whose items are not known."""
        writer.write(_head(label))
        asked = missing = without = 0
        is_first = True
        for ids in _batches(places.paths, TOGETHER):
            assets = [self._index.assets[id_] for id_ in ids if id_ in self._index.assets]
            found = await self._items.drawn(assets)
            unknown = [asset for asset in assets if asset.id not in found]
            if unknown and not is_part and asked >= MOST_ASKED:
                missing += len(unknown)
            elif unknown:
                asked += len(unknown)
                found |= await _drawn_of(self._items, unknown)
            shown = [(self._shown(each, places), found.get(each.id)) for each in assets]
            features = [(one, drawn or self._drawn_of_collection(one.id)) for one, drawn in shown]
            is_any, left_out = await trio.to_thread.run_sync(
                _write_features, writer, features, is_first
            )
            is_first = is_first and not is_any
            without += left_out
        writer.write(_foot(without, missing))
        return missing

    def _shown(self, asset: Asset, places: _Places) -> Shown:
        status = asset.cnam_status.value or None
        path, directory = places.paths.get(asset.id, asset.id), places.directories.get(asset.id)
        return Shown(asset.id, path, asset.title, asset.collection, status, directory)

    def _drawn_of_collection(self, asset_id: str) -> tuple[Drawn]:
        described = self._descriptions.of_collection(asset_id)
        return (NOTHING if described is None else draw(described),)


def _batches(paths: Mapping[str, str], most: int) -> Iterator[list[str]]:
    ids = iter(paths)
    while batch := list(islice(ids, most)):
        yield batch


def _head(label: str) -> bytes:
    name = json.dumps(label, ensure_ascii=False).encode(errors="replace")
    return b'{\n"type": "FeatureCollection",\n"name": ' + name + b',\n"features": ['


def _foot(without_outline: int, not_yet_known: int) -> bytes:
    counts = {WITHOUT_OUTLINE: without_outline}
    if not_yet_known:
        counts[NOT_YET_KNOWN] = not_yet_known
    said = b"".join(b',\n"%s": %d' % (name.encode(), count) for name, count in counts.items())
    return b"\n]" + said + b"\n}\n"


def _write_features(
    writer: SpoolWriter, features: Iterable[tuple[Shown, tuple[Drawn, ...]]], is_first: bool
) -> tuple[bool, int]:
    """Write a feature a line; return whether there was any, and the number of those without."""
    made = [line(shown, one) for shown, drawn in features for one in drawn]
    lines = [one for one in made if one is not None]
    if lines:
        text = ("\n" if is_first else ",\n") + ",\n".join(lines)
        writer.write(text.encode(errors="replace"))
    return bool(lines), len(made) - len(lines)


async def _drawn_of(items: Items, assets: list[Asset]) -> dict[str, tuple[Drawn, ...]]:
    """Outlines by asset, without those of assets that fail.

    Raises if all fail, but not because UP42 has none: the document is listed, so it must be there.
    """
    found: dict[str, tuple[Drawn, ...]] = {}
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
                found[asset.id] = tuple(map(draw, await items.whole(asset)))
            except Up42fsError as error:
                if not isinstance(error, NotFound):
                    errors.append(error)
                log.warning("footprints: asset %s is left out: %s", asset.id, error)

    async with trio.open_nursery() as nursery:
        for asset in assets:
            nursery.start_soon(ask, asset)
    if errors and not found:
        raise errors[0]
    return found

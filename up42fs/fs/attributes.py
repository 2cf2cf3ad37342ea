"""Extended attributes by node: the listed ones, and the sources of the unlisted ones.

`xattrs` builds the values of those that are listed; others cost a request. `getfattr` makes two
calls, one for the length and one for the value, and a file manager makes them for every file it
shows: answers are cached for seconds, and concurrent calls for the same attribute share one
request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import trio
from cachetools import TTLCache

from up42fs.api.client import Client
from up42fs.deadlines import Turns, request_s, within
from up42fs.errors import InvalidArgument, NoAttribute, NotFound
from up42fs.fs import xattrs
from up42fs.fs.branches.transformed import to_json
from up42fs.fs.files.ledger import Ledger
from up42fs.fs.files.sizing import Sizing
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.nodes import (
    FILE_KINDS,
    LINKED_KINDS,
    MEMBER_KINDS,
    STORED_KINDS,
    Kind,
    Node,
)
from up42fs.fs.whole_tree import WholeTree
from up42fs.model.outlines import outline_of
from up42fs.model.stac import StacItem
from up42fs.store.members.archives import holder
from up42fs.timeline import Timeline
from up42fs.types import Asset

#: The most that one call fetches, bytes: it must arrive within the call's deadline.
MOST_FETCHED = 4 << 20
_SPAN = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
#: Seconds that an answer is cached. A link must still be fresh when it is pasted somewhere.
DOCUMENT_TTL_S = 30.0
LINK_TTL_S = 5.0
MAX_KEPT = 256
#: How long an answer is waited for, behind others who ask the same too, seconds.
ANSWER_TIMEOUT_S = request_s(25.0)

#: The cache key: a node, and the time of its last update.
_Key = tuple[Node, datetime | None]


class NodeAttributes:
    """The extended attributes of one mount's nodes."""

    def __init__(self, tree: WholeTree, documents: Client, ledger: Ledger | None = None) -> None:
        self._index, self._files, self._sizes = tree.index, tree.files, tree.sizes
        self._exact_bytes = tree.exact_bytes
        self._sizing = Sizing(tree.sizes, tree.layout)
        self._registry, self._transformed = tree.branches.registry, tree.branches.transformed
        self._documents = DocumentCache(documents)
        self._ledger = ledger
        self._archives = tree.branches.archives
        self._descriptions = tree.branches.descriptions
        self._previews = tree.branches.previews
        #: Why the last edit of an asset failed, by its ID; set where edits are made.
        self.last_failure: Callable[[str], str | None] = lambda _: None

    def listed(self, node: Node) -> dict[str, str]:
        """The attributes that `getfattr -d` lists; sends no request."""
        return xattrs.fitted(self.known(node))

    def known(self, node: Node) -> dict[str, str]:
        """All attributes, before they are cut to fit; sends no request."""
        match node.kind:
            case Kind.ASSET:
                asset = self._index.assets[node.id]
                return xattrs.of_asset(
                    asset,
                    self._index.order_of(asset),
                    self._index.assets.wish(asset),
                    self._descriptions.known(asset.id),
                )
            case Kind.FILE:
                return self._of_file(node)
            case Kind.FILES | Kind.ITEM:
                asset = self._index.assets[node.id.partition("/")[0]]
                item = self._item(node)
                return xattrs.of_item_directory(asset, self._index.order_of(asset), item)
            case kind if kind in MEMBER_KINDS and self._archives is not None:
                asset = self._index.assets[member_ids.asset_id_of(node.id)]
                member = self._archives.member(node)
                return xattrs.of_member(asset, self._index.order_of(asset), member)
            case Kind.ORDER:
                return xattrs.of_order(node.id, self._index.orders.get(node.id))
            case Kind.TAG:
                return xattrs.of_tag(node.id)
            case Kind.WORKSPACE:
                return xattrs.of_workspace(node.id)
            case Kind.JOB:
                return xattrs.of_job(node.id)
            case _:
                return {}

    async def get(self, node: Node, name: str) -> bytes:
        """An attribute's value; raises NoAttribute. Only unlisted ones may cost a request."""
        known = self.known(node)
        if name in known:
            # A twin that was left out of the list can still be read by name.
            return xattrs.fitted(known).get(name, known[name]).encode(errors="replace")
        whole = known.get(xattrs.PREFIX + name.removeprefix(xattrs.WHOLE))
        if whole is not None:
            return whole.encode(errors="replace")
        if name.startswith(xattrs.STAC) and node.kind is Kind.ASSET and name not in xattrs.UNLISTED:
            return await self._said_by_stac(node, name)
        if name.startswith(xattrs.PREFIX):
            return await self._unlisted(node, name)
        raise NoAttribute(name)

    async def _said_by_stac(self, node: Node, name: str) -> bytes:
        """What STAC says of a delivery; costs a request if the crawl has not come to it."""
        if self._descriptions.known(node.id) is None:
            with within(ANSWER_TIMEOUT_S, f"UP42 did not answer within {ANSWER_TIMEOUT_S:.0f} s"):
                await self._descriptions.ask(self._index.assets[node.id])
        known = self.known(node)
        if name not in known:
            raise NoAttribute(name)
        return xattrs.fitted(known).get(name, known[name]).encode(errors="replace")

    async def _unlisted(self, node: Node, name: str) -> bytes:
        described = self._described(node)
        if name == xattrs.JSON and described is not None:
            asset = self.asset_of(described)
            return await self._documents.json(described, asset.updated_at if asset else None)
        if name == xattrs.STAC_JSON:
            return await self._stac_json(node)
        if name == xattrs.GEOMETRY:
            return await self._geometry(node)
        if node.kind in STORED_KINDS:
            if name == xattrs.DOWNLOAD_URL and node.kind in LINKED_KINDS:
                return await self._documents.download_url(node)
            if name == xattrs.CACHED:
                return str(await self._cached_bytes(node)).encode()
            if name == xattrs.EXPLAIN:
                return json.dumps(await self._explain(node)).encode()
            if name == xattrs.HISTORY:
                return json.dumps(self._history(node), separators=(",", ":")).encode()
            return await self._spanned(node, name)
        if node.kind not in FILE_KINDS:
            return await self._sized(node, name)
        raise NoAttribute(name)

    async def _sized(self, directory: Node, name: str) -> bytes:
        """What is known of the sizes of a directory's files, or of the one after the dot."""
        for attribute, work in (
            (xattrs.SIZES, self._sizing.unknown),
            (xattrs.FETCH_SIZES, self._sizing.learn),
        ):
            if name == attribute or name.startswith(attribute + "."):
                file_name = name.removeprefix(attribute).removeprefix(".")
                return json.dumps((await work(directory, file_name)).describe()).encode()
        raise NoAttribute(name)

    async def _spanned(self, node: Node, name: str) -> bytes:
        """Attributes that are followed by `START-STOP`."""
        if name.startswith(xattrs.FETCH):
            return str(await self._fetch(node, name.removeprefix(xattrs.FETCH))).encode()
        if name.startswith(xattrs.BYTES):
            start, stop = _span(name.removeprefix(xattrs.BYTES), xattrs.MOST_VALUE_BYTES)
            return await self._exact_bytes(node, start, stop)
        if name.startswith(xattrs.PREVIEW):
            return await self._preview(node, name)
        raise NoAttribute(name)

    async def _stac_json(self, node: Node) -> bytes:
        items = await self._whole_items(node)
        if len(items) != 1:
            raise NoAttribute(xattrs.STAC_JSON)
        return to_json(items[0].document).rstrip()

    async def _geometry(self, node: Node) -> bytes:
        outline = outline_of(await self._whole_items(node) or self._described_by(node))
        if outline is None:
            raise NoAttribute(xattrs.GEOMETRY)
        return json.dumps(outline).encode()

    async def _cached_bytes(self, node: Node) -> int:
        return await self._files.ensure_cached_bytes(self._sizes.origin(node))

    async def _fetch(self, node: Node, text: str) -> int:
        """Fetch the bytes `START-STOP`; return their number."""
        start, stop = _span(text, MOST_FETCHED)
        return len(await self._exact_bytes(node, start, stop))

    async def _preview(self, node: Node, name: str) -> bytes:
        """A piece of the thumbnail of a file or delivery; raises NoAttribute if there is none."""
        start, stop = _span(name.removeprefix(xattrs.PREVIEW), xattrs.MOST_VALUE_BYTES)
        asset, file = self.asset_of(node), self._registry.get(node.id)
        if self._previews is None:
            raise NoAttribute(name)
        try:
            with within(ANSWER_TIMEOUT_S, f"UP42 did not answer within {ANSWER_TIMEOUT_S:.0f} s"):
                if node.kind is Kind.FILE and file is not None:
                    return (await self._previews.of_item(file.item))[start:stop]
                if node.kind is Kind.ASSET and asset is not None:
                    return (await self._previews.of_asset(asset))[start:stop]
        except NotFound as error:
            raise NoAttribute(name) from error
        raise NoAttribute(name)

    async def _explain(self, node: Node) -> dict[str, Any]:
        """The file's cost and its causes, as far as recorded."""
        account = self._ledger.explain(node.id) if self._ledger else None
        asset = self.asset_of(node)
        failure = self.last_failure(asset.id) if asset else None
        extent = self._sizes.extent(node)
        held_by = holder(extent) if extent is not None and extent.is_view else None
        return {
            "id": node.id,
            # A stored member has no bytes of its own on disk.
            "kept_in": held_by.object_id if held_by is not None else node.id,
            "archive_bytes": held_by.size if held_by is not None else None,
            "name": self._sizes.label(node),
            "size": self._sizes.known(node),
            "cached_bytes": await self._cached_bytes(node),
            "edit_failed": failure,
            "store": dict(self._files.tally(node.id)),
            **(account or {}),
        }

    def _history(self, node: Node) -> dict[str, list[list[float]]]:
        """When which bytes were fetched and first read: [began, ended, start, stop].

        Seconds since the first of them.
        """
        account = self._ledger.account(node.id) if self._ledger else None
        fetched = self._files.fetched(node.id)
        read = account.timeline if account else Timeline()
        first_s = min((moment.began_s for moment in (*fetched, *read)), default=0.0)
        return {"fetched": fetched.since(first_s), "read": read.since(first_s)}

    def asset_of(self, node: Node) -> Asset | None:
        """The asset that has a node's title and tags."""
        match node.kind:
            case Kind.ASSET:
                asset_id: str | None = node.id
            case Kind.FILES | Kind.ITEM:
                asset_id = node.id.partition("/")[0]
            case Kind.FILE:
                file = self._registry.get(node.id)
                asset_id = file.asset_id if file else None
            case kind if kind in MEMBER_KINDS:
                asset_id = member_ids.asset_id_of(node.id)
            case _:
                return None
        return self._index.assets.get(asset_id or "")

    def _described(self, node: Node) -> Node | None:
        if node.kind in (Kind.ASSET, Kind.ORDER):
            return node
        asset = self.asset_of(node)
        return None if asset is None else Node(Kind.ASSET, asset.id)

    def _of_file(self, node: Node) -> dict[str, str]:
        file = self._registry.get(node.id)
        if file is None:
            return {}
        asset = self._index.assets.get(file.asset_id or "")
        order = self._index.order_of(asset) if asset else None
        return xattrs.of_file(node.id, file.stac, file.name, file.item, asset, order)

    async def _whole_item(self, node: Node) -> StacItem | None:
        item = self._item(node)
        if item is None or item.document or self._transformed is None:
            return item
        return await self._transformed.whole_item(node)

    async def _whole_items(self, node: Node) -> tuple[StacItem, ...]:
        """The items of a delivery, or the one of a file or directory, with their documents."""
        if node.kind is not Kind.ASSET:
            item = await self._whole_item(node)
            return () if item is None else (item,)
        asset = self._index.assets.get(node.id)
        if asset is None or self._transformed is None:
            return ()
        return await self._transformed.items.whole(asset)

    def _described_by(self, node: Node) -> tuple[StacItem, ...]:
        found = self._descriptions.known(node.id) if node.kind is Kind.ASSET else None
        return () if found is None else (found,)

    def _item(self, node: Node) -> StacItem | None:
        if node.kind is Kind.FILE:
            file = self._registry.get(node.id)
            return file.item if file else None
        if node.kind in (Kind.FILES, Kind.ITEM) and self._transformed is not None:
            return self._transformed.item_of(node)
        return None


def _span(text: str, most: int) -> tuple[int, int]:
    match = _SPAN.fullmatch(text)
    start, stop = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < stop - start <= most:
        raise InvalidArgument(f"{text!r} is no span of 1 to {most:,} bytes")
    return start, stop


class DocumentCache:
    """A short-lived cache of answers about nodes; concurrent calls share one request."""

    def __init__(self, source: Client) -> None:
        self._source = source
        self._json: TTLCache[_Key, bytes] = TTLCache(MAX_KEPT, DOCUMENT_TTL_S, trio.current_time)
        self._links: TTLCache[_Key, bytes] = TTLCache(MAX_KEPT, LINK_TTL_S, trio.current_time)
        self._turns: dict[tuple[_Key, int], Turns] = {}

    async def json(self, node: Node, updated_at: datetime | None = None) -> bytes:
        """The full API object of an asset or order, as JSON; fetched again after an update."""
        return await self._get(self._json, (node, updated_at), self._fetch_json)

    async def download_url(self, node: Node) -> bytes:
        """A fresh presigned link to an asset."""
        return await self._get(self._links, (node, None), self._fetch_link)

    async def _get(
        self,
        cache: TTLCache[_Key, bytes],
        about: _Key,
        fetch: Callable[[Node], Awaitable[bytes]],
    ) -> bytes:
        key = (about, id(cache))
        turns = self._turns.setdefault(key, Turns())
        late = f"UP42 did not answer within {ANSWER_TIMEOUT_S:.0f} s; it is slow: try again"
        try:
            with within(ANSWER_TIMEOUT_S, late):
                async with turns.turn():
                    kept = cache.get(about)
                    if kept is None:
                        kept = cache[about] = await fetch(about[0])
                    return kept
        finally:
            if turns.are_over:  # else the next caller has it and removes it
                self._turns.pop(key, None)

    async def _fetch_json(self, node: Node) -> bytes:
        ask = (
            self._source.order_document if node.kind is Kind.ORDER else self._source.asset_document
        )
        return json.dumps(await ask(node.id), ensure_ascii=False).encode(errors="replace")

    async def _fetch_link(self, node: Node) -> bytes:
        return (await self._source.sign(node.id)).url.encode()

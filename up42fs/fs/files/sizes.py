"""Sizes that UP42 does not report: fetched on demand, and remembered.

Theory. Plain listings need no size, so they must not cost requests: an unknown size is shown as 0
with a TTL of 0, and the kernel requests attributes again before it uses it (`stat`, `open`, a read
at the end). One size costs two requests, a link and a range: of the file's head if a program opens
it, or will probably (`readahead.heads` decides), else of one byte. A second call for the same
*company* within `LISTING_S` is `ls -l`, which needs one file after another: then the sizes of the
others are fetched in the background at once, and each call waits only for its own size: one file
that stalls or fails delays no other. A company is the files of an item; for assets (STAC-only
accounts) those of its last listing, of which the next `AHEAD` are fetched, since a directory may
hold any number. Each is started once per listing.

If two files of a company in a row failed and made the program wait, the next ones are waited for
`BRIEFLY_S` only, and fail with the error of the last (`net.silence`). With the second one the
fetches of all others have begun, so what can be had is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio
from cachetools import LRUCache

from up42fs.catalog.index import Index
from up42fs.catalog.stored_items import stamp_of
from up42fs.errors import NotFound, Up42fsError
from up42fs.fs.branches.archives import Archives, MemberFile
from up42fs.fs.branches.transformed import FileRegistry
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.net.silence import Silence
from up42fs.readahead.heads import Asker, SizeQuestions
from up42fs.store.members.extent import Extent, StoredObject
from up42fs.store.store import FileStore
from up42fs.store.versions import HEAD_BYTES
from up42fs.types import ByteRange

#: A call about a company within this time after the one before ended is a listing, seconds.
LISTING_S = 2.0
#: How long a file of a company is waited for whose fetch began with those before it, seconds:
#: enough for a size that memory or the disk holds.
BRIEFLY_S = 0.1
#: Number of sizes fetched ahead of the requested one.
AHEAD = 64
#: Number of listings remembered.
MOST_LISTINGS = 64


@dataclass(slots=True)
class _SizeQueue:
    """A program that requests sizes one after another."""

    first: Node
    asked_s: float
    begun: set[str] = field(default_factory=set)
    silence: Silence = field(default_factory=Silence)

    def ended(self, begun_s: float, now_s: float, error: Up42fsError | None = None) -> None:
        """Note how a call for one size ended that waited in full."""
        self.asked_s = max(self.asked_s, now_s)
        self.silence.ended(begun_s, now_s, error)


class Sizes:
    """Sizes in bytes of assets and transformed files."""

    def __init__(
        self,
        index: Index,
        files: FileStore,
        registry: FileRegistry,
        clock: Callable[[], float] = trio.current_time,
        archives: Archives | None = None,
    ) -> None:
        self._archives = archives
        self._index = index
        self._clock = clock
        self._files = files
        self._registry = registry
        self._questions = SizeQuestions()
        self._listings: LRUCache[str, _SizeQueue] = LRUCache(MOST_LISTINGS)
        #: Asset ID -> the assets of its last listing, and its index among them.
        self._together: dict[str, tuple[Sequence[Node], int]] = {}

    def node(self, object_id: str) -> Node:
        if member_ids.is_member_id(object_id):
            return member_ids.member_node(object_id)
        return Node(Kind.ASSET if object_id in self._index.assets else Kind.FILE, object_id)

    def known(self, node: Node) -> int | None:
        if node.kind is Kind.ASSET:
            return self._index.assets[node.id].size
        if node.kind is Kind.MEMBER:
            return self._member(node).member.size
        return self._registry.size(node.id)

    async def ask(self, node: Node, asker: Callable[[], Asker]) -> int:
        """Return the size for a program that may not read the file; raises an `Up42fsError`."""
        known = self.known(node)
        if known is not None:
            return known
        who = asker()
        head = self._questions.asked(who, self._clock())
        try:
            return await self.ensure(node, head=head)
        finally:
            is_known = self._is_there(node) and self.known(node) is not None
            self._questions.answered(
                who, node.id, head=head, is_known=is_known, now_s=self._clock()
            )

    def opened(self, node: Node, *, leads: bool) -> None:
        """Note that a file is opened; prefetch its company's heads if they are due and it `leads`.

        See `readahead.heads`.
        """
        file = self._registry.get(node.id) if node.kind is Kind.FILE else None
        company = file.item.id if file is not None else None
        if self._questions.opened(node.id, company if leads else None):
            siblings = self._registry.siblings(node.id)
            for id_ in self._questions.following(siblings, self._clock()):
                self._prefetch_head(Node(Kind.FILE, id_, node.place))

    def _prefetch_head(self, node: Node) -> None:
        size = self.known(node)
        if size and self._files.has_link(node.id):
            head = ByteRange(0, min(size, HEAD_BYTES))
            self._files.start_ahead(self.origin(node), lambda _: (head,))

    async def ensure(self, node: Node, *, alone: bool = False, head: bool = True) -> int:
        """Return the size, fetched if necessary, with the file's `head`; raises an `Up42fsError`.

        A call that is made `alone` is no sign of a listing, whose other files' sizes are fetched.
        """
        known = self.known(node)
        if known is not None:
            return known
        if alone:
            size = await self._fetched(node, head=head)
            if not head:
                self._questions.came_alone(node.id, self._clock())
            return size
        listing, others = self._next_after(node)
        for other in others:
            if not head:
                self._questions.came_alone(other.id, self._clock())
            self._files.start_version(self.origin(other), head=head)
        begun_s = self._clock()
        told = listing.silence.told(begun_s)
        if told is not None:
            return await self._briefly(node, told, head=head)
        try:
            size = await self._fetched(node, head=head)
        except Up42fsError as error:
            listing.ended(begun_s, self._clock(), error)
            raise
        listing.ended(begun_s, self._clock())
        return size

    async def _fetched(self, node: Node, *, head: bool) -> int:
        version = await self._files.ensure_version(self.origin(node), head=head)
        self.learn(node, version.size)
        return version.size

    async def _briefly(self, node: Node, told: Up42fsError, *, head: bool) -> int:
        """The size if it is at hand, else an error like `told`, for which others waited."""
        with trio.move_on_after(BRIEFLY_S):
            return await self._fetched(node, head=head)
        raise type(told)(
            f"{self.label(node)}: its size was not waited for, as others before it failed; the "
            f"last: {told}"
        ) from told

    async def of_asset(self, asset_id: str) -> int:
        """The size of an asset's file, fetched if necessary; raises an `Up42fsError`."""
        return await self.ensure(Node(Kind.ASSET, asset_id))

    def extent(self, node: Node) -> Extent | None:
        """Where the bytes of a member lie; None for a file that is an object of its own."""
        return self._member(node).extent if node.kind is Kind.MEMBER else None

    def origin(self, node: Node) -> StoredObject:
        """What the store needs to know of a file; raises NotFound if it has left the storage."""
        label, size = self.label(node), self.known(node)
        return StoredObject(node.id, size, label, self.stamp(node), self.extent(node))

    def _member(self, node: Node) -> MemberFile:
        if self._archives is None:
            raise NotFound(f"member {node.id} is not known")
        return self._archives.file(node)

    def listed(self, nodes: Iterable[Node]) -> None:
        """Note the entries of a directory that is being listed, in order."""
        unknown = [n for n in nodes if n.kind is Kind.ASSET and self.known(n) is None]
        for place, node in enumerate(unknown):
            self._together[node.id] = (unknown, place)

    def learn(self, node: Node, size: int) -> None:
        """Take over a size that the object store reported."""
        if node.kind is Kind.ASSET:
            self._together.pop(node.id, None)
            if self._index.learn_size(node.id, size):
                self._registry.learn_asset_size(self._index.assets[node.id], size)
        else:
            self._registry.learn_size(node.id, size)

    def stamp(self, node: Node) -> str | None:
        """A mark that changes whenever the bytes may have: the time of UP42's last update."""
        if node.kind is Kind.ASSET:
            return self._index.bytes_time(self._index.assets[node.id]).isoformat()
        if node.kind is Kind.MEMBER:
            return self._member(node).stamp
        file = self._registry.get(node.id)
        return stamp_of(file.item) if file is not None else None

    def label(self, node: Node) -> str:
        if node.kind is Kind.ASSET:
            asset = self._index.assets[node.id]
            return f"{asset.name or asset.title or 'asset'} (asset {asset.id})"
        if node.kind is Kind.MEMBER:
            return self._member(node).label
        file = self._registry.get(node.id)
        if file is None:
            raise NotFound(f"file {node.id} is no longer in UP42 storage")
        return file.label

    def name(self, node: Node) -> str:
        if node.kind is Kind.ASSET:
            return self._index.assets.wish(self._index.assets[node.id])
        if node.kind is Kind.MEMBER:
            return self._member(node).member.name
        file = self._registry.get(node.id)
        return file.name if file else ""

    def _next_after(self, node: Node) -> tuple[_SizeQueue, list[Node]]:
        """The listing that `node` is of, and the files whose sizes to fetch with its own."""
        name, company = self._company(node)
        now_s = self._clock()
        listing = self._listings.get(name)
        if listing is None or now_s - listing.asked_s > LISTING_S:
            listing = self._listings[name] = _SizeQueue(node, now_s)
            return listing, []
        listing.asked_s = now_s
        if listing.first == node:
            return listing, []
        begin = [n for n in company if n.id not in listing.begun and self._is_unknown(n)]
        listing.begun |= {other.id for other in begin}
        return listing, [other for other in begin if other != node]

    def _company(self, node: Node) -> tuple[str, Sequence[Node]]:
        """The key of a node's company, and its members to fetch together with `node`."""
        file = self._registry.get(node.id)
        if file is not None:
            of = file.asset_id or ""
            siblings = [Node(Kind.FILE, id_, of) for id_ in self._registry.siblings(node.id)]
            return file.item.id, siblings
        together, place = self._together.get(node.id, ((node,), 0))
        return together[0].id, together[place : place + AHEAD]

    def _is_unknown(self, node: Node) -> bool:
        return self._is_there(node) and self.known(node) is None

    def _is_there(self, node: Node) -> bool:
        return node.kind is not Kind.ASSET or node.id in self._index.assets

"""Stand-ins for what the file system is given: bytes, documents, a catalogue; all in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, cast

import trio

from up42fs.api.client import Client
from up42fs.catalog.index import Changes, Index, ListingKind
from up42fs.catalog.sync import Sync
from up42fs.errors import BadHandle
from up42fs.fs.branches.branches import Branches
from up42fs.fs.control import VirtualFiles
from up42fs.fs.files.ledger import Watch
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.invalidation import Invalidation
from up42fs.fs.sidecars.overlay import Overlay
from up42fs.fs.tree.nodes import Attributes
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.fs.whole_tree import WholeTree
from up42fs.metrics import Metrics
from up42fs.readahead.tuning import Reading
from up42fs.store.http.answer import VersionPin
from up42fs.store.members.extent import StoredObject
from up42fs.store.store import FileStore
from up42fs.types import ByteRange, SignedUrl, Version

T = TypeVar("T")


def content(asset_id: str, start: int, stop: int) -> bytes:
    """Bytes `[start, stop)` of an object: every position and every object tells itself."""
    seed = int(asset_id[:8], 16)
    return bytes((seed * 7 + position + (position >> 8)) % 251 for position in range(start, stop))


@dataclass
class MemoryFile:
    """One open object of `size` bytes."""

    asset_id: str
    size: int
    name: str
    reads: int = 0
    closed: bool = False
    reading: Reading = Reading.ANY
    pin: VersionPin = field(default_factory=lambda: VersionPin(None))
    is_unpacked: bool = False

    def read_again(self, offset: int, size: int) -> None:
        """Nothing is kept from one read to the next."""

    async def read(self, offset: int, size: int) -> bytes:
        if self.closed:
            raise BadHandle("closed")
        self.reads += 1
        self.pin.settle(Version(self.size, '"1"'))
        return content(self.asset_id, offset, max(offset, min(offset + size, self.size)))

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@dataclass
class MemoryAhead:
    """Something fetched before it is opened; there at once."""

    spans: list[ByteRange]
    is_done: bool = True
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class MemoryFiles:
    """The byte store: nothing is read before a read."""

    opened: list[MemoryFile] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    probed: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    #: Of both, those whose heads were not wanted.
    headless: list[str] = field(default_factory=list)
    #: Objects whose links have expired.
    linkless: set[str] = field(default_factory=set)
    ahead: dict[str, MemoryAhead] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    pins: dict[str, VersionPin] = field(default_factory=dict)
    on_probe: Callable[[str, int], None] = lambda *_: None

    async def ensure_version(self, origin: StoredObject, *, head: bool = True) -> Version:
        self.probed.append(origin.object_id)
        self.headless += [] if head else [origin.object_id]
        size = self.sizes.get(origin.object_id, 0)
        self.on_probe(origin.object_id, size)
        return Version(size)

    def version(self, object_id: str) -> Version | None:
        pin = self.pins.get(object_id)
        return pin.version if pin else None

    def has_link(self, object_id: str) -> bool:
        return object_id not in self.linkless

    def start_version(self, origin: StoredObject, *, head: bool = True) -> None:
        self.begun.append(origin.object_id)
        self.headless += [] if head else [origin.object_id]

    def start_ahead(
        self, origin: StoredObject, spans: Callable[[int], Sequence[ByteRange]]
    ) -> MemoryAhead:
        size = self.sizes.get(origin.object_id, origin.size or 0)
        self.ahead[origin.object_id] = MemoryAhead(list(spans(size)))
        return self.ahead[origin.object_id]

    def open(self, known: StoredObject, reading: Reading = Reading.ANY) -> MemoryFile:
        assert known.size is not None, "the store asks for it before"
        pin = self.pins.get(known.object_id)
        if pin is None or pin.size != known.size:
            pin = self.pins[known.object_id] = VersionPin(known.size)
        if known.version is not None:
            pin.assume(known.version)
        self.opened.append(
            MemoryFile(known.object_id, known.size, known.name, reading=reading, pin=pin)
        )
        return self.opened[-1]

    def forget(self, object_id: str) -> None:
        self.forgotten.append(object_id)
        self.pins.pop(object_id, None)

    def tally(self, object_id: str) -> Mapping[str, int]:
        return {}

    async def ensure_cached_bytes(self, origin: StoredObject) -> int:
        return self.held.get(origin.object_id, 0)


@dataclass
class CountedDocuments:
    """UP42's words about an object, each of them counted."""

    asked: Counter[str] = field(default_factory=Counter)
    fail: list[Exception] = field(default_factory=list)
    delay_s: float = 1.0

    async def asset_document(self, asset_id: str) -> dict[str, Any]:
        return await self._answer("asset", asset_id)

    async def order_document(self, order_id: str) -> dict[str, Any]:
        return await self._answer("order", order_id)

    async def sign(self, asset_id: str) -> SignedUrl:
        answer = await self._answer("sign", asset_id)
        return SignedUrl(f"https://store.example/{asset_id}?Signature={answer['count']}", 300.0)

    async def _answer(self, what: str, id_: str) -> dict[str, Any]:
        self.asked[f"{what} {id_}"] += 1
        await trio.sleep(self.delay_s)
        if self.fail:
            raise self.fail.pop(0)
        return {"id": id_, "what": what, "count": self.asked[f"{what} {id_}"]}


@dataclass
class Catalogue:
    """Readiness of the listings: who asked for what; waits until `listed`, or fails."""

    listed: bool = True
    asked: list[tuple[tuple[ListingKind, ...], float]] = field(default_factory=list)
    error: Exception | None = None
    changed: trio.Event = field(default_factory=trio.Event)
    asks_for_names: ClassVar[bool] = False
    #: The index that grows meanwhile.
    index: Index | None = None

    def may_know_more(self, *, by_id: bool) -> bool:
        return self.index is not None and not self.index.is_complete

    async def ready(self, *parts: ListingKind, timeout_s: float) -> None:
        self.asked.append((parts, timeout_s))
        if not self.listed:
            await self.changed.wait()
        if self.error is not None:
            raise self.error

    async def ready_top(self, *, timeout_s: float) -> None:
        """A mount's catalogue comes in the background."""

    async def ready_order(self, order_id: str, *, timeout_s: float) -> None:
        await self.ready(ListingKind.ASSETS, timeout_s=timeout_s)

    def finish(self, error: Exception | None = None) -> None:
        self.listed, self.error = error is None, error
        self.changed.set()

    def status(self) -> Mapping[str, object]:
        return {}


class World:
    """A file system and everything around it."""

    def __init__(
        self,
        *things: Any,
        listed: bool = True,
        umask: int = 0o022,
        tag_directories: TagDirectories | None = None,
        branches: Callable[[Index], Branches] = Branches,
        watch: Watch | None = None,
        overlay: Overlay | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.index = Index()
        self.files = MemoryFiles()
        self.documents = CountedDocuments()
        self.catalogue = Catalogue(listed, index=self.index)
        self.counters = "up42fs_x 1\n"
        self.metrics = Metrics()
        self.virtual = VirtualFiles(lambda: {"pid": 7, "text": "ü"}, lambda: self.counters)
        tree = WholeTree(
            self.index,
            cast(FileStore, self.files),
            self.virtual,
            branches(self.index),
            tag_directories=tag_directories,
            overlay=overlay,
            clock=clock,
        )
        self.fs = Filesystem(
            tree,
            catalogue=cast(Sync, self.catalogue),
            documents=cast(Client, self.documents),
            watch=watch,
            umask=umask,
            metrics=self.metrics,
        )
        # As in a first listing: what is found then did not come just now.
        self.index.is_complete = False
        self.put(*things)
        self.index.is_complete = True

    def put(self, *things: Any) -> list[Invalidation]:
        """Assets and orders appear or change."""
        assets = tuple(thing for thing in things if hasattr(thing, "cnam_status"))
        orders = tuple(thing for thing in things if not hasattr(thing, "cnam_status"))
        return self.change(Changes(assets=assets, orders=orders))

    def remove(self, *things: Any) -> list[Invalidation]:
        """Assets and orders vanish."""
        assets = frozenset(thing.id for thing in things if hasattr(thing, "cnam_status"))
        orders = frozenset(thing.id for thing in things if not hasattr(thing, "cnam_status"))
        return self.change(Changes(removed_assets=assets, removed_orders=orders))

    def change(self, changes: Changes) -> list[Invalidation]:
        delta = self.index.apply(changes)
        return self.fs.changes.apply(delta) if delta else []

    async def walk(self, path: str) -> int:
        """Inode of a path, one reference taken on each of its parts."""
        inode = 1
        for name in path.split("/"):
            found = await self.fs.lookup(inode, name)
            assert isinstance(found, Attributes), f"{name} of {path} is not there"
            inode = found.inode
        return inode

    async def list(self, path: str = "") -> list[str]:
        """Names of a directory; the references that its entries took are given back."""
        handle = await self.fs.opendir(await self.walk(path) if path else 1)
        names: list[str] = []
        inodes: list[int] = []

        def take(name: str, attributes: Any, after: int) -> bool:
            names.append(name)
            inodes.append(attributes.inode)
            return True

        self.fs.directories.read(handle, 0, take)
        self.fs.directories.close(handle)
        for inode in inodes:
            self.fs.forget(inode, 1)
        return names


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that must not wait for anything, outside any event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("it waited for something")

"""Prefetches the next files of a directory for programs that read it file by file.

Observes which directories are looked into and which bytes of their files are read, and carries out
the decisions of `readahead.folder.siblings`.

A file may be listed in several directories: a read counts for the one that was looked into last (a
lookup or a listing). Only first reads count: reads served from the kernel's page cache do not
arrive here, and need no fetching.

Orders mostly hold a file or two, and tools go from one order into the next (`grep -r`, a shell
pattern with a directory in it). So orders of few files are treated as one directory, whose names
are paths. It is built when a second such order is read, not for the first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from up42fs.errors import NotFound
from up42fs.fs.files.sizes import Sizes
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import LINKED_KINDS, Kind, Node
from up42fs.metrics import Metrics
from up42fs.readahead.folder.order import Folder
from up42fs.readahead.folder.siblings import FolderPlan, FolderWalks
from up42fs.readahead.folder.walk import Visit, Want
from up42fs.store.ahead import Prefetch
from up42fs.store.store import FileStore

#: Recently used directories of which reads are followed.
MOST_DIRECTORIES = 16
#: Larger directories are not followed, in files: sorting them would block all other requests.
MOST_FILES = 50_000
#: Orders with fewer files are treated as one directory, if there are not too many orders.
FEW_FILES = 4
MOST_ORDERS = 512
_ORDERS = Node(Kind.ORDERS)
_INODE_BITS = 64


class Siblings:
    """The directory walks of one mount; `inode_of` returns a node's inode number."""

    def __init__(
        self,
        layout: Layout,
        files: FileStore,
        sizes: Sizes,
        *,
        inode_of: Callable[[Node], int],
        most_bytes: int,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._files = files
        self._sizes = sizes
        self._inode_of = inode_of
        self._metrics = metrics
        self._clock = clock
        self._decide = FolderWalks(lambda id_: sizes.known(sizes.node(id_)), most_bytes)
        self._recent: OrderedDict[Node, _Listing | None] = OrderedDict()
        self._street: Folder | None = None
        self._begun: dict[str, Prefetch] = {}
        self._counted: dict[str, int] = {}

    def looked_into(self, directory: Node) -> None:
        self._recent[directory] = self._recent.get(directory)
        self._recent.move_to_end(directory)
        if len(self._recent) > MOST_DIRECTORIES:
            self._recent.popitem(last=False)

    def changed(self, directories: Iterable[Node]) -> None:
        self._street = None
        for directory in directories:
            if directory in self._recent:
                self._recent[directory] = None

    def first_read(self, node: Node, size: int) -> Visit | None:
        """Note the first read of a handle; return None if there is nothing to follow."""
        folder = self._folder_of(node)
        if folder is None:
            return None
        begun = self._begun.pop(node.id, None)
        visit = self._decide.on_first_read(
            folder, node.id, size, self._clock(), is_ready=begun is not None and begun.is_done
        )
        self._count()
        return visit

    def read(self, visit: Visit, start: int, stop: int) -> None:
        """Note that bytes `[start, stop)` are about to be read."""
        self._act(self._decide.on_read(visit, start, stop, self._clock()))

    def closed(self, visit: Visit) -> None:
        self._act(self._decide.on_close(visit))
        self._count()

    def _act(self, plan: FolderPlan | None) -> None:
        for file in plan.cancel if plan else ():
            begun = self._begun.pop(file, None)
            if begun is not None:
                begun.cancel()
        for want in plan.ahead if plan else ():
            self._begin(want)

    def _begin(self, want: Want) -> None:
        node = self._sizes.node(want.file)
        try:
            origin = self._sizes.origin(node)
        except NotFound:
            return  # it has left the storage
        self._begun[want.file] = self._files.start_ahead(origin, want.spans)

    def _folder_of(self, node: Node) -> Folder | None:
        for directory in reversed(self._recent):
            folder = self._folder(directory)
            if folder is not None and node.id in folder:
                few = directory.kind is Kind.ORDER and len(folder) < FEW_FILES
                street = self._orders_of_few() if few else None
                return street or (folder if len(folder) > 1 else None)
        return None

    def _orders_of_few(self) -> Folder | None:
        """The files of all orders with few files, as one folder."""
        if self._street is None and 1 < len(self._layout.children(_ORDERS)) <= MOST_ORDERS:
            names = _Paths(self._layout)
            self._street = Folder(
                str(_ORDERS), names, lambda id_: self._inode_below(names.orders[id_], id_)
            )
        return self._street

    def _inode_below(self, directory: Node, id_: str) -> int:
        """Sort key: the directory's inode number, then the file's."""
        own = self._inode_of(self._sizes.node(id_))
        return (self._inode_of(directory) << _INODE_BITS) + own

    def _folder(self, directory: Node) -> Folder | None:
        if not self._layout.exists(directory):
            return None
        children = self._layout.children(directory)
        listing = self._recent[directory]
        if listing is None or listing.children is not children:
            listing = _Listing(children, self._sorted(directory, children))
            self._recent[directory] = listing
        return listing.folder

    def _sorted(self, directory: Node, children: Mapping[str, Node]) -> Folder | None:
        if len(children) > MOST_FILES:
            return None
        names: dict[str, str] = {}
        for name, node in children.items():
            if node.kind in LINKED_KINDS or node.kind is Kind.MEMBER:
                names.setdefault(node.id, name)
        return Folder(str(directory), names, lambda id_: self._inode_of(self._sizes.node(id_)))

    def _count(self) -> None:
        for name, total in self._decide.trust.counters().items():
            self._metrics.count(f"siblings.{name}", total - self._counted.get(name, 0))
            self._counted[name] = total


@dataclass(frozen=True, slots=True)
class _Listing:
    """A directory as listed, and its files in reading order; None if there are too many."""

    children: Mapping[str, Node]
    folder: Folder | None


class _Paths(Mapping[str, str]):
    """Paths below `orders/` by file ID, of orders with few files; built on first use."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.orders: dict[str, Node] = {}

    @cached_property
    def _paths(self) -> dict[str, str]:
        paths: dict[str, str] = {}
        for order, directory in self._layout.children(_ORDERS).items():
            files = {
                node.id: f"{order}/{name}"
                for name, node in self._layout.children(directory).items()
                if node.kind in LINKED_KINDS
            }
            if len(files) < FEW_FILES:
                paths |= files
                self.orders |= dict.fromkeys(files, directory)
        return paths

    def __getitem__(self, id_: str) -> str:
        return self._paths[id_]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

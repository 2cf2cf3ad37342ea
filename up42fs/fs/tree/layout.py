"""The structure of the mount: the one place that defines the tree (design §2).

Theory. A directory's names depend on all its members (clashes), so a directory is built whole, when
it is first opened, and kept. Directories take over changes of a few of their assets one by one
(`roster`), at the cost of the change; other changes rebuild them. `apply` returns the names whose
meaning changed in all directories that were ever built: the kernel cannot have cached any others.
The kernel caches names of branches for a minute only, so only the most recently used directories of
branches are kept. IDs resolve as names too; they are never listed, and listed names take
precedence. Changes do not report names that are IDs (an ID has many spellings): the kernel must not
cache them. Branches define the content below an asset, in `stac/` and in `search/`: they load the
data that such a directory needs, and build it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from cachetools import LRUCache

from up42fs.archive.kinds import archive_names
from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.assets import Outline
from up42fs.fs.hidden import CONTROL_DIR
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.branch import ArchiveNames, Branch
from up42fs.fs.tree.nodes import CONTROL, ROOT, Kind, Node, asset_node
from up42fs.fs.tree.roster import ArchiveStem, Roster
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.model import names
from up42fs.types import CNAM_STATES, Asset, CnamStatus, Order

#: How long the kernel may cache entries of branches, seconds: no change of them is pushed to it.
BRANCH_TTL_S = 60.0
#: Link count of a directory with an unknown number of subdirectories. A count of two would mean to
#: `find` that it has none; one means nothing, as on btrfs.
UNCOUNTED = 1

_TOP = {
    "orders": Node(Kind.ORDERS),
    "tags": Node(Kind.TAGS),
    "cnam": Node(Kind.CNAM),
    "assets": Node(Kind.ASSETS),
}
#: Directories whose members the catalogue knows; and all directories of assets.
VIEW_DIRS = frozenset({Kind.ASSETS, Kind.ORDER, Kind.TAG, Kind.STATUS, Kind.WORKSPACE})
#: Directories whose members a branch finds.
FOUND_DIRS = frozenset({Kind.QUERY, Kind.JOB})
ASSET_DIRS = VIEW_DIRS | FOUND_DIRS
#: Directories of the top level that are listed only if they have something to show.
WORKSPACES = "workspaces"
_WORKSPACES, _JOBS = Node(Kind.WORKSPACES), Node(Kind.JOBS)
#: Built directories of branches that are kept.
MOST_BRANCH_DIRS = 256
#: With more changed assets than this, directories are rebuilt instead.
MOST_ONE_BY_ONE = 256
#: Larger directories of assets have a link count of `UNCOUNTED` until they are listed.
MOST_COUNTED = 10_000
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_STATUSES = {status.value: Node(Kind.STATUS, status.value) for status in CNAM_STATES}


@dataclass(frozen=True, slots=True)
class Change:
    """Names of a directory that the kernel may have cached with an outdated meaning."""

    parent: Node
    names: tuple[str, ...]


class Layout:
    """Directories of named nodes over an index."""

    def __init__(
        self,
        index: Index,
        virtual_names: Iterable[str],
        branches: Sequence[Branch] = (),
        tag_directories: TagDirectories | None = None,
        archives: ArchiveNames | None = None,
        virtual_at_top: Iterable[str] = (),
    ) -> None:
        """With `archives` the members of archives stand in directories beside them."""
        self._index = index
        self._archives = archives
        self._empty_tags = tag_directories or TagDirectories()
        self._branches = {kind: branch for branch in branches for kind in branch.kinds}
        self._top = dict(_TOP)
        for branch in branches:
            self._top |= branch.top
        self._files_at_top = {name: Node(Kind.VIRTUAL, name) for name in virtual_at_top}
        self._top |= self._files_at_top
        self._has_files = Kind.FILES in self._branches
        self._listed_stem: ArchiveStem | None = None
        if self._has_files and archives is not None and archives.lists:
            self._listed_stem = archives.archive_stem
        #: Number of changes so far: while it stays the same, so do the views' listings.
        self.changes = 0
        self._rosters: dict[Node, Roster] = {}
        self._lists: dict[Node, dict[str, Node]] = {}
        #: How many directories of files stand in a directory that nobody has listed.
        self._counted: dict[Node, int] = {}
        self._passing: LRUCache[Node, dict[str, Node]] = LRUCache(MOST_BRANCH_DIRS)
        self._assets: dict[str, Node] = {}
        #: (directory, name) -> the node that had this name before its file's extension was learned.
        self._former: dict[tuple[Node, str], Node] = {}
        self._virtual = {name: Node(Kind.VIRTUAL, name) for name in virtual_names}
        self._builders: dict[Kind, Callable[[Node], dict[str, Node]]] = {
            Kind.ROOT: lambda _: self._tops(),
            Kind.CNAM: lambda _: _STATUSES,
            Kind.CONTROL: lambda _: self._virtual,
            Kind.ORDERS: lambda _: self._orders(),
            Kind.TAGS: lambda _: self._tags(),
            Kind.WORKSPACES: lambda _: self._workspaces(),
        }
        self._builders |= {kind: branch.children for kind, branch in self._branches.items()}
        for kind in FOUND_DIRS:
            self._builders[kind] = lambda node: self._roster(node).names

    async def prepare(self, node: Node) -> bool:
        """Load what `children(node)` needs; raises an `Up42fsError`. May send requests.

        Returns whether its entries changed, as far as known.
        """
        branch = self._branches.get(node.kind)
        if branch is None or not await branch.prepare(node):
            return False
        before = self._passing.pop(node, None)
        return before is not None and before != self.children(node)

    def label(self, node: Node) -> str:
        """The display name of a directory of assets: order name, tag, query."""
        order = self._index.orders.get(node.id) if node.kind is Kind.ORDER else None
        return (order.display_name if order else None) or node.id

    def members(self, node: Node) -> Iterable[Asset]:
        """The assets of a directory of assets."""
        ids, assets = self._member_ids(node), self._index.assets
        return assets.values() if ids is None else [assets[id_] for id_ in ids]

    def _member_ids(self, node: Node) -> Iterable[str] | None:
        """The IDs of the assets of a directory of assets; None for all assets."""
        match node.kind:
            case Kind.ORDER:
                return self._index.ids_of_order(node.id)
            case Kind.TAG:
                return self._index.ids_with_tag(node.id)
            case Kind.STATUS:
                return self._index.ids_with_status(CnamStatus(node.id))
            case Kind.WORKSPACE:
                return self._index.assets.ids_of_workspace(node.id)
            case kind if kind in FOUND_DIRS:
                return [asset.id for asset in self._branches[node.kind].members(node)]
            case _:
                return None

    def asset(self, asset_id: str) -> Node:
        """The node of an asset, the same object wherever it is listed."""
        node = self._assets.get(asset_id)
        if node is None:
            node = self._assets[asset_id] = asset_node(asset_id)
        return node

    def _roster(self, node: Node) -> Roster:
        members = self._index.assets.outlines(self._member_ids(node))
        place = str(node) if self._has_files else None
        return Roster(members, self.asset, place, self._listed_stem)

    def children(self, node: Node) -> Mapping[str, Node]:
        """Listed names of a directory and their nodes, oldest first if they have an age."""
        roster = self._rosters.get(node)
        if roster is not None:
            return roster.names
        if node.kind in VIEW_DIRS:
            roster = self._rosters[node] = self._roster(node)
            return roster.names
        kept: MutableMapping[Node, dict[str, Node]] = (
            self._passing if node.kind in self._branches else self._lists
        )
        built = kept.get(node)
        if built is None:
            built = kept[node] = self._builders[node.kind](node)
        return built

    def forget(self, node: Node) -> None:
        """Build a list again when it is next needed, where no kernel keeps its names."""
        self._lists.pop(node, None)

    def find(self, parent: Node, name: str) -> Node | None:
        """The node of `name` in `parent`: a listed name, or else an ID."""
        if parent == ROOT and name == CONTROL_DIR:
            return CONTROL
        listed = self.children(parent).get(name)
        if listed is not None:
            return listed
        branch = self._branches.get(parent.kind)
        found = branch.find(parent, name) if branch is not None else self._alias(parent, name)
        if found is None and self._former:
            former = self._former.get((parent, name))
            return former if former is not None and self.exists(former) else None
        return found

    def lists(self, parent: Node, name: str, node: Node) -> bool:
        """Whether `parent` lists `name` as `node`, so that changes of it are reported."""
        if (parent, name) == (ROOT, CONTROL_DIR):
            return node == CONTROL
        return self.exists(parent) and self.children(parent).get(name) == node

    def places(self, file: Node) -> Iterator[Change]:
        """The names of a file in all directories that were built."""
        asset = self._index.assets.get(file.id)
        if file.kind is Kind.MEMBER:
            yield from self._places_of_member(file)
            return
        for directory, roster in self._rosters.items():
            if asset is not None and file.kind is Kind.ASSET and _belongs(asset, directory):
                yield from _change(directory, _names_of(file, roster.names))
        for kept in (self._lists, self._passing):
            for directory, children in kept.items():
                yield from _change(directory, _names_of(file, children))

    def _places_of_member(self, file: Node) -> Iterator[Change]:
        archive_id = member_ids.archive_of(file)
        for directory, children in self._passing.items():
            if directory.kind is Kind.MEMBERS and member_ids.archive_of(directory) == archive_id:
                yield from _change(directory, _names_of(file, children))

    def exists(self, node: Node) -> bool:
        """Whether the storage still has the node."""
        branch = self._branches.get(node.kind)
        if branch is not None:
            return branch.exists(node)
        match node.kind:
            case Kind.ASSET:
                return node.id in self._index.assets
            case Kind.ORDER:
                return self._index.has_order(node.id)
            case Kind.TAG:
                return node.id in self._index.tags() or node.id in self._empty_tags.held
            case Kind.WORKSPACES:
                return self._index.has_workspaces
            case Kind.WORKSPACE:
                return node.id in self._index.workspaces()
            case Kind.VIRTUAL:
                return node.id in self._virtual or node.id in self._files_at_top
            case _:
                return True

    def links(self, node: Node) -> int:
        """Link count: an asset's names in the four views; a directory and its subdirectories."""
        branch = self._branches.get(node.kind)
        if branch is not None:
            return branch.links(node)
        match node.kind:
            case Kind.ASSET:
                figures = self._index.assets.figures(node.id)
                return figures.names if figures is not None else 1
            case Kind.ROOT:
                return 2 + len(self.children(node)) - len(self._files_at_top)
            case Kind.ORDERS | Kind.TAGS | Kind.CNAM | Kind.WORKSPACES:
                return 2 + len(self.children(node))
            case Kind.VIRTUAL:
                return 1
            case Kind.ORDER if not self._index.is_complete:
                return UNCOUNTED
            case kind if kind in VIEW_DIRS and self._directories(node) is None:
                return UNCOUNTED
            case kind if kind in VIEW_DIRS:
                return 2 + (self._directories(node) or 0)
            case _:
                return 2

    def _directories(self, node: Node) -> int | None:
        """Number of directories in a directory of assets; None if counting takes too long."""
        roster = self._rosters.get(node)
        if roster is not None:
            return roster.directories
        if not self._has_files:
            return 0
        if self._listed_stem is not None:
            return self._counted_with_archives(node, self._listed_stem)
        if node.kind is Kind.ASSETS or node.id == CnamStatus.SUCCESSFUL:
            return self._index.count(CnamStatus.SUCCESSFUL)
        if node.kind is Kind.STATUS:
            return 0
        count = self._counted.get(node)
        if count is None:
            # `ls -l` of orders comes here once an order, and a look at each of its assets each time
            # would keep readers waiting.
            ids = self._member_ids(node) or ()
            count = self._counted[node] = self._index.count_transformed(ids)
        return count

    def _counted_with_archives(self, node: Node, archive_stem: ArchiveStem) -> int | None:
        ids = self._member_ids(node)
        if len(self._index.assets if ids is None else list(ids)) > MOST_COUNTED:
            return None
        count = self._counted.get(node)
        if count is None:
            count = self._counted[node] = sum(
                is_transformed or archive_stem(asset_id, wish) is not None
                for _, asset_id, wish, is_transformed in self._index.assets.outlines(ids)
            )
        return count

    def withdraw(self, asset_id: str, refute: Callable[[], None]) -> Iterator[Change]:
        """Remove the directories of an asset, or a member, that is no archive.

        `refute` makes that known. Yields the names that are gone.
        """
        gone: dict[Node, Iterable[str]] = {}
        asset = self._index.assets.get(asset_id)
        if asset is None:  # it is a member of another archive, or has left
            rebuilt = list(self._built_of(member_ids.asset_id_of(asset_id)))
        else:
            rebuilt = [node for node in self._passing if node.kind in FOUND_DIRS]
            rebuilt += self._withdrawn(asset, gone)
        refute()
        self.changes += 1
        self._counted.clear()
        for node in rebuilt:
            old = self.children(node)
            self._rosters.pop(node, None)
            self._passing.pop(node, None)
            gone[node] = _differences(old, self.children(node))
        for node, names_ in gone.items():
            yield from _change(node, names_)

    def outdated(self, asset_id: str) -> Iterator[Change]:
        """Yield the names of an asset's members in all directories that were built; drop these."""
        for node in self._built_of(asset_id):
            yield from _change(node, self._passing.pop(node))

    def _built_of(self, asset_id: str) -> list[Node]:
        """The built directories of an asset's members."""
        return [
            node
            for node in self._passing
            if node.kind is Kind.MEMBERS and member_ids.asset_id_of(node.id) == asset_id
        ]

    def _withdrawn(self, asset: Asset, gone: dict[Node, Iterable[str]]) -> Iterator[Node]:
        """Remove the directories of an asset, noted in `gone`; yield those to be built again."""
        member = self._index.assets.outline(asset)
        for node, roster in self._rosters.items():
            before: dict[str, Node | None] = {}
            if not _belongs(asset, node):
                continue
            if roster.withdraw(member, before):
                gone[node] = before
            else:
                yield node

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """(createdAt, updatedAt) of the node's object, None if the tree's own times apply."""
        branch = self._branches.get(node.kind)
        if branch is not None:
            return branch.times(node)
        thing: Asset | Order | None = None
        if node.kind is Kind.ASSET:
            thing = self._index.assets[node.id]
        elif node.kind is Kind.ORDER:
            thing = self._index.orders.get(node.id)
        return None if thing is None else (thing.created_at, thing.updated_at)

    def apply(self, delta: Delta) -> Iterator[Change]:
        """Follow `delta` in the built directories; yield the names whose meaning changed."""
        self.changes += 1
        if self._archives is not None:
            self._archives.follow(delta)
        if delta.assets:
            self._counted.clear()
        self._empty_tags.held.difference_update(
            tag for tag in delta.tags if tag in self._index.tags()
        )
        for node in [node for node in self._rosters if _touched(node, delta)]:
            changed = self._follow(node, delta)
            self._remember(node, changed, delta)
            yield from _change(node, changed)
        for kept in (self._lists, self._passing):
            for node in [node for node in kept if _touched(node, delta)]:
                old = kept.pop(node)
                if node.kind is Kind.MEMBERS and self.exists(node):
                    continue  # built again from its table, which `prepare` checks
                # Kept as empty: if it comes back, names that the kernel cached as absent are
                # reported.
                new = self.children(node) if self.exists(node) else kept.setdefault(node, {})
                self._remember(node, old, delta)
                yield from _change(node, _differences(old, new))
        for asset_id in delta.assets:
            if asset_id not in self._index.assets:
                self._assets.pop(asset_id, None)

    def _remember(self, node: Node, was: Mapping[str, Node | None], delta: Delta) -> None:
        """Keep the former name of a file that got another extension usable."""
        for name, before in was.items() if delta.extensions else ():
            if before is not None and before.id in delta.extensions and before.kind is Kind.ASSET:
                self._former[node, name] = before

    def _follow(self, node: Node, delta: Delta) -> Mapping[str, Node | None]:
        """Update a roster to the index; return the changed names with their former nodes."""
        roster = self._rosters[node]
        before: dict[str, Node | None] = {}
        one_by_one = self.exists(node) and len(delta.assets) <= MOST_ONE_BY_ONE
        if self._archives is not None and self._archives.restored:
            one_by_one = False
        if one_by_one and all(
            roster.change(*members, before) for members in self._member_changes(node, delta)
        ):
            return {name: was for name, was in before.items() if roster.names.get(name) != was}
        old: dict[str, Node | None] = {**roster.names, **before}
        new = self._rosters[node] = self._roster(node)
        return {name: old.get(name) for name in _differences(old, new.names)}

    def _member_changes(
        self, node: Node, delta: Delta
    ) -> Iterator[tuple[Outline | None, Outline | None]]:
        for asset_id in delta.assets:
            was, now = delta.was.get(asset_id), self._index.assets.get(asset_id)
            learned = self._index.assets.extensions.get(asset_id)
            named_by = delta.extensions.get(asset_id, learned)
            by = self._index.assets.outline_by
            before = by(was, named_by) if was is not None and _belongs(was, node) else None
            after = by(now, learned) if now is not None and _belongs(now, node) else None
            if before is not None or after is not None:
                yield before, after

    def _tops(self) -> dict[str, Node]:
        """The top level: also workspaces if there are several, and jobs if they left results."""
        top = dict(self._top)
        if self._index.has_workspaces:
            top[WORKSPACES] = _WORKSPACES
        if Kind.JOBS in self._branches and self._index.has_results:
            top["jobs"] = _JOBS
        return top

    def _workspaces(self) -> dict[str, Node]:
        return _assign(
            Kind.WORKSPACE,
            (
                names.NameWish(id_, (0.0, id_), names.safe_name(id_) or "_")
                for id_ in self._index.workspaces()
            ),
        )

    def _orders(self) -> dict[str, Node]:
        orders = self._index.orders
        return _assign(
            Kind.ORDER,
            (_order_entry(orders.get(order_id), order_id) for order_id in self._index.order_ids()),
        )

    def _tags(self) -> dict[str, Node]:
        tags = {*self._index.tags(), *self._empty_tags.held}
        by_digest = {_digest(tag): tag for tag in tags}
        named = names.assign(_tag_entry(tag, digest) for digest, tag in by_digest.items())
        return {name: Node(Kind.TAG, by_digest[digest]) for digest, name in named.items()}

    def _alias(self, parent: Node, name: str) -> Node | None:
        id_ = name.lower()
        match parent.kind:
            case Kind.ROOT if name == "jobs" and Kind.JOBS in self._branches:
                return _JOBS
            case Kind.WORKSPACES if id_ in self._index.workspaces():
                return Node(Kind.WORKSPACE, id_, name)
            case Kind.ORDERS if self._index.has_order(id_):
                return Node(Kind.ORDER, id_, name)
            case kind if kind in ASSET_DIRS:
                if self._is_member(parent, id_):
                    return Node(Kind.ASSET, id_)
                return self._directory_alias(parent, name)
            case _:
                return None

    def _directory_alias(self, parent: Node, name: str) -> Node | None:
        """The directory of an asset under a name that is not listed: by its ID, or if hidden."""
        if not self._has_files or self._archives is None:
            return None
        place = f"{parent}/{name}"
        if name.endswith(names.FILES_SUFFIX):
            id_ = name.removesuffix(names.FILES_SUFFIX).lower()
            if self._is_member(parent, id_):
                if self._index.is_transformed(id_):
                    return Node(Kind.FILES, id_, place)
                wish = self._index.assets.wish(self._index.assets[id_])
                return self._shown_archive(Node(Kind.ASSET, id_), wish, place)
        if self._archives.lists:
            return None
        for stem in (name, name.removesuffix(names.FILES_SUFFIX)):
            for file_name in archive_names(stem):
                node = self.children(parent).get(file_name)
                found = None if node is None else self._shown_archive(node, file_name, place)
                if found is not None:
                    return found
        return None

    def _shown_archive(self, node: Node, file_name: str, place: str) -> Node | None:
        """The directory of an archive that UP42 did not transform; None for other nodes."""
        is_shown = (
            node.kind is Kind.ASSET
            and self._archives is not None
            and not self._index.is_transformed(node.id)
            and self._archives.archive_stem(node.id, file_name) is not None
        )
        return Node(Kind.MEMBERS, node.id, place) if is_shown else None

    def _is_member(self, parent: Node, asset_id: str) -> bool:
        asset = self._index.assets.get(asset_id)
        return asset is not None and _belongs(asset, parent)


def _belongs(asset: Asset, directory: Node) -> bool:
    """Whether an asset is a member of one of the views."""
    match directory.kind:
        case Kind.ORDER:
            return asset.order_id == directory.id
        case Kind.TAG:
            return directory.id in asset.tags
        case Kind.STATUS:
            return asset.cnam_status == directory.id
        case Kind.WORKSPACE:
            return asset.workspace_id == directory.id
        case _:
            return True


def _names_of(file: Node, children: Mapping[str, Node]) -> list[str]:
    return [name for name, node in children.items() if node == file]


def _differences(old: Mapping[str, Node | None], new: Mapping[str, Node]) -> list[str]:
    return [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]


def _change(node: Node, changed: Iterable[str]) -> Iterator[Change]:
    names_ = tuple(sorted(changed))
    if names_:
        yield Change(node, names_)


def is_id(name: str) -> bool:
    """Whether `name` has the form of an ID (contract §2.2, §4.2: UUIDs), in any case."""
    return _ID.fullmatch(name) is not None


def _touched(node: Node, delta: Delta) -> bool:
    match node.kind:
        case Kind.ORDERS:
            return delta.renames_orders
        case Kind.TAGS:
            return delta.renames_tags
        case Kind.ROOT | Kind.ASSETS | Kind.WORKSPACES | Kind.WORKSPACE:
            return bool(delta.assets)
        case Kind.QUERY | Kind.JOB:
            return bool(delta.assets or delta.orders)
        case Kind.ORDER:
            return node.id in delta.orders
        case Kind.TAG:
            return node.id in delta.tags
        case Kind.STATUS:
            return CnamStatus(node.id) in delta.statuses
        case Kind.FILES | Kind.ITEM:
            return node.id.partition("/")[0] in delta.assets
        case Kind.MEMBERS:
            return member_ids.asset_id_of(node.id) in delta.assets
        case _:
            return False


def _assign(kind: Kind, entries: Iterable[names.NameWish]) -> dict[str, Node]:
    return {name: Node(kind, id_) for id_, name in names.assign(entries).items()}


def _order_entry(order: Order | None, order_id: str) -> names.NameWish:
    # An order that `/v2/orders` does not list counts as newest: listing it later renames only it.
    age = order.created_at.timestamp() if order else float("inf")
    wish = names.safe_name(order.display_name if order else None) or names.safe_name(order_id)
    return names.NameWish(order_id, (age, order_id), wish or "_")


def _tag_entry(tag: str, digest: str) -> names.NameWish:
    # Tags have neither age nor ID. Tags that are valid names come before those that had to be
    # changed; among clashing ones all but the first show a digest of their text.
    wish = names.safe_name(tag) or "_"
    return names.NameWish(digest, (float(wish != tag), tag), wish)


def _digest(tag: str) -> str:
    return blake2b(tag.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

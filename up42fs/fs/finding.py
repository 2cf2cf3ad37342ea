"""Finds names: waits until a directory is known, no longer than a user would, and looks them up.

What a directory shows comes from the catalogue's listings, from one order or one name that is asked
for alone, or from a branch that is loaded when somebody enters it (rule 1 of `fs.filesystem`).
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from up42fs.catalog.index import ListingKind
from up42fs.catalog.sync import MOST_WAITS, Sync
from up42fs.deadlines import request_s, within
from up42fs.errors import CrowdRefused, Up42fsError
from up42fs.fs.files.ledger import Watch
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.layout import WORKSPACES, is_id
from up42fs.fs.tree.nodes import BRANCH_KINDS, Kind, Node
from up42fs.fs.whole_tree import WholeTree
from up42fs.model.names import ID, split_extension
from up42fs.net.silence import BRIEFLY_S, Silence

#: How long a lookup or opendir waits for the first listing when nothing comes of it, seconds; and
#: in any case.
LISTING_TIMEOUT_S = request_s(25.0)
LISTING_LIMIT_S = MOST_WAITS * LISTING_TIMEOUT_S
#: The longest that it waits for the data of a branch's directory, seconds.
BRANCH_TIMEOUT_S = LISTING_TIMEOUT_S
_NEEDS: dict[Kind, tuple[ListingKind, ...]] = {
    Kind.ORDERS: (ListingKind.ORDERS,),
    Kind.TAGS: (ListingKind.ASSETS,),
    Kind.TAG: (ListingKind.ASSETS,),
    Kind.STATUS: (ListingKind.ASSETS,),
    Kind.ASSETS: (ListingKind.ASSETS,),
    Kind.WORKSPACES: (ListingKind.ASSETS,),
    Kind.WORKSPACE: (ListingKind.ASSETS,),
    Kind.JOBS: (ListingKind.ASSETS,),
    Kind.STAC: (ListingKind.ASSETS,),
    Kind.SEARCH: (ListingKind.ASSETS, ListingKind.ORDERS),
}
#: Directories that show a listing whole.
_LONG = {Kind.ASSETS: ListingKind.ASSETS, Kind.ORDERS: ListingKind.ORDERS}


class Finder:
    """Names in the directories of one tree. `outdated` takes a directory whose times moved."""

    def __init__(
        self,
        tree: WholeTree,
        catalogue: Sync,
        watch: Watch | None,
        outdated: Callable[[Node], None],
    ) -> None:
        self._tree = tree
        self._catalogue = catalogue
        self._watch = watch
        self._outdated = outdated
        self._silence = Silence()

    async def listed(self, directory: Node, name: str | None = None) -> None:
        """Return once the directory is known, or at least the `name` that is looked up in it."""
        needs = _NEEDS.get(directory.kind)
        if self._catalogue.asks_for_names:
            if directory.kind is Kind.ROOT and name is None:
                # A mount's listing comes in the background; here nothing does.
                await self._catalogue.ready_top(timeout_s=LISTING_TIMEOUT_S)
                self._tree.layout.forget(directory)
            elif directory.kind is Kind.ROOT and name == WORKSPACES:
                needs = (ListingKind.ASSETS,)
            elif name is not None and await self._is_asked_for(directory, name):
                return
        if needs:
            await self._catalogue.ready(*needs, timeout_s=LISTING_TIMEOUT_S)
        elif directory.kind is Kind.ORDER:
            await self._catalogue.ready_order(directory.id, timeout_s=LISTING_TIMEOUT_S)
        if directory.kind is Kind.MEMBERS:
            await self._prepared(directory)  # waits while bytes arrive, by a rule of its own
        elif directory.kind in BRANCH_KINDS:
            await self._fetched(directory)

    async def _fetched(self, directory: Node) -> None:
        """Wait for a branch's directory; not in full while UP42 tells nothing of one after another.

        The request goes on when nobody waits for it, and later calls find its answer.
        """
        told = self._silence.told(trio.current_time())
        if told is None:
            late = f"UP42 has not told within {BRANCH_TIMEOUT_S:.0f} s what is in here: try again"
            with self._silence.waited_for(trio.current_time), within(BRANCH_TIMEOUT_S, late):
                await self._prepared(directory)
            return
        try:
            with trio.move_on_after(BRIEFLY_S):
                await self._prepared(directory)
                self._silence.ended_early()
                return
        except Up42fsError as error:
            self._silence.ended_early(error)
            raise
        raise type(told)(
            "what is in here was not waited for, as UP42 told nothing of other directories before; "
            f"the last error: {told}"
        ) from told

    async def _is_asked_for(self, directory: Node, name: str) -> bool:
        """Whether a name in a long listing is known after asking for it alone."""
        kind = _LONG.get(directory.kind)
        if kind is None:
            return False
        asked = split_extension(name)[0] if self._tree.index.named_by == ID else name
        await self._catalogue.ready_name(
            kind, asked, by_id=is_id(asked), timeout_s=LISTING_TIMEOUT_S
        )
        return self._find(directory, name) is not None

    async def _prepared(self, directory: Node) -> None:
        """Load a directory of a branch; invalidate it if its times changed."""
        asset_id = self._tree.branches.asset_id_of(directory)
        if asset_id is None or directory.kind is Kind.MEMBERS:
            if await self._tree.layout.prepare(directory):
                self._tree.moments.move(directory)
                self._outdated(directory)
            return
        before_ns = self._tree.branches.registry.latest_ns(asset_id)
        await self._tree.layout.prepare(directory)
        self._tree.layout.children(directory)
        if self._tree.branches.registry.latest_ns(asset_id) != before_ns:
            self._outdated(directory)

    async def found(self, directory: Node, name: str) -> Node | None:
        await self._tree.branches.recall(directory, name)
        node = self._find(directory, name)
        is_order = directory.kind is Kind.ORDERS
        if node is None and is_order and self._catalogue.may_know_more(by_id=is_id(name)):
            # An order that UP42 does not list is known only through its assets.
            await self._catalogue.ready(ListingKind.ASSETS, timeout_s=LISTING_TIMEOUT_S)
            node = self._find(directory, name)
        return node

    def _find(self, directory: Node, name: str) -> Node | None:
        listed = self._tree.layout.find(directory, name)
        return listed if listed is not None else self._tree.branches.made_in(directory, name)

    def require_known(self, directory: Node, program: Callable[[], str]) -> None:
        """Keep crowds, which open every directory, from reading the table of every archive."""
        archives = self._tree.branches.archives
        if directory.kind is not Kind.MEMBERS or archives is None or self._watch is None:
            return
        archive_id = member_ids.archive_of(directory)
        if archives.tables.held.get(archive_id) is not None:
            return
        if not self._watch.is_crowd(name := program()):
            return
        if not (archives.is_quickly_read(archive_id) and self._watch.may_look(name)):
            raise CrowdRefused(f"{name} may not look into archives; see the option crowd")

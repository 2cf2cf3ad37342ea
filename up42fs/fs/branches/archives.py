"""Directories of archives' members: beside an archive, and in `original/` of a transformed asset.

Knows which assets are shown as archives and what their members' nodes are; nothing of how a table
is read (`archive_tables`) or of inodes.

Theory. Names cost no request: an asset is an archive if its file name says so, until a look at its
bytes refutes that. A refuted asset loses its directory at once, and is remembered with the stamp of
the bytes: other bytes get another chance. A transformed asset's directory holds the files that UP42
made of it; its members stand in `original/` there, which resolves by name and is not listed, so
that no program that walks the tree meets a scene twice. Members of archives in archives are not
listed either: a copy of a directory holds what unpacking the archive makes, no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple
from weakref import WeakValueDictionary

import trio

from up42fs.archive.kinds import ArchiveKind, kind_of, stem_of
from up42fs.archive.table import Member, MemberKind, RefusalKind
from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.member_tables import NO_ARCHIVE
from up42fs.deadlines import request_s
from up42fs.errors import (
    CannotUnpack,
    DamagedArchive,
    Encrypted,
    InvalidArgument,
    NotADirectory,
    Up42fsError,
    VersionChanged,
)
from up42fs.fs.branches.archive_tables import ArchiveTables
from up42fs.fs.branches.member_tree import MemberTree
from up42fs.fs.branches.transformed import ORIGINAL
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.layout import UNCOUNTED
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.store.members.extent import Extent
from up42fs.types import Asset

log = logging.getLogger(__name__)

#: How long a document waits for the members that it would name, seconds.
LOOK_S = request_s(10.0)
#: An empty zip has this many bytes; shorter files are no archives, whatever their name.
LEAST_BYTES = 22
_ERRORS: dict[RefusalKind, type[Up42fsError]] = {
    RefusalKind.ENCRYPTED: Encrypted,
    RefusalKind.UNSUPPORTED: CannotUnpack,
    RefusalKind.DAMAGED: DamagedArchive,
}

Keep = Callable[[str, bytes | None], None]


class MemberFile(NamedTuple):
    """What opening a member needs: its extent, its label in messages, and its table's stamp."""

    member: Member
    extent: Extent
    label: str
    stamp: str | None


class Archives:
    """The branch of MEMBERS, MEMBER and MEMBER_LINK nodes, and which assets have one.

    With `lists` the directories beside untransformed archives are listed. `refuted` maps assets to
    the stamp of bytes that were found to be no archive; `keep` stores one for later mounts.
    """

    kinds = frozenset({Kind.MEMBERS, Kind.MEMBER, Kind.MEMBER_LINK})
    top: Mapping[str, Node] = {}

    def __init__(
        self,
        index: Index,
        tables: ArchiveTables,
        *,
        lists: bool = True,
        refuted: Mapping[str, str] | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._index = index
        self.tables = tables
        self.lists = lists
        #: Whether the last change made an archive of an asset that was none.
        self.restored = False
        self._keep = keep or (lambda _question, _value: None)
        self._refuted = dict(refuted or {})
        self._shown: WeakValueDictionary[Node, MemberTree] = WeakValueDictionary()
        #: Called with an asset, or a member, that is no archive, and a function that notes it.
        self.on_refuted: Callable[[str, Callable[[], None]], None] = lambda _id, note: note()

    # which assets are archives -------------------------------------------------------------

    def archive_stem(self, asset_id: str, wish: str) -> str | None:
        """The wished-for name of an asset without its ending; None if it is no archive."""
        stem = stem_of(wish)
        if stem == wish or asset_id in self._refuted:
            return None
        size = self._index.assets.size(asset_id)
        return stem.rstrip() if size is None or size >= LEAST_BYTES else None

    def follow(self, delta: Delta) -> None:
        """Give assets another chance whose bytes may have changed, and forget removed ones."""
        self.restored = False
        for asset_id in delta.assets:
            was, now = delta.was.get(asset_id), self._index.assets.get(asset_id)
            if now is None:
                self.tables.forget(asset_id)
            elif was is not None and _is_short(was) != _is_short(now):
                self.restored = True
            for id_ in self._refuted_of(asset_id) if self._refuted else ():
                if self._refuted[id_] != self.tables.stamp(id_):
                    del self._refuted[id_]
                    self._keep(NO_ARCHIVE + id_, None)
                    self.restored = True

    def _refuted_of(self, asset_id: str) -> list[str]:
        if asset_id in self._refuted:
            return [asset_id]
        return [id_ for id_ in self._refuted if member_ids.asset_id_of(id_) == asset_id]

    def original_of(self, files: Node) -> Node | None:
        """The directory of a transformed asset's members, below its directory of files."""
        asset = self._index.assets.get(files.id)
        if asset is None or not self.archive_stem(asset.id, self._index.assets.wish(asset)):
            return None
        return member_ids.top_of(asset.id, f"{files}/{ORIGINAL}")

    # the branch ----------------------------------------------------------------------------

    async def prepare(self, node: Node) -> bool:
        """Load the archive's table; return whether another one was shown before.

        Raises NotADirectory if it is no archive, and withdraws its directory then.
        """
        archive_id = member_ids.archive_of(node)
        try:
            tree = await self.tables.get(archive_id)
        except NotADirectory:
            self._refute(archive_id)
            raise
        if node.kind is not Kind.MEMBERS:
            return False
        changed = self._shown.get(node) is not tree
        self._shown[node] = tree
        return changed

    def _refute(self, archive_id: str) -> None:
        stamp = self.tables.stamp(archive_id)
        if stamp is None or archive_id in self._refuted:
            return

        def note() -> None:
            self._refuted[archive_id] = stamp
            self._keep(NO_ARCHIVE + archive_id, stamp.encode())

        self.on_refuted(archive_id, note)

    def children(self, node: Node) -> dict[str, Node]:
        """The members in a prepared directory."""
        tree = self._shown.get(node)
        return {} if tree is None else tree.children(node)

    def members(self, node: Node) -> Iterable[Asset]:
        """Empty: these are not directories of assets."""
        return ()

    def find(self, parent: Node, name: str) -> Node | None:
        """The directory of an archive in the archive; it is never listed."""
        tree = self._shown.get(parent)
        archive = None if tree is None else tree.nested(parent, name)
        if archive is None or archive.id in self._refuted:
            return None
        return member_ids.top_of(archive.id, f"{parent}/{name}")

    def exists(self, node: Node) -> bool:
        """Whether the asset is still there, and as far as known the member in it."""
        asset_id = member_ids.asset_id_of(node.id)
        archive_id = member_ids.archive_of(node)
        if asset_id not in self._index.assets or archive_id in self._refuted:
            return False
        tree = self.tables.held.get(archive_id)
        return tree is None or tree.holds(node)

    def links(self, node: Node) -> int:
        """A file's names in all places; of a directory, 2 plus its subdirectories."""
        tree = self.tables.held.get(member_ids.archive_of(node))
        if tree is None:
            return UNCOUNTED if node.kind is Kind.MEMBERS else 1
        if node.kind is Kind.MEMBERS:
            return 2 + tree.subdirectories(node)
        asset_id = member_ids.asset_id_of(node.id)
        figures = self._index.assets.figures(asset_id)
        is_listed = self.lists and not self._index.is_transformed(asset_id)
        return tree.links(node) * (figures.names if figures is not None and is_listed else 1)

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """The times of the delivery; a member's own are `member(node).mtime_ns`."""
        asset = self._index.assets.get(member_ids.asset_id_of(node.id))
        return None if asset is None else (asset.created_at, asset.updated_at)

    def is_quickly_read(self, archive_id: str) -> bool:
        """Whether the members of an archive are known after a range or two, by its name."""
        return kind_of(self.tables.name(archive_id)) is ArchiveKind.ZIP

    # for documents -------------------------------------------------------------------------

    def is_shown(self, asset_id: str) -> bool:
        """Whether an asset is an archive that UP42 did not transform."""
        asset = self._index.assets.get(asset_id)
        if asset is None or self._index.is_transformed(asset_id):
            return False
        return self.archive_stem(asset_id, self._index.assets.wish(asset)) is not None

    async def look(self, asset_id: str) -> None:
        """Load the table of an archive for `paths`, if that is a matter of a range or two.

        That of a tar is taken if it was read before, in this mount or an earlier one.

        Raises nothing: a document that cannot name the members is made without them.
        """
        try:
            if not self.is_quickly_read(asset_id) and await self.tables.kept(asset_id) is None:
                return
            with trio.move_on_after(LOOK_S):
                await self.prepare(member_ids.top_of(asset_id, ""))
        except Up42fsError as error:
            log.debug("the members of asset %s are not named: %s", asset_id, error)

    def paths(self, asset_id: str) -> Iterator[str]:
        """The paths of an archive's files, as far as its table is in memory."""
        tree = self.tables.held.get(asset_id)
        for member in tree.table.members if tree is not None else ():
            if member.kind is MemberKind.FILE and member.refusal is None:
                yield member.path

    # members -------------------------------------------------------------------------------

    def keeps(self, directory: Node) -> object:
        """Something that keeps the table of a directory in memory while it is referred to."""
        return self._shown.get(directory) if directory.kind is Kind.MEMBERS else None

    def member(self, node: Node) -> Member | None:
        """The member of a node if its table is in memory; None for tops of archives, too."""
        tree = self.tables.held.get(member_ids.archive_of(node))
        if tree is None:
            return None
        return tree.directory(node) if node.kind is Kind.MEMBERS else tree.member(node)

    def file(self, node: Node) -> MemberFile:
        """What opening a prepared member needs; raises VersionChanged if it is gone."""
        archive_id = member_ids.archive_of(node)
        tree = self.tables.held.get(archive_id)
        member = None if tree is None else tree.member(node)
        if tree is None or member is None:
            raise VersionChanged(f"member {node.id} is no longer in its archive")
        label = f"{member.path} of {self.tables.label(archive_id)}"
        return MemberFile(member, tree.extent(member), label, tree.stamp)

    def require_openable(self, node: Node) -> None:
        """Raise the error for a member that cannot be opened."""
        file = self.file(node)
        refusal = file.member.refusal
        if refusal is not None:
            raise _ERRORS[refusal.kind](f"{file.label} {refusal.reason}")

    def target(self, node: Node) -> bytes:
        """The target of a symbolic link; raises InvalidArgument for other members."""
        member = self.file(node).member
        if node.kind is not Kind.MEMBER_LINK or member.target is None:
            raise InvalidArgument(f"{member.path} is no link")
        return member.target.encode()


def _is_short(asset: Asset) -> bool:
    return asset.size is not None and asset.size < LEAST_BYTES

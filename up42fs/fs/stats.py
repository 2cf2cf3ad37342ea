"""The attributes that `stat` shows of a node, and how long the kernel may cache them.

Everything is from memory.

The kernel may cache names and attributes for long, because every change is pushed to it by
invalidation. If edits are allowed it may not cache the names they change: the handler of an edit
cannot wait until the kernel has forgotten names of a directory that is locked for that very call.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime

from up42fs.catalog.snapshot.assets import Figures
from up42fs.errors import VersionChanged
from up42fs.fs.branches.spool import Content, Spool
from up42fs.fs.hidden import REFRESH
from up42fs.fs.privacy import document_for_others, refusal
from up42fs.fs.sidecars.file import Sidecar
from up42fs.fs.tree import member_ids, moments
from up42fs.fs.tree.inodes import ROOT_INODE
from up42fs.fs.tree.layout import BRANCH_TTL_S
from up42fs.fs.tree.nodes import (
    BRANCH_KINDS,
    FILE_KINDS,
    MEMBER_KINDS,
    ROOT,
    Attributes,
    Kind,
    Node,
)
from up42fs.fs.whole_tree import WholeTree

#: How long the kernel may cache names and attributes, seconds; finite, in case an invalidation is
#: lost.
KERNEL_TTL_S = 300.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIR_MODE = stat.S_IFDIR | 0o777
_FILE_MODE = stat.S_IFREG | 0o666
_LINK_MODE = stat.S_IFLNK | 0o777
_LINK = Node(Kind.VIRTUAL, REFRESH)
#: Archives may tell any time; later ones cannot be shown by all programs. Nanoseconds since 1970.
_LATEST_NS = (1 << 34) * 1_000_000_000
_EDITED_KINDS = frozenset({Kind.TAGS, Kind.TAG, Kind.SEARCH, Kind.QUERY})


class Stats:
    """Attributes of the nodes of one mount."""

    def __init__(self, tree: WholeTree, umask: int) -> None:
        self._tree = tree
        self._index, self._inodes, self._layout = tree.index, tree.inodes, tree.layout
        self._branches, self._sizes, self._versions = tree.branches, tree.sizes, tree.versions
        # Writable, although hardly anything can be written: copies get these modes, and must be
        # usable. On a mount that is read-only for the kernel, the kernel returns EROFS; on others
        # this program does, whereas with read-only modes the kernel would return EACCES.
        self._dir_mode = _DIR_MODE & ~(umask & 0o777)
        self._file_mode = _FILE_MODE & ~(umask & 0o777)

    def entry(self, directory: Node, name: str, node: Node) -> Attributes:
        """A node's attributes under a name, which the kernel may cache if it is listed."""
        attributes = self.of(node)
        lasts_s = self.ttl_s(directory)
        if self._layout.lists(directory, name, node):
            return attributes._replace(ttl_s=min(attributes.ttl_s, lasts_s))
        return attributes._replace(ttl_s=0.0)

    def bare(self, node: Node) -> tuple[int, int]:
        if node.kind not in FILE_KINDS:
            return self._inodes.number(node), self._dir_mode
        number = self._inodes.shown(self._inodes.number(node))
        is_link = node.kind is Kind.MEMBER_LINK or node == _LINK
        return number, _LINK_MODE if is_link else self._file_mode

    def of_asset(self, node: Node, figures: Figures, ttl_s: float) -> Attributes:
        """An asset's attributes under a name with a TTL of `ttl_s` seconds."""
        return self._stored(node, figures[0], figures, ttl_s)

    def of_file(self, node: Node, figures: Figures, ttl_s: float) -> Attributes:
        """Attributes of a transformed file; `figures` are its delivery's."""
        size, created_ns, updated_ns, names = figures
        made_ns = self._branches.registry.made_ns(node.id) or created_ns
        changed_ns = updated_ns if updated_ns > made_ns else made_ns
        names *= self._branches.registry.keys(node.id)
        figures = tuple.__new__(Figures, (size, made_ns, changed_ns, names))
        return self._stored(node, self._sizes.known(node), figures, ttl_s)

    def of_files(self, node: Node, figures: Figures, ttl_s: float) -> Attributes:
        """Attributes of an asset's directory of files."""
        mtime_ns, ctime_ns = self._of_files(node.id, figures)
        inode, links = self._inodes.number(node), self._layout.links(node)
        lasts_s = min(ttl_s, BRANCH_TTL_S)
        return Attributes(inode, self._dir_mode, links, 0, mtime_ns, ctime_ns, lasts_s)

    def _of_files(self, asset_id: str, figures: Figures) -> tuple[int, int]:
        """Times of an asset's directory of files: those of its latest file, as far as known."""
        mtime_ns = max(figures.created_ns, self._branches.registry.latest_ns(asset_id))
        return mtime_ns, max(figures.updated_ns, mtime_ns)

    def of_archive(self, node: Node, figures: Figures, ttl_s: float) -> Attributes:
        """Attributes of the top directory of an asset's members."""
        inode, links = self._inodes.number(node), self._layout.links(node)
        mtime_ns, ctime_ns = figures.created_ns, max(figures.updated_ns, figures.created_ns)
        lasts_s = min(ttl_s, BRANCH_TTL_S)
        return Attributes(inode, self._dir_mode, links, 0, mtime_ns, ctime_ns, lasts_s)

    def _of_member(self, node: Node) -> Attributes:
        """Attributes of a member, or of a directory of members, from the archive's table."""
        archives, figures = self._branches.archives, None
        if archives is not None:
            figures = self._index.assets.figures(member_ids.asset_id_of(node.id))
        member = archives.member(node) if archives is not None else None
        if figures is None or (member is None and node.kind is not Kind.MEMBERS):
            raise VersionChanged(f"{node.kind.value} {node.id} is no longer in UP42 storage")
        if member is None:
            return self.of_archive(node, figures, BRANCH_TTL_S)
        mtime_ns = min(max(member.mtime_ns, 0), _LATEST_NS) or figures.created_ns
        ctime_ns = max(figures.updated_ns, figures.created_ns)
        links, number = self._layout.links(node), self._inodes.number(node)
        if node.kind is Kind.MEMBERS:
            return Attributes(number, self._dir_mode, links, 0, mtime_ns, ctime_ns, BRANCH_TTL_S)
        if node.kind is Kind.MEMBER_LINK:
            mode, size = _LINK_MODE, len((member.target or "").encode())
        else:
            mode, size = self._file_mode, member.size
            number = self._versions.inode_of(node, size)
        return Attributes(
            *(number, mode, links, size, mtime_ns, ctime_ns, BRANCH_TTL_S, KERNEL_TTL_S, 0),
            shown_inode=self._inodes.shown(number),
            is_part=True,
        )

    def _stored(self, node: Node, size: int | None, figures: Figures, ttl_s: float) -> Attributes:
        _, created_ns, updated_ns, names = figures
        if size is None:
            size = self._versions.size_of(node)
        inode, mode = self._versions.inode_of(node, size), self._file_mode
        number = self._inodes.shown(inode)
        # As `Attributes(…)`, in half the time.
        if size is None:
            shown = (inode, mode, names, 0, created_ns, updated_ns, ttl_s, 0.0, 0, number, False)
        else:
            lasts_s = KERNEL_TTL_S
            shown = (
                inode, mode, names, size, created_ns, updated_ns, ttl_s, lasts_s, 0, number, False,
            )  # fmt: skip
        return tuple.__new__(Attributes, shown)

    def of(self, node: Node) -> Attributes:
        """Return the attributes that `stat` shows of a node; sends no request."""
        if node.kind is Kind.ASSET:
            figures = self._index.assets.figures(node.id)
            if figures is None:
                raise VersionChanged(f"asset {node.id} is no longer in UP42 storage")
            return self.of_asset(node, figures, KERNEL_TTL_S)
        if node.kind is Kind.SIDECAR and self._tree.sidecars is not None:
            return self._of_sidecar(node, self._tree.sidecars.of(node))
        if node.kind in MEMBER_KINDS:
            return self._of_member(node)
        size, ttl_s, attr_ttl_s = self._measure(node)
        mtime_ns, ctime_ns = self._times(node)
        inode = ROOT_INODE if node is ROOT else self._inodes.number(node)
        if node.kind is Kind.FILE:
            inode = self._versions.inode_of(node, self._sizes.known(node))
        links = 1 if node.kind is Kind.DOCUMENT else self._layout.links(node)
        mode = self._file_mode if node.kind in FILE_KINDS else self._dir_mode
        if node == _LINK:
            mode = _LINK_MODE
        shown = Attributes(inode, mode, links, size, mtime_ns, ctime_ns, ttl_s, attr_ttl_s)
        if node.kind is Kind.FILE:
            return shown._replace(shown_inode=self._inodes.shown(inode))
        if node.kind is Kind.TAG and self._tree.tag_directories is not None:
            return shown._replace(generation=self._tree.tag_directories.generation(node.id))
        return shown

    def _of_sidecar(self, node: Node, sidecar: Sidecar) -> Attributes:
        """Never cached, since other mounts write it, too. It has as many names as its image."""
        image = self._sizes.node(sidecar.key[0])
        if image.kind is Kind.FILE and (file := self._branches.registry.get(image.id)):
            image = image._replace(place=file.asset_id or "")
        links = self._layout.links(image) if self._layout.exists(image) else 1
        _, size, mtime_ns = sidecar.state
        return Attributes(
            self._inodes.number(node), self._file_mode, links, size, mtime_ns, mtime_ns, 0.0
        )

    def _times(self, node: Node) -> tuple[int, int]:
        """Times of the last change of content and attributes, in nanoseconds since 1970."""
        if node.kind in moments.KINDS:
            return self._tree.moments.of(node)
        asset_id = self._branches.asset_id_of(node)
        figures = self._index.assets.figures(asset_id) if asset_id else None
        if figures is not None and asset_id is not None:
            if node.kind is Kind.FILE:
                shown = self.of_file(node, figures, 0.0)
                return shown.mtime_ns, shown.ctime_ns
            return self._of_files(asset_id, figures)
        told = None if node.kind is Kind.VIRTUAL else self._told(node)
        moved_ns = self._tree.moments.moved(node)
        if told is None:
            return (moved_ns or self._tree.moments.born_ns,) * 2
        mtime_ns, ctime_ns = (max(_nanoseconds(moment), moved_ns) for moment in told)
        return mtime_ns, max(ctime_ns, mtime_ns)

    def _told(self, node: Node) -> tuple[datetime, datetime] | None:
        if node.kind is Kind.DOCUMENT:
            return self._branches.times(node)
        return self._layout.times(node)

    def _measure(self, node: Node) -> tuple[int, float, float | None]:
        match node.kind:
            case Kind.VIRTUAL:
                return len(self.render(node)), 0.0, None
            case Kind.DOCUMENT:
                made = self._branches.render(node)
                # Not rendered before its size is requested: a walk past it costs nothing.
                return (len(made), BRANCH_TTL_S, None) if made else (0, BRANCH_TTL_S, 0.0)
            case Kind.FILE:
                size = self._sizes.known(node)
                if size is None:  # forgotten, but open: 0 would truncate the file
                    size = self._versions.size_of(node)
                return size or 0, KERNEL_TTL_S, 0.0 if size is None else None
            case Kind.ORDER if node.place:
                return 0, 0.0, None
            case _:
                return 0, self.ttl_s(node), None

    def render(self, node: Node, *, is_trusted: bool = True) -> Content:
        """The content of a document or virtual file; raises VersionChanged, NotShared."""
        if node.kind is Kind.VIRTUAL:
            return self._tree.virtual.render(node.id, is_trusted=is_trusted)
        made = self._branches.render(node)
        if made is None:
            raise VersionChanged("the document is about something no longer in UP42 storage")
        if not is_trusted and self._branches.is_private(node):
            raise refusal(node.id.rpartition("/")[2])
        if is_trusted or isinstance(made, Spool):  # outlines alone are long: nothing to remove
            return made
        return document_for_others(made)

    def ttl_s(self, directory: Node) -> float:
        """How long the kernel may cache a directory's names, seconds."""
        if self._tree.tag_directories is not None and directory.kind in _EDITED_KINDS:
            return 0.0
        return BRANCH_TTL_S if directory.kind in BRANCH_KINDS else KERNEL_TTL_S


def _nanoseconds(moment: datetime) -> int:
    # By integers: a float of nanoseconds since 1970 has no exact microseconds.
    since = moment - _EPOCH
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000

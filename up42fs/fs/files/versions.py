"""One version an inode: what the kernel may hold of each, and when it needs another one.

Knows inodes, nodes and what tells versions apart; nothing of names, handles or bytes.

Theory. The kernel has one page cache and one size for an inode, whatever handles are open on it.
If two handles of different versions shared an inode, each could read the other's bytes out of that
cache, and a mapping would show them without a read. So all handles of an inode are of one version:

1. What was opened on an inode is remembered until the kernel gives the inode back: its size, its
   stamp in the catalogue, and the *pin* of the store, which holds the version that answers named.
2. A handle may join those that are open if its pin is theirs, or names the same version.
3. Otherwise the node gets another inode (`InodeTable.renew`), and the call that needs it ends in
   `OtherVersion`. That is ESTALE, at which the kernel looks the path up again and repeats the call
   with the new inode. The old inode stays with the old handles: they read what they have of their
   version, and ESTALE for the rest.
4. If nobody has the inode open, it is used again, and the kernel drops its pages at that open.
5. Pages outlive the store's memory of an object. So the version that they are of is told to the
   store at the next open (`expected`): it reads that version, or fails.
6. Versions that do not tell content apart (no ETag) are never the same but for one pin. Nothing is
   kept of them across opens, and whoever opens such a file beside others reads past the page cache.
7. The size of an open inode never changes (`inode_of`): a shorter one would look like the end of
   the file to the old handles.

Rejected: `direct_io` for whoever opens a changed file. Its mappings use the page cache all the
same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from up42fs.errors import OtherVersion
from up42fs.fs.files.ports import Pin
from up42fs.fs.tree.inodes import InodeTable
from up42fs.fs.tree.nodes import Attributes, Node
from up42fs.types import Version


class Admission(NamedTuple):
    """How a handle may use the kernel's page cache: with what is there, after it was emptied, or
    (`is_apart`) not at all.
    """

    keep_cache: bool
    is_apart: bool = False


@dataclass(slots=True)
class _Shown:
    """What was opened on one inode last."""

    node: Node
    size: int
    stamp: str | None
    pin: Pin
    version: Version | None = None
    handles: int = 0
    is_doubted: bool = False

    def settle(self) -> Version | None:
        """The version that the inode shows, None where no byte of any was read."""
        self.version = self.pin.version or self.version
        return self.version

    def is_same(self, size: int, pin: Pin) -> bool:
        """Whether bytes by `pin` may stand beside those that were read."""
        if self.is_doubted or size != self.size:
            return False
        if pin is self.pin:
            return True
        version = self.settle()
        if version is None:
            return not self.handles
        return version == pin.version and version.tells_apart

    def is_vague(self, size: int, pin: Pin) -> bool:
        """Whether nobody can tell if bytes by `pin` may stand beside those that were read."""
        version = self.settle() or pin.version
        is_other = self.is_doubted or size != self.size
        return version is not None and not version.tells_apart and not is_other


class Versions:
    """The stored objects that the kernel may hold pages of, by inode."""

    def __init__(self, inodes: InodeTable[Node]) -> None:
        self._inodes = inodes
        self._shown: dict[int, _Shown] = {}
        self._of_object: dict[str, set[int]] = {}
        #: Sizes of open inodes.
        self._sizes: dict[int, int] = {}

    def expected(self, inode: int, size: int, stamp: str | None) -> Version | None:
        """The version that a handle must have to be opened on `inode`, where that is known."""
        shown = self._shown.get(inode)
        if shown is None or shown.is_doubted or (shown.size, shown.stamp) != (size, stamp):
            return None
        version = shown.settle()
        return version if version is not None and version.tells_apart else None

    def admit(self, inode: int, node: Node, size: int, *, stamp: str | None, pin: Pin) -> Admission:
        """A handle is opened on `inode`; raises OtherVersion where it must not be."""
        shown = self._shown.get(inode)
        if inode != self._inodes.number(node):
            raise OtherVersion(f"{node.kind.value} {node.id} was opened in an older version")
        if shown is None:
            shown = self._shown[inode] = _Shown(node, size, stamp, pin)
            self._of_object.setdefault(node.id, set()).add(inode)
            admission = Admission(keep_cache=True)
        elif shown.is_vague(size, pin) and shown.handles:
            shown.handles += 1
            return Admission(keep_cache=False, is_apart=True)
        elif shown.is_same(size, pin) and not shown.is_vague(size, pin):
            admission = Admission(keep_cache=shown.stamp == stamp)
        elif shown.handles:
            self._inodes.renew(node)
            raise OtherVersion(f"{node.kind.value} {node.id} is open in an older version")
        else:
            admission = Admission(keep_cache=False)
            shown.version = None
        shown.size, shown.stamp, shown.pin, shown.is_doubted = size, stamp, pin, False
        shown.handles += 1
        self._sizes[inode] = size
        return admission

    def release(self, inode: int) -> None:
        """A handle that was admitted is closed."""
        shown = self._shown.get(inode)
        if shown is None:
            return
        shown.handles -= 1
        shown.settle()
        if not shown.handles:
            self._sizes.pop(inode, None)

    def forget(self, inode: int) -> None:
        """The kernel gave the inode back, and with it all pages."""
        shown = self._shown.get(inode)
        if shown is None or shown.handles:
            return
        del self._shown[inode]
        inodes = self._of_object[shown.node.id]
        inodes.discard(inode)
        if not inodes:
            del self._of_object[shown.node.id]

    def doubt(self, object_id: str) -> list[Node]:
        """The object may be another now; returns the nodes that have another inode therefore."""
        return list(self._leave(object_id, None))

    def resized(self, object_id: str, size: int) -> list[Node]:
        """The object has this size; returns the nodes that have another inode therefore."""
        return list(self._leave(object_id, size))

    def _leave(self, object_id: str, size: int | None) -> Iterator[Node]:
        for inode in self._of_object.get(object_id, ()):
            shown = self._shown[inode]
            if size is not None and shown.size == size:
                continue
            shown.is_doubted = True
            if shown.handles and self._inodes.number(shown.node) == inode:
                self._inodes.renew(shown.node)
                yield shown.node

    def node_of(self, object_id: str) -> Node | None:
        """The node under which an object was opened, None if it was not."""
        inodes = self._of_object.get(object_id)
        return self._shown[next(iter(inodes))].node if inodes else None

    def inode_of(self, node: Node, size: int | None) -> int:
        """The inode that shows `node` with `size` bytes: a new one if it is open with another."""
        inode = self._inodes.number(node)
        if self._sizes and size is not None and self._sizes.get(inode, size) != size:
            return self._inodes.renew(node)
        return inode

    def size_of(self, node: Node) -> int | None:
        """The size with which a node is open; None where it is not."""
        return self._sizes.get(self._inodes.number(node)) if self._sizes else None

    def older(self, inode: int, now: Attributes) -> Attributes:
        """What an inode shows whose node has another one by now: its own size.

        Raises OtherVersion where nobody has it open: a path must not lead to it any more.
        """
        size = self._sizes.get(inode)
        if size is None:
            raise OtherVersion("a newer version of it has another inode")
        return now._replace(inode=inode, size=size)

    def __len__(self) -> int:
        return len(self._shown)

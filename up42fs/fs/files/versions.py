"""One version per inode: what the kernel may cache of each, and when a new inode is needed.

Theory. The kernel has one page cache and one size for an inode, whatever handles are open on it. If
two handles of different versions shared an inode, each could read the other's bytes out of that
cache, and a mapping would show them without a read. So all handles of an inode are of one version:

1. For each opened inode these are kept until the kernel gives it back: its size, its stamp in the
   catalogue, and the store's *pin*, which holds the version named by answers.
2. A handle may join the open ones if it has the same pin, or its pin names the same version.
3. Otherwise the node gets another inode (`InodeTable.renew`), and the call fails with
   `OtherVersion`. That is ESTALE, at which the kernel looks the path up again and repeats the call
   with the new inode. The old inode stays with the old handles: they read the cached bytes of their
   version, and get ESTALE for the rest.
4. If no handle of the inode is open, it is reused, and the kernel drops its pages at that open.
5. Pages outlive the store's memory of an object. So the next open passes their version to the store
   (`expected`): it reads that version, or fails.
6. Versions without identification (no ETag) are only the same under one pin. Nothing of them is
   cached across opens, and further handles of such an open file bypass the page cache.
7. The size of an open inode never changes (`inode_of`): a shorter one would look like the end of
   the file to the old handles.

Rejected: `direct_io` for handles of a changed file. Its mappings use the page cache all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from up42fs.errors import OtherVersion
from up42fs.fs.tree.inodes import InodeTable
from up42fs.fs.tree.nodes import Attributes, Node
from up42fs.store.http.answer import VersionPin
from up42fs.types import Version


class Admission(NamedTuple):
    """A handle's use of the page cache: keep it, empty it first, or bypass it (`is_apart`)."""

    keep_cache: bool
    is_apart: bool = False


@dataclass(slots=True)
class _OnInode:
    """The last object opened on one inode."""

    node: Node
    size: int
    stamp: str | None
    pin: VersionPin
    version: Version | None = None
    handles: int = 0
    is_doubted: bool = False

    def settle(self) -> Version | None:
        """The version that the inode shows, None if no byte of any was read."""
        self.version = self.pin.version or self.version
        return self.version

    def is_same(self, size: int, pin: VersionPin) -> bool:
        """Whether bytes under `pin` may be cached together with those already read."""
        if self.is_doubted or size != self.size:
            return False
        if pin is self.pin:
            return True
        version = self.settle()
        if version is None:
            return not self.handles
        return version == pin.version and version.tells_apart

    def is_vague(self, size: int, pin: VersionPin) -> bool:
        """Whether it cannot be known if bytes under `pin` match those already read."""
        version = self.settle() or pin.version
        is_other = self.is_doubted or size != self.size
        return version is not None and not version.tells_apart and not is_other


class Versions:
    """The stored objects whose pages the kernel may cache, by inode."""

    def __init__(self, inodes: InodeTable[Node]) -> None:
        self._inodes = inodes
        self._shown: dict[int, _OnInode] = {}
        self._of_object: dict[str, set[int]] = {}
        #: Sizes by open inode.
        self._sizes: dict[int, int] = {}

    def expected(self, inode: int, size: int, stamp: str | None) -> Version | None:
        """The version that a new handle on `inode` must have, if known."""
        shown = self._shown.get(inode)
        if shown is None or shown.is_doubted or (shown.size, shown.stamp) != (size, stamp):
            return None
        version = shown.settle()
        return version if version is not None and version.tells_apart else None

    def admit(
        self, inode: int, node: Node, size: int, *, stamp: str | None, pin: VersionPin
    ) -> Admission:
        """Register a handle that is opened on `inode`; raises OtherVersion if it does not fit."""
        shown = self._shown.get(inode)
        if inode != self._inodes.number(node):
            raise OtherVersion(f"{node.kind.value} {node.id} was opened in an older version")
        if shown is None:
            shown = self._shown[inode] = _OnInode(node, size, stamp, pin)
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
        shown = self._shown.get(inode)
        if shown is None:
            return
        shown.handles -= 1
        shown.settle()
        if not shown.handles:
            self._sizes.pop(inode, None)

    def forget(self, inode: int) -> None:
        """Forget an inode that the kernel gave back with all its pages."""
        shown = self._shown.get(inode)
        if shown is None or shown.handles:
            return
        del self._shown[inode]
        inodes = self._of_object[shown.node.id]
        inodes.discard(inode)
        if not inodes:
            del self._of_object[shown.node.id]

    def doubt(self, object_id: str) -> list[Node]:
        """Note that the object may have changed; return the nodes that got another inode."""
        return list(self._leave(object_id, None))

    def doubt_members(self, asset_id: str) -> list[Node]:
        """Note that an archive may have changed; return its members that got another inode."""
        members = [id_ for id_ in self._of_object if id_.startswith(f"{asset_id}!")]
        return [node for id_ in members for node in self._leave(id_, None)]

    def resized(self, object_id: str, size: int) -> list[Node]:
        """Note the object's size; return the nodes that got another inode."""
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
        inodes = self._of_object.get(object_id)
        return self._shown[next(iter(inodes))].node if inodes else None

    def inode_of(self, node: Node, size: int | None) -> int:
        """The inode of `node` with `size` bytes: a new one if it is open with another size."""
        inode = self._inodes.number(node)
        if self._sizes and size is not None and self._sizes.get(inode, size) != size:
            return self._inodes.renew(node)
        return inode

    def size_of(self, node: Node) -> int | None:
        return self._sizes.get(self._inodes.number(node)) if self._sizes else None

    def older(self, inode: int, now: Attributes) -> Attributes:
        """Attributes of an inode whose node has a newer one, if open; else raises OtherVersion."""
        size = self._sizes.get(inode)
        if size is None:
            raise OtherVersion("a newer version of it has another inode")
        return now._replace(inode=inode, size=size)

    def __len__(self) -> int:
        return len(self._shown)

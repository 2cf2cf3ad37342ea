"""The places of sidecars in the tree, and writing calls on them.

UP42's names take precedence: a name that UP42 has is never a sidecar's.

A sidecar is shown beside its image wherever the image is, under the image's name there. The kernel
caches none of these names, nor their absence: a sidecar created beside an image in one place
appears in all others at once, and one that another mount created appears soon after.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from up42fs.errors import AlreadyExists, InvalidArgument, ReadOnly, VersionChanged
from up42fs.fs.sidecars import names as sidecars
from up42fs.fs.sidecars.file import OpenSidecar, Sidecar
from up42fs.fs.sidecars.names import Tag
from up42fs.fs.sidecars.overlay import Overlay
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import STORED_KINDS, Kind, Node

#: rename(2): fail if the target exists.
RENAME_NOREPLACE = 1
_WRITABLE = os.O_WRONLY | os.O_RDWR


class Sidecars:
    """The sidecars of one mount."""

    def __init__(self, overlay: Overlay, layout: Layout) -> None:
        self.overlay = overlay
        self._layout = layout

    # names ---------------------------------------------------------------------------------

    async def look(self, directory: Node, name: str) -> tuple[Node | None, bool]:
        """The node of `name`, which UP42 does not have, and whether it could be a sidecar's name.

        Accesses the disk at most once a second, and never the network.
        """
        places = list(self._places(directory, name))
        if not places:
            return None, False
        await self.overlay.look()
        found = self._kept(places)
        return (node_of(found) if found else None), True

    def beside(self, directory: Node, listed: Mapping[str, Node]) -> dict[str, Node]:
        """The sidecars of a directory's listed entries."""
        found: dict[str, Sidecar] = {}
        if self.overlay.is_empty:
            return {}
        for image, node in listed.items():
            for sidecar in self.overlay.of(node.id) if node.kind in STORED_KINDS else ():
                name = sidecar.key[1].shown(image)
                if name is None or name in listed:
                    continue
                is_disputed = name in found
                found.setdefault(name, sidecar)
                if is_disputed:
                    found[name] = self._kept(self._places(directory, name)) or found[name]
        return {name: node_of(sidecar) for name, sidecar in found.items()}

    def holds(self, node: Node) -> bool:
        """Whether a sidecar exists, or still has open handles."""
        return self.overlay.of_node(node.id) is not None

    def of(self, node: Node) -> Sidecar:
        """The sidecar of a node; raises VersionChanged if it is gone."""
        sidecar = self.overlay.of_node(node.id)
        if sidecar is None:
            raise VersionChanged(f"the sidecar {node.id} is gone")
        return sidecar

    async def open(self, node: Node, flags: int) -> OpenSidecar:
        return await self.of(node).open(
            writable=bool(flags & _WRITABLE), truncated=bool(flags & os.O_TRUNC)
        )

    # writing calls ------------------------------------------------------------------------

    async def create(self, directory: Node, name: str) -> tuple[Node, OpenSidecar]:
        """Create a sidecar and open it; raises ReadOnly for any other name."""
        owner, tag = self._place(directory, name)
        opened = await self.overlay.create(owner, tag)
        return node_of(opened.sidecar), opened

    async def remove(self, node: Node) -> None:
        await self.overlay.remove(self.of(node))

    async def rename(
        self, node: Node, target: Node | None, directory: Node, name: str, flags: int
    ) -> None:
        """Rename a sidecar; `target` is the node that has the new name now."""
        if flags & ~RENAME_NOREPLACE:
            raise InvalidArgument("names cannot be exchanged")
        if target is not None and target.kind is not Kind.SIDECAR:
            raise ReadOnly(f"UP42 holds {name}: delivered data cannot be replaced")
        if target is not None and flags & RENAME_NOREPLACE:
            raise AlreadyExists(name)
        owner, tag = self.of(target).key if target is not None else self._place(directory, name)
        await self.overlay.rename(self.of(node), owner, tag)

    async def truncate(self, node: Node, size: int) -> None:
        """Resize a sidecar; stored at once."""
        opened = await self.of(node).open(writable=True)
        try:
            await opened.sidecar.truncate(size)
            await opened.flush()
        finally:
            opened.close()

    async def set_times(self, node: Node, atime_ns: int, mtime_ns: int) -> None:
        """Set a sidecar's times, nanoseconds since 1970."""
        opened = await self.of(node).open()
        try:
            await opened.sidecar.set_times(atime_ns, mtime_ns)
        finally:
            opened.close()

    # inside --------------------------------------------------------------------------------

    def _places(self, directory: Node, name: str) -> Iterator[tuple[str, Tag]]:
        """The images in a directory whose sidecar may have the name `name`, the likeliest first."""
        for reading in sidecars.readings(name):
            for image in reading.images:
                node = self._layout.find(directory, image)
                if node is not None and node.kind in STORED_KINDS:
                    yield node.id, reading.tag

    def _kept(self, places: Iterable[tuple[str, Tag]]) -> Sidecar | None:
        found = (self.overlay.get(owner, tag) for owner, tag in places)
        return next((sidecar for sidecar in found if sidecar is not None), None)

    def _place(self, directory: Node, name: str) -> tuple[str, Tag]:
        for owner, tag in self._places(directory, name):
            if sidecars.kept_name(owner, tag) is not None:
                return owner, tag
        raise ReadOnly(
            f"{name} is no sidecar of an image beside it, and nothing else can be written"
        )


def node_of(sidecar: Sidecar) -> Node:
    return Node(Kind.SIDECAR, sidecar.node_id)

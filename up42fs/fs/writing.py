"""Dispatches writing calls: to a sidecar on this machine, an edit of a title or tag, or EROFS."""

from __future__ import annotations

from up42fs.errors import AlreadyExists, ReadOnly, Unsupported
from up42fs.fs.editing import Editing
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.sidecars.tree import Sidecars
from up42fs.fs.tree.nodes import Attributes, Kind, Node, Opened


class Writing:
    """The writing calls of one mount."""

    def __init__(self, filesystem: Filesystem, editing: Editing | None = None) -> None:
        """Without `editing` titles and tags cannot be changed."""
        self._fs = filesystem
        self._editing = editing

    @property
    def editing(self) -> Editing:
        """Edits of titles and tags; raises ReadOnly if they are not allowed."""
        if self._editing is None:
            raise ReadOnly("mounted read-only; titles and tags can be edited with -o rw")
        return self._editing

    @property
    def is_possible(self) -> bool:
        return self.keeps_sidecars or self._editing is not None

    @property
    def keeps_sidecars(self) -> bool:
        return self._fs.sidecars is not None

    # files ---------------------------------------------------------------------------------

    async def create(self, parent: int, name: str) -> tuple[Attributes, Opened]:
        """Create a sidecar and open it; takes one reference. Raises ReadOnly for any other file."""
        sidecars = self._sidecars()
        directory, found = await self._fs.locate(parent, name)
        if found is not None:
            raise AlreadyExists(name)
        node, opened = await sidecars.create(directory, name)
        return self._fs.admit(directory, name, node), self._fs.open_files.open_sidecar(opened)

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """Write all of `data` to an open sidecar; return its length."""
        self._sidecars()
        await self._fs.open_files.sidecar(handle).write(offset, data)
        return len(data)

    async def flush(self, handle: int) -> None:
        """Store a sidecar's writes when a descriptor of it is closed."""
        sidecar = self._fs.open_files.sidecar_or_none(handle)
        if sidecar is not None:
            await sidecar.closed_by_writer()

    async def sync(self, handle: int) -> None:
        sidecar = self._fs.open_files.sidecar_or_none(handle)
        if sidecar is not None:
            await sidecar.flush()

    async def change(
        self, inode: int, *, size: int | None, times_ns: tuple[int, int] | None
    ) -> bool:
        """Resize a sidecar or set its times; False for others. Modes and owners are the mount's."""
        node = self._sidecar(inode)
        if node is None:
            return False
        sidecars = self._sidecars()
        if size is not None:
            await sidecars.truncate(node, size)
        if times_ns is not None:
            await sidecars.set_times(node, *times_ns)
        return True

    async def setxattr(self, inode: int, name: str, value: bytes) -> None:
        """Set title or tags of an asset; sidecars have no attributes."""
        if self._sidecar(inode) is not None:
            raise Unsupported(f"sidecars are kept without the attribute {name}")
        await self.editing.setxattr(inode, name, value)

    async def free_bytes(self) -> int:
        """Free space for sidecars, for `df`."""
        sidecars = self._fs.sidecars
        return await sidecars.overlay.free_bytes() if sidecars is not None else 0

    # directories ---------------------------------------------------------------------------

    async def unlink(self, parent: int, name: str) -> None:
        """Remove a sidecar, or a tag from an asset."""
        if self._fs.sidecars is not None:
            _, node = await self._fs.locate(parent, name)
            if node is not None and node.kind is Kind.SIDECAR:
                await self._fs.sidecars.remove(node)
                return
        await self.editing.unlink(parent, name)

    async def rename(
        self, old_parent: int, old_name: str, new_parent: int, new_name: str, flags: int
    ) -> None:
        """Rename a sidecar, move an asset from tag to tag, or rename a tag."""
        if self._fs.sidecars is not None:
            _, node = await self._fs.locate(old_parent, old_name)
            if node is not None and node.kind is Kind.SIDECAR:
                directory, target = await self._fs.locate(new_parent, new_name)
                await self._fs.sidecars.rename(node, target, directory, new_name, flags)
                return
        await self.editing.rename(old_parent, old_name, new_parent, new_name, flags)

    # inside --------------------------------------------------------------------------------

    def _sidecars(self) -> Sidecars:
        if self._fs.sidecars is None:
            raise ReadOnly("nothing can be written; sidecars of images can be with -o sidecars")
        return self._fs.sidecars

    def _sidecar(self, inode: int) -> Node | None:
        if self._fs.sidecars is None:
            return None
        node = self._fs.node(inode)
        return node if node.kind is Kind.SIDECAR else None

"""Translates writing calls into edits: set attributes, and assets moved in and out of `tags/`.

`edits` carries them out. Every call that is not an edit of a title or a tag raises ReadOnly
(EROFS): nothing can write or delete data.

Rules.
1. Setting an attribute to its current value is no edit and sends no request, even for a read-only
   attribute: `rsync -X` sets all attributes of a file when one differs.
2. `tags/` consists of directories of links. An asset is listed there under its own name, whatever
   name the call gives; a name that is not one of its names is refused, since it would not exist
   afterwards.
3. The files below an asset in a tag are not links and cannot be moved or removed.
"""

from __future__ import annotations

import unicodedata

from up42fs.catalog.index import Delta, Index
from up42fs.errors import (
    AlreadyExists,
    InvalidArgument,
    NoAttribute,
    NotEditable,
    NotEmpty,
    NotFound,
    ReadOnly,
    Unsupported,
)
from up42fs.fs import xattrs
from up42fs.fs.edits.apply import Edits
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.hidden import CHANGES, UNDO
from up42fs.fs.tree.nodes import Attributes, Kind, Node
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.model import intentions as edits
from up42fs.model import names
from up42fs.model.intentions import Edit
from up42fs.types import Asset

#: rename(2): fail if the target exists. The kernel checks first.
RENAME_NOREPLACE = 1
_TITLES = frozenset({xattrs.PREFIX + "title", "user.xdg.comment"})
_TAGS = frozenset({xattrs.PREFIX + "tags", "user.xdg.tags"})
_OURS = (xattrs.PREFIX, "user.xdg.tags", "user.xdg.comment", "user.mime_type")


class Editing:
    """The writing calls of one mount."""

    def __init__(
        self, filesystem: Filesystem, index: Index, edits: Edits, directories: TagDirectories
    ) -> None:
        self._fs = filesystem
        self._index = index
        self._edits = edits
        self._directories = directories
        filesystem.xattrs.last_failure = edits.last_failure

    # attributes ----------------------------------------------------------------------------

    async def setxattr(self, inode: int, name: str, value: bytes) -> None:
        if not name.startswith(_OURS):
            raise Unsupported(f"UP42 has no place for the attribute {name}")
        node = self._fs.node(inode)
        if name == UNDO and node == Node(Kind.VIRTUAL, CHANGES):
            await self._undo(value)
            return
        known = self._fs.xattrs.known(node).get(name, "")
        shown = self._fs.xattrs.listed(node).get(name, known)
        if value in (known.encode(errors="replace"), shown.encode(errors="replace")):
            return
        if shown != known and value.endswith(xattrs.CUT.encode()):
            raise InvalidArgument(
                f"{name} is shown cut, and would be cut for good; all of it is "
                f"{xattrs.WHOLE}{name.removeprefix(xattrs.PREFIX)}"
            )
        asset = self._editable(node, name)
        edit = _edit(asset, name, _text(name, value))
        if edit.applied(edits.Metadata(asset.title, asset.tags)) != (asset.title, asset.tags):
            await self._edits.change(asset.id, edit, f"{name} set")

    async def removexattr(self, inode: int, name: str) -> None:
        node = self._fs.node(inode)
        if name not in self._fs.xattrs.known(node):
            raise NoAttribute(name)
        asset = self._editable(node, name)
        await self._edits.change(asset.id, _edit(asset, name, ""), f"{name} removed")

    def _editable(self, node: Node, name: str) -> Asset:
        asset = self._fs.xattrs.asset_of(node)
        if asset is None or name not in _TITLES | _TAGS:
            raise NotEditable(
                f"{name} of this {node.kind.value} is read-only; title and tags of assets are not"
            )
        return asset

    async def _undo(self, value: bytes) -> None:
        try:
            number = int(value)
        except ValueError:
            raise InvalidArgument(f"{UNDO} takes the number of an operation") from None
        await self._edits.undo(number)

    # directories of tags -------------------------------------------------------------------

    async def mkdir(self, parent: int, name: str) -> Attributes:
        """Create a directory for a tag; takes one reference."""
        directory, found = await self._fs.locate(parent, name)
        if directory.kind is not Kind.TAGS:
            raise ReadOnly("directories can be made in tags/ only")
        if found is not None:
            raise AlreadyExists(f"tags/{name}")
        tag = _new_tag(name)
        self._directories.held.add(tag)
        await self._listing_changed(tag)
        return self._fs.admit(directory, name, Node(Kind.TAG, tag))

    async def rmdir(self, parent: int, name: str) -> None:
        """Remove the directory of a tag that no asset carries."""
        directory, node = await self._fs.locate(parent, name)
        if directory.kind is not Kind.TAGS:
            raise ReadOnly("only empty directories in tags/ can be removed")
        if node is None:
            raise NotFound(f"tags/{name}")
        if self._index.ids_with_tag(node.id):
            raise NotEmpty(f"tags/{name} has assets: remove them from it first")
        self._directories.remove(node.id)
        await self._listing_changed(node.id)

    async def link(self, inode: int, parent: int, name: str) -> Attributes:
        """Add a tag to an asset; takes one reference."""
        node = self._fs.node(inode)
        directory, found = await self._fs.locate(parent, name)
        asset = self._index.assets.get(node.id) if node.kind is Kind.ASSET else None
        if directory.kind is not Kind.TAG:
            raise ReadOnly("assets can be linked into directories of tags/ only")
        if asset is None:
            raise InvalidArgument(f"a {node.kind.value} has no tags of its own: link its asset")
        if found is not None or directory.id in asset.tags:
            raise AlreadyExists(f"tag {directory.id!r} has {name} already")
        _require_own_name(asset, name, self._index.assets.outline(asset).wish)
        await self._edits.change(asset.id, Edit(add=(directory.id,)), f"linked into {directory.id}")
        return self._fs.admit(directory, name, node)

    async def unlink(self, parent: int, name: str) -> None:
        directory, node = await self._fs.locate(parent, name)
        if directory.kind is not Kind.TAG or (node is not None and node.kind is not Kind.ASSET):
            raise ReadOnly("nothing can delete data; a link in tags/ is a tag and can be removed")
        if node is None:
            raise NotFound(f"{name} is not in tag {directory.id!r}")
        edit = Edit(remove=frozenset({directory.id}))
        await self._edits.change(node.id, edit, f"removed from {directory.id}")
        await self._keep_emptied(directory.id)

    async def rename(
        self, old_parent: int, old_name: str, new_parent: int, new_name: str, flags: int
    ) -> None:
        """Move an asset from tag to tag, or rename a tag on all its assets."""
        old, node = await self._fs.locate(old_parent, old_name)
        new, target = await self._fs.locate(new_parent, new_name)
        if flags & ~RENAME_NOREPLACE:
            raise InvalidArgument("names cannot be exchanged")
        kinds = (old.kind, new.kind, node.kind if node else None)
        if kinds == (Kind.TAG, Kind.TAG, Kind.ASSET) and node is not None:
            await self._move(old.id, new.id, node, new_name, target)
        elif kinds == (Kind.TAGS, Kind.TAGS, Kind.TAG) and node is not None:
            await self._rename_tag(node.id, new_name, target)
        elif node is None and old.kind in (Kind.TAG, Kind.TAGS):
            raise NotFound(old_name)
        else:
            raise ReadOnly("only assets in tags/ and directories of tags/ can be moved")

    async def _move(self, old: str, new: str, node: Node, name: str, target: Node | None) -> None:
        asset = self._index.assets[node.id]
        _require_own_name(asset, name, self._index.assets.outline(asset).wish)
        if target not in (None, node):
            raise AlreadyExists(f"tag {new!r} has another asset called {name}")
        if old == new:
            return
        edit = Edit(add=(new,), remove=frozenset({old}))
        await self._edits.change(node.id, edit, f"moved from {old} to {new}")
        await self._keep_emptied(old)

    async def _rename_tag(self, old: str, name: str, target: Node | None) -> None:
        new = target.id if target is not None else _new_tag(name)
        if new == old:
            return
        if self._index.ids_with_tag(new):
            raise NotEmpty(f"tag {new!r} has assets: move those of {old!r} into it")
        members = list(self._index.ids_with_tag(old))
        edit = Edit(add=(new,), remove=frozenset({old}))
        if members:
            await self._edits.change_all(dict.fromkeys(members, edit), f"renamed {old} to {new}")
        if target is not None:
            self._directories.remove(new)  # the kernel treats the replaced directory as dead
        if not self._index.ids_with_tag(new):
            self._directories.held.add(new)
        if not self._index.ids_with_tag(old):
            self._directories.remove(old)
        await self._listing_changed(old, new)

    async def _keep_emptied(self, tag: str) -> None:
        """Keep a directory that lost its last member until it is removed."""
        if not self._index.ids_with_tag(tag):
            self._directories.held.add(tag)
            await self._listing_changed(tag)

    async def _listing_changed(self, *tags: str) -> None:
        await self._edits.publish(Delta(tags=set(tags), renames_tags=True))


def _edit(asset: Asset, name: str, text: str) -> Edit:
    if name in _TITLES:
        return Edit(title=edits.parse_title(text))
    return edits.retag(asset.tags, edits.parse_tags(text, asset.tags))


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{name} is text in UTF-8") from None


def _new_tag(name: str) -> str:
    tag = edits.check_tag(unicodedata.normalize("NFC", name))
    if names.safe_name(tag) != name:
        raise InvalidArgument(f"a tag {tag!r} would not be called {name!r} as a directory")
    return tag


def _require_own_name(asset: Asset, name: str, wish: str) -> None:
    if not names.is_name_of(name, wish, asset.id):
        raise NotEditable(
            f"an asset keeps its name: {wish!r}; it cannot be called {name!r} in tags/"
        )

"""What an inode can stand for, and the attributes it shows. Values only."""

from __future__ import annotations

import stat
from enum import StrEnum
from typing import NamedTuple

from up42fs.fs.tree.inodes import ROOT_INODE, derive_inode

CONTROL_DIR = ".up42fs"
#: The control directory's list of edits. UNDO set on it to the number of one takes that back.
CHANGES = "changes"
UNDO = "user.up42.undo"
#: Who follows this link of the control directory makes the mount look for changes at once. A link,
#: because a mount that is read-only for the kernel has no file that could be touched.
REFRESH = "refresh"


class Kind(StrEnum):
    """Kinds of nodes; the value is part of the inode's derivation and must not change."""

    ROOT = "root"
    ORDERS = "orders"
    TAGS = "tags"
    CNAM = "cnam"
    ASSETS = "assets"
    ORDER = "order"
    TAG = "tag"
    STATUS = "status"
    ASSET = "asset"
    CONTROL = "control"
    VIRTUAL = "virtual"
    FILES = "files"  # an asset's directory of transformed files
    ITEM = "item"  # one item of several in it
    FILE = "file"  # a transformed file; its ID is the STAC asset's
    DOCUMENT = "document"  # a JSON file made here: item.json, catalog.json, …
    STAC = "stac"
    COLLECTION = "collection"
    STAC_ITEM = "stac-item"
    SEARCH = "search"
    QUERY = "query"
    SIDECAR = "sidecar"  # kept on this machine beside an image


class Node(NamedTuple):
    """One thing in the tree: its kind, the ID of what it shows, and where, if that matters.

    An asset is one node wherever it is listed. A directory is one node per place: `place` tells
    an ID alias from the display name, because the kernel gives a directory only one parent entry.
    Of a transformed file it names the delivery it was made from, where that is known.
    """

    kind: Kind
    id: str = ""
    place: str = ""

    def __str__(self) -> str:
        if self.kind is Kind.FILE:
            return f"{self.kind.value}:{self.id}"  # one file, whatever it was made from
        return f"{self.kind.value}:{self.id}:{self.place}" if self.place else f"{self[0]}:{self[1]}"


def asset_node(asset_id: str) -> Node:
    """`Node(Kind.ASSET, asset_id)`, in half the time: large storages have many."""
    return tuple.__new__(Node, (Kind.ASSET, asset_id, ""))


def inode_of(node: Node) -> int:
    """The inode number of a node, the same in every mount.

    Those of assets and files, of which there are many, are folded from their IDs: random UUIDs.
    """
    if node.kind is Kind.ASSET or node.kind is Kind.FILE:
        try:
            number = int(node.id.replace("-", ""), 16)
        except ValueError:
            return derive_inode(str(node))
        return max((number ^ number >> 65 ^ _SALTS[node.kind]) & _63_BITS, ROOT_INODE + 1)
    return ROOT_INODE if node.kind is Kind.ROOT else derive_inode(str(node))


_63_BITS = (1 << 63) - 1
_SALTS = {Kind.ASSET: 0, Kind.FILE: 0x5F11E << 42}

ROOT = Node(Kind.ROOT)
CONTROL = Node(Kind.CONTROL)
FILE_KINDS = frozenset({Kind.ASSET, Kind.VIRTUAL, Kind.FILE, Kind.DOCUMENT, Kind.SIDECAR})
#: Directories of which no change is pushed to the kernel.
BRANCH_KINDS = frozenset(
    {
        Kind.FILES,
        Kind.ITEM,
        Kind.STAC,
        Kind.COLLECTION,
        Kind.STAC_ITEM,
        Kind.SEARCH,
        Kind.QUERY,
    }
)
#: Files whose bytes lie in UP42 storage.
STORED_KINDS = frozenset({Kind.ASSET, Kind.FILE})


class Attributes(NamedTuple):
    """What `stat` shows. Times in nanoseconds since 1970, `size` in bytes.

    The kernel may remember the name for `ttl_s` seconds, and the attributes for `attr_ttl_s`, as
    long as the name where that is None. `generation` tells apart directories that had the same
    inode one after the other: the kernel takes a removed one for dead. Users see the inode's number
    as `shown_inode`, or as it is where that is 0 (see `fs.files.versions`).
    """

    inode: int
    mode: int
    nlink: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ttl_s: float
    attr_ttl_s: float | None = None
    generation: int = 0
    shown_inode: int = 0

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)


class Absent(NamedTuple):
    """Nothing has this name; the kernel may remember so for `ttl_s` seconds."""

    ttl_s: float


class Usage(NamedTuple):
    """What `df` shows: sum of sizes in bytes, and the number of assets."""

    used_bytes: int
    files: int


class Opened(NamedTuple):
    """An open file: its handle, and whether the kernel may keep or must bypass its page cache.

    `in_pieces`: it is not likely to be read from end to end.
    """

    handle: int
    keep_cache: bool
    direct_io: bool
    in_pieces: bool = False

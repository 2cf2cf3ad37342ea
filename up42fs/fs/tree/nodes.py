"""Kinds of nodes behind inodes, and their attributes. Values only."""

from __future__ import annotations

import stat
from enum import StrEnum
from typing import NamedTuple

from up42fs.fs.tree.inodes import ROOT_INODE, derive_inode


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
    WORKSPACES = "workspaces"
    WORKSPACE = "workspace"
    ASSET = "asset"
    CONTROL = "control"
    VIRTUAL = "virtual"
    FILES = "files"  # an asset's directory of transformed files
    ITEM = "item"  # the subdirectory of one of several items in it
    FILE = "file"  # a transformed file; its ID is the STAC asset's
    DOCUMENT = "document"  # a JSON file that up42fs generates: item.json, catalog.json, …
    STAC = "stac"
    COLLECTION = "collection"
    STAC_ITEM = "stac-item"
    SEARCH = "search"
    QUERY = "query"
    JOBS = "jobs"
    JOB = "job"  # the results of one processing job
    SIDECAR = "sidecar"  # kept on this machine beside an image
    MEMBERS = "members"  # a directory of an archive's members; see `fs.tree.member_ids`
    MEMBER = "member"  # a file in an archive; its ID is the store's
    MEMBER_LINK = "member-link"  # a symbolic link in an archive


class Node(NamedTuple):
    """One entry of the tree: its kind, the ID of its object, and its place, if that matters.

    An asset is one node wherever it is listed. A directory is one node per place: `place`
    distinguishes an ID alias from the display name, because the kernel gives a directory only one
    parent entry. For a transformed file it names the delivery it was made from, if known. For a
    directory of an archive it is the place of the archive's top directory.
    """

    kind: Kind
    id: str = ""
    place: str = ""

    def __str__(self) -> str:
        if self.kind is Kind.FILE:
            return f"{self.kind.value}:{self.id}"  # the delivery is not part of a file's identity
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
MEMBER_KINDS = frozenset({Kind.MEMBERS, Kind.MEMBER, Kind.MEMBER_LINK})
FILE_KINDS = frozenset(
    {
        *(Kind.ASSET, Kind.VIRTUAL, Kind.FILE, Kind.DOCUMENT, Kind.SIDECAR),
        *(Kind.MEMBER, Kind.MEMBER_LINK),
    }
)
#: Directories whose changes are not pushed to the kernel.
BRANCH_KINDS = frozenset(
    {
        Kind.FILES,
        Kind.ITEM,
        Kind.STAC,
        Kind.COLLECTION,
        Kind.STAC_ITEM,
        Kind.SEARCH,
        Kind.QUERY,
        Kind.JOBS,
        Kind.JOB,
        Kind.MEMBERS,
    }
)
#: Files whose bytes are in UP42 storage.
STORED_KINDS = frozenset({Kind.ASSET, Kind.FILE, Kind.MEMBER})
#: Files that are made when they are opened.
RENDERED_KINDS = frozenset({Kind.VIRTUAL, Kind.DOCUMENT})
#: Files that UP42 signs a link to.
LINKED_KINDS = frozenset({Kind.ASSET, Kind.FILE})


class Attributes(NamedTuple):
    """Attributes for `stat`. Times in nanoseconds since 1970, `size` in bytes.

    The kernel may cache the name for `ttl_s` seconds, and the attributes for `attr_ttl_s`, or for
    `ttl_s` if that is None. `generation` distinguishes directories that had the same inode one
    after the other, because the kernel treats a removed one as dead. Users see `shown_inode` as the
    inode's number, or `inode` if it is 0 (see `fs.files.versions`). A file that `is_part` of
    another one takes no blocks of its own.
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
    is_part: bool = False

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Absent(NamedTuple):
    """A negative lookup, which the kernel may cache for `ttl_s` seconds."""

    ttl_s: float


class Usage(NamedTuple):
    """Usage for `df`: sum of sizes in bytes, and the number of assets."""

    used_bytes: int
    files: int


class Opened(NamedTuple):
    """An open file: its handle, and whether the kernel may keep or must bypass its page cache.

    `in_pieces`: it is unlikely to be read from end to end. `size` is in bytes, when it was opened.
    """

    handle: int
    keep_cache: bool
    direct_io: bool
    in_pieces: bool = False
    size: int = 0

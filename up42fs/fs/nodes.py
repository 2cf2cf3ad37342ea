"""What an inode can stand for, and the attributes it shows. Values only."""

from __future__ import annotations

import stat
from enum import StrEnum
from typing import NamedTuple

CONTROL_DIR = ".up42fs"


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


class Node(NamedTuple):
    """One thing in the tree: its kind, the ID of what it shows, and where, if that matters.

    An asset is one node wherever it is listed. A directory is one node per place: `place` tells
    an ID alias from the display name, because the kernel gives a directory only one parent entry.
    """

    kind: Kind
    id: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.id}:{self.place}" if self.place else f"{self[0]}:{self[1]}"


ROOT = Node(Kind.ROOT)
CONTROL = Node(Kind.CONTROL)
FILE_KINDS = frozenset({Kind.ASSET, Kind.VIRTUAL})


class Attributes(NamedTuple):
    """What `stat` shows. Times in nanoseconds since 1970, `size` in bytes, `ttl_s` in seconds."""

    inode: int
    mode: int
    nlink: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ttl_s: float

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
    """An open file: its handle, and whether the kernel may keep or must bypass its page cache."""

    handle: int
    keep_cache: bool
    direct_io: bool

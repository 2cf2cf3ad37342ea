"""The vocabulary that every layer shares: immutable values, no behaviour beyond arithmetic.

Knows nothing of JSON, HTTP, inodes or the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

#: What a read answers: any C-contiguous buffer; a memoryview where no copy is needed.
Bytes: TypeAlias = bytes | bytearray | memoryview


class CnamStatus(StrEnum):
    """State of UP42's transformation into the cloud-native asset model (contract §8)."""

    SUCCESSFUL = "SUCCESSFUL"
    IN_PROGRESS = "IN_PROGRESS"
    NOT_PROCESSED = "NOT_PROCESSED"
    FAILED = "FAILED"
    #: UP42 says nothing of it, or what is not known here: no state to show.
    UNTOLD = ""


#: The states that UP42 tells.
CNAM_STATES = tuple(status for status in CnamStatus if status is not CnamStatus.UNTOLD)


@dataclass(frozen=True, slots=True)
class Asset:
    """One delivered archive or file in UP42 storage (contract §2.2).

    `size` is in bytes, None where UP42 gave none. Absent and null fields are None, tags ().
    """

    id: str
    name: str | None
    title: str | None
    size: int | None
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...] = ()
    cnam_status: CnamStatus = CnamStatus.NOT_PROCESSED
    content_type: str | None = None
    order_id: str | None = None
    account_id: str | None = None
    workspace_id: str | None = None
    product_id: str | None = None
    collection: str | None = None
    producer: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One order (contract §4.2). `status` is an open set: UP42 may add values."""

    id: str
    display_name: str | None
    status: str | None
    type: str | None
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...] = ()
    account_id: str | None = None
    workspace_id: str | None = None
    product_id: str | None = None


@dataclass(frozen=True, slots=True, order=True, init=False)
class ByteRange:
    """Half-open range of byte offsets `[start, stop)`, never empty, never negative."""

    start: int
    stop: int

    # A read of a tile out of memory makes twenty; the dataclass's own would take twice as long.
    def __init__(self, start: int, stop: int) -> None:
        if not 0 <= start < stop:
            raise ValueError(f"not a range: [{start}, {stop})")
        _set_start(self, start)
        _set_stop(self, stop)

    def __len__(self) -> int:
        return self.stop - self.start


_set_start: Callable[[ByteRange, int], None] = ByteRange.__dict__["start"].__set__
_set_stop: Callable[[ByteRange, int], None] = ByteRange.__dict__["stop"].__set__


@dataclass(frozen=True, slots=True)
class Version:
    """Identity of one object's content: its total size in bytes and what the store calls it.

    `etag` is as the store sent it, quotes and a weak `W/` prefix included. `generation`
    (`x-goog-generation`) and `modified` (`Last-Modified`) are None where a strong ETag tells
    enough.
    `is_fresh`: the object was modified within the second in which the store answered, so what
    replaces it in that second would bear the same time.
    """

    size: int
    etag: str | None = None
    generation: str | None = None
    modified: str | None = None
    is_fresh: bool = field(default=False, compare=False)

    @property
    def tells_apart(self) -> bool:
        """Whether other content of the same size would have another identity.

        This is the one place that says whether a version is pinned: where it is not, nothing may be
        kept from one open to the next.
        """
        named = self.etag or self.generation or (self.modified and not self.is_fresh)
        return bool(named)

    @property
    def is_nameless(self) -> bool:
        """Whether the store told nothing but the size."""
        return not (self.etag or self.generation or self.modified)

    def agrees(self, other: Version) -> bool | None:
        """Whether both are one version; None if they have no name in common to tell by."""
        if self.size != other.size:
            return False
        mine = (self.etag, self.generation, self.modified)
        theirs = (other.etag, other.generation, other.modified)
        common = [(a, b) for a, b in zip(mine, theirs, strict=True) if a and b]
        if common:
            return all(a == b for a, b in common)
        return True if self.is_nameless and other.is_nameless else None


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A presigned link and how many seconds it lives from the moment it was received."""

    url: str
    lifetime_s: float

    def __repr__(self) -> str:
        # A link is a secret: it reads the object for whoever holds it.
        return f"SignedUrl(<redacted>, lifetime_s={self.lifetime_s:.0f})"


class Signer(Protocol):
    """Asks UP42 for a fresh presigned link to an object (contract §3.4)."""

    async def __call__(self, object_id: str, /) -> SignedUrl:
        """Return a fresh link; raises an `Up42fsError`."""
        ...

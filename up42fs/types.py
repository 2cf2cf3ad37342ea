"""The vocabulary that every layer shares: immutable values, no behaviour beyond arithmetic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

#: The result of a read: any C-contiguous buffer; a memoryview if no copy is needed.
Bytes: TypeAlias = bytes | bytearray | memoryview


#: The time of what UP42 gives none.
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class CnamStatus(StrEnum):
    """State of UP42's transformation into the cloud-native asset model (contract §8)."""

    SUCCESSFUL = "SUCCESSFUL"
    IN_PROGRESS = "IN_PROGRESS"
    NOT_PROCESSED = "NOT_PROCESSED"
    FAILED = "FAILED"
    #: UP42 reports no status, or an unknown one: no state to show.
    UNTOLD = ""


#: The states that UP42 reports.
CNAM_STATES = tuple(status for status in CnamStatus if status is not CnamStatus.UNTOLD)


@dataclass(frozen=True, slots=True)
class Asset:
    """One delivered archive or file in UP42 storage (contract §2.2).

    `size` is in bytes, None if UP42 gave none. Absent and null fields are None, tags ().
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
    """One order (contract §4.2). `status` is an open set: UP42 may add values.

    Of its details, a tasking has a `sub_status`, and an order from the archive the scene's
    `image_id`.
    """

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
    sub_status: str | None = None
    image_id: str | None = None


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
    """Identity of one object's content: its total size in bytes and the store's identifiers.

    `etag` is as the store sent it, quotes and a weak `W/` prefix included. `generation`
    (`x-goog-generation`) and `modified` (`Last-Modified`) are None if a strong ETag suffices.
    `is_fresh`: the object was modified within the second in which the store answered, so a
    replacement in that second would have the same time.
    """

    size: int
    etag: str | None = None
    generation: str | None = None
    modified: str | None = None
    is_fresh: bool = field(default=False, compare=False)

    @property
    def tells_apart(self) -> bool:
        """Whether other content of the same size would have another identity.

        Only this property decides whether a version is pinned: if it is not, nothing may be kept
        from one open to the next.
        """
        named = self.etag or self.generation or (self.modified and not self.is_fresh)
        return bool(named)

    @property
    def is_nameless(self) -> bool:
        """Whether the store sent nothing but the size."""
        return not (self.etag or self.generation or self.modified)

    def agrees(self, other: Version) -> bool | None:
        """Whether both are one version; None if they have no identifier in common to compare."""
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
    """A presigned link and its lifetime in seconds from the moment it was received."""

    url: str
    lifetime_s: float

    def __repr__(self) -> str:
        # A link is a secret: anyone who has it can read the object.
        return f"SignedUrl(<redacted>, lifetime_s={self.lifetime_s:.0f})"


#: Requests a fresh presigned link to an object from UP42 (contract §3.4); raises an `Up42fsError`.
Signer = Callable[[str], Awaitable[SignedUrl]]

"""The two listings of the storage as `sync` drives them: what one offers, and what is kept of it.

Interfaces only; `up42fs.catalog.listings` and `stac_listing` have them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Protocol, TypeVar

from up42fs.types import Asset, Order

T_co = TypeVar("T_co", Asset, Order, covariant=True)


class Rows(Protocol[T_co]):
    """One page of a listing, as `api.pages.Page` has it."""

    @property
    def items(self) -> Sequence[T_co]: ...  # noqa: D102
    @property
    def total(self) -> int | None: ...  # noqa: D102
    @property
    def total_pages(self) -> int: ...  # noqa: D102


class Listing(Protocol[T_co]):
    """One of the service's two listings."""

    def everything(self) -> AsyncIterator[T_co]:
        """Every row once, in any order; raises an `Up42fsError`."""
        ...

    async def newest(self, page: int) -> Rows[T_co]:
        """Page `page` (from 0) by `updatedAt`, newest first; raises an `Up42fsError`."""
        ...

    def told(self) -> int | None:
        """The total that the last `everything` was told; None where it was told none, or two."""
        ...


class Uncounted(Protocol):
    """Keeps across mounts by how much a listing's total is off."""

    def load(self, part: Part, /) -> int:
        """What was kept, else 0."""
        ...

    def save(self, part: Part, uncounted: int, /) -> None:
        """Keep it."""
        ...


class Part(Enum):
    """What can be waited for."""

    ASSETS = "assets"
    ORDERS = "orders"

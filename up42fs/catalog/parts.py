"""Interfaces of the two listings of the storage that `sync` drives.

`up42fs.catalog.listings` and `stac_listing` implement them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Protocol, TypeVar

from up42fs.types import Asset, Order

T_co = TypeVar("T_co", Asset, Order, covariant=True)


class Rows(Protocol[T_co]):
    """One page of a listing, as `api.pages.Page` provides it."""

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
        """The total that came with the last `everything`; None if UP42 sent none, or two."""
        ...


class Uncounted(Protocol):
    """Keeps across mounts by how many rows a listing's total is off."""

    def load(self, part: Part, /) -> int:
        """The kept number, else 0."""
        ...

    def save(self, part: Part, uncounted: int, /) -> None:
        """Keep a number."""
        ...


class Part(Enum):
    """The two listings of the storage, which callers can wait for."""

    ASSETS = "assets"
    ORDERS = "orders"

"""The file system's requirements on neighbouring layers, as Protocols: it never sees a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from up42fs.catalog.sync import Part
from up42fs.readahead.tuning import Reading
from up42fs.types import ByteRange, Bytes, SignedUrl, Version


class Pin(Protocol):
    """The version pin of all handles that share it (see `store.http.answer.VersionPin`)."""

    @property
    def version(self) -> Version | None:
        """The one version whose bytes are read; None before the first answer."""
        ...


class OpenFile(Protocol):
    """One open object (see `store.handle.OpenFile`)."""

    async def read(self, offset: int, size: int) -> Bytes:
        """Return `size` bytes from `offset`, fewer only at the end of the file."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class PinnedFile(OpenFile, Protocol):
    """An open object as the store returns it."""

    @property
    def pin(self) -> Pin:
        """The version pin."""
        ...


class Ahead(Protocol):
    """One file's prefetch (see `store.ahead.Ahead`)."""

    @property
    def is_done(self) -> bool:
        """Whether everything was fetched."""
        ...

    def cancel(self) -> None:
        """Cancel the prefetch: the file will not be read."""
        ...


class Files(Protocol):
    """The byte store (see `store.store.FileStore`)."""

    def open(
        self,
        object_id: str,
        *,
        size: int,
        name: str,
        stamp: str | None = None,
        reading: Reading = Reading.ANY,
        expected: Version | None = None,
    ) -> PinnedFile:
        """Open an object of `size` bytes; waits for nothing. `name` is used in error messages.

        `stamp` changes whenever the object may have changed; None if unknown. `reading` is how it
        will be read, as far as known. With `expected`, reads of another version fail, unless one is
        pinned already.
        """
        ...

    async def ensure_version(
        self, object_id: str, *, name: str, stamp: str | None = None
    ) -> Version:
        """Return the object's version with its size; if unknown, costs a link and a range."""
        ...

    def start_version(self, object_id: str, *, name: str, stamp: str | None = None) -> None:
        """Fetch the version of an object that will soon be needed, in the background."""
        ...

    def start_ahead(
        self,
        object_id: str,
        spans: Callable[[int], Sequence[ByteRange]],
        *,
        size: int | None,
        name: str,
        stamp: str | None = None,
    ) -> Ahead:
        """Start prefetching `spans(size)` of an object that will soon be opened; does not wait."""
        ...

    def forget(self, object_id: str) -> None:
        """Drop all cached state of an object that changed or vanished."""
        ...

    def tally(self, object_id: str) -> Mapping[str, int]:
        """The counters of an object since the mount was made; {} if nothing was counted."""
        ...

    async def ensure_cached_bytes(
        self, object_id: str, *, size: int | None, name: str, stamp: str | None = None
    ) -> int:
        """Bytes of the object in memory or on disk."""
        ...


class Documents(Protocol):
    """The API's description of one object, fetched on access (see `api.client.Client`)."""

    async def asset_document(self, asset_id: str) -> dict[str, Any]:
        """The asset as the API returns it."""
        ...

    async def order_document(self, order_id: str) -> dict[str, Any]:
        """The order as the API returns it."""
        ...

    async def sign(self, asset_id: str) -> SignedUrl:
        """A fresh presigned link."""
        ...


class Readiness(Protocol):
    """Whether the catalogue is complete enough (see `catalog.sync.Sync`)."""

    async def ready(self, *parts: Part, timeout_s: float) -> None:
        """Return once the first listing of `parts` is complete; raises an `Up42fsError`."""
        ...

    async def ready_order(self, order_id: str, *, timeout_s: float) -> None:
        """Return once the assets of one order are known; raises an `Up42fsError`."""
        ...

    def status(self) -> Mapping[str, object]:
        """State of the listings, for `status.json`."""
        ...

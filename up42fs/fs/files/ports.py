"""What the file system needs from the layers beside it, as Protocols: it never sees a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from up42fs.catalog.sync import Part
from up42fs.readahead.tuning import Reading
from up42fs.types import ByteRange, Bytes, SignedUrl, Version


class Pin(Protocol):
    """What holds the version of all handles that share it (see `store.http.answer.VersionPin`)."""

    @property
    def version(self) -> Version | None:
        """The one version whose bytes are read; None until an answer has named it."""
        ...


class OpenFile(Protocol):
    """One open object (see `store.store.OpenFile`)."""

    async def read(self, offset: int, size: int) -> Bytes:
        """The bytes from `offset`, `size` of them unless the file ends; never fewer."""
        ...

    def close(self) -> None:
        """No more reads will come."""
        ...


class PinnedFile(OpenFile, Protocol):
    """An open object as the store hands it out."""

    @property
    def pin(self) -> Pin:
        """What holds its version."""
        ...


class Ahead(Protocol):
    """One file's fetch before it is opened (see `store.ahead.Ahead`)."""

    @property
    def is_done(self) -> bool:
        """Whether all that was to be fetched is here."""
        ...

    def cancel(self) -> None:
        """Nobody will read it."""
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
        """Open an object of `size` bytes; waits for nothing. `name` is for error messages.

        `stamp` is another one whenever the object may have changed; None where nobody knows.
        `reading` is how it will be read, as far as anybody knows. With `expected`, reads of
        another version fail, unless one is pinned already.
        """
        ...

    async def ensure_version(
        self, object_id: str, *, name: str, stamp: str | None = None
    ) -> Version:
        """The object's version, its size in it: a link and a range where nobody knows it."""
        ...

    def start_version(self, object_id: str, *, name: str, stamp: str | None = None) -> None:
        """Begin to learn the version of an object that will soon be asked for; no waiting."""
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
        """Begin to fetch `spans(size)` of an object that will soon be opened; no waiting."""
        ...

    def forget(self, object_id: str) -> None:
        """Drop what is held of an object that changed or vanished."""
        ...

    def tally(self, object_id: str) -> Mapping[str, int]:
        """What an object cost since the mount was made, by counter; {} where it cost nothing."""
        ...

    async def ensure_cached_bytes(
        self, object_id: str, *, size: int | None, name: str, stamp: str | None = None
    ) -> int:
        """Bytes of the object held locally, in memory or on disk."""
        ...


class Documents(Protocol):
    """UP42's own words about one object, asked when somebody looks (see `api.client.Client`)."""

    async def asset_document(self, asset_id: str) -> dict[str, Any]:
        """The asset as the API sends it."""
        ...

    async def order_document(self, order_id: str) -> dict[str, Any]:
        """The order as the API sends it."""
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

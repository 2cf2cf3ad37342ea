"""The packed bytes of one member: where they begin, of which version they are, and how they come.

Knows the archive's fetcher, versions and the local header; nothing of engines, runs or readers.

Theory. Where a zip's member begins stands in its local header only. So its first request begins
there, and extends to what the reader is expected to need. Who has to look first whether more is to
be read at all may leave what it began behind (`leave`): the run that follows goes on with it.

The member's version is made of the archive's strong ETag, the place and both sizes. So a replaced
archive makes another version by itself, and without a strong ETag nothing is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from up42fs.errors import Up42fsError, VersionChanged
from up42fs.readahead.placed import HEADER_BYTES, LOCAL_BYTES
from up42fs.store.http.answer import VersionPin
from up42fs.store.members.extent import Extent
from up42fs.store.members.inflate.engines import DamagedStreamError
from up42fs.store.members.inflate.identity import version_of
from up42fs.store.members.inflate.inflaters import Upstream
from up42fs.store.members.inflate.inflow import BLOCK_BYTES, Inflow
from up42fs.store.members.inflate.run import expected
from up42fs.types import Version

_LOCAL = b"PK\x03\x04"

ErrorOf = Callable[[type[Up42fsError], str, str], Up42fsError]


class PackedBytes:
    """The way to one member's packed bytes."""

    def __init__(
        self,
        extent: Extent,
        size: int,
        pin: VersionPin,
        *,
        upstream: Callable[[], Awaitable[Upstream]],
        error: ErrorOf,
    ) -> None:
        """`size` is the one that the member counts with; `error` makes an error that names it."""
        self.extent = extent
        #: Where they begin in the archive; None until the local header was read.
        self.data_at = extent.data_at
        self._size = size
        self._pin = pin
        self._upstream = upstream
        self._error = error
        self._left: Inflow | None = None

    async def open(self) -> Inflow:
        """A reader of them: the one that was left behind, or a new one.

        Raises an `Up42fsError`.
        """
        if self._left is not None:
            left, self._left = self._left, None
            return left
        return await self.open_another()

    async def open_another(self, *, is_scattered: bool = False) -> Inflow:
        """A new reader of them, see `Inflow`; raises an `Up42fsError`."""
        upstream = await self._upstream()
        return Inflow(
            upstream.open, upstream.fetcher.size, upstream.base,
            is_small=self.extent.packed_size <= BLOCK_BYTES, is_scattered=is_scattered,
        )  # fmt: skip

    def leave(self, inflow: Inflow) -> None:
        """Leave a reader for the next caller of `open`, with what it requested."""
        self.close_left()
        self._left = inflow

    def close_left(self) -> None:
        """Close a reader that was left behind, if nobody took it."""
        if self._left is not None:
            left, self._left = self._left, None
            left.close()

    async def archive_size(self) -> int:
        """The size of the archive that they stand in."""
        if self.extent.archive.size is not None:
            return self.extent.archive.size
        upstream = await self._upstream()
        return upstream.fetcher.size - upstream.base

    async def settle_known(self) -> None:
        """Pin the version that follows from the archive's, as far as that needs no request."""
        upstream = await self._upstream()
        if upstream.version is None:
            await upstream.fetcher.source.ready()
        if upstream.version is not None:
            self._settle(upstream.version)

    def settle(self, inflow: Inflow) -> None:
        """Pin the version that the archive's answer told."""
        if inflow.file.version is not None:
            self._settle(inflow.file.version)

    def _settle(self, archive: Version) -> None:
        if not self._pin.settle(version_of(archive, self.extent, self._size)):
            raise self._error(
                VersionChanged, "its archive is another version", "open it again to read it"
            )

    async def find_data(self, inflow: Inflow, limit: int) -> int:
        """The offset of the packed bytes, behind the local header.

        The request for the header extends to `limit`. Raises DamagedStreamError if there is none.
        """
        if self.data_at is not None:
            if self._pin.version is None:
                await inflow.read(self.data_at, 1, limit)
                self.settle(inflow)
            return self.data_at
        at = self.extent.header_at
        head = await inflow.read(at, LOCAL_BYTES, limit)
        self.settle(inflow)
        if bytes(head[:4]) != _LOCAL:
            raise DamagedStreamError("its archive has no header where it should begin")
        lengths = bytes(head[26:30])
        names = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        self.data_at = at + LOCAL_BYTES + names
        return self.data_at

    @property
    def data_from(self) -> int:
        """Where they begin, at the latest in most zips: a request for the header ends there."""
        return self.extent.header_at + HEADER_BYTES if self.data_at is None else self.data_at

    def limit(self, stop: int, size: int | None) -> int:
        """Up to where they are needed for output up to `stop` of `size` bytes, about."""
        packed = self.extent.packed_size
        ratio = min(1.0, packed / max(1, size or packed))
        return self.data_from + min(packed, expected(stop * ratio))

"""One object's bytes from the disk cache if it has them, otherwise from the network, then cached.

Has the interface of `source.Source` and fills parts as it does. Knows when cached bytes may be
used; nothing of files, readers or what is in memory.

Theory. Cached bytes belong to a version (ETag and size); a read must return those of the object's
current version. Revalidating costs a request, and a cache that must revalidate is no use offline.
UP42's objects do not change as far as anyone has seen (contract §6, inferred), so a cached version
is used without revalidation as long as the catalogue still reports the same size and *stamp*, the
time of the object's last update there. Edits of titles and tags change that time too: then the
version is *doubtful*, and nothing cached is used until an answer of the store has named the same
ETag; the bytes are then kept with the new stamp. The same holds if the stamp changes while mounted:
the next open revalidates. (It could read from memory, but that is how an old version would get a
new stamp.) A version used without revalidation is pinned like one that was answered: requests for
other bytes carry `If-Match`, and if the store holds another version the read fails as changed, the
cached file is deleted, and the next open gets the new version.

The ranges that the file claims to hold are read once (`ready`), before the first read, so that
ranges can be cut into pieces to load and to fetch (`cut`), which never waits. They are only claims:
a range that does not verify, or whose file another mount has evicted, is fetched after all. Only
bytes of accepted answers of a pinned version come here, so what is cached is right by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from up42fs.errors import Up42fsError, VersionChanged
from up42fs.ranges import RangeSet, intersect
from up42fs.store.disk.cache import DiskCache
from up42fs.store.disk.files import Wanted
from up42fs.store.disk.format import Cells, Label, cut
from up42fs.store.disk.room import Use
from up42fs.store.http.answer import VersionPin
from up42fs.store.http.source import Source, Target
from up42fs.types import ByteRange, Bytes, Version

#: Cached bytes between missing ones that justify splitting one request into two, in bytes.
WORTH_BYTES = 512 << 10


class KeptTarget(Target, Protocol):
    """A part to be filled, whose bytes can be read back."""

    @property
    def in_scan(self) -> bool:
        """Whether a long run requested it, whose bytes are unlikely to be read again."""
        ...

    def space(self) -> memoryview:
        """The memory for the missing bytes."""
        ...

    def fill(self, count: int) -> bool:
        """Count the next `count` bytes as written."""
        ...

    def stop(self) -> None:
        """Accept no more bytes."""
        ...

    def peek(self, span: ByteRange) -> memoryview:
        """The bytes of `span`, which have arrived."""
        ...

    def hold(self) -> None:
        """Keep its memory, and count it, until `release`."""
        ...

    def release(self) -> None:
        """Undo `hold`."""
        ...


class ObjectSource(Protocol):
    """The source of a fetcher's bytes: the network, with or without a disk cache before it."""

    stamp: str | None

    @property
    def pin(self) -> VersionPin:
        """The one version whose bytes may be used."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether `cut` knows all that the disk holds."""
        ...

    @property
    def is_in_doubt(self) -> bool:
        """Whether the network's first answer may show that much is cached already."""
        ...

    async def ready(self) -> None:
        """Survey the cached bytes; never fails."""
        ...

    def doubts(self, stamp: str | None) -> bool:
        """Whether the catalogue's `stamp` requires revalidating the object's version."""
        ...

    def cut(self, span: ByteRange, wanted: ByteRange | None) -> list[ByteRange]:
        """Cut `span` into pieces to be filled separately; see `store.disk.format.cut`."""
        ...

    def lacks(self, span: ByteRange) -> bool:
        """Whether any byte of `span` would come from the network."""
        ...

    def held_in(self, spans: Iterable[ByteRange]) -> int:
        """Number of bytes on disk or in `spans`, which are in memory."""
        ...

    async def fetch(self, target: KeptTarget) -> None:
        """Fill `target`; raises an `Up42fsError`."""
        ...

    def keep(self, span: ByteRange | None, data: memoryview) -> None:
        """Cache bytes that arrived outside of `fetch`; without `span` only the version."""
        ...

    def forget(self) -> None:
        """Stop caching and using cached bytes: the object changed or vanished."""
        ...

    def error(self, error: type[Up42fsError], what: str) -> Up42fsError:
        """Build an error that names the object and a remedy."""
        ...


class NetworkOnly:
    """A source without a disk cache."""

    is_ready = True
    is_in_doubt = False

    def __init__(self, source: Source) -> None:
        self.stamp: str | None = None
        self.pin = source.pin
        self.fetch = source.fetch
        self.error = source.error

    async def ready(self) -> None:
        """No-op: there is nothing to survey."""

    def doubts(self, stamp: str | None) -> bool:
        """Whether the catalogue's `stamp` calls for another look at the object's version."""
        return stamp != self.stamp

    def cut(self, span: ByteRange, wanted: ByteRange | None) -> list[ByteRange]:  # noqa: ARG002
        """Return `span` uncut: one request each."""
        return [span]

    def lacks(self, span: ByteRange) -> bool:  # noqa: ARG002
        """True: all bytes come from the network."""
        return True

    def held_in(self, spans: Iterable[ByteRange]) -> int:
        """Number of bytes in memory."""
        return sum(map(len, spans))

    def keep(self, span: ByteRange | None, data: memoryview) -> None:
        """No-op: nothing is cached."""

    def forget(self) -> None:
        """No-op: nothing is cached."""


class DiskFirst:
    """A source that reads the disk cache first."""

    def __init__(self, source: Source, disk: DiskCache, object_id: str, stamp: str | None) -> None:
        self.stamp = stamp
        self.pin = source.pin
        self.error = source.error
        self._source = source
        self._disk = disk
        self._object_id = object_id
        self._held = RangeSet()
        self._is_surveyed = False
        self._surveyed: Version | None = None  # the version that was pinned at that time
        self._has_other_stamp = False
        self._surveying = trio.Lock()
        self._is_over = False

    # planning ------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the file was surveyed; again required after a doubtful version was answered."""
        if not self._disk.is_on:
            return True
        return self._is_surveyed and self._surveyed == self.pin.version

    async def ready(self) -> None:
        """Survey what the file claims to hold, and pin its version unless it is doubtful."""
        async with self._surveying:
            if self.is_ready:
                return
            version = self.pin.version
            survey = await self._disk.survey(self._wanted())
            if survey is not None and self.pin.assume(survey.version):
                version = survey.version
                for span in survey.spans:
                    self._held.add(span)
            elif version is None:
                label = await self._disk.label(self._object_id)
                self._has_other_stamp = label is not None and label.stamp != self.stamp
            self._is_surveyed, self._surveyed = True, version

    @property
    def is_in_doubt(self) -> bool:
        """Whether cached bytes may turn out to be of the version that the store will answer."""
        return self._has_other_stamp and self.pin.version is None

    def doubts(self, stamp: str | None) -> bool:
        """Whether the catalogue's `stamp` calls for another look at the object's version."""
        # Also while the disk cache is off: what memory holds may be of an older version.
        return stamp != self.stamp

    def cut(self, span: ByteRange, wanted: ByteRange | None) -> list[ByteRange]:
        """Cut `span` into pieces, each to be loaded or fetched."""
        if not self._disk.is_on:
            return [span]
        return cut(span, self._held, wanted, WORTH_BYTES)

    def lacks(self, span: ByteRange) -> bool:
        """Whether any byte of `span` would come from the network."""
        return not (self._disk.is_on and self._held.covers(span))

    def held_in(self, spans: Iterable[ByteRange]) -> int:
        """Number of bytes on disk or in `spans`, which are in memory."""
        both = RangeSet(self._held if self._disk.is_on else ())
        for span in spans:
            both.add(span)
        return both.total

    # filling -------------------------------------------------------------------------------

    async def fetch(self, target: KeptTarget) -> None:
        """Fill `target`; raises an `Up42fsError`."""
        while (asked := target.missing) is not None and not target.stopped:
            if self._disk.is_on and self._held.covers(ByteRange(asked.start, asked.start + 1)):
                await self._load(target, asked)
            else:
                await self._fetch(target, self.cut(asked, None)[0])

    def keep(self, span: ByteRange | None, data: memoryview) -> None:
        """Cache bytes that arrived outside of `fetch`; without `span` only the version."""
        version = self.pin.version
        if version is not None and not self._is_over:
            self._keep(Label(self._object_id, version, self.stamp), span, data, Use.READ)

    def forget(self) -> None:
        """Stop caching and using cached bytes: the object changed or vanished."""
        self._is_over = True
        self._held.clear()

    async def _load(self, target: KeptTarget, asked: ByteRange) -> None:
        loaded = await self._disk.load(self._wanted(), asked, target.space()[: len(asked)])
        if loaded is None:
            self._held.clear()  # evicted, or another mount cached another version
            if not self._disk.is_on:
                target.stop()  # a stuck worker may still write here: use other memory
        elif loaded:
            target.fill(loaded)
        else:
            assert self.pin.version is not None, "or nothing would be held"
            cells = Cells(Label(self._object_id, self.pin.version))
            self._held.discard(cells.whole(cells.under(asked).start))

    async def _fetch(self, target: KeptTarget, span: ByteRange) -> None:
        stamp = self.stamp
        try:
            await self._source.fetch(_Until(target, span.stop))
            await self.ready()  # the answer may have settled a doubt; the reader has its bytes
            await self._disk.wait_for_room(len(span))
        except VersionChanged:
            self.forget()
            raise
        finally:
            rest = target.missing
            stop = span.stop if rest is None else min(rest.start, span.stop)
            if stop > span.start:
                self._keep_part(target, ByteRange(span.start, stop), stamp)

    def _keep_part(self, target: KeptTarget, span: ByteRange, stamp: str | None) -> None:
        version = self.pin.version
        if version is None or self._is_over:
            return
        label = Label(self._object_id, version, stamp)
        use = Use.SCAN if target.in_scan else Use.READ
        target.hold()
        self._keep(label, span, target.peek(span), use, target.release)

    def _keep(
        self,
        label: Label,
        span: ByteRange | None,
        data: memoryview,
        use: Use,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        def on_kept(spans: list[ByteRange]) -> None:
            on_over()
            for one in () if self._is_over else spans:
                self._held.add(one)

        self._disk.keep(
            label, span, data,
            use=use, is_valid=lambda: not self._is_over, on_kept=on_kept,
        )  # fmt: skip

    def _wanted(self) -> Wanted:
        return Wanted(self._object_id, self.pin.size, self.stamp, self.pin.version)


class _Until:
    """A target that counts as full once its bytes up to `stop` have arrived."""

    def __init__(self, target: KeptTarget, stop: int) -> None:
        self._target = target
        self._stop = stop

    @property
    def missing(self) -> ByteRange | None:
        rest = self._target.missing
        return None if rest is None else intersect(rest, ByteRange(0, self._stop))

    @property
    def stopped(self) -> bool:
        return self._target.stopped

    @property
    def wanted(self) -> bool:
        return self._target.wanted

    @property
    def deadline_s(self) -> float:
        return self._target.deadline_s

    def write(self, data: Bytes) -> bool:
        return self._target.write(data)

    def space(self) -> memoryview | None:
        return self._target.space()

    def fill(self, count: int) -> bool:
        return self._target.fill(count)

    def abandon(self) -> None:
        self._target.abandon()

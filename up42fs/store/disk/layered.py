"""One object's bytes from the disk cache if it has them, otherwise from the network, then cached.

Fills parts like `http.source.NetworkSource`.

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

Other processes write to the same file. So before a range is requested, its cells are looked at once
more, and the range is claimed, so that two processes do not fetch it both (`disk.claims`). A range
that memory or the known part of the file holds costs no such look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from up42fs.errors import Up42fsError, VersionChanged
from up42fs.ranges import RangeSet
from up42fs.store.disk.cache import DiskCache
from up42fs.store.disk.cached_files import Use
from up42fs.store.disk.claims import Next, Patience, decide, pause_s
from up42fs.store.disk.files import Survey, Wanted
from up42fs.store.disk.format import Cells, Label, cut
from up42fs.store.disk.locks import Claim
from up42fs.store.http.answer import VersionPin
from up42fs.store.part import Part
from up42fs.types import ByteRange, Version

#: Cached bytes between missing ones that justify splitting one request into two, in bytes.
WORTH_BYTES = 512 << 10


class Source(Protocol):
    """What fills parts: the network, or an inflater.

    `keeps` tells whether it passes its bytes to `ObjectSource.keep` itself.
    """

    pin: VersionPin
    keeps: bool

    async def fetch(self, part: Part, stop: int | None = None) -> None:
        """Fill `part`, up to offset `stop` if given; raises an `Up42fsError`.

        A source that `keeps` may also return early: the bytes are on disk by now.
        """

    def error(self, error: type[Up42fsError], what: str, cure: str | None = None) -> Up42fsError:
        """An error that names the object and the cure."""


class Due(Protocol):
    """Gets the ranges that parts were made for."""

    def add(self, span: ByteRange, *, wanted: bool) -> None:
        """A part was made for `span`; `wanted`: a reader waits for it."""

    def discard(self, span: ByteRange) -> None:
        """That part is over."""


class ObjectSource:
    """The source of a fetcher's bytes: the network, with or without a disk cache before it."""

    def __init__(
        self, source: Source, disk: DiskCache | None, object_id: str, stamp: str | None
    ) -> None:
        self.stamp = stamp
        self.pin = source.pin
        self.error = source.error
        #: Gets the ranges that are about to be filled from the source.
        self.due: Due | None = None
        #: What fills parts with bytes that the disk lacks.
        self.filled_by = source
        self._disk = disk
        self._object_id = object_id
        self._held = RangeSet()
        self._is_surveyed = False
        self._surveyed: Version | None = None  # the version that was pinned at that time
        self._has_other_stamp = False
        self._surveying = trio.Lock()
        self._patience = Patience()
        self._is_over = False

    @property
    def is_network_only(self) -> bool:
        """Whether all bytes come from the object store as they are, and none is kept on disk."""
        return self._disk is None and not self.filled_by.keeps

    # planning ------------------------------------------------------------------------------

    def foresee(self, span: ByteRange, *, wanted: bool) -> None:
        """A part was made for `span`; those of one plan are made before any is filled."""
        if self.due is not None and self.lacks(span):
            self.due.add(span, wanted=wanted)

    def filled(self, span: ByteRange) -> None:
        """The part of `span` is over, filled or not."""
        if self.due is not None:
            self.due.discard(span)

    @property
    def is_ready(self) -> bool:
        """Whether the file was surveyed; again required after a doubtful version was answered."""
        if self._disk is None or not self._disk.is_on:
            return True
        return self._is_surveyed and self._surveyed == self.pin.version

    async def ready(self) -> None:
        """Survey what the file claims to hold, and pin its version unless it is doubtful."""
        async with self._surveying:
            if self._disk is None or self.is_ready:
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
        if self._disk is None or not self._disk.is_on:
            return [span]
        return cut(span, self._held, wanted, WORTH_BYTES)

    def lacks(self, span: ByteRange) -> bool:
        """Whether any byte of `span` would come from the network."""
        return not (self._disk and self._disk.is_on and self._held.covers(span))

    def held_in(self, spans: Iterable[ByteRange]) -> int:
        """Number of bytes on disk or in `spans`, which are in memory."""
        return self._either(spans).total

    def held_within(self, spans: Iterable[ByteRange], within: ByteRange) -> int:
        """Number of bytes of `within` on disk or in `spans`, which are in memory."""
        return len(within) - sum(map(len, self._either(spans).missing(within)))

    def _either(self, spans: Iterable[ByteRange]) -> RangeSet:
        both = RangeSet(self._held if self._disk and self._disk.is_on else ())
        for span in spans:
            both.add(span)
        return both

    # filling -------------------------------------------------------------------------------

    async def fetch(self, part: Part) -> None:
        """Fill `part`; raises an `Up42fsError`."""
        if self._disk is None:
            await self.filled_by.fetch(part)
            return
        looked_at = -1
        while (asked := part.missing) is not None and not part.stopped:
            if self.pin.size is not None and asked.start >= self.pin.size:
                return  # its size was learned with the first bytes
            if not self._lacks_byte(asked.start):
                await self._load(part, asked, self._disk)
                continue
            claim, is_held = None, False
            if not self.filled_by.keeps and looked_at != asked.start:
                looked_at = asked.start  # what was found there may turn out to be damaged
                claim, is_held = await self._look(part, self.cut(asked, None)[0], self._disk)
            if not is_held:
                await self._fetch(part, self.cut(asked, None)[0], self._disk, claim)

    def keep(
        self,
        span: ByteRange | None,
        data: memoryview,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """Cache bytes that arrived outside of `fetch`; without `span` only the version.

        `on_over` is called once `data` is written, or will not be.
        """
        version = self.pin.version
        if version is None or self._is_over or self._disk is None:
            on_over()
            return
        self._keep(Label(self._object_id, version, self.stamp), span, data, Use.READ, on_over)

    async def look_again(self) -> int:
        """Read once more what the file claims to hold: other mounts write to it. Bytes held."""
        if self._disk is not None and self._disk.is_on and self.pin.version is not None:
            self._learn(await self._disk.survey(self._wanted()))
        return self._held.total

    async def wait_for_room(self, wanted_bytes: int) -> None:
        """Return once so many bytes can be kept, or when waiting is not worthwhile."""
        if self._disk is not None and not self._is_over:
            await self._disk.wait_for_room(wanted_bytes)

    def forget(self) -> None:
        """Stop caching and using cached bytes: the object changed or vanished."""
        self._is_over = True
        self._held.clear()

    def _lacks_byte(self, at: int) -> bool:
        return self.lacks(ByteRange(at, at + 1))

    async def _look(
        self, part: Part, span: ByteRange, disk: DiskCache
    ) -> tuple[Claim | None, bool]:
        """Look what others stored of `span`, and wait while another process fetches it.

        Returns this process's claim of it, if it is to be fetched; and whether its first byte is on
        disk.
        """
        began_s = trio.current_time()
        has_waited = False
        while True:
            look = await disk.look(self._wanted(), span, claiming=not part.is_passing)
            if look is None:
                return None, False
            self._learn(look.survey)
            is_held, now_s = not self._lacks_byte(span.start), trio.current_time()
            verdict = decide(
                is_held=is_held,
                is_ours=look.is_ours,
                waited_s=now_s - began_s,
                patience_s=self._patience.longest_s(
                    now_s, wanted=part.wanted, left_s=part.deadline_s - now_s
                ),
            )
            if verdict is not Next.WAIT:
                break
            has_waited = True
            await trio.sleep(pause_s(now_s - began_s))
        if has_waited:
            self._patience.waited(now_s, brought=is_held)
        if is_held and look.claim is not None:
            look.claim.release()
            return None, True
        return look.claim, is_held

    def _learn(self, survey: Survey | None) -> None:
        if survey is not None and not self._is_over and self.pin.assume(survey.version):
            for span in survey.spans:
                self._held.add(span)

    async def _load(self, part: Part, asked: ByteRange, disk: DiskCache) -> None:
        space = part.space()
        assert isinstance(space, memoryview), "a copy to a file passes the disk by"
        loaded = await disk.load(self._wanted(), asked, space[: len(asked)])
        if loaded is None:
            self._held.clear()  # evicted, or another mount cached another version
            if not disk.is_on:
                part.stop()  # a stuck worker may still write here: use other memory
        elif loaded:
            part.fill(loaded)
        else:
            assert self.pin.version is not None, "or nothing would be held"
            cells = Cells(Label(self._object_id, self.pin.version))
            self._held.discard(cells.whole(cells.under(asked).start))

    async def _fetch(
        self, part: Part, span: ByteRange, disk: DiskCache, claim: Claim | None
    ) -> None:
        stamp = self.stamp
        try:
            await self.filled_by.fetch(part, span.stop)
            await self.ready()  # the answer may have settled a doubt; the reader has its bytes
            if not self.filled_by.keeps:
                await disk.wait_for_room(len(span))
        except VersionChanged:
            self.forget()
            raise
        finally:
            rest = part.missing
            stop = span.stop if rest is None else min(rest.start, span.stop)
            if stop > span.start and self._is_to_keep(part):
                self._keep_part(part, ByteRange(span.start, stop), stamp, claim)
            elif claim is not None:
                claim.release()

    def _is_to_keep(self, part: Part) -> bool:
        is_usable = self.pin.version is not None and not self._is_over
        return is_usable and not (part.is_passing or self.filled_by.keeps)

    def _keep_part(
        self, part: Part, span: ByteRange, stamp: str | None, claim: Claim | None
    ) -> None:
        assert self.pin.version is not None, "it is to be kept"
        label = Label(self._object_id, self.pin.version, stamp)
        use = Use.SCAN if part.in_scan else Use.READ

        def on_over() -> None:
            part.release()
            if claim is not None:
                claim.release()  # if the bytes were not written

        part.hold()
        self._keep(label, span, part.peek(span), use, on_over, claim)

    def _keep(
        self,
        label: Label,
        span: ByteRange | None,
        data: memoryview,
        use: Use,
        on_over: Callable[[], None] = lambda: None,
        claim: Claim | None = None,
    ) -> None:
        if self._disk is None:
            return

        def on_kept(spans: list[ByteRange]) -> None:
            on_over()
            for one in () if self._is_over else spans:
                self._held.add(one)

        self._disk.keep(
            label, span, data,
            use=use, is_valid=lambda: not self._is_over, on_kept=on_kept, claim=claim,
        )  # fmt: skip

    def _wanted(self) -> Wanted:
        return Wanted(self._object_id, self.pin.size, self.stamp, self.pin.version)

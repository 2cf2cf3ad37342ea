"""Reads a whole listing page by page while it changes: assets, orders, STAC.

The caller passes a function that fetches one page.

Theory. Page numbers count over a changing set, and pages are fetched in parallel, so a row can slip
through the seam between two pages: a removal pulls later rows forward, an arrival pushes them back.
The listing is read newest first. A pass is *sound* if, after its last page, page 0 still has the
same total and the same rows as at its start, and no row came twice: `createdAt` is set on arrival,
so any arrival would show on page 0 and any removal in the total (removals and arrivals that cancel
out in the total leave an arrival on page 0). After an unsound pass, another one follows with a
smaller page size, which moves the seams. If two parallel passes are unsound, the listing is read
one page at a time (`_Passes.careful_pass`).

Cost: one request beyond the pages, none for a listing of one page.

Rejected: comparing totals alone (a removal and an arrival cancel out), and two full passes.

Limit: changes that hide their traces within one pass can hide a row until the next: a row that
appears with an older `createdAt` than page 0 shows while another is removed, or a whole page of
rows that arrive and are removed again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import trio

from up42fs.api.links import NextLink
from up42fs.api.schema import parse_count
from up42fs.errors import InvalidAnswer, InvalidArgument, NotFound, Up42fsError
from up42fs.model.stac import StacCollection, StacItem
from up42fs.types import Asset, Order

log = logging.getLogger(__name__)

#: Page sizes to try, the largest first: UP42's maximum is not documented (contract §2).
SIZES = (100, 50, 20)
STAC_LIMITS = (100, 50, 20, 10)
NEWEST_FIRST = "createdAt,desc"
OLDEST_FIRST = "createdAt,asc"
#: Pages fetched at the same time, and parallel passes before the sequential one.
PARALLEL = 8
PARALLEL_PASSES = 2
#: The page size shrinks by one part in this many from pass to pass, to move the seams.
SEAM_SHARE = 14
#: How often a walk over a keyset-paged listing may start again.
RESTARTS = 2


A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
R = TypeVar("R", bound=Asset | Order | StacCollection | StacItem)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One numbered page. `total` and `size` are None if UP42 gave none.

    `total_pages` is a lower bound if UP42 gave none. `rows` counts all its rows, including those
    that could not be parsed.
    """

    items: tuple[T, ...]
    number: int
    total_pages: int
    total: int | None
    size: int | None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class StacPage(Generic[T]):
    """One page of a keyset-paged listing; `next` is None on the last."""

    items: tuple[T, ...]
    next: NextLink | None


#: `(page number, size, sort)` -> that page.
FetchPage = Callable[[int, int, str], Awaitable[Page[R]]]
#: `(link or None for the first, limit)` -> that page.
FetchStacPage = Callable[[NextLink | None, int], Awaitable[StacPage[R]]]


def parse_page(
    document: Mapping[str, Any],
    parse_row: Callable[[object], T | None],
    *,
    number: int,
    size: int,
) -> Page[T]:
    """Parse Spring's page envelope (contract §2.1), of which only `content` is required.

    `number` and `size` are those of the request. Raises InvalidAnswer if `content` is no list.
    """
    total = parse_count(document.get("totalElements"))
    content = document.get("content")
    if content is None and (document.get("empty") is True or total == 0):
        content = []
    if not isinstance(content, list):
        raise InvalidAnswer(
            "UP42 answered without a page of results; try again later, and check UP42_API_URL"
        )
    said_size = parse_count(document.get("size")) or None
    return Page(
        items=tuple(row for row in map(parse_row, content) if row is not None),
        number=number,
        total_pages=_total_pages(document, len(content), number, said_size or size, total),
        total=total,
        size=said_size,
        rows=len(content),
    )


def _total_pages(
    document: Mapping[str, Any], rows: int, number: int, size: int, total: int | None
) -> int:
    said = parse_count(document.get("totalPages"))
    if said:
        return said
    if total is not None:
        return max(-(-total // size), number + 1 if rows else 0)
    if rows == 0:
        return 0
    last = document.get("last")
    more = not last if isinstance(last, bool) else rows >= size
    return number + 2 if more else number + 1


@dataclass(slots=True)
class Memo:
    """Facts from earlier readings: `twins`, IDs listed twice for good, and the last `total`."""

    twins: set[str] = field(default_factory=set)
    total: int | None = None


async def crawl(
    fetch: FetchPage[R],
    *,
    sizes: Sequence[int] = SIZES,
    parallel: int = PARALLEL,
    memo: Memo | None = None,
) -> AsyncGenerator[R, None]:
    """Yield every row once even if the listing changes; mostly newest first.

    Raises the errors of `fetch`. After a 400 to the first request, retries it with the next smaller
    page size of `sizes`.
    """
    memo = Memo() if memo is None else memo
    memo.total = None
    passes = _Passes(fetch, parallel, memo)
    first, size = await _first_accepted(lambda size: fetch(0, size, NEWEST_FIRST), sizes)
    size = _effective(first, size)
    for number in range(PARALLEL_PASSES):
        start = first if number == 0 else await fetch(0, size, NEWEST_FIRST)
        async with aclosing(passes.parallel_pass(start, size)) as rows:
            async for row in rows:
                yield row
        if passes.sound:
            return
        size = max(1, size - max(1, size // SEAM_SHARE))
    log.debug("the listing keeps changing; reading it page by page from its end")
    async with aclosing(passes.careful_pass(size)) as rows:
        async for row in rows:
            yield row


async def _first_accepted(
    fetch: Callable[[int], Awaitable[A]], sizes: Sequence[int]
) -> tuple[A, int]:
    """The first page in the largest of `sizes` that UP42 does not refuse, and that size."""
    for size in sizes[:-1]:
        try:
            return await fetch(size), size
        except InvalidArgument:
            continue
    return await fetch(sizes[-1]), sizes[-1]


def _effective(page: Page[R], size: int) -> int:
    """The page size that the server uses: it may have clamped the request without reporting it."""
    shown = page.rows if page.total_pages > 1 and page.rows else size
    return min(size, shown, page.size or size)


@dataclass(frozen=True, slots=True)
class _PassRows:
    """The rows of one pass: all IDs, those on two pages, and whether page 0 stayed the same."""

    ids: frozenset[str]
    repeated: frozenset[str]
    is_calm: bool


class _Passes(Generic[R]):
    """The passes of one crawl; `sound` reports whether the last one missed nothing."""

    def __init__(self, fetch: FetchPage[R], parallel: int, memo: Memo) -> None:
        self._fetch = fetch
        self._parallel = parallel
        self._memo = memo
        self._yielded: set[str] = set()
        self._total: int | None = None
        self._last: _PassRows | None = None
        #: Rows of all passes so far, including those without an ID.
        self._rows = 0
        self.sound = False

    async def parallel_pass(self, first: Page[R], size: int) -> AsyncGenerator[R, None]:
        """All pages, newest first, up to `parallel` at a time."""
        seen, repeated = set[str](), set[str]()
        self._take(first, seen, repeated)
        for row in self._new(first):
            yield row
        done, known = 1, first.total_pages
        while done < known:
            numbers = range(done, min(known, done + self._parallel))
            # No nursery is open while rows are yielded: the consumer may never resume this
            # generator.
            pages = await self._batch(numbers, size)
            before = len(seen)
            for page in pages:
                self._take(page, seen, repeated)
                known = max(known, page.total_pages) if page.rows else known
                for row in self._new(page):
                    yield row
            done = numbers.stop
            # No new rows: past the end, or a server that ignores `page`. If UP42 gave a total,
            # though, a page may consist of rows without an ID; then go on.
            is_full_of_others = any(page.rows and not page.items for page in pages)
            if len(seen) == before and (first.total is None or not is_full_of_others):
                break
        await self._judge(first, size, done, seen, repeated)

    async def careful_pass(self, size: int) -> AsyncGenerator[R, None]:
        """All pages one by one, from the last to the first, oldest first.

        Arrivals append behind the reader, and removals move rows towards pages not read yet, so no
        row that existed throughout is missed.
        """
        self._memo.total = None
        if self._total is None:
            end = await self._end(size)
        else:
            # A total may be nonsense, so cap it: no listing grows that much from pass to pass.
            end = min(-(-self._total // size), 2 * -(-self._rows // size) + 100)
        for number in range(end - 1, -1, -1):
            page = await self._fetch(number, size, OLDEST_FIRST)
            for row in self._new(page):
                yield row
        self.sound = True

    async def _end(self, size: int) -> int:
        """The first page without new rows: empty, or from a server that ignores `page`."""
        number, seen = 0, set[str]()
        while True:
            page = await self._fetch(number, size, OLDEST_FIRST)
            if _ids(page) <= seen:
                return number
            seen |= _ids(page)
            number += 1

    async def _judge(
        self, first: Page[R], size: int, pages: int, seen: set[str], repeated: set[str]
    ) -> None:
        """Set `sound`: whether the pass that ended cannot have missed a row."""
        if pages == 1:  # one response, sound by itself
            self.sound, self._memo.total = True, first.total
            return
        again = await self._fetch(0, size, NEWEST_FIRST)
        if again.total is not None:
            self._total = again.total
        now = _PassRows(frozenset(seen), frozenset(repeated), _ids(again) == _ids(first))
        # Rows that come twice although nothing changed are ties that the server sorts differently
        # from page to page, or rows that it lists twice.
        same_total = first.total is not None and again.total == first.total
        self.sound = now.is_calm and same_total and not repeated - self._memo.twins
        if not self.sound and now.is_calm and now == self._last:
            # The same rows and duplicates with other seams: nothing moved. The duplicates are
            # listed twice, or the total is unusable; `Memo` keeps the duplicates for the next
            # reading.
            self._memo.twins |= repeated
            self.sound = True
        self._last = now
        self._memo.total = again.total if self.sound else None

    async def _batch(self, numbers: Sequence[int], size: int) -> list[Page[R]]:
        async def one(number: int) -> Page[R]:
            return await self._fetch(number, size, NEWEST_FIRST)

        return await gather(one, numbers)

    def _take(self, page: Page[R], seen: set[str], repeated: set[str]) -> None:
        """Record the rows of a page, and which of them were on another page of this pass."""
        self._rows += page.rows
        here = set[str]()
        for row in page.items:
            if row.id in here:
                # Twice on one page means listed twice: nothing changed within one response.
                self._memo.twins.add(row.id)
            here.add(row.id)
        repeated |= here & seen
        seen |= here

    def _new(self, page: Page[R]) -> list[R]:
        fresh = []
        for row in page.items:
            if row.id not in self._yielded:
                self._yielded.add(row.id)
                fresh.append(row)
        return fresh


def _ids(page: Page[R]) -> frozenset[str]:
    return frozenset(row.id for row in page.items)


async def in_batches(rows: AsyncGenerator[T, None], most: int) -> AsyncGenerator[list[T], None]:
    """The rows of a listing, in lists of `most`; requests none beyond those handed out."""
    async with aclosing(rows):
        batch: list[T] = []
        async for row in rows:
            batch.append(row)
            if len(batch) == most:
                yield batch
                batch = []
        if batch:
            yield batch


async def gather(work: Callable[[A], Awaitable[B]], inputs: Sequence[A]) -> list[B]:
    """Run `work` on all inputs at once; return results in order, or raise the first error."""
    answers: dict[int, B] = {}
    errors: list[Up42fsError] = []

    async def one(index: int, value: A, nursery: trio.Nursery) -> None:
        try:
            answers[index] = await work(value)
        except Up42fsError as error:
            errors.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for index, value in enumerate(inputs):
            nursery.start_soon(one, index, value, nursery)
    if errors:
        raise errors[0]
    return [answers[index] for index in range(len(inputs))]


async def crawl_links(
    fetch: FetchStacPage[R],
    *,
    limits: Sequence[int] = STAC_LIMITS,
    on_limit: Callable[[int], None] = lambda _: None,
) -> AsyncGenerator[R, None]:
    """Yield every row of a keyset-paged listing once, in its order. Raises the errors of `fetch`.

    Such listings (STAC, contract §5.2) are stable against arrivals and followed link by link.
    After a 400 to the first request, retries with the next smaller limit; `on_limit` gets the limit
    that was accepted.
    """
    yielded: set[tuple[str | None, str]] = set()
    restarts = 0
    page, limit = await _first_accepted(lambda limit: fetch(None, limit), limits)
    on_limit(limit)
    followed: set[str] = set()
    while True:
        for row in page.items:
            # STAC promises that an item's ID is unique only within its collection.
            key = (row.collection_id if isinstance(row, StacItem) else None, row.id)
            if key not in yielded:
                yielded.add(key)
                yield row
        if page.next is None:
            return
        link = repr((page.next.url, page.next.body))
        if link in followed:
            raise InvalidAnswer("UP42's links to the next page run in a circle; try again later")
        followed.add(link)
        try:
            page = await fetch(page.next, limit)
        except (InvalidArgument, NotFound):
            # The token may be refused because the row that it names was deleted: start again,
            # without repeating rows.
            if restarts == RESTARTS:
                raise
            restarts += 1
            followed.clear()
            page = await fetch(None, limit)

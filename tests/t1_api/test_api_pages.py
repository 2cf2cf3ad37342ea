"""Crawling a listing that changes between requests, against a model of the service."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from up42fs.api.links import NextLink
from up42fs.api.pages import NEWEST_FIRST, Memo, Page, StacPage, crawl, crawl_links, gather
from up42fs.errors import InvalidAnswer, InvalidArgument, NotFound, Unavailable
from up42fs.model.stac import StacCollection, StacItem


def make_row(id_: str) -> StacCollection:
    return StacCollection(id_, None)


@dataclass
class Listing:
    """Rows oldest first; before each request the next step of `script` happens.

    A step adds `arrivals` rows and removes the listed positions among the original rows.
    """

    rows: list[str]
    script: list[tuple[int, list[int]]] = field(default_factory=list)
    clamp: int = 10**6
    tells_total: bool = True
    tells_size: bool = True
    refuses_above: int = 10**6
    ignores_page: bool = False
    asked: list[tuple[int, int, str]] = field(default_factory=list)
    added: int = 0

    def __post_init__(self) -> None:
        self.throughout = set(self.rows)

    def step(self) -> None:
        if not self.script:
            return
        arrivals, removals = self.script.pop(0)
        for position in removals:
            originals = [row for row in self.rows if row.startswith("r")]
            if originals:
                gone = originals[position % len(originals)]
                self.rows.remove(gone)
                self.throughout.discard(gone)
        for _ in range(arrivals):
            self.added += 1
            self.rows.append(f"new{self.added}")

    async def fetch(self, page: int, size: int, sort: str) -> Page[StacCollection]:
        self.step()
        self.asked.append((page, size, sort))
        if size > self.refuses_above:
            raise InvalidArgument("page size too large")
        size = min(size, self.clamp)
        rows = self.rows[::-1] if sort == NEWEST_FIRST else self.rows
        start = 0 if self.ignores_page else page * size
        found = rows[start : start + size]
        if self.tells_total:
            total_pages, total = -(-len(rows) // size), len(rows)
        else:
            total_pages, total = page + 1 + (len(found) == size), None
        await trio.lowlevel.checkpoint()
        return Page(
            items=tuple(make_row(row) for row in found),
            number=page,
            total_pages=total_pages,
            total=total,
            size=size if self.tells_size else None,
            rows=len(found),
        )

    async def all(self, **options: Any) -> list[str]:
        return [row.id async for row in crawl(self.fetch, **options)]


def run(listing: Listing, **options: Any) -> list[str]:
    async def main() -> list[str]:
        with trio.fail_after(20):
            return await listing.all(**options)

    return trio.run(main)


def rows(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


STEPS = st.tuples(st.integers(0, 3), st.lists(st.integers(0, 100), max_size=3))
LISTINGS = st.builds(
    Listing,
    rows=st.integers(0, 40).map(rows),
    script=st.lists(STEPS, max_size=60),
    clamp=st.integers(2, 20),
    tells_total=st.booleans(),
    tells_size=st.booleans(),
)


@settings(max_examples=600)
@given(LISTINGS, st.integers(2, 12), st.integers(1, 5))
# A removal and an arrival that leave the total as it was:
@example(Listing(rows(10), [(0, []), (1, [7])]), 5, 1)
@example(Listing(rows(12), [(0, []), (0, [11]), (1, [])]), 4, 3)
def test_rows_that_existed_throughout_are_never_missed_nor_told_twice(
    listing: Listing, size: int, parallel: int
) -> None:
    found = run(listing, sizes=(size,), parallel=parallel)
    assert len(found) == len(set(found))
    assert listing.throughout <= set(found)


@settings(max_examples=300)
@given(
    count=st.integers(0, 60),
    size=st.integers(1, 30),
    clamp=st.integers(1, 30),
    tells_size=st.booleans(),
    parallel=st.integers(1, 8),
)
def test_a_listing_that_holds_still_is_read_newest_first_with_one_extra_request(
    count: int, size: int, clamp: int, tells_size: bool, parallel: int
) -> None:
    listing = Listing(rows(count), clamp=clamp, tells_size=tells_size)
    assert run(listing, sizes=(size,), parallel=parallel) == rows(count)[::-1]
    pages = -(-count // min(size, clamp))
    assert len(listing.asked) == (pages + 1 if pages > 1 else 1)


def test_pages_after_the_first_are_fetched_together(autojump_clock: MockClock) -> None:
    running: list[int] = []

    async def main() -> None:
        listing = Listing(rows(100))
        busy = 0

        async def fetch(page: int, size: int, sort: str) -> Page[StacCollection]:
            nonlocal busy
            busy += 1
            running.append(busy)
            await trio.sleep(1)
            busy -= 1
            return await listing.fetch(page, size, sort)

        found = [row.id async for row in crawl(fetch, sizes=(10,), parallel=4)]
        assert len(found) == 100

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert max(running) == 4


@pytest.mark.parametrize(
    ("refuses_above", "sizes"), [(100, [100]), (50, [100, 50]), (20, [100, 50, 20])]
)
def test_a_refused_page_size_falls_back(refuses_above: int, sizes: list[int]) -> None:
    listing = Listing(rows(10), refuses_above=refuses_above)
    assert len(run(listing)) == 10
    assert [size for _, size, _ in listing.asked] == sizes


def test_a_request_refused_for_other_reasons_stays_refused() -> None:
    listing = Listing(rows(10), refuses_above=0)
    with pytest.raises(InvalidArgument):
        run(listing)
    assert len(listing.asked) == 3


@pytest.mark.parametrize("tells_total", [True, False])
def test_a_server_that_ignores_the_page_number_does_not_hold_us_for_ever(
    tells_total: bool,
) -> None:
    listing = Listing(rows(50), ignores_page=True, tells_total=tells_total)
    found = run(listing, sizes=(10,))
    assert found[:10] == rows(50)[::-1][:10]
    assert len(listing.asked) < 50


def test_ties_ordered_differently_from_page_to_page_are_found_elsewhere() -> None:
    listing = Listing(rows(200))

    async def fetch(page: int, size: int, sort: str) -> Page[StacCollection]:
        found = await listing.fetch(page, size, sort)
        if size == 100 and page == 1:  # the tie r99/r100 is swapped between the two pages
            items = (make_row("r100"), *found.items[1:])
            return Page(items, page, found.total_pages, found.total, found.size, found.rows)
        return found

    async def main() -> set[str]:
        return {row.id async for row in crawl(fetch)}

    assert trio.run(main) == set(rows(200))


class Twins(Listing):
    """Rows that are listed twice, side by side or far apart, and totals that count them."""

    def __init__(self, count: int, twins: dict[int, int], **settings: Any) -> None:
        listed = rows(count)
        for number, place in sorted(twins.items()):
            listed.insert(place, f"r{number}")
        super().__init__(listed, **settings)


@pytest.mark.claim("S162")
@pytest.mark.parametrize(
    ("twins", "first_pass"),
    [
        ({}, 11),
        ({205: 206}, 12),  # on one page
        ({300: 301}, 12 + 1 + 11),  # on two: looked at again, with other seams
        ({7: 990, 8: 500}, 12 + 1 + 11),
    ],
)
def test_rows_that_are_listed_twice_are_known_after_one_look(
    twins: dict[int, int], first_pass: int
) -> None:
    listing, memo = Twins(1000, twins), Memo()
    expected = set(rows(1000))
    found = run(listing, memo=memo)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert len(listing.asked) == first_pass
    assert memo.total == 1000 + len(twins)
    listing.asked.clear()
    assert set(run(listing, memo=memo)) == expected
    assert len(listing.asked) <= 12
    assert memo.total == 1000 + len(twins)


@pytest.mark.claim("S162")
def test_a_total_that_is_another_one_each_time_costs_two_passes() -> None:
    listing, totals = Listing(rows(1000)), iter(range(10_000))

    async def fetch(page: int, size: int, sort: str) -> Page[StacCollection]:
        found = await listing.fetch(page, size, sort)
        return replace(found, total=next(totals) + 1000)

    async def main() -> set[str]:
        return {row.id async for row in crawl(fetch)}

    assert trio.run(main) == set(rows(1000))
    assert len(listing.asked) <= 11 + 12


def test_pages_of_rows_without_an_id_are_no_end() -> None:
    listing = Listing(rows(4000))

    async def fetch(page: int, size: int, sort: str) -> Page[StacCollection]:
        found = await listing.fetch(page, size, sort)
        bare = {f"r{number}" for number in range(1000, 3000)}
        return replace(found, items=tuple(row for row in found.items if row.id not in bare))

    async def main() -> int:
        return len({row.id async for row in crawl(fetch)})

    assert trio.run(main) == 2000


def test_an_endless_change_ends_in_the_careful_pass() -> None:
    listing = Listing(rows(30), [(1, [5])] * 500)
    found = run(listing, sizes=(5,))
    assert listing.throughout <= set(found)
    assert len(listing.asked) < 100
    assert listing.asked[-1][:1] == (0,)
    assert listing.asked[-1][2] == "createdAt,asc"


def test_an_error_of_one_page_ends_the_crawl_as_itself() -> None:
    listing = Listing(rows(100))

    async def fetch(page: int, size: int, sort: str) -> Page[StacCollection]:
        if page == 3:
            raise Unavailable("no")
        return await listing.fetch(page, size, sort)

    async def main() -> None:
        async for _ in crawl(fetch, sizes=(10,)):
            pass

    with pytest.raises(Unavailable, match="no"):
        trio.run(main)


async def test_a_consumer_may_leave_in_the_middle() -> None:
    listing = Listing(rows(100))
    crawling = crawl(listing.fetch, sizes=(10,))
    async for row in crawling:
        assert row.id == "r99"
        break
    await crawling.aclose()
    assert len(listing.asked) == 1


async def test_gathered_answers_keep_their_order(autojump_clock: MockClock) -> None:
    async def work(number: int) -> int:
        await trio.sleep(10 - number)
        return number * 2

    assert await gather(work, range(5)) == [0, 2, 4, 6, 8]
    assert await gather(work, []) == []


# Keyset paging


@dataclass
class Keyset:
    """Pages by the ID of their last row; a token whose row is gone is refused."""

    rows: list[str]
    page_size: int = 3
    refuses_above: int = 100
    remove_after: dict[int, Sequence[str]] = field(default_factory=dict)
    asked: list[str | None] = field(default_factory=list)

    async def fetch(self, link: NextLink | None, limit: int) -> StacPage[StacCollection]:
        for gone in self.remove_after.get(len(self.asked), ()):
            self.rows.remove(gone)
        token = link.url if link else None
        self.asked.append(token)
        await trio.lowlevel.checkpoint()
        if limit > self.refuses_above:
            raise InvalidArgument("limit")
        if token is not None and token not in self.rows:
            raise NotFound("token")
        start = 0 if token is None else self.rows.index(token) + 1
        found = self.rows[start : start + self.page_size]
        more = start + self.page_size < len(self.rows)
        return StacPage(tuple(map(make_row, found)), NextLink(found[-1]) if more else None)

    async def all(self) -> list[str]:
        return [row.id async for row in crawl_links(self.fetch)]


async def test_links_are_followed_to_the_last_page() -> None:
    listing = Keyset(rows(10))
    assert await listing.all() == rows(10)
    assert listing.asked == [None, "r2", "r5", "r8"]


async def test_a_refused_limit_falls_back() -> None:
    listing = Keyset(rows(2), refuses_above=20)
    assert await listing.all() == rows(2)
    assert len(listing.asked) == 3


async def test_a_token_whose_row_is_gone_starts_the_walk_again() -> None:
    listing = Keyset(rows(10), remove_after={1: ["r2"]})
    assert await listing.all() == rows(10)
    assert listing.asked == [None, "r2", None, "r3", "r6"]


async def test_a_token_that_is_always_refused_ends_the_walk() -> None:
    async def fetch(link: NextLink | None, limit: int) -> StacPage[StacCollection]:
        if link is not None:
            raise NotFound("token")
        return StacPage((make_row("a"),), NextLink("x"))

    with pytest.raises(NotFound):
        async for _ in crawl_links(fetch):
            pass


async def test_an_id_in_two_collections_names_two_items() -> None:
    pairs = [("scene", "one"), ("scene", "two"), ("scene", "one"), ("scene", None)]
    items = [StacItem(id_, collection, None) for id_, collection in pairs]

    async def fetch(link: NextLink | None, limit: int) -> StacPage[StacItem]:
        first, second = StacPage(tuple(items[:1]), NextLink("x")), StacPage(tuple(items[1:]), None)
        return second if link else first

    found = [row.collection_id async for row in crawl_links(fetch)]
    assert found == ["one", "two", None]


async def test_links_in_a_circle_are_an_error() -> None:
    async def fetch(link: NextLink | None, limit: int) -> StacPage[StacCollection]:
        return StacPage((make_row("a"),), NextLink("x", {"token": "t"}))

    with pytest.raises(InvalidAnswer, match="circle"):
        async for _ in crawl_links(fetch):
            pass

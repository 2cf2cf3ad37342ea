"""Looks at unfinished rows: three requests at most, and every row is reached in time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import at, make_order

from up42fs.api.pages import Page
from up42fs.catalog.listings import BEING_FULFILLED, OwnListing
from up42fs.catalog.looks import left, page_of, page_with, size_of
from up42fs.errors import NotFound
from up42fs.types import Order

SIZE = 100


class Service:
    """Orders of UP42, newest first, which counts what is asked of it."""

    def __init__(self, orders: list[Order]) -> None:
        self.orders = {order.id: order for order in orders}
        self.asked = 0

    async def page(
        self, page: int, *, size: int, sort: str, status: list[str] | None = None
    ) -> Page[Order]:
        assert sort == "createdAt,desc"
        self.asked += 1
        rows = [row for row in self.orders.values() if not status or row.status in status]
        rows.sort(key=lambda row: row.created_at, reverse=True)
        pages = max(1, -(-len(rows) // size))
        return Page(tuple(rows[page * size :][:size]), 0, pages, len(rows), size)

    async def one(self, order_id: str) -> Order:
        self.asked += 1
        if order_id not in self.orders:
            raise NotFound(order_id)
        return self.orders[order_id]


def orders_of(count: int, status: str = BEING_FULFILLED) -> list[Order]:
    return [make_order(n, status=status, created_at=at(n)) for n in range(count)]


def looked(service: Service, known: dict[str, Order], looks: int) -> int:
    """Look so often; returns the most requests of one look. `known` follows."""
    listing = OwnListing(
        None,  # type: ignore[arg-type]  # not used
        service.page,
        service.one,
        by_name="display_name",
        status=[BEING_FULFILLED],
    )
    most = 0

    async def run() -> None:
        nonlocal most
        for _ in range(looks):
            before = service.asked
            unsettled = [row for row in known.values() if row.status == BEING_FULFILLED]
            if not unsettled:
                return
            rows, gone = await listing.look_again(unsettled, known.values())
            known.update({row.id: row for row in rows})
            for row_id in gone:
                del known[row_id]
            most = max(most, service.asked - before)

    trio.run(run)
    return most


@pytest.mark.claim("S370")
@settings(max_examples=25)
@given(
    st.integers(1, 700),
    st.integers(0, 300),
    st.sets(st.integers(0, 699), max_size=700),
    st.sets(st.integers(0, 699), max_size=4),
)
@example(672, 0, set(), {271})  # between two pages
def test_each_look_is_three_requests_at_most_and_all_rows_are_reached(
    unfinished: int, others: int, finished: set[int], removed: set[int]
) -> None:
    rows = orders_of(unfinished)
    plain = [replace(one, status="FULFILLED") for one in orders_of(700 + others)[700:]]
    known = {row.id: row for row in (*rows, *plain)}
    service = Service(list(known.values()))
    for number, row in enumerate(rows):
        if number in removed:
            del service.orders[row.id]
        elif number in finished:  # and no date tells it
            service.orders[row.id] = replace(row, status="FULFILLED")
    # The full pass, every 60 refreshes, is the last resort; each look is one of two refreshes.
    most = looked(service, known, 60)
    assert most <= 3
    assert known == service.orders


@pytest.mark.claim("S370")
def test_seven_hundred_that_stay_unfinished_cost_one_request_a_look() -> None:
    rows = orders_of(700)
    service = Service(rows)
    assert looked(service, {row.id: row for row in rows}, 20) == 1
    assert service.asked == 20


@given(st.integers(1, 40))
def test_every_page_is_read_and_the_first_most_often(pages: int) -> None:
    read = [page_of(look, pages) for look in range(2 * pages)]
    assert set(read) == set(range(pages))
    assert read.count(0) >= pages


@given(st.integers(2, 9), st.integers(0, 700))
def test_no_place_lies_between_two_pages_in_every_round(pages: int, place: int) -> None:
    """Each page is read in both sizes, and no place but the first begins a page of both."""
    read = {(page_of(look, pages), size_of(look, pages, SIZE)) for look in range(4 * (pages - 1))}
    assert read == {(page, size) for page in range(pages) for size in (SIZE, SIZE - 1)}
    assert place == 0 or any(place % size for size in (SIZE, SIZE - 1))


@given(st.integers(1, 450), st.sets(st.integers(0, 449)), st.integers(0, 6))
def test_no_row_that_is_still_unfinished_is_taken_to_have_left(
    count: int, finished: set[int], number: int
) -> None:
    rows = orders_of(count)[::-1]
    still = [row for at_, row in enumerate(rows) if at_ not in finished]
    pages = max(1, -(-len(still) // SIZE))
    page = still[number * SIZE :][:SIZE]
    gone = left(rows, page, number, pages)
    assert {row.id for row in gone} <= {row.id for row in rows} - {row.id for row in still}
    assert gone == sorted(gone, key=lambda row: row.created_at, reverse=True)


@given(st.integers(1, 450), st.data())
def test_the_page_of_a_row_is_where_it_stands(count: int, data: st.DataObject) -> None:
    rows = orders_of(count)[::-1]
    place = data.draw(st.integers(0, count - 1))
    assert rows[place] in rows[page_with(rows[place], rows, SIZE) * SIZE :][:SIZE]

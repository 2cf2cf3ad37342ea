"""Which requests a look at unfinished rows takes: pure.

Theory. `updatedAt` is only inferred to move when UP42 finishes a row (contract §2.2), so rows in an
unfinished state are requested again. A look is one page of the rows that are in that state now: the
newest, and in turn one of the others. A known unfinished row that lies within the bounds of that
page and is not on it has *left* the state. A row that lay between two pages is within the bounds of
neither, so the pages are cut elsewhere in every other round. A few rows that left are requested one
by one. If there are more, one page of all rows around the newest of them is read first, since they
usually finished together. So a look costs three requests at most, however many rows are unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from up42fs.types import Asset, Order

Row = TypeVar("Row", bound=Asset | Order)

#: Rows that are requested one by one in a look; beside a page of rows, one fewer.
MOST_ONE_BY_ONE = 2


def page_of(look: int, pages: int) -> int:
    """The page to read in look number `look` if there are `pages`: 0, 1, 0, 2, 0, 3 and so on."""
    return 0 if look % 2 == 0 or pages <= 1 else 1 + look // 2 % (pages - 1)


def size_of(look: int, pages: int, most: int) -> int:
    """The rows of the page that look number `look` reads: `most`, or one fewer."""
    return most - look // (2 * max(1, pages - 1)) % 2


def left(unsettled: Iterable[Row], rows: Sequence[Row], page: int, pages: int) -> list[Row]:
    """The unfinished rows, newest first, that are no longer in their state.

    `rows`, newest first, are page `page` of the `pages` of rows in that state.
    """
    if page and not rows:
        return []  # there are fewer pages by now
    listed = {row.id for row in rows}
    newest = rows[0].created_at if page else None
    oldest = rows[-1].created_at if rows and page + 1 < pages else None
    gone = [
        row
        for row in unsettled
        if row.id not in listed
        and (newest is None or row.created_at < newest)
        and (oldest is None or row.created_at > oldest)
    ]
    return sorted(gone, key=lambda row: row.created_at, reverse=True)


def page_with(row: Row, known: Iterable[Row], size: int) -> int:
    """The page of all rows, newest first, that most likely holds `row`."""
    return sum(other.created_at > row.created_at for other in known) // size

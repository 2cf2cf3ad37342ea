"""Paging and sorting of the two v2 lists, as Spring Data does it (contract §2.1).

Takes rows and query values, returns one page; the lists themselves define their parameters.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from up42fs.emulator.clock import parse_us
from up42fs.emulator.faults import Faults
from up42fs.emulator.service import ApiError, ReceivedCall, json_response
from up42fs.emulator.wire import Request, Response

Row = TypeVar("Row")

DEFAULT_SIZE = 20


def page_number_and_size(
    request: Request, largest: int, error_above: int | None
) -> tuple[int, int]:
    """Return page (0-based) and size; sizes that are too large are cut, or refused by switch."""
    page = _whole(request, "page", 0)
    size = _whole(request, "size", DEFAULT_SIZE)
    if error_above is not None and size > error_above:
        raise ApiError(400, f"size: must be less than or equal to {error_above}")
    # Spring uses its defaults for values below the minimum.
    return max(0, page), min(size if size >= 1 else DEFAULT_SIZE, largest)


def one_page(
    call: ReceivedCall,
    kind: str,
    rows: Iterable[Row],
    *,
    tests: Sequence[Callable[[Row], bool]],
    sortable: dict[str, Callable[[Any], Any]],
    render: Callable[[Row], dict[str, Any]],
) -> Response:
    """Respond to a list request: the rows that pass `tests`, sorted, one page of them."""
    request, faults = call.request, call.faults
    page, size = page_number_and_size(request, faults.max_page_size, faults.page_size_error_above)
    keys = sort_keys(request, sortable, "createdAt,desc")
    question = tuple(pair for pair in request.query if pair[0] not in ("page", "size"))

    def compute() -> list[Row]:
        return sort_rows([row for row in rows if all(test(row) for test in tests)], keys)

    found = call.storage.query((kind, question), compute)
    odd = faults.rows_without_id or faults.rows_twice
    rows = _oddly(found, faults) if odd else found

    def render_one(row: Any) -> dict[str, Any]:
        if isinstance(row, _WithoutId):
            return {key: value for key, value in render(row.row).items() if key != "id"}
        return render(row)

    answer = envelope(rows, page, size, render_one)
    answer["totalElements"] = max(0, len(rows) + faults.total_off)
    return json_response(answer)


@dataclass(frozen=True, slots=True)
class _WithoutId:
    """A row that is sent without its ID."""

    row: Any


def _oddly(rows: Sequence[Any], faults: Faults) -> list[Any]:
    """Return `rows` with additional ones, spread evenly: some without ID, some a second time."""
    more: list[tuple[int, Any]] = []
    for number in range(faults.rows_without_id if rows else 0):
        at = (number + 1) * len(rows) // (faults.rows_without_id + 1)
        more.append((at, _WithoutId(rows[min(at, len(rows) - 1)])))
    for number in range(faults.rows_twice if rows else 0):
        at = (number + 1) * len(rows) // (faults.rows_twice + 1)
        more.append((at, rows[min(at, len(rows) - 1)]))
    shown = list(rows)
    for at, row in sorted(more, key=lambda pair: pair[0], reverse=True):
        shown.insert(at, row)
    return shown


def envelope(
    rows: Sequence[Any], page: int, size: int, render: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """Return one page of `rows` in Spring's envelope."""
    content = [render(row) for row in rows[page * size : (page + 1) * size]]
    pages = -(-len(rows) // size)
    sort = {"sorted": True, "unsorted": False, "empty": False}
    return {
        "content": content,
        "pageable": {
            "sort": sort,
            "pageNumber": page,
            "pageSize": size,
            "offset": page * size,
            "paged": True,
            "unpaged": False,
        },
        "totalPages": pages,
        "totalElements": len(rows),
        "last": page >= pages - 1,
        "sort": sort,
        "numberOfElements": len(content),
        "first": page == 0,
        "size": size,
        "number": page,
        "empty": not content,
    }


def sort_keys(
    request: Request, fields: dict[str, Callable[[Any], Any]], default: str
) -> list[tuple[Callable[[Any], Any], bool]]:
    """Return (key, descending) pairs of the repeated `sort` parameter, most significant first.

    Rows without a value sort last in ascending order, as in PostgreSQL. 400 for unknown fields.
    """
    texts = [text for key, text in request.query if key == "sort" and text] or [default]
    pairs = []
    for text in texts:
        name, _, direction = text.partition(",")
        if name not in fields:
            raise ApiError(400, f"No property '{name}' found to sort by")
        if direction.lower() not in ("", "asc", "desc"):
            raise ApiError(400, f"Invalid sort direction '{direction}'")
        pairs.append((_nulls_last(fields[name]), direction.lower() == "desc"))
    return pairs


def sort_rows(rows: list[Any], keys: list[tuple[Callable[[Any], Any], bool]]) -> list[Any]:
    """Sort `rows` by several keys; ties keep their order of arrival, so pages never overlap."""
    for key, descending in reversed(keys):
        rows.sort(key=key, reverse=descending)
    return rows


def moment_us(request: Request, key: str) -> int | None:
    """Return a timestamp parameter in Unix microseconds; 400 if it is invalid."""
    text = request.get(key)
    if not text:
        return None
    try:
        return parse_us(text)
    except ValueError:
        raise ApiError(400, f"Failed to convert '{key}' with value: '{text}'") from None


def uuid_value(request: Request, key: str) -> str | None:
    """Return a UUID parameter in canonical form; 400 if it is invalid (contract §7.2)."""
    text = request.get(key)
    if not text:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ApiError(400, f"Failed to convert '{key}' with value: '{text}'") from None


def _nulls_last(value: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def key(row: Any) -> tuple[bool, Any]:
        found = value(row)
        return (True, 0) if found is None else (False, found)

    return key


def _whole(request: Request, key: str, default: int) -> int:
    text = request.get(key)
    try:
        return int(text) if text else default
    except ValueError:
        return default  # Spring ignores malformed paging values

"""What of UP42's answers had to be left out or changed, told once for each object.

`schema` takes whatever it can use; here it is said what that was not. Odd rows come again with
every refresh, and a hostile service may have millions: at most `MOST_TOLD` lines of a kind.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from up42fs.api import schema
from up42fs.model import names
from up42fs.types import Asset, Order

log = logging.getLogger(__name__)

#: Lines of a kind, each of another object.
MOST_TOLD = 20
#: Characters shown of a value.
MOST_SHOWN = 80
#: Fields of an asset and what `schema` makes of those that cannot be used.
_WITHOUT: dict[str, Callable[[Asset], bool]] = {
    "name": lambda asset: asset.name is None,
    "title": lambda asset: asset.title is None,
    "size": lambda asset: asset.size is None,
    "tags": lambda asset: not asset.tags,
}
_TIMES = ("createdAt", "updatedAt")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


class Oddities:
    """Tells of odd rows; `parse_asset` is that of `schema`."""

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}

    def parse_asset(self, row: object) -> Asset | None:
        """An asset (contract §2.2); None without an ID."""
        asset = schema.parse_asset(row)
        if asset is not None and isinstance(row, Mapping):
            for kind, sentence in of_asset(row, asset):
                self._tell(kind, asset.id, f"asset {_shown(asset.id)}: {sentence}")
        return asset

    def parse_order(self, row: object) -> Order | None:
        """An order (contract §4.2); None without an ID."""
        order = schema.parse_order(row)
        if order is not None and isinstance(row, Mapping):
            name = row.get("displayName")
            if name not in (None, "") and order.display_name is None:
                line = f"order {_shown(order.id)}: its name cannot be used: {_shown(name)}"
                self._tell("order name", order.id, line)
        return order

    def _tell(self, kind: str, id_: str, line: str) -> None:
        told = self._told.setdefault(kind, set())
        if id_ in told or len(told) >= MOST_TOLD:
            return
        told.add(id_)
        more = "; others of this kind are not told" if len(told) == MOST_TOLD else ""
        log.info("%s%s", line, more)


def of_asset(row: Mapping[str, Any], asset: Asset) -> Iterator[tuple[str, str]]:
    """(Kind, sentence) of what of `row` is not in `asset`, or not as a file's name."""
    for field, is_without in _WITHOUT.items():
        if row.get(field) not in (None, "", []) and is_without(asset):
            yield field, f"its {field} cannot be used: {_shown(row[field])}"
    if asset.tags and (lost := schema.lost_tags(row["tags"])):
        yield "tags left out", f"{lost} of its tags are too many or too long and were left out"
    for field in _TIMES:
        if row.get(field) is not None and schema.parse_time(row[field]) is None:
            yield field, f"its {field} is no time: {_shown(row[field])}"
    wish = row.get("name" if asset.name else "title")
    if isinstance(wish, str) and wish and names.safe_name(asset.name or asset.title) != wish:
        yield "safe name", f"no path can hold its name as it is: {_shown(wish)}"


def _shown(value: object) -> str:
    """`value` short and in ASCII: it may hold what steers terminals."""
    return _short.repr(value)[:MOST_SHOWN].encode("ascii", "backslashreplace").decode()

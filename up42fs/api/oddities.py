"""Logs values of UP42's responses that were left out or changed, once for each object.

`schema` accepts every value that it can use; this module logs those that it could not. Odd rows
return with every refresh, and a hostile service may have millions, so at most `MOST_TOLD` lines of
each kind are logged.
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

#: Lines of each kind, each about another object.
MOST_TOLD = 20
#: Characters shown of a value.
MOST_SHOWN = 80
#: Fields of an asset, each with a test of whether `schema` left it out.
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
    """Parses rows as `schema` does, and logs their odd values."""

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}

    def parse_asset(self, row: object) -> Asset | None:
        asset = schema.parse_asset(row)
        if asset is not None and isinstance(row, Mapping):
            for kind, sentence in of_asset(row, asset):
                self._tell(kind, asset.id, f"asset {_shown(asset.id)}: {sentence}")
        return asset

    def parse_order(self, row: object) -> Order | None:
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
    """Yield (kind, sentence) for values of `row` that `asset` lacks or no file name can hold."""
    for field, is_without in _WITHOUT.items():
        is_size_0 = field == "size" and schema.parse_count(row.get(field)) == 0
        if row.get(field) not in (None, "", []) and not is_size_0 and is_without(asset):
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
    """`value` short and in ASCII, since it may hold control sequences for terminals."""
    return _short.repr(value)[:MOST_SHOWN].encode("ascii", "backslashreplace").decode()

"""Searches that UP42 answers: what is left to memory, and what happens where that is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from catalog_support import asset_id, make_item

from up42fs.api.client import Client
from up42fs.catalog.searches import Searches
from up42fs.cli.status_view import rows
from up42fs.errors import InvalidArgument
from up42fs.metrics import Metrics
from up42fs.model.query import parse_query
from up42fs.model.stac import StacItem


@dataclass
class Source(Client):
    """Finds one item, unless a question uses an operator that it refuses."""

    refuses: str | None = None
    asked: list[str] = field(default_factory=list)

    async def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
        self.asked.append(str(body))
        await trio.lowlevel.checkpoint()
        if self.refuses and f"'{self.refuses}'" in str(body):
            raise InvalidArgument(self.refuses)
        yield make_item(1, 1)


async def ask(searches: Searches, name: str) -> frozenset[str] | None:
    query = parse_query(name)
    assert query is not None
    return await searches.asset_ids(query)


async def test_where_narrowing_is_refused_searches_go_on_without(nursery: trio.Nursery) -> None:
    source = Source(refuses="isNull")
    searches = Searches(nursery, source, metrics=Metrics())
    assert await ask(searches, "cloud<10,collection=phr") == frozenset({asset_id(1)})
    assert len(source.asked) == 2
    assert await ask(searches, "cloud<20,collection=phr") == frozenset({asset_id(1)})
    assert len(source.asked) == 3
    assert "isNull" not in source.asked[-1]


async def test_what_is_refused_in_itself_stays_refused(nursery: trio.Nursery) -> None:
    searches = Searches(nursery, Source(refuses="<"), metrics=Metrics())
    for name in ("cloud<10", "cloud<10,collection=phr"):
        with pytest.raises(InvalidArgument):
            await ask(searches, name)
    source = Source()
    searches = Searches(nursery, source, metrics=Metrics())
    await ask(searches, "cloud<10,collection=phr")
    assert "isNull" in source.asked[-1], "what is refused for another reason is no reason"


@pytest.mark.parametrize(
    ("items", "shown"),
    [
        (None, None),
        ({"transformed": 7, "missing": 0, "refused": 0, "together": True, "error": None}, None),
        (
            {"transformed": 7, "missing": 3, "refused": 0, "together": False, "error": None},
            "3 of 7 transformed assets to come, asked for one by one",
        ),
        (
            {"transformed": 7, "missing": 3, "refused": 0, "together": True, "error": "500"},
            "3 of 7 transformed assets to come [red](500)[/]",
        ),
        (
            {"transformed": 7, "missing": 0, "refused": 2, "together": True, "error": None},
            "0 of 7 transformed assets to come, [yellow]2 refused by UP42[/]",
        ),
    ],
)
def test_status_shows_what_keeps_the_crawl(items: Any, shown: str | None) -> None:
    assert dict(rows({"items": items})).get("files") == shown

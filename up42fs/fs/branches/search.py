"""`search/<query>/`: a directory made by its name, showing the assets that match.

Knows queries and what they found; the grammar is `model.query`'s. Only a name that parses asks
anything, and not before it is looked into; every other name is absent from memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from up42fs.catalog.index import Index
from up42fs.fs.tree.layout import UNCOUNTED
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model.query import Query, parse_query
from up42fs.types import Asset

#: What no search can answer.
_NEVER = frozenset({""})


class Searches(Protocol):
    """Where the part of a query that UP42 must answer is answered (see `catalog.searches`)."""

    async def asset_ids(self, query: Query) -> frozenset[str] | None:
        """IDs of the assets whose items match; None where the catalogue alone can tell."""
        ...


class Search:
    """The branch of SEARCH and QUERY nodes. A QUERY's ID is its name as it was typed."""

    kinds = frozenset({Kind.SEARCH, Kind.QUERY})
    top: Mapping[str, Node] = {"search": Node(Kind.SEARCH)}

    def __init__(self, index: Index, searches: Searches) -> None:
        self._index = index
        self._searches = searches
        self._found: dict[str, frozenset[str] | None] = {}

    async def prepare(self, node: Node) -> bool:
        """Run the query; whether its members must be looked at anew."""
        if node.kind is Kind.SEARCH:
            return True
        query = parse_query(node.id)
        if query is None:
            return False
        found = await self._searches.asset_ids(query)
        changed = self._found.get(node.id, _NEVER) != found
        self._found[node.id] = found
        return changed

    def children(self, node: Node) -> dict[str, Node]:
        """The queries used in this mount (a QUERY's own children are its members)."""
        return {name: Node(Kind.QUERY, name) for name in sorted(self._found)}

    def members(self, node: Node) -> Iterable[Asset]:
        """The assets that match a query."""
        query = parse_query(node.id)
        if query is None or node.id not in self._found:
            return ()
        ids = self._found[node.id]
        assets = self._index.assets
        candidates = assets.values() if ids is None else (assets[i] for i in ids if i in assets)
        return [asset for asset in candidates if self._matches(query, asset)]

    def find(self, parent: Node, name: str) -> Node | None:
        """A name that parses is a query."""
        if parent.kind is Kind.SEARCH and parse_query(name) is not None:
            return Node(Kind.QUERY, name)
        return None

    def exists(self, node: Node) -> bool:
        """A query is there for whoever can spell it."""
        return node.kind is Kind.SEARCH or parse_query(node.id) is not None

    def links(self, node: Node) -> int:
        """Not counted: a query adds itself, and what it finds changes unannounced."""
        return UNCOUNTED

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """The tree's own."""
        return None

    def _matches(self, query: Query, asset: Asset) -> bool:
        return query.matches(asset, self._index.order_of(asset))

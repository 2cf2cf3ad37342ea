"""`search/<query>/`: a directory created by its name, with the assets that match.

`model.query` defines the grammar. Only a name that parses sends a request, and only when it is
looked into; every other name is absent without a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from cachetools import LRUCache

from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Index
from up42fs.catalog.searches import Searches
from up42fs.fs.tree.layout import UNCOUNTED
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model.query import Query, parse_query
from up42fs.types import Asset

#: Queries listed; the least recently used are forgotten first, and found again by their names.
MOST_QUERIES = 1024
#: A result that no search can have.
_NEVER = frozenset({""})


class Search:
    """The branch of SEARCH and QUERY nodes. A QUERY's ID is its name as the user typed it."""

    kinds = frozenset({Kind.SEARCH, Kind.QUERY})
    top: Mapping[str, Node] = {"search": Node(Kind.SEARCH)}

    def __init__(
        self, index: Index, searches: Searches, descriptions: Descriptions | None = None
    ) -> None:
        self._descriptions = descriptions or Descriptions(index, None)
        self._index = index
        self._searches = searches
        self._found: LRUCache[str, frozenset[str] | None] = LRUCache(MOST_QUERIES)

    async def prepare(self, node: Node) -> bool:
        """Run the query; return whether its members may have changed."""
        if node.kind is Kind.SEARCH:
            return True
        query = parse_query(node.id)
        if query is None:
            return False
        found = await self._searches.asset_ids(query)
        if found is not None:
            found |= self._descriptions.matching(query)
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
        """Return a query node if the name parses."""
        if parent.kind is Kind.SEARCH and parse_query(name) is not None:
            return Node(Kind.QUERY, name)
        return None

    def exists(self, node: Node) -> bool:
        """Whether the query parses: every valid query exists."""
        return node.kind is Kind.SEARCH or parse_query(node.id) is not None

    def links(self, node: Node) -> int:
        """Not counted: a query adds itself, and its results change unannounced."""
        return UNCOUNTED

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """None: the tree's own times apply."""
        return None

    def _matches(self, query: Query, asset: Asset) -> bool:
        return query.matches(asset, self._index.order_of(asset))

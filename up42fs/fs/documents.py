"""Attributes that cost a request: the full API object and a presigned link.

`getfattr` makes two calls, one for the length and one for the value, and a file manager makes them
for every file it shows: answers are cached for seconds, and concurrent calls for the same attribute
share one request.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime

import trio
from cachetools import TTLCache

from up42fs.api.client import Client
from up42fs.deadlines import Turns, request_s, within
from up42fs.fs.tree.nodes import Kind, Node

#: Seconds that an answer is cached. A link must still be fresh when it is pasted somewhere.
DOCUMENT_TTL_S = 30.0
LINK_TTL_S = 5.0
MAX_KEPT = 256
#: How long an answer is waited for, behind others who ask the same too, seconds.
ANSWER_TIMEOUT_S = request_s(25.0)

#: The cache key: a node, and the time of its last update.
_Key = tuple[Node, datetime | None]


class DocumentCache:
    """A short-lived cache of answers about nodes; concurrent calls share one request."""

    def __init__(self, source: Client) -> None:
        self._source = source
        self._json: TTLCache[_Key, bytes] = TTLCache(MAX_KEPT, DOCUMENT_TTL_S, trio.current_time)
        self._links: TTLCache[_Key, bytes] = TTLCache(MAX_KEPT, LINK_TTL_S, trio.current_time)
        self._turns: dict[tuple[_Key, int], Turns] = {}

    async def json(self, node: Node, updated_at: datetime | None = None) -> bytes:
        """The full API object of an asset or order, as JSON; fetched again after an update."""
        return await self._get(self._json, (node, updated_at), self._fetch_json)

    async def download_url(self, node: Node) -> bytes:
        """A fresh presigned link to an asset."""
        return await self._get(self._links, (node, None), self._fetch_link)

    async def _get(
        self,
        cache: TTLCache[_Key, bytes],
        about: _Key,
        fetch: Callable[[Node], Awaitable[bytes]],
    ) -> bytes:
        key = (about, id(cache))
        turns = self._turns.setdefault(key, Turns())
        late = f"UP42 did not answer within {ANSWER_TIMEOUT_S:.0f} s; it is slow: try again"
        try:
            with within(ANSWER_TIMEOUT_S, late):
                async with turns.turn():
                    kept = cache.get(about)
                    if kept is None:
                        kept = cache[about] = await fetch(about[0])
                    return kept
        finally:
            if turns.are_over:  # else the next caller has it and removes it
                self._turns.pop(key, None)

    async def _fetch_json(self, node: Node) -> bytes:
        ask = (
            self._source.order_document if node.kind is Kind.ORDER else self._source.asset_document
        )
        return json.dumps(await ask(node.id), ensure_ascii=False).encode(errors="replace")

    async def _fetch_link(self, node: Node) -> bytes:
        return (await self._source.sign(node.id)).url.encode()

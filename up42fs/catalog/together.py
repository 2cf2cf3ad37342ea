"""Searches for the items of many assets at once, in a form that UP42 accepts.

`items` uses the answers.

Theory. `asset_id in [...]` is the shortest form, but `in` belongs to CQL2's *advanced* comparison
operators, and UP42 advertises basic CQL2 (contract §14). Basic CQL2 can express the same: an `or`
of `=`. The forms are tried in this order, and a refused form is not tried again. A server may also
accept `in` and find nothing, since it tolerates odd filters (contract §5.6): until `in` has found
items once, an empty answer to it is checked by the other form.

A failure that is independent of the form (a 500 that lasts) is left to the caller: it requests the
same assets one by one, and if that works it calls `doubt`. The second doubt in a row drops the
form; a single one may be the fault of a single item.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from up42fs.api.client import Client
from up42fs.errors import InvalidArgument, Up42fsError
from up42fs.metrics import Metrics
from up42fs.model.stac import StacItem

log = logging.getLogger(__name__)

#: Assets requested together: with one item each, one page.
MOST = 100
#: Doubts in a row that drop a form.
DOUBTS = 2

Expression = dict[str, Any]
_ASSET_ID = {"property": "asset_id"}
#: A name, and a function that makes the filter for the items of some assets.
Form = tuple[str, Callable[[Sequence[str]], Expression]]


class Together:
    """Searches for the items of several assets."""

    def __init__(self, client: Client, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics
        self._forms: list[Form] = [
            ("`in`", lambda ids: {"op": "in", "args": [_ASSET_ID, list(ids)]}),
            ("`or` of `=`", lambda ids: {"op": "or", "args": [*map(equal, ids)]}),
        ]
        self._is_proved = False
        self._doubts = 0

    @property
    def is_possible(self) -> bool:
        """Whether a form is left that was not refused."""
        return bool(self._forms)

    async def search(self, asset_ids: Sequence[str]) -> dict[str, list[StacItem]]:
        """Items by asset ID, for assets that have some; InvalidArgument if no form is accepted."""
        while self._forms:
            # Searches run side by side: another one may drop this form while UP42 answers.
            form = self._forms[0]
            try:
                found = await self._ask(form, asset_ids)
            except InvalidArgument as error:
                self._give_up(form, error)
                continue
            self._doubts = 0
            if not found and form not in self._forms:
                continue
            if found or self._is_proved or len(self._forms) == 1:
                self._is_proved |= bool(found)
                return found
            return await self._put_to_the_test(form, self._forms[1], asset_ids)
        raise InvalidArgument("UP42 takes no question about several assets at once")

    def doubt(self, error: Up42fsError) -> None:
        """Note that the last search failed with `error`, but its assets alone succeeded."""
        self._doubts += 1
        if self._forms and self._doubts >= DOUBTS:
            self._give_up(self._forms[0], error)

    async def _put_to_the_test(
        self, form: Form, other: Form, asset_ids: Sequence[str]
    ) -> dict[str, list[StacItem]]:
        """Check an empty answer of `form` by the other one; `form` has never found any."""
        try:
            found = await self._ask(other, asset_ids)
        except InvalidArgument:
            with suppress(ValueError):
                self._forms.remove(other)
            return {}
        if found:
            self._give_up(form, InvalidArgument("it is taken, and finds nothing"))
        self._is_proved = True
        return found

    async def _ask(self, form: Form, asset_ids: Sequence[str]) -> dict[str, list[StacItem]]:
        self._metrics.count("catalog.item_searches")
        asked = set(asset_ids)
        found: dict[str, list[StacItem]] = {}
        expression = form[1](sorted(asked)) if len(asked) > 1 else equal(*asked)
        async for item in self._client.search({"filter": expression}):
            if item.asset_id in asked:
                found.setdefault(item.asset_id, []).append(item)
        return found

    def _give_up(self, form: Form, error: Up42fsError) -> None:
        if form not in self._forms:
            return
        self._forms.remove(form)
        name, _ = form
        self._doubts = 0
        next_form = self._forms[0][0] if self._forms else "one search an asset"
        log.info("searching items by %s does not work, now by %s: %s", name, next_form, error)


def equal(asset_id: str) -> Expression:
    """The filter for the items of one asset."""
    return {"op": "=", "args": [_ASSET_ID, asset_id]}

"""The catalogue on demand while UP42 answers nothing: nobody waits twice for one failure."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
import trio
from listing_support import Service
from strategies import make_asset, make_order
from trio.testing import MockClock

from up42fs.catalog.index import Index
from up42fs.catalog.on_demand import FRESH_S, OnDemand
from up42fs.catalog.passes import ASSETS, ORDERS
from up42fs.errors import DeadlineExceeded, InvalidArgument, Up42fsError

SILENCE_S = 25.0


class Own:
    """Narrower requests that fail after `silence_s`."""

    def __init__(self, silence_s: float = SILENCE_S, error: Up42fsError | None = None) -> None:
        self.silence_s = silence_s
        self.error = error or DeadlineExceeded("listing assets failed: UP42 stopped sending")
        self.asked: list[str] = []

    async def called(self, part: str) -> list[Any]:
        self.asked.append(part)
        await trio.sleep(self.silence_s)
        raise self.error

    one = of_order = called


def catalogue(nursery: trio.Nursery, assets: Service, **settings: Any) -> OnDemand:
    orders = Service()
    orders.put(make_order(1))
    return OnDemand(
        nursery,
        settings.pop("index", Index()),
        assets=cast("Any", assets),
        orders=cast("Any", orders),
        on_change=lambda _: None,
        refresh_s=60,
        **settings,
    )


async def test_a_name_and_then_its_listing_are_one_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    own = Own()
    there = catalogue(nursery, Service(hang=True, own=own))
    with pytest.raises(DeadlineExceeded, match="UP42 stopped sending"):
        await there.ready_name(ASSETS, "file.zip", by_id=False, timeout_s=30)
    with pytest.raises(DeadlineExceeded, match="UP42 stopped sending"):
        await there.ready(ASSETS, timeout_s=30)
    assert trio.current_time() == pytest.approx(SILENCE_S, abs=0.5)
    await there.ready(ORDERS, timeout_s=30)  # another listing is asked for all the same
    assert there.is_synced(ORDERS)


async def test_many_orders_are_one_wait(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    own = Own()
    there = catalogue(nursery, Service(hang=True, own=own))
    for number in range(10):
        with pytest.raises(DeadlineExceeded, match="UP42 stopped sending"):
            await there.ready_order(f"order {number}", timeout_s=30)
    assert trio.current_time() == pytest.approx(SILENCE_S, abs=0.5)
    assert own.asked == ["order 0"]
    await trio.sleep(FRESH_S + 0.1)
    own.silence_s, own.error = 0.0, InvalidArgument("not this")
    with pytest.raises(InvalidArgument):
        await there.ready_order("order 11", timeout_s=30)


async def test_an_error_that_comes_at_once_leads_to_the_listing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    assets = Service(own=Own(0.0, InvalidArgument("no such parameter: search")))
    assets.put(make_asset(1))
    there = catalogue(nursery, assets)
    await there.ready_name(ASSETS, "file.zip", by_id=False, timeout_s=30)
    await there.ready(ASSETS, timeout_s=30)
    assert there.is_synced(ASSETS)


async def test_what_is_known_is_shown_after_one_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    own, index = Own(), Index()
    there = catalogue(nursery, Service(hang=True, own=own), known=[ASSETS], index=index)
    await there.ready_name(ASSETS, "file.zip", by_id=False, timeout_s=30)
    await there.ready(ASSETS, timeout_s=30)
    for number in range(5):
        await there.ready_order(f"order {number}", timeout_s=30)
    assert trio.current_time() == pytest.approx(SILENCE_S, abs=0.5)
    assert len(own.asked) == 1


async def test_only_what_is_shown_all_the_same_is_logged(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="up42fs")
    assets = Service(fail=DeadlineExceeded("UP42 stopped sending"))
    with pytest.raises(DeadlineExceeded):
        await catalogue(nursery, assets).ready(ASSETS, timeout_s=30)
    assert caplog.messages == []  # the caller has the error
    await catalogue(nursery, assets, known=[ASSETS]).ready(ASSETS, timeout_s=30)
    assert "refreshing the assets failed, the last known state stays" in caplog.text

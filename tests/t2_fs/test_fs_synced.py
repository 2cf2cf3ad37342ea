"""Whatever changes at UP42, after a refresh the tree is that of a mount that starts then.

Changes come through `Sync`, as a mount learns of them: by the pages it asks for. Names stay put
where nothing left, and files that were opened before go on, whatever became of their asset.
"""

from __future__ import annotations

import os
from dataclasses import replace

import trio
from fs_support import World, content
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from listing_support import Service, sync_of
from strategies import at, make_asset, make_order
from trio.testing import MockClock

from up42fs.catalog.index import Delta, ListingKind
from up42fs.types import CnamStatus

TAGS = ("t", "a/b", "a_b")
NAMES = ("scene.zip", "scene.zip", "scene (files)", "other.tif", None)
picks = st.integers(0, 99)
tags = st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple)
Tree = dict[str, dict[str, str]]


class Upstream(RuleBasedStateMachine):
    """UP42's storage on one side, a mount that refreshes on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.assets, self.orders = Service(page_size=3), Service(page_size=3)
        self.world = World(clock=lambda: 0.0)
        self.sync = sync_of(
            self.world.index,
            assets=self.assets,
            orders=self.orders,
            on_change=self.changed,
            refresh_s=60,
        )
        self.ticks = 0
        self.shown: Tree = {}
        self.is_stable = True
        self.open: dict[int, str] = {}

    def changed(self, delta: Delta) -> None:
        self.world.fs.changes.apply(delta)

    def tick(self):
        self.ticks += 1
        return at(self.ticks)

    def pick(self, pick: int):
        rows = list(self.assets.rows.values())
        return rows[pick % len(rows)]

    def edit(self, pick: int, **fields: object) -> None:
        self.assets.put(replace(self.pick(pick), updated_at=self.tick(), **fields))

    # what happens at UP42

    @rule(
        name=st.sampled_from(NAMES),
        order=st.sampled_from([None, 1, 2]),
        tags=tags,
        status=st.sampled_from(CnamStatus),
    )
    def add(self, name: str | None, order: int | None, tags: tuple, status: CnamStatus) -> None:
        now = self.tick()
        order_id = None if order is None else make_order(order).id
        self.assets.put(
            make_asset(
                self.ticks,
                name=name,
                title="scene" if name is None else None,
                created_at=now,
                updated_at=now,
                tags=tags,
                cnam_status=status,
                order_id=order_id,
            )
        )

    @precondition(lambda self: self.assets.rows)
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        del self.assets.rows[self.pick(pick).id]
        self.is_stable = False  # who comes after it may have wanted its name

    @precondition(lambda self: self.assets.rows)
    @rule(pick=picks, title=st.sampled_from(["scene", "another"]))
    def retitle(self, pick: int, title: str) -> None:
        self.is_stable &= self.pick(pick).name is not None
        self.edit(pick, title=title)

    @precondition(lambda self: self.assets.rows)
    @rule(pick=picks, tags=tags)
    def retag(self, pick: int, tags: tuple) -> None:
        self.edit(pick, tags=tags)

    @precondition(lambda self: self.assets.rows)
    @rule(pick=picks, status=st.sampled_from(CnamStatus))
    def transform(self, pick: int, status: CnamStatus) -> None:
        self.edit(pick, cnam_status=status)

    @rule(number=st.integers(1, 2), name=st.sampled_from(["one", "two"]))
    def order(self, number: int, name: str) -> None:
        self.orders.put(make_order(number, display_name=name, updated_at=self.tick()))
        self.is_stable = False

    @precondition(lambda self: self.orders.rows)
    @rule()
    def forget_an_order(self) -> None:
        self.orders.rows.popitem()
        self.is_stable = False

    # what happens in the mount

    @rule(is_whole=st.booleans())
    def refresh(self, is_whole: bool) -> None:
        if is_whole:
            for state in self.sync._states.values():
                state.refreshes = 0
        self.run(self._refresh)

    async def _refresh(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sync.run)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert all(map(self.sync.is_synced, ListingKind))
        anew = World(*self.orders.rows.values(), *self.assets.rows.values(), clock=lambda: 0.0)
        shown = await tree(self.world)
        assert shown == await tree(anew)
        if self.is_stable:
            was = self.shown.get("assets", {})
            assert {name: shown["assets"].get(name) for name in was} == was
        self.shown, self.is_stable = shown, True
        for handle, asset_id in self.open.items():
            assert await self.world.fs.read(handle, 3, 7) == content(asset_id, 3, 10)

    @precondition(lambda self: self.shown.get("assets") and len(self.open) < 4)
    @rule(pick=picks)
    def open_a_file(self, pick: int) -> None:
        names = sorted(self.shown["assets"])
        name = names[pick % len(names)]

        async def opened() -> int:
            inode = await self.world.walk(f"assets/{name}")
            return (await self.world.fs.open(inode, os.O_RDONLY)).handle

        self.open[self.run(opened)] = self.shown["assets"][name]

    def run(self, work):
        return trio.run(work, clock=MockClock(autojump_threshold=0))


async def tree(world: World) -> Tree:
    """IDs by name, of every directory of the views; orders by ID, for their names may clash."""
    found: Tree = {}
    for view in ("orders", "tags", "cnam"):
        for name in await world.list(view):
            found[f"{view}/{name}"] = await listed(world, f"{view}/{name}")
    found["assets"] = await listed(world, "assets")
    return found


async def listed(world: World, path: str) -> dict[str, str]:
    names = {}
    for name in await world.list(path):
        inode = await world.walk(f"{path}/{name}")
        names[name] = (await world.fs.getxattr(inode, "user.up42.id")).decode()
    return names


TestUpstream = Upstream.TestCase
TestUpstream.settings = settings(
    max_examples=60,
    stateful_step_count=30,
)

"""A roster that follows changes has the names of one that is built anew, whatever the changes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset

from up42fs.catalog.snapshot.assets import outline
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.fs.tree.roster import Roster
from up42fs.types import Asset, CnamStatus

NAMES = ("a.zip", "a", "a (files)", "a [00000000].zip", "b.zip", "b", None)

fields: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(NAMES),
    "created_at": st.integers(0, 3).map(at),
    "cnam_status": st.sampled_from([CnamStatus.SUCCESSFUL, CnamStatus.FAILED]),
}
members = st.builds(make_asset, st.integers(0, 6), **fields)
changes = st.lists(st.one_of(members, st.integers(0, 6)), max_size=12)
places = st.sampled_from([None, "order:1:"])


def node_of(asset_id: str) -> Node:
    return Node(Kind.ASSET, asset_id)


def build(assets: dict[str, Asset], place: str | None) -> Roster:
    return Roster(map(outline, assets.values()), node_of, place)


@given(st.lists(members, max_size=7), changes, places)
def test_changes_give_what_building_anew_gives(
    first: list[Asset], history: list[Asset | int], place: str | None
) -> None:
    assets = {asset.id: asset for asset in first}
    roster = build(assets, place)
    for step in history:
        id_ = step.id if isinstance(step, Asset) else make_asset(step).id
        was, now = assets.get(id_), step if isinstance(step, Asset) else None
        if was is None and now is None:
            continue
        old, before = dict(roster.names), dict[str, Node | None]()
        if now is None:
            del assets[id_]
        else:
            assets[id_] = now
        anew = build(assets, place)
        was_outline, now_outline = (outline(one) if one else None for one in (was, now))
        if roster.change(was_outline, now_outline, before):
            assert roster.names == anew.names
            assert roster.directories == anew.directories
            told = {name for name, node in before.items() if roster.names.get(name) != node}
            assert told == {n for n in old | anew.names if old.get(n) != anew.names.get(n)}
        else:  # what it meant before can still be told
            assert {n: node for n, node in ({**roster.names, **before}).items() if node} == old
            roster = anew


def test_the_usual_changes_touch_nobody_else() -> None:
    assets = {a.id: a for a in (make_asset(n, name=f"{n}.zip") for n in range(5))}
    roster = build(assets, "assets::")
    before: dict[str, Node | None] = {}
    assert roster.change(None, outline(make_asset(9, name="new.zip", created_at=at(99))), before)
    assert before == {"new.zip": None}
    assert roster.change(outline(assets[make_asset(2).id]), None, before)
    assert before.keys() == {"new.zip", "2.zip"}
    transformed = make_asset(1, name="1.zip", cnam_status=CnamStatus.SUCCESSFUL)
    assert roster.change(outline(assets[transformed.id]), outline(transformed), before)
    assert (before["1"], roster.names["1"].kind) == (None, Kind.FILES)


def test_a_new_tag_costs_no_name() -> None:
    asset = make_asset(1, name="a.zip")
    roster = build({asset.id: asset}, None)
    before: dict[str, Node | None] = {}
    tagged = make_asset(1, name="a.zip", tags=("t",), updated_at=at(9))
    assert roster.change(outline(asset), outline(tagged), before)
    assert before == {}

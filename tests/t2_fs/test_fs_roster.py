"""A roster that follows changes has the names of one that is built anew, whatever the changes."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset

from up42fs.archive.kinds import kind_of, stem_of
from up42fs.catalog.snapshot.assets import outline
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.fs.tree.roster import Roster
from up42fs.types import Asset, CnamStatus

NAMES = ("a.zip", "a.tgz", "a", "a (files)", "a [00000000].zip", "b.zip", "b .zip", "b", None)

fields: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(NAMES),
    "created_at": st.integers(0, 3).map(at),
    "cnam_status": st.sampled_from([CnamStatus.SUCCESSFUL, CnamStatus.FAILED]),
}
members = st.builds(make_asset, st.integers(0, 6), **fields)
changes = st.lists(st.one_of(members, st.integers(0, 6)), max_size=12)
#: Where a roster stands, and whether archives have directories there.
places = st.sampled_from([(None, False), ("order:1:", False), ("order:1:", True)])


def node_of(asset_id: str) -> Node:
    return Node(Kind.ASSET, asset_id)


def stem(asset_id: str, wish: str, refuted: Collection[str] = ()) -> str | None:
    known = kind_of(wish) is not None and asset_id not in refuted
    return stem_of(wish).rstrip() if known else None


def build(
    assets: dict[str, Asset],
    place: str | None,
    has_archives: bool = False,
    refuted: Collection[str] = (),
) -> Roster:
    find = partial(stem, refuted=refuted) if has_archives else None
    return Roster(map(outline, assets.values()), node_of, place, find)


@given(st.lists(members, max_size=7), changes, places)
def test_changes_give_what_building_anew_gives(
    first: list[Asset], history: list[Asset | int], place: tuple[str | None, bool]
) -> None:
    assets = {asset.id: asset for asset in first}
    roster = build(assets, *place)
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
        anew = build(assets, *place)
        was_outline, now_outline = (outline(one) if one else None for one in (was, now))
        if roster.change(was_outline, now_outline, before):
            assert roster.names == anew.names
            assert roster.directories == anew.directories
            told = {name for name, node in before.items() if roster.names.get(name) != node}
            assert told == {n for n in old | anew.names if old.get(n) != anew.names.get(n)}
        else:  # what it meant before can still be told
            assert {n: node for n, node in ({**roster.names, **before}).items() if node} == old
            roster = anew


@given(st.lists(members, max_size=7), st.data())
def test_a_refuted_archive_leaves_what_building_anew_gives(
    first: list[Asset], data: st.DataObject
) -> None:
    assets = {asset.id: asset for asset in first}
    candidates = [a for a in assets.values() if stem(a.id, outline(a).wish) is not None]
    if not candidates:
        return
    refuted = data.draw(st.sampled_from(candidates))
    roster = build(assets, "order:1:", True)
    old, before = dict(roster.names), dict[str, Node | None]()
    if roster.withdraw(outline(refuted), before):
        anew = build(assets, "order:1:", True, (refuted.id,))
        assert (roster.names, roster.directories) == (anew.names, anew.directories)
        assert before == {name: old[name] for name in old.keys() - anew.names.keys()}
    else:
        assert roster.names == old


def test_archives_have_directories_of_their_stems() -> None:
    names = ("scene.SAFE.zip", "other.tar.gz", "plain.tif", "scene.SAFE", "x.docx")
    assets = {a.id: a for a in (make_asset(n, name=name) for n, name in enumerate(names))}
    roster = build(assets, "order:1:", True)
    below = {name for name, node in roster.names.items() if node.kind is Kind.MEMBERS}
    assert below == {"scene.SAFE", "other"}
    assert roster.directories == 2
    assert build(assets, "order:1:").names.keys() == set(names)


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

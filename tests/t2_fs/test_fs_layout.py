"""The tree over the index: the same whatever its history, and honest about what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import assets, make_asset, make_order, orders

from up42fs.catalog.index import Changes, Index
from up42fs.fs.tree.layout import Layout, is_id
from up42fs.fs.tree.nodes import CONTROL, ROOT, Kind, Node
from up42fs.model.names import MAX_NAME_BYTES
from up42fs.types import CNAM_STATES, Asset, CnamStatus

VIRTUAL = ("README", "status.json")


def lettered(asset: Asset) -> Asset:
    """The asset under an ID that has letters, so that case matters."""
    return replace(asset, id="a" + asset.id[1:])


changes = st.builds(
    Changes,
    assets=st.lists(assets.map(lettered), max_size=5, unique_by=lambda a: a.id).map(tuple),
    orders=st.lists(orders, max_size=3, unique_by=lambda o: o.id).map(tuple),
    removed_assets=st.frozensets(
        st.integers(0, 9).map(lambda n: lettered(make_asset(n)).id), max_size=4
    ),
    removed_orders=st.frozensets(st.integers(1, 3).map(lambda n: make_order(n).id), max_size=2),
)


def make(*changes: Changes) -> tuple[Index, Layout]:
    index = Index()
    layout = Layout(index, VIRTUAL)
    for change in changes:
        list(layout.apply(index.apply(change)))
    return index, layout


def directories(layout: Layout) -> Iterator[Node]:
    """Every listed directory, from the root."""
    waiting = [ROOT, CONTROL]
    while waiting:
        node = waiting.pop()
        yield node
        below = layout.children(node).values()
        waiting.extend(child for child in below if child.kind not in (Kind.ASSET, Kind.VIRTUAL))


def view(layout: Layout) -> dict[Node, dict[str, Node]]:
    """The whole tree; afterwards every directory is built."""
    return {node: dict(layout.children(node)) for node in directories(layout)}


# history ---------------------------------------------------------------------------------------


@given(st.lists(changes, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_no_history_shows(history: list[Changes], looks: list[bool]) -> None:
    index = Index()
    layout = Layout(index, VIRTUAL)
    for change, look in zip(history, looks, strict=False):
        if look:
            view(layout)
        list(layout.apply(index.apply(change)))
    assert view(layout) == view(Layout(index, VIRTUAL))


@given(st.lists(changes, max_size=3), changes)
@pytest.mark.claim("S61")
def test_exactly_the_names_whose_meaning_changed_are_reported(
    history: list[Changes], change: Changes
) -> None:
    index, layout = make(*history)
    before = view(layout)
    reported = list(layout.apply(index.apply(change)))
    after = {node: children for node, children in view(layout).items() if node in before}
    expected: dict[Node, set[str]] = {}
    for node, old in before.items():
        new = after.get(node, {})
        names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        if names:
            expected[node] = names
    assert {change.parent: set(change.names) for change in reported} == expected
    assert len({change.parent for change in reported}) == len(reported)


def test_a_directory_nobody_looked_into_reports_nothing() -> None:
    index, layout = make(Changes(assets=(make_asset(1, tags=("t",)),)))
    assert list(layout.apply(index.apply(Changes(assets=(make_asset(2),))))) == []


# what stands where -----------------------------------------------------------------------------


@given(st.lists(changes, max_size=3))
@pytest.mark.claim("S52")
def test_link_counts_are_the_listed_names(history: list[Changes]) -> None:
    index, layout = make(*history)
    tree = view(layout)
    names = Counter(child for children in tree.values() for child in children.values())
    for asset_id in index.assets:
        node = Node(Kind.ASSET, asset_id)
        assert layout.links(node) == names[node]
    for node, children in tree.items():
        subdirectories = sum(child.kind is not Kind.ASSET for child in children.values())
        assert layout.links(node) == 2 + subdirectories or node == CONTROL


@given(st.lists(changes, max_size=5))
@pytest.mark.claim("S52")
def test_link_counts_of_directories_that_nobody_listed_follow_changes(
    history: list[Changes],
) -> None:
    index = Index()
    index.is_complete = True
    layout = Layout(index, VIRTUAL)
    layout._has_files = True
    for change in history:
        list(layout.apply(index.apply(change)))
        for _ in range(2):  # the second answer is the first one's, kept
            for order_id in index.order_ids():
                ids = index.ids_of_order(order_id)
                made = sum(index.assets[id_].cnam_status is CnamStatus.SUCCESSFUL for id_ in ids)
                assert layout.links(Node(Kind.ORDER, order_id)) == 2 + made
            for tag in index.tags():
                ids = index.ids_with_tag(tag)
                made = sum(index.assets[id_].cnam_status is CnamStatus.SUCCESSFUL for id_ in ids)
                assert layout.links(Node(Kind.TAG, tag)) == 2 + made


@given(st.lists(changes, max_size=3))
def test_everything_listed_exists_under_a_name_a_path_can_hold(history: list[Changes]) -> None:
    _, layout = make(*history)
    for node, children in view(layout).items():
        assert layout.exists(node)
        for name, child in children.items():
            assert layout.exists(child)
            assert layout.find(node, name) == child
            assert name not in ("", ".", "..")
            assert not set(name) & {"/", "\0"}
            assert len(name.encode()) <= MAX_NAME_BYTES


@given(st.lists(changes, max_size=3))
def test_every_asset_stands_where_its_facts_say(history: list[Changes]) -> None:
    index, layout = make(*history)
    for asset in index.assets.values():
        node = Node(Kind.ASSET, asset.id)
        homes = {Node(Kind.ASSETS)}
        if asset.cnam_status in CNAM_STATES:
            homes.add(Node(Kind.STATUS, asset.cnam_status.value))
        homes |= {Node(Kind.TAG, tag) for tag in asset.tags}
        homes |= {Node(Kind.ORDER, asset.order_id)} if asset.order_id is not None else set()
        assert {d for d, children in view(layout).items() if node in children.values()} == homes


def test_the_top_and_the_states_are_always_there() -> None:
    _, layout = make()
    assert list(layout.children(ROOT)) == ["orders", "tags", "cnam", "assets"]
    assert set(layout.children(Node(Kind.CNAM))) == set(CNAM_STATES)
    assert layout.find(ROOT, ".up42fs") == CONTROL
    assert set(layout.children(CONTROL)) == set(VIRTUAL)


# aliases ---------------------------------------------------------------------------------------


@given(st.lists(changes, max_size=3), st.sampled_from([str.lower, str.upper, str.title]))
def test_ids_resolve_where_their_asset_is_and_are_never_listed(
    history: list[Changes], spelt: Callable[[str], str]
) -> None:
    index, layout = make(*history)
    tree = view(layout)
    for asset in index.assets.values():
        node = Node(Kind.ASSET, asset.id)
        for directory, children in tree.items():
            name = spelt(asset.id)
            if name in children:
                assert layout.find(directory, name) == children[name]
                continue
            is_home = node in children.values()
            assert layout.find(directory, name) == (node if is_home else None)
            assert name not in layout.children(directory)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (make_asset(0xA1).id, True),
        (make_asset(0xA1).id.upper(), True),
        (make_asset(0xA1).id.replace("-", ""), False),
        (make_asset(0xA1).id + "\n", False),
        (make_asset(0xA1).id + ".zip", False),
        ("scene.aux.xml", False),
    ],
)
def test_what_looks_like_an_id(name: str, expected: bool) -> None:
    assert is_id(name) is expected


def test_only_listed_names_are_listed() -> None:
    order = make_order(1)
    index, layout = make(Changes(orders=(order,), assets=(make_asset(1, order_id=order.id),)))
    place = Node(Kind.ORDERS)
    found = layout.find(place, order.id)
    assert found is not None
    assert not layout.lists(place, order.id, found)
    assert layout.lists(place, "order 1", Node(Kind.ORDER, order.id))
    assert not layout.lists(place, "order 1", Node(Kind.ORDER, make_order(2).id))
    assert layout.lists(ROOT, ".up42fs", CONTROL)
    inside = Node(Kind.ORDER, order.id)
    assert layout.lists(inside, "asset1.zip", Node(Kind.ASSET, make_asset(1).id))
    index.apply(Changes(removed_assets=frozenset({make_asset(1).id})))
    assert not layout.lists(inside, "asset1.zip", Node(Kind.ASSET, make_asset(1).id))


def test_an_order_by_its_id_is_a_directory_of_its_own_place() -> None:
    order = make_order(1, display_name="shown")
    _, layout = make(Changes(orders=(order,), assets=(make_asset(1, order_id=order.id),)))
    place = Node(Kind.ORDERS)
    listed, lower = layout.find(place, "shown"), layout.find(place, order.id)
    upper = layout.find(place, order.id.upper())
    assert listed is not None
    assert lower is not None
    assert upper is not None
    assert len({listed, lower, upper}) == 3
    assert layout.children(listed) == layout.children(lower) == layout.children(upper)
    assert list(layout.children(place)) == ["shown"]


@pytest.mark.claim("S34")
def test_a_listed_name_wins_over_an_id() -> None:
    one = make_asset(0xA1)
    other = make_asset(2, name=one.id)
    _, layout = make(Changes(assets=(one, other)))
    assert layout.find(Node(Kind.ASSETS), one.id) == Node(Kind.ASSET, other.id)
    assert layout.find(Node(Kind.ASSETS), one.id.upper()) == Node(Kind.ASSET, one.id)


@pytest.mark.claim("S35")
def test_an_order_without_assets_is_not_shown() -> None:
    order = make_order(1)
    _, layout = make(Changes(orders=(order,)))
    assert layout.children(Node(Kind.ORDERS)) == {}
    assert layout.find(Node(Kind.ORDERS), order.id) is None
    assert not layout.exists(Node(Kind.ORDER, order.id))


# names -----------------------------------------------------------------------------------------


def names_of(*things: object, place: Node) -> list[str]:
    made = [thing for thing in things if hasattr(thing, "cnam_status")]
    known = [thing for thing in things if not hasattr(thing, "cnam_status")]
    _, layout = make(Changes(assets=tuple(made), orders=tuple(known)))  # type: ignore[arg-type]
    return list(layout.children(place))


@pytest.mark.claim("S31")
def test_equal_names_show_the_id_of_all_but_the_oldest() -> None:
    same = [make_asset(n, name="scene.zip") for n in (3, 1, 2)]
    assert names_of(*same, place=Node(Kind.ASSETS)) == [
        "scene.zip",
        "scene [00000002].zip",
        "scene [00000003].zip",
    ]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": "a/b.tif"}, "a_b.tif"),
        ({"name": None, "title": "T/1", "content_type": "image/tiff"}, "T_1.tif"),
        ({"name": "..", "title": None}, make_asset(1).id),
        ({"name": " \n ", "title": " t "}, "_"),
        ({"name": "\ud800.zip"}, "_.zip"),
        ({"name": "x" * 300 + ".zip"}, "x" * 196 + ".zip"),
    ],
)
def test_the_name_of_an_asset(fields: dict[str, object], name: str) -> None:
    assert names_of(make_asset(1, **fields), place=Node(Kind.ASSETS)) == [name]


@pytest.mark.claim("S30")
def test_orders_are_called_as_they_are_shown_else_by_their_id() -> None:
    orders = (
        make_order(1, display_name="a/b"),
        make_order(2, display_name=None),
        make_order(3, display_name="a_b"),
    )
    held = (
        *(make_asset(order_n, order_id=order.id) for order_n, order in enumerate(orders)),
        make_asset(7, order_id="un/known"),
        make_asset(8, order_id=".."),
    )
    found = names_of(*orders, *held, place=Node(Kind.ORDERS))
    assert found[:2] == ["a_b", make_order(2).id]  # oldest first
    assert found[2] == "a_b [0000000f]"
    assert set(found[3:]) == {"_", "un_known"}


@pytest.mark.claim("S33")
def test_a_tag_that_had_to_be_made_safe_gives_way() -> None:
    held = make_asset(1, tags=("a/b", "a_b", "", "\udcff"))
    found = names_of(held, place=Node(Kind.TAGS))
    assert found[0] == "a_b"
    assert len(found) == 4
    assert sum(name.startswith("a_b [") for name in found) == 1
    assert all(name.encode() for name in found)


def test_times_are_of_the_thing_shown() -> None:
    order = make_order(1)
    asset = make_asset(5, order_id=order.id)
    _, layout = make(Changes(assets=(asset,), orders=(order,)))
    assert layout.times(Node(Kind.ASSET, asset.id)) == (asset.created_at, asset.updated_at)
    assert layout.times(Node(Kind.ORDER, order.id)) == (order.created_at, order.updated_at)
    assert layout.times(Node(Kind.TAGS)) is None

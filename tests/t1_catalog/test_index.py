"""The index against one rebuilt from nothing, and the deltas it reports."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from strategies import assets, make_asset, make_order, orders

from up42fs.catalog.index import Changes, Index
from up42fs.types import CNAM_STATES, Asset

changes = st.builds(
    Changes,
    assets=st.lists(assets, max_size=5, unique_by=lambda a: a.id).map(tuple),
    orders=st.lists(orders, max_size=3, unique_by=lambda o: o.id).map(tuple),
    removed_assets=st.frozensets(st.integers(0, 9).map(lambda n: make_asset(n).id), max_size=3),
    removed_orders=st.frozensets(st.integers(1, 3).map(lambda n: make_order(n).id), max_size=2),
)


def ids(found: Iterable[Asset]) -> set[str]:
    return {asset.id for asset in found}


def view(index: Index) -> dict[str, object]:
    """Everything that can be asked of an index."""
    return {
        "assets": dict(index.assets),
        "orders": dict(index.orders),
        "bytes": index.total_bytes,
        "by order": {o: set(index.ids_of_order(o)) for o in index.order_ids()},
        "by tag": {t: set(index.ids_with_tag(t)) for t in index.tags()},
        "by status": {s: ids(index.with_status(s)) for s in CNAM_STATES},
    }


@given(st.lists(changes, max_size=6))
def test_the_index_equals_one_built_from_what_is_left(history: list[Changes]) -> None:
    index = Index()
    for change in history:
        index.apply(change)
    fresh = Index()
    fresh.apply(Changes(tuple(index.assets.values()), tuple(index.orders.values())))
    assert view(index) == view(fresh)
    assert index.total_bytes == sum(asset.size or 0 for asset in index.assets.values())


@given(st.lists(changes, max_size=3), changes)
def test_a_delta_names_everything_that_changed(history: list[Changes], change: Changes) -> None:
    index = Index()
    for earlier in history:
        index.apply(earlier)
    before = view(index)
    delta = index.apply(change)
    after = view(index)
    assert _differing(before["assets"], after["assets"]) <= delta.assets
    assert _differing(before["by tag"], after["by tag"]) <= delta.tags
    assert _differing(before["by order"], after["by order"]) <= delta.orders
    assert _differing(before["orders"], after["orders"]) <= delta.orders
    assert _differing(before["by status"], after["by status"]) <= delta.statuses
    named = {asset.id for asset in change.assets} | change.removed_assets
    assert delta.assets <= named
    assert bool(delta) or before == after


@given(changes)
def test_applying_the_same_again_changes_nothing(change: Changes) -> None:
    index = Index()
    index.apply(change)
    assert not index.apply(Changes(assets=tuple(index.assets.values())))


def test_a_learned_size_holds_until_the_asset_is_updated() -> None:
    index = Index()
    asset = make_asset(1, size=10)
    index.apply(Changes(assets=(asset,)))
    assert index.learn_size(asset.id, 12).assets == {asset.id}
    assert index.assets[asset.id].size == 12
    assert not index.apply(Changes(assets=(asset,)))
    assert index.total_bytes == 12
    updated = make_asset(1, size=14, updated_at=make_asset(2).updated_at)
    index.apply(Changes(assets=(updated,)))
    assert index.assets[asset.id].size == 14


def _differing(before: object, after: object) -> set[object]:
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}

"""Listings that are older than an edit do not take it back; what an edit leaves known of bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset

from up42fs.catalog.index import Changes, Index
from up42fs.catalog.recent_edits import KEEP_S, Edited

OLD = make_asset(1, tags=("old",), updated_at=at(10))
EDITED = replace(OLD, tags=("edited",), updated_at=at(11))
LATER = replace(OLD, tags=("later",), updated_at=at(12))
OTHER = make_asset(2)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def settled(row, asked_s: float, *, timed: bool = True, now_s: float = 100.0):
    clock = Clock()
    edited = Edited(clock)
    edited.note(EDITED, timed=timed)
    clock.now_s = now_s
    (found, other), gone = edited.settle([row, OTHER], {row.id, OTHER.id}, asked_s)
    assert other == OTHER
    assert OTHER.id in gone
    return found, row.id not in gone


def test_a_row_asked_for_before_the_edit_is_older() -> None:
    assert settled(OLD, 99.0) == (EDITED, True)
    assert settled(OLD, 99.0, timed=False) == (EDITED, True)
    assert settled(EDITED, 99.0) == (EDITED, True)
    # Unless it says that it is newer: it was read while the listing went on.
    assert settled(LATER, 99.0)[0] == LATER


def test_a_row_asked_for_after_it_is_newer_unless_it_says_otherwise() -> None:
    assert settled(OLD, 101.0, now_s=102.0) == (EDITED, False)  # a copy that lags behind
    assert settled(LATER, 101.0, now_s=102.0) == (LATER, False)


def test_rows_without_a_time_of_change_keep_that_of_the_edit() -> None:
    silent = replace(OLD, tags=("console",))
    found, _ = settled(silent, 101.0, timed=False, now_s=102.0)
    assert (found.tags, found.updated_at) == (("console",), EDITED.updated_at)


def test_an_edit_is_not_defended_for_ever() -> None:
    assert settled(OLD, 101.0, now_s=100.0 + KEEP_S + 1)[0] == OLD


@given(st.integers(0, 300))
def test_old_edits_are_forgotten(number: int) -> None:
    clock = Clock()
    edited = Edited(clock)
    for n in range(number):
        clock.now_s += 10
        edited.note(make_asset(n), timed=True)
    assert len(edited._entries) <= max(101, KEEP_S / 10 + 2)


@given(st.sampled_from([None, 5000]), st.booleans())
def test_an_edit_leaves_what_is_known_of_the_bytes(listed, learned) -> None:
    index = Index()
    asset = replace(OLD, size=listed)
    index.apply(Changes(assets=(asset,)))
    if learned:
        index.learn_size(OLD.id, 7000)
    size = 7000 if learned else listed
    for step in range(3):
        shown = index.assets[OLD.id]
        before = replace(asset, tags=shown.tags, updated_at=shown.updated_at)
        after = replace(
            before, tags=(f"t{step}",), updated_at=shown.updated_at + timedelta(seconds=1)
        )
        delta = index.apply_edit(before, after)
        assert delta.assets == {OLD.id}
        assert f"t{step}" in delta.tags
        assert index.assets[OLD.id] == replace(after, size=size)
        assert index.bytes_time(index.assets[OLD.id]) == OLD.updated_at
    # The listing says the same a while later: nothing new.
    assert not index.apply(Changes(assets=(replace(after, size=listed),)))
    # Somebody else updates it: its bytes may be others.
    newer = replace(after, size=listed, updated_at=at(50))
    index.apply(Changes(assets=(newer,)))
    assert index.assets[OLD.id] == newer
    assert index.bytes_time(newer) == at(50)


def test_an_edit_of_a_state_that_is_newer_than_known_doubts_the_bytes() -> None:
    index = Index()
    index.apply(Changes(assets=(OLD,)))
    index.learn_size(OLD.id, 7000)
    redelivered = replace(OLD, updated_at=at(20), size=9)
    index.apply_edit(redelivered, replace(redelivered, title="x", updated_at=at(21)))
    assert index.assets[OLD.id].size == 9
    assert index.bytes_time(index.assets[OLD.id]) == at(20)

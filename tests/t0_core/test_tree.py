"""Inode numbers and lookup counts against a plain dictionary of counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from up42fs.fs.tree.handles import FrozenListing
from up42fs.fs.tree.inodes import ROOT_INODE, InodeTable, derive_inode

keys = st.sampled_from([f"asset:{n}" for n in range(8)])


class Counts(RuleBasedStateMachine):
    """The table holds exactly the nodes whose count is above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.table: InodeTable[str] = InodeTable("root")
        self.model: dict[str, int] = {}

    @rule(key=keys)
    def remember(self, key: str) -> None:
        number = self.table.remember(key)
        assert number == self.table.number(key)
        self.model[key] = self.model.get(key, 0) + 1

    @rule(key=keys, count=st.integers(1, 4))
    def forget(self, key: str, count: int) -> None:
        self.table.forget(self.table.number(key), count)
        self.model[key] = max(0, self.model.get(key, 0) - count)

    @rule(count=st.integers(1, 100))
    def forget_root(self, count: int) -> None:
        self.table.forget(ROOT_INODE, count)

    @invariant()
    def matches(self) -> None:
        held = {key for key, count in self.model.items() if count}
        assert len(self.table) == len(held) + 1
        assert self.table.key(ROOT_INODE) == "root"
        for key, count in self.model.items():
            assert self.table.holds(key) == bool(count)
            assert self.table.count(self.table.number(key)) == count
            if count:
                assert self.table.key(self.table.number(key)) == key


TestCounts = Counts.TestCase


@given(st.text(), st.text())
def test_numbers_are_derived_and_positive(a: str, b: str) -> None:
    assert ROOT_INODE < derive_inode(a) < 1 << 63
    assert (derive_inode(a) == derive_inode(b)) == (a == b)


def test_numbers_are_the_same_in_another_process() -> None:
    code = "from up42fs.fs.tree.inodes import derive_inode; print(derive_inode('asset:x'))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == derive_inode("asset:x")


class Twin:
    """Two keys with one text form: they hash to the same number."""

    def __str__(self) -> str:
        return "twin"


def test_colliding_keys_get_different_numbers() -> None:
    table: InodeTable[object] = InodeTable("root")
    first, second = Twin(), Twin()
    a, b = table.remember(first), table.remember(second)
    assert a != b
    assert (table.key(a), table.key(b)) == (first, second)


@given(st.lists(st.integers(), max_size=20), st.data())
@pytest.mark.claim("S3")
def test_a_walk_in_pieces_sees_every_entry_once(entries: list[int], data) -> None:
    given = {f"{place} {entry}": entry for place, entry in enumerate(entries)}
    snapshot = FrozenListing(given)
    if given:
        given.popitem()
    given["new"] = 0
    seen: list[int] = []
    offset = 0
    while True:
        page = data.draw(st.integers(1, 5))
        taken = 0
        for name, entry, after in snapshot.walk(offset):
            if taken == page:
                break
            assert name == f"{len(seen)} {entry}"
            seen.append(entry)
            offset, taken = after, taken + 1
        if not taken:
            break
    assert seen == entries

"""One version an inode, against a kernel that keeps pages: no handle ever sees bytes of two."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from up42fs.errors import OtherVersion, VersionChanged
from up42fs.fs.files.versions import Versions
from up42fs.fs.tree.inodes import ROOT_INODE, InodeTable
from up42fs.fs.tree.nodes import Attributes, Kind, Node, inode_of
from up42fs.store.http.answer import VersionPin
from up42fs.types import Version

PAGES = 4
NODE = Node(Kind.ASSET, "abcdef01-0000-4000-8000-000000000001")
ROOT = Node(Kind.ROOT)
picks = st.integers(0, 30)


@dataclass
class Handle:
    """An open file as its reader sees it: which versions its bytes were of."""

    inode: int
    pin: VersionPin
    size: int
    is_direct: bool
    seen: set[int] = field(default_factory=set)


class Mount(RuleBasedStateMachine):
    """A store whose object changes, our table, and the kernel's inodes with their pages."""

    def __init__(self) -> None:
        super().__init__()
        self.inodes: InodeTable[Node] = InodeTable(ROOT, inode_of)
        self.versions = Versions(self.inodes)
        self.number = 1  # of the version that the store has
        self.sizes = {1: 10}
        self.known_size = 10
        self.has_etags = True
        self.stamp = 0
        self.pin: VersionPin | None = None  # of new handles
        self.handles: list[Handle] = []
        self.pages: dict[int, dict[int, int]] = {}  # by inode: the version of each page
        self.references: dict[int, int] = {}
        self.dentry: int | None = None

    # what happens elsewhere -------------------------------------------------------------------

    @rule(size=st.sampled_from([10, 10, 7]))
    def the_object_is_replaced(self, size: int) -> None:
        self.number += 1
        self.sizes[self.number] = size

    @rule()
    def the_catalogue_says_it_was_updated(self) -> None:
        self.stamp += 1
        self.pin = None

    @rule()
    def the_store_forgets_the_object(self) -> None:
        self.pin = None

    @rule()
    def the_size_is_learned(self) -> None:
        self.known_size = self.sizes[self.number]
        self.versions.resized(NODE.id, self.known_size)
        if self.pin is not None and self.pin.size != self.known_size:
            self.pin = None

    # calls ------------------------------------------------------------------------------------

    def look_up(self) -> int:
        inode = self.versions.inode_of(NODE, self.known_size)
        self.inodes.remember(NODE, inode)
        self.references[inode] = self.references.get(inode, 0) + 1
        self.dentry = inode
        for handle in self.handles:
            assert handle.inode != inode or handle.size == self.known_size, "its size changes"
        assert self.inodes.shown(inode) == inode_of(NODE)
        return inode

    @rule()
    def open(self) -> None:
        """As the kernel opens a path: once more from the lookup on where it hears ESTALE."""
        inode = self.dentry if self.dentry is not None else self.look_up()
        try:
            self.open_inode(inode)
        except OtherVersion:
            inode = self.look_up()
            self.open_inode(inode)

    def open_inode(self, inode: int) -> None:
        size = self.known_size
        expected = self.versions.expected(inode, size, str(self.stamp))
        if self.pin is None or self.pin.size != size:
            self.pin = VersionPin(size)
        if expected is not None:
            self.pin.assume(expected)
        keeps, is_apart = self.versions.admit(
            inode, NODE, size, stamp=str(self.stamp), pin=self.pin
        )
        if not keeps and not is_apart:
            self.pages.pop(inode, None)
        self.handles.append(Handle(inode, self.pin, size, is_apart))

    @precondition(lambda self: self.handles)
    @rule(pick=picks, page=st.integers(0, PAGES - 1))
    def read(self, pick: int, page: int) -> None:
        handle = self.handles[pick % len(self.handles)]
        pages = {} if handle.is_direct else self.pages.setdefault(handle.inode, {})
        if page not in pages:
            etag = f'"{self.number}"' if self.has_etags else None
            answered = Version(self.sizes[self.number], etag)
            if handle.pin.changed_to is not None or not handle.pin.settle(answered):
                self.versions.doubt(NODE.id)  # its reader hears ESTALE
                if handle.pin is self.pin:
                    self.pin = None
                return
            pages[page] = self.number
        handle.seen.add(pages[page])

    @precondition(lambda self: self.handles)
    @rule(pick=picks)
    def close(self, pick: int) -> None:
        handle = self.handles.pop(pick % len(self.handles))
        self.versions.release(handle.inode)

    @precondition(lambda self: self.references)
    @rule(pick=picks)
    def the_kernel_evicts(self, pick: int) -> None:
        inode = sorted(self.references)[pick % len(self.references)]
        if any(handle.inode == inode for handle in self.handles):
            return
        self.pages.pop(inode, None)
        if self.dentry == inode:
            self.dentry = None
        self.inodes.forget(inode, self.references.pop(inode))
        self.versions.forget(inode)

    @invariant()
    def every_handle_saw_one_version(self) -> None:
        for handle in self.handles:
            assert len(handle.seen) <= 1, handle

    @invariant()
    def nothing_grows(self) -> None:
        assert len(self.versions) <= len(self.references)
        if not self.references:
            assert self.inodes.number(NODE) == inode_of(NODE)
            assert self.inodes.shown(inode_of(NODE)) == inode_of(NODE)
            assert len(self.inodes) == 1


Mount.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestMount = Mount.TestCase


@pytest.fixture
def versions() -> Versions:
    inodes: InodeTable[Node] = InodeTable(ROOT, inode_of)
    inodes.remember(NODE)
    return Versions(inodes)


INODE = inode_of(NODE)


def pinned(etag: str | None) -> VersionPin:
    pin = VersionPin(10)
    pin.settle(Version(10, etag))
    return pin


def test_without_identity_nothing_is_kept_and_readers_stay_apart(versions: Versions) -> None:
    pin = VersionPin(10)
    assert versions.admit(INODE, NODE, 10, stamp=None, pin=pin) == (True, False)
    pin.settle(Version(10))
    for other in (pin, pinned(None), pinned('"1"')):
        assert versions.admit(INODE, NODE, 10, stamp=None, pin=other) == (False, True)
    for _ in range(4):
        versions.release(INODE)
    assert versions.expected(INODE, 10, None) is None
    assert versions.admit(INODE, NODE, 10, stamp=None, pin=pinned(None)) == (False, False)


def test_the_same_version_by_another_pin_is_shared(versions: Versions) -> None:
    versions.admit(INODE, NODE, 10, stamp="s", pin=pinned('"1"'))
    assert versions.admit(INODE, NODE, 10, stamp="s", pin=pinned('"1"')) == (True, False)
    with pytest.raises(OtherVersion):
        versions.admit(INODE, NODE, 10, stamp="s", pin=pinned('"2"'))


def test_an_older_inode_shows_its_size_as_long_as_it_is_open(versions: Versions) -> None:
    versions.admit(INODE, NODE, 10, stamp="s", pin=pinned('"1"'))
    assert versions.inode_of(NODE, None) == INODE
    assert versions.size_of(NODE) == 10
    newer = versions.inode_of(NODE, 7)
    assert newer not in (INODE, ROOT_INODE)
    assert versions.inode_of(NODE, 7) == newer
    now = Attributes(newer, 0o100444, 1, 7, 0, 0, 300.0)
    assert versions.older(INODE, now)[:4] == (INODE, 0o100444, 1, 10)
    versions.release(INODE)
    with pytest.raises(VersionChanged):
        versions.older(INODE, now)

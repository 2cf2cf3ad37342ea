"""The file system against a plain tree of dictionaries, with a kernel's memory in between.

The model kernel keeps what it was answered for as long as the answer's time to live is above 0,
drops what it is told to forget, and gives back every reference. Nothing that it then still
remembers may be wrong: that is the promise behind long times to live.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import pytest
from fs_support import World, at_once, content
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from strategies import at, make_order

from up42fs.catalog.transformations import Transformations
from up42fs.errors import NoAttribute, NotADirectory, OtherVersion, VersionChanged
from up42fs.fs.invalidation import Invalidation
from up42fs.fs.tree.moments import Moments
from up42fs.fs.tree.nodes import Absent, Attributes
from up42fs.model.names import split_extension
from up42fs.types import CNAM_STATES, Asset, CnamStatus, Order

#: A thing of the model: its kind, the ID of what it shows, and how an order's ID was spelt.
Thing = tuple[str, str, str]
ROOT: Thing = ("root", "", "")
TOP = {name: (name, "", "") for name in ("orders", "tags", "cnam", "assets")}
STATUSES = {status.value: ("status", status.value, "") for status in CNAM_STATES}
CONTROL: Thing = ("control", "", "")
VIRTUAL = {name: ("virtual", name, "") for name in ("README", "refresh", "metrics", "status.json")}

ASSET_IDS = [f"abcdef{n:02x}-0000-4000-8000-00000000000{n}" for n in range(6)]
ORDER_IDS = [f"0000000f-000{n}-4000-8000-000000000000" for n in range(4)]  # the last is unlisted
TAGS = ["t", "a/b", "a_b", "ü"]
NAMES = ["scene.zip", "scene.zip", "a/b.tif", None, ".."]

asset_fields: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(NAMES),
    "title": st.sampled_from([None, "title", "x/y"]),
    "size": st.sampled_from([None, 0, 1, 300_000, 5_000_000_000]),
    "created_at": st.integers(0, 3).map(at),
    "updated_at": st.integers(4, 9).map(at),
    "tags": st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple),
    "cnam_status": st.sampled_from(CnamStatus),
    "order_id": st.sampled_from([None, *ORDER_IDS]),
}
new_assets = st.builds(Asset, id=st.sampled_from(ASSET_IDS), **asset_fields)
order_fields: dict[str, st.SearchStrategy[Any]] = {
    "display_name": st.sampled_from([None, "same", "same", "a/b"]),
    "status": st.sampled_from(["PLACED", "FULFILLED"]),
    "created_at": st.integers(0, 3).map(at),
    "updated_at": st.integers(4, 9).map(at),
}
new_orders = st.builds(make_order, st.integers(0, 2), **order_fields)
spell: st.SearchStrategy[Callable[[str], str]] = st.sampled_from([str.lower, str.upper, str.title])
any_names = st.sampled_from([*NAMES[:2], "b02.tiff", "scene.zip.aux.xml", "a_b.tif", "t", ".", "ü"])
picks = st.integers(0, 1 << 16)


# the plain tree --------------------------------------------------------------------------------


@dataclass
class Storage:
    """What UP42 holds, and the tree that design §2 makes of it, computed afresh each time."""

    assets: dict[str, Asset] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    learned: dict[str, tuple[Any, int]] = field(default_factory=dict)
    #: Who is in which directory, and when that changed last, by the machine's clock.
    filled: dict[Thing, frozenset[str]] = field(default_factory=dict)
    moved: dict[Thing, int] = field(default_factory=dict)

    def move(self, now_ns: int) -> None:
        """Something changed just now."""
        things = [TOP["assets"], *STATUSES.values()]
        things += [("order", id_, "") for id_ in self.order_ids()]
        things += [("tag", tag, "") for tag in self.tags()]
        filled = {thing: frozenset(a.id for a in self.members(thing)) for thing in things}
        for thing in filled.keys() | self.filled.keys():
            if filled.get(thing, frozenset()) != self.filled.get(thing, frozenset()):
                self.moved[thing] = now_ns
        self.filled = filled

    def put(self, asset: Asset) -> None:
        updated_at, size = self.learned.get(asset.id, (None, None))
        if updated_at == asset.updated_at:
            asset = replace(asset, size=size)
        else:
            self.learned.pop(asset.id, None)
        self.assets[asset.id] = asset

    def drop(self, asset_id: str) -> None:
        self.assets.pop(asset_id, None)
        self.learned.pop(asset_id, None)

    def order_ids(self) -> set[str]:
        return {asset.order_id for asset in self.assets.values() if asset.order_id is not None}

    def tags(self) -> set[str]:
        return {tag for asset in self.assets.values() for tag in asset.tags}

    def members(self, thing: Thing) -> list[Asset]:
        kind, id_, _ = thing
        belongs: dict[str, Callable[[Asset], bool]] = {
            "assets": lambda asset: True,
            "order": lambda asset: asset.order_id == id_,
            "tag": lambda asset: id_ in asset.tags,
            "status": lambda asset: asset.cnam_status.value == id_,
        }
        return [asset for asset in self.assets.values() if belongs[kind](asset)]

    def list(self, thing: Thing) -> dict[str, Thing]:
        fixed = {"root": TOP, "cnam": STATUSES, "control": VIRTUAL}
        if thing[0] in fixed:
            return dict(fixed[thing[0]])
        if thing[0] == "orders":
            return self._list_orders()
        if thing[0] == "tags":
            return self._list_tags()
        wishes = [(a.created_at.timestamp(), a.id, _wish(a)) for a in self.members(thing)]
        return {name: ("asset", id_, "") for id_, name in _named(wishes).items()}

    def _list_orders(self) -> dict[str, Thing]:
        wishes = []
        for id_ in self.order_ids():
            order = self.orders.get(id_)
            age = order.created_at.timestamp() if order else float("inf")
            shown = (order.display_name or id_) if order else id_
            wishes.append((age, id_, shown.replace("/", "_")))
        return {name: ("order", id_, "") for id_, name in _named(wishes).items()}

    def _list_tags(self) -> dict[str, Thing]:
        tags = {blake2b(tag.encode(), digest_size=16).hexdigest(): tag for tag in self.tags()}
        safe = sorted((tag != tag.replace("/", "_"), tag, digest) for digest, tag in tags.items())
        wishes = [
            (float(n), digest, tag.replace("/", "_")) for n, (_, tag, digest) in enumerate(safe)
        ]
        return {name: ("tag", tags[digest], "") for digest, name in _named(wishes).items()}

    def find(self, parent: Thing, name: str) -> Thing | None:
        if parent == ROOT and name == ".up42fs":
            return CONTROL
        listed = self.list(parent).get(name)
        if listed is not None:
            return listed
        id_ = name.lower()
        if parent[0] == "orders" and id_ in self.order_ids():
            return ("order", id_, name)
        if parent[0] in ("assets", "order", "tag", "status"):
            return next((("asset", a.id, "") for a in self.members(parent) if a.id == id_), None)
        return None

    def exists(self, thing: Thing) -> bool:
        held = {"asset": self.assets.keys(), "order": self.order_ids(), "tag": self.tags()}
        return thing[0] not in held or thing[1] in held[thing[0]]

    def links(self, thing: Thing) -> int:
        if thing[0] == "asset":
            tops = [TOP["assets"], *STATUSES.values()]
            tops += [("order", id_, "") for id_ in self.order_ids()]
            tops += [("tag", tag, "") for tag in self.tags()]
            return sum(thing in self.list(top).values() for top in tops)
        below = self.list(thing).values() if thing[0] in ("root", "orders", "tags", "cnam") else ()
        return 1 if thing[0] == "virtual" else 2 + len(below)

    def facts(self, thing: Thing) -> tuple[Any, ...]:
        """What `stat` must say beyond mode and inode; times None where the tree itself is meant."""
        if thing[0] != "asset":
            return 0, self.links(thing), None
        asset = self.assets[thing[1]]
        times = _ns(asset.created_at), _ns(asset.updated_at)
        return asset.size or 0, self.links(thing), times

    def arrival_ns(self, thing: Thing) -> int:
        """When something came to an order, by what UP42 tells of it."""
        order = self.orders.get(thing[1])
        came = [asset.created_at for asset in self.members(thing)]
        return max(map(_ns, [*came, order.created_at] if order else came))


def _wish(asset: Asset) -> str:
    if asset.name not in (None, ".."):
        return asset.name.replace("/", "_")
    return asset.title.replace("/", "_") if asset.title else asset.id


def _named(wishes: list[tuple[float, str, str]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for _, id_, wish in sorted(wishes):
        name, digits = wish, 8
        while name in names.values():
            stem, extension = split_extension(wish)
            name, digits = f"{stem} [{id_[:digits]}]{extension}", digits + 4
        names[id_] = name
    return names


def _ns(moment: Any) -> int:
    return round(moment.timestamp()) * 1_000_000_000


# the kernel ------------------------------------------------------------------------------------


@dataclass
class Kernel:
    """Dentries, attributes and lookup counts, as long as they may be believed."""

    references: Counter[int] = field(default_factory=Counter)
    names: dict[tuple[int, str], int | None] = field(default_factory=dict)
    attributes: dict[int, Attributes] = field(default_factory=dict)

    def learn(self, parent: int, name: str, attributes: Attributes) -> None:
        self.references[attributes.inode] += 1
        self.names.pop((parent, name), None)
        self.renew(attributes)
        if attributes.ttl_s > 0:
            self.names[parent, name] = attributes.inode

    def renew(self, attributes: Attributes) -> None:
        self.attributes.pop(attributes.inode, None)
        known_s = attributes.ttl_s if attributes.attr_ttl_s is None else attributes.attr_ttl_s
        if known_s > 0:
            self.attributes[attributes.inode] = attributes

    def drop_name(self, parent: int, name: str) -> None:
        """As d_invalidate: a directory's name takes everything below with it."""
        inode = self.names.pop((parent, name), None)
        if inode is None or inode in self.names.values():
            return
        self.attributes.pop(inode, None)
        self.drop_below(inode)

    def drop_below(self, inode: int) -> None:
        for parent, name in [key for key in self.names if key[0] == inode]:
            self.drop_name(parent, name)

    def honour(self, stale: list[Invalidation]) -> None:
        for item in stale:
            if item.name is None:
                self.attributes.pop(item.inode, None)
            elif (item.inode, item.name) in self.names:  # else it answers ENOENT, does nothing
                self.drop_name(item.inode, item.name)
                self.attributes.pop(item.inode, None)

    def evict(self, inode: int) -> int:
        """Forget an inode and every name of it; returns the references to give back."""
        for parent, name in [key for key, value in self.names.items() if value == inode]:
            self.drop_name(parent, name)
        self.drop_below(inode)
        self.attributes.pop(inode, None)
        return self.references.pop(inode, 0)


@dataclass
class Walk:
    """An open directory: what it must still show, by the offset to go on from."""

    handle: int
    inode: int
    entries: list[tuple[str, Thing]]
    offsets: list[int] = field(default_factory=lambda: [0])
    #: Told since the walk began (again); not there when it passed; and where each name stands.
    shown: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)
    places: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)


# the machine -----------------------------------------------------------------------------------


#: Where the machine's clock begins: after all that any asset tells.
START_NS = 4_000_000_000 * 10**9
#: What the store says of assets whose size UP42 does not tell.
SIZES = {f"abcdef0{n}-0000-4000-8000-00000000000{n}": 500 * n for n in range(10)}


class FilesystemAgainstTree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(clock=lambda: 0.0)
        self.fs = self.world.fs
        self.now_ns = START_NS
        self.fs.tree.moments = Moments(
            self.world.index, Transformations(self.world.index), lambda: self.now_ns
        )
        self.storage = Storage()
        self.kernel = Kernel()
        self.things: dict[int, Thing] = {1: ROOT}
        self.walks: list[Walk] = []
        self.open: list[tuple[int, int, Thing, int]] = []  # handle, inode, what, size when opened
        self.suspicious: set[int] = set()
        self.stamps: dict[int, Any] = {}  # stamp and size of assets when last opened, by inode
        self.world.files.sizes = SIZES
        self.world.files.on_probe = self.a_size_is_learned

    def a_size_is_learned(self, asset_id: str, size: int) -> None:
        asset = self.storage.assets[asset_id]
        assert asset.size is None, "only what nobody knows is asked for"
        self.storage.learned[asset_id] = (asset.updated_at, size)
        self.storage.assets[asset_id] = replace(asset, size=size)

    # catalogue -----------------------------------------------------------------------------

    @rule(assets=st.lists(new_assets, max_size=4, unique_by=lambda a: a.id))
    def assets_arrive(self, assets: list[Asset]) -> None:
        for asset in assets:
            self.storage.put(asset)
        self.honour(self.world.put(*assets))

    @precondition(lambda self: self.storage.assets)
    @rule(pick=picks, what=st.sampled_from(sorted(asset_fields)), data=st.data())
    def one_fact_of_an_asset_changes(self, pick: int, what: str, data: st.DataObject) -> None:
        asset = self._pick(list(self.storage.assets.values()), pick)
        asset = replace(asset, **{what: data.draw(asset_fields[what])})
        self.storage.put(asset)
        self.honour(self.world.put(asset))

    @precondition(lambda self: self.storage.assets)
    @rule(pick=picks)
    def an_asset_vanishes(self, pick: int) -> None:
        self.vanish(self._pick(list(self.storage.assets.values()), pick))

    @precondition(lambda self: self.walks)
    @rule(pick=picks)
    def the_next_entry_of_a_walk_vanishes(self, pick: int) -> None:
        walk = self._pick(self.walks, pick)
        for kind, id_, _ in (t for name, t in walk.entries if name not in walk.shown):
            if kind == "asset" and id_ in self.storage.assets:
                self.vanish(self.storage.assets[id_])
                return

    def vanish(self, asset: Asset) -> None:
        self.storage.drop(asset.id)
        self.world.files.forgotten.clear()
        self.honour(self.world.remove(asset))
        assert self.world.files.forgotten == [asset.id]
        self.suspect(asset.id)

    @precondition(lambda self: self.storage.orders)
    @rule(pick=picks, what=st.sampled_from(sorted(order_fields)), data=st.data())
    def one_fact_of_an_order_changes(self, pick: int, what: str, data: st.DataObject) -> None:
        order = self._pick(list(self.storage.orders.values()), pick)
        self.an_order_arrives(replace(order, **{what: data.draw(order_fields[what])}))

    @rule(order=new_orders)
    def an_order_arrives(self, order: Order) -> None:
        self.storage.orders[order.id] = order
        self.honour(self.world.put(order))

    @precondition(lambda self: self.storage.orders)
    @rule(pick=picks)
    def an_order_vanishes(self, pick: int) -> None:
        order = self._pick(list(self.storage.orders.values()), pick)
        del self.storage.orders[order.id]
        self.honour(self.world.remove(order))

    @precondition(lambda self: self.storage.assets)
    @rule(pick=picks, size=st.sampled_from([2, 70_000]))
    def the_store_tells_another_size(self, pick: int, size: int) -> None:
        asset = self._pick(list(self.storage.assets.values()), pick)
        stale = self.fs.changes.learn_size(asset.id, size)
        self.suspect(asset.id)
        if asset.size != size:
            self.storage.learned[asset.id] = (asset.updated_at, size)
            self.storage.assets[asset.id] = replace(asset, size=size)
        self.honour(stale)

    def suspect(self, asset_id: str) -> None:
        self.suspicious |= {
            i for i, thing in self.things.items() if thing[:2] == ("asset", asset_id)
        }

    def honour(self, stale: list[Invalidation]) -> None:
        self.storage.move(self.now_ns)
        self.now_ns += 1
        assert all(item.inode == 1 or self.kernel.references[item.inode] for item in stale)
        self.kernel.honour(stale)

    # names ---------------------------------------------------------------------------------

    @rule(pick=picks, name=any_names)
    def look_up_any_name(self, pick: int, name: str) -> None:
        self.look_up(self._directory(pick), name)

    @rule(pick=picks, which=picks)
    def look_up_a_listed_name(self, pick: int, which: int) -> None:
        inode = self._directory(pick)
        if self.storage.exists(self.things[inode]):
            names = list(self.storage.list(self.things[inode]))
            if names:
                self.look_up(inode, self._pick(names, which))

    @rule(pick=picks, id_=st.sampled_from([*ASSET_IDS, *ORDER_IDS]), spelt=spell)
    def look_up_an_id(self, pick: int, id_: str, spelt: Callable[[str], str]) -> None:
        self.look_up(self._directory(pick), spelt(id_))

    @precondition(lambda self: self.storage.order_ids())
    @rule(pick=picks, spelt=st.none() | spell)
    def stat_an_order(self, pick: int, spelt: Callable[[str], str] | None) -> None:
        orders = self.look_up(1, "orders")
        assert orders is not None
        names = sorted(self.storage.order_ids() if spelt else self.storage.list(TOP["orders"]))
        name = self._pick(names, pick)
        inode = self.look_up(orders, spelt(name) if spelt else name)
        assert inode is not None
        self.kernel.renew(at_once(self.fs.getattr(inode)))

    @rule(path=st.lists(picks, min_size=2, max_size=3))
    def walk_down(self, path: list[int]) -> None:
        inode = 1
        for which in path:
            thing = self.things[inode]
            names = list(self.storage.list(thing)) if thing[0] not in ("asset", "virtual") else []
            if not names:
                return
            inode = self.look_up(inode, self._pick(names, which)) or 1
            self.kernel.renew(at_once(self.fs.getattr(inode)))

    @precondition(lambda self: self._files())
    @rule(pick=picks)
    def look_up_in_a_file(self, pick: int) -> None:
        inode = self._pick(self._files(), pick)
        with pytest.raises((NotADirectory, VersionChanged)):
            at_once(self.fs.lookup(inode, "x"))
        with pytest.raises((NotADirectory, VersionChanged)):
            at_once(self.fs.opendir(inode))

    @rule(pick=picks)
    def getattr(self, pick: int) -> None:
        inode = self._pick(self._held(), pick)
        if not self.storage.exists(self.things[inode]):
            with pytest.raises(VersionChanged):
                at_once(self.fs.getattr(inode))
            return
        try:
            attributes = at_once(self.fs.getattr(inode))
        except OtherVersion:
            assert inode not in self.open_sizes(), "its handles are told of their version"
            self.look_up_again(inode)
            return
        assert attributes.inode == inode
        self.check(self.things[inode], attributes)
        self.kernel.renew(attributes)

    @rule(pick=picks, name=any_names)
    def a_lookup_is_answered_and_given_back(self, pick: int, name: str) -> None:
        # The kernel gives back one reference where it has no use for an answer.
        inode = self.look_up(self._directory(pick), name)
        if inode is not None and self.kernel.references[inode] > 1:
            self.kernel.references[inode] -= 1
            self.fs.forget(inode, 1)

    @rule(pick=picks)
    def the_kernel_evicts(self, pick: int) -> None:
        inode = self._pick(self._held(), pick)
        in_use = {walk.inode for walk in self.walks} | {inode for _, inode, _, _ in self.open}
        if inode != 1 and inode not in in_use:
            self.fs.forget(inode, self.kernel.evict(inode))
            self.stamps.pop(inode, None)
            self.suspicious.discard(inode)

    def open_sizes(self) -> dict[int, int]:
        return {inode: size for _, inode, (kind, *_), size in self.open if kind == "asset"}

    def look_up_again(self, inode: int) -> int:
        """As the kernel does where a call ended in ESTALE, by the path: here one by ID."""
        for parent, name in [key for key, value in self.kernel.names.items() if value == inode]:
            self.kernel.drop_name(parent, name)
        self.kernel.attributes.pop(inode, None)
        assets = self.look_up(1, "assets")
        assert assets is not None
        newer = self.look_up(assets, self.things[inode][1])
        assert newer not in (None, inode)
        return newer

    def look_up(self, parent: int, name: str) -> int | None:
        thing = self.things[parent]
        if not self.storage.exists(thing):
            with pytest.raises(VersionChanged):
                at_once(self.fs.lookup(parent, name))
            return None
        expected = self.storage.find(thing, name)
        attributes = at_once(self.fs.lookup(parent, name))
        if isinstance(attributes, Absent):
            assert expected is None
            self.kernel.names.pop((parent, name), None)
            if attributes.ttl_s > 0:
                self.kernel.names[parent, name] = None
            return None
        assert expected is not None
        self.meet(parent, name, expected, attributes)
        return attributes.inode

    def meet(self, parent: int, name: str, thing: Thing, attributes: Attributes) -> None:
        known = self.things.setdefault(attributes.inode, thing)
        assert known == thing, "one inode, two things"
        self.check(thing, attributes)
        self.kernel.learn(parent, name, attributes)

    def check(self, thing: Thing, attributes: Attributes) -> None:
        if thing[0] == "virtual":
            assert attributes.ttl_s == 0
            return
        assert attributes.is_dir == (thing[0] != "asset")
        size, links, times = self.storage.facts(thing)
        size = self.open_sizes().get(attributes.inode, size)
        assert (attributes.size, attributes.nlink) == (size, links)
        if times is not None:
            assert (attributes.mtime_ns, attributes.ctime_ns) == times
        # Names that change move a directory's time too, where somebody looked into it.
        elif thing[0] == "order" and attributes.mtime_ns < START_NS:
            assert attributes.mtime_ns == self.storage.arrival_ns(thing)
        place = (thing[0], thing[1], "")
        assert attributes.ctime_ns >= attributes.mtime_ns
        if place in self.storage.moved and thing[0] != "asset":
            assert attributes.mtime_ns >= self.storage.moved[place]

    # directories ---------------------------------------------------------------------------

    @rule(pick=picks)
    def opendir(self, pick: int) -> None:
        inode = self._directory(pick)
        thing = self.things[inode]
        if not self.storage.exists(thing):
            with pytest.raises(VersionChanged):
                at_once(self.fs.opendir(inode))
            return
        entries = list(self.storage.list(thing).items())
        self.walks.append(Walk(at_once(self.fs.opendir(inode)), inode, entries))

    @precondition(lambda self: self.walks)
    @rule(pick=picks, room=st.integers(0, 4))
    def readdir(self, pick: int, room: int) -> None:
        walk = self._pick(self.walks, pick)
        taken: list[tuple[str, Attributes]] = []

        def take(name: str, attributes: Attributes, after: int) -> bool:
            if len(taken) == room:
                return False
            assert after > walk.offsets[-1]
            walk.offsets.append(after)
            walk.after[name] = after
            taken.append((name, attributes))
            return True

        self.fs.directories.read(walk.handle, walk.offsets[-1], take)
        frozen = dict(walk.entries)
        gone = {name for name, thing in walk.entries if not self.storage.exists(thing)}
        for name, attributes in taken:
            self.meet(walk.inode, name, frozen[name], attributes)
            # Any order, but in one walk always the same: a name has one place.
            assert walk.places.setdefault(name, walk.after[name]) == walk.after[name]
        names = [name for name, _ in taken]
        assert len(set(names) | walk.shown) == len(names) + len(walk.shown), "told twice"
        assert gone.isdisjoint(names)
        walk.shown |= set(names)
        walk.missed |= gone
        if len(taken) < room:
            assert frozen.keys() - walk.shown <= walk.missed, "left out"

    @precondition(lambda self: self.walks)
    @rule(pick=picks)
    def rewind(self, pick: int) -> None:
        walk = self._pick(self.walks, pick)
        walk.offsets, walk.shown, walk.missed = [0], set(), set()

    @precondition(lambda self: self.walks)
    @rule(pick=picks)
    def releasedir(self, pick: int) -> None:
        walk = self._pick(self.walks, pick)
        self.walks.remove(walk)
        self.fs.directories.close(walk.handle)

    # files ---------------------------------------------------------------------------------

    @precondition(lambda self: self._files())
    @rule(pick=picks)
    def open_a_file(self, pick: int) -> None:
        inode = self._pick(self._files(), pick)
        kind, id_, _ = thing = self.things[inode]
        if not self.storage.exists(thing):
            with pytest.raises(VersionChanged):
                at_once(self.fs.open(inode, os.O_RDONLY))
            return
        try:
            opened = at_once(self.fs.open(inode, os.O_RDONLY))
        except OtherVersion:
            inode = self.look_up_again(inode)
            opened = at_once(self.fs.open(inode, os.O_RDONLY))
        if kind == "virtual":
            assert (opened.keep_cache, opened.direct_io) == (False, True)
            size = len(self.world.virtual.render(id_))
        else:
            size = self.storage.assets[id_].size or 0
            assert self.open_sizes().get(inode, size) == size, "one size an inode"
            now = (self.storage.assets[id_].updated_at, size)
            keep = inode not in self.stamps or (
                inode not in self.suspicious and self.stamps[inode] == now
            )
            assert (opened.keep_cache, opened.direct_io) == (keep, False)
            self.suspicious.discard(inode)
            self.stamps[inode] = now
        self.open.append((opened.handle, inode, thing, size))

    @precondition(lambda self: self.open)
    @rule(pick=picks, offset=st.integers(0, 400_000) | st.just(5_000_000_000 - 3), size=picks)
    def read(self, pick: int, offset: int, size: int) -> None:
        handle, _, (kind, id_, _), total = self._pick(self.open, pick)
        stop = max(offset, min(offset + size, total))
        found = bytes(at_once(self.fs.read(handle, offset, size)))
        if kind == "virtual":
            assert found == self.world.virtual.render(id_)[offset : offset + size]
        else:
            assert found == content(id_, offset, stop)

    @precondition(lambda self: self.open)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        opened = self._pick(self.open, pick)
        self.open.remove(opened)
        self.fs.release(opened[0])

    # the rest ------------------------------------------------------------------------------

    @rule(pick=picks)
    def xattrs(self, pick: int) -> None:
        inode = self._pick(self._held(), pick)
        thing = kind, id_, _ = self.things[inode]
        if not self.storage.exists(thing):
            with pytest.raises(VersionChanged):
                at_once(self.fs.listxattr(inode))
            with pytest.raises(VersionChanged):
                at_once(self.fs.getxattr(inode, "user.up42.id"))
            return
        found = {
            n: at_once(self.fs.getxattr(inode, n)).decode()
            for n in at_once(self.fs.listxattr(inode))
        }
        assert all(found.values())
        if kind == "asset":
            asset = self.storage.assets[id_]
            order = self.storage.orders.get(asset.order_id or "")
            assert found["user.up42.id"] == id_
            assert found.get("user.up42.cnam_status", "") == asset.cnam_status.value
            assert found.get("user.up42.tags") == (",".join(asset.tags) or None)
            assert found.get("user.up42.title") == asset.title
            assert found.get("user.up42.order_name") == (order.display_name if order else None)
        else:
            assert bool(found) == (kind in ("order", "tag"))
        for name in ("user.other", "user.up42.none", "security.capability"):
            with pytest.raises(NoAttribute):
                at_once(self.fs.getxattr(inode, name))

    # invariants ----------------------------------------------------------------------------

    @invariant()
    def references_are_what_was_answered(self) -> None:
        assert self.fs.gauges() == {
            "inodes": len(self._held()),
            "open_files": len(self.open),
            "open_directories": len(self.walks),
        }

    @invariant()
    def nothing_remembered_is_wrong(self) -> None:
        for (parent, name), inode in self.kernel.names.items():
            thing = self.things[parent]
            truth = self.storage.find(thing, name) if self.storage.exists(thing) else None
            assert (self.things[inode] if inode is not None else None) == truth, (thing, name)
        reached = {*self.kernel.names.values(), *self.open_sizes()}
        for inode, attributes in self.kernel.attributes.items():
            if inode in reached and self.storage.exists(self.things[inode]):
                self.check(self.things[inode], attributes)

    @invariant()
    def df_is_the_sum(self) -> None:
        assets = self.storage.assets.values()
        assert self.fs.statfs() == (sum(a.size or 0 for a in assets), len(assets))

    @invariant()
    def no_file_is_open_that_nobody_holds(self) -> None:
        left = sum(not file.closed for file in self.world.files.opened)
        assert left == sum(thing[0] == "asset" for _, _, thing, _ in self.open)

    def teardown(self) -> None:
        for walk in self.walks:
            self.fs.directories.close(walk.handle)
        for opened in self.open:
            self.fs.release(opened[0])
        for inode, count in self.kernel.references.items():
            self.fs.forget(inode, count)
        assert self.fs.gauges() == {"inodes": 1, "open_files": 0, "open_directories": 0}
        assert all(file.closed for file in self.world.files.opened)

    # picking -------------------------------------------------------------------------------

    @staticmethod
    def _pick(things: list[Any], number: int) -> Any:
        return things[number % len(things)]

    def _held(self) -> list[int]:
        return [1, *(inode for inode, count in self.kernel.references.items() if count)]

    def _files(self) -> list[int]:
        return [i for i in self._held() if self.things[i][0] in ("asset", "virtual")]

    def _directory(self, pick: int) -> int:
        files = set(self._files())
        inode: int = self._pick([i for i in self._held() if i not in files], pick)
        return inode


FilesystemAgainstTree.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=50,
)
TestFilesystemAgainstTree = FilesystemAgainstTree.TestCase

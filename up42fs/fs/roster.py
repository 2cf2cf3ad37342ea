"""The names of the assets of one directory, kept while its members come, go and change.

Knows assets and how names are given (`core.names`); nothing of inodes or of which directory it is.

Theory. Names depend on all members of a directory (clashes), but most changes touch no clash: a new
asset is the newest and renames nobody, a removed name was wanted by nobody else. So a roster is
built whole once, oldest first, and remembers the names that somebody wanted and did not get
(*contested*). A change is taken over alone if it can be shown to give what building anew would:
1. an asset whose name, age and transformation stay keeps its names;
2. a newcomer gets what is free if it is newer than all, and if it is not, only where it gets what
   it asks for first: whoever is newer never asked for that;
3. who leaves is struck out if its names are the ones it asked for and are not contested.
Everything else is answered by None: build anew. A change costs what it changes, not the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from up42fs.core import names
from up42fs.fs.nodes import Kind, Node
from up42fs.types import Asset, CnamStatus

#: How old an asset is: a smaller value is older. No two assets of a directory have the same.
Age = tuple[datetime, str]


class Roster:
    """Names of assets, and of the directories of their files where `place` is given.

    `place` is the directory's text form: a directory of files is another one in every place.
    `node_of` gives an asset's node, the same object for all directories.
    """

    __slots__ = ("_contested", "_newest", "_node_of", "_place", "directories", "names")

    def __init__(
        self, assets: Iterable[Asset], node_of: Callable[[str], Node], place: str | None
    ) -> None:
        self.names: dict[str, Node] = {}
        #: How many of them are directories.
        self.directories = 0
        self._node_of = node_of
        self._place = place
        self._contested: frozenset[str] = frozenset()
        self._newest: Age | None = None
        contested: set[str] = set()
        for asset in sorted(assets, key=_age):
            self._enter(asset, contested)
        self._contested = frozenset(contested)

    def change(self, was: Asset | None, now: Asset | None, before: dict[str, Node | None]) -> bool:
        """A member is another than it `was`, came (None before) or left (None `now`).

        False where only building anew can tell what the names are; the roster is then of no more
        use. What a name meant before it changed is added to `before`.
        """
        if was is not None and now is not None and self._inputs(was) == self._inputs(now):
            return True
        if was is not None and not self._strike(was, before):
            return False
        return now is None or self._join(now, before)

    def _inputs(self, asset: Asset) -> tuple[Age, str, bool]:
        return _age(asset), _wish(asset), self._has_directory(asset)

    def _has_directory(self, asset: Asset) -> bool:
        return self._place is not None and asset.cnam_status is CnamStatus.SUCCESSFUL

    def _enter(self, asset: Asset, contested: set[str]) -> list[str]:
        """Give names to an asset that is newer than all others; returns them."""
        listed = self.names
        name = _wish(asset)
        if name in listed:
            name = names.free_name(name, asset.id, listed, contested)
        listed[name] = self._node_of(asset.id)
        self._newest = _age(asset)
        if not self._has_directory(asset):
            return [name]
        directory = names.split_extension(name)[0]
        if directory in listed:
            if directory != name:
                contested.add(directory)
            wish = names.files_name(directory)
            directory = names.free_name(wish, asset.id, listed, contested)
        listed[directory] = Node(Kind.FILES, asset.id, self._place or "")
        self.directories += 1
        return [name, directory]

    def _join(self, asset: Asset, before: dict[str, Node | None]) -> bool:
        newest = self._newest
        contested: set[str] = set()
        given = self._enter(asset, contested)
        for name in given:
            before.setdefault(name, None)
        if newest is not None and newest > _age(asset):
            self._newest = newest
            if contested:
                return False
        if contested:
            self._contested |= contested
        return True

    def _strike(self, asset: Asset, before: dict[str, Node | None]) -> bool:
        wish = _wish(asset)
        given = {wish: self._node_of(asset.id)}
        if self._has_directory(asset):
            stem = names.split_extension(wish)[0]
            directory = stem if stem != wish else names.files_name(stem)
            given[directory] = Node(Kind.FILES, asset.id, self._place or "")
        if any(self.names.get(name) != node for name, node in given.items()):
            return False
        if not self._contested.isdisjoint(given):
            return False
        for name, node in given.items():
            before.setdefault(name, node)
            del self.names[name]
        self.directories -= len(given) - 1
        return True


def _age(asset: Asset) -> Age:
    return asset.created_at, asset.id


def _wish(asset: Asset) -> str:
    return names.asset_name(asset.name, asset.title, asset.content_type, asset.id)

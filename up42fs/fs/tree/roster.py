"""The names of the assets of one directory, updated as its members come, go and change.

Theory. Names depend on all members of a directory (clashes), but most changes affect no clash: a
new asset is the newest and renames no other, and no other asset wanted a removed name. So a roster
is built whole once, oldest first, and keeps the names that some asset wanted and did not get
(*contested*). A change is applied alone if it provably gives the same result as a rebuild:
1. an asset whose name, age and transformation stay the same keeps its names;
2. a new asset gets free names if it is newer than all others; if it is not, only if it gets its
   first choice, since then no newer asset wanted that name;
3. a removed asset is deleted if its names are its first choice and are not contested.
For every other change `change` returns False: rebuild. A change costs what it changes, not the
directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from up42fs.catalog.snapshot.assets import Member, Outline
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import names


class Roster:
    """Names of assets, and of the directories of their files if `place` is given.

    `place` is the directory's text form: a directory of files is a different node in every place.
    `node_of` returns an asset's node, the same object for all directories.
    """

    __slots__ = ("_contested", "_newest", "_node_of", "_place", "directories", "names")

    def __init__(
        self, members: Iterable[Member], node_of: Callable[[str], Node], place: str | None
    ) -> None:
        self.names: dict[str, Node] = {}
        #: Number of directories among them.
        self.directories = 0
        self._node_of = node_of
        self._place = place
        self._contested: frozenset[str] = frozenset()
        self._newest: Outline | None = None
        contested: set[str] = set()
        listed, enter, has_place = self.names, self._enter, place is not None
        member = None
        for member in sorted(members):
            _, asset_id, wish, is_transformed = member
            if wish in listed or (is_transformed and has_place):
                enter(Outline._make(member), contested)
            else:  # by far the most frequent case
                listed[wish] = node_of(asset_id)
        self._newest = None if member is None else Outline._make(member)
        self._contested = frozenset(contested)

    def change(
        self, was: Outline | None, now: Outline | None, before: dict[str, Node | None]
    ) -> bool:
        """Replace member `was` by `now`; `was` None adds a member, `now` None removes one.

        Returns False if only a rebuild can determine the names; the roster is then unusable. The
        former nodes of changed names are added to `before`.
        """
        if was is not None and now is not None and self._inputs(was) == self._inputs(now):
            return True
        if was is not None and not self._strike(was, before):
            return False
        return now is None or self._join(now, before)

    def _inputs(self, member: Outline) -> Outline:
        return member._replace(is_transformed=self._has_directory(member))

    def _has_directory(self, member: Outline) -> bool:
        return self._place is not None and member.is_transformed

    def _enter(self, member: Outline, contested: set[str]) -> list[str]:
        """Assign names to an asset that is newer than all others, and return them."""
        listed = self.names
        name, asset_id = member.wish, member.id
        if name in listed:
            name = names.free_name(name, asset_id, listed, contested)
        listed[name] = self._node_of(asset_id)
        if not self._has_directory(member):
            return [name]
        directory = names.split_extension(name)[0]
        if directory in listed:
            if directory != name:
                contested.add(directory)
            wish = names.files_name(directory)
            directory = names.free_name(wish, asset_id, listed, contested)
        listed[directory] = Node(Kind.FILES, asset_id, self._place or "")
        self.directories += 1
        return [name, directory]

    def _join(self, member: Outline, before: dict[str, Node | None]) -> bool:
        newest = self._newest
        contested: set[str] = set()
        given = self._enter(member, contested)
        for name in given:
            before.setdefault(name, None)
        if newest is not None and newest > member:
            if contested:
                return False
        else:
            self._newest = member
        if contested:
            self._contested |= contested
        return True

    def _strike(self, member: Outline, before: dict[str, Node | None]) -> bool:
        wish = member.wish
        given = {wish: self._node_of(member.id)}
        if self._has_directory(member):
            stem = names.split_extension(wish)[0]
            directory = stem if stem != wish else names.files_name(stem)
            given[directory] = Node(Kind.FILES, member.id, self._place or "")
        if any(self.names.get(name) != node for name, node in given.items()):
            return False
        if not self._contested.isdisjoint(given):
            return False
        for name, node in given.items():
            before.setdefault(name, node)
            del self.names[name]
        self.directories -= len(given) - 1
        return True

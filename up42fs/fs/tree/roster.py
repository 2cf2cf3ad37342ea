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

from up42fs.archive.kinds import stem_of
from up42fs.catalog.snapshot.assets import Member, Outline
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import names

#: The name without its ending of an asset, by ID and wished-for name, if it is shown as an archive.
ArchiveStem = Callable[[str, str], str | None]


class Roster:
    """Names of assets, and of the directories of their files if `place` is given.

    `place` is the directory's text form: a directory of files is a different node in every place.
    `node_of` returns an asset's node, the same object for all directories. With `archive_stem` an
    archive that UP42 did not transform has a directory of its members.
    """

    __slots__ = (
        *("_archive_stem", "_contested", "_newest", "_node_of", "_place"),
        *("directories", "names"),
    )

    def __init__(
        self,
        members: Iterable[Member],
        node_of: Callable[[str], Node],
        place: str | None,
        archive_stem: ArchiveStem | None = None,
    ) -> None:
        self.names: dict[str, Node] = {}
        #: Number of directories among them.
        self.directories = 0
        self._node_of = node_of
        self._place = place
        self._archive_stem = archive_stem
        self._contested: frozenset[str] = frozenset()
        self._newest: Outline | None = None
        contested: set[str] = set()
        listed, enter, has_place = self.names, self._enter, place is not None
        member = None
        for member in sorted(members):
            _, asset_id, wish, is_transformed = member
            if wish in listed or (is_transformed and has_place):
                enter(Outline._make(member), contested)
                continue
            # By far the most frequent case.
            listed[wish] = node_of(asset_id)
            if archive_stem is None or (stem := archive_stem(asset_id, wish)) is None:
                continue
            if stem in listed:
                self._place_directory(Outline._make(member), wish, contested)
            else:
                listed[stem] = tuple.__new__(Node, (Kind.MEMBERS, asset_id, place))
                self.directories += 1
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

    def withdraw(self, member: Outline, before: dict[str, Node | None]) -> bool:
        """Remove the directory of an asset that turned out to be no archive.

        Returns and notes the same as `change`; call it while `archive_stem` still returns one.
        """
        if member.is_transformed:
            return True  # its directory holds what UP42 made of it
        wish = member.wish
        stem = self._directory_name(member, wish)
        if self.names.get(wish) != self._node_of(member.id) or stem in self._contested:
            return False
        if self.names.get(stem) != self._directory(member):
            return False
        before.setdefault(stem, self.names.pop(stem))
        self.directories -= 1
        return True

    def _inputs(self, member: Outline) -> Outline:
        return member._replace(is_transformed=self._place is not None and member.is_transformed)

    def _has_directory(self, member: Outline) -> bool:
        if self._place is None:
            return False
        return member.is_transformed or (
            self._archive_stem is not None
            and self._archive_stem(member.id, member.wish) is not None
        )

    def _directory(self, member: Outline) -> Node:
        kind = Kind.FILES if member.is_transformed else Kind.MEMBERS
        return Node(kind, member.id, self._place or "")

    def _directory_name(self, member: Outline, name: str) -> str:
        """The first choice of a name for the directory of an asset that is called `name`."""
        stem = _stem(member, name)
        return stem if stem != name else names.files_name(stem)

    def _enter(self, member: Outline, contested: set[str]) -> list[str]:
        """Assign names to an asset that is newer than all others, and return them."""
        listed = self.names
        name, asset_id = member.wish, member.id
        if name in listed:
            name = names.free_name(name, asset_id, listed, contested)
        listed[name] = self._node_of(asset_id)
        if not self._has_directory(member):
            return [name]
        return [name, self._place_directory(member, name, contested)]

    def _place_directory(self, member: Outline, name: str, contested: set[str]) -> str:
        """List the directory of an asset that is listed as `name`; return the directory's name."""
        listed = self.names
        directory = self._directory_name(member, name)
        if directory in listed:
            contested.add(directory)
            wish = names.files_name(_stem(member, name))
            directory = names.free_name(wish, member.id, listed, contested)
        listed[directory] = self._directory(member)
        self.directories += 1
        return directory

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
            given[self._directory_name(member, wish)] = self._directory(member)
        if any(self.names.get(name) != node for name, node in given.items()):
            return False
        if not self._contested.isdisjoint(given):
            return False
        for name, node in given.items():
            before.setdefault(name, node)
            del self.names[name]
        self.directories -= len(given) - 1
        return True


def _stem(member: Outline, name: str) -> str:
    stem = names.split_extension(name)[0] if member.is_transformed else stem_of(name)
    return stem.rstrip()

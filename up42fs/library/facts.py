"""Facts about files that travel from process to process in pickles; pure.

A worker that gets them reads a file without a look where it stands. They are what UP42 shows to
everybody who may see the file: never a password, token or link. They may be old when they arrive:
a read is checked against their version, and a file that is another one is looked up again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    # What its module imports is not needed to unpickle.
    from up42fs.store.members.extent import StoredObject

#: Files and directories whose facts are remembered, and those that go into a pickle.
MOST_FILES, MOST_DIRECTORIES = 4096, 256
MOST_PICKLED_FILES, MOST_PICKLED_NAMES = 256, 20_000


class Fact(NamedTuple):
    """One file: what `info` says of it, and what is needed to read it."""

    info: Mapping[str, Any]
    stored: StoredObject | None


class Facts:
    """Facts by path, of the files and directories that were used last."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, Fact] = OrderedDict()
        self._names: OrderedDict[str, frozenset[str]] = OrderedDict()
        #: Files and directories known from another process, which this one has not looked at.
        self._given: set[str] = set()

    def note(self, info: Mapping[str, Any], stored: StoredObject | None) -> None:
        """Remember what this process learned of a file."""
        path = info["name"]
        self._files[path] = Fact(info, stored)
        self._files.move_to_end(path)
        self._given.discard(path)
        while len(self._files) > MOST_FILES:
            self._given.discard(self._files.popitem(last=False)[0])

    def note_names(self, directory: str, names: Iterable[str]) -> None:
        """Remember the names in a directory that this process listed."""
        self._names[directory] = frozenset(names)
        self._names.move_to_end(directory)
        self._given.discard(directory)
        while len(self._names) > MOST_DIRECTORIES:
            self._given.discard(self._names.popitem(last=False)[0])

    def given(self, path: str) -> Fact | None:
        """The facts of a file that came from another process; else None."""
        return self._files.get(path) if path in self._given else None

    def is_absent(self, path: str) -> bool:
        """Whether another process listed the directory of `path`, and it was not in there."""
        parent, _, name = path.rpartition("/")
        return parent in self._given and name not in self._names.get(parent, (name,))

    def forget(self, path: str) -> None:
        """Forget a file that turned out to be another one, and the names beside it."""
        for each, kept in ((path, self._files), (path.rpartition("/")[0], self._names)):
            kept.pop(each, None)
            self._given.discard(each)

    def packed(self) -> tuple[Any, ...]:
        """The content of a pickle: the facts that were used last, as plain values."""
        files = list(self._files.values())[-MOST_PICKLED_FILES:]
        names: dict[str, frozenset[str]] = {}
        left = MOST_PICKLED_NAMES
        for directory, found in reversed(self._names.items()):
            left -= len(found)
            if left < 0:
                break
            names[directory] = found
        return files, names

    def take(self, packed: tuple[Any, ...]) -> None:
        """Take over what a pickle carried, unless this process knows better."""
        files, names = packed
        for fact in files:
            path = fact.info["name"]
            if path not in self._files:
                self.note(fact.info, fact.stored)
                self._given.add(path)
        for directory, found in names.items():
            if directory not in self._names:
                self.note_names(directory, found)
                self._given.add(directory)

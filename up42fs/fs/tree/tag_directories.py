"""Directories in `tags/` that no asset stands in: made, or emptied, in this mount.

UP42 has a tag only as long as an asset carries it. Here a directory is kept until it is removed or
has a member again, as people expect who empty one to fill it anew. Knows nothing of assets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class TagDirectories:
    """Tags that are listed without members, and how often each directory was removed."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self._removed: Counter[str] = Counter()

    def hold(self, tag: str) -> None:
        """Keep a directory that is empty."""
        self.held.add(tag)

    def remove(self, tag: str) -> None:
        """A directory goes; one of that name that comes later is another one."""
        self.held.discard(tag)
        self._removed[tag] += 1

    def settle(self, with_members: Iterable[str]) -> None:
        """These have members: from now on UP42 says whether they are there."""
        self.held.difference_update(with_members)

    def generation(self, tag: str) -> int:
        """Which directory of this name it is."""
        return self._removed[tag]

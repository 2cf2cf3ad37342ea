"""Empty directories in `tags/`: created, or emptied, in this mount.

UP42 has a tag only as long as an asset carries it. Here a directory is kept until it is removed or
has a member again, as people expect when they empty one to fill it anew.
"""

from __future__ import annotations

from collections import Counter


class TagDirectories:
    """Tags that are listed without members, and how often each directory was removed."""

    def __init__(self) -> None:
        #: Empty directories: a tag leaves once it has members, which UP42 reports.
        self.held: set[str] = set()
        self._removed: Counter[str] = Counter()

    def remove(self, tag: str) -> None:
        """Remove a directory; a later one of that name is a different one."""
        self.held.discard(tag)
        self._removed[tag] += 1

    def generation(self, tag: str) -> int:
        """The generation number of a directory: how often one of this name was removed."""
        # The inode number follows from the name. To the kernel a removed directory is dead while a
        # program holds it open, and so would be its successor of the same number and generation.
        return self._removed[tag]

"""Which readers of directories look at the files in them, and which at names alone.

Pure; knows threads and directories by number.

Theory. Attributes listed along with names (READDIRPLUS) spare `ls -l` a request for each entry,
and cost `find`, `ls` or a shell's `*` a third more time and the kernel an inode for every file.
The kernel guesses which it is, but always takes the first entries of a directory for looked at,
and of most directories there are no others. So files are listed by name until the thread that
lists them asks for one by name, as it must then; from there on it gets attributes everywhere.
Directories are always listed with them: who walks enters them all.
"""

from __future__ import annotations

from cachetools import LRUCache

#: Threads remembered.
MOST_THREADS = 256


class Onlookers:
    """The threads that listed directories lately."""

    def __init__(self) -> None:
        self._listed: LRUCache[int, int] = LRUCache(MOST_THREADS)
        self._lookers: LRUCache[int, bool] = LRUCache(MOST_THREADS)

    def wants_files(self, thread_id: int) -> bool:
        """Whether a thread is to be told the attributes of files it lists."""
        return thread_id in self._lookers

    def listed_names(self, thread_id: int, directory: int) -> None:
        """A thread was told the names of a directory's files alone."""
        self._listed[thread_id] = directory

    def asked_for_file(self, thread_id: int, directory: int) -> None:
        """A thread asked for a file of a directory by its name."""
        if self._listed.get(thread_id) == directory:
            self._lookers[thread_id] = True

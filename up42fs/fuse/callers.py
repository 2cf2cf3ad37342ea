"""The program behind a request: its name, and whether it stats the files that it lists.

Attributes listed along with names (READDIRPLUS) save `ls -l` a request for each entry, but cost
`find`, `ls` or a shell's `*` a third more time, and the kernel an inode for every file. The kernel
guesses which listing a program needs, but always requests attributes for the first entries of a
directory, and most directories have no others. So files are listed by name until the thread that
lists them looks one up; from then on it gets attributes everywhere. Directories are always listed
with attributes, since a program that walks the tree enters them all.
"""

from __future__ import annotations

import os

from cachetools import LRUCache

UNKNOWN = "?"
#: Name and Tgid stand within the first lines of a status; a name has 15 bytes, 60 if escaped.
_HEAD_BYTES = 512


def program_of(thread_id: int) -> str:
    """Name of the program that the thread belongs to, at most 15 bytes; `?` if it is invisible."""
    if thread_id <= 0:
        return UNKNOWN
    try:
        name, process_id = _status(thread_id)
        # A thread may have its own name; return the process's.
        return name if process_id == thread_id else _status(process_id)[0]
    except (OSError, ValueError, KeyError):
        return UNKNOWN


def _status(process_id: int) -> tuple[str, int]:
    # The kernel writes it on the spot: reading it waits for nothing. Each open of a file comes
    # here, and a file object with its decoder costs three times as much as these calls.
    descriptor = os.open(f"/proc/{process_id}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, _HEAD_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    lines = dict(line.partition(":\t")[::2] for line in text.split("\n")[:8])
    return lines["Name"], int(lines["Tgid"])


#: Number of threads remembered.
MOST_THREADS = 256


class Onlookers:
    """The threads that recently listed directories."""

    def __init__(self) -> None:
        self._listed: LRUCache[int, int] = LRUCache(MOST_THREADS)
        self._lookers: LRUCache[int, bool] = LRUCache(MOST_THREADS)

    def wants_files(self, thread_id: int) -> bool:
        """Whether to list files with attributes for a thread."""
        return thread_id in self._lookers

    def listed_names(self, thread_id: int, directory: int) -> None:
        """Note that a thread listed only the names of a directory's files."""
        self._listed[thread_id] = directory

    def asked_for_file(self, thread_id: int, directory: int) -> None:
        """Note that a thread looked up a file of a directory by name."""
        if self._listed.get(thread_id) == directory:
            self._lookers[thread_id] = True

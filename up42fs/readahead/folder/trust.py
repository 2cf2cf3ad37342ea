"""Limits what may be prefetched and unread at once, and counts the outcome.

Knows numbers of files and bytes only; `siblings` has the theory. This class keeps its bound:
`wasted + unread <= first trust + earned` and `unread <= files, bytes <= most trust`, always.
"""

from __future__ import annotations

from dataclasses import dataclass

from up42fs.readahead.tuning import MIB

#: Trust at first and at most: files and bytes.
FIRST_FILES = 8
FIRST_BYTES = 2 * MIB
MOST_FILES = 32


@dataclass(slots=True)
class Trust:
    """How many files and bytes may be unread, how many are, and the totals so far.

    `most_bytes` bounds the bytes that can be earned.
    """

    most_bytes: int = 32 * MIB
    files: int = FIRST_FILES
    bytes: int = FIRST_BYTES
    unread_files: int = 0
    unread_bytes: int = 0
    asked_files: int = 0
    asked_bytes: int = 0
    read_files: int = 0
    wasted_files: int = 0
    wasted_bytes: int = 0

    def ask(self, size: int) -> None:
        """Count a requested file, `size` bytes of it."""
        self.asked_files += 1
        self.asked_bytes += size
        self.unread_files += 1
        self.unread_bytes += size

    def take(self, beyond: int) -> None:
        """Count the read of a requested file; it is `beyond` bytes smaller than the request."""
        self.unread_files -= 1
        self.unread_bytes -= beyond
        self.read_files += 1

    def earn(self, files: int, size: int) -> None:
        """Raise the limits by files and bytes that were read as predicted."""
        self.files = min(MOST_FILES, self.files + files)
        self.bytes = min(self.most_bytes, self.bytes + size)

    def lose(self, files: int, size: int) -> None:
        """Count requested files and bytes that will not be read; lowers the limits."""
        self.unread_files -= files
        self.unread_bytes -= size
        self.wasted_files += files
        self.wasted_bytes += size
        self.files = max(0, self.files - files)
        self.bytes = max(0, self.bytes - size)

    def counters(self) -> dict[str, int]:
        """The totals so far, by name."""
        names = ("asked_files", "asked_bytes", "read_files", "wasted_files", "wasted_bytes")
        return {name: getattr(self, name) for name in names}

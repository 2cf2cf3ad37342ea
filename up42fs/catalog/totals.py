"""What a listing's total tells: that rows were removed, or nothing.

Pure. A refresh compares UP42's total with the rows that are known; where they differ, something was
removed, and only reading the whole listing tells what.

Theory. A total may never be equal: rows without an ID are counted and cannot be known, rows that
are listed twice are counted twice, and some totals are estimates. So what counts is not the
difference but whether it *moved* since the listing was last read whole: that far the total was
explained. A total that moves all the time makes whole readings find nothing; each such reading in a
row doubles the number of refreshes until the next one. A reading that does find something, or a
total that stays put for `CALM` refreshes, restores full attention. Whatever totals say, the
listing is read whole now and then (`sync.FULL_PASS_EVERY`).
"""

from __future__ import annotations

from dataclasses import dataclass

#: The longest a total is not acted on, and how long it has to be right, both in refreshes.
LONGEST_IGNORED = 60
CALM = 16


@dataclass(slots=True)
class Totals:
    """The totals of one listing. `uncounted` rows more than are known were told of, last time."""

    uncounted: int = 0
    _in_vain: int = 0
    _calm: int = 0
    _ignored_until: int = 0

    def is_explained(self, total: int | None, known: int, refresh: int) -> bool:
        """Whether refresh number `refresh` may leave it at that, `known` rows being known.

        A negative total says that the listing has to be read whole.
        """
        if total is None:
            return True
        if total < 0:
            return False
        if total - known == self.uncounted:
            self._calm += 1
            if self._calm >= CALM:
                self._in_vain = 0
            return True
        self._calm = 0
        return refresh < self._ignored_until

    def read_whole(self, total: int | None, known: int) -> None:
        """The listing was read whole: so many rows, and that `total` was told (None: unknown)."""
        if total is not None and total >= 0:
            self.uncounted = total - known

    def acted_on(self, refresh: int, *, found: bool) -> None:
        """It was read whole in refresh number `refresh` for its total, and rows were found or not.

        What is found are rows that are gone or were not known.
        """
        self._in_vain = 0 if found else self._in_vain + 1
        if self._in_vain > 1:
            # The first may have explained what will stay as it is.
            self._ignored_until = refresh + min(2 ** min(self._in_vain - 1, 16), LONGEST_IGNORED)

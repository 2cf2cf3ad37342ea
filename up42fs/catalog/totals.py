"""Decides from a listing's total whether rows were removed.

Pure. A refresh compares UP42's total with the number of known rows; if they differ, a row was
removed, and only a read of the whole listing shows which.

Theory. A total may never be equal: it counts rows without an ID, which cannot be known, it counts
rows that are listed twice as two, and some totals are estimates. So the test is not the difference
but whether it *moved* since the listing was last read whole, which explained the total up to there.
If a total moves all the time, whole reads find nothing; each such read in a row doubles the number
of refreshes until the next one. A read that finds a change, or a total that is stable for `CALM`
refreshes, resets this. The listing is also read whole from time to time (`passes.FULL_PASS_EVERY`).
"""

from __future__ import annotations

from dataclasses import dataclass

#: How long a total is ignored at most, and how long it has to be right, both in refreshes.
LONGEST_IGNORED = 60
CALM = 16


@dataclass(slots=True)
class Totals:
    """The totals of one listing. The last total was `uncounted` above the number of known rows."""

    uncounted: int = 0
    _in_vain: int = 0
    _calm: int = 0
    _ignored_until: int = 0

    def is_explained(self, total: int | None, known: int, refresh: int) -> bool:
        """Whether a refresh with `known` rows needs no full pass; a negative total always does."""
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
        """Note that the listing was read whole: `known` rows, and its `total` (None: unknown)."""
        if total is not None and total >= 0:
            self.uncounted = total - known

    def acted_on(self, refresh: int, *, found: bool) -> None:
        """Note that a refresh read all because of its total; `found`: rows came or went."""
        self._in_vain = 0 if found else self._in_vain + 1
        if self._in_vain > 1:
            # One fruitless read may have explained a difference that will stay.
            self._ignored_until = refresh + min(2 ** min(self._in_vain - 1, 16), LONGEST_IGNORED)

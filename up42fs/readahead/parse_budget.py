"""Limits the cost of parsing one file, over its whole life: steps and memory.

A file's structure is only a hint, so a parser that runs out of budget drops the rest and reads go
on without it. One budget serves all parsers of one object: an archive may hold thousands of images,
and an image may have 64 levels. Steps stand for time: a step is one table entry processed, 10 to 60
ns each.

Reading bytes of the file earns steps: a table that was forgotten for lack of memory may be parsed
again, at a cost that stays a small share of reading. Memory is never given back piece by piece: the
parsed structure is forgotten as a whole, with its budget.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Steps of one file: enough to process each tile of the largest image six times.
MOST_STEPS = 6 << 20
#: Memory for one file's parsed structure, bytes: the tables of 2^20 tiles, and some members.
MOST_HELD_BYTES = 24 << 20
#: Bytes read of the file that earn one step.
BYTES_A_STEP = 16


class MalformedError(Exception):
    """The file breaks the rules of its format."""


class OverBudgetError(Exception):
    """The file has used up its parse budget."""


@dataclass(slots=True)
class ParseBudget:
    """The remaining budget of one file."""

    steps: int = MOST_STEPS
    held_bytes: int = MOST_HELD_BYTES

    def spend(self, steps: int, held_bytes: int = 0) -> None:
        """Charge the cost before the work is done; raises OverBudgetError if it is too high."""
        if steps > self.steps or held_bytes > self.held_bytes:
            raise OverBudgetError
        self.steps -= steps
        self.held_bytes -= held_bytes

    def earn(self, read_bytes: int) -> None:
        """Earn steps for `read_bytes` read of the file."""
        self.steps = min(MOST_STEPS, self.steps + read_bytes // BYTES_A_STEP)

    def renewed(self) -> ParseBudget:
        """The budget after everything was forgotten: spent steps stay spent, the memory is free."""
        return ParseBudget(self.steps)

"""How much one file may cost whoever parses it, over its whole life: steps and memory.

A file's structure is only a hint, so a parser that is out of budget drops what it has not read yet
and reads go on without it. One budget serves all parsers of one object: an archive may hold
thousands of images, and an image may have 64 levels. Steps stand for time: a step is one entry of a
table that was looked at, 10 to 60 ns each.

Steps come back with the bytes that are read of the file: a table that was forgotten for lack of
memory may be parsed again, at a cost that stays a small share of reading. What is held is given
back by nobody: knowledge is forgotten as a whole, with its budget.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Steps of one file: six looks at each tile of the largest image.
MOST_STEPS = 6 << 20
#: Memory for what one file's structure says, bytes: the tables of 2^20 tiles, and some members.
MOST_HELD_BYTES = 24 << 20
#: Reading so many bytes of the file earns one step.
BYTES_A_STEP = 16


class OverBudgetError(Exception):
    """The file has used up what its structure may cost."""


@dataclass(slots=True)
class ParseBudget:
    """What is left for one file."""

    steps: int = MOST_STEPS
    held_bytes: int = MOST_HELD_BYTES

    def spend(self, steps: int, held_bytes: int = 0) -> None:
        """Take so much before the work is done; raises OverBudgetError where it is not there."""
        if steps > self.steps or held_bytes > self.held_bytes:
            raise OverBudgetError
        self.steps -= steps
        self.held_bytes -= held_bytes

    def earn(self, read_bytes: int) -> None:
        """So many bytes of the file were read."""
        self.steps = min(MOST_STEPS, self.steps + read_bytes // BYTES_A_STEP)

    def renewed(self) -> ParseBudget:
        """The budget after everything was forgotten: the steps are spent, the memory is free."""
        return ParseBudget(self.steps)

"""Counts the files whose size is unknown, for the status.

The snapshot has the numbers (`snapshot.size_counts`). They are counted in a worker thread at the
start and after each write, and no more than a twentieth of the time.
"""

from __future__ import annotations

import trio

from up42fs.catalog.recorder import Recorder
from up42fs.catalog.stored_items import Shelf

#: The shortest time between two counts, seconds, and the pause after one as a multiple of its time.
LEAST_S = 1.0
PAUSE = 20.0


class SizeCensus:
    """The last count of one snapshot's files."""

    def __init__(self, shelf: Shelf, recorder: Recorder) -> None:
        self._shelf = shelf
        self._recorder = recorder
        #: Files of which the items are stored, and those of unknown size; None before a count.
        self.files: int | None = None
        self.unknown = 0

    async def run(self) -> None:
        """Count for ever; start it once."""
        while True:
            began_s, writes = trio.current_time(), self._recorder.writes
            self.files, known = await self._shelf.count_files()
            self.unknown = self.files - known
            await trio.sleep(max(LEAST_S, PAUSE * (trio.current_time() - began_s)))
            await self._recorder.wrote_since(writes)

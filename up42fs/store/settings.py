"""Limits of one store.

Knows numbers; nothing of what keeps to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from up42fs.deadlines import request_s
from up42fs.readahead.tuning import MIB, Tuning

#: What many readers of many files make the process grow by beside the bytes that are read.
TRAFFIC_BYTES = 64 * MIB
#: With less, readers of several files wait for each other: where so little is allowed, it is more.
LEAST_PARTS_BYTES = 48 * MIB


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Limits of one store. `memory_bytes` bounds what the process grows by, parts in flight too.

    `cache_dir` None or `cache_bytes` 0: nothing is kept on disk. `cache_key` tells accounts that
    share the directory from each other: 8 to 64 hexadecimal digits.
    """

    memory_bytes: int = 256 * MIB
    connections: int = 16
    read_deadline_s: float = request_s(30.0)
    cache_dir: Path | None = None
    cache_bytes: int = 10 << 30
    cache_key: str = "0" * 16
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def parts_bytes(self) -> int:
        """What parts may take: less than all, by a MiB a connection and what traffic takes.

        That is libcurl's buffers, links, plans and the allocator's gaps; measured by
        contrib/bench/memory.py.
        """
        others_bytes = TRAFFIC_BYTES + self.connections * MIB
        least_bytes = min(LEAST_PARTS_BYTES, self.memory_bytes * 3 // 4)
        return max(self.memory_bytes - others_bytes, least_bytes)

    @property
    def connections_ahead(self) -> int:
        """How many of them read-ahead may use at once."""
        return max(1, self.connections * 3 // 4)

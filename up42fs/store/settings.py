"""Limits of one store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from up42fs.deadlines import request_s
from up42fs.readahead.tuning import MIB, Tuning

#: Memory, beside the bytes that are read, that the process grows by with many readers of many
#: files.
TRAFFIC_BYTES = 64 * MIB
#: With less, readers of several files wait for each other; so small settings are raised to this.
LEAST_PARTS_BYTES = 48 * MIB


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Limits of one store. `memory_bytes` bounds the process's growth, parts in flight included.

    With `cache_dir` None or `cache_bytes` 0 nothing is kept on disk. `cache_key` separates accounts
    that share the directory: 8 to 64 hexadecimal digits. `is_below_kernel`: readers have a page
    cache, as those of a mount.
    """

    memory_bytes: int = 256 * MIB
    connections: int = 16
    read_deadline_s: float = request_s(30.0)
    cache_dir: Path | None = None
    cache_bytes: int = 10 << 30
    cache_key: str = "0" * 16
    is_below_kernel: bool = True
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def parts_bytes(self) -> int:
        """Memory for parts, in bytes: `memory_bytes` less `TRAFFIC_BYTES` and a MiB per connection.

        The difference is libcurl's buffers, links, plans and the allocator's gaps; measured by
        contrib/bench/memory.py.
        """
        others_bytes = TRAFFIC_BYTES + self.connections * MIB
        least_bytes = min(LEAST_PARTS_BYTES, self.memory_bytes * 3 // 4)
        return max(self.memory_bytes - others_bytes, least_bytes)

    @property
    def scan_bytes(self) -> int:
        """Memory that one object read from end to end may keep, in bytes: the kernel keeps more.

        Read-ahead takes the other half: more would evict itself before the next reader comes.
        """
        return 0 if self.is_below_kernel else self.parts_bytes // 2

    @property
    def connections_ahead(self) -> int:
        """Connections that read-ahead may use at once."""
        return max(1, self.connections * 3 // 4)

"""The request log: one record for each request, for tests and benchmarks that count requests.

Holds no secret: no header, no body, no query of a signed link. Knows nothing of sockets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

#: Records kept; older ones are dropped, but positions keep counting.
KEPT = 200_000


@dataclass(slots=True)
class Record:
    """One request: `bytes_sent` of body, `t_s` in Unix seconds of the server's clock.

    `path` has no query; `query` is the query of an API request, `range` the Range header;
    `object_id` is the ID of its asset or STAC asset. `status` is None until a response is decided,
    and 0 if the connection was reset instead. `struck`: a fault switch hit it.
    """

    position: int
    plane: str
    method: str
    path: str
    route: str
    t_s: float
    connection_id: int
    query: str | None = None
    range: str | None = None
    object_id: str | None = None
    status: int | None = None
    bytes_sent: int = 0
    struck: bool = False

    def count(self, sent_bytes: int) -> None:
        """Add body bytes, just before they are sent."""
        self.bytes_sent += sent_bytes


@dataclass(slots=True)
class RequestJournal:
    """All requests in order of arrival; `position` 0 is the first ever."""

    records: deque[Record] = field(default_factory=lambda: deque(maxlen=KEPT))
    next_position: int = 0

    def add(self, record: Record) -> Record:
        """Append a record under the next position."""
        record.position = self.next_position
        self.next_position += 1
        self.records.append(record)
        return record

    def clear(self) -> None:
        """Delete all records; positions continue."""
        self.records.clear()

    def since(
        self, position: int = 0, plane: str | None = None, route: str | None = None
    ) -> list[dict[str, Any]]:
        """Return records from `position` on, as JSON-ready dicts, by plane and route if given."""
        first = self.next_position - len(self.records)
        wanted = islice(self.records, max(0, position - first), None)
        return [
            asdict(record)
            for record in wanted
            if plane in (None, record.plane) and route in (None, record.route)
        ]

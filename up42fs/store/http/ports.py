"""The interface between deciding what to request and sending it: values and Protocols.

Knows nothing of libcurl, retries or parts. Other transports (processes, another HTTP client) and
other sinks (a disk cache) plug in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from up42fs.net.retry import Kind
from up42fs.types import ByteRange, Bytes


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """One ranged GET. `if_match` is a strong ETag or None; `timeout_s` bounds the whole of it.

    `is_wanted`: a reader waits for it; otherwise it is a prefetch or a hedge.
    """

    url: str = field(repr=False)
    span: ByteRange
    if_match: str | None
    timeout_s: float
    is_wanted: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; header names in lower case, the last of duplicates."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    `kind` None: the answer was complete, or the sink had enough. `head` None: no answer.
    `body_bytes` counts the bytes received, `error_body` is the start of a body that was not data
    (status neither 200 nor 206).
    """

    head: Head | None
    kind: Kind | None
    body_bytes: int = 0
    error_body: bytes = b""


class Sink(Protocol):
    """The receiver of an answer. Called from a worker thread, one call at a time; never blocks.

    After `begin` the body comes by `write`; or, if `space` returns memory, it is written there and
    `fill` reports the progress.
    """

    def begin(self, head: Head) -> bool:
        """Take the head of a 200 or 206; False refuses the body, which is then not passed on."""
        ...

    def space(self) -> memoryview | None:
        """The memory for the whole accepted body, if it can be written there directly.

        It is one byte longer than the body; that byte is garbage, since C's streams end with a
        zero.
        """
        ...

    def write(self, data: Bytes) -> bool:
        """Take the next bytes of the body; False stops the request."""
        ...

    def fill(self, count: int) -> bool:
        """Count the next `count` bytes of the body as written; False stops the request."""
        ...

    def abandon(self) -> None:
        """Give up the memory that `space` returned: a late writer may still write to it.

        Called on the trio thread, as the last call of all.
        """
        ...


class Transport(Protocol):
    """Sends ranged GETs."""

    async def fetch(self, request: RangeRequest, sink: Sink) -> Outcome:
        """Send `request`; failures are returned as outcomes, only cancellation raises.

        When this returns or raises, no method of `sink` is running or will be called. Also nothing
        writes to the sink's memory any more, or else `sink.abandon` was called.
        """
        ...

    def reset(self) -> None:
        """Drop idle connections and break those in use, because the machine slept."""
        ...

    def close(self) -> None:
        """Close all connections; running requests end as broken."""
        ...

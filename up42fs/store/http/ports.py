"""The seam between deciding what to ask the object store and asking it: values and Protocols.

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

    `is_wanted`: a reader waits for it; else it is a guess that somebody will.
    """

    url: str = field(repr=False)
    span: ByteRange
    if_match: str | None
    timeout_s: float
    is_wanted: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; header names in lower case, the last of equals."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    `kind` None: the answer ended as HTTP says it should, or the sink had enough. `head` None: no
    answer. `body_bytes` counts what came over the wire, `error_body` is the start of a body that
    was not data (status neither 200 nor 206).
    """

    head: Head | None
    kind: Kind | None
    body_bytes: int = 0
    error_body: bytes = b""


class Sink(Protocol):
    """Where an answer goes. Called from a worker thread, one call at a time; never blocks.

    After `begin` the body comes by `write`, or, where `space` offers a place, into that, and `fill`
    tells how far.
    """

    def begin(self, head: Head) -> bool:
        """See the head of a 200 or 206; False refuses the body, of which nothing is then sent."""
        ...

    def space(self) -> memoryview | None:
        """Where the whole of the accepted body belongs, if it can be written there directly.

        One byte longer than the body, and the last of it is rubbish: C's streams end with a zero.
        """
        ...

    def write(self, data: Bytes) -> bool:
        """Take the next bytes of the body; False wants no more."""
        ...

    def fill(self, count: int) -> bool:
        """The next `count` bytes of the body are in their place; False wants no more."""
        ...

    def abandon(self) -> None:
        """A late writer may still write to the place that `space` gave: leave that memory to it.

        Called on the trio thread, as the last call of all.
        """
        ...


class Transport(Protocol):
    """Sends ranged GETs."""

    async def fetch(self, request: RangeRequest, sink: Sink) -> Outcome:
        """Send `request`; failures are outcomes, only cancellation raises.

        When this returns or raises, no method of `sink` is running or will be called. Nothing
        writes to the place that the sink gave either, or else `sink.abandon` was called.
        """
        ...

    def reset(self) -> None:
        """Drop idle connections and break those in use: the machine slept."""
        ...

    def close(self) -> None:
        """Drop everything; requests in flight end as broken."""
        ...

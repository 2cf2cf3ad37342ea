"""One ranged GET and its answer: validated by its head, then passed on to a part.

Knows HTTP's rules for ranges (RFC 9110 §14) and the object store's known behaviour (contract §6);
nothing of libcurl, and nothing of retries: a `Delivery` only reports why an answer was refused.
Judging is pure, apart from the pin, which the threads that move bytes share under a lock.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from up42fs.errors import InvalidAnswer, Up42fsError, VersionChanged
from up42fs.net.expiry import server_time
from up42fs.net.retry import FailureKind
from up42fs.store.lanes import FilePlace
from up42fs.types import ByteRange, Bytes, Version

#: If a whole object is sent instead of a range, up to this many bytes are skipped; beyond, it is
#: refused.
SKIP_BYTES = 8 << 20

#: A longer ETag is no condition: a store refuses requests with such headers.
MOST_ETAG = 1024

_LENGTH = re.compile(r"[ \t]*[0-9]{1,18}[ \t]*")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """One ranged GET. `if_match` is a strong ETag or None; `timeout_s` bounds the whole of it.

    `is_wanted`: a reader waits for it; otherwise it is a prefetch or a hedge. `to_file`: its bytes
    go to a file, so a thread that moves them may have to wait for a disk.
    """

    url: str = field(repr=False)
    span: ByteRange
    if_match: str | None
    timeout_s: float
    is_wanted: bool = True
    to_file: bool = False


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers of a response; header names in lower case, the last of duplicates."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    `kind` None: the answer was complete, or the part had enough. `head` None: no answer.
    `body_bytes` counts the bytes received, `error_body` is the start of a body that was not data
    (status neither 200 nor 206). `why` is the fault of a certificate that was refused.
    """

    head: ResponseHead | None
    kind: FailureKind | None
    body_bytes: int = 0
    error_body: bytes = b""
    why: str | None = None


#: Why a page that a proxy sends in the store's place is refused, and its media types.
PAGE = "a web page"
HTML = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Take:
    """Accept: the requested bytes follow after `skip` bytes of the body.

    `prove` is set if the head promises no length: the body must turn out to be exactly that long
    before any of it may be used.
    """

    version: Version
    skip: int = 0
    prove: int | None = None


@dataclass(frozen=True, slots=True)
class Garbled:
    """Refuse an answer that cannot be right; a retry may succeed."""

    why: str


@dataclass(frozen=True, slots=True)
class Final:
    """Refuse without retry."""

    error: type[Up42fsError]
    why: str


Judgement = Take | Garbled | Final


class VersionPin:
    """The one version whose bytes may be used: `size` from the catalogue, the rest from answers.

    `size` is None if the catalogue does not know it; then the first answer sets it.

    `changed_to` is the first different version seen. Shared by worker threads.
    """

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.version: Version | None = None
        self.changed_to: Version | None = None
        self._lock = threading.Lock()

    def settle(self, seen: Version) -> bool:
        """Pin `seen` if nothing is pinned yet; return whether it is the pinned version."""
        with self._lock:
            if self.version is None and self.size in (None, seen.size):
                self.version, self.size = seen, seen.size
            same = self._is_pinned(seen)
            if not same and self.changed_to is None:
                self.changed_to = seen
            return same

    def _is_pinned(self, seen: Version) -> bool:
        if self.version is None:
            return False
        agreed = self.version.agrees(seen)
        # A store that at first sent no validators and then does may be serving another version; the
        # pin stays nameless, so that nothing of it is cached.
        return self.version.is_nameless if agreed is None else agreed

    def assume(self, known: Version) -> bool:
        """Pin `known` without a request if nothing is pinned; return whether it is pinned now.

        Unlike in `settle`, a different version is not recorded as a change: `known` is merely
        outdated.
        """
        with self._lock:
            if self.version is None and self.size in (None, known.size):
                self.version, self.size = known, known.size
            return self.version == known

    @property
    def if_match(self) -> str | None:
        """The pinned ETag for `If-Match`, if it is strong (contract §6, Conditions)."""
        etag = self.version.etag if self.version else None
        return etag if is_strong(etag) else None


def _is_page(headers: Mapping[str, str]) -> bool:
    """Whether this is HTML that nobody signed: links to files make the store name them (§6)."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in HTML and "content-disposition" not in headers


def judge(head: ResponseHead, asked: ByteRange, pin: VersionPin) -> Judgement:
    """Judge a 200 or 206 to a request for `asked` (within `pin.size`); a `Take` settles the pin."""
    judgement = _partial(head, asked) if head.status == 206 else _whole(head, asked, pin.size)
    if not isinstance(judgement, Take):
        return judgement
    known, seen = pin.version, judgement.version
    if _is_page(head.headers) and seen.size != pin.size:
        # A hotel's sign-in page comes with 206 and ETag, too, from a server of static files. If the
        # size is not known yet, nothing else tells it from the file.
        return Garbled(PAGE)
    if head.status == 200 and not (seen.etag or seen.generation) and seen.size != pin.size:
        # A sign-in page has a length too: accepting it would return its bytes as the file's.
        return Garbled("not the range, another size than known, and no ETag")
    if known is not None and not known.is_nameless and known.agrees(seen) is None:
        return Garbled("the answer does not name the version, earlier ones did")
    listed = pin.size
    if not pin.settle(seen):
        why = "the object store holds another version of it"
        if known is None and listed is not None:
            # To serve it in the listed size would be to cut it off, or to promise bytes that are
            # not there; programs have been told that size.
            why += f", of {seen.size:,} bytes and not {listed:,} as UP42 lists"
        return Final(VersionChanged, why)
    return judgement


def is_strong(etag: str | None) -> bool:
    """Whether the ETag identifies one exact sequence of bytes (RFC 9110 §8.8.1).

    One that fits in no header with `If-Match` is only compared.
    """
    return (
        etag is not None
        and 2 <= len(etag) <= MOST_ETAG
        and etag.startswith('"')
        and etag.endswith('"')
    )


def version_of(size: int, headers: Mapping[str, str]) -> Version:
    """Build the version of an object of `size` bytes from an answer's headers."""
    etag = headers.get("etag") or None
    if is_strong(etag):
        return Version(size, etag)
    modified = headers.get("last-modified", "").strip() or None
    modified_s, date_s = server_time(modified), server_time(headers.get("date"))
    # RFC 9110 §8.8.2.2: a modification time identifies one version if that second had passed when
    # the store answered.
    is_fresh = modified_s is not None and date_s is not None and date_s - modified_s < 1
    generation = headers.get("x-goog-generation", "").strip() or None
    return Version(size, etag, generation, modified, is_fresh)


def total_of(head: ResponseHead) -> int | None:
    """The object's size in the Content-Range of a 206 or 416, if any."""
    _, slash, total = head.headers.get("content-range", "").rpartition("/")
    return int(total) if slash and total.isdecimal() and len(total) < 19 else None


def _partial(head: ResponseHead, asked: ByteRange) -> Judgement:
    headers = head.headers
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None:
        return Garbled("a partial answer without a usable Content-Range")
    first, last, total = map(int, match.groups())

    # If the object shrank below the range's end, the range is cut; its total shows that.
    if (first, last + 1) != (asked.start, min(asked.stop, total)):
        return Garbled(f"bytes {first}-{last} of {total} for {asked.start}-{asked.stop - 1}")
    if _is_encoded(headers.get("content-encoding")):
        return Garbled("a partial answer in another encoding")
    version = version_of(total, headers)
    length = headers.get("content-length")
    if length is None:
        return Take(version, prove=last + 1 - first)
    if length.strip() != str(last + 1 - first):
        return Garbled(f"a body of {length} bytes for {last + 1 - first}")
    return Take(version)


def _whole(head: ResponseHead, asked: ByteRange, size: int | None) -> Judgement:
    headers = head.headers
    if _is_encoded(headers.get("content-encoding")):
        return Final(InvalidAnswer, "the object store sends it compressed and cannot send ranges")
    length = headers.get("content-length")
    if length is None:
        # Contract §6, Gzip trap: stored compressed, inflated on the way out, Range ignored.
        if size is None or size > SKIP_BYTES:
            return Final(
                InvalidAnswer, "the object store ignores ranges for it (stored compressed?)"
            )
        return Take(version_of(size, headers), skip=asked.start, prove=size)
    if not _LENGTH.fullmatch(length):
        return Garbled("an unreadable Content-Length")
    version = version_of(int(length), headers)
    if version.size == size and asked.start > SKIP_BYTES:
        return Final(InvalidAnswer, "the object store ignores ranges for it")
    return Take(version, skip=asked.start)


def _is_encoded(encoding: str | None) -> bool:
    return (encoding or "identity").strip().lower() != "identity"


class BodyWriter(Protocol):
    """Takes an object's bytes in order."""

    def write(self, data: Bytes) -> bool:
        """Append `data`; False if no more is wanted. Any thread, never blocks."""

    def space(self) -> memoryview | FilePlace | None:
        """The memory for the missing bytes, or their place in a file.

        None: they cannot be written there directly. Memory is at least one byte longer than they
        are; that byte may be overwritten.
        """

    def fill(self, count: int) -> bool:
        """Count the next `count` bytes as written; False if no more are wanted."""

    def abandon(self) -> None:
        """Use other memory from here on: a late writer may still write to what `space` returned."""


class Delivery:
    """Passes the bytes of `asked` on to `writer` once they are known to be right.

    The driving thread calls `begin` and then, for each piece of the body, `write`; or `fill`, if it
    wrote to the memory that `space` returned. It makes one call at a time, and none blocks. Then
    the trio thread calls `abandon`, if that thread may still write to the memory, and `finish`.
    """

    def __init__(
        self,
        asked: ByteRange,
        pin: VersionPin,
        writer: BodyWriter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Garbled | Final | None = None
        self.outcome = Outcome(None, None)  # until `finish`
        self.body_bytes = 0  # received
        self.first_s: float | None = None  # from the request to the head
        self.gap_s = 0.0  # the longest silence after it
        self.heard_at_s = clock()
        self._clock = clock
        self._asked = asked
        self._pin = pin
        self._writer = writer
        self._skip = 0
        self._left = len(asked)
        self._prove: int | None = None
        self._is_bounded = False  # whether the client ends the body where the range ends
        self._held = bytearray()

    def begin(self, head: ResponseHead) -> bool:
        """Judge the head of a 200 or 206; False refuses the body, which is then not passed on."""
        now_s = self._clock()
        self.first_s, self.heard_at_s = now_s - self.heard_at_s, now_s
        judgement = judge(head, self._asked, self._pin)
        if not isinstance(judgement, Take):
            self.refused = judgement
            return False
        self._skip, self._prove = judgement.skip, judgement.prove
        # A 206 was accepted with the range's own length, which an encoding of transfer overrides.
        self._is_bounded = head.status == 206 and "transfer-encoding" not in head.headers
        return True

    def space(self) -> memoryview | FilePlace | None:
        """The memory for the requested bytes and one more; None if the body has other bytes too.

        The last byte is garbage, since C's streams end with a zero. A place in a file has no end:
        what follows there are another range's bytes.
        """
        if self._skip or self._prove is not None:
            return None
        space = self._writer.space()
        if isinstance(space, FilePlace):
            return space if self._is_bounded else None
        return None if space is None or len(space) <= self._left else space[: self._left + 1]

    def fill(self, count: int) -> bool:
        """Count `count` more bytes as written; False if no more are wanted."""
        self._hear(count)
        # A body longer than the range overflows into the extra byte, which is not data.
        count = min(count, self._left)
        self._left -= count
        return self._writer.fill(count) and self._left > 0

    def abandon(self) -> None:
        """Leave the memory to a late writer."""
        self._writer.abandon()

    def write(self, data: Bytes) -> bool:
        """Take the next bytes of the body; False once there are enough."""
        self._hear(len(data))
        if self._prove is not None:
            self._held += data
            return len(self._held) <= self._prove
        view = memoryview(data)
        if self._skip:
            skipped = min(self._skip, len(view))
            self._skip -= skipped
            view = view[skipped:]
            if not view:
                return True
        view = view[: self._left]
        self._left -= len(view)
        return self._writer.write(view) and self._left > 0

    def finish(self, outcome: Outcome) -> None:
        """Note how it ended; pass on the bytes held back, if the body has the proven length."""
        self.outcome = outcome
        if self._prove is None or outcome.kind is not None:
            return
        if len(self._held) != self._prove:
            self.refused = Garbled(f"a body of another length than {self._prove} bytes")
            return
        self._writer.write(memoryview(self._held)[self._skip : self._skip + self._left])

    def _hear(self, count: int) -> None:
        self.body_bytes += count
        now_s = self._clock()
        self.gap_s = max(self.gap_s, now_s - self.heard_at_s)
        self.heard_at_s = now_s

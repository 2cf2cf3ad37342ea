"""Pieces of a file, fetched one by one, for pictures that must cost little. Knows no format.

In a mount a read brings a part of 128 KiB, the kernel and up42fs read ahead, and files beside it
are prefetched. The attributes `user.up42.fetch.START-STOP` and `user.up42.bytes.START-STOP` fetch a
range and return it, and nothing beside it, so that the file itself is never opened.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from up42fs.fs.xattrs import BYTES, EXPLAIN, FETCH, PREFIX, PREVIEW
from up42fs.ranges import RangeSet
from up42fs.types import ByteRange

_ID = PREFIX + "id"
_MIME_TYPE = "user.mime_type"
#: Linux takes 64 KiB of an attribute.
_PIECE_BYTES = 60_000
#: No preview is longer, bytes.
_MOST_PREVIEW_BYTES = 8 << 20
#: What `stat` of a file fetches whose size UP42 does not report, bytes.
_STAT_BYTES = 128 << 10
#: The network is to blame: another request would wait as long, and end as badly.
_UNREACHED = {errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EIO}


class TooMuchError(Exception):
    """More bytes are wanted than a picture may cost."""


class Pieces:
    """The bytes that were fetched of a file; at most `most` bytes of a file of a mount."""

    def __init__(self, source: str, store: int, most: int) -> None:
        self.source, self._store, self._most = source, store, most
        self.is_mounted = bool(_attribute(source, _ID))
        self.size = os.stat(source).st_size  # noqa: PTH116 - the path may be no text
        self._from: int | None = None
        self._held = RangeSet()
        # The head came with the size, or was read before: it costs nothing more, but it counts.
        head = self._cost_before() if self.is_mounted else 0
        self._charged = RangeSet([ByteRange(0, head)] if head else ())

    def _cost_before(self) -> int:
        try:
            told = json.loads(_attribute(self.source, EXPLAIN))["store"]["bytes_fetched"]
            return max(0, min(int(told), _STAT_BYTES, self.size))
        except (ValueError, KeyError, TypeError):
            return 0

    @property
    def left(self) -> int:
        """Bytes that may still be fetched."""
        return max(0, self._most - self._charged.total)

    def lacks(self, spans: Iterable[ByteRange]) -> int:
        """How many bytes of some ranges would have to be fetched."""
        return RangeSet(one for span in spans for one in self._charged.missing(span)).total

    def get(self, span: ByteRange) -> bytes | None:
        """The bytes of a range, if they were fetched."""
        return os.pread(self._store, len(span), span.start) if self._held.covers(span) else None

    def fetch(self, span: ByteRange) -> None:
        """Fetch a range, as far as the file has it; raises TooMuchError or OSError."""
        if span.start >= self.size:
            return
        for missing in self._held.missing(ByteRange(span.start, min(span.stop, self.size))):
            if self.is_mounted and self.lacks([missing]) > self.left:
                raise TooMuchError(f"a picture of it takes more than {self._most:,} bytes")
            self._charged.add(missing)
            self._copy(missing)

    def _copy(self, span: ByteRange) -> None:
        if self.is_mounted and len(span) > _PIECE_BYTES:
            os.getxattr(self.source, f"{FETCH}{span.start}-{span.stop}")
        position = span.start
        while position < span.stop:
            piece = self._read(position, span.stop)
            if not piece:
                raise OSError(f"{self.source} is shorter than it was")
            position += os.pwrite(self._store, piece, position)
        self._held.add(span)

    def _read(self, start: int, stop: int) -> bytes:
        if self.is_mounted:
            stop = min(stop, start + _PIECE_BYTES)
            return os.getxattr(self.source, f"{BYTES}{start}-{stop}")
        if self._from is None:
            self._from = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._from, stop - start, start)

    def close(self) -> None:
        if self._from is not None:
            os.close(self._from)


@contextmanager
def pieces_of(source: str, most: int) -> Iterator[Pieces]:
    """The pieces of the file at `source`, kept until the end; raises OSError."""
    with tempfile.TemporaryFile(prefix="up42fs-") as file:
        pieces = Pieces(source, file.fileno(), most)
        try:
            yield pieces
        finally:
            pieces.close()


def preview_of(path: str) -> tuple[bytes, OSError | None]:
    """The thumbnail that UP42 has of a file of a mount, empty if there is none, and why.

    The reason is None where UP42 has none. Raises OSError if the network is to blame.
    """
    content = b""
    while len(content) < _MOST_PREVIEW_BYTES:
        span = f"{len(content)}-{len(content) + _PIECE_BYTES}"
        try:
            piece = os.getxattr(path, f"{PREVIEW}{span}")
        except OSError as error:
            if error.errno in _UNREACHED:
                raise
            if error.errno == errno.E2BIG:
                return b"", OSError(
                    error.errno, "the thumbnail that UP42 has of it has more than 4 MiB", path
                )
            is_none = error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT)
            return b"", None if is_none else error
        content += piece
        if len(piece) < _PIECE_BYTES:
            break
    return content, None


def is_image(path: str) -> bool:
    """Whether the name of a file of a mount is that of an image; of other files, True."""
    said = _attribute(path, _MIME_TYPE)
    return not said or said.startswith(b"image/")


def _attribute(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""

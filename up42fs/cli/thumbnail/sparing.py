"""A copy of a few pieces of a file, at their places, for decoders that take a path.

In a mount a read brings a part of 128 KiB, and the kernel and up42fs read ahead;
`user.up42.fetch.START-STOP` fetches a range and nothing beside it. A decoder that had the file
itself would read what it likes; it gets a sparse copy that holds what was chosen. Knows no format.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from up42fs.fs.xattrs import FETCH, PREFIX, PREVIEW
from up42fs.ranges import RangeSet
from up42fs.types import ByteRange

_ID = PREFIX + "id"
_MIME_TYPE = "user.mime_type"
#: Linux takes 64 KiB of an attribute.
_PIECE_BYTES = 60_000
#: No preview is longer, bytes.
_MOST_PREVIEW_BYTES = 8 << 20


class TooMuchError(Exception):
    """More bytes are wanted than a picture may cost."""


class SparseCopy:
    """The pieces of a file that were fetched; at most `most` bytes of a file of a mount."""

    def __init__(self, source: str, path: str, most: int) -> None:
        self._source, self.path, self._most = source, path, most
        self._from = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        # Where another program has the file open, the kernel keeps its pages, and reads ahead.
        os.posix_fadvise(self._from, 0, 0, os.POSIX_FADV_RANDOM)
        self._to = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self._from).st_size
        os.truncate(self._to, self.size)
        self.is_mounted = bool(_attribute(source, _ID))
        self._held = RangeSet()

    @property
    def fetched(self) -> int:
        """Bytes that were fetched."""
        return self._held.total

    def get(self, span: ByteRange) -> bytes | None:
        """The bytes of a range, if they were fetched."""
        return os.pread(self._to, len(span), span.start) if self._held.covers(span) else None

    def fetch(self, span: ByteRange) -> None:
        """Fetch a range, as far as the file has it; raises TooMuchError or OSError."""
        if span.start >= self.size:
            return
        for missing in self._held.missing(ByteRange(span.start, min(span.stop, self.size))):
            self._copy(missing)

    def _copy(self, span: ByteRange) -> None:
        if self.is_mounted:
            if self.fetched + len(span) > self._most:
                raise TooMuchError(f"a picture of it takes more than {self._most:,} bytes")
            os.getxattr(self._source, f"{FETCH}{span.start}-{span.stop}")
        position = span.start
        while position < span.stop:
            piece = os.pread(self._from, span.stop - position, position)
            if not piece:
                raise OSError(f"{self._source} is shorter than it was")
            position += os.pwrite(self._to, piece, position)
        self._held.add(span)

    def close(self) -> None:
        os.close(self._from)
        os.close(self._to)


@contextmanager
def sparse_copy(source: str, most: int) -> Iterator[SparseCopy]:
    """An empty copy of the file at `source`, removed at the end; raises OSError."""
    with tempfile.NamedTemporaryFile(prefix="up42fs-") as file:
        copy = SparseCopy(source, file.name, most)
        try:
            yield copy
        finally:
            copy.close()


def preview_of(path: str) -> bytes:
    """The thumbnail that UP42 has of a file of a mount; empty if there is none."""
    content = b""
    while len(content) < _MOST_PREVIEW_BYTES:
        span = f"{len(content)}-{len(content) + _PIECE_BYTES}"
        piece = _attribute(path, f"{PREVIEW}{span}")
        content += piece
        if len(piece) < _PIECE_BYTES:
            return content
    return b""


def is_image(path: str) -> bool:
    """Whether the name of a file of a mount is that of an image; of other files, True."""
    said = _attribute(path, _MIME_TYPE)
    return not said or said.startswith(b"image/")


def _attribute(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""

"""A document of any length on disk, written piece by piece: memory holds one piece of it.

A short one stays in memory. The file has no name, so it is gone with the last of its readers.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

#: The longest document that is held in memory, bytes.
MOST_IN_MEMORY = 1 << 20


class Spool:
    """A finished document on disk; a slice of it is read from there."""

    def __init__(self, file: _Unnamed, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(self._size)
        pieces = []
        while start < stop and (piece := os.pread(self._file.descriptor, stop - start, start)):
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)


#: A document that is made when it is opened.
Content = bytes | Spool


class SpoolWriter:
    """Takes the pieces of a document, in order; `directory` is where a long one lies."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._pieces: list[bytes] = []
        self._held = self._size = 0
        self._file: _Unnamed | None = None

    def write(self, piece: bytes) -> None:
        """Add a piece; may block, and raise OSError."""
        self._pieces.append(piece)
        self._held += len(piece)
        self._size += len(piece)
        if self._held > MOST_IN_MEMORY:
            if self._file is None:
                self._file = _Unnamed(self._directory)
            self._flush(self._file)

    def finish(self) -> Content:
        if self._file is None:
            return b"".join(self._pieces)
        self._flush(self._file)
        return Spool(self._file, self._size)

    def _flush(self, file: _Unnamed) -> None:
        file.append(b"".join(self._pieces))
        self._pieces.clear()
        self._held = 0


class _Unnamed:
    """A file without a name, closed with the last that holds it."""

    def __init__(self, directory: Path | None) -> None:
        try:
            made = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  (closed below)
        except OSError:
            if directory is None:
                raise
            made = tempfile.TemporaryFile()  # noqa: SIM115
        with made:
            self.descriptor = os.dup(made.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def append(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

"""An open file, as fsspec's users read one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

from up42fs.library.buffer import Buffer
from up42fs.types import Bytes

if TYPE_CHECKING:
    from up42fs.library.asking import AskingSystem
    from up42fs.library.facts import Fact


class File(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read where it lies.

    It is opened again, by the same facts, in a process that got it by a fork or in a pickle.
    """

    def __init__(
        self,
        fs: AskingSystem,
        path: str,
        reader: Any,
        *,
        block_size: int | None = None,
        cache_type: str | None = None,
        cache_options: dict[str, Any] | None = None,
    ) -> None:
        self._reader = reader
        self._process = os.getpid()
        self._details = dict(reader.info)
        super().__init__(
            fs,
            path,
            "rb",
            block_size or "default",
            cache_type=cache_type or "none",
            cache_options=cache_options,
            size=reader.size,
        )
        if cache_type is None:
            self.cache = Buffer(self._fetch_more, self.size)

    @property
    def details(self) -> dict[str, Any]:
        """All that is known of the file, without its attributes."""
        return self._details

    @details.setter
    def details(self, value: dict[str, Any]) -> None:
        self._details = value

    loc: int

    def read(self, length: int | None = -1) -> bytes:
        """The next `length` bytes, or all to the end of the file."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        start = self.loc
        stop = self.size if length is None or length < 0 else start + length
        data: bytes = self.cache._fetch(start, stop) if start < self.size else b""
        self.loc = start + len(data)
        return data

    def seek(self, loc: int, whence: int = 0) -> int:
        """Go to a place, as in any file: before its start is an OSError, which zipfile expects."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.loc, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if base + loc < 0:
            raise OSError(errno.EINVAL, "a place before the start of the file", self.path)
        self.loc = base + int(loc)
        return self.loc

    def _fetch_more(self, start: int, stop: int) -> Bytes:
        """The bytes `[start, stop)`, and those behind them that are at hand."""
        if self._process != os.getpid():
            self._reader = self.fs.reader_of(self.path)
            self._process = os.getpid()
        data: Bytes
        data, self._reader = self.fs.read_by(self.path, self._reader, start, stop - start)
        return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self._fetch_more(start, end)[: end - start])

    def close(self) -> None:
        """Close it; idempotent, and waits for nothing."""
        if not self.closed and self._process == os.getpid():
            self.fs.let_go(self._reader)
        super().close()

    def __reduce__(self) -> tuple[Callable[..., File], tuple[Any, ...]]:
        return _reopened, (self.fs, self.path, self.fs.fact_of(self._reader), self.tell())

    def __repr__(self) -> str:
        return f"<up42fs file {self.path!r}, {self.size} bytes>"


def _reopened(fs: AskingSystem, path: str, fact: Fact | None, at: int) -> File:
    fs.take_fact(fact)
    file: File = fs.open(path)
    file.seek(at)
    return file

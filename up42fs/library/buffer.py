"""Bytes that a reader got ahead of its reads, so that small reads do not cross threads; pure."""

from __future__ import annotations

from collections.abc import Callable

from up42fs.types import Bytes


class Buffer:
    """The last answer of one open file, in the shape of fsspec's caches.

    `fetch` returns at least the bytes `[start, stop)`, and more behind them where they are at hand.
    """

    name = "up42"

    def __init__(self, fetch: Callable[[int, int], Bytes], size: int) -> None:
        self._read = fetch
        self.size = size
        self._start = self._stop = 0
        #: A view of the engine's memory where that is large: it is copied when it is read.
        self._data: Bytes = b""

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        """The bytes `[start, stop)`, fewer only at the end of the file; fsspec's name for it."""
        start = start or 0
        stop = self.size if stop is None or stop > self.size else stop
        if self._start <= start and stop <= self._stop:
            return bytes(self._data[start - self._start : stop - self._start])
        if start >= stop:
            return b""
        self._data = b""  # so that the engine may reuse its memory
        data = self._read(start, stop)
        self._start, self._stop, self._data = start, start + len(data), data
        return bytes(data[: stop - start])

"""Open files and directories by handle number. Numbers are never used twice in one mount."""

from __future__ import annotations

import itertools
from typing import Generic, TypeVar

from up42fs.errors import BadHandle

T = TypeVar("T")


class HandleTable(Generic[T]):
    """Open objects by number."""

    def __init__(self) -> None:
        self._open: dict[int, T] = {}
        self._numbers = itertools.count(1)

    def add(self, thing: T) -> int:
        """Return a new handle for `thing`."""
        handle = next(self._numbers)
        self._open[handle] = thing
        return handle

    def __getitem__(self, handle: int) -> T:
        """The object behind `handle`; raises BadHandle."""
        try:
            return self._open[handle]
        except KeyError:
            raise BadHandle(f"handle {handle} is not open") from None

    def pop(self, handle: int) -> T | None:
        """Close `handle`; None if it was not open."""
        return self._open.pop(handle, None)

    def __len__(self) -> int:
        return len(self._open)

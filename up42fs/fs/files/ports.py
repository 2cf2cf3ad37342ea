"""What all open files have in common, whoever wraps them."""

from __future__ import annotations

from typing import Protocol

from up42fs.types import Bytes


class OpenFile(Protocol):
    """One open object: the store's (`store.handle.OpenFile`), or one that follows its reads."""

    async def read(self, offset: int, size: int) -> Bytes:
        """Return `size` bytes from `offset`, fewer only at the end of the file."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...

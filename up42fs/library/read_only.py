"""The half of fsspec's interface that writes: refused, as a mount refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.asyn import AsyncFileSystem

from up42fs.errors import ReadOnly, Up42fsError


def as_os_error(error: Up42fsError, path: str) -> OSError:
    """The `OSError` that a mount would give."""
    return OSError(error.errno, str(error), path)


@contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Raise this package's errors as the `OSError`s that a mount would give."""
    try:
        yield
    except Up42fsError as error:
        raise as_os_error(error, path) from None


def refusal(path: str) -> OSError:
    """The error of a call that writes."""
    return as_os_error(ReadOnly(f"{path}: UP42's storage is read-only here"), path)


class ReadOnlySystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system whose every call that writes raises EROFS."""

    async def _rm_file(self, path: str, **_: Any) -> None:
        raise refusal(path)

    async def _mkdir(self, path: str, *_: Any, **__: Any) -> None:
        raise refusal(path)

    async def _makedirs(self, path: str, *_: Any, **__: Any) -> None:
        raise refusal(path)

    async def _cp_file(self, _path1: str, path2: str, **_: Any) -> None:
        raise refusal(path2)

    async def _pipe_file(self, path: str, *_: Any, **__: Any) -> None:
        raise refusal(path)

    async def _put_file(self, _lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        raise refusal(rpath)

    def rmdir(self, path: str) -> None:
        """Refused."""
        raise refusal(path)

    def touch(self, path: str, *_: Any, **__: Any) -> None:
        """Refused."""
        raise refusal(path)

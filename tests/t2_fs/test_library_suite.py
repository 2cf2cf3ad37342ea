"""fsspec's own tests of `get`, on `up42fs.FileSystem` over a directory in place of a mount.

They need nested directories of their making, which UP42's storage cannot hold: so the tree is a
directory of this machine, and a subclass makes its files. The methods under test are ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")

import fsspec.tests.abstract as abstract

from up42fs.library.filesystem import FileSystem


class Writable(FileSystem):
    """Makes files and directories below the root, for what the tests look at."""

    cachable = False

    def _local(self, path: str) -> Path:
        return Path(self._mount) / self._strip_protocol(path)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        self._local(path).mkdir(parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._local(path).mkdir(parents=True, exist_ok=exist_ok)

    def touch(self, path: str, *_: Any, **__: Any) -> None:
        self._local(path).parent.mkdir(parents=True, exist_ok=True)
        self._local(path).touch()

    def pipe(self, path: str, value: bytes | None = None, **_: Any) -> None:
        self._local(path).parent.mkdir(parents=True, exist_ok=True)
        self._local(path).write_bytes(value or b"")

    def rm(self, path: str, recursive: bool = False, **_: Any) -> None:
        if recursive:
            shutil.rmtree(self._local(path))
        else:
            self._local(path).unlink()


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    @pytest.fixture
    def fs(self, tmp_path: Path) -> FileSystem:
        (tmp_path / "root").mkdir()
        return Writable(mount=str(tmp_path / "root"))

    @pytest.fixture
    def fs_path(self) -> str:
        return "base"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    pass

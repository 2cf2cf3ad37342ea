"""`up42fs.FileSystem`: the storage for fsspec: for pandas, Dask, pyarrow, zipfile and others.

    fs = up42fs.FileSystem()
    fs.glob("orders/Berlin/*.tif")
    with fs.open("orders/Berlin/scene.tif") as file:
        head = file.read(1000)

Import, constructor and pickling ask UP42 for nothing; a call asks for what it needs. Errors are
`OSError`s with the errno that a mount would give. The storage is read-only here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import get_loop
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from up42fs.library.asking import AskingSystem
from up42fs.library.files import File
from up42fs.library.read_only import refusal
from up42fs.library.spans import MOST_GAP

#: How long a signed link works if nothing else is asked, seconds.
LINK_S = 60.0
_ARGUMENTS = (
    "region",
    "workspace",
    "account",
    "credentials",
    "cache_dir",
    "memory",
    "cache_size",
    "refresh",
    "archives",
    "orders",
    "names",
)


class FileSystem(AskingSystem):
    """UP42's storage as paths: `orders/NAME/file`, `assets/ID`, `tags/TAG/…`, `search/cloud<10`.

    `region`, `workspace`, `account` (the name of a login), `credentials` (the path of a file),
    `cache_dir`, `cache_size`, `refresh` and `memory` (MiB) are the settings of those names; what is
    not given comes from the environment, the settings file or `up42fs login`, in each process anew.
    Directories of archives' members are found by name, and listed with `archives="on"`;
    `orders="all"` shows also orders without assets; `names` is what assets are named by. `mount` is
    "auto" to read through a mount of the same account on this host if there is one, "never", or a
    mount point.
    """

    protocol = "up42"
    root_marker = ""
    async_impl = True
    _pid: int

    def __init__(
        self,
        region: str | None = None,
        workspace: str | None = None,
        credentials: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        memory: int = 64,
        mount: str = "auto",
        *,
        account: str | None = None,
        cache_size: int | str | None = None,
        refresh: float | str | None = None,
        archives: str = "hidden",
        orders: str | None = None,
        names: str | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        **storage_options: Any,
    ) -> None:
        if isinstance(credentials, Mapping):
            # It would travel in pickles, Dask's graphs and tracebacks.
            raise TypeError(
                "credentials is the path of a file; give a password by UP42_PASSWORD, "
                'by `up42fs login`, or in a file {"username": …, "password": …}'
            )
        super().__init__(asynchronous=asynchronous, loop=loop, **storage_options)
        values = (
            *(region, workspace, account, credentials, cache_dir, memory, cache_size, refresh),
            *(archives, orders, names),
        )
        self._arguments = dict(zip(_ARGUMENTS, values, strict=True))
        self._mount = os.fspath(mount)

    # paths and pickles ---------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped if isinstance(stripped, list) else stripped.strip("/")

    @property
    def loop(self) -> Any:
        """The asyncio loop of fsspec's thread; another one after a fork."""
        if self._pid != os.getpid():
            self._loop = get_loop()
            self._pid = os.getpid()
        return self._loop

    def __reduce__(self) -> tuple[Any, ...]:
        facts = self._facts.packed()
        return _made_again, (type(self), self.storage_args, self.storage_options, facts)

    def __repr__(self) -> str:
        return f"<up42fs.FileSystem {self._arguments['region'] or ''}>"

    # reading -------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Everything that is known of a path: size, times, and attributes as `up42.…`."""
        return self._run(path, self._plan_info)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        return await self._arun(path, self._plan_info)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The entries of a directory; sizes that UP42 does not report are None: see `info`."""
        return self._run(path, self._plan_ls, detail)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return await self._arun(path, self._plan_ls, detail)

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is such a path."""
        return self._run(path, self._plan_details, False) is not None

    async def _exists(self, path: str, **_: Any) -> bool:
        return await self._arun(path, self._plan_details, False) is not None

    def isdir(self, path: str) -> bool:
        """Whether it is a directory."""
        return _type(self._run(path, self._plan_details, False)) == "directory"

    async def _isdir(self, path: str) -> bool:
        return _type(await self._arun(path, self._plan_details, False)) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether it is a file."""
        return _type(self._run(path, self._plan_details, False)) == "file"

    async def _isfile(self, path: str) -> bool:
        return _type(await self._arun(path, self._plan_details, False)) == "file"

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The bytes of a file, or of a range of it."""
        return self._run(path, self._plan_cat, start, end)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        return await self._arun(path, self._plan_cat, start, end)

    async def _cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,  # noqa: ARG002
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """The bytes of many ranges, of many files: merged over small gaps, in parallel.

        A gap of up to `max_gap` bytes is fetched with its neighbours.
        """
        starts = starts if isinstance(starts, list | tuple) else [starts] * len(paths)
        ends = ends if isinstance(ends, list | tuple) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("paths, starts and ends must have the same lengths")
        places: dict[str, list[int]] = {}
        for place, path in enumerate(paths):
            places.setdefault(path, []).append(place)
        gap = MOST_GAP if max_gap is None else max_gap
        asks = [
            self._arun(path, self._plan_ranges, [(starts[n], ends[n]) for n in found], gap)
            for path, found in places.items()
        ]
        answers = await asyncio.gather(*asks, return_exceptions=on_error == "return")
        out: list[Any] = [None] * len(paths)
        for found, answer in zip(places.values(), answers, strict=True):
            for index, place in enumerate(found):
                out[place] = answer if isinstance(answer, BaseException) else answer[index]
        return out

    def get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **_: Any) -> None:
        """Copy a file to this machine."""
        from up42fs.library import copies

        if isfilelike(lpath):
            copies.to_file(self, self._strip_protocol(rpath), lpath, callback)
            return
        if self.isdir(rpath):
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        target = Path(lpath)
        target.parent.mkdir(parents=True, exist_ok=True)
        copies.to_path(self, self._strip_protocol(rpath), target, callback)

    async def _get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **_: Any
    ) -> None:
        await asyncio.to_thread(self.get_file, rpath, lpath, callback)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,  # noqa: ARG002
        cache_options: dict[str, Any] | None = None,
        cache_type: str | None = None,
        **_: Any,
    ) -> File:
        if mode != "rb":
            raise refusal(path)
        reader = self.reader_of(path)
        return File(
            self, path, reader, block_size=block_size,
            cache_type=None if cache_type == "up42" else cache_type, cache_options=cache_options,
        )  # fmt: skip

    def sign(self, path: str, expiration: float | None = None, **_: Any) -> str:
        """A presigned link, which works for `expiration` seconds if UP42's links last so long."""
        return self._run(path, self._plan_link, expiration or LINK_S)

    async def _sign(self, path: str, expiration: float | None = None, **_: Any) -> str:
        return await self._arun(path, self._plan_link, expiration or LINK_S)

    def ukey(self, path: str) -> str:
        """A key that changes when the bytes of the file may have."""
        found: dict[str, Any] | None = self._run(path, self._plan_details, True)
        return _key(found or {})

    async def _ukey(self, path: str) -> str:
        found: dict[str, Any] | None = await self._arun(path, self._plan_details, True)
        return _key(found or {})

    def modified(self, path: str) -> datetime:
        """When the file changed last."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def created(self, path: str) -> datetime:
        """When the file was delivered."""
        said = self.info(path).get("up42.created_at")
        return datetime.fromisoformat(said) if said else self.modified(path)


def _made_again(
    cls: type[FileSystem], args: tuple[Any, ...], options: dict[str, Any], facts: tuple[Any, ...]
) -> FileSystem:
    fs = cls(*args, **options)
    fs.take_facts(facts)
    return fs


def _type(info: dict[str, Any] | None) -> str | None:
    return None if info is None else info["type"]


def _key(info: dict[str, Any]) -> str:
    facts = [info.get(name) for name in ("up42.id", "ino", "size", "mtime")]
    return hashlib.sha256(repr(facts).encode()).hexdigest()

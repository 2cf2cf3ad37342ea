"""The questions of each method of the file system, as plans: with facts first, then of UP42.

Knows what answers mean; nothing of fsspec, threads or loops.
"""

from __future__ import annotations

from typing import Any

from up42fs.errors import NotADirectory, NotFound
from up42fs.errors import VersionChanged as Changed
from up42fs.library.facts import Fact, Facts
from up42fs.library.plans import Question


class Questions:
    """The plans of a file system with these facts."""

    _facts: Facts

    async def _plan_info(self, path: str) -> dict[str, Any]:
        fact = self._facts.given(path)
        if fact is not None and "up42.id" in fact.info:
            return dict(fact.info)
        return await self._looked_up(path)

    async def _looked_up(self, path: str) -> dict[str, Any]:
        if self._facts.is_absent(path):
            raise NotFound(f"/{path}: there is no such name in its directory")
        info, stored = await Question("info", path)
        if info["type"] == "file":
            self._facts.note(info, stored)
        return dict(info)

    async def _plan_details(self, path: str, must_exist: bool) -> dict[str, Any] | None:
        """`info` by facts of another process, without attributes; None without such facts."""
        fact = self._facts.given(path)
        if fact is not None and fact.info.get("size") is not None:
            return dict(fact.info)
        try:
            return await self._looked_up(path)
        except (NotFound, NotADirectory, FileNotFoundError, NotADirectoryError):
            if must_exist:
                raise
            return None

    async def _plan_ls(self, path: str, detail: bool) -> list[Any]:
        try:
            listed = await Question("listing", path)
        except (NotADirectory, NotADirectoryError):
            listed = [(await self._plan_info(path), None)]
        else:
            for info, stored in listed:
                if stored is not None:
                    self._facts.note(info, stored)
            self._facts.note_names(path, [info["name"].rpartition("/")[2] for info, _ in listed])
        return [info if detail else info["name"] for info, _ in listed]

    async def _plan_open(self, path: str, reading: str) -> Any:
        if self._facts.is_absent(path):
            raise NotFound(f"/{path}: there is no such name in its directory")
        reader = await Question("opened", path, self._facts.given(path), reading)
        if reader.stored is not None and self._facts.given(path) is None:
            self._facts.note({**reader.info, "name": path}, reader.stored)
        return reader

    async def _plan_cat(self, path: str, start: int | None, end: int | None) -> bytes:
        data: list[bytes] = await self._plan_ranges(path, [(start, end)], 0)
        return data[0]

    async def _plan_ranges(
        self, path: str, wanted: list[tuple[int | None, int | None]], most_gap: int
    ) -> list[bytes]:
        fact = self._facts.given(path)
        if fact is not None:
            try:
                return await _ranges(path, fact, wanted, most_gap)
            except (Changed, NotFound):
                self._facts.forget(path)
        return await _ranges(path, None, wanted, most_gap)

    async def _plan_link(self, path: str, lasts_s: float) -> str:
        link: str = await Question("link", path, self._facts.given(path), lasts_s)
        return link


async def _ranges(
    path: str, fact: Fact | None, wanted: list[tuple[int | None, int | None]], most_gap: int
) -> list[bytes]:
    found: list[bytes] = await Question("ranges", path, fact, wanted, most_gap)
    return found

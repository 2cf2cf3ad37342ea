"""Small helpers for rows that arrive one by one from a listing; independent of their type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def closing(rows: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close `rows` at the end if it is a generator, which a half-read one is not by itself."""
    try:
        yield rows
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(rows, "aclose", None)
        if close is not None:
            await close()


async def take(rows: AsyncIterator[T], most: int) -> list[T]:
    """The next rows, at most `most` of them; requests none beyond."""
    taken: list[T] = []
    while len(taken) < most:
        try:
            taken.append(await anext(rows))
        except StopAsyncIteration:
            break
    return taken


async def in_batches(rows: AsyncIterator[T], most: int) -> AsyncIterator[list[T]]:
    """All rows, in lists of at most `most`."""
    async with closing(rows):
        while batch := await take(rows, most):
            yield batch

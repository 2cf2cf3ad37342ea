"""The questions of the library to an engine; each function runs in the engine's trio loop.

Paths are those of fsspec: no slash in front, the root is empty. Knows the engine; nothing of
fsspec, threads or pickles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import trio

from up42fs.engine import Engine
from up42fs.engine.objects import Readable, id_of, open_object
from up42fs.engine.paths import Place
from up42fs.errors import Up42fsError
from up42fs.fs.tree.nodes import Attributes
from up42fs.library.facts import Fact
from up42fs.library.spans import COPY, holder, merged, span_within
from up42fs.readahead.tuning import Reading
from up42fs.store.copying import Progress
from up42fs.store.handle import OpenFile
from up42fs.store.lanes import Lane
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange, Bytes, Version

PREFIX = "user."
#: Ranges of a file that are read at the same time: more would only wait for each other.
AT_ONCE = 24

#: Bytes of one piece of a file that is copied: the most, and what is waited for.
PIECE_BYTES, LEAST_PIECE_BYTES = 4 << 20, 1 << 20
#: The most that is told ahead of a small read, and of a large one of a run, bytes.
AHEAD_BYTES, HAND_OVER_BYTES = 256 << 10, 4 << 20

#: A smaller file is copied in order, as it is read.
LEAST_COPY_BYTES = 8 << 20

Listed = tuple[dict[str, Any], StoredObject | None]


class Reader:
    """An open file that belongs to the engine's loop."""

    def __init__(
        self,
        file: Readable,
        info: Mapping[str, Any],
        stored: StoredObject | None,
        *,
        is_to_copy: bool = False,
    ) -> None:
        self._is_to_copy = is_to_copy
        self._file = file
        self._stack = AsyncExitStack()
        self.size = file.size
        self.info = {**info, "size": file.size}
        self.stored = stored
        #: Where the last read ended, and the bytes that were told ahead of it.
        self._read_to = self._told_to = 0

    @property
    def known(self) -> StoredObject | None:
        """The facts for a pickle, with the version that was read."""
        stored = self.stored
        if stored is None:
            return None
        return replace(stored, size=self.size, version=self.version or stored.version)

    async def read(self, offset: int, size: int) -> Bytes:
        """The bytes from `offset` on, and some behind them that are in memory anyhow.

        A caller that goes on where they end has read them: the plan learns of it by this call.
        Many bytes are a view of the engine's memory: the caller copies them in its own thread.
        """
        start, goes_on = offset, offset == self._told_to
        if goes_on and self._read_to < offset:
            start = self._read_to
        found = await self._file.read(start, offset - start + size)
        data = memoryview(found)[offset - start :]
        self._read_to = self._told_to = offset + len(data)
        if goes_on and size >= AHEAD_BYTES:
            here = self._file.ahead(offset, HAND_OVER_BYTES)
            if len(here) > len(data):
                self._told_to = offset + len(here)
                return here
        more = self._file.ahead(self._read_to, AHEAD_BYTES) if size < AHEAD_BYTES else b""
        self._told_to += len(more)
        if size >= AHEAD_BYTES:
            return data
        return b"".join((data, more)) if more else bytes(data)

    async def exactly(self, span: ByteRange) -> Bytes:
        """The bytes of a range and nothing more."""
        return await self._file.read(span.start, len(span))

    async def piece(self, offset: int) -> Bytes:
        """The bytes from `offset` on that lie in one place of memory: a view, nothing is copied."""
        here = len(self._file.ahead(offset, PIECE_BYTES))
        size = here if here >= AHEAD_BYTES else LEAST_PIECE_BYTES
        return await self._file.read(offset, min(size, self.size - offset))

    @property
    def copies(self) -> bool:
        """Whether `copied` brings its bytes: it was opened for that."""
        return isinstance(self._file, OpenFile) and self._is_to_copy

    async def copy(self, lanes: Sequence[Lane], progress: Progress) -> list[ByteRange]:
        """Copy it to a file, but for the ranges that are returned: those are in memory."""
        copying = self._file.copying() if isinstance(self._file, OpenFile) else None
        if copying is None:
            return [ByteRange(0, self.size)] if self.size else []
        return await copying.run_all(self.size, lanes, progress)

    async def aclose(self) -> None:
        """Close it; idempotent."""
        await self._stack.aclose()

    @property
    def version(self) -> Version | None:
        """The version that the first bytes had."""
        return self._file.version


def info_of(path: str, attributes: Attributes) -> dict[str, Any]:
    """The details of an entry, as fsspec names them; the size is None if it is not known."""
    is_dir = attributes.is_dir
    is_unknown = not is_dir and attributes.attr_ttl_s == 0.0
    return {
        "name": path,
        "size": 0 if is_dir else None if is_unknown else attributes.size,
        "type": "directory" if is_dir else "file",
        "mtime": attributes.mtime_ns / 1e9,
        "ino": attributes.inode,
    }


async def info(engine: Engine, path: str) -> Listed:
    """Everything that is known of a path, attributes included; raises an `Up42fsError`."""
    if (object_id := id_of(path)) is not None:
        return await _info_by_id(engine, path, object_id)
    async with engine.at("/" + path) as place:
        details = info_of(path, await place.stat())
        stored = None if place.attributes.is_dir else place.stored()
    attributes = await engine.attributes("/" + path)
    told = {
        name.removeprefix(PREFIX): value.decode(errors="replace")
        for name, value in attributes.items()
    }
    return {**told, **details}, stored


async def _info_by_id(engine: Engine, path: str, object_id: str) -> Listed:
    version = await engine.store.ensure_version(StoredObject(object_id, None, object_id))
    stored = StoredObject(object_id, version.size, object_id, version=version)
    details = {"name": path, "size": version.size, "type": "file", "up42.id": object_id}
    return details, stored


async def listing(engine: Engine, path: str) -> list[Listed]:
    """The entries of a directory; raises an `Up42fsError`, NotADirectory for a file."""
    prefix = f"{path}/" if path else ""
    async with engine.at("/" + path) as place:
        return [
            (info_of(prefix + name, attributes), stored)
            for name, attributes, stored in await place.stored_listing()
        ]


async def opened(engine: Engine, path: str, fact: Fact | None, how: str) -> Reader:
    """Open a file, by its facts if they are given; raises an `Up42fsError`.

    `how` is the name of a `Reading`, or COPY.
    """
    reading = Reading.WHOLE if how == COPY else Reading[how]
    if how == COPY and fact is not None and fact.stored is not None:
        return await _open_to_copy(engine, fact.stored, fact.info)
    if fact is not None and fact.stored is not None:
        return await _open_stored(engine, fact.stored, fact.info, reading)
    if (object_id := id_of(path)) is not None:
        stored = StoredObject(object_id, None, object_id)
        return await _open_stored(engine, stored, {"name": path, "type": "file"}, reading)
    stack = AsyncExitStack()
    try:
        place: Place = await stack.enter_async_context(engine.at("/" + path))
        if place.attributes.is_dir:
            await stack.enter_async_context(place.opened())  # raises IsADirectory
        details, known = info_of(path, place.attributes), place.stored()
        if known is not None and how == COPY:
            reader = await _open_to_copy(engine, known, details)
        elif known is not None:
            reader = await _open_stored(engine, known, details, reading)
        else:
            file = await stack.enter_async_context(place.opened(program="python", reading=reading))
            reader = Reader(file, details, None)
            reader._stack.push_async_exit(stack.pop_all())
        return reader
    finally:
        await stack.aclose()


async def _open_stored(
    engine: Engine, stored: StoredObject, info: Mapping[str, Any], reading: Reading
) -> Reader:
    file = await open_object(engine.store, stored, reading)
    reader = Reader(file, info, stored)
    reader._stack.callback(file.close)
    return reader


async def _open_to_copy(engine: Engine, stored: StoredObject, info: Mapping[str, Any]) -> Reader:
    """Open a file that is read once, from end to end, into a file of this machine."""
    if (stored.size or 0) < LEAST_COPY_BYTES:
        return await _open_stored(engine, stored, info, Reading.WHOLE)
    file = await open_object(engine.store, stored, Reading.EXACT)
    if file.copying() is None:
        file.close()
        return await _open_stored(engine, stored, info, Reading.WHOLE)
    reader = Reader(file, info, stored, is_to_copy=True)
    reader._stack.callback(file.close)
    return reader


async def ranges(
    engine: Engine,
    path: str,
    fact: Fact | None,
    wanted: Sequence[tuple[int | None, int | None]],
    most_gap: int,
) -> list[bytes]:
    """The bytes of many ranges of a file, and of as little else as possible, in parallel."""
    reader = await opened(engine, path, fact, "EXACT")
    try:
        spans = [span_within(start, end, reader.size) for start, end in wanted]
        fetched = merged(spans, most_gap)
        pieces: list[Bytes] = [b""] * len(fetched)
        errors: list[Up42fsError] = []

        places = iter(range(len(fetched)))

        async def fetch() -> None:
            try:
                for place in places:
                    span = fetched[place]
                    pieces[place] = await reader.exactly(span)
            except Up42fsError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(fetched))):
                nursery.start_soon(fetch)
        if errors:
            raise errors[0]
        return [_cut(fetched, pieces, *span) if span[0] < span[1] else b"" for span in spans]
    finally:
        await reader.aclose()


def _cut(fetched: Sequence[Any], pieces: Sequence[Bytes], start: int, stop: int) -> bytes:
    place = holder(fetched, start)
    begin = fetched[place].start
    return bytes(pieces[place][start - begin : stop - begin])


async def read(_engine: Engine, reader: Reader, offset: int, size: int) -> Bytes:
    """Read from an open file."""
    return await reader.read(offset, size)


async def piece(_engine: Engine, reader: Reader, offset: int) -> Bytes:
    """Read what is at hand from a file that is copied."""
    return await reader.piece(offset)


async def copied(
    _engine: Engine, reader: Reader, lanes: Sequence[Lane], progress: Progress
) -> list[ByteRange]:
    """Copy an open file to a file of this machine, past memory; return the ranges left to read."""
    return await reader.copy(lanes, progress)


async def close(_engine: Engine, reader: Reader) -> None:
    """Close an open file."""
    await reader.aclose()


async def link(engine: Engine, path: str, fact: Fact | None, lasts_s: float) -> str:
    """A presigned link to a file that works for so long, if links last so long."""
    object_id = fact.stored.object_id if fact and fact.stored else id_of(path)
    if object_id is not None:
        return (await engine.store.link(object_id, lasts_s)).url
    async with engine.at("/" + path) as place:
        return (await place.link(lasts_s)).url

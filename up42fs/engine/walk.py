"""Walks over the tree by path: patterns resolved, directories entered, unknown sizes learned.

Knows paths and what `Paths` answers; nothing of accounts, requests or the output of a command.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import NamedTuple

import trio

from up42fs.engine.paths import Paths
from up42fs.errors import NotADirectory, NotFound, Up42fsError
from up42fs.fs.tree.nodes import Attributes
from up42fs.visible import visible

#: Sizes that are learned at the same time.
SIZES_AT_ONCE = 8
_WILD = re.compile(r"[*?\[]")


class Found(NamedTuple):
    """An entry of a walk: its path, how deep below the start it lies, and its attributes.

    The size of a file is 0 if it is unknown; see `is_size_known`.
    """

    path: str
    depth: int
    attributes: Attributes

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.attributes.is_dir

    @property
    def is_size_known(self) -> bool:
        """Whether the size is one; `stat` learns it."""
        return self.is_dir or self.attributes.attr_ttl_s != 0.0


def absolute(path: str) -> str:
    """A path as a user writes it, `orders/NAME/x.tif`, from the root of the tree on."""
    return "/" + path.strip("/")


def has_pattern(path: str) -> bool:
    """Whether a path may be a pattern: names can hold brackets too."""
    return _WILD.search(path) is not None


async def resolve(paths: Paths, pattern: str) -> list[str]:
    """The absolute paths that a user's path means, in the order of the listings.

    `*`, `?` and `[…]` match within one name, as a shell's do; a name that holds brackets and is
    there means itself. Raises NotFound if a pattern matches nothing; a path without a pattern is
    returned without a look whether it is there.
    """
    found = ["/"]
    parts = [part for part in pattern.split("/") if part]
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        matched = []
        for directory in found:
            async with aclosing(_matches(paths, directory, part, is_last=is_last)) as matches:
                matched += [path async for path in matches]
        found = matched
    if not found:
        raise NotFound(
            f"{visible(pattern)}: nothing matches this pattern; list what is there: up42fs ls "
            + (visible(posixpath.dirname(pattern.rstrip("/"))) or "/")
        )
    return found


async def _matches(
    paths: Paths, directory: str, part: str, *, is_last: bool
) -> AsyncGenerator[str, None]:
    literal = posixpath.join(directory, part)
    if not has_pattern(part):
        yield literal
        return
    if "*" not in part and "?" not in part and await _is_there(paths, literal):
        yield literal
        return
    try:
        entries = await paths.entries(directory)
    except (NotADirectory, NotFound):
        return
    for entry in entries:
        is_shown = not entry.name.startswith(".") or part.startswith(".")
        if is_shown and (is_last or entry.is_dir) and fnmatchcase(entry.name, part):
            yield posixpath.join(directory, entry.name)


async def _is_there(paths: Paths, path: str) -> bool:
    try:
        await paths.entries(path)
    except NotADirectory:
        return True
    except NotFound:
        return False
    return True


async def walk(
    paths: Paths,
    top: str,
    *,
    most_depth: int | None = None,
    on_error: Callable[[Up42fsError], None],
) -> AsyncGenerator[Found, None]:
    """Yield `top` and what is below it, directories before their contents, in listing order.

    `on_error` gets the error of a directory that cannot be listed, and the walk goes on. Raises an
    `Up42fsError` if `top` itself cannot be looked up.
    """
    start = Found(top, 0, await paths.stat(top))
    waiting = [start]
    while waiting:
        found = waiting.pop()
        yield found
        if not found.is_dir or found.depth == most_depth:
            continue
        try:
            listing = await paths.listing(found.path)
        except Up42fsError as error:
            on_error(error)
            continue
        depth = found.depth + 1
        below = [
            Found(posixpath.join(found.path, name), depth, attributes)
            for name, attributes in listing.items()
        ]
        waiting += reversed(below)


async def with_sizes(
    paths: Paths,
    found: Sequence[Found],
    on_error: Callable[[Up42fsError], None],
    *,
    will_read: bool = False,
) -> list[Found]:
    """The entries with all sizes known: those that UP42 does not report cost two requests each.

    With `will_read` the heads of these files come, too. An entry whose size cannot be learned is
    left out, after `on_error` got the reason.
    """
    learned: list[Found | None] = list(found)
    limit = trio.CapacityLimiter(SIZES_AT_ONCE)

    async def learn(place: int) -> None:
        entry = found[place]
        async with limit:
            try:
                learned[place] = entry._replace(
                    attributes=await paths.stat(entry.path, will_read=will_read)
                )
            except Up42fsError as error:
                learned[place] = None
                on_error(error)

    async with trio.open_nursery() as nursery:
        for place, entry in enumerate(found):
            if not entry.is_size_known:
                nursery.start_soon(learn, place)
    return [entry for entry in learned if entry is not None]


async def in_groups(walking: AsyncGenerator[Found, None], most: int) -> AsyncIterator[list[Found]]:
    """The entries of a walk in groups of up to `most`, none held back at the end."""
    group: list[Found] = []
    async with aclosing(walking):
        async for found in walking:
            group.append(found)
            if len(group) == most:
                yield group
                group = []
    if group:
        yield group

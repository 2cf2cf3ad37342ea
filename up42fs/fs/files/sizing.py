"""Learns the sizes of a directory's files ahead of need: a byte each, a few at a time.

Knows directories and their files; `sizes` fetches and keeps what is learned. `up42fs warm --sizes`
asks for this in one directory after another.

At most `AT_ONCE` links are asked for at a time, over all calls: UP42's limit of requests is shared
with programs that read, whose links wait behind those in the queue. A call begins no more sizes
after `LONGEST_S` and says how many are left, so that its caller can show progress, and stop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import trio

from up42fs.errors import NotFound, Up42fsError
from up42fs.fs.files.sizes import Sizes
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import LINKED_KINDS, Node

log = logging.getLogger(__name__)

#: Sizes that are asked for at the same time.
AT_ONCE = 4
#: How long one call goes on, seconds: with the last size less than a call may take.
LONGEST_S = 2.0
#: Files that fail before a call gives up.
MOST_FAILED = 20


@dataclass(slots=True)
class Sized:
    """The files of a directory, those `left` without a size, and those that `failed` just now."""

    files: int
    left: int
    failed: int = 0

    def describe(self) -> dict[str, int]:
        """As JSON shows it: short, since a longer value makes Python ask twice."""
        return asdict(self)


class Sizing:
    """Learns sizes for the directories of one tree."""

    def __init__(self, sizes: Sizes, layout: Layout) -> None:
        self._sizes = sizes
        self._layout = layout
        self._limit = trio.CapacityLimiter(AT_ONCE)

    async def unknown(self, directory: Node, name: str = "") -> Sized:
        """Count the files of a directory, or the one of a name; raises NotFound."""
        files = await self._files(directory, name)
        return Sized(len(files), sum(map(self._lacks, files)))

    async def learn(self, directory: Node, name: str = "") -> Sized:
        """Learn the sizes of a directory's files, or of the one of a name; raises NotFound."""
        files = await self._files(directory, name)
        unknown = [node for node in files if self._lacks(node)]
        sized, nodes = Sized(len(files), 0), iter(unknown)
        until_s = trio.current_time() + LONGEST_S
        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(unknown))):
                nursery.start_soon(self._take, nodes, sized, until_s)
        sized.left = sum(map(self._lacks, unknown))
        return sized

    async def _take(self, nodes: Iterator[Node], sized: Sized, until_s: float) -> None:
        for node in nodes:
            async with self._limit:
                try:
                    await self._sizes.ensure(node, alone=True, head=False)
                except Up42fsError as error:
                    log.warning("a size stays unknown: %s", error)
                    sized.failed += 1
            if sized.failed >= MOST_FAILED or trio.current_time() >= until_s:
                return

    async def _files(self, directory: Node, name: str) -> list[Node]:
        await self._layout.prepare(directory)
        children = self._layout.children(directory)
        if name and name not in children:
            raise NotFound(f"there is no {name} in this directory")
        nodes = [children[name]] if name else dict.fromkeys(children.values())
        return [node for node in nodes if node.kind in LINKED_KINDS]

    def _lacks(self, node: Node) -> bool:
        try:
            return self._sizes.known(node) is None
        except LookupError:
            return False  # it has left the storage

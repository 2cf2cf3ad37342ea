"""`up42fs __complete`: the remote paths that a shell's completion offers.

It is called with each press of the tab key: it asks UP42 for one listing at most, for a short time,
and fails silently.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from up42fs.cli.remote.session import SETTINGS
from up42fs.errors import Up42fsError

if TYPE_CHECKING:
    from up42fs.engine import Engine
    from up42fs.engine.paths import Entry

#: A completion that takes longer helps nobody, seconds.
TIMEOUT_S = 4.0
#: The top level is known but for two names, so it is not waited for as long.
TOP_TIMEOUT_S = 1.5


def main(words: list[str]) -> int:
    """Print the paths that begin with the last of `words`, a line each; return 0."""
    import argparse
    import logging

    import trio

    from up42fs.cli.options import settings_of
    from up42fs.cli.terminal import say
    from up42fs.engine import Engine

    logging.getLogger("up42fs").addHandler(logging.NullHandler())
    typed = unquoted(words[-1]) if words else ""

    async def work() -> None:
        options = argparse.Namespace(config=None, **dict.fromkeys(SETTINGS))
        with trio.move_on_after(TIMEOUT_S):
            async with Engine.open(settings_of(options), on_demand=True) as engine:
                for path in await candidates(engine, typed):
                    if path.isprintable():
                        say(path)

    with suppress(Up42fsError, OSError):
        trio.run(work)
    return 0


def unquoted(word: str) -> str:
    """The text that a shell's word means so far: `Ordre\\ 7`, `"Ordre 7`."""
    for end in ("", '"', "'"):
        with suppress(ValueError):
            return "".join(shlex.split(word + end))
    return word


async def _top(engine: Engine) -> list[Entry]:
    import trio

    if engine.index.is_complete:  # it was listed before: a press of a key asks for no news of that
        return engine.known_at_top()
    with suppress(Up42fsError, trio.TooSlowError), trio.fail_after(TOP_TIMEOUT_S):
        return await engine.entries("/")
    return engine.known_at_top()


async def candidates(engine: Engine, typed: str) -> list[str]:
    """The paths that begin as typed, with a slash after directories."""
    directory, slash, start = typed.rpartition("/")
    entries = await (engine.entries("/" + directory.strip("/")) if directory else _top(engine))
    return [
        directory + slash + entry.name + ("/" if entry.is_dir else "")
        for entry in entries
        if entry.name.startswith(start)
    ]

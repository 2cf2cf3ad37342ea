"""Common to commands without a mount: account, paths, errors that do not end the command.

A command handles its paths one after another. A path that fails costs one line on standard error
and an exit status of 1; the others go on.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

from up42fs.cli import keeping
from up42fs.cli.options import (
    ACCOUNT,
    Subparsers,
    add_command,
    add_options,
    path_argument,
    settings_of,
)
from up42fs.cli.terminal import say
from up42fs.errors import NotFound, Up42fsError, UsageError

if TYPE_CHECKING:
    from up42fs.engine import Engine
    from up42fs.engine.walk import Found

#: The settings that these commands know.
SETTINGS = ACCOUNT | {
    *("cache_dir", "cache_size", "memory", "max_egress"),
    *("archives", "orders", "documents", "names", "footprints", "previews"),
}
#: The directories in which a command's paths lie, for its help.
PATHS = (
    "REMOTE_PATH is as in a mount: orders/NAME/FILE, assets/ID, tags/TAG, search/cloud<10;\n"
    "quote *, ? and < for the shell."
)


def add_remote_command(
    commands: Subparsers[argparse.ArgumentParser],
    name: str,
    description: str,
    *lines: str,
) -> argparse.ArgumentParser:
    """Add a command with the options for the account; `lines` are its examples."""
    description = f"{description} Needs no mount.\n{PATHS}"
    return add_command(commands, name, description, *lines)


def add_account(parser: argparse.ArgumentParser) -> None:
    """Add the options for account and cache, after the command's own."""
    add_options(parser, SETTINGS)


def add_paths(parser: argparse.ArgumentParser, nargs: str = "+") -> None:
    """Add the paths."""
    parser.add_argument("paths", nargs=nargs, type=path_argument, metavar="REMOTE_PATH")


def add_json(parser: argparse.ArgumentParser, what: str = "path") -> None:
    """Add `--json`."""
    parser.add_argument(
        "--json", action="store_true", help=f"an object for each {what}, a line each"
    )


class Failures:
    """Errors that a command reports and survives."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: BaseException) -> None:
        """Report an error; for a path that does not exist, say how to list what is there."""
        self.count += 1
        sys.stdout.flush()
        cure = ""
        if isinstance(error, NotFound) and "up42fs ls" not in str(error):
            place = _lowest_place(str(error))
            if place != "search":  # it lists nothing, and the message says what would be right
                cure = f"; to see what is there: up42fs ls {quote(place)}".removesuffix(" ''")
        say(f"up42fs: {error}{cure}", to_error=True)

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.count else 0


def _lowest_place(message: str) -> str:
    """The directory that lacks a name; `message` begins with the path, as `Paths` has it."""
    path, _, why = message.partition(": ")
    if not path.startswith("/"):
        return ""
    names = path.strip("/").split("/")
    for count in range(len(names), 0, -1):
        if why == f"there is no {names[count - 1]}":
            return "/".join(names[: count - 1])
    return "/".join(names[:-1])


def run(options: argparse.Namespace, work: Callable[[Engine, Failures], Awaitable[None]]) -> int:
    """Run `work` on the account's storage; return the exit status. Raises an `Up42fsError`."""
    import trio

    from up42fs.engine import Engine
    from up42fs.logs import RedactingFormatter
    from up42fs.supervise import leaves

    if options.archives is None and getattr(options, "recursive", False):
        # What goes down into all directories would read each archive's, and copy its bytes twice.
        options.archives = "hidden"
    settings, notes = keeping.kept(settings_of(options), os.environ)
    for note in notes:
        say(f"up42fs: {note}", to_error=True)
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("up42fs: %(message)s"))
    logging.getLogger("up42fs").handlers[:] = [handler]
    logging.getLogger("up42fs").setLevel(logging.WARNING)
    failures = Failures()

    async def main() -> None:
        async with Engine.open(settings, on_demand=True) as engine:
            await work(engine, failures)

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        # Ctrl-C, or a reader of the output that has left, while several tasks ran.
        told = list(leaves(group))
        chosen = [e for e in told if isinstance(e, KeyboardInterrupt | OSError | Up42fsError)]
        raise (chosen or told)[0] from None
    return failures.status


def for_each(
    options: argparse.Namespace, work: Callable[[Engine, str, str, Failures], Awaitable[None]]
) -> int:
    """Run `work` on each path, with the word that shows it; a failure ends none of the others."""

    async def main(engine: Engine, failures: Failures) -> None:
        async for path, shown in each(engine, options.paths or ["/"], failures):
            try:
                await work(engine, path, shown, failures)
            except Up42fsError as error:
                failures(error)

    return run(options, main)


async def each(
    engine: Engine, patterns: Sequence[str], failures: Failures
) -> AsyncIterator[tuple[str, str]]:
    """The absolute paths that the user's paths mean, each with the word that shows it."""
    from up42fs.engine.walk import has_pattern, resolve

    for pattern in patterns:
        try:
            found = await resolve(engine, pattern)
        except Up42fsError as error:
            failures(error)
            continue
        for path in found:
            yield path, path.lstrip("/") if has_pattern(pattern) else pattern


def entry_of(found: Found, shown: str) -> dict[str, Any]:
    """An entry as the JSON of all these commands shows it."""
    attributes = found.attributes
    return {
        "path": shown,
        "type": "directory" if found.is_dir else "file",
        "size": attributes.size if found.is_size_known and not found.is_dir else None,
        "modified": moment(attributes.mtime_ns),
    }


def moment(time_ns: int) -> str:
    """A time as text: RFC 3339 in UTC, to the second."""
    # Not strftime: its %Y has fewer than four digits for early years.
    told = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return told.isoformat(timespec="seconds").replace("+00:00", "Z")


def byte_range(text: str) -> tuple[int | None, int | None]:
    """Parse `A-B`, `A-` or `-N`: first and last byte, to the end, or the last N bytes."""
    first, dash, last = text.partition("-")
    try:
        if not dash:
            raise ValueError
        start = int(first) if first else None
        stop = int(last) if last else None
    except ValueError:
        start = stop = None
    if (start is None and stop is None) or (
        start is not None and stop is not None and stop < start
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no range: 0-99 for the first hundred bytes, 100- for the rest, "
            "-100 for the last hundred"
        )
    return start, stop


def span_of(wanted: tuple[int | None, int | None], size: int) -> tuple[int, int]:
    """The half-open span of a parsed range within `size` bytes, or UsageError beyond the end."""
    first, last = wanted
    if first is None:
        return max(0, size - (last or 0)), size
    if first >= size and size:
        raise UsageError(f"the range begins at byte {first}, and the file has {size} bytes")
    return first, size if last is None else min(last + 1, size)

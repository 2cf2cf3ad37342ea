"""`up42fs ls`: lists directories of the storage."""

from __future__ import annotations

import argparse
import posixpath
from typing import TYPE_CHECKING

from up42fs.cli.options import Subparsers
from up42fs.cli.remote.session import (
    Failures,
    add_account,
    add_json,
    add_paths,
    add_remote_command,
    each,
    entry_of,
    moment,
    run,
)
from up42fs.cli.terminal import say, say_json
from up42fs.errors import NotADirectory, Up42fsError

if TYPE_CHECKING:
    from up42fs.engine import Engine
    from up42fs.engine.walk import Found

#: Entries whose sizes are learned together, and which are then printed.
GROUP = 64


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "ls",
        "List what a directory of the storage holds, a name a line, with / after directories.",
        "up42fs ls orders",
        "up42fs ls -l 'orders/Berlin*'",
        "up42fs ls --json --recursive orders/Berlin | jq -r .path",
        "up42fs ls 'search/cloud<10'",
    )
    add_paths(parser, "*")
    parser.add_argument(
        "-l", "--long", action="store_true", help="sizes in bytes and times of change, too"
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="all that is below, too")
    parser.add_argument("-d", "--directory", action="store_true", help="the paths themselves")
    add_json(parser, "entry")
    add_account(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """List; return 0, or 1 if a path could not be listed."""

    async def work(engine: Engine, failures: Failures) -> None:
        patterns = options.paths or ["/"]
        found = [pair async for pair in each(engine, patterns, failures)]
        for path, shown in found:
            prefix = shown.rstrip("/") if len(found) > 1 or options.directory else ""
            try:
                await _list(engine, path, prefix, shown, options, failures)
            except Up42fsError as error:
                failures(error)

    return run(options, work)


async def _list(
    engine: Engine,
    path: str,
    prefix: str,
    shown: str,
    options: argparse.Namespace,
    failures: Failures,
) -> None:
    from up42fs.engine.walk import in_groups, walk, with_sizes

    if not (options.long or options.json or options.recursive or options.directory):
        await _names(engine, path, prefix, shown)
        return
    most = 0 if options.directory else None if options.recursive else 1
    walking = walk(engine, path, most_depth=most, on_error=failures)
    async for group in in_groups(walking, GROUP):
        listed: list[Found] = [
            entry
            for entry in group
            if entry.depth or not entry.is_dir or options.directory  # not the directory itself
        ]
        if options.long:
            listed = await with_sizes(engine, listed, failures)
        for entry in listed:
            below = posixpath.relpath(entry.path, path) if entry.depth else ""
            name = posixpath.join(prefix, below) if below else shown
            _show(entry, name, options)


async def _names(engine: Engine, path: str, prefix: str, shown: str) -> None:
    """Names alone: a listing knows them, where attributes of the directory cost more."""
    try:
        entries = await engine.entries(path)
    except NotADirectory:
        say(shown)
        return
    for entry in entries:
        say(posixpath.join(prefix, entry.name) + ("/" if entry.is_dir else ""))


def _show(entry: Found, name: str, options: argparse.Namespace) -> None:
    if options.json:
        say_json(entry_of(entry, name), indent=None)
        return
    name = name.rstrip("/") + ("/" if entry.is_dir else "")
    if not options.long:
        say(name)
        return
    size = "-" if entry.is_dir else str(entry.attributes.size)
    say(f"{size:>12}  {moment(entry.attributes.mtime_ns)}  {name}")

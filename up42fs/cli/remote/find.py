"""`up42fs find`: finds entries of the storage by the tests of find(1) that make sense for it."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from up42fs.cli.options import Subparsers
from up42fs.cli.remote.ls import GROUP
from up42fs.cli.remote.session import (
    Failures,
    add_account,
    add_json,
    add_paths,
    add_remote_command,
    entry_of,
    for_each,
)
from up42fs.cli.terminal import say, say_json

if TYPE_CHECKING:
    from up42fs.engine import Engine
    from up42fs.engine.walk import Found

#: A test of a size in bytes.
SizeTest = Callable[[int], bool]

_UNITS = {"c": 1, "": 512, "b": 512, "w": 2, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "find",
        "Print what lies below the paths and passes all tests, which are those of find(1).",
        "up42fs find orders/Berlin -name '*.tif'",
        "up42fs find orders -type d -maxdepth 1",
        "up42fs find assets -size +1G -newermt 2026-05-01 --json",
    )
    add_paths(parser, "*")
    parser.add_argument("-name", metavar="GLOB", help="the name matches, as in a shell")
    parser.add_argument("-iname", metavar="GLOB", help="the same, in any case")
    parser.add_argument("-path", metavar="GLOB", help="the path as it is printed matches")
    parser.add_argument("-type", choices=("f", "d"), help="f: a file; d: a directory")
    parser.add_argument("-mindepth", type=_depth, metavar="N", help="at least N below the path")
    parser.add_argument("-maxdepth", type=_depth, metavar="N", help="at most N below the path")
    parser.add_argument(
        "-size",
        type=size_test,
        metavar="[+-]N[cwbkMGT]",
        help="rounded up, in units of 512 bytes or of the one given: that many, more (+), less (-)",
    )
    parser.add_argument(
        "-newer", type=_file_time, metavar="FILE", help="changed after a file of this machine"
    )
    parser.add_argument(
        "-newermt", type=_time, metavar="TIME", help="changed after 2026-05-01 or 2026-05-01T12:00"
    )
    parser.add_argument("-print0", action="store_true", help="for xargs -0")
    add_json(parser, "entry")
    add_account(parser)
    parser.set_defaults(command=main, recursive=True)


def _depth(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of levels")
    return int(text)


def size_test(text: str) -> SizeTest:
    """The test that find(1) means by `-size TEXT`."""
    match = re.fullmatch(r"([+-]?)(\d{1,18})([cwbkMGT]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size like +10M, -1k or 0")
    wanted, unit = int(match[2]), _UNITS[match[3]]

    def test(size: int) -> bool:
        units = -(-size // unit)
        return {"+": units > wanted, "-": units < wanted, "": units == wanted}[match[1]]

    return test


def _file_time(text: str) -> int:
    try:
        return os.stat(text).st_mtime_ns  # noqa: PTH116
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None


def _time(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2026-05-01") from None
    when = when if when.tzinfo else when.astimezone()
    return int(when.astimezone(UTC).timestamp()) * 10**9


def main(options: argparse.Namespace) -> int:
    """Find; return 0, or 1 if something could not be looked at."""

    async def work(engine: Engine, path: str, shown: str, failures: Failures) -> None:
        await _find(engine, path, shown, options, failures)

    return for_each(options, work)


async def _find(
    engine: Engine, path: str, shown: str, options: argparse.Namespace, failures: Failures
) -> None:
    from up42fs.engine.walk import in_groups, walk, with_sizes

    walking = walk(engine, path, most_depth=options.maxdepth, on_error=failures)
    async for group in in_groups(walking, GROUP):
        named = [(entry, _shown(entry, path, shown)) for entry in group]
        kept = [(entry, name) for entry, name in named if passes(entry, name, options)]
        if options.size is not None:
            sized = await with_sizes(
                engine, [entry for entry, _ in kept if not entry.is_dir], failures
            )
            names = {entry.path: name for entry, name in kept}
            kept = [
                (entry, names[entry.path]) for entry in sized if options.size(entry.attributes.size)
            ]
        for entry, name in kept:
            _print(entry, name, options)


def _shown(entry: Found, top: str, shown: str) -> str:
    if not entry.depth:
        return shown
    return posixpath.join(shown, posixpath.relpath(entry.path, top))


def passes(entry: Found, shown: str, options: argparse.Namespace) -> bool:
    """Whether an entry passes all tests except the one of its size."""
    changed_ns = entry.attributes.mtime_ns
    name = entry.name or "/"
    return (
        entry.depth >= (options.mindepth or 0)
        and (options.type is None or entry.is_dir == (options.type == "d"))
        and (options.name is None or fnmatchcase(name, options.name))
        and (options.iname is None or fnmatchcase(name.lower(), options.iname.lower()))
        and (options.path is None or fnmatchcase(shown, options.path))
        and (options.newer is None or changed_ns > options.newer)
        and (options.newermt is None or changed_ns > options.newermt)
    )


def _print(entry: Found, shown: str, options: argparse.Namespace) -> None:
    if options.json:
        say_json(entry_of(entry, shown), indent=None)
    elif options.print0:
        sys.stdout.buffer.write(os.fsencode(shown) + b"\0")
    else:
        say(shown)

"""`up42fs cp`: copies files of the storage to this machine."""

from __future__ import annotations

import argparse
import posixpath
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from up42fs.cli.options import Subparsers, path_argument
from up42fs.cli.progress import progress
from up42fs.cli.remote.session import (
    Failures,
    add_account,
    add_paths,
    add_remote_command,
    each,
    run,
)
from up42fs.cli.terminal import say_json
from up42fs.config.options import expand_home
from up42fs.errors import IsADirectory, Up42fsError, UsageError
from up42fs.visible import visible

if TYPE_CHECKING:
    import trio

    from up42fs.cli.remote.targets import Copy
    from up42fs.engine import Engine

#: Files that are copied at the same time; each is read ahead of by several transfers.
JOBS = 4


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "cp",
        "Copy files, with -r directories. Copies that were stopped go on where they were; files\n"
        "that are here already, by size and time of change, are left as they are.",
        "up42fs cp orders/Berlin/delivery.zip .",
        "up42fs cp -r orders/Berlin ~/imagery",
        "up42fs cp 'tags/basemap/*.tif' ~/imagery/",
    )
    add_paths(parser)
    parser.add_argument("target", type=path_argument, metavar="DST", help="a path of this machine")
    parser.add_argument("-r", "-R", "--recursive", action="store_true", help="directories, too")
    parser.add_argument(
        "-n", "--no-clobber", action="store_true", help="leave every file that is here as it is"
    )
    parser.add_argument("-f", "--force", action="store_true", help="copy what is here already, too")
    parser.add_argument(
        "-j",
        "--jobs",
        type=_jobs,
        default=JOBS,
        metavar="N",
        help=f"files at once (default {JOBS})",
    )
    parser.add_argument("--json", action="store_true", help="an object for each file, a line each")
    add_account(parser)
    parser.set_defaults(command=main)


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 64")
    return int(text)


def main(options: argparse.Namespace) -> int:
    """Copy; return 0, or 1 if a file could not be copied. Raises UsageError."""
    if options.target == "-":
        raise UsageError("to write to standard output: up42fs cat PATH")
    return run(options, partial(_copy, options))


async def _copy(options: argparse.Namespace, engine: Engine, failures: Failures) -> None:
    import trio

    copies = await _plan(options, engine, failures)
    limit = trio.CapacityLimiter(options.jobs)
    with progress("copying", sum(copy.size or 0 for copy in copies)) as advance:
        async with trio.open_nursery() as nursery:
            for copy in copies:
                await limit.acquire_on_behalf_of(copy)
                nursery.start_soon(_one, options, engine, copy, advance, failures, limit)


async def _plan(options: argparse.Namespace, engine: Engine, failures: Failures) -> list[Copy]:
    from up42fs.cli.remote.targets import target_of

    sources = [path async for path, _ in each(engine, options.paths, failures)]
    target = expand_home(options.target)
    into = target_of(target, sources, ends_with_slash=options.target.endswith("/"))
    copies: dict[Path, Copy] = {}
    for path in sources:
        base = target / posixpath.basename(path) if into else target
        try:
            found = await _below(options, engine, path, base, failures)
        except Up42fsError as error:
            failures(error)
            continue
        for copy in found:
            if copy.local in copies:
                failures(
                    UsageError(
                        f"{visible(copy.remote)} is left out: {visible(copies[copy.local].remote)} "
                        "has the same name; copy it to another directory"
                    )
                )
            copies.setdefault(copy.local, copy)
    return list(copies.values())


async def _below(
    options: argparse.Namespace, engine: Engine, path: str, base: Path, failures: Failures
) -> list[Copy]:
    import trio

    from up42fs.cli.remote.targets import Copy, below
    from up42fs.engine.walk import walk, with_sizes

    found = [entry async for entry in walk(engine, path, most_depth=0, on_error=failures)]
    if found[0].is_dir:
        if not options.recursive:
            raise IsADirectory(f"{visible(path)} is a directory; to copy it: up42fs cp -r")
        found = [entry async for entry in walk(engine, path, on_error=failures)]
        await trio.to_thread.run_sync(partial(base.mkdir, parents=True, exist_ok=True))
    files = [entry for entry in found if not entry.is_dir]
    files = await with_sizes(engine, files, failures, will_read=True)
    return [
        Copy(
            entry.path,
            below(path, entry.path, base),
            entry.attributes.size,
            entry.attributes.mtime_ns,
        )
        for entry in files
    ]


async def _one(
    options: argparse.Namespace,
    engine: Engine,
    copy: Copy,
    advance: Callable[[int], None],
    failures: Failures,
    limit: trio.CapacityLimiter,
) -> None:
    from up42fs.cli.remote.copying import fetch, is_copied

    said: dict[str, Any] = {"path": copy.remote, "target": str(copy.local), "size": copy.size}
    try:
        is_kept = copy.local.exists() if options.no_clobber else is_copied(copy)
        if is_kept and not options.force:
            advance(copy.size or 0)
            said["done"] = "kept"
        else:
            resumed = await fetch(engine, copy, advance)
            said |= {"done": "copied", "resumed_at": resumed}
        if options.json:
            say_json(said, indent=None)
    except Up42fsError as error:
        failures(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        failures(OSError(f"{visible(str(copy.local))}: {error.strerror}; run it again to go on"))
    finally:
        limit.release_on_behalf_of(copy)

"""`up42fs cat`: writes files of the storage to standard output."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from up42fs.cli.options import Subparsers
from up42fs.cli.remote.session import (
    Failures,
    add_account,
    add_paths,
    add_remote_command,
    byte_range,
    each,
    run,
    span_of,
)
from up42fs.errors import Up42fsError

if TYPE_CHECKING:
    from up42fs.engine import Engine

#: Bytes of one read: the engine reads ahead while they are written.
PIECE_BYTES = 1 << 20


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "cat",
        "Write files, or a range of bytes of each, to standard output.",
        "up42fs cat orders/Berlin/item.json | jq .",
        "up42fs cat --range 0-15 assets/scene.tif | xxd",
    )
    add_paths(parser)
    parser.add_argument(
        "-r",
        "--range",
        type=byte_range,
        metavar="A-B",
        help="only the bytes A to B, both included; A- to the end, -N the last N",
    )
    add_account(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Write the files; return 0, or 1 if one could not be read."""

    async def work(engine: Engine, failures: Failures) -> None:
        async for path, _ in each(engine, options.paths, failures):
            try:
                await _write(engine, path, options.range)
            except Up42fsError as error:
                failures(error)

    return run(options, work)


async def _write(engine: Engine, path: str, wanted: tuple[int | None, int | None] | None) -> None:
    import trio

    from up42fs.readahead.tuning import Reading

    # A range fetches its own bytes; a whole file is read ahead.
    reading = Reading.EXACT if wanted else Reading.WHOLE
    async with engine.opened(path, program="up42fs cat", reading=reading) as file:
        at, stop = span_of(wanted, file.size) if wanted else (0, file.size)
        while at < stop:
            data = await file.read(at, min(PIECE_BYTES, stop - at))
            # A reader that is slow must not keep the transfers from going on.
            await trio.to_thread.run_sync(sys.stdout.buffer.write, bytes(data))
            at += len(data)
    sys.stdout.buffer.flush()

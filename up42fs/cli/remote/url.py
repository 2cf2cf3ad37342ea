"""`up42fs url`: prints presigned links to files of the storage."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from up42fs.cli.options import Subparsers
from up42fs.cli.remote.session import (
    Failures,
    add_account,
    add_paths,
    add_remote_command,
    each,
    run,
)
from up42fs.cli.terminal import say, say_json
from up42fs.errors import ConfigurationError, NoAttribute, Up42fsError
from up42fs.visible import visible

if TYPE_CHECKING:
    from up42fs.engine import Engine

_LINK = "user.up42.download_url"


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "url",
        "print presigned links to files, without a mount",
        "Print a fresh link to each file. Anybody who has it can read the file for about five\n"
        "minutes, without an account.",
        "up42fs url orders/Berlin/delivery.zip",
        "curl -O $(up42fs url orders/Berlin/delivery.zip)",
        "gdalinfo /vsicurl/$(up42fs url assets/scene.tif)",
    )
    add_paths(parser)
    parser.add_argument("--json", action="store_true", help="an object for each path, a line each")
    add_account(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Print the links; return 0, or 1 if one could not be made."""

    async def work(engine: Engine, failures: Failures) -> None:
        async for path, shown in each(engine, options.paths, failures):
            try:
                link = (await engine.attribute(path, _LINK)).decode()
            except NoAttribute:
                failures(
                    ConfigurationError(
                        f"{visible(shown)} has no link: only delivered files have one; "
                        f"see what is below it: up42fs find {visible(shown)} -type f"
                    )
                )
            except Up42fsError as error:
                failures(error)
            else:
                if options.json:
                    say_json({"path": shown, "url": link}, indent=None)
                else:
                    say(link)

    return run(options, work)

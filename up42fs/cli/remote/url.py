"""`up42fs url`: prints addresses of files: of a running server, else presigned links."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from up42fs.cli.options import Subparsers
from up42fs.cli.remote.session import (
    Failures,
    add_account,
    add_json,
    add_paths,
    add_remote_command,
    for_each,
)
from up42fs.cli.terminal import say, say_json
from up42fs.errors import ConfigurationError, NoAttribute
from up42fs.visible import visible

if TYPE_CHECKING:
    from up42fs.engine import Engine
    from up42fs.serve.records import ServerRecord

_LINK = "user.up42.download_url"


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "url",
        "Print the address of each file. While up42fs serve runs on this machine for this\n"
        "account, it is that server's and does not expire. Else it is a presigned link: anybody\n"
        "who has it can read the file for about five minutes, without an account.",
        "up42fs url orders/Berlin/delivery.zip",
        "curl -LO $(up42fs url orders/Berlin/delivery.zip)",
        "gdalinfo /vsicurl/$(up42fs url assets/scene.tif)",
        "up42fs url --presigned assets/scene.tif",
    )
    add_paths(parser)
    add_json(parser)
    parser.add_argument(
        "--presigned", action="store_true", help="a link of UP42, also while a server runs"
    )
    add_account(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Print the addresses; return 0, or 1 if one of them failed."""
    server: ServerRecord | None = None

    async def work(engine: Engine, path: str, shown: str, _: Failures) -> None:
        nonlocal server
        server = server or (None if options.presigned else _server_of(engine))
        url = (
            await _link(engine, path, shown) if server is None else await _at(engine, path, server)
        )
        if options.json:
            say_json({"path": shown, "url": url, "server": server and server.address}, indent=None)
        else:
            say(url)

    status = for_each(options, work)
    if server is not None and server.token_file is not None:
        say(f"up42fs: clients must send the token in {server.token_file}", to_error=True)
    return status


async def _link(engine: Engine, path: str, shown: str) -> str:
    try:
        return (await engine.attribute(path, _LINK)).decode()
    except NoAttribute:
        raise ConfigurationError(
            f"{visible(shown)} has no link: only delivered files have one; "
            f"see what is below it: up42fs find {visible(shown)} -type f"
        ) from None


async def _at(engine: Engine, path: str, server: ServerRecord) -> str:
    from up42fs.serve.addresses import joined

    async with engine.at(path) as place:
        return joined(server.address, path, is_dir=place.attributes.is_dir)


def _server_of(engine: Engine) -> ServerRecord | None:
    """The running server of the engine's account that began last."""
    from up42fs.serve import records

    settings = engine.settings
    told = (settings.api, settings.username, settings.workspace)
    return next((record for record in records.running() if record.is_of(*told)), None)

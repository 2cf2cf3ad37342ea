"""`up42fs info`: what UP42 knows of an order, an asset or a file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from up42fs.cli.options import Subparsers
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

_PREFIX = "user.up42."


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_remote_command(
        commands,
        "info",
        "Tell size, times, and what getfattr tells of the same path in a mount.",
        "up42fs info orders/Berlin",
        "up42fs info --json 'orders/Berlin/*' | jq -r .attributes.cnam_status",
    )
    add_paths(parser)
    add_json(parser)
    add_account(parser)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Tell about each path; return 0, or 1 if one is not there."""
    is_first = True

    async def work(engine: Engine, path: str, shown: str, _: Failures) -> None:
        nonlocal is_first
        document = await _document(engine, path, shown)
        if options.json:
            say_json(document, indent=None)
            return
        if not is_first:
            say("")
        is_first = False
        _tell(document)

    return for_each(options, work)


async def _document(engine: Engine, path: str, shown: str) -> dict[str, Any]:
    from up42fs.engine.walk import Found

    document = entry_of(Found(path, 0, await engine.stat(path, will_read=False)), shown)
    attributes = await engine.attributes(path)
    document["attributes"] = {
        name.removeprefix(_PREFIX): value.decode(errors="replace")
        for name, value in attributes.items()
        if name.startswith(_PREFIX)
    }
    return document


def _tell(document: dict[str, Any]) -> None:
    facts = {name: document[name] for name in ("type", "size", "modified")} | document["attributes"]
    say(document["path"])
    for name, value in facts.items():
        if value is not None:
            say(f"  {name:<16} {value}")

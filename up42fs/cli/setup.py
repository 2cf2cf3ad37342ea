"""`up42fs setup`: puts manual pages, completions, units and helpers where the system looks."""

from __future__ import annotations

import argparse

from up42fs.cli.options import Subparsers, add_command, add_json
from up42fs.cli.terminal import say, say_json
from up42fs.errors import ConfigurationError
from up42fs.setup import command
from up42fs.setup.plan import SetupError


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "setup",
        "Put what goes with up42fs where the system looks for it: the command, manual pages,\n"
        "completions, systemd units, a menu entry; for all users also the helper of mount(8)\n"
        "and a udev rule. Keeps a list of it, and --remove removes exactly that.",
        "up42fs setup --at-login",
        "sudo /opt/up42fs/bin/up42fs setup",
        "up42fs setup --remove",
    )
    command.add_arguments(parser)
    add_json(parser, "what was done as a JSON document")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Set up or remove; raises ConfigurationError if nothing was changed."""
    lines: list[str] = []

    def keep(*said: str) -> None:
        lines.extend(said)

    try:
        status = command.main(options, keep if options.json else say)
        if options.json:
            say_json({"is_done": status == 0, "messages": lines})
        return status
    except SetupError as error:
        raise ConfigurationError(str(error)) from None

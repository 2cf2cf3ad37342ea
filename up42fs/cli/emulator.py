"""`up42fs emulator`: runs the UP42 stand-in, whose packages are an extra of the installation."""

from __future__ import annotations

import argparse

from up42fs.cli.options import Subparsers, add_command
from up42fs.cli.terminal import say


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command; without the emulator's packages it can only say what is missing."""
    parser = add_command(
        commands,
        "emulator",
        "Serve sample storage, files of yours or generated rows as UP42 would, until\n"
        "Ctrl-C. Prints one JSON line: its addresses, and the environment for up42fs mount.",
        "up42fs emulator",
        "up42fs emulator --data ~/imagery --port 8042",
        "up42fs emulator --synthetic 100000,2000,50 --api-latency-s 0.1",
    )
    try:
        from up42fs.emulator import command
    except ModuleNotFoundError as error:
        missing = error.name
        parser.set_defaults(command=lambda _: _missing(missing))
        return
    command.add_arguments(parser)
    parser.set_defaults(command=command.main)


def _missing(module: str | None) -> int:
    say(
        f"up42fs: the emulator needs the Python package {module}; run: pip install 'up42fs[demo]'",
        to_error=True,
    )
    return 1

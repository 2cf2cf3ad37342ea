"""Every command in the order of `--help`: the module that adds its parser, and what it does.

A start loads the module of its own command alone: all of them, with what they import, take longer
than most commands run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

Subparsers = argparse._SubParsersAction


class Command(NamedTuple):
    """A command: the words of `--help`, and the function of a module that adds its parser."""

    words: str
    module: str
    adder: str = "add_parser"

    def add_to(self, commands: Subparsers[argparse.ArgumentParser]) -> None:
        """Load the command and add its parser."""
        getattr(import_module(f"up42fs.cli.{self.module}"), self.adder)(commands)


COMMANDS: Mapping[str, Command] = {
    "login": Command("sign in once, for all mounts to come", "login"),
    "logout": Command("forget the account that signed in", "login", "add_logout_parser"),
    "accounts": Command("list who is signed in", "accounts"),
    "mount": Command("mount UP42 storage", "mount"),
    "ls": Command("list directories of the storage, without a mount", "remote.ls"),
    "find": Command("find files of the storage, without a mount", "remote.find"),
    "info": Command(
        "what UP42 knows of an order, an asset or a file, without a mount", "remote.info"
    ),
    "cat": Command("write files of the storage to standard output, without a mount", "remote.cat"),
    "cp": Command("copy files of the storage to this machine, without a mount", "remote.cp"),
    "url": Command("print addresses of files, without a mount", "remote.url"),
    "unmount": Command("take a mount away", "unmount"),
    "serve": Command("serve the storage over HTTP", "serve"),
    "status": Command("what a mount holds, did and costs", "status"),
    "log": Command("show what a mount logs", "log"),
    "explain": Command("what a file cost, and why", "explain"),
    "warm": Command("read files ahead of work, so that the cache has them", "warm.command"),
    "cache": Command("what is kept on disk: list, usage, clear, verify, pin, unpin", "cache"),
    "doctor": Command("find out what keeps up42fs from working well", "doctor"),
    "undo": Command("take back edits of titles and tags", "undo"),
    "thumbnail": Command("a thumbnail of a file, as file managers ask for it", "thumbnail.command"),
    "setup": Command(
        "put manual pages, completions, units and helpers where the system looks", "setup"
    ),
    "demo": Command("mount sample storage, no account needed", "demo"),
    "emulator": Command("run the UP42 stand-in alone", "emulator"),
}


def add_commands(commands: Subparsers[argparse.ArgumentParser], meant: str | None) -> None:
    """Add every command by its name, and the one that is `meant`, or all for None, with options."""
    for name, command in COMMANDS.items():
        if meant in (None, name):
            command.add_to(commands)
        else:
            commands.add_parser(name, help=command.words)

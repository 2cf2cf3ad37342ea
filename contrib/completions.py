"""Prints the completions of a shell, made from the command's own parser by shtab.

python contrib/completions.py bash|zsh|fish
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import shtab

from up42fs.cli.main import make_parser
from up42fs.config.settings import REGIONS

_DIRECTORIES = {"MOUNTPOINT", "DIR", "CACHE_DIR"}
_FILES = {"FILE", "PATH", "CREDENTIALS", "LOG_FILE"}


def completions(shell: str) -> str:
    """The script for `shell`."""
    parser = make_parser()
    for action in _actions(parser):
        if action.metavar in _DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "REGION":
            action.choices = list(REGIONS)
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


if __name__ == "__main__":
    print(completions(sys.argv[1]))

"""Prints the completions of a shell, made from the command's own parser by shtab.

python contrib/completions.py bash|zsh|fish
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import shtab

from up42fs.cli.main import make_parser
from up42fs.config.options import REGIONS

_DIRECTORIES = {"MOUNTPOINT", "DIR", "CACHE_DIR"}
#: Paths in the storage. Bash quotes what a function offers whose name speaks of files.
_REMOTE = {
    "bash": "_up42fs_remote_files",
    "zsh": "_up42fs_remote_files",
    "fish": "(up42fs __complete (commandline -ct) 2>/dev/null)",
}
_PREAMBLE = {
    "bash": '_up42fs_remote_files() {\n  up42fs __complete "$1" 2>/dev/null\n}',
    "zsh": "_up42fs_remote_files() {\n"
    "  local -a found\n"
    '  found=("${(@f)$(up42fs __complete "$PREFIX" 2>/dev/null)}")\n'
    "  compadd -S '' -- ${found:#}\n"
    "}",
}
_FILES = {"DST", "FILE", "PATH", "CREDENTIALS", "LOG_FILE"}


def completions(shell: str) -> str:
    """The script for `shell`."""
    parser = make_parser()
    for action in _actions(parser):
        if action.metavar in _DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "REMOTE_PATH":
            action.complete = _REMOTE  # type: ignore[attr-defined]
        elif action.metavar == "REGION":
            action.choices = list(REGIONS)
    return shtab.complete(parser, shell, preamble=_PREAMBLE.get(shell, ""))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


if __name__ == "__main__":
    print(completions(sys.argv[1]))

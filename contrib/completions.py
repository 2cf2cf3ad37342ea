"""Makes the completions of the shells from the command's own parser, by shtab.

python contrib/completions.py                   writes all to where the wheel carries them
python contrib/completions.py bash|zsh|fish     prints one
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

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


#: What a wheel carries; `up42fs setup` puts it where the shells look.
SHARE = Path(__file__).resolve().parent.parent / "up42fs/setup/share"
SHELLS = ("bash", "zsh", "fish")

if __name__ == "__main__":
    if sys.argv[1:]:
        print(completions(sys.argv[1]))
    else:
        for shell in SHELLS:
            (SHARE / f"up42fs.{shell}").write_text(completions(shell) + "\n", encoding="utf-8")

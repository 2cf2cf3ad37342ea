"""Runs what the documentation shows: blocks of commands, and sessions with their output.

    python contrib/doc_console.py PAGE...      runs the sessions of these pages in the demo, and
                                               writes into them what they print, where more
                                               than numbers has changed

A block ```sh is commands; a block ```console is a session: lines that begin with `$ ` are commands,
the lines after each are its output, where a line `…` stands for any number of lines. Before a block
there may be a comment: <!-- not run: it needs Docker --> where it cannot be run,
<!-- needs: rioxarray, dask --> where it is run if there are these Python packages, or
<!-- as in a terminal --> where it is run, but its output looks different there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- (?:not run: (?P<why>[^>]+)|needs: (?P<needs>[\w, ]+)|(?P<terminal>as in a terminal))"
    r" -->\n\n?)?"
    r"^```(?P<kind>sh|console)\n(?P<text>.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)
_MARK = "@@up42fs-doc@@"
#: What differs from run to run: numbers, and the units they come in.
_NUMBER = re.compile(r"\b0x[0-9a-f]+|\d+(?:[.,:]\d+)*(?:\s?(?:bytes|[kMG]?B|min|ms|s|h|d|%)\b)?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page; `why` it is not run, empty where it is; packages that it `needs`."""

    kind: str
    text: str
    why: str
    is_compared: bool
    needs: tuple[str, ...] = ()

    @property
    def commands(self) -> list[str]:
        """The commands of a session."""
        return [command for command, _ in self.steps()]

    def steps(self) -> Iterator[tuple[str, list[str]]]:
        """Commands of a session, each with the lines that are shown after it."""
        command: str | None = None
        lines: list[str] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                if command is not None:
                    yield command, lines
                command, lines = line[2:], []
            elif line:
                lines.append(line)
        if command is not None:
            yield command, lines


def blocks(page: str) -> list[Block]:
    """The blocks of commands and the sessions of a page."""
    return [
        Block(
            m["kind"],
            m["text"],
            m["why"] or "",
            m["terminal"] is None,
            tuple(filter(None, (m["needs"] or "").replace(",", " ").split())),
        )
        for m in _BLOCK.finditer(page)
    ]


def script_of(commands: list[str]) -> str:
    """A bash script that runs commands one after another, their outputs apart."""
    parts = [f"{{ {command}\n}} 2>&1; echo '{_MARK}'" for command in commands]
    return "\n".join(parts) + "\n"


def outputs_of(said: str) -> list[list[str]]:
    """The output of each command of the script, lines without trailing space, none empty."""
    pieces = said.split(_MARK + "\n")[:-1]
    return [[line.rstrip() for line in piece.splitlines() if line.strip()] for piece in pieces]


def is_like(shown: list[str], printed: list[str]) -> bool:
    """Whether what is shown is what was printed, but for numbers, and lines left out."""
    pattern = "".join(
        "(?:.*\n)*?" if line.strip() == "…" else re.escape(_plain(line)) + "\n" for line in shown
    )
    return re.fullmatch(pattern, "".join(_plain(line) + "\n" for line in printed)) is not None


def _plain(line: str) -> str:
    """A line without what differs from run to run; runs of cells and space count as one."""
    line = _NUMBER.sub("N", _UUID.sub("ID", line))
    return re.sub(r"[ ░▒▓█]+", " ", re.sub(r"/\S*/up42\b|~/up42\b|/tmp/\S+", "PLACE", line)).strip()


def renewed(shown: list[str], printed: list[str]) -> list[str]:
    """What the page is to show: the old text unless more than numbers has changed.

    So a run changes nothing where nothing has changed, and `…` stays where an author put it.
    """
    return shown if is_like(shown, printed) else printed


def _rewrite(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    sessions = [b for b in blocks(page) if b.kind == "console" and not b.why and b.is_compared]
    commands = [command for block in sessions for command in block.commands]
    printed = iter(outputs_of(_run_in_demo(commands)))
    for block in sessions:
        steps = []
        for command, shown in block.steps():
            steps.append("\n".join([f"$ {command}", *renewed(shown, next(printed))]))
        page = page.replace(block.text, "\n\n".join(steps) + "\n")
    path.write_text(page, encoding="utf-8")


def _run_in_demo(commands: list[str]) -> str:
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "HOME": home, "COLUMNS": "100"}
        # As in the tests: no line is to depend on how far the crawl for items has come.
        environ["UP42FS_CRAWL_AFTER_S"] = "3600"
        environ.pop("XDG_CACHE_HOME", None)
        place = f"{home}/up42"
        # The demo keeps its cache apart: here commands are to find it.
        prelude = (
            f"mkdir ~/.c && ln -s {_DEMO_CACHE} ~/.c/up42fs && export XDG_CACHE_HOME=$HOME/.c\n"
        )
        said = subprocess.run(
            ["up42fs", "demo", place, "--", "bash", "-c", prelude + script_of(commands)],
            env=environ,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        return said.replace(home, "~").replace("~/.c/", "~/.cache/")


_DEMO_CACHE = (
    "$(python3 -c 'import json; "
    'print(json.load(open(".up42fs/status.json"))["disk_cache"]["directory"])\')'
)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _rewrite(Path(name))

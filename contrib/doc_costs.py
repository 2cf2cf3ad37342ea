"""Counts what the commands in tables of costs cost, each in a mount of its own.

    python contrib/doc_costs.py PAGE...      writes what was counted into these pages
    python contrib/doc_costs.py --check PAGE...    says what differs; exit status 1 if anything does

Such a table begins with `| Command in the demo |`; in each row the first piece of code is a
command, run by bash at the top of the mount. What the commands have in common stands in a block of
the page that begins with `# For the tables`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doc_console import blocks

sys.path.insert(0, str(Path(__file__).with_name("bench")))
from mounts import clean_environment, emulator, mounted, status

HEADER = "| Command in the demo |"
SHARED = "# For the tables"
#: Counters are at rest when they have not moved for so long, seconds.
REST_S = 0.3
MOST_S = 60.0
_ROW = re.compile(r"\| `(?P<command>[^`]+)`(?P<remark>[^|]*)\|.*")


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a command: requests of the API but links, links, ranges, bytes of them."""

    asks: int
    links: int
    ranges: int
    fetched: int

    def cells(self) -> str:
        """The cells of a row."""
        fetched = f"{self.fetched:,}".replace(",", " ")
        return f" {self.asks} | {self.links} | {self.ranges} | {fetched} |"


def commands_of(page: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Line numbers and rows of a page's tables of costs."""
    is_table = False
    for number, line in enumerate(page.splitlines()):
        is_table = line.startswith(HEADER) or (is_table and line.startswith("|"))
        row = _ROW.fullmatch(line) if is_table else None
        if row is not None:
            yield number, row


def shared_by(page: str) -> str:
    """Definitions that the commands of a page use."""
    return "".join(b.text for b in blocks(page) if b.text.startswith(SHARED))


class Counter:
    """Counts in mounts of the storage that `env` leads to; `shared` precedes each command."""

    def __init__(self, env: Mapping[str, str], shared: str = "") -> None:
        self._env = env
        self._shared = shared
        self._idle = _counted("true", env)

    def cost_of(self, command: str) -> Costs:
        """The costs of `command` in a mount without caches."""
        spent = _counted(self._shared + command, self._env)
        links = spent["store.signs"]
        asks = spent["api.requests"] - links - self._idle["api.requests"]
        return Costs(asks, links, spent["store.requests"], spent["store.bytes_fetched"])


def _counted(command: str, env: Mapping[str, str]) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as home:
        place = Path(home, "up42")
        place.mkdir()
        # A slow machine would count the crawl for items to some commands.
        at_home = {**env, "HOME": home, "TMPDIR": home, "UP42FS_CRAWL_AFTER_S": "3600"}
        with mounted(at_home, place, Path(home)):
            _at_rest(place)
            subprocess.run(["bash", "-c", command], env=clean_environment(at_home), cwd=place,
                           check=True, stdout=subprocess.DEVNULL, timeout=MOST_S)  # fmt: skip
            return _at_rest(place)


def _at_rest(place: Path) -> dict[str, int]:
    """The counters once they no longer move; those that are not there are 0."""
    deadline_s = time.monotonic() + MOST_S
    before: dict[str, Any] = {}
    while time.monotonic() < deadline_s:
        time.sleep(REST_S)
        now = status(place)["counters"]
        if now == before:
            break
        before = now
    names = ("api.requests", "store.signs", "store.requests", "store.bytes_fetched")
    return {name: int(before.get(name, 0)) for name in names}


def main() -> int:
    """Count, and write or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("pages", nargs="+", type=Path)
    options = parser.parse_args()
    differ = 0
    with emulator(synthetic=None) as ready:
        env = ready["env"]
        for path in options.pages:
            page = path.read_text(encoding="utf-8")
            lines = page.splitlines()
            counter = Counter(env, shared_by(page))
            for number, row in commands_of(page):
                costs = counter.cost_of(row["command"])
                line = f"| `{row['command']}`{row['remark']}|{costs.cells()}"
                if line != lines[number]:
                    differ += 1
                    print(f"{lines[number]}\n{line}", file=sys.stderr)
                lines[number] = line
            if not options.check:
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(options.check and differ > 0)


if __name__ == "__main__":
    sys.exit(main())

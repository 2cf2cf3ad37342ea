"""The finding of one check, and safe access to the machine that it checks.

Reads do not raise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report, its `cure` (empty if all is well), and the files' `names` in it."""

    check: str
    level: Severity
    words: str
    cure: str = ""
    names: tuple[str, ...] = ()

    def document(self) -> dict[str, str]:
        return {
            "check": self.check,
            "level": self.level.value,
            "words": self.words,
            "cure": self.cure,
        }


def ok(check: str, words: str) -> Finding:
    return Finding(check, Severity.OK, words)


def warn(check: str, words: str, cure: str) -> Finding:
    """It works, but could be better."""
    return Finding(check, Severity.WARN, words, cure)


def fail(check: str, words: str, cure: str) -> Finding:
    """It cannot work."""
    return Finding(check, Severity.FAIL, words, cure)


def run_command(command: Sequence[str]) -> str | None:
    """Return a command's output; None if it is missing, fails or takes longer than 5 s."""
    try:
        done = subprocess.run(  # noqa: S603  (our own words, no shell)
            command, capture_output=True, errors="replace", timeout=5, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr if done.returncode == 0 else None


@dataclass(frozen=True)
class Machine:
    """The examined machine: all that checks may access, so that tests can replace it."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    uid: int = field(default_factory=os.getuid)
    which: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], str | None] = run_command
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs

    def path(self, absolute: str) -> Path:
        """The path of the file `absolute` below `root`."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """Read a file's text; None if it cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    @property
    def home(self) -> str:
        """The user's home directory."""
        return self.environ.get("HOME") or "/"

    def programs(self) -> set[str]:
        """Names of the programs that run (15 characters at most, as the kernel keeps them)."""
        found = set()
        for path in self.path("/proc").glob("[0-9]*/comm"):
            try:
                found.add(path.read_text(encoding="utf-8", errors="replace").strip())
            except OSError:
                continue  # the program has ended
        return found

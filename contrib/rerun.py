"""Runs pytest; where few tests fail, runs each of them once more, alone.

    python contrib/rerun.py NOTES [pytest arguments]

For CI (`contrib/test --rerun`), whose machine others share: a real mount there now and then waits
longer than any test allows. At most five tests that failed are run again, one by one. If all pass,
so does this; their names are printed and appended to the file NOTES, since each of them is a defect
of that test or of the product.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: More failures than this have a cause that a second run does not take away.
MOST = 5
#: pytest's exit status where tests ran to their end and some failed.
TESTS_FAILED = 1


def failed_of(cache: Path) -> list[str]:
    """The names of the tests that failed, from pytest's own cache."""
    try:
        names = json.loads((cache / "v/cache/lastfailed").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return sorted(names)


def run(program: Sequence[str], notes: Path, arguments: Sequence[str]) -> int:
    """Run `program`, which is pytest, and what failed once more; returns an exit status."""
    with tempfile.TemporaryDirectory(prefix="up42fs-rerun-") as place:
        # A cache of its own: what failed in an earlier run is not of this one.
        first, again = (f"cache_dir={place}/{name}" for name in ("first", "again"))
        status = subprocess.run([*program, *arguments, "-o", first], check=False).returncode
        if status != TESTS_FAILED:
            return status
        failed = failed_of(Path(place, "first"))
        if not 0 < len(failed) <= MOST:
            say(f"{len(failed)} tests failed; only up to {MOST} are run again")
            return status
        still = []
        for name in failed:
            say(f"once more, alone: {name}")
            if subprocess.run([*program, "-n", "0", "-o", again, name], check=False).returncode:
                still.append(name)
    if still:
        say("FAILED, THEN FAILED AGAIN: " + ", ".join(still))
        return status
    said = "FAILED, THEN PASSED: " + ", ".join(failed)
    with notes.open("a", encoding="utf-8") as file:
        file.write(f"{said}\n")
    say(f"{said}\neach of these is a defect to be mended: see CONTRIBUTING.md")
    return 0


def say(message: str) -> None:
    """Print a line that stands out from pytest's."""
    print(f"\n!!! {message}", flush=True)


if __name__ == "__main__":
    # Ctrl-C, or the end of CI's time, is pytest's: it ends its mounts, and this waits for it.
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.exit(run((sys.executable, "-m", "pytest"), Path(sys.argv[1]), sys.argv[2:]))

"""Results as JSON, and back; and what they were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bars import verdicts
from figures import Key, Results
from measure import Run
from subjects import program

from up42fs import __version__


def as_json(results: Results, subject: str) -> dict[str, Any]:
    """Every run, and what they say of the bars."""
    runs = [
        {"case": key.case, "leg": key.leg, "subject": name, "turn": turn, **run.as_json()}
        for key, subjects in results.runs.items()
        for name, turns in subjects.items()
        for turn, run in enumerate(turns)
    ]
    judged = [
        {
            "case": verdict.key.case,
            "leg": verdict.key.leg,
            "figure": verdict.bar.figure,
            "limit": verdict.bar.limit,
            "at_least": verdict.bar.at_least,
            "value": verdict.value,
            "peer": verdict.peer,
            "is_met": verdict.is_met,
        }
        for verdict in verdicts(results, subject)
    ]
    return {"machine": results.machine, "runs": runs, "bars": judged}


def load(paths: Iterable[Path]) -> Results:
    """Read what `as_json` made; a case that is in several files counts as in the last.

    Raises OSError, and ValueError where a file is something else.
    """
    results = Results()
    for path in paths:
        found = json.loads(path.read_text())
        fresh = Results()
        for row in found["runs"]:
            key, subject = Key(row.pop("case"), row.pop("leg")), row.pop("subject")
            del row["turn"]
            fresh.add(key, subject, Run(**row))
        results.machine = found["machine"]
        results.runs |= fresh.runs
    return results


def machine() -> str:
    """Versions, processors and memory."""

    def first_line(*command: str) -> str:
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return f"no {command[0]}"
        return (said.stdout or said.stderr).partition("\n")[0]

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    rclone = program("rclone")
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    parts = [
        f"up42fs {__version__}",
        first_line("gdalinfo", "--version").partition(",")[0],
        first_line(rclone, "version") if rclone else "no rclone",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"{os.cpu_count()} processors",
        f"{memory:.0f} GiB",
        f"load {load}",
    ]
    return ", ".join(parts)

#!/usr/bin/env python3
"""The fault matrix on real mounts: no wrong byte, no hang, the right error, a healthy mount after.

    faults.py [--pairs 8] [--only REGEX] [--short] [--repeat 1] [--list]

Each cell makes one fault of one plane meet one operation, while another program looks whether what
is known still answers. Deadlines are divided by five (`UP42FS_HURRY`). Prints every cell that is
not as it should be; the exit status is 1 then. The table itself is in docs/faults.md.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Sequence

from fault_run import HURRY, Verdict, run
from fault_table import READS, cells, short_form


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8, help="mounts at a time (default: 8)")
    parser.add_argument("--only", default="", help="cells whose name this expression finds")
    parser.add_argument("--short", action="store_true", help="the form the test suite runs")
    parser.add_argument("--repeat", type=int, default=1, help="the whole of it so many times")
    parser.add_argument("--slowest", type=int, default=0, help="name as many cells that took long")
    parser.add_argument("--list", action="store_true", help="only name the cells")
    options = parser.parse_args()
    every = short_form(cells()) if options.short else cells()
    wanted = [cell for cell in every if re.search(options.only, cell.name)]
    if options.list:
        print("\n".join(f"{cell.name}: {cell.expected}" for cell in wanted))
        return 0
    bad = 0
    for _ in range(options.repeat):
        started_s = time.monotonic()
        verdicts = run(wanted, options.pairs, told)
        bad += sum(not verdict.is_good for verdict in verdicts)
        print(summary(verdicts, time.monotonic() - started_s), flush=True)
        for verdict in sorted(verdicts, key=lambda v: -v.seconds)[: options.slowest]:
            print(f"  {verdict.seconds:.1f} s: {verdict.cell.name}: {verdict.outcome}")
    return 1 if bad else 0


def told(verdict: Verdict) -> None:
    """Say at once what went wrong."""
    if not verdict.is_good:
        troubles = "; ".join(verdict.troubles)
        print(
            f"{verdict.cell.name}: expected {verdict.cell.expected}, got {verdict.outcome} "
            f"in {verdict.seconds:.1f} s {troubles}",
            flush=True,
        )


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    """Counts and times; error times as they would be with whole deadlines at most."""
    good = sum(verdict.is_good for verdict in verdicts)
    failed_s = [v.seconds for v in verdicts if v.outcome != "ok" and v.cell.operation in READS] or [
        0.0
    ]
    probes_s = [v.probe_s for v in verdicts] or [0.0]
    return (
        f"{good} of {len(verdicts)} cells as they should be, in {seconds:.0f} s; "
        f"a read that fails: median {statistics.median(failed_s):.2f} s, "
        f"longest {max(failed_s):.2f} s (deadlines divided by {HURRY:g}); "
        f"from memory meanwhile (df, two listings, stat, listxattr): "
        f"median {statistics.median(probes_s) * 1000:.0f} ms, longest {max(probes_s):.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())

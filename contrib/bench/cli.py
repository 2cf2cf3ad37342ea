#!/usr/bin/env python3
"""up42fs beside its peers on one object store: requests, bytes, seconds, processor, memory.

    contrib/bench/run [--only REGEX] [--subjects a,b] [--repeat N] [--leg LEG] [--data DIR]

`contrib/bench/README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import records
import report
import subjects
from archive_cases import cases as archive_cases
from cases import Case, cases
from figures import Key, Results
from measure import Run, measure
from scenes import SIZES, ensure
from sites import LEGS, Leg, Site, site, store

DEFAULT_WORK = Path("~/.cache/up42fs-bench")
#: A run that took longer is not repeated.
SLOW_S = 15.0


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say; 1 where a subject gave other bytes than the disk."""
    args = parse(arguments)
    chosen = choose(args)
    names = available(args.subjects.split(","))
    ours = next((name for name in names if name.startswith("up42fs")), names[0])
    if args.list:
        for case in chosen:
            print(f"{case.name:16} {case.title} ({', '.join(case.legs)})")
        return 0
    if args.report:
        results = records.load(args.report)
    else:
        results = Results(machine=records.machine())
        for _ in fill(results, chosen, names, args):
            # A long run that is broken off leaves what it has.
            write(results, chosen, ours, args)
    write(results, chosen, ours, args)
    text = report.markdown(results, chosen, ours)
    print(text)
    return 1 if "**differs**" in text else 0


def choose(args: argparse.Namespace) -> list[Case]:
    """The cases that are named; where none are, and a leg is, those that it is meant for."""
    matches = re.compile(args.only).search
    size = SIZES[args.size]
    every = cases(size) + archive_cases(size)
    named = [case for case in every if matches(f"{case.name} {case.title}")]
    fitting = [case for case in named if args.leg in case.legs]
    return fitting if fitting and not args.only else named


def fill(
    results: Results, chosen: list[Case], names: list[str], args: argparse.Namespace
) -> Iterator[None]:
    """Measure; yields after every case on every of its legs."""
    # Long traffic reads all scenes.
    needs_all = not args.only or any(case.name == "traffic" for case in chosen)
    wanted = None if needs_all else {case.names for case in chosen}
    folder = ensure(args.work.expanduser().resolve(), SIZES[args.size], args.data, wanted)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-store-")))
        served = stack.enter_context(store(folder, home, secrets.token_urlsafe(16)))
        sites: dict[str, Site] = {}
        for case in chosen:
            for leg in [args.leg] if args.leg else case.legs:
                if leg not in sites:
                    sites[leg] = stack.enter_context(site(LEGS[leg], served))
                for subject, run in turns(case, sites[leg], names, args.repeat):
                    results.add(Key(case.name, leg), subject, run)
                    progress(case, leg, subject, run)
                yield


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="contrib/bench/run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="cases whose name or title matches"
    )
    parser.add_argument("--list", action="store_true", help="print the cases and their legs")
    parser.add_argument(
        "--subjects",
        default=",".join(subjects.DEFAULT),
        help="of %(default)s, …; mounts with options: up42fs:read_ahead=128+memory=64",
    )
    parser.add_argument("--repeat", type=int, default=3, help="turns; medians are shown")
    parser.add_argument(
        "--leg", choices=LEGS, help="this way alone, and its cases; with --only those, this way"
    )
    parser.add_argument("--size", choices=SIZES, default="full", help="of the scenes")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="real imagery to make the scenes of"
    )
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="where scenes are kept")
    parser.add_argument("--out", type=Path, help="folder for results.json, .md and .svg")
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="measure nothing, write the report of earlier runs anew",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write only the JSON, there")
    return parser.parse_args(arguments)


def available(wanted: Iterable[str]) -> list[str]:
    """The subjects that can run here; says which cannot."""
    found = []
    for subject in wanted:
        needs = subjects.missing(subject)
        if needs is None:
            found.append(subject)
        else:
            print(f"{subject} is left out, it needs {needs}", file=sys.stderr)
    return found


def turns(case: Case, where: Site, names: list[str], repeat: int) -> Iterator[tuple[str, Run]]:
    """Every subject in turn, again and again; those that fail or are slow but once.

    Raises `SiteGoneError` where what is measured through has ended.
    """
    left = [name for name in names if fits(case, name, where.leg)]
    for _ in range(repeat):
        for name in list(left):
            try:
                run = measure(case, name, where)
            except (subprocess.SubprocessError, RuntimeError) as error:
                where.ensure_alive()
                print(f"{case.name}, {name}: {error}", file=sys.stderr)
                left.remove(name)
                continue
            where.ensure_alive()
            if run.seconds > SLOW_S:
                left.remove(name)
            yield name, run


def fits(case: Case, subject: str, leg: Leg) -> bool:
    """Whether a subject can do a case at all, and would be used for it on that leg."""
    name = subject.partition(":")[0]
    if leg.shared_mbit and name in subjects.FOR_WIDE_LINES:
        return False
    if case.subjects is not None and name not in case.subjects:
        return False
    kind = "url" if name in subjects.CURL else "vsi" if name in subjects.VSICURL else "file"
    return kind in case.kinds


def progress(case: Case, leg: str, subject: str, run: Run) -> None:
    print(
        f"{case.name:16} {leg:8} {subject:16} {run.requests:5} requests {run.links:3} links"
        f" {run.bytes / 1e6:9.2f} MB {run.seconds:7.2f} s,"
        f" CPU {run.cpu_s:.2f} + {run.mount_cpu_s:.2f} s, peak {run.peak_bytes / 1e6:.0f} MB",
        file=sys.stderr,
        flush=True,
    )


def write(results: Results, chosen: list[Case], subject: str, args: argparse.Namespace) -> None:
    """Write the files that were asked for."""
    if args.json:
        args.json.write_text(json.dumps(records.as_json(results, subject), indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(records.as_json(results, subject)))
        (args.out / "results.md").write_text(report.markdown(results, chosen, subject))
        report.plot(results, chosen, subject, args.out / "results.svg")


if __name__ == "__main__":
    sys.exit(main())

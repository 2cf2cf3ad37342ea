#!/usr/bin/env python3
"""Replay recorded reads through up42fs' planner and through fixed-block policies.

    simulate.py TRACES [--files DIR] [--only REGEX] [--latency-ms 50] [--mbit 200]
                       [--connection-mbit 0] [--tuning NAME=BYTES ...] [--summary] [--json FILE]

TRACES is a directory of `<case>.fuse.jsonl[.gz]`: one JSON object a line, of which those with
`op` "read" count; they carry `path`, `fh`, `off`, `ret` (bytes answered) and `t_in`. A file's size
is taken to be the furthest byte that any trace in the directory reads.

With `--files` the planner sees the bytes of the files that were traced, as far as they have come,
and so their structure; without, offsets only.

The model: a request's first byte comes one latency after it is sent; all requests under way share
the line evenly, each at most at `--connection-mbit` (0: no limit); 16 connections, demand first.
A read is answered once its own bytes are here. A reader asks the next read when the last one is
answered, one read earlier where it continues (the kernel reads ahead); for what the kernel asked
last before a jump nobody waits. A handle of a case with
"threads" in its name is a reader of its own; all other cases have one reader. The tool's own CPU
time, memory limits and connection set-up are not modelled.

Columns: requests, megabytes fetched, reads that waited, seconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import statistics
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from up42fs.ranges import RangeSet, align
from up42fs.readahead.plan import Access, Coverage, Insight, Plan
from up42fs.readahead.tuning import Tuning
from up42fs.types import ByteRange

KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS = 16
KEEP_BYTES = 512 * KIB
SEQUENTIAL = re.compile(r"^(cp|cat|md5sum|tar|dd_1M|checksum_\w+|rsync_a)$")


class Planner(Protocol):
    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan: ...


Make = Callable[["File"], Planner]


@dataclass
class Fixed:
    """Aligned blocks of `block` bytes, nothing ahead."""

    size: int
    block: int

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:  # noqa: ARG002
        return Plan(tuple(have.missing(align(read, self.block, self.size))))


@dataclass(eq=False)
class Request:
    file: File
    span: ByteRange
    latency_s: float
    demand: bool
    got: int = 0
    awaited: bool = False

    @property
    def left(self) -> int:
        return len(self.span) - self.got


@dataclass(eq=False)
class File:
    size: int
    path: Path | None = None
    have: RangeSet = field(default_factory=RangeSet)
    requests: list[Request] = field(default_factory=list)  # sorted by start, disjoint

    def __post_init__(self) -> None:
        self.insight = Insight(self.size)

    def get(self, span: ByteRange) -> bytes | None:
        """Bytes that have come, for the planner to look at."""
        if self.path is None or not self.have.covers(span) or self.lacking(span):
            return None
        with self.path.open("rb") as content:
            content.seek(span.start)
            return content.read(len(span))

    def overlapping(self, span: ByteRange) -> Iterator[Request]:
        first = bisect_right(self.requests, span.start, key=lambda r: r.span.start) - 1
        last = bisect_left(self.requests, span.stop, key=lambda r: r.span.start)
        return (r for r in self.requests[max(first, 0) : last] if r.span.stop > span.start)

    def lacking(self, span: ByteRange) -> list[Request]:
        """Requests under `span` that have not brought its bytes."""
        return [
            r for r in self.overlapping(span) if r.span.start + r.got < min(r.span.stop, span.stop)
        ]

    def has(self, span: ByteRange) -> bool:
        lacking = self.lacking(span)
        for request in lacking:
            request.awaited = True
        return not lacking


class Line:
    """The network: a queue, at most `CONNECTIONS` requests under way, one shared line."""

    def __init__(self, latency_s: float, line_bps: float, connection_bps: float) -> None:
        self.latency_s, self.line_bps, self.connection_bps = latency_s, line_bps, connection_bps
        self.queue: list[Request] = []
        self.active: list[Request] = []
        self.count = 0

    def send(self, file: File, span: ByteRange, *, demand: bool) -> None:
        request = Request(file, span, self.latency_s, demand)
        file.have.add(span)
        insort(file.requests, request, key=lambda r: r.span.start)
        self.queue.append(request)

    def cancel(self, file: File, span: ByteRange) -> None:
        for request in list(file.overlapping(span)):
            if request.demand or request.awaited or request.left <= KEEP_BYTES:
                continue
            if request in self.queue:
                self.queue.remove(request)
            else:
                self.active.remove(request)
            kept = request.span.start + request.got
            file.have.discard(ByteRange(kept, request.span.stop))
            if request.got:
                request.span = ByteRange(request.span.start, kept)
            else:
                file.requests.remove(request)

    def start(self) -> None:
        self.queue.sort(key=lambda r: not (r.demand or r.awaited))
        while self.queue and len(self.active) < CONNECTIONS:
            self.active.append(self.queue.pop(0))
            self.count += 1

    def rate_bps(self) -> float:
        flowing = sum(1 for r in self.active if r.latency_s <= 0)
        rate = self.line_bps / max(flowing, 1)
        return min(rate, self.connection_bps) if self.connection_bps else rate

    def advance(self, waits: list[tuple[File, ByteRange]]) -> float:
        """Run to the next thing that happens; returns the seconds it took."""
        rate = self.rate_bps()
        step = math.inf
        for r in self.active:
            step = min(step, r.latency_s if r.latency_s > 0 else r.left / rate)
        for file, span in waits:
            for r in file.overlapping(span):
                need = min(r.span.stop, span.stop) - r.span.start - r.got
                if r.latency_s <= 0 and need > 0:
                    step = min(step, need / rate)
        for r in self.active:
            if r.latency_s > 0:
                r.latency_s = 0 if r.latency_s - step < 1e-9 else r.latency_s - step
            else:
                r.got = min(len(r.span), r.got + math.ceil(step * rate - 1e-6))
        self.active = [r for r in self.active if r.left]
        return step


@dataclass(eq=False)
class Reader:
    """One chain of reads, at most two of them under way."""

    reads: list[tuple[str, int, ByteRange]]
    next: int = 0
    waiting: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        # What the kernel reads ahead of a jump nobody waits for: the last two reads of a run.
        self.idle: set[int] = set()
        runs: dict[tuple[str, int], list[int]] = {}
        for index, (path, fh, span) in enumerate(self.reads):
            run = runs.setdefault((path, fh), [])
            if run and self.reads[run[-1]][2].stop != span.start:
                self.idle.update(_idle(run))
                run.clear()
            run.append(index)
        for run in runs.values():
            if self.reads[run[0]][2].start:
                self.idle.update(_idle(run))

    def may_ask(self) -> bool:
        if self.next >= len(self.reads):
            return False
        if not self.waiting:
            return True
        last, now = self.reads[self.next - 1], self.reads[self.next]
        goes_on = last[:2] == now[:2] and last[2].stop == now[2].start
        return goes_on and self.waiting == [self.next - 1]


def _idle(run: list[int]) -> list[int]:
    return run[-2:] if len(run) > 3 else run[2:]


@dataclass
class Result:
    requests: int
    megabytes: float
    waits: int
    seconds: float


def replay(
    readers: list[Reader], sizes: dict[str, int], line: Line, make: Make, root: Path | None
) -> Result:
    paths = {path for r in readers for path, _, _ in r.reads}
    files = {path: File(sizes[path], root / path if root else None) for path in paths}
    planners: dict[tuple[str, int], Planner] = {}
    now_s, waits = 0.0, 0
    while True:
        asked = 1
        while asked:
            asked = 0
            for reader in readers:
                while reader.may_ask():
                    asked += 1
                    waits += ask(reader, files, planners, line, make)
        line.start()
        pending = [r.reads[i] for r in readers for i in r.waiting]
        if not pending:
            break
        now_s += line.advance([(files[path], span) for path, _, span in pending])
        for reader in readers:
            reader.waiting = [i for i in reader.waiting if not answer(reader, i, files)]
    fetched = sum(len(r.span) for f in files.values() for r in f.requests)
    return Result(line.count, fetched / 1e6, waits, now_s)


def ask(
    reader: Reader,
    files: dict[str, File],
    planners: dict[tuple[str, int], Planner],
    line: Line,
    make: Make,
) -> int:
    """The reader's next read; how many reads now wait that did not."""
    index = reader.next
    path, fh, span = reader.reads[index]
    file = files[path]
    if (path, fh) not in planners:
        planners[path, fh] = make(file)
    act(line, file, planners[path, fh].on_read(span, file.have, 96 * MIB))
    reader.next += 1
    if answer(reader, index, files) or index in reader.idle:
        return 0
    reader.waiting.append(index)
    return 1


def answer(reader: Reader, index: int, files: dict[str, File]) -> bool:
    """Whether the bytes of a read are here; then the planner sees them, too."""
    path, _, span = reader.reads[index]
    file = files[path]
    if not file.has(span):
        return False
    file.insight.structure.learn(span, file.get)
    return True


def act(line: Line, file: File, plan: Plan) -> None:
    for span in plan.cancel:
        line.cancel(file, span)
    for span in plan.demand:
        line.send(file, span, demand=True)
    for span in (*plan.ahead, *plan.guesses):
        line.send(file, span, demand=False)


def policies(tuning: Tuning) -> dict[str, Make]:
    def fixed(block: int) -> Make:
        return lambda file: Fixed(file.size, block)

    table: dict[str, Make] = {
        f"fixed {name}": fixed(block)
        for name, block in (("4K", 4 * KIB), ("128K", 128 * KIB), ("1M", MIB), ("8M", 8 * MIB))
    }
    table["up42fs"] = lambda file: Access(file.size, tuning, file.insight)
    return table


def load(path: Path) -> list[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["op"] == "read" and row["ret"]]
    return sorted(rows, key=lambda row: row["t_in"])


def readers_of(case: str, rows: list[dict[str, Any]]) -> list[Reader]:
    chains: dict[int, list[tuple[str, int, ByteRange]]] = defaultdict(list)
    for row in rows:
        span = ByteRange(row["off"], row["off"] + row["ret"])
        chains[row["fh"] if "threads" in case else 0].append((row["path"], row["fh"], span))
    return [Reader(reads) for reads in chains.values()]


def mean(ratios: Iterable[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))


def summarise(results: dict[str, dict[str, Result]]) -> None:
    """Geometric means of time and bytes over the best policy of each case; totals."""
    for group, wanted in (("random", False), ("sequential", True)):
        cases = [case for case in results if bool(SEQUENTIAL.match(case)) == wanted]
        if not cases:
            continue
        print(f"\n{group}: {len(cases)} cases")
        for name in results[cases[0]]:
            rows = [results[case][name] for case in cases]
            tables = [results[case].values() for case in cases]
            time = mean(
                r.seconds / min(o.seconds for o in t) for r, t in zip(rows, tables, strict=True)
            )
            size = mean(
                r.megabytes / min(o.megabytes for o in t) for r, t in zip(rows, tables, strict=True)
            )
            print(
                f"  {name:24s} time/best {time:5.2f}  bytes/least {size:5.2f}"
                f"  {sum(r.requests for r in rows):7d} requests"
                f"  {sum(r.megabytes for r in rows):9.1f} MB  {sum(r.waits for r in rows):6d} waits"
                f"  {sum(r.seconds for r in rows):8.2f} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", type=Path)
    parser.add_argument("--files", type=Path, help="where the traced files are")
    parser.add_argument("--only", default=".")
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--mbit", type=float, default=200)
    parser.add_argument("--connection-mbit", type=float, default=0)
    parser.add_argument("--tuning", nargs="*", default=[], metavar="NAME=BYTES")
    parser.add_argument("--policy", default=".", help="only policies whose name matches")
    parser.add_argument("--summary", action="store_true", help="totals only")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    changes = {name: int(value) for name, value in (t.split("=") for t in args.tuning)}
    table = {
        name: make
        for name, make in policies(replace(Tuning(), **changes)).items()
        if re.search(args.policy, name)
    }
    loaded = {p.name.split(".")[0]: load(p) for p in sorted(args.traces.glob("*.fuse.jsonl*"))}
    sizes: dict[str, int] = defaultdict(int)
    for rows in loaded.values():
        for row in rows:
            sizes[row["path"]] = max(sizes[row["path"]], row["off"] + row["ret"])
    for path in sizes if args.files else ():
        sizes[path] = (args.files / path).stat().st_size
    results: dict[str, dict[str, Result]] = {}
    for case, rows in loaded.items():
        if not rows or not re.search(args.only, case):
            continue
        if not args.summary:
            print(f"\n{case}: {len(rows)} reads, {sum(r['ret'] for r in rows) / 1e6:.2f} MB")
        for name, make in table.items():
            line = Line(args.latency_ms / 1e3, args.mbit * 125e3, args.connection_mbit * 125e3)
            result = replay(readers_of(case, rows), sizes, line, make, args.files)
            results.setdefault(case, {})[name] = result
            if not args.summary:
                print(
                    f"  {name:24s} {result.requests:6d} requests {result.megabytes:9.2f} MB"
                    f" {result.waits:6d} waits {result.seconds:8.2f} s"
                )
    summarise(results)
    if args.json:
        plain = {c: {n: vars(r) for n, r in t.items()} for c, t in results.items()}
        args.json.write_text(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main()

"""Figures of runs, and how two subjects are compared: medians, and medians of ratios in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from measure import Run

MB = 1_000_000
#: The leg `line`.
LINE_BYTES_S = 25e6
#: Less than this of a figure is noise of the clock or of counting, not a ratio.
SMALLEST = 1e-6

FIGURES: dict[str, Callable[[Run], float]] = {
    "requests": lambda run: run.requests,
    "links": lambda run: run.links,
    "bytes": lambda run: run.bytes,
    "seconds": lambda run: run.seconds,
    "late": lambda run: run.seconds - 1.05 * run.needed_bytes / LINE_BYTES_S,
    "speed": lambda run: run.work_bytes / run.seconds,
    "units a second": lambda run: run.units / run.seconds,
    "mount CPU": lambda run: run.mount_cpu_s,
    "CPU": lambda run: run.cpu_s + run.mount_cpu_s,
    "peak": lambda run: run.peak_bytes,
    "growth": lambda run: run.growth,
}


@dataclass(frozen=True)
class Key:
    """A case on a leg."""

    case: str
    leg: str


@dataclass
class Results:
    """All runs; the runs of a subject in a case are in order of the turns. `machine` in words."""

    runs: dict[Key, dict[str, list[Run]]] = field(default_factory=dict)
    machine: str = ""

    def add(self, key: Key, subject: str, run: Run) -> None:
        """Append one turn."""
        self.runs.setdefault(key, {}).setdefault(subject, []).append(run)

    def of(self, key: Key, subject: str) -> Sequence[Run]:
        """The turns of a subject; none where it did not run."""
        return self.runs.get(key, {}).get(subject, ())

    def median(self, key: Key, subject: str, figure: str) -> float | None:
        """The median over the turns, None without any."""
        runs = self.of(key, subject)
        return statistics.median(map(FIGURES[figure], runs)) if runs else None

    def ratio(self, key: Key, subject: str, peer: str, figure: str) -> float | None:
        """The median of the ratios to a peer in the same turn; None where either is missing."""
        value = FIGURES[figure]
        pairs = zip(self.of(key, subject), self.of(key, peer), strict=False)
        ratios = [value(ours) / max(value(theirs), SMALLEST) for ours, theirs in pairs]
        return statistics.median(ratios) if ratios else None

    def ratios(self, key: Key, subject: str, peers: Iterable[str], figure: str) -> dict[str, float]:
        """The ratios to those of the peers that ran."""
        found = {peer: self.ratio(key, subject, peer, figure) for peer in peers}
        return {peer: ratio for peer, ratio in found.items() if ratio is not None}

"""A bench's findings for people: tables and a plot."""

from __future__ import annotations

from pathlib import Path

from bars import PEERS, Verdict, verdicts
from cases import Case
from figures import MB, Key, Results
from sites import LEGS

HEAD = (
    "| work | subject | requests | links | MB | seconds | CPU s | of it the mount's | peak MB |"
    " up42fs : it |"
)
#: How a bar's figure is written: its divisor and its unit.
UNITS = {
    "bytes": (MB, " MB"),
    "speed": (MB, " MB/s"),
    "peak": (MB, " MB"),
    "seconds": (1, " s"),
    "late": (1, " s"),
}


def markdown(results: Results, cases: list[Case], subject: str) -> str:
    """The whole report; `subject` is the mount that is compared and held to the bars."""
    legs = list(dict.fromkeys(key.leg for key in results.runs))
    parts = [
        results.machine,
        "A cell has requests, MB, seconds; requests with links before a plus.",
    ]
    for leg in legs:
        parts += [f"## {LEGS[leg].title}", summary(results, cases, leg, subject)]
    judged = verdicts(results, subject)
    if judged:
        parts += ["## Bars", bar_table(judged)]
    parts.append("## In detail")
    for leg in legs:
        parts += [f"### {LEGS[leg].title}", table(results, cases, leg, subject)]
    return "\n\n".join(parts) + "\n"


def summary(results: Results, cases: list[Case], leg: str, subject: str) -> str:
    """One row for each case, one column for each subject, and the ratio to the fastest peer."""
    keys = {case.name: Key(case.name, leg) for case in cases}
    columns = list(dict.fromkeys(n for key in keys.values() for n in results.runs.get(key, ())))
    heads = ["work", *columns, f"{subject} : best peer"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for case in cases:
        key = keys[case.name]
        if key in results.runs:
            cells = [cell(results, case, key, name) for name in columns]
            ratios = results.ratios(key, subject, (*PEERS, "curl"), "seconds")
            best = f"{max(ratios.values()):.2f}" if ratios else "-"
            lines.append(f"| {case.title} | {' | '.join(cells)} | {best} |")
    return "\n".join(lines)


def cell(results: Results, case: Case, key: Key, name: str) -> str:
    """Medians of one subject, short."""
    seconds = results.median(key, name, "seconds")
    if seconds is None:
        return "-"
    if name == "disk":
        return f"{seconds:.2f}"
    requests, links, transferred = (
        results.median(key, name, figure) or 0 for figure in ("requests", "links", "bytes")
    )
    asked = f"{links:.0f}+{requests:.0f}" if links else f"{requests:.0f}"
    text = f"{asked}, {transferred / MB:.2f}, {seconds:.2f}"
    return text if is_same(results, case, key, name) else f"{text} (**differs**)"


def table(results: Results, cases: list[Case], leg: str, subject: str) -> str:
    """One row for each case and subject."""
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for case in cases:
        key = Key(case.name, leg)
        for n, name in enumerate(results.runs.get(key, ())):
            lines.append(row(results, case, key, name, subject, is_first=n == 0))
    return "\n".join(lines)


def row(results: Results, case: Case, key: Key, name: str, subject: str, *, is_first: bool) -> str:
    """Medians of one subject in one case."""

    def of(figure: str) -> float:
        return results.median(key, name, figure) or 0.0

    ratio = results.ratio(key, subject, name, "seconds") if name != subject else None
    cells = [
        f"{case.name}: {case.title}" if is_first else "",
        name + ("" if is_same(results, case, key, name) else " (**differs**)"),
        f"{of('requests'):.0f}",
        f"{of('links'):.0f}",
        f"{of('bytes') / MB:.2f}",
        f"{of('seconds'):.2f}",
        f"{of('CPU'):.2f}",
        f"{of('mount CPU'):.2f}",
        f"{of('peak') / MB:.0f}",
        "" if ratio is None else f"{ratio:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def is_same(results: Results, case: Case, key: Key, name: str) -> bool:
    """Whether what came out is what the local disk gave, in every turn."""
    known = {run.digest for run in results.of(key, "disk")}
    return (
        not case.comparable or not known or {run.digest for run in results.of(key, name)} == known
    )


def bar_table(judged: list[Verdict]) -> str:
    """The runs' verdicts on each bar."""
    lines = ["| work | leg | bar | measured | |", "|---|---|---|---|---|"]
    for verdict in judged:
        bar = verdict.bar
        sign = "≥" if bar.at_least else "≤"
        limit, value = written(verdict, bar.limit), written(verdict, verdict.value)
        peer = f" of {verdict.peer}" if verdict.peer else ""
        met = "met" if verdict.is_met else "**not met**"
        lines.append(
            f"| {verdict.key.case} | {verdict.key.leg} | {bar.figure} {sign} {limit} |"
            f" {value}{peer} | {met} |"
        )
    return "\n".join(lines)


def written(verdict: Verdict, value: float) -> str:
    """A bar's figure with its unit; a ratio has none but a sign."""
    if verdict.peer:
        return f"{value:.2f} times"
    divisor, unit = UNITS.get(verdict.bar.figure, (1, ""))
    digits = 2 if verdict.bar.figure in ("seconds", "late", "growth") else 0
    return f"{value / divisor:.{digits}f}{unit}"


def plot(results: Results, cases: list[Case], subject: str, target: Path) -> None:
    """Seconds of `subject` over those of each peer: left of the line it is faster."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    keys = [Key(case.name, leg) for case in cases for leg in case.legs]
    shown = [key for key in keys if results.ratios(key, subject, PEERS, "seconds")]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.28 * len(shown)), layout="constrained")
    for peer in PEERS:
        points = [
            (ratio, n)
            for n, key in enumerate(shown)
            if (ratio := results.ratio(key, subject, peer, "seconds")) is not None
        ]
        if points:
            ratios, rows = zip(*points, strict=True)
            axes.scatter(ratios, rows, label=peer, s=26, alpha=0.8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of up42fs : seconds of the peer")
    axes.set_yticks(range(len(shown)), [f"{key.case}, {key.leg}" for key in shown], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.2)
    axes.legend(
        fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (2 + len(shown))), ncols=3
    )
    figure.savefig(target)
    pyplot.close(figure)

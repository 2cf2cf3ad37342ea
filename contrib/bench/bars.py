"""The bars that up42fs is held to, as data, and what a run says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from figures import LINE_BYTES_S, Key, Results
from subjects import CURL, RATARMOUNT, RCLONE, VSICURL

ANY_VSICURL = tuple(VSICURL)
ANY_RCLONE = tuple(RCLONE)
PEERS = (*ANY_VSICURL, *ANY_RCLONE, RATARMOUNT)
#: What GDAL 3.10.3 (of rasterio's wheel) reads of the SOZip for the same window, bytes: its nine
#: tiles have 14 MB, and GDAL reads on in steps of 2 MiB. That took 31 requests.
SOZIP_BYTES = 18.9e6


@dataclass(frozen=True)
class Bar:
    """`figure` of a case is at most (or at least) `limit`, or that many times the best peer's.

    `versus_case` compares with the same subject's figure in another case. `leg` where it holds for
    one leg only. `subject` in place of the mount as it comes.
    """

    case: str
    figure: str
    limit: float
    versus: tuple[str, ...] = ()
    versus_case: str = ""
    leg: str = ""
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """A run's verdict on a bar: `value` beside its limit, `peer` the one it was compared with."""

    bar: Bar
    key: Key
    value: float
    peer: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the bar holds."""
        if self.bar.at_least:
            return self.value >= self.bar.limit
        return self.value <= self.bar.limit


def _overviews() -> Iterator[Bar]:
    for case in ("overview-u16", "overview-rgb", "overview-pan"):
        yield Bar(case, "links", 1)
        yield Bar(case, "requests", 4)
        yield Bar(case, "seconds", 1.0, ("vsicurl-tuned",))
        yield Bar(case, "bytes", 1.75, ("vsicurl-tuned",))


def _windows() -> Iterator[Bar]:
    for case, seconds, transferred in (
        ("window-u16", 1.05, 1.75),
        ("window-rgb", 1.1, 2),
        ("window-pan", 1.1, 2),
    ):
        yield Bar(case, "seconds", seconds, ANY_VSICURL)
        yield Bar(case, "bytes", transferred, ANY_VSICURL)
    for case in ("second-u16", "second-pan"):
        yield Bar(case, "seconds", 0.7, ANY_VSICURL)


def _known() -> Iterator[Bar]:
    """The values that were read before."""
    for case in ("again-info", "again-window", "again-whole"):
        yield Bar(case, "requests", 0)
        yield Bar(case, "links", 0)
        yield Bar(case, "seconds", 1.2, ("disk",))
    for case in ("remount-window", "remount-whole"):
        yield Bar(case, "requests", 0)
        yield Bar(case, "links", 1)


def _members() -> Iterator[Bar]:
    """Inside archives. Nothing tells at which packed byte an offset lies: all before it is read."""
    yield Bar("member-list", "links", 1)
    yield Bar("member-list", "requests", 1)
    yield Bar("member-list", "seconds", 0.3)
    yield Bar("member-list-again", "requests", 0)
    yield Bar("member-list-remount", "requests", 0)
    yield Bar("member-info", "links", 1)
    yield Bar("member-info", "requests", 3)
    yield Bar("member-window", "seconds", 1.05, versus_case="window-dimap")
    yield Bar("member-jp2", "seconds", 1.05, versus_case="plain-jp2")
    yield Bar("member-jp2", "requests", 1.05, versus_case="plain-jp2")
    yield Bar("member-jp2", "bytes", 1.05, versus_case="plain-jp2")
    yield Bar("member-head", "seconds", 0.25)
    yield Bar("member-head", "seconds", 0.5, PEERS + CURL)
    yield Bar("member-far", "late", 0.3)
    yield Bar("member-far", "seconds", 1.1, PEERS)
    for case in ("member-far-again", "member-far-remount"):
        yield Bar(case, "requests", 0)
        yield Bar(case, "seconds", 2, ("disk",))
    yield Bar("member-tail", "late", 0.3)
    yield Bar("member-tail-again", "requests", 0)
    yield Bar("member-copy", "speed", LINE_BYTES_S / 1.05, at_least=True)
    yield Bar("member-copy-all", "speed", LINE_BYTES_S / 1.05, at_least=True)
    yield Bar("member-tgz", "speed", LINE_BYTES_S / 1.05, at_least=True)
    yield Bar("member-tgz-again", "requests", 0)
    yield Bar("member-tgz-again", "mount CPU", 0.3, versus_case="member-tgz")
    yield Bar("member-sozip", "links", 1)
    yield Bar("member-sozip", "requests", 5)
    yield Bar("member-sozip", "bytes", 1.5 * SOZIP_BYTES)


BARS = (
    Bar("info-u16", "links", 1),
    Bar("info-u16", "requests", 1),
    Bar("info-u16", "seconds", 1.0, ("vsicurl",)),
    *_overviews(),
    *_windows(),
    Bar("zip-info", "seconds", 0.7, PEERS),
    Bar("zip-window", "seconds", 0.7, PEERS),
    Bar("overview-strips", "seconds", 0.4, PEERS),
    Bar("overview-jp2", "seconds", 0.9, PEERS),
    Bar("window-jp2", "seconds", 0.9, PEERS),
    Bar("again-jp2", "requests", 0),
    Bar("vrt", "seconds", 0.3, ANY_VSICURL),
    Bar("whole", "speed", 0.95 * LINE_BYTES_S, leg="line", at_least=True),
    Bar("whole", "seconds", 0.65, ANY_VSICURL, leg="line"),
    Bar("whole", "seconds", 1.0, ANY_RCLONE, leg="line"),
    Bar("whole", "speed", 6, ("curl",), leg="pipes", at_least=True),
    Bar("whole-tls", "speed", 1.4, ANY_RCLONE, at_least=True),
    Bar("whole-tls", "mount CPU", 0.8, ANY_RCLONE),
    Bar("threads-16", "units a second", 4, versus_case="threads-1", at_least=True),
    Bar("threads-16", "units a second", 3, ANY_RCLONE, at_least=True),
    *_known(),
    Bar("remount-whole", "speed", 700e6, at_least=True),
    Bar("cp-r", "seconds", 0.5, ANY_RCLONE),
    *_members(),
    Bar("*", "peak", 300e6),
    Bar("traffic", "growth", 1.05),
)


def verdicts(results: Results, subject: str) -> list[Verdict]:
    """The verdicts of the runs of `subject`, by bar, as far as they have any."""
    found: list[Verdict] = []
    for bar in BARS:
        if bar.case == "*":
            found += _worst(bar, results, subject)
            continue
        for key in results.runs:
            if key.case == bar.case and bar.leg in ("", key.leg):
                found += _judge(bar, key, results, subject)
    return found


def _judge(bar: Bar, key: Key, results: Results, subject: str) -> Iterator[Verdict]:
    pick = min if bar.at_least else max
    ours = results.median(key, subject, bar.figure)
    if bar.versus:
        ratios = results.ratios(key, subject, bar.versus, bar.figure)
        if ratios:
            peer = pick(ratios, key=lambda name: ratios[name])
            yield Verdict(bar, key, ratios[peer], peer)
    elif bar.versus_case:
        theirs = results.median(Key(bar.versus_case, key.leg), subject, bar.figure)
        if ours is not None and theirs:
            yield Verdict(bar, key, ours / theirs, bar.versus_case)
    elif ours is not None:
        yield Verdict(bar, key, ours)


def _worst(bar: Bar, results: Results, subject: str) -> Iterator[Verdict]:
    """A bar over all cases: the one that comes nearest to breaking it."""
    found = [verdict for key in results.runs for verdict in _judge(bar, key, results, subject)]
    if found:
        yield max(found, key=lambda verdict: verdict.value)

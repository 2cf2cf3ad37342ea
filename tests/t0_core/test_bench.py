"""The bench's own reckoning: ratios in one run, bars, rates, and the scenes' make."""

from __future__ import annotations

import json
import re
import time
import zlib
from dataclasses import replace
from pathlib import Path

import archive_cases
import bars
import cases
import measure
import numpy as np
import pytest
import records
import report
import scenes
from figures import Key, Results
from hypothesis import given
from hypothesis import strategies as st
from line import SLACK_S, Meter
from measure import Run
from sites import LEGS

KEY = Key("window-u16", "line")
RUN = Run(
    requests=4, links=1, bytes=1000, seconds=1.0, cpu_s=0.1, mount_cpu_s=0.2, peak_bytes=100,
    growth=1.0, work_bytes=5000, units=1, digest="d",
)  # fmt: skip


def results(**seconds: list[float]) -> Results:
    found = Results()
    for subject, turns in seconds.items():
        for turn in turns:
            found.add(KEY, subject, replace(RUN, seconds=turn))
    return found


def test_the_median_is_of_the_ratios_not_of_the_times() -> None:
    found = results(up42fs=[1.0, 10.0, 3.0], vsicurl=[2.0, 5.0, 3.0])
    assert found.ratio(KEY, "up42fs", "vsicurl", "seconds") == 1.0
    assert found.ratio(KEY, "up42fs", "rclone", "seconds") is None
    assert found.median(KEY, "up42fs", "seconds") == 3.0


def test_a_bar_is_held_against_the_best_peer() -> None:
    found = results(up42fs=[1.0], vsicurl=[2.0])
    found.add(KEY, "vsicurl-tuned", replace(RUN, seconds=0.9))
    judged = [v for v in bars.verdicts(found, "up42fs") if v.bar.figure == "seconds"]
    assert [(v.peer, round(v.value, 2), v.is_met) for v in judged] == [
        ("vsicurl-tuned", 1.11, False)
    ]
    assert "**not met**" in report.bar_table(judged)


def test_a_rate_bar_wants_more_than_the_best_peer_and_than_another_case() -> None:
    found = Results()
    for name, units, seconds in (("threads-1", 16, 1.0), ("threads-16", 128, 1.0)):
        found.add(Key(name, "line"), "up42fs", replace(RUN, units=units, seconds=seconds))
    found.add(Key("threads-16", "line"), "rclone", replace(RUN, units=128, seconds=4.0))
    found.add(Key("threads-16", "line"), "rclone-full", replace(RUN, units=128, seconds=2.0))
    judged = [v for v in bars.verdicts(found, "up42fs") if v.bar.at_least]
    assert [(v.peer, v.value, v.is_met) for v in judged] == [
        ("threads-1", 8.0, True),
        ("rclone-full", 2.0, False),
    ]


def test_memory_is_held_to_its_bar_in_the_worst_case() -> None:
    found = results(up42fs=[1.0])
    found.add(Key("cp", "line"), "up42fs", replace(RUN, peak_bytes=400_000_000))
    (worst,) = [v for v in bars.verdicts(found, "up42fs") if v.bar.figure == "peak"]
    assert (worst.key.case, worst.is_met) == ("cp", False)


def test_every_bar_names_a_case_and_every_case_a_leg() -> None:
    every = [*cases.cases(scenes.FULL), *archive_cases.cases(scenes.FULL)]
    known = {case.name: case for case in every}
    for bar in bars.BARS:
        assert bar.case == "*" or bar.case in known
        assert not bar.versus_case or bar.versus_case in known
        assert not bar.leg or bar.leg in known[bar.case].legs
    assert {leg for case in known.values() for leg in case.legs} <= set(LEGS)


def test_pixels_that_differ_are_said_to() -> None:
    case = next(c for c in cases.cases(scenes.TINY) if c.name == KEY.case)
    found = results(disk=[1.0], up42fs=[1.0])
    found.add(KEY, "rclone", replace(RUN, digest="other"))
    table = report.table(found, [case], "line", "up42fs")
    assert re.findall(r"\| (\S+) \(\*\*differs\*\*\) \|", table) == ["rclone"]


def test_results_can_be_kept_and_put_together(tmp_path: Path) -> None:
    first = results(up42fs=[1.0, 3.0], vsicurl=[2.0, 2.0])
    first.machine = "this one"
    other = results(up42fs=[9.0])
    other.add(Key("cp", "line"), "up42fs", RUN)
    for name, found in (("a.json", other), ("b.json", first)):
        (tmp_path / name).write_text(json.dumps(records.as_json(found, "up42fs")))
    both = records.load([tmp_path / "a.json", tmp_path / "b.json"])
    assert both.runs == {KEY: first.runs[KEY], Key("cp", "line"): {"up42fs": [RUN]}}
    assert both.machine == "this one"


def test_the_summary_compares_with_the_fastest_peer() -> None:
    case = next(c for c in cases.cases(scenes.TINY) if c.name == KEY.case)
    found = results(disk=[0.5], up42fs=[1.0], vsicurl=[2.0], rclone=[4.0])
    (*_, row) = report.summary(found, [case], "line", "up42fs").splitlines()
    cells = ["0.50", "1+4, 0.00, 1.00", "1+4, 0.00, 2.00", "1+4, 0.00, 4.00", "0.50"]
    assert row == f"| window, 1.4 MB tiles | {' | '.join(cells)} |"


@given(st.lists(st.integers(1, 1 << 16), min_size=1, max_size=50))
def test_a_meter_lets_through_its_rate_and_no_more(counts: list[int]) -> None:
    meter, began_s = Meter(1e6), time.monotonic()
    due_s = [meter.pay(count) for count in counts][-1]
    owed_s = sum(counts) / 1e6
    assert owed_s - SLACK_S <= due_s - began_s + 1e-6
    assert due_s - time.monotonic() <= owed_s
    assert Meter(0).pay(1 << 30) == 0.0


def test_growth_compares_the_last_quarter_with_the_second() -> None:
    assert measure.growth([1, 1, 2, 2, 9, 9, 3, 3]) == 1.5
    assert measure.growth([1, 2]) == 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_synthetic_pixels_compress_like_imagery(seed: int) -> None:
    """Pléiades imagery takes 10 to 11 bits a pixel by horizontal differencing and DEFLATE."""
    pixels = scenes.synthetic(512, seed)
    assert pixels.max() <= 4095
    packed = zlib.compress(np.diff(pixels, axis=1, prepend=0).astype(np.uint16).tobytes(), 6)
    assert 9 < len(packed) * 8 / pixels.size < 12.5

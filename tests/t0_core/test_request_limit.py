"""The kernel's limit of a request, and what is left of deadlines under it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs import deadlines, request_limit
from up42fs.request_limit import LEAST_S, SETTINGS

MOST = 65535


def limit_s(default: str | None, most: str | None) -> float | None:
    return request_limit.limit_s(dict(zip(SETTINGS, (default, most), strict=True)).get)


@given(st.integers(0, MOST), st.integers(0, MOST))
def test_it_is_the_lower_of_those_that_are_set(default: int, most: int) -> None:
    expected = [seconds for seconds in (default, most) if seconds]
    found = limit_s(f"{default}\n", f"{most}\n")
    assert found == (max(LEAST_S, min(expected)) if expected else None)


@given(st.text(max_size=8) | st.none(), st.text(max_size=8) | st.none())
def test_any_text_is_a_limit_or_none(default: str | None, most: str | None) -> None:
    found = limit_s(default, most)
    assert found is None or found >= LEAST_S


@pytest.mark.claim("S185")
@given(st.floats(1, deadlines.LARGEST_HURRY), st.integers(1, MOST) | st.none())
def test_the_longest_deadline_ends_within_the_limit(hurry: float, seconds: int | None) -> None:
    found = limit_s("0", str(seconds) if seconds else None)
    left = deadlines.share(hurry, found)
    assert 0 < left <= 1 / hurry
    if found is None:
        assert left == 1 / hurry
    else:
        assert deadlines.LONGEST_S * left <= request_limit.usable_s(found) + 1e-6 < found
    if found is not None and deadlines.is_enough(found):
        assert left == 1 / hurry


SHOWN = """
import json
from up42fs.fuse import boundary
from up42fs.fuse.tuning import MAX_BACKGROUND, wanted_background
from up42fs.store.settings import StoreSettings
deadlines = boundary.METADATA_DEADLINE_S, boundary.READ_DEADLINE_S, boundary.LISTING_DEADLINE_S
print(json.dumps([deadlines, StoreSettings().read_deadline_s, wanted_background()]))
"""


@pytest.mark.claim("S185")
@pytest.mark.parametrize("seconds", [0, 10, 15, 30, 60, 120, 600])
def test_every_deadline_of_a_mount_follows(tmp_path: Path, seconds: int) -> None:
    (tmp_path / "max_request_timeout").write_text(f"{seconds}\n")
    done = subprocess.run(
        [sys.executable, "-c", SHOWN],
        env=os.environ | {request_limit.PLACE_VARIABLE: str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    deadlines, store_s, background = json.loads(done.stdout)
    metadata_s, read_s, listing_s = deadlines
    assert store_s < read_s
    assert metadata_s < read_s <= listing_s
    if seconds == 0:
        assert deadlines == [28.0, 35.0, 103.0]
        assert background == 64
        return
    assert max(deadlines) <= 0.8 * max(seconds, 15)
    assert background == MOST, "or requests would wait in the kernel, and count"
    if seconds >= 60:
        assert read_s == 35.0, "no more is given up than must be"

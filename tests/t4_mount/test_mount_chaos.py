"""A short form of `contrib/bench/chaos.py`: bad weather, moving assets, links that live seconds."""

from __future__ import annotations

import pytest
from bench_scripts import script

pytestmark = [pytest.mark.mount, pytest.mark.slow]

SECONDS = 20.0
READERS = 7


@pytest.mark.timeout(240)
@pytest.mark.claim("S73")
def test_no_wrong_byte_no_hang_and_nothing_left() -> None:
    chaos = script("chaos")
    tally, memory = chaos.chaos(SECONDS, READERS, seed=1)
    assert not tally.troubles, chaos.report(tally, memory)
    assert set(tally.checked_bytes) == set(chaos.KINDS)
    assert all(tally.checked_bytes.values()), chaos.report(tally, memory)

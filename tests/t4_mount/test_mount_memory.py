"""A short form of `contrib/bench/memory.py`: mixed traffic within 300 MB."""

from __future__ import annotations

import pytest
from bench_scripts import script

pytestmark = pytest.mark.mount

SECONDS = 4.0
SIZES = [size << 20 for size in (40, 90, 150, 200)]


def test_mixed_traffic_stays_within_its_memory() -> None:
    memory = script("memory")
    traffic, samples = memory.run(SECONDS, readers=6, synthetic="60,5,4,4,4", sizes=SIZES)
    assert not traffic.errors
    assert max(samples) <= traffic.done["most"] <= memory.MOST_BYTES, memory.report(
        traffic, samples
    )
    assert traffic.done["opens"]
    assert traffic.done["looks"]

"""The fuzzer's targets hold for what hypothesis thinks of; `contrib/fuzz` looks further."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "contrib"))

from fuzz_targets import SEEDS, TARGETS


@st.composite
def inputs(draw: st.DrawFn, name: str) -> bytes:
    """Any bytes, text, or a seed with some of it replaced."""
    seeds = SEEDS.get(name, ())
    if not seeds or draw(st.booleans()):
        return draw(st.binary(max_size=300) | st.text(max_size=200).map(
            lambda text: text.encode("utf-8", "surrogatepass")))  # fmt: skip
    seed = draw(st.sampled_from(seeds))
    at = draw(st.integers(0, len(seed)))
    return seed[:at] + draw(st.binary(max_size=9)) + seed[at + draw(st.integers(0, 9)) :]


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_parser(name: str) -> None:
    for seed in SEEDS.get(name, ()):
        TARGETS[name](seed)

    @given(inputs(name))
    def hold(data: bytes) -> None:
        TARGETS[name](data)

    hold()

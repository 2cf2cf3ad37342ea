"""The fault matrix: its table covers what it says, and its short form holds on real mounts.

The whole of it runs by `contrib/bench/faults.py`.
"""

from __future__ import annotations

import statistics
from types import ModuleType

import pytest
from bench_scripts import script

PAIRS = 6


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("fault_table")


def test_the_table_covers_planes_faults_and_operations(table: ModuleType) -> None:
    cells = table.cells()
    assert len(cells) >= 300
    assert len({cell.name for cell in cells}) == len(cells)
    for plane in table.PLANES:
        seen = {cell.operation for cell in cells if cell.plane == plane}
        left_out = {operation for place, operation in table.LEFT_OUT if place == plane}
        assert seen | left_out == set(table.OPERATIONS)
        assert {cell.lasts for cell in cells if cell.plane == plane} == {True, False}
    for fault in table.FAULTS:
        assert {c.plane for c in cells if c.fault is fault} == set(fault.on), fault.name


def test_the_short_form_has_every_fault_on_every_plane(table: ModuleType) -> None:
    every = table.cells()
    short = table.short_form(every)
    noticed = [c for c in every if c.operation not in table.FROM_MEMORY.get(c.plane, ())]
    for pair in (
        lambda cell: (cell.plane, cell.fault),
        lambda cell: (cell.fault, cell.lasts),
        lambda cell: (cell.plane, cell.lasts, cell.operation),
    ):
        assert {pair(cell) for cell in short} == {pair(cell) for cell in noticed}
    assert len(set(short)) == len(short)
    assert short == table.short_form(every), "the same cells each time"
    # Each plane meets about as many faults that last as such that pass.
    lasting = [sum(c.lasts for c in short if c.plane == plane) for plane in table.PLANES]
    passing = [sum(not c.lasts for c in short if c.plane == plane) for plane in table.PLANES]
    assert all(abs(a - b) <= 10 for a, b in zip(lasting, passing, strict=True)), (lasting, passing)


@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.claim("S26")
def test_no_wrong_byte_no_hang_the_right_error(table: ModuleType) -> None:
    verdicts = script("fault_run").run(table.short_form(table.cells()), PAIRS)
    bad = [
        f"{v.cell.name}: expected {v.cell.expected}, got {v.outcome} in {v.seconds:.1f} s: "
        f"{'; '.join(v.troubles)}"
        for v in verdicts
        if not v.is_good
    ]
    assert not bad, "\n".join(bad)
    # df, two listings, stat and listxattr together, on a machine that has much else to do.
    assert statistics.median(v.probe_s for v in verdicts) < 3

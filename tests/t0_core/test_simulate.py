"""The simulator that the planner's constants come from runs, and counts what it says it counts."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "contrib" / "bench" / "simulate.py"
KIB = 1 << 10


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate"] = module
    spec.loader.exec_module(module)
    return module


def test_a_sequential_trace(
    simulate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"op": "read", "path": "a", "fh": 1, "off": n * 128 * KIB, "ret": 128 * KIB, "t_in": n}
        for n in range(64)
    ]
    trace = tmp_path / "cp.fuse.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in [{"op": "open"}, *rows]))
    out = tmp_path / "out.json"
    arguments = [str(tmp_path), "--latency-ms", "50", "--mbit", "80", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["simulate.py", *arguments])
    simulate.main()
    results = json.loads(out.read_text())["cp"]
    size_mb = 64 * 128 * KIB / 1e6
    assert {round(row["megabytes"], 3) for row in results.values()} == {round(size_mb, 3)}
    assert results["fixed 128K"]["requests"] == 64
    assert results["fixed 8M"]["seconds"] == pytest.approx(0.05 + size_mb / 10, rel=0.01)
    assert results["up42fs"]["requests"] < 16
    assert results["up42fs"]["seconds"] < results["fixed 1M"]["seconds"]

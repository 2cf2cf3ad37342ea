"""QGIS itself, without a screen: an image of a mount looks as a local one does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from harness import Emulator, Mount, check, run

pytestmark = pytest.mark.mount

SCRIPT = Path(__file__).with_name("qgis_script.py")
PYTHON = "/usr/bin/python3"  # Debian's: QGIS is made for it


def why_no_qgis() -> str | None:
    done = run(PYTHON, "-c", "import qgis.core") if Path(PYTHON).exists() else None
    if done is None or done.returncode != 0:
        return "no QGIS: sudo apt-get install python3-qgis"
    return None


@pytest.fixture(scope="module", autouse=True)
def _qgis() -> None:
    if reason := why_no_qgis():
        pytest.skip(reason)


def in_qgis(path: Path, home: Path) -> dict:
    env = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    # QGIS warns on standard output, too: its answer is the last line.
    answer: dict = json.loads(check(PYTHON, SCRIPT, path, env=env).splitlines()[-1])
    return answer


@pytest.fixture
def image(sample: Emulator, mount) -> tuple[Mount, Path]:
    there: Mount = mount(sample, "-o", "refresh=3600")
    return there, next(there.path.glob("orders/Berlin*/*/*pms-fs_ort_r1c1.tiff"))


def test_a_map_of_a_mounted_image(
    sample: Emulator, image: tuple[Mount, Path], tmp_path: Path
) -> None:
    there, path = image
    before = sample.remote.position()
    seen = in_qgis(path, tmp_path)
    requests = [r for r in sample.remote.log(before) if r["route"] == "store.get"]
    counters = there.counters()
    local = tmp_path / path.name
    shutil.copy(path, local)
    assert seen == in_qgis(local, tmp_path)
    assert seen["size"] == [4096, 4096]
    assert seen["bands"] == 4
    assert seen["colours"] > 50  # a picture, not a blank page
    assert seen["window"] != seen["overview"]
    assert all(value for value in seen["identified"].values())
    # docs/qgis.md tells these: 16 requests and 14 MB of 66.
    assert len(requests) <= 24
    assert counters["store.bytes_fetched"] < path.stat().st_size / 3


def test_the_same_map_again_costs_nothing(
    sample: Emulator, image: tuple[Mount, Path], tmp_path: Path
) -> None:
    _, path = image
    seen = in_qgis(path, tmp_path)
    before = sample.remote.position()
    assert in_qgis(path, tmp_path) == seen
    assert sample.remote.log(before) == []

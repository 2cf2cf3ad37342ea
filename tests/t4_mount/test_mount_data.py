"""Real imagery through a real mount: the same bytes, the same pixels, few requests."""

from __future__ import annotations

import filecmp
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DATA, EXPECTED, Emulator, Mount, check, comparable, emulator, mounted, run

from up42fs.emulator.storage import stable_id

pytestmark = [pytest.mark.mount, pytest.mark.data]

RASTERS = sorted(
    path.relative_to(EXPECTED).with_suffix("")
    for path in EXPECTED.rglob("*.json")
    if (DATA / path.relative_to(EXPECTED).with_suffix("")).is_file()
)
#: Directory and index in the first 16 KiB, as 88 % of real TIFFs have it.
COGS = [
    "cog/rasterio/cogeo.tif",
    "cog/rio-tiler/cog_world.tif",
    "cog/copernicus-dem/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif",
    "scene/S2A_29RKH_20200219_0_L2A/B04.tif",
    "scene/S2A_29RKH_20200219_0_L2A/TCI.tif",
]


def asset_id(path: Path | str) -> str:
    return stable_id(f"folder asset {path}")


@pytest.fixture(scope="module")
def data(session_home: Path) -> Iterator[Emulator]:
    with emulator("--data", str(DATA)) as running:
        yield running


@pytest.fixture(scope="module")
def data_mount(data: Emulator, session_home: Path) -> Iterator[Mount]:
    with mounted(data.env, "-o", "refresh=3600", home=session_home) as mount:
        yield mount


@pytest.fixture(scope="module")
def tree(data_mount: Mount, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original folders again, every file a link into the mount: GDAL finds its siblings."""
    top = tmp_path_factory.mktemp("tree")
    for path in DATA.rglob("*"):
        relative = path.relative_to(DATA)
        if path.is_file() and relative.parts[0] != "_expected":
            link = top / relative
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(data_mount.path / "assets" / asset_id(relative))
    return top


def test_every_file_copies_byte_for_byte(data_mount: Mount, tmp_path: Path) -> None:
    check("cp", "-r", data_mount.path / "assets", tmp_path / "copy")
    originals = {
        asset_id(path.relative_to(DATA)): path
        for path in DATA.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    copies = [path for path in (tmp_path / "copy").iterdir() if path.is_file()]
    assert len(copies) == len(originals) > 100
    for copy in copies:
        found = os.getxattr(data_mount.find(copy.name), "user.up42.id").decode()
        assert filecmp.cmp(copy, originals[found], shallow=False), originals[found]


@pytest.mark.parametrize("raster", RASTERS, ids=str)
def test_gdal_sees_the_same_pixels(tree: Path, raster: Path) -> None:
    expected = json.loads((EXPECTED / f"{raster}.json").read_text())
    done = run("gdalinfo", "-json", "-checksum", tree / raster)
    if "bands" not in expected:
        assert done.returncode != 0  # GDAL cannot open it from a local disk either
        return
    shown = json.loads(done.stdout)
    assert comparable(shown) == comparable(expected)


def test_rasterio_reads_windows_and_overviews(tree: Path) -> None:
    script = """
import sys, rasterio
from rasterio.windows import Window
for mounted, original in zip(sys.argv[1::2], sys.argv[2::2]):
    with rasterio.open(mounted) as a, rasterio.open(original) as b:
        w = Window(a.width // 3, a.height // 3, min(300, a.width // 2), min(300, a.height // 2))
        assert (a.read(window=w) == b.read(window=w)).all()
        assert (a.read(1, out_shape=(64, 64)) == b.read(1, out_shape=(64, 64))).all()
"""
    pairs = [str(path) for cog in COGS for path in (tree / cog, DATA / cog)]
    check(sys.executable, "-c", script, *pairs)


@pytest.mark.parametrize("cog", COGS)
def test_gdalinfo_on_a_cold_cog_is_a_link_and_at_most_two_ranges(
    data: Emulator, mount, cog: str
) -> None:
    fresh = mount(data)
    path = fresh.path / "assets" / asset_id(cog)
    os.stat(path)
    before = data.remote.position()
    check("gdalinfo", path)
    # GDAL may also look into neighbours whose names promise metadata: count this file's requests.
    requests = [r["route"] for r in data.remote.log(before) if r["object_id"] == asset_id(cog)]
    assert requests.count("assets.sign") == 1
    assert 1 <= requests.count("store.get") <= 2
    assert len(requests) == requests.count("assets.sign") + requests.count("store.get")
    again = data.remote.position()
    check("gdalinfo", path)
    assert data.remote.log(again) == []


def test_open_and_stat_fetch_nothing(data: Emulator, mount) -> None:
    fresh = mount(data)
    before = data.remote.position()
    for cog in COGS:
        with (fresh.path / "assets" / asset_id(cog)).open("rb") as file:
            os.fstat(file.fileno())
    assert [r for r in data.remote.log(before) if r["route"].startswith("store")] == []
    assert "assets.sign" not in data.requests(before)


def test_a_small_read_fetches_little(data: Emulator, mount) -> None:
    fresh = mount(data)
    path = fresh.path / "assets" / asset_id(COGS[2])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        middle = os.fstat(descriptor).st_size // 2
        got = os.pread(descriptor, 1000, middle)
    finally:
        os.close(descriptor)
    assert got == (DATA / COGS[2]).read_bytes()[middle : middle + 1000]
    assert fresh.counters()["store.bytes_asked"] <= 512 * 1024

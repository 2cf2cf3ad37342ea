"""Links of 3 s: what is built on paths of a mount, or on fsspec, is right when they have ended."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Emulator, become, emulator, environ, mounted

import up42fs

pytestmark = pytest.mark.mount
LIFE_S = 3


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--link-life-s", str(LIFE_S)) as running:
        yield running


def right_after_links_ended(store: Emulator, program: str, argument: str, given: bytes) -> None:
    """Run `program`, which prints a sum for each of three computes; no request may be refused."""
    since = store.remote.position()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, argument],
        input=given,
        env=environ(store.env) | {"GDAL_DISABLE_READDIR_ON_OPEN": "YES"},
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    turns = [line.split() for line in done.stdout.decode().splitlines()]
    assert len(turns) == 3
    for sums in zip(*turns, strict=True):
        assert len(set(sums)) == 1, turns
        assert float(sums[0]) > 0
    refused = [each for each in store.remote.log(since) if each["status"] in (400, 403)]
    assert not refused, refused


BY_PATH = """
import sys, time
import odc.stac, pystac, rasterio, rioxarray, stackstac
catalog = pystac.Catalog.from_file(sys.argv[1])
items = [each for each in catalog.get_items(recursive=True) if "b04.tiff" in each.assets][:1]
items[0].make_asset_hrefs_absolute()  # stackstac takes them as they are
path = items[0].assets["b04.tiff"].href
assert path.startswith("/"), path
cubes = [
    odc.stac.load(items, bands=["b04.tiff"], crs="EPSG:3857", resolution=100,
                  chunks={"x": 128, "y": 128})["b04.tiff"],
    stackstac.stack(items, assets=["b04.tiff"], epsg=3857, resolution=100, chunksize=128,
                    rescale=False, properties=False, band_coords=False),
    rioxarray.open_rasterio(path, chunks={"x": 256, "y": 256}),
]
with rasterio.open(path) as image:
    for turn in range(3):
        time.sleep(3.5)
        sums = [float(cube.astype("float64").sum().compute(scheduler="sync")) for cube in cubes]
        print(*sums, image.checksum(1))
"""


@pytest.mark.claim("S298")
def test_paths_of_a_mount_outlive_links(store: Emulator, tmp_path: Path) -> None:
    for name in ("odc.stac", "stackstac", "rioxarray", "dask", "pystac"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'up42fs[recipes]'")
    # Without caches each compute needs a link.
    with mounted(store.env, "--cache-size", "0", "--refresh", "3600", home=tmp_path) as mount:
        catalog = str(mount.path / "stac/catalog.json")
        right_after_links_ended(store, BY_PATH, catalog, b"")


BY_FSSPEC = """
import pickle, sys, time
import dask, rasterio
fs, path = pickle.load(sys.stdin.buffer)
def total(fs, path, row):
    with rasterio.open(path, opener=fs) as image:
        window = rasterio.windows.Window(0, row, image.width, 64)
        return float(image.read(1, window=window).astype("float64").sum())
parts = dask.delayed(sum)([dask.delayed(total)(fs, path, row) for row in (0, 64, 128, 192)])
kept = fs.open(path)
for turn in range(3):
    time.sleep(3.5)
    kept.seek(1000 * turn)
    assert kept.read(1000) == fs.cat_file(path, 1000 * turn, 1000 * turn + 1000)
    print(parts.compute(scheduler="sync"))
"""


@pytest.mark.claim("S298")
def test_fsspec_outlives_links(
    store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fsspec", "dask", "rasterio"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'up42fs[recipes]'")
    become(store, monkeypatch)
    fs = up42fs.FileSystem(cache_size=0, mount="never", memory=69)
    path = "assets/elevation_berlin.tif"
    assert fs.exists(path)
    right_after_links_ended(store, BY_FSSPEC, "", pickle.dumps((fs, path)))

"""`up42fs warm` on real mounts: what is warm costs no request."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.windows
from harness import FORKED, UP42FS, Emulator, Mount, check, emulator, environ, run, wait_until

pytestmark = pytest.mark.mount


def settled(there: Mount) -> None:
    """What was read is on disk."""
    wait_until(lambda: not there.status()["disk_cache"]["queued_bytes"], 10, "all is written")


def store_requests(running: Emulator, since: int) -> int:
    return running.remote.count("store.get", since)


def made(directory: Path, *mib: int) -> Path:
    """Archives of so many MiB of noise."""
    directory.mkdir()
    for number, size in enumerate(mib):
        (directory / f"archive{number}.zip").write_bytes(os.urandom((size << 20) + number))
    return directory


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    data = made(tmp_path_factory.mktemp("data") / "files", 5, 20, 1)
    with emulator("--data", str(data)) as running:
        yield running


# warm -------------------------------------------------------------------------------------------


def test_whole_files(files: Emulator, mount) -> None:
    there: Mount = mount(files)
    assets = there.path / "assets"
    paths = [p for p in assets.iterdir() if p.is_file()]
    size = sum(path.stat().st_size for path in paths)
    before = files.remote.position()
    said = check(*FORKED, "warm", "--estimate", *paths)
    assert store_requests(files, before) == 0
    told = re.match(r"(\d+) files, ([\d,]+) bytes .* to fetch: ([\d,]+) bytes .* about (\d+)", said)
    assert told is not None, said
    assert int(told[1]) == len(paths)
    assert int(told[2].replace(",", "")) == size == int(told[3].replace(",", ""))
    done = check(*FORKED, "warm", *paths, paths[0])
    requests = sum(
        1 for r in files.remote.log(before) if r["route"] in ("store.get", "assets.sign")
    )
    assert requests / 2 <= int(told[4]) <= requests * 2
    assert f"{len(paths)} files, " in done
    settled(there)
    for path in paths:
        assert int(os.getxattr(path, "user.up42.cached")) == path.stat().st_size
    before = files.remote.position()
    check(*FORKED, "warm", *paths)
    assert "to fetch: 0 bytes" in check(*FORKED, "warm", "--estimate", *paths)
    assert store_requests(files, before) == 0


@pytest.fixture
def scene(sample: Emulator, mount) -> tuple[Mount, Path]:
    """A mount of the sample storage, and its largest COG."""
    there: Mount = mount(sample)
    # By name: to ask for sizes would begin to learn those of its neighbours too.
    return there, next(there.path.glob("orders/Berlin*/*/*pms-fs_ort_r1c1.tiff"))


def test_overviews_make_a_small_map_free(sample: Emulator, scene: tuple[Mount, Path]) -> None:
    there, path = scene
    said = check(*FORKED, "warm", "--overviews", path)
    assert said.startswith("1 file, ")
    assert there.counters()["store.bytes_fetched"] < path.stat().st_size * 0.55
    before = sample.remote.position()
    with rasterio.open(path) as image:
        assert image.overviews(1)
        image.read(out_shape=(image.count, image.height // 8, image.width // 8))
    assert store_requests(sample, before) == 0


def test_a_box_makes_its_map_free(sample: Emulator, scene: tuple[Mount, Path]) -> None:
    from rasterio.warp import transform_bounds
    from rasterio.windows import from_bounds

    there, path = scene
    with rasterio.open(path) as image:
        west, south, east, north = transform_bounds(image.crs, "EPSG:4326", *image.bounds)
    third = (east - west) / 3, (north - south) / 3
    box = (west + third[0], south + third[1], east - third[0], north - third[1])
    text = ",".join(f"{number:.6f}" for number in box)
    said = check(*FORKED, "warm", "--estimate", "--bbox", text, path)
    most = int(said.partition("at most ")[2].split()[0].replace(",", ""))
    fetched = there.counters().get("store.bytes_fetched", 0)
    check(*FORKED, "warm", "--bbox", text, path)
    assert 0 < there.counters()["store.bytes_fetched"] - fetched <= most < path.stat().st_size
    before = sample.remote.position()
    with rasterio.open(path) as image:
        inside = transform_bounds("EPSG:4326", image.crs, *box)
        window = from_bounds(*inside, transform=image.transform)
        image.read(window=window)
        image.read(window=window, out_shape=(image.count, 64, 64))
    assert store_requests(sample, before) == 0


def test_a_box_elsewhere_costs_nothing(sample: Emulator, scene: tuple[Mount, Path]) -> None:
    _, path = scene
    before = sample.remote.position()
    said = check(*FORKED, "warm", "--bbox=-70,-30,-69,-29", path.parent)
    assert said.startswith("0 files")
    assert store_requests(sample, before) == 0


@pytest.mark.parametrize("spelling", [("--bbox",), ("--bbox=",)], ids=["a word", "with ="])
def test_a_box_of_the_west_begins_with_a_minus(
    start, mount, tmp_path: Path, spelling: tuple[str]
) -> None:
    """`-74.02,…` is no option, and what lies at the same latitude in the east is left alone."""
    data = tmp_path / "data"
    data.mkdir()
    for name, west in (("manhattan", -74.1), ("naples", 14.2)):
        profile = {
            **{"driver": "GTiff", "width": 2048, "height": 2048, "count": 1, "dtype": "uint8"},
            **{"crs": "EPSG:4326", "tiled": True, "blockxsize": 256, "blockysize": 256},
            "transform": rasterio.Affine(0.0001, 0, west, 0, -0.0001, 40.8),
        }
        with rasterio.open(data / f"{name}.tif", "w", **profile) as image:
            image.write(np.random.default_rng(1).integers(0, 255, (1, 2048, 2048), "uint8"))
    running: Emulator = start("--data", str(data))
    there: Mount = mount(running)
    box = "-74.02,40.70,-73.97,40.75"
    words = [f"{spelling[0]}{box}"] if spelling[0].endswith("=") else [*spelling, box]
    said = check(*FORKED, "warm", *words, there.path / "assets")
    # The delivery and its transformed file, whose outlines are the image's; none of Naples.
    assert said.splitlines()[-1].startswith("2 files, "), said
    settled(there)
    before = running.remote.position()
    with rasterio.open(there.path / "assets/manhattan.tif") as image:
        image.read(
            window=rasterio.windows.from_bounds(*map(float, box.split(",")), image.transform)
        )
    assert store_requests(running, before) == 0
    assert int(os.getxattr(there.path / "assets/naples.tif", "user.up42.cached")) < 1 << 20


def test_ctrl_c_stops_and_the_next_run_goes_on(start, mount, tmp_path: Path) -> None:
    # Larger than what is read ahead of who begins a file with a large read.
    running: Emulator = start("--data", str(made(tmp_path / "data", 80)))
    running.remote.faults(bandwidth_bytes_s=1_000_000)
    there: Mount = mount(running)
    path = max((there.path / "assets").glob("*.zip"), key=lambda p: p.stat().st_size)
    process = subprocess.Popen(
        [*UP42FS, "warm", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ({}),
    )
    wait_until(lambda: there.counters().get("store.bytes_fetched", 0) > 3 << 20, 30, "it reads")
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("stopped: ")
    assert "Traceback" not in complaints
    running.remote.faults(bandwidth_bytes_s=None)
    fetched = there.counters()["store.bytes_fetched"]
    assert fetched < path.stat().st_size
    check(*FORKED, "warm", path)
    rest = there.counters()["store.bytes_fetched"] - fetched
    assert rest < path.stat().st_size - (2 << 20)  # what was held was not fetched again
    settled(there)
    assert int(os.getxattr(path, "user.up42.cached")) == path.stat().st_size


def test_what_fails_is_told_and_the_rest_is_read(start, mount, tmp_path: Path) -> None:
    running: Emulator = start("--data", str(made(tmp_path / "data", 1, 2, 1)))
    there: Mount = mount(running)
    paths = sorted((there.path / "assets").glob("*.zip"))
    victim = running.asset(paths[0].name)
    running.remote.faults(fail_object=victim, fail_status=403)
    done = run(*FORKED, "warm", *paths)
    assert done.returncode == 1
    assert done.stderr == f"up42fs: {paths[0]}: Permission denied\n"
    settled(there)
    assert int(os.getxattr(paths[1], "user.up42.cached")) == paths[1].stat().st_size


def test_without_a_disk_cache_it_says_so(files: Emulator, mount) -> None:
    there: Mount = mount(files, "--cache-size", "0")
    path = min((there.path / "assets").glob("*.zip"), key=lambda p: p.stat().st_size)
    done = run(*FORKED, "warm", path)
    assert done.returncode == 0
    assert "the disk cache is off (cache_size is 0)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--bbox", "1,2,3", "/"], 2, "is not W,S,E,N"),
        (["--bbox", "3,2,1,4", "/"], 2, "is no box"),
        (["/"], 1, "does not lie in an up42fs mount"),
        ([], 2, "PATH"),
    ],
)
def test_what_cannot_be_warmed(arguments: list[str], status: int, words: str) -> None:
    done = run(*FORKED, "warm", *arguments)
    assert done.returncode == status
    assert words in done.stderr

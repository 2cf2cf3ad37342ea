"""Stored members of a zip, read by real programs through a mount, beside the same files alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from harness import UP42FS, Emulator, Mount, check

pytestmark = pytest.mark.mount

MIB = 1 << 20
PLACED = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)}
SMALL = {f"QI/quality_{number:03}.gml": os.urandom(3000 + number) for number in range(300)}


def noise(path: Path, side: int, tile: int, driver: str = "GTiff", **options: object) -> None:
    profile = {"driver": driver, "width": side, "height": side, "count": 1, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile} | options
    with rasterio.open(path, "w", **profile, **layout, **PLACED) as image:
        image.write(np.random.default_rng(5).integers(0, 256, (1, side, side), dtype=np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds images, and a zip that stores them and many small files."""
    directory = tmp_path_factory.mktemp("members")
    noise(directory / "image.tif", 4096, 256)
    noise(directory / "last.tif", 2048, 256)
    with rasterio.open(directory / "last.tif", "r+") as image:
        image.update_tags(note="a longer directory, which is written at the end" * 99)
    noise(directory / "band.jp2", 2560, 256, "JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    with zipfile.ZipFile(directory / "delivery.zip", "w") as target:
        for name, content in SMALL.items():
            target.writestr(f"top/{name}", content)
        for name in ("image.tif", "last.tif", "band.jp2"):
            target.write(directory / name, f"top/IMG/{name}")
        target.writestr("top/last.xml", b"<last/>")
    for one in directory.glob("*.aux.xml"):
        one.unlink()
    return directory


@dataclass
class Cost:
    """What the programs in a block cost."""

    links: int = 0
    requests: int = 0
    fetched: int = 0


@contextmanager
def cost(emulator: Emulator, mount: Mount) -> Iterator[Cost]:
    found = Cost()
    log = len(emulator.remote.log(0))
    yield found
    mount.rest()
    news = emulator.remote.log(0)[log:]
    ranges = [one for one in news if one["route"] == "store.get"]
    found.requests = len(ranges)
    found.links = sum(one["route"] == "assets.sign" for one in news)
    for one in ranges:
        start, stop = one["range"].removeprefix("bytes=").split("-")
        found.fetched += int(stop) - int(start) + 1


def folder(mount: Mount) -> Path:
    return mount.path / "assets/delivery/top"


def pixels(path: Path, side: int, at: int, out: int | None = None) -> np.ndarray:
    """A window of an image, read by a program of its own; `out` pixels wide if reduced."""
    script = (
        "import sys, rasterio\n"
        f"window, shape = rasterio.windows.Window({at}, {at}, {side}, {side}), {out or side}\n"
        "with rasterio.open(sys.argv[1]) as image:\n"
        "    read = image.read(1, window=window, out_shape=(shape, shape))\n"
        "sys.stdout.buffer.write(read.tobytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True)
    return np.frombuffer(done.stdout, np.uint8)


def mount_of(emulator: Emulator, mount, *arguments: str) -> Mount:
    there: Mount = mount(emulator, "-o", "archives=on", *arguments)
    return there


@pytest.mark.claim("S231", "S233")
def test_a_folder_in_a_zip_costs_a_link_and_a_range_until_it_is_replaced(
    data: Path, start, mount
) -> None:
    emulator = start("--data", str(data))
    there = mount_of(emulator, mount, "-o", "cache_size=0")
    with cost(emulator, there) as listing:
        listed = check("ls", "-lR", folder(there))
    assert f"{len(SMALL['QI/quality_007.gml'])} " in listed
    assert (listing.links, listing.requests) == (1, 1)
    image = folder(there) / "IMG/image.tif"
    with cost(emulator, there) as again:
        assert check("ls", "-lR", folder(there)) == listed
    assert (again.links, again.requests) == (0, 0)
    with cost(emulator, there) as info:
        check("gdalinfo", image)
    assert (info.links, info.requests) == (0, 1)
    assert info.fetched <= 128 * 1024 + 512
    with image.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, 0) == (data / "image.tif").read_bytes()[:4096]
        size = (data / "delivery.zip").stat().st_size
        emulator.remote.storage(
            "replace_object", id=emulator.asset("delivery.zip"), size=size, seed=9
        )
        with pytest.raises(OSError) as caught:
            os.pread(file.fileno(), 4096, 9 * MIB)
        assert caught.value.errno == errno.ESTALE


#: Programs by name: what they do with an image.
USES = {
    "info": lambda path: check("gdalinfo", path).replace(str(path), ""),
    "window": lambda path: pixels(path, 1024, 700).tobytes(),
    "overview": lambda path: pixels(path, 2048, 0, out=204).tobytes(),
}


@pytest.mark.claim("S230")
@pytest.mark.parametrize(
    ("name", "uses"), [("last.tif", ["info", "window"]), ("band.jp2", ["info", "overview"])]
)
def test_an_image_in_a_zip_costs_what_it_costs_alone(
    data: Path, start, mount, name: str, uses: list[str]
) -> None:
    emulator = start("--data", str(data))
    costs: dict[str, list[Cost]] = {use: [] for use in uses}
    for place in ("assets/delivery/top/IMG", "assets"):
        there = mount_of(emulator, mount, "-o", "cache_size=0")
        check("ls", there.path / place)
        for use in uses:
            with cost(emulator, there) as found:
                assert USES[use](there.path / place / name) == USES[use](data / name)
            costs[use].append(found)
    for inside, outside in costs.values():
        # The order in which the kernel reads ahead of jumps decides about requests, not bytes.
        by_chance = 8 if name == "band.jp2" else 0
        assert inside.requests <= 1.05 * outside.requests + by_chance
        assert inside.fetched <= 1.05 * outside.fetched + 512


@pytest.mark.claim("S230", "S235")
def test_a_delivery_is_copied_as_it_is_and_kept_on_disk(
    data: Path, start, mount, tmp_path: Path
) -> None:
    emulator = start("--data", str(data))
    for place in ("first", "second"):
        there = mount_of(emulator, mount, "--cache-dir", str(tmp_path / "cache"))
        with cost(emulator, there) as small:
            check("cp", "-r", folder(there) / "QI", tmp_path)
        for name, content in SMALL.items():
            assert (tmp_path / name).read_bytes() == content
        with cost(emulator, there) as rest:
            check("cp", "-r", folder(there), tmp_path / place)
        for name in ("image.tif", "last.tif", "band.jp2"):
            assert check("cmp", tmp_path / place / "IMG" / name, data / name) == ""
        if place == "first":
            assert small.links + rest.links == 1
            assert small.requests <= 16, "of 300 files, in the order of inode numbers"
            assert small.fetched <= 1.02 * sum(map(len, SMALL.values())) + MIB
            archive_bytes = (data / "delivery.zip").stat().st_size
            assert small.fetched + rest.fetched <= 1.02 * archive_bytes
        else:
            assert small.requests + rest.requests == 0
        check(*UP42FS, "unmount", there.path)

"""Programs that people use, on a server: they follow redirects, and outlive the links."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Emulator, Served, check, emulator, served

from up42fs.emulator.content import pattern_bytes

SIZE, SEED = 3_000_000, 5
DATA = pattern_bytes(SEED, 0, SIZE)
BIG = "/assets/big.bin"
TIFF = "/assets/elevation_berlin.tif"
LIFE_S = 3
HREFS = """
import sys, time, pystac
catalog = pystac.Catalog.from_file(sys.argv[1])
items = [each for each in catalog.get_items(recursive=True) if "b04.tiff" in each.assets]
assert items, "no item has these bands"
items = items[:1]
item = items[0]
assert item.assets["b04.tiff"].get_absolute_href().startswith("http://127.0.0.1:")
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    """Its links live 3 s, and its object store refuses Authorization, as UP42's does."""
    with emulator("--link-life-s", str(LIFE_S)) as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
        yield running


@pytest.fixture(scope="module")
def server(store: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(store.env, home=tmp_path_factory.mktemp("served")) as running:
        yield running


def environment() -> dict[str, str]:
    """No account: neither clients nor workers need one."""
    return {"GDAL_DISABLE_READDIR_ON_OPEN": "YES", "PYTHONWARNINGS": "ignore"}


def python(program: str, *arguments: str, needs: tuple[str, ...] = ()) -> str:
    for name in needs:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'up42fs[recipes]'")
    return check(sys.executable, "-c", program, *arguments, env=environment(), timeout_s=110)


# Each prints the MD5 of 1 000 bytes from 1 000 000 on, asked for with an Authorization header.
RANGES = {
    "requests": """
import hashlib, requests, sys
answer = requests.get(sys.argv[1], timeout=20, headers={"Range": "bytes=1000000-1000999",
                      "Authorization": "Bearer something-of-the-client"})
assert answer.status_code == 206 and len(answer.history) == 1
assert "Authorization" not in answer.request.headers
print(hashlib.md5(answer.content).hexdigest())
""",
    "fsspec": """
import aiohttp, fsspec, hashlib, sys
system = fsspec.filesystem("http", client_kwargs={"headers": {"Authorization": "Bearer x"}})
print(hashlib.md5(system.cat_file(sys.argv[1], 1_000_000, 1_001_000)).hexdigest())
with fsspec.open(sys.argv[1]) as file:
    file.seek(1_000_000)
    assert hashlib.md5(file.read(1000)).hexdigest() == hashlib.md5(
        system.cat_file(sys.argv[1], 1_000_000, 1_001_000)).hexdigest()
""",
    "obstore": """
import hashlib, sys
import obstore
from obstore.store import HTTPStore
base, _, name = sys.argv[1].rpartition("/")
store = HTTPStore.from_url(base, client_options={"allow_http": True,
                           "default_headers": {"Authorization": "Bearer x"}})
part = bytes(obstore.get_range(store, name, start=1_000_000, end=1_001_000))
print(hashlib.md5(part).hexdigest())
assert obstore.head(store, name)["size"] == 3_000_000
""",
}


@pytest.mark.parametrize("client", RANGES)
def test_clients_follow_with_a_range_and_drop_authorization(
    store: Emulator, server: Served, client: str
) -> None:
    from hashlib import md5

    before = len(store.remote.log(0))
    needs = (client, "aiohttp") if client == "fsspec" else (client,)
    told = python(RANGES[client], server.url(BIG), needs=needs)
    assert told.strip() == md5(DATA[1_000_000:1_001_000]).hexdigest()
    asked = [each for each in store.remote.log(before) if each["route"].startswith("store.")]
    assert asked
    assert all(each["status"] in (200, 206) for each in asked), asked


def test_curl_follows_with_a_range_and_drops_authorization(server: Served, tmp_path: Path) -> None:
    target = tmp_path / "part"
    check(
        *("curl", "-sfL", "-o", target, "-r", "1000000-1000999"),
        *("-H", "Authorization: Bearer x", server.url(BIG)),
    )
    assert target.read_bytes() == DATA[1_000_000:1_001_000]


def test_gdal_and_rasterio_read_by_address(server: Served) -> None:
    expected = check("gdalinfo", "-checksum", f"/vsicurl/{server.url(TIFF)}?proxy")
    told = check("gdalinfo", "-checksum", f"/vsicurl/{server.url(TIFF)}", env=environment())
    assert checksums(told) == checksums(expected) != []
    time.sleep(LIFE_S + 1)
    told = check(
        *("gdalinfo", "-checksum", f"/vsicurl/{server.url(TIFF)}"),
        env=environment() | {"GDAL_HTTP_HEADERS": "Authorization: Bearer x"},
    )
    assert checksums(told) == checksums(expected)
    program = "import rasterio, sys; print(rasterio.open(sys.argv[1]).checksum(1))"
    assert f"Checksum={python(program, server.url(TIFF)).strip()}" in checksums(expected)


def checksums(told: str) -> list[str]:
    return [line.strip() for line in told.splitlines() if "Checksum" in line]


@pytest.mark.claim("S288")
def test_gdal_keeps_a_file_open_beyond_the_life_of_its_link(server: Served) -> None:
    program = f"""
import rasterio, sys, time
from rasterio.windows import Window
with rasterio.open(sys.argv[1]) as image, rasterio.open(sys.argv[1] + "?proxy") as other:
    for turn in range(3):
        window = Window(turn * 256, turn * 256, 256, 256)
        assert (image.read(1, window=window) == other.read(1, window=window)).all()
        time.sleep({LIFE_S + 0.5})
"""
    python(program, server.url(TIFF))


COMPUTE = """
sums = []
for turn in range(3):
    sums.append(float(cube.astype("float64").sum().compute()))
    time.sleep(3.5)
assert len(set(sums)) == 1 and sums[0] > 0, sums
print(sums[0])
"""
ODC = """
import odc.stac
cube = odc.stac.load(items, bands=["b04.tiff"], crs="EPSG:3857", resolution=100,
                     chunks={"x": 128, "y": 128})["b04.tiff"]
"""
STACKSTAC = """
import stackstac
cube = stackstac.stack(items, assets=["b04.tiff"], epsg=3857, resolution=100, chunksize=128,
                       rescale=False, properties=False, band_coords=False)
"""
RIOXARRAY = """
import rioxarray
address = item.assets["b04.tiff"].get_absolute_href()
cube = rioxarray.open_rasterio(address, chunks={"x": 256, "y": 256})
"""


@pytest.mark.parametrize(
    ("library", "load"),
    [("odc.stac", ODC), ("stackstac", STACKSTAC), ("rioxarray", RIOXARRAY)],
)
@pytest.mark.claim("S288")
def test_graphs_outlive_the_links(store: Emulator, server: Served, library: str, load: str) -> None:
    """The graph is built once; each of three computes begins after its links have ended."""
    before = len(store.remote.log(0))
    program = HREFS + load + "import pickle, cloudpickle\n"
    program += 'assert b"Signature" not in cloudpickle.dumps(cube)\ntime.sleep(4)\n' + COMPUTE
    python(program, server.url("/stac/catalog.json"), needs=("dask", library))
    log = store.remote.log(before)
    refused = [each for each in log if each["status"] in (400, 403)]
    assert not refused, refused
    assert sum(each["route"] == "assets.sign" for each in log) <= 24


def test_workers_of_dask_need_no_account(server: Served) -> None:
    """In processes of their own, which know an address and nothing else."""
    program = (
        "import os\nassert not any(name.startswith('UP42_') for name in os.environ)\n"
        "if __name__ == '__main__':\n"
        + indented(HREFS)
        + indented("""
from dask.distributed import Client, LocalCluster
import rioxarray
cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
with cluster, Client(cluster):
    address = item.assets["b04.tiff"].get_absolute_href()
    image = rioxarray.open_rasterio(address, chunks={"x": 256, "y": 256}, lock=False)
    print(float(image.astype("float64").sum().compute()))
""")
    )
    for name in ("dask", "distributed", "rioxarray"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'up42fs[recipes]'")
    script = Path(server.log).with_name("dask_script.py")
    script.write_text(program)
    told = check(
        sys.executable,
        script,
        server.url("/stac/catalog.json"),
        env=environment() | {"HOME": str(script.parent), "PATH": os.environ["PATH"]},
        timeout_s=110,
    )
    assert float(told.split()[-1]) > 0


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())

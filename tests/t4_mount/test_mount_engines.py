"""The examples of docs/clusters.md, run as they stand: one mount and one server for all of them.

Only their clusters are of one process each, since each more takes seconds to start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import REPOSITORY, Emulator, Served, check, mounted, run, served

pytestmark = pytest.mark.mount

PAGE = REPOSITORY / "docs/clusters.md"
ADDRESS = "http://127.0.0.1:8042"
#: Sizes of clusters in the examples, and those that the tests start.
SMALLER = {"n_workers=2": "n_workers=1", "local[2]": "local[1]", "num_cpus=2": "num_cpus=1"}
QGIS_PYTHON = "/usr/bin/python3"  # Debian's: QGIS is made for it


def examples() -> list[tuple[str, str]]:
    """Headings of the page, and the Python examples below each."""
    found = []
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]:
        heading, _, text = section.partition("\n")
        blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
        found += [(f"{heading} {number + 1}", block) for number, block in enumerate(blocks)]
    return found


def needs(block: str) -> list[str]:
    """The packages that an example imports."""
    imports = re.findall(r"^(?:import|from) (\w+(?:\.\w+)?)", block, flags=re.M)
    return [name for name in imports if name.split(".")[0] not in sys.stdlib_module_names]


@dataclass
class Place:
    """A home with a mount at ~/up42, and a server over the same cache."""

    home: Path
    server: Served
    env: dict[str, str]

    def runs(self, block: str) -> str:
        script = self.home / "example.py"
        for size, smaller in SMALLER.items():
            block = block.replace(size, smaller)
        script.write_text(block.replace(ADDRESS, self.server.address.rstrip("/")))
        return check(sys.executable, script, env=self.env, cwd=self.home, timeout_s=100)


@pytest.fixture(scope="module")
def place(sample: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("engines")
    cache = ("--cache-dir", str(home / "cache"))
    with (
        mounted(sample.env, *cache, "-o", "refresh=3600", home=home) as mount,
        served(sample.env, *cache, home=home) as server,
    ):
        (home / "up42").symlink_to(mount.path)
        env = sample.env | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "PYTHONWARNINGS": "ignore",
            "UP42FS_SERVER": server.address,
            "SPARK_LOCAL_IP": "127.0.0.1",
            # A JVM that lives for seconds should not optimise what it runs.
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": "/tmp",  # its sockets have short names only there
        }
        yield Place(home, server, env)


def require(block: str) -> None:
    for name in needs(block):
        pytest.importorskip(name, reason=f"no {name}: pip install 'up42fs[recipes,engines]'")


@pytest.mark.claim("S275")
@pytest.mark.parametrize(
    "block", [pytest.param(b, id=h) for h, b in examples() if not h.startswith("Jupyter")]
)
def test_an_example_runs(place: Place, block: str) -> None:
    require(block)
    if "pyspark" in block and not shutil.which("java"):
        pytest.skip("no Java: sudo apt-get install default-jre-headless")
    told = place.runs(block).strip().splitlines()
    assert told
    numbers = [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", told[-1])]
    assert numbers
    assert any(numbers), told  # no image of the sample is empty


@pytest.mark.claim("S275")
def test_the_example_runs_in_a_notebook(place: Place) -> None:
    (block,) = [b for h, b in examples() if h.startswith("Jupyter")]
    for name in ("nbclient", "ipykernel"):
        pytest.importorskip(name, reason=f"no {name}: pip install 'up42fs[recipes]'")
    require(block)
    runner = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.stdin.read())])
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
print(notebook.cells[0].outputs[0]["text"].split()[0])
"""
    cell = block.replace(ADDRESS, place.server.address.rstrip("/"))
    told = check(sys.executable, "-c", runner, env=place.env, input=cell, timeout_s=100)
    assert int(told.split()[-1]) == (place.home / "up42/assets/elevation_berlin.tif").stat().st_size


TITILER = """
import hashlib, json, sys
import httpx, trio
from fastapi import FastAPI
from titiler.core.factory import TilerFactory

app = FastAPI()
app.include_router(TilerFactory().router)

async def asked():
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://titiler") as client:
        for path, more in (("/info", {}), ("/preview.png", {"max_size": 128})):
            answer = await client.get(path, params={"url": sys.argv[1], **more})
            assert answer.status_code == 200, answer.text
            told = answer.json() if path == "/info" else None
            if told is not None:
                print(json.dumps([told["width"], told["height"], told["count"], told["bounds"]]))
            else:
                print(hashlib.sha256(answer.content).hexdigest(), len(answer.content))

trio.run(asked)
"""


@pytest.mark.claim("S275")
def test_titiler_reads_by_address(place: Place) -> None:
    for name in ("titiler.core", "fastapi"):
        pytest.importorskip(name, reason=f"no {name}: pip install 'up42fs[recipes]'")
    file = "assets/elevation_berlin.tif"
    by_address, by_path = (
        check(sys.executable, "-c", TITILER, str(source), env=place.env, timeout_s=100)
        for source in (place.server.url("/" + file), place.home / "up42" / file)
    )
    assert by_address == by_path
    assert len(by_address.splitlines()) == 2


@pytest.mark.claim("S275")
def test_qgis_reads_by_address(place: Place) -> None:
    if not Path(QGIS_PYTHON).exists() or run(QGIS_PYTHON, "-c", "import qgis.core").returncode:
        pytest.skip("no QGIS: sudo apt-get install python3-qgis")
    script = Path(__file__).with_name("qgis_script.py")
    env = place.env | {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(place.home)}
    file = "assets/elevation_berlin.tif"
    sources = (f"/vsicurl/{place.server.url('/' + file)}", place.home / "up42" / file)
    by_address, by_path = (
        json.loads(check(QGIS_PYTHON, script, source, env=env).splitlines()[-1])
        for source in sources
    )
    assert by_address == by_path


def test_the_page_has_an_example_of_each() -> None:
    headings = {heading.rsplit(" ", 1)[0] for heading, _ in examples()}
    wanted = {"Dask", "Spark", "Ray", "Jupyter", "rio-tiler and titiler", "rasterio in threads"}
    assert headings == wanted

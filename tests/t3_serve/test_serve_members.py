"""Members of archives by address and through fsspec: found, listed, read by ranges and by GDAL."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from harness import Emulator, Served, become, check, emulator, environ, served

rasterio = pytest.importorskip("rasterio", reason="no rasterio: pip install rasterio")
import numpy as np  # noqa: E402

LONG_S = 20
NOISE = random.Random(4).randbytes(1_500_000)
#: By archive, and how its members are packed.
ARCHIVES = ("stored.zip", "packed.zip", "plain.tar", "gzip.tar.gz")


def image() -> bytes:
    """A GeoTIFF of noise."""
    pixels = np.random.default_rng(1).integers(0, 4000, (2, 300, 400), dtype="uint16")
    profile = {"driver": "GTiff", "width": 400, "height": 300, "count": 2, "dtype": "uint16"}
    with rasterio.MemoryFile() as memory:
        at = rasterio.Affine(10, 0, 400_000, 0, -10, 5_800_000)
        with memory.open(**profile, crs="EPSG:32633", transform=at) as made:
            made.write(pixels)
        return bytes(memory.read())


TIFF = image()
#: The names need encoding in addresses.
MEMBERS = {"IMG/a b.tif": TIFF, "IMG/köln#1.bin": NOISE, "readme.txt": b"hello\n"}


def packed(name: str) -> bytes:
    """An archive of all members."""
    into = io.BytesIO()
    if name.endswith(".zip"):
        method = zipfile.ZIP_DEFLATED if name.startswith("packed") else zipfile.ZIP_STORED
        with zipfile.ZipFile(into, "w", method) as archive:
            for member, data in MEMBERS.items():
                archive.writestr(member, data)
        return into.getvalue()
    with tarfile.open(fileobj=into, mode="w:gz" if name.endswith("gz") else "w") as tar:
        for member, data in MEMBERS.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return into.getvalue()


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "3,1,1") as running:
        order = running.remote.storage("add_order", display_name="Mine")["id"]
        for name in ARCHIVES:
            content = b64encode(packed(name)).decode()
            running.remote.storage("add_asset", name=name, content_base64=content, order_id=order)
        yield running


@pytest.fixture(scope="module")
def server(store: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(store.env, home=tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def fs(store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")
    import up42fs

    become(store, monkeypatch)
    return up42fs.FileSystem(cache_dir=str(tmp_path), mount="never", memory=67)


def directory_of(archive: str) -> str:
    """Where the members of an archive stand."""
    return "orders/Mine/" + archive.partition(".")[0]


def get(server: Served, path: str, **headers: str) -> requests.Response:
    return requests.get(
        server.url(f"/{path}"), headers=headers, timeout=LONG_S, allow_redirects=False
    )


@pytest.mark.claim("S292")
@pytest.mark.parametrize("archive", ARCHIVES)
def test_members_are_listed_and_read_by_address(server: Served, archive: str) -> None:
    told = get(server, directory_of(archive) + "/", Accept="application/json").json()["entries"]
    assert {entry["name"]: entry["type"] for entry in told} == {
        "IMG": "directory",
        "readme.txt": "file",
    }
    inner = next(entry["href"] for entry in told if entry["name"] == "IMG")
    told = requests.get(inner + "?json", timeout=LONG_S).json()["entries"]
    sizes = {"a b.tif": len(TIFF), "köln#1.bin": len(NOISE)}
    assert {entry["name"]: entry["size"] for entry in told} == sizes
    page = requests.get(inner, timeout=LONG_S)
    assert page.headers["content-type"].startswith("text/html")
    for entry in told:
        href = entry["href"]
        assert href.isascii()
        assert href.partition("://")[2].partition("/")[2] in page.text
        data = MEMBERS["IMG/" + entry["name"]]
        whole = requests.get(href, timeout=LONG_S, allow_redirects=False)
        assert (whole.status_code, whole.content) == (200, data)
        etag = whole.headers["etag"]
        for spec, span in (
            ("bytes=0-0", slice(0, 1)),
            ("bytes=-5", slice(-5, None)),
            ("bytes=70000-70999", slice(70_000, 71_000)),
        ):
            headers = {"Range": spec, "If-Range": etag}
            part = requests.get(href, headers=headers, timeout=LONG_S)
            assert (part.status_code, part.content) == (206, data[span])
            assert part.headers["content-range"].endswith(f"/{len(data)}")
        beyond = requests.get(href, headers={"Range": f"bytes={len(data)}-"}, timeout=LONG_S)
        assert beyond.status_code == 416
        known = requests.get(href, headers={"If-None-Match": etag}, timeout=LONG_S)
        assert (known.status_code, known.content) == (304, b"")
        other = requests.get(href, headers={"If-Match": '"another"'}, timeout=LONG_S)
        assert other.status_code == 412
        head = requests.head(href, timeout=LONG_S)
        assert (head.headers["content-length"], head.headers["etag"]) == (str(len(data)), etag)


@pytest.mark.claim("S292")
@pytest.mark.parametrize("archive", ARCHIVES)
def test_gdal_reads_a_member_by_its_address(server: Served, archive: str, tmp_path: Path) -> None:
    local = tmp_path / "a.tif"
    local.write_bytes(TIFF)
    address = server.url(f"/{directory_of(archive)}/IMG/a b.tif").replace(" ", "%20")
    env = {"GDAL_DISABLE_READDIR_ON_OPEN": "YES"}

    def checksums(path: object) -> list[str]:
        told = check("gdalinfo", "-checksum", str(path), env=env)
        return [line.strip() for line in told.splitlines() if "Checksum" in line]

    assert checksums(f"/vsicurl/{address}") == checksums(local) != []
    # With its own probes for sidecars, too.
    del env["GDAL_DISABLE_READDIR_ON_OPEN"]
    assert checksums(f"/vsicurl/{address}") == checksums(local)


def test_a_member_of_another_origin_or_an_absent_one(server: Served) -> None:
    assert get(server, directory_of("stored.zip") + "/absent").status_code == 404
    assert get(server, directory_of("stored.zip") + "/readme.txt/x").status_code == 404
    assert get(server, directory_of("stored.zip") + "/../stored.zip").status_code in (302, 400)


@pytest.mark.claim("S293")
@pytest.mark.parametrize("archive", ARCHIVES)
def test_members_through_fsspec(fs: Any, store: Emulator, archive: str) -> None:
    import fsspec

    path = f"{directory_of(archive)}/IMG/a b.tif"
    other = f"{directory_of(archive)}/IMG/köln#1.bin"
    with fsspec.open(f"up42://{path}", **fs.storage_options) as file:
        assert file.size == len(TIFF)
        assert file.read(100) == TIFF[:100]
        file.seek(-100, io.SEEK_END)
        assert file.read() == TIFF[-100:]
    info = fs.info(path)
    assert (info["type"], info["size"]) == ("file", len(TIFF))
    assert fs.ls(f"{directory_of(archive)}/IMG", detail=False) == [path, other]
    listing = type(fs)(**{**fs.storage_options, "archives": "on"})
    assert {path, other} <= set(listing.find("orders/Mine"))
    assert set(listing.find(directory_of(archive))) == {
        f"{directory_of(archive)}/{name}" for name in MEMBERS
    }
    starts = [0, 1_000_000, 5]
    ends = [10, 1_000_100, len(NOISE)]
    pieces = fs.cat_ranges([path, other, other], [0, *starts[1:]], ends)
    assert pieces == [TIFF[:10], NOISE[1_000_000:1_000_100], NOISE[5:]]
    with fs.open(other) as file:
        chance = random.Random(2)
        for _ in range(100):
            at, size = chance.randrange(len(NOISE)), chance.choice((1, 4096, 200_000))
            file.seek(at)
            assert file.read(size) == NOISE[at : at + size]
    assert fs.isdir(f"{directory_of(archive)}/IMG")
    assert not fs.exists(f"{directory_of(archive)}/IMG/absent")
    with pytest.raises(FileNotFoundError):
        fs.open(f"{directory_of(archive)}/IMG/absent")
    assert fs.ukey(path)


@pytest.mark.claim("S293")
def test_small_reads_of_a_member_do_not_cross_threads(
    fs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fs.open(directory_of("stored.zip") + "/IMG/köln#1.bin") as file:
        assert file.read() == NOISE
        calls = []
        real = fs.read_by

        def counted(*arguments: Any) -> Any:
            calls.append(arguments)
            return real(*arguments)

        monkeypatch.setattr(fs, "read_by", counted)
        file.seek(0)
        for at in range(0, len(NOISE), 4096):
            assert file.read(4096) == NOISE[at : at + 4096]
    assert len(calls) <= 20


def test_a_worker_reads_a_member(fs: Any, store: Emulator) -> None:
    """Facts of a member are not pickled: it is found again, by its archive's list."""
    import pickle

    path = directory_of("stored.zip") + "/IMG/köln#1.bin"
    fs.info(path)
    script = (
        "import sys, json, pickle\nfs, path = pickle.load(sys.stdin.buffer)\n"
        "print(json.dumps(fs.cat_file(path, 100, 110).hex()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((fs, path)),
        env=environ(store.env),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert bytes.fromhex(json.loads(done.stdout)) == NOISE[100:110]

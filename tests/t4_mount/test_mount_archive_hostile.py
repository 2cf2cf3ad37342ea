"""Archives that lie, in real mounts: nothing leads out, nothing good is lost, nothing grows."""

from __future__ import annotations

import base64
import errno
import os
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import archive_support as archives
import pytest
import zip_support as zips
from archive_support import Built
from harness import Emulator, Mount, emulator, kib_at_most, kib_resident, mounted
from zip_support import ZipEntry, zip_bytes

from up42fs.archive.tar_members import GAP_NAME

pytestmark = pytest.mark.mount

REFUSED = {errno.EIO, errno.EACCES, errno.EOPNOTSUPP}
MIB = 1 << 20


def put(emulator: Emulator, name: str, data: bytes) -> None:
    content = base64.b64encode(data).decode()
    emulator.remote.storage("add_asset", name=name, content_base64=content)


def walked(top: Path) -> tuple[dict[str, bytes], dict[str, int]]:
    """The bytes of all files that can be read, and the errno of the others; no link leads out."""
    read, refused = {}, {}
    inside = os.path.realpath(top)
    for folder, folders, names in os.walk(top):
        for name in [*names, *folders]:
            path = Path(folder, name)
            assert os.path.realpath(path).startswith(f"{inside}/")
            if path.is_symlink() or path.is_dir():
                continue
            size = path.stat().st_size
            try:
                found = path.read_bytes()
            except OSError as error:
                refused[str(path.relative_to(top))] = error.errno or 0
            else:
                assert len(found) == size
                read[str(path.relative_to(top))] = found
            assert path.stat().st_size == size, "sizes never change"
    return read, refused


SIZE = 128 * MIB
LINKS = 100


def bomb() -> bytes:
    """Zeros at the ratio that deflate allows; once more, under a size that is too small."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed, crc32 = b"", 0
    for _ in range(SIZE // MIB):
        packed += packer.compress(bytes(MIB))
        crc32 = zlib.crc32(bytes(MIB), crc32)
    packed += packer.flush()
    entries = [
        ZipEntry("zeros", b"", zips.DEFLATED, packed=packed, size=SIZE, crc32=crc32),
        ZipEntry("more", b"", zips.DEFLATED, packed=packed, size=5 * MIB, crc32=0),
        ZipEntry("good", b"good"),
    ]
    return zip_bytes(entries)


def linked() -> bytes:
    """Many symlinks between files."""
    entries = []
    for number in range(LINKS):
        entries.append(ZipEntry(f"d/file{number}", archives.noise(5000)))
        entries.append(zips.symlink_entry(f"d/link{number}", f"file{number}"))
    return zip_bytes(entries)


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "1") as running:
        yield running


@pytest.fixture(scope="module")
def lying(store: Emulator) -> dict[str, Built]:
    built = {name: build() for name, build in archives.hostile.items()}
    for name, one in built.items():
        put(store, f"{name}.{one.name.partition('.')[2]}", one.data)
    put(store, "links.zip", linked())
    put(store, "bomb.zip", bomb())
    return built


@pytest.fixture(scope="module")
def shown(
    store: Emulator, lying: dict[str, Built], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    options = "archives=on,refresh=3600,memory=64,cache_size=100M"
    with mounted(store.env, "-o", options, home=tmp_path_factory.mktemp("lying")) as one:
        yield one


@pytest.mark.claim("S200")
@pytest.mark.claim("S203")
def test_archives_that_lie_lose_nothing_good_and_lead_nowhere(
    shown: Mount, lying: dict[str, Built]
) -> None:
    for name, built in lying.items():
        top = shown.path / "assets" / name
        if name.endswith("-not"):
            with pytest.raises(NotADirectoryError):
                os.listdir(top)
            continue
        read, refused = walked(top)
        assert {path: read.get(path) for path in built.files} == dict(built.files), name
        assert set(refused.values()) <= REFUSED
        assert refused.keys() >= built.broken.keys(), name
        for path, size in built.broken.items():
            assert (top / path).stat().st_size == size
        if "names" in name:
            assert len(read) >= len(archives.HOSTILE_NAMES) - 2, "all but a folder, and a twin"


@pytest.mark.claim("S404")
def test_a_copy_of_a_tar_with_lost_members_fails_once_and_copies_the_rest(
    shown: Mount, lying: dict[str, Built], tmp_path: Path
) -> None:
    built = lying["tar-damaged"]
    archive = shown.path / "assets/tar-damaged.tar"
    listed = subprocess.run(["tar", "-tf", archive], capture_output=True, check=False)
    assert listed.returncode == 2, "tar says it, too"
    copied = subprocess.run(
        ["cp", "-r", shown.path / "assets/tar-damaged", tmp_path / "out"],
        capture_output=True, text=True, check=False,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert copied.returncode == 1
    assert copied.stderr.count("\n") == copied.stderr.count("Input/output error") == 1
    assert GAP_NAME in copied.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == built.files
    log = shown.log.read_text()
    assert "a header in it has a wrong checksum, so members are missing" in log
    assert f"{GAP_NAME} of tar-damaged" in log
    assert "stands for members that cannot be found" in log


def test_targets_of_symlinks_cost_few_requests(store: Emulator, shown: Mount) -> None:
    since = len(store.remote.log(0))
    links = [entry for entry in os.scandir(shown.path / "assets/links/d") if entry.is_symlink()]
    assert {os.readlink(link) for link in links} == {f"file{number}" for number in range(LINKS)}
    assert store.requests(since).get("store.get", 0) <= 3


@pytest.mark.claim("S203")
def test_a_bomb_takes_no_more_memory_than_other_files(shown: Mount) -> None:
    top = shown.path / "assets/bomb"
    before_kib = kib_resident(shown.pid)
    with pytest.raises(OSError, match="output"):
        (top / "more").read_bytes()
    read = 0
    with (top / "zeros").open("rb", buffering=0) as file:
        while piece := file.read(MIB):
            read += len(piece)
            assert not piece.strip(b"\0")
    assert read == SIZE
    assert (top / "good").read_bytes() == b"good"
    assert kib_at_most(shown.pid) - before_kib < 80 << 10

"""Archives as directories on real mounts: `cp -r` makes what `unzip` and `tar` make, GDAL reads it.

Deliveries of the shared data are compared if they are there; archives made by script always are.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import archive_support
import pytest
from archive_model import Shelf, random_ranges, random_shelf
from harness import DATA, Emulator, Mount, check, comparable, emulator, mounted, run

from up42fs.archive.kinds import ArchiveKind as Kind
from up42fs.archive.kinds import kind_of, stem_of

pytestmark = pytest.mark.mount

ON = ("-o", "archives=on")
DELIVERIES = sorted(
    path for path in (DATA / "delivery").rglob("*") if path.is_file() and kind_of(path.name)
)


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "2,1,1") as running:
        yield running


@pytest.fixture(scope="module")
def shelf(store: Emulator) -> Shelf:
    """Every honest archive, under a name that its builder does not share with another."""
    made = Shelf()
    for name, build in archive_support.honest.items():
        built = build()
        made.add(store, f"{name}.{built.name.partition('.')[2]}", built)
    for built in (archive_support.dimap(), archive_support.safe()):
        made.add(store, built.name, built)
    return made


@pytest.fixture(scope="module")
def mount(
    store: Emulator, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    with mounted(store.env, *ON, home=tmp_path_factory.mktemp("archives")) as one:
        yield one


def unpacked(archive: Path, where: Path) -> Path:
    """What `unzip` or `tar` makes of an archive."""
    where.mkdir()
    if kind_of(archive.name) is Kind.ZIP:
        done = run("unzip", "-qq", "-o", archive, cwd=where)
        assert done.returncode in (0, 1), done.stderr  # 1: bytes before the first member
    else:
        # Devices are not shown, and not everybody may make them.
        check("tar", "--force-local", "--exclude=tty", "--exclude=disk", "-xf", archive, cwd=where)
    return where


def tree(top: Path) -> dict[str, bytes | str | None]:
    """Bytes of files, targets of links, None for directories; FIFOs are no part of a mount."""
    found: dict[str, bytes | str | None] = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = None
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def assert_same(ours: dict[str, bytes | str | None], theirs: dict[str, bytes | str | None]) -> None:
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


#: Debian's unzip knows no LZMA; Python reads it in `test_archive_support`.
_NOT_UNZIPPED = ("zip-lzma",)
#: Symlinks that lead out are left out here; `tar` and `unzip` make them.
_LINKS_OUT = ("d/out", "d/absolute")


@pytest.mark.claim("S213")
@pytest.mark.parametrize("name", archive_support.honest)
def test_a_copy_is_what_the_archives_program_makes(
    name: str, mount: Mount, shelf: Shelf, tmp_path: Path
) -> None:
    archive_name = next(one for one in shelf.built if one.startswith(f"{name}."))
    built = shelf.built[archive_name]
    check("cp", "-r", mount.path / "assets" / stem_of(archive_name), tmp_path / "ours")
    ours = tree(tmp_path / "ours")
    assert {path: ours[path] for path in built.files} == built.files
    if name not in _NOT_UNZIPPED:
        (tmp_path / archive_name).write_bytes(built.data)
        theirs = tree(unpacked(tmp_path / archive_name, tmp_path / "theirs"))
        for out in _LINKS_OUT:
            if name in ("tar-links", "zip-symlinks"):
                theirs.pop(out)
                ours.pop(out, None)
        assert_same(ours, theirs)


@pytest.mark.data
@pytest.mark.claim("S213")
@pytest.mark.skipif(not DELIVERIES, reason=f"no deliveries below {DATA}; set UP42FS_TEST_DATA")
@pytest.mark.parametrize("archive", DELIVERIES, ids=lambda path: path.name[:30])
def test_a_delivery_is_copied_and_read_by_gdal_as_unpacked(archive: Path, tmp_path: Path) -> None:
    theirs = unpacked(archive, tmp_path / "theirs")
    alone = tmp_path / "data"  # two archives of one stem would share its name
    alone.mkdir()
    shutil.copy(archive, alone)
    with (
        emulator("--data", str(alone)) as store,
        mounted(store.env, *ON, home=tmp_path) as mount,
    ):
        inside = mount.path / "assets" / stem_of(archive.name)
        check("cp", "-r", inside, tmp_path / "ours", timeout_s=100)
        assert_same(tree(tmp_path / "ours"), tree(theirs))
        images = [
            path.relative_to(theirs)
            for path in theirs.rglob("*")
            if path.suffix.lower() in (".tif", ".tiff", ".jp2") or path.name == "MTD_MSIL1C.xml"
        ]
        assert images
        for image in images:
            assert gdalinfo(inside / image) == gdalinfo(theirs / image), image


def gdalinfo(path: Path) -> object:
    said = check("gdalinfo", "-json", "-checksum", path, timeout_s=100)
    return comparable(json.loads(said.replace(str(path.parent), "")))


@pytest.mark.claim("S213")
def test_gdal_opens_dimap_and_safe_from_their_directories(
    mount: Mount, shelf: Shelf, tmp_path: Path
) -> None:
    for name, entry in (("dimap.zip", "DIM_PHR1B_MS.XML"), ("S2A_", "T33UUU_B02.jp2")):
        archive_name = next(one for one in shelf.built if one.startswith(name))
        (tmp_path / "x.zip").write_bytes(shelf.built[archive_name].data)
        theirs = unpacked(tmp_path / "x.zip", tmp_path / name)
        inside = mount.path / "assets" / stem_of(archive_name)
        (outside_path,) = theirs.rglob(entry)
        inside_path = inside / outside_path.relative_to(theirs)
        assert gdalinfo(inside_path) == gdalinfo(outside_path)


def test_a_program_that_walks_finds_each_member_once(mount: Mount, shelf: Shelf) -> None:
    built = shelf.built["dimap.zip"]
    said = check("find", mount.path / "assets" / "dimap", "-type", "f", "-printf", "%P\\t%s\\n")
    found = dict(line.split("\t") for line in said.splitlines())
    assert found == {path: str(len(data)) for path, data in built.files.items()}
    said = check("du", "-s", mount.path / "assets" / "dimap")
    assert said.split()[0] == "0", "members take no blocks: the archive is counted"


def test_hostile_names_stay_inside_and_can_all_be_read(
    mount: Mount, store: Emulator, tmp_path: Path
) -> None:
    for name in ("zip-names", "zip-names-fat", "tar-names", "zip-two-kinds", "zip-bomb"):
        built = archive_support.hostile[name]()
        archive_name = f"hostile-{name}.{built.name.partition('.')[2]}"
        Shelf().add(store, archive_name, built)
    with mounted(store.env, *ON, home=tmp_path) as fresh:
        for name in ("zip-names", "zip-names-fat", "tar-names", "zip-two-kinds"):
            top = fresh.path / "assets" / f"hostile-{name}"
            listed = list(top.rglob("*"))
            assert listed
            assert all(path.resolve().is_relative_to(top) for path in listed)
            contents = [path.read_bytes() for path in listed if path.is_file()]
            assert len(contents) == len(set(contents))
        good = fresh.path / "assets" / "hostile-zip-bomb" / "good"
        assert good.read_bytes() == b"good"


# --- the reference model


def read_at_random(
    roots: list[Path], shelf: Shelf, seed: int, opens: int, failures: list[str]
) -> None:
    """Open members of either mount at random and compare ranges with the model."""
    chance = random.Random(seed)
    try:
        for _ in range(opens):
            path = chance.choice(shelf.paths)
            expected = shelf.contents[path]
            descriptor = os.open(chance.choice(roots) / "assets" / path, os.O_RDONLY)
            try:
                if os.fstat(descriptor).st_size != len(expected):
                    failures.append(f"{path}: size {os.fstat(descriptor).st_size}")
                for at, length in random_ranges(chance, len(expected), 8):
                    if os.pread(descriptor, length, at) != expected[at : at + length]:
                        failures.append(f"{path}: {length} bytes at {at}")
                if chance.random() < 0.3:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
    except OSError as error:
        failures.append(f"{path}: {error}")


@pytest.mark.slow
@pytest.mark.claim("S212")
@pytest.mark.parametrize("is_stored", [True, False])
def test_threads_on_two_mounts_read_a_members_bytes(
    is_stored: bool, store: Emulator, tmp_path: Path
) -> None:
    """Evictions from small caches, links that end, remounts, two mounts on one cache."""
    shelf = random_shelf(store, 50, count=2, largest=1_500_000, is_stored=is_stored)
    options = "archives=on,memory=64,cache_size=6M"
    cache = ("--cache-dir", str(tmp_path / "cache"), "-o", options)
    failures: list[str] = []
    for turn in range(2):
        with (
            mounted(store.env, *cache, home=tmp_path) as one,
            mounted(store.env, *cache, home=tmp_path) as other,
        ):
            threads = [
                threading.Thread(
                    target=read_at_random,
                    args=([one.path, other.path], shelf, 10 * turn + number, 4, failures),
                )
                for number in range(3)
            ]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(1)
                store.remote.storage("revoke_links")
            assert failures == []


def test_the_model_finds_wrong_bytes(tmp_path: Path) -> None:
    """The comparison itself: a directory that lies is found out."""
    shelf = Shelf(contents={"a/x": b"right" * 1000})
    (tmp_path / "assets" / "a").mkdir(parents=True)
    (tmp_path / "assets" / "a" / "x").write_bytes(b"wrong" * 1000)
    failures: list[str] = []
    read_at_random([tmp_path], shelf, 1, 2, failures)
    assert failures


def test_copies_by_other_programs(mount: Mount, shelf: Shelf, tmp_path: Path) -> None:
    """rsync, and tar of a member directory, give the members' bytes and times."""
    built = shelf.built["zip-stored.zip"]
    source = mount.path / "assets" / "zip-stored"
    check("rsync", "-a", f"{source}/", tmp_path / "rsync")
    assert {k: v for k, v in tree(tmp_path / "rsync").items() if v is not None} == built.files
    packed = subprocess.run(["tar", "-C", source, "-cf", "-", "."], stdout=subprocess.PIPE)
    assert packed.returncode == 0
    assert archive_support.tar_files(packed.stdout).keys() == {f"./{p}" for p in built.files}

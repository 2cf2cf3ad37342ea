"""The archives that tests make: Info-ZIP, GNU tar and bsdtar extract what they promise."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import archive_support
import pytest
from archive_support import Built

#: Programs that extract an archive into the directory they run in.
UNZIP = ["unzip", "-qq", "-o"]
TAR = ["tar", "--force-local", "-xf"]
BSDTAR = ["bsdtar", "-xf"]
#: Programs that cannot read some archives.
UNREAD = {
    # Debian's unzip knows no LZMA.
    ("unzip", "zip-lzma"),
    # An unsigned descriptor cannot be told from data where a reader ignores the directory.
    ("bsdtar", "zip-unsigned-descriptors"),
    # A stream cannot tell where stored data ends.
    ("bsdtar", "zip-stored-descriptors"),
}


def _extract(command: list[str], built: Built, where: Path) -> None:
    archive = where / built.name
    archive.write_bytes(built.data)
    inside = where / "inside"
    inside.mkdir()
    done = subprocess.run(
        [*command, str(archive)], cwd=inside, capture_output=True, text=True, check=False
    )
    # 1: warnings, as of bytes before the first member.
    assert done.returncode in (0, 1), done.stderr


def _regular_files(where: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(where)): path.read_bytes()
        for path in where.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _programs(name: str) -> list[list[str]]:
    commands = [UNZIP] if name.startswith("zip") else [TAR]
    commands += [BSDTAR] if shutil.which("bsdtar") else []
    return [command for command in commands if (command[0], name) not in UNREAD]


@pytest.mark.parametrize("name", archive_support.honest)
def test_programs_extract_the_files_that_a_builder_promises(name: str, tmp_path: Path) -> None:
    built = archive_support.honest[name]()
    programs = _programs(name)
    assert programs
    for command in programs:
        where = tmp_path / command[0]
        where.mkdir()
        devices = ["--exclude=d/tty", "--exclude=d/disk"] if name == "tar-links" else []
        _extract([command[0], *devices, *command[1:]], built, where)
        assert _regular_files(where / "inside") == built.files
        for path, target in built.symlinks.items():
            assert os.readlink(where / "inside" / path) == target


@pytest.mark.parametrize("name", [name for name in archive_support.honest if name[0] == "z"])
def test_python_reads_each_honest_zip(name: str, tmp_path: Path) -> None:
    built = archive_support.honest[name]()
    (tmp_path / "x.zip").write_bytes(built.data)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        for path, content in built.files.items():
            assert archive.read(path) == content


@pytest.mark.parametrize("name", archive_support.hostile)
def test_hostile_archives_can_be_made(name: str) -> None:
    built = archive_support.hostile[name]()
    assert built.data
    assert not set(built.files) & set(built.broken)


def test_random_archives_hold_their_files(tmp_path: Path) -> None:
    for seed in range(20):
        built = archive_support.random_archive(random.Random(seed), largest=5000)
        if built.name.endswith("zip"):
            (tmp_path / "x").write_bytes(built.data)
            with zipfile.ZipFile(tmp_path / "x") as archive:
                assert {path: archive.read(path) for path in built.files} == built.files
        else:
            assert archive_support.tar_files(built.data) == built.files


def test_gdal_opens_the_deliveries(tmp_path: Path) -> None:
    for built, entry in (
        (archive_support.dimap(), "DIM_PHR1B_MS.XML"),
        (archive_support.safe(), "B02.jp2"),
    ):
        where = tmp_path / built.name[:5]
        where.mkdir()
        _extract(UNZIP, built, where)
        (path,) = [path for path in where.rglob("*") if path.name.endswith(entry)]
        said = subprocess.run(
            ["gdalinfo", str(path)], capture_output=True, text=True, check=True
        ).stdout
        assert "Size is" in said
    assert "Driver: JP2" in said

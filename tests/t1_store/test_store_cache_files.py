"""The disk cache from outside: listed, verified, removed, pinned; pins and eviction."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from up42fs.metrics import Metrics
from up42fs.store.disk import cached_files as cache_files
from up42fs.store.disk.cached_files import CacheRoom, Space, Use
from up42fs.store.disk.files import CellFiles, Wanted
from up42fs.store.disk.format import CELL_BYTES, Cells, Label
from up42fs.types import ByteRange, Version

KEY = "ab" * 8
SIZE = 3 * CELL_BYTES + 100


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    return tmp_path / "blocks"


@pytest.fixture
def files(blocks: Path) -> CellFiles:
    return CellFiles(blocks, KEY, Metrics())


def keep(files: CellFiles, object_id: str, *spans: tuple[int, int]) -> Label:
    label = Label(object_id, Version(SIZE, '"e"'), "stamp")
    for start, stop in spans:
        files.store(label, ByteRange(start, stop), memoryview(os.urandom(stop - start)))
    return label


def test_what_is_held_is_listed(files: CellFiles, blocks: Path) -> None:
    assert list(cache_files.entries(blocks)) == []
    keep(files, "one", (0, SIZE))
    keep(files, "two", (0, 100), (CELL_BYTES, 2 * CELL_BYTES))
    (blocks / KEY / "README").touch()
    (blocks / KEY / ("cd" * 20)).write_bytes(b"of another release")
    (blocks / KEY / ("ef" * 20)).symlink_to("/etc/passwd")
    found = {e.label.object_id if e.label else "?": e for e in cache_files.entries(blocks)}
    assert set(found) == {"one", "two", "?"}
    assert found["one"].held_bytes == SIZE
    assert found["two"].held_bytes == 100 + CELL_BYTES
    assert found["two"].disk_bytes >= found["two"].held_bytes
    assert found["one"].path == cache_files.path_of(files.root.path, "one")
    assert not any(entry.is_pinned for entry in found.values())


@pytest.mark.claim("S399")
def test_backup_programs_leave_the_bytes_out(
    files: CellFiles, blocks: Path, tmp_path: Path
) -> None:
    keep(files, "one", (0, SIZE))
    tag = blocks / "CACHEDIR.TAG"
    assert tag.read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    (tmp_path / "another file").touch()
    command = ["tar", "-cf", "-", "--exclude-caches", "-C", str(tmp_path), "."]
    with tarfile.open(
        fileobj=io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)
    ) as tar:
        assert set(tar.getnames()) == {".", "./another file", "./blocks", "./blocks/CACHEDIR.TAG"}
    # It is no directory of an account, and stays when these are cleared.
    (entry,) = cache_files.entries(blocks)
    cache_files.remove(entry)
    assert tag.exists()


def test_damage_is_found_and_crossed_out(files: CellFiles, blocks: Path) -> None:
    label = keep(files, "one", (0, SIZE))
    (entry,) = cache_files.entries(blocks)
    assert cache_files.verify(entry) == 0
    with entry.path.open("r+b") as file:
        file.seek(Cells(label).data_offset + CELL_BYTES + 5)
        file.write(b"damage")
    assert cache_files.verify(entry) == CELL_BYTES
    assert cache_files.verify(entry) == 0
    (entry,) = cache_files.entries(blocks)
    assert entry.held_bytes == SIZE - CELL_BYTES
    survey = files.survey(Wanted("one", SIZE, "stamp"))
    assert survey is not None
    assert survey.spans == (ByteRange(0, CELL_BYTES), ByteRange(2 * CELL_BYTES, SIZE))


def test_a_cut_file_does_not_hold(files: CellFiles, blocks: Path) -> None:
    label = keep(files, "one", (0, SIZE))
    (entry,) = cache_files.entries(blocks)
    os.truncate(entry.path, Cells(label).data_offset + 2 * CELL_BYTES)
    assert cache_files.verify(entry) == CELL_BYTES + 100


def test_a_pin_outlives_what_is_held(files: CellFiles, blocks: Path) -> None:
    path = cache_files.path_of(files.root.path, "one")
    cache_files.pin(path)
    assert list(cache_files.entries(blocks)) == []
    keep(files, "one", (0, 10))
    (entry,) = cache_files.entries(blocks)
    assert entry.is_pinned
    cache_files.remove(entry)
    cache_files.remove(entry)
    assert list(cache_files.entries(blocks)) == []
    keep(files, "one", (0, 10))
    assert [e.is_pinned for e in cache_files.entries(blocks)] == [True]
    assert cache_files.unpin(path)
    assert not cache_files.unpin(path)
    assert [e.is_pinned for e in cache_files.entries(blocks)] == [False]


def test_what_is_pinned_is_not_pushed_out(files: CellFiles, blocks: Path) -> None:
    for number in range(4):
        keep(files, f"{number}", (0, SIZE))
        path = cache_files.path_of(files.root.path, f"{number}")
        os.utime(path, (number, number))
    cache_files.pin(cache_files.path_of(files.root.path, "0"))
    used = sum(entry.disk_bytes for entry in cache_files.entries(blocks))
    plenty = Space(1 << 40, 1 << 40)
    room = CacheRoom(blocks, used, Metrics(), space=lambda _: plenty)
    assert room.admit(CELL_BYTES, file_bytes=0, use=Use.END)
    assert room.used_bytes < used
    left = {e.label.object_id for e in cache_files.entries(blocks) if e.label}
    assert "0" in left
    assert "1" not in left


def test_a_cache_full_of_pins_takes_nothing_more(files: CellFiles, blocks: Path) -> None:
    keep(files, "0", (0, SIZE))
    cache_files.pin(cache_files.path_of(files.root.path, "0"))
    used = sum(entry.disk_bytes for entry in cache_files.entries(blocks))
    plenty = Space(1 << 40, 1 << 40)
    room = CacheRoom(blocks, used, Metrics(), space=lambda _: plenty)
    assert not room.admit(CELL_BYTES, file_bytes=0, use=Use.END)
    assert [e.held_bytes for e in cache_files.entries(blocks)] == [SIZE]


def test_age(files: CellFiles, blocks: Path) -> None:
    keep(files, "0", (0, 10))
    os.utime(cache_files.path_of(files.root.path, "0"), (1, 1))
    (entry,) = cache_files.entries(blocks)
    assert cache_files.is_older(entry, 365)
    files.touch("0")
    (entry,) = cache_files.entries(blocks)
    assert not cache_files.is_older(entry, 1)

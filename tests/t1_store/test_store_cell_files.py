"""The disk cache's files under damage: right bytes or none, whatever happened to them."""

from __future__ import annotations

import os
import random
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from up42fs.metrics import Metrics
from up42fs.store.disk.files import LOAD_BYTES, CellFiles, Wanted
from up42fs.store.disk.format import CELL_BYTES, HEADER_BYTES, Cells, Label
from up42fs.types import ByteRange, Version

KEY = "0123456789abcdef"
SIZE = 3 * CELL_BYTES + 777
#: The true bytes of every object and version, all of one length.
TRUTH = {
    (name, etag): random.Random(f"{name}{etag}").randbytes(SIZE)
    for name in "ab"
    for etag in ('"1"', '"2"')
}
LABELS = [Label(name, Version(SIZE, etag), "now") for name, etag in TRUTH]


def bytes_of(label: Label) -> bytes:
    return TRUTH[label.object_id, str(label.version.etag)]


def wanted(label: Label, *, version: bool = True) -> Wanted:
    return Wanted(label.object_id, SIZE, label.stamp, label.version if version else None)


def keep(files: CellFiles, label: Label, span: ByteRange) -> list[ByteRange]:
    return files.store(label, span, memoryview(bytes_of(label))[span.start : span.stop])


def load(files: CellFiles, want: Wanted, span: ByteRange) -> bytes | None:
    into = bytearray(len(span))
    count = files.load(want, span, memoryview(into))
    return None if count is None else bytes(into[:count])


def spans() -> st.SearchStrategy[ByteRange]:
    edges = st.sampled_from([0, 1, CELL_BYTES - 1, CELL_BYTES, 2 * CELL_BYTES, SIZE - CELL_BYTES])
    starts = edges | st.integers(0, SIZE - 1)
    lengths = st.sampled_from([1, CELL_BYTES, 2 * CELL_BYTES]) | st.integers(1, SIZE)
    return st.builds(lambda s, n: ByteRange(s, min(SIZE, s + n)), starts, lengths)


labels = st.sampled_from(LABELS)
places = st.floats(0, 1, exclude_max=True)


class Damage(RuleBasedStateMachine):
    """Two mounts on one directory, and a world that breaks it between any two operations."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.outside = Path(self.directory.name) / "outside"
        self.outside.write_bytes(b"somebody else's")
        blocks = Path(self.directory.name) / "blocks"
        self.root = blocks / KEY
        self.mounts = [CellFiles(blocks, KEY, Metrics()) for _ in range(2)]

    def teardown(self) -> None:
        self.directory.cleanup()

    def files(self) -> list[Path]:
        found = sorted(self.root.iterdir()) if self.root.exists() else []
        return [path for path in found if path.is_file() and not path.is_symlink()]

    @rule(mount=st.integers(0, 1), label=labels, span=spans())
    def keep(self, mount: int, label: Label, span: ByteRange) -> None:
        keep(self.mounts[mount], label, span)

    @rule(mount=st.integers(0, 1), label=labels, span=spans(), version=st.booleans())
    def load(self, mount: int, label: Label, span: ByteRange, version: bool) -> None:
        want = wanted(label, version=version)
        survey = self.mounts[mount].survey(want)
        data = load(self.mounts[mount], want, span)
        if data is None:
            assert survey is None
            return
        # Without a version to ask for, whichever is there is the one that was believed.
        assert survey is not None
        truth = TRUTH[label.object_id, str(survey.version.etag)]
        assert data == truth[span.start : span.start + len(data)]
        assert not version or survey.version == label.version

    @rule(mount=st.integers(0, 1), label=labels)
    def remove(self, mount: int, label: Label) -> None:
        self.mounts[mount].remove(label.object_id)

    @rule(mount=st.integers(0, 1), label=labels, span=spans(), data_first=st.booleans())
    def crash(self, mount: int, label: Label, span: ByteRange, data_first: bool) -> None:
        """The machine died, and the disk has only the data, or only the records, of a write."""
        before = {path: path.read_bytes() for path in self.files()}
        keep(self.mounts[mount], label, span)
        edge = Cells(label).data_offset
        for path in self.files():
            after, old = path.read_bytes(), before.get(path, b"")
            old = old.ljust(len(after), b"\0")
            torn = old[:edge] + after[edge:] if data_first else after[:edge] + old[edge:]
            path.write_bytes(torn)

    @rule(index=st.integers(0, 9), place=places, bit=st.integers(0, 7))
    def flip(self, index: int, place: float, bit: int) -> None:
        for path in self.files()[index : index + 1]:
            content = bytearray(path.read_bytes())
            if content:
                content[int(place * len(content))] ^= 1 << bit
                path.write_bytes(content)

    @rule(index=st.integers(0, 9), place=st.integers(0, HEADER_BYTES + 99))
    def flip_near_the_front(self, index: int, place: int) -> None:
        for path in self.files()[index : index + 1]:
            content = bytearray(path.read_bytes())
            if place < len(content):
                content[place] ^= 0xFF
                path.write_bytes(content)

    @rule(index=st.integers(0, 9), place=places)
    def truncate(self, index: int, place: float) -> None:
        for path in self.files()[index : index + 1]:
            os.truncate(path, int(place * path.stat().st_size))

    @rule(index=st.integers(0, 9))
    def delete(self, index: int) -> None:
        for path in self.files()[index : index + 1]:
            path.unlink()

    @rule(index=st.integers(0, 9), kind=st.sampled_from(["symlink", "hard link", "fifo", "self"]))
    def replace(self, index: int, kind: str) -> None:
        for path in self.files()[index : index + 1]:
            path.unlink()
            if kind == "symlink":
                path.symlink_to(self.outside)
            elif kind == "hard link":
                path.hardlink_to(self.outside)
            elif kind == "fifo":
                os.mkfifo(path)
            else:
                path.symlink_to(path.name)

    @rule()
    def exchange(self) -> None:
        """The names of two objects' files are mixed up."""
        files = self.files()
        if len(files) == 2:
            contents = [path.read_bytes() for path in files]
            for path, content in zip(files, reversed(contents), strict=True):
                path.write_bytes(content)

    @rule(index=st.integers(0, 9), one=st.integers(0, 3), two=st.integers(0, 3))
    def exchange_cells(self, index: int, one: int, two: int) -> None:
        """Cells lie in each other's places, records and all."""
        for path in self.files()[index : index + 1]:
            content = bytearray(path.read_bytes())
            base = Cells(LABELS[0]).data_offset
            if len(content) < base + SIZE:
                continue
            for start, size in ((HEADER_BYTES, 16), (base, CELL_BYTES)):
                a, b = (slice(start + n * size, start + (n + 1) * size) for n in (one, two))
                if len(content[a]) == len(content[b]):
                    content[a], content[b] = content[b], content[a]
            path.write_bytes(content)

    @rule()
    def lose_everything(self) -> None:
        for path in self.files():
            path.unlink()
        if self.root.exists() and not any(self.root.iterdir()):
            self.root.rmdir()

    @invariant()
    def nothing_lies(self) -> None:
        """Whatever is said to be there is right, or found not to be."""
        for label in LABELS:
            survey = self.mounts[0].survey(wanted(label))
            for span in survey.spans if survey else ():
                for piece in Cells(label).pieces(span):
                    data = load(self.mounts[0], wanted(label), piece)
                    truth = bytes_of(label)[piece.start : piece.stop]
                    assert data is not None
                    assert data == truth[: len(data)]

    @invariant()
    def nothing_else_is_touched(self) -> None:
        assert self.outside.read_bytes() == b"somebody else's"


TestDamage = Damage.TestCase
TestDamage.settings = settings(max_examples=80, stateful_step_count=40)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def files(tmp_path: Path, metrics: Metrics) -> CellFiles:
    return CellFiles(tmp_path / "cache" / "blocks", KEY, metrics)


def whole_of(files: CellFiles, label: Label) -> bytes:
    got = bytearray()
    while len(got) < SIZE and (piece := load(files, wanted(label), ByteRange(len(got), SIZE))):
        got += piece
    return bytes(got)


def only_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache/blocks" / KEY).iterdir()
    return path


def test_what_is_kept_is_loaded_also_by_another_mount(files: CellFiles, tmp_path: Path) -> None:
    assert keep(files, LABELS[0], ByteRange(0, SIZE)) == [ByteRange(0, SIZE)]
    assert keep(files, LABELS[0], ByteRange(0, SIZE)) == []  # nothing is written twice
    other = CellFiles(tmp_path / "cache" / "blocks", KEY, Metrics())
    assert whole_of(other, LABELS[0]) == bytes_of(LABELS[0])


def test_ends_within_cells_are_kept(files: CellFiles) -> None:
    tail = ByteRange(SIZE - CELL_BYTES, SIZE)
    keep(files, LABELS[0], tail)
    survey = files.survey(wanted(LABELS[0]))
    assert survey is not None
    assert survey.spans == (tail,)
    assert load(files, wanted(LABELS[0]), tail) == bytes_of(LABELS[0])[tail.start :]
    keep(files, LABELS[0], ByteRange(0, tail.start))
    assert whole_of(files, LABELS[0]) == bytes_of(LABELS[0])


def test_one_bad_cell_costs_one_cell(files: CellFiles, tmp_path: Path, metrics: Metrics) -> None:
    keep(files, LABELS[0], ByteRange(0, SIZE))
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[Cells(LABELS[0]).data_offset + CELL_BYTES + 5] ^= 1
    path.write_bytes(content)
    got = load(files, wanted(LABELS[0]), ByteRange(0, SIZE))
    assert got == bytes_of(LABELS[0])[:CELL_BYTES]
    assert metrics["store.disk_bad_cells"] == 1
    rest = ByteRange(2 * CELL_BYTES, SIZE)
    assert load(files, wanted(LABELS[0]), rest) == bytes_of(LABELS[0])[rest.start :]
    assert keep(files, LABELS[0], ByteRange(0, SIZE)) == [ByteRange(CELL_BYTES, 2 * CELL_BYTES)]
    assert whole_of(files, LABELS[0]) == bytes_of(LABELS[0])


def test_another_version_begins_anew(files: CellFiles) -> None:
    old, new = LABELS[:2]
    assert old.object_id == new.object_id
    keep(files, old, ByteRange(0, SIZE))
    keep(files, new, ByteRange(0, 10))
    assert files.survey(wanted(old)) is None
    survey = files.survey(wanted(new))
    assert survey is not None
    assert survey.spans == (ByteRange(0, 10),)


def test_a_stamp_is_replaced_in_place(files: CellFiles) -> None:
    label = LABELS[0]
    keep(files, label, ByteRange(0, SIZE))
    doubtful = Wanted(label.object_id, SIZE, "later")
    assert files.survey(doubtful) is None
    files.store(Label(label.object_id, label.version, "later"), None, memoryview(b""))
    survey = files.survey(doubtful)
    assert survey is not None
    assert survey.spans == (ByteRange(0, SIZE),)


def test_a_load_is_bounded(files: CellFiles) -> None:
    size = LOAD_BYTES + 5 * CELL_BYTES
    label = Label("big", Version(size, '"1"'))
    files.store(label, ByteRange(0, size), memoryview(bytes(size)))
    into = memoryview(bytearray(size))
    want = Wanted("big", size, None)
    assert files.load(want, ByteRange(0, size), into) == LOAD_BYTES
    assert files.load(want, ByteRange(100, size), into) == LOAD_BYTES - 100


def test_a_file_is_sparse(files: CellFiles, tmp_path: Path) -> None:
    label = Label("huge", Version(1 << 40, '"1"'))
    span = ByteRange((1 << 40) - 100, 1 << 40)
    files.store(label, span, memoryview(b"x" * 100))
    assert files.used_bytes("huge") < 1 << 20
    into = memoryview(bytearray(100))
    assert files.load(Wanted("huge", 1 << 40, None), span, into) == 100


@pytest.mark.claim("S64")
def test_nobody_else_can_look(files: CellFiles, tmp_path: Path) -> None:
    os.umask(previous := os.umask(0))
    try:
        os.umask(0)
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/blocks").mkdir(mode=0o777)
        keep(files, LABELS[0], ByteRange(0, 10))
    finally:
        os.umask(previous)
    path = only_file(tmp_path)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]
    assert LABELS[0].object_id not in path.name.split(".")


@pytest.mark.claim("S64")
def test_directories_are_not_followed_elsewhere(files: CellFiles, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache/blocks").mkdir(parents=True)
    (tmp_path / "cache/blocks" / KEY).symlink_to(elsewhere)
    with pytest.raises(OSError):
        keep(files, LABELS[0], ByteRange(0, 10))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_and_directories_of_others_are_not_used(files: CellFiles, tmp_path: Path) -> None:
    keep(files, LABELS[0], ByteRange(0, 10))
    path = only_file(tmp_path)
    os.chown(path, 12345, 12345)
    assert load(files, wanted(LABELS[0]), ByteRange(0, 10)) is None
    assert not path.exists()
    os.chown(path.parent, 12345, 12345)
    with pytest.raises(PermissionError):
        keep(files, LABELS[0], ByteRange(0, 10))

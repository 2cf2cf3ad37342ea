"""Accounts of what was read, and crowds that may read heads only."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli.explain import MAP_CELLS, file_map, lines
from up42fs.cli.status_view import rows
from up42fs.config.options import CROWD, CROWD_BYTES, crowd_limits
from up42fs.errors import CrowdRefused, Unavailable
from up42fs.fs.files import ledger as ledger_module
from up42fs.fs.files.ledger import TAIL_BYTES, Ledger, Watch
from up42fs.fs.files.open_files import StoredFile
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.metrics import Metrics
from up42fs.store.handle import OpenFile
from up42fs.types import ByteRange

MIB = 1 << 20
#: The programs that are known without a setting; of a name the kernel tells this many characters.
DEFAULTS, COMM = crowd_limits(":".join(CROWD)), 15
SIZE = 20 * MIB


class File:
    """Answers every read, after a second on the clock."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.now_s = 0.0
        self.reads: list[tuple[int, int]] = []
        self.fails = False
        self.closed = False

    def read_again(self, offset: int, size: int) -> memoryview | None:
        self.reads.append((offset, size))
        return memoryview(bytes(size))

    async def read(self, offset: int, size: int) -> bytes:
        self.now_s += 1.0
        if self.fails:
            raise Unavailable("no")
        self.reads.append((offset, size))
        return bytes(max(0, min(size, self.size - offset)))

    def close(self) -> None:
        self.closed = True


def watched(file: File, program: str, metrics: Metrics | None = None, ledger: Ledger | None = None):
    watch = Watch(
        ledger or Ledger(),
        metrics or Metrics(),
        crowd_limits(":".join(CROWD)),
        clock=lambda: file.now_s,
    )
    seen = watch.open("id", name="a.tif", size=file.size, program=program)
    return watch, StoredFile(cast(OpenFile, file), Node(Kind.ASSET, "id"), file.size, watched=seen)


async def test_reads_are_accounted_for() -> None:
    file = File()
    watch, opened = watched(file, "gdalinfo")
    await opened.read(0, 100)
    await opened.read(50, 100)
    await opened.read(SIZE - 10, 100)
    await opened.read(SIZE + 10, 100)
    file.fails = True
    with pytest.raises(Unavailable):
        await opened.read(0, 1)
    opened.close()
    told = watch.ledger.explain("id")
    assert told == {
        "name": "a.tif",
        "size": SIZE,
        "programs": {"gdalinfo": 1},
        "reads": 3,
        "refused": 0,
        "bytes_read": 210,
        "bytes_touched": 160,
        "waited_seconds": 3.0,
        "slowest_seconds": 1.0,
        "errors": {"Unavailable": 1},
        "ranges": [[0, 150], [SIZE - 10, SIZE]],
    }
    assert file.closed
    assert watch.ledger.explain("other") is None


async def test_reads_from_memory_are_accounted_for() -> None:
    file = File()
    watch, opened = watched(file, "gdalinfo")
    assert opened.read_again(8192, 100) is None, "a handle's first read may begin a walk"
    await opened.read(4096, 100)
    assert opened.read_again(0, 100) is None, "the head may tell the file's type"
    assert opened.read_again(8192, 100) == bytes(100)
    told = watch.ledger.explain("id")
    assert told is not None
    assert (told["reads"], told["bytes_read"]) == (2, 200)
    assert told["ranges"] == [[4096, 4196], [8192, 8292]]


async def test_a_crowd_is_limited_in_memory_as_well() -> None:
    file = File()
    _, opened = watched(file, "baloo_file")
    await opened.read(0, 100)
    assert opened.read_again(10 * MIB, 100) is None
    with pytest.raises(CrowdRefused):
        await opened.read(10 * MIB, 100)


def test_another_version_is_another_account() -> None:
    ledger = Ledger()
    ledger.open("id", name="a", size=1, program="x").note_read(ByteRange(0, 1), 0.0, 0.0)
    assert ledger.open("id", name="a", size=1, program="y").reads == 1
    assert ledger.open("id", name="a", size=2, program="y").reads == 0


def test_the_most_read_come_first() -> None:
    ledger = Ledger()
    for number in range(20):
        account = ledger.open(str(number), name=f"{number}", size=100, program="cp")
        if number:
            account.note_read(ByteRange(0, number), 0.0, 0.0)
    assert [entry["name"] for entry in ledger.top(3)] == ["19", "18", "17"]
    assert len(ledger.top(100)) == 19


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), max_size=200))
def test_memory_stays_small_and_nothing_read_is_lost(reads: list[tuple[int, int]]) -> None:
    account = Ledger().open("id", name="a", size=2 * 10**9, program="x")
    limit, ledger_module.MOST_SPANS = ledger_module.MOST_SPANS, 8
    try:
        for start, length in reads:
            account.note_read(ByteRange(start, start + length), 0.1, 0.0)
            assert account.spans.covers(ByteRange(start, start + length))
            assert len(list(account.spans)) <= 8
    finally:
        ledger_module.MOST_SPANS = limit


def test_what_is_told_fits_into_an_attribute() -> None:
    ledger = Ledger()
    account = ledger.open("id", name="n" * 250, size=10**13, program="x" * 15)
    for number in range(3000):
        account.note_read(ByteRange(number * 10**9, number * 10**9 + 10**6), 1.0, 0.0)
    assert len(json.dumps(ledger.explain("id"))) < 65536


# crowds -----------------------------------------------------------------------------------------


@pytest.mark.claim("S227")
async def test_a_packed_member_has_no_tail_for_a_crowd() -> None:
    file = File()
    watch = Watch(Ledger(), Metrics(), crowd_limits(":".join(CROWD)), clock=lambda: file.now_s)
    seen = watch.open("id", name="a.tif", size=SIZE, program="baloo_file", has_tail=False)
    opened = StoredFile(cast(OpenFile, file), Node(Kind.ASSET, "id"), SIZE, watched=seen)
    await opened.read(0, CROWD_BYTES)
    for offset in (SIZE - TAIL_BYTES, SIZE - 1):
        with pytest.raises(CrowdRefused):
            await opened.read(offset, 1)


async def test_a_crowd_reads_heads_and_tails_only() -> None:
    file = File()
    metrics = Metrics()
    watch, opened = watched(file, "tracker-extract"[:15], metrics)
    await opened.read(0, 4096)
    await opened.read(CROWD_BYTES - 4096, 4096)
    await opened.read(SIZE - TAIL_BYTES, TAIL_BYTES)
    assert len(file.reads) == 3
    for offset, size in ((CROWD_BYTES - 1, 2), (SIZE // 2, 1), (0, SIZE)):
        with pytest.raises(CrowdRefused, match=r"a\.tif.*crowd"):
            await opened.read(offset, size)
    assert len(file.reads) == 3
    assert metrics.snapshot() == {"fs.crowd_opens": 1, "fs.crowd_refused": 3}
    told = watch.ledger.explain("id")
    assert told is not None
    assert told["refused"] == 3


@pytest.mark.parametrize("size", [0, 1, CROWD_BYTES])
async def test_a_small_file_is_all_head(size: int) -> None:
    _, opened = watched(File(size), "tumblerd")
    assert len(await opened.read(0, 2 * MIB)) == size


@pytest.mark.claim("S361")
@pytest.mark.parametrize("program", ["tumblerd", "gdk-pixbuf-thumbnailer"[:15]])
async def test_a_thumbnailer_reads_all_of_a_file_or_nothing(program: str) -> None:
    _, opened = watched(file := File(CROWD_BYTES + 1), program)
    for offset in (0, CROWD_BYTES):
        with pytest.raises(CrowdRefused, match="no file of more than 1,048,576 bytes"):
            await opened.read(offset, 1)
    assert not file.reads


@pytest.mark.parametrize("program", ["gdalinfo", "qgis", "cp", "?", "python3"])
async def test_others_read_all(program: str) -> None:
    _, opened = watched(File(), program)
    assert len(await opened.read(0, SIZE)) == SIZE


@pytest.mark.parametrize("program", [p for p, most in DEFAULTS.items() if most == 0])
async def test_backups_and_antivirus_programs_read_nothing(program: str) -> None:
    _, opened = watched(file := File(), program)
    for offset in (0, SIZE // 2, SIZE - 1):
        with pytest.raises(CrowdRefused, match=f"{program} may read no file"):
            await opened.read(offset, 1)
    assert not file.reads


@pytest.mark.parametrize("program", ["grep", "rg"])
async def test_a_search_for_text_reads_whole_documents_and_heads_of_images(program: str) -> None:
    _, opened = watched(File(4 * MIB), program)
    assert len(await opened.read(0, 4 * MIB)) == 4 * MIB
    _, opened = watched(File(), program)
    with pytest.raises(CrowdRefused, match="first 4,194,304 bytes"):
        await opened.read(4 * MIB, 1)


@pytest.mark.claim("S400")
@pytest.mark.parametrize("program", DEFAULTS)
async def test_each_program_of_the_list_has_its_limit_by_the_name_that_the_kernel_tells(
    program: str,
) -> None:
    most = DEFAULTS[program]
    _, opened = watched(file := File(), program[:COMM])
    with pytest.raises(CrowdRefused):
        await opened.read(most, 1)
    assert not file.reads
    _, opened = watched(file := File(max(most, 1)), program[:COMM])
    if most:
        assert len(await opened.read(0, most)) == most
    else:
        with pytest.raises(CrowdRefused):
            await opened.read(0, 1)


@pytest.mark.claim("S400")
def test_the_list_holds_what_reads_everything() -> None:
    backups = ["restic", "borg", "duplicity", "clamscan", "kopia"]
    assert {name for name, most in DEFAULTS.items() if most == 0} > set(backups)
    indexers = ["tracker-extract-3", "baloo_file", "updatedb"]
    assert all(DEFAULTS[name] == CROWD_BYTES for name in indexers)
    assert DEFAULTS["rg"] == DEFAULTS["grep"] == 4 * MIB


def test_limits_of_crowds_are_read_by_name() -> None:
    assert crowd_limits("a:b=0:c=2M::") == {"a": CROWD_BYTES, "b": 0, "c": 2 * MIB}
    for wrong in ("=1M", "a=", "a=x", "a=-1"):
        with pytest.raises(ValueError, match="like"):
            crowd_limits(wrong)


@given(
    size=st.integers(0, 1 << 40),
    head=st.integers(0, 1 << 24),
    reads=st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 1 << 20)), max_size=8),
)
def test_a_crowd_never_reads_between_head_and_tail(
    size: int, head: int, reads: list[tuple[int, int]]
) -> None:
    watch = Watch(Ledger(), Metrics(), {"p": head}, clock=lambda: 0.0)
    seen = watch.open("id", name="a.tif", size=size, program="p")
    for offset, count in reads:
        touched = range(min(offset, size), min(offset + count, size))
        allowed = (
            not touched or touched.stop <= head or touched.start >= size - min(head, TAIL_BYTES)
        )
        try:
            seen.check(offset, count)
            assert allowed
        except CrowdRefused:
            assert not (touched and touched.stop <= head)
            assert not allowed


def test_names_are_compared_as_the_kernel_keeps_them() -> None:
    for name in crowd_limits(":".join(CROWD)):
        metrics = Metrics()
        watched(File(), name.encode()[:15].decode(), metrics)
        assert metrics["fs.crowd_opens"] == 1, name


# the map ----------------------------------------------------------------------------------------


@given(
    size=st.integers(1, 10**12),
    cuts=st.lists(st.integers(0, 10**12), max_size=12),
)
def test_the_map_shows_what_was_read(size: int, cuts: list[int]) -> None:
    points = sorted({min(cut, size) for cut in cuts})
    ranges = [[a, b] for a, b in zip(points[::2], points[1::2], strict=False)]
    shown = file_map(ranges, size, MAP_CELLS)
    assert len(shown) == min(MAP_CELLS, size)
    assert file_map([[0, size]], size, MAP_CELLS) == "█" * len(shown)
    assert file_map([], size, MAP_CELLS) == " " * len(shown)
    for start, stop in ranges:
        cell = start * len(shown) // size
        assert shown[cell] != " ", (start, stop)


def test_names_cannot_write_to_the_terminal() -> None:
    name = "a\x1b]0;title\x07\nb.tif"
    for text in lines({"name": name, "size": 1, "cached_bytes": 0}):
        assert text.isprintable()
    status = {"mountpoint": name, "top_files": [{"name": name, "bytes_read": 1, "reads": 1,
              "waited_seconds": 0.0, "programs": {name: 1}}]}  # fmt: skip
    for _, text in rows(status):
        assert text.isprintable()


def test_an_explanation_of_a_file_nobody_opened() -> None:
    text = "\n".join(lines({"name": "a.tif", "size": None, "cached_bytes": 0}))
    assert "by nobody" in text

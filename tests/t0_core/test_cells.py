"""The disk cache's format: nothing is believed but what its checksums prove."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.ranges import RangeSet, coalesce, intersect, subtract
from up42fs.store.disk.format import (
    CELL_BYTES,
    HEADER_BYTES,
    RECORD_BYTES,
    CellRecord,
    Cells,
    Label,
    cut,
    encode_header,
    is_cacheable,
    leading,
    merge,
    parse_header,
)
from up42fs.types import ByteRange, Version

KIB = 1 << 10
LABEL = Label("a", Version(5 * CELL_BYTES + 77, '"e"'), "2024")
LIMIT = 40


def spans(limit: int = LIMIT) -> st.SearchStrategy[ByteRange]:
    pairs = st.tuples(st.integers(0, limit - 1), st.integers(1, limit))
    return pairs.map(lambda p: ByteRange(p[0], min(limit, p[0] + p[1])))


def offsets(found: list[ByteRange]) -> list[int]:
    return [offset for span in found for offset in range(span.start, span.stop)]


@given(
    object_id=st.text(max_size=100),
    etag=st.text(max_size=100),
    size=st.integers(0, 1 << 50),
    stamp=st.none() | st.text(max_size=40),
)
def test_labels_survive_the_header(object_id: str, etag: str, size: int, stamp: str | None) -> None:
    label = Label(object_id, Version(size, f'"{etag}"'), stamp)
    assert is_cacheable(label)
    header = encode_header(label)
    assert len(header) == HEADER_BYTES
    assert parse_header(header) == label


@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_flipped_bit_makes_a_header_none(bit: int) -> None:
    header = bytearray(encode_header(LABEL))
    header[bit // 8] ^= 1 << bit % 8
    assert parse_header(bytes(header)) is None


@given(st.binary(max_size=300))
def test_other_bytes_are_no_header(junk: bytes) -> None:
    assert parse_header(junk) is None
    assert parse_header(encode_header(LABEL)[:40] + junk) is None


@pytest.mark.parametrize("etag", [None, "", '"', "abc", 'W/"abc"', '"' + "e" * 600 + '"'])
def test_versions_that_cannot_be_told_apart_are_not_cached(etag: str | None) -> None:
    assert not is_cacheable(Label("a", Version(5, etag)))


def test_records_say_what_a_cell_holds() -> None:
    cells = Cells(LABEL)
    held = CellRecord(2, ByteRange(2 * CELL_BYTES + 5, 3 * CELL_BYTES), 0xDEADBEEF)
    text = bytes(RECORD_BYTES) + cells.encode(held)
    assert cells.parse(text, 1) == [None, held]
    assert cells.parse(text[:-1], 1) == [None]
    assert cells.parse(text, 2) == [None, None]  # another cell's record
    other = Cells(Label("a", Version(LABEL.version.size, '"f"'), "2024"))
    assert other.parse(text, 1) == [None, None]  # another version's


@given(st.integers(0, RECORD_BYTES * 8 - 1))
def test_a_flipped_bit_makes_a_record_none(bit: int) -> None:
    cells = Cells(LABEL)
    text = bytearray(cells.encode(CellRecord(1, cells.whole(1), 12345)))
    text[bit // 8] ^= 1 << bit % 8
    assert cells.parse(bytes(text), 1) == [None]


def test_a_record_beyond_the_objects_end_is_none() -> None:
    cells = Cells(LABEL)
    last = cells.count - 1
    assert cells.whole(last) == ByteRange(5 * CELL_BYTES, LABEL.version.size)
    longer = CellRecord(last, ByteRange(5 * CELL_BYTES, 6 * CELL_BYTES), 1)
    assert cells.parse(cells.encode(longer), last) == [None]


def test_checksums_are_of_a_place() -> None:
    cells, data = Cells(LABEL), bytes(100)
    here = cells.checksum(0, ByteRange(0, 100), data)
    assert here != cells.checksum(1, ByteRange(CELL_BYTES, CELL_BYTES + 100), data)
    assert here != cells.checksum(0, ByteRange(1, 101), data)
    stamped = Cells(Label(LABEL.object_id, LABEL.version, "2025"))
    assert here == stamped.checksum(0, ByteRange(0, 100), data)


def test_the_map_does_not_reach_into_the_data() -> None:
    for count in (0, 1, 255, 256, 257, 100_000):
        cells = Cells(Label("a", Version(count * CELL_BYTES, '"e"')))
        assert cells.count == count
        assert HEADER_BYTES + count * RECORD_BYTES <= cells.data_offset
        assert cells.data_offset % HEADER_BYTES == 0


@given(st.lists(spans(LIMIT)), spans(), st.integers(1, 12))
def test_cut_covers_the_span_once_where_nobody_waits(
    held: list[ByteRange], span: ByteRange, worth: int
) -> None:
    pieces = cut(span, RangeSet(held), None, worth)
    assert offsets(pieces) == list(range(span.start, span.stop))


@given(st.lists(spans(LIMIT)), spans(), st.integers(1, 12), st.data())
def test_cut_for_a_reader(
    held: list[ByteRange], span: ByteRange, worth: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(span.start, span.stop - 1))
    wanted = ByteRange(start, data.draw(st.integers(start + 1, span.stop)))
    have = RangeSet(held)
    pieces = cut(span, have, wanted, worth)
    assert len(set(offsets(pieces))) == len(offsets(pieces))
    assert pieces == sorted(pieces)
    assert set(range(wanted.start, wanted.stop)) <= set(offsets(pieces))
    assert set(offsets(pieces)) <= set(range(span.start, span.stop))
    needed = have.missing(wanted)
    for piece in pieces:
        fetched = have.missing(piece)
        if fetched:  # only for bytes the reader lacks, and never over those it could load
            assert any(intersect(piece, hole) for hole in needed)
            assert not [p for p in subtract(wanted, needed) if intersect(piece, p)]


def test_cut_without_anything_held_is_one_request() -> None:
    assert cut(ByteRange(0, 40), RangeSet(), ByteRange(3, 5), 8) == [ByteRange(0, 40)]


def test_cut_leaves_small_islands_to_the_network() -> None:
    held = RangeSet([ByteRange(10, 14), ByteRange(20, 30)])
    expected = [ByteRange(0, 20), ByteRange(20, 30), ByteRange(30, 40)]
    assert cut(ByteRange(0, 40), held, None, 8) == expected
    assert cut(ByteRange(0, 40), held, ByteRange(12, 13), 8) == [
        ByteRange(10, 14),
        ByteRange(20, 30),
    ]


@given(spans(), spans())
def test_a_cell_keeps_one_run(old: ByteRange, new: ByteRange) -> None:
    union = merge(CellRecord(0, old, 0), new)
    if union is None:
        inside = old.start <= new.start and new.stop <= old.stop
        assert inside or len(new) <= len(old)
    elif union != new:
        assert coalesce([old, new]) == [union]
    assert merge(None, new) == new


def test_leading_cells_have_no_gap() -> None:
    def held(cell: int, start: int, stop: int) -> CellRecord:
        return CellRecord(cell, ByteRange(cell * 100 + start, cell * 100 + stop), 0)

    row: list[CellRecord | None] = [
        held(0, 50, 100),
        held(1, 0, 100),
        held(2, 0, 60),
        held(3, 0, 100),
    ]
    assert leading(row, 70) == row[:3]
    assert leading(row, 40) == []
    assert leading([None, *row], 70) == []
    assert leading([row[0], None, row[2]], 99) == row[:1]

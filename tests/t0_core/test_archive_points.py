"""Ready seek points: in order; and those that SOZip brings along."""

from __future__ import annotations

import io
import itertools
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.archive import sozip
from up42fs.archive import zip as zips
from up42fs.archive.points import Point, Points, span_bytes
from up42fs.archive.table import Table

MIB = 1 << 20


@given(st.integers(0, 1 << 50))
def test_spans_grow_with_the_stream(size: int) -> None:
    span = span_bytes(size)
    assert 2 * MIB <= span <= 8 * MIB
    if size <= 1 << 30:
        assert span == 2 * MIB
    elif size <= 4 << 30:
        assert size // span <= 513


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    steps = st.tuples(st.integers(1, 1 << 33), st.integers(1, 1 << 33))
    made, out_at, in_at = [], 0, 0
    for out_step, in_step in draw(st.lists(steps, max_size=12)):
        out_at, in_at = out_at + out_step, in_at + in_step
        made.append(Point(out_at, in_at))
    return made


def collected(made: list[Point]) -> Points:
    found = Points()
    for point in made:
        assert found.add(point)
    return found


@given(points(), st.integers(0, 1 << 37))
@settings(max_examples=300)
def test_points_are_found_by_output(made: list[Point], out_at: int) -> None:
    found = collected(made)
    before = [point for point in made if point.out_at <= out_at]
    after = [point for point in made if point.out_at > out_at]
    assert found.before(out_at) == (before[-1] if before else None)
    assert found.after(out_at) == (after[0] if after else None)
    assert list(found) == made


def test_points_must_follow_one_another() -> None:
    found = collected([Point(10, 5)])
    assert not found.add(Point(10, 9))
    assert not found.add(Point(20, 4))
    assert len(found) == 1


# SOZip


def chunked(data: bytes, chunk: int) -> tuple[bytes, list[int]]:
    """Deflated as SOZip wants it, and where each chunk but the first begins."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    out, offsets = b"", []
    for at in range(0, len(data), chunk):
        if at:
            offsets.append(len(out))
        out += packer.compress(data[at : at + chunk])
        if at + chunk < len(data):
            out += packer.flush(zlib.Z_SYNC_FLUSH) + packer.flush(zlib.Z_FULL_FLUSH)
    return out + packer.flush(), offsets


def local(name: bytes, method: int, data: bytes, size: int, crc: int, flags: int = 0) -> bytes:
    fields = (20, flags, method, 0, 0x5A21, crc, len(data), size, len(name), 0)
    return struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields) + name + data


def sozipped(
    data: bytes,
    chunk: int = 1024,
    *,
    skip: int = 0,
    width: int = 8,
    descriptor: bytes = b"",
    index: bytes | None = None,
) -> bytes:
    packed, offsets = chunked(data, chunk)
    if index is None:
        index = struct.pack("<4L2Q", 1, skip, chunk, width, len(data), len(packed)) + bytes(skip)
        index += b"".join(offset.to_bytes(width, "little") for offset in offsets)
    body = local(b"d/a.bin", 8, packed, len(data), zlib.crc32(data)) + descriptor
    body += local(b"d/.a.bin.sozip.idx", 0, index, len(index), zlib.crc32(index))
    second_at = len(body)
    body += local(b"b", 0, b"x", 1, zlib.crc32(b"x"))
    listed = b""
    for name, method, sizes, crc, at in (
        (b"d/a.bin", 8, (len(packed), len(data)), zlib.crc32(data), 0),
        (b"b", 0, (1, 1), zlib.crc32(b"x"), second_at),
    ):
        fields = (3 << 8, 20, 0, method, 0, 0x5A21, crc, *sizes, len(name), 0, 0, 0, 0, 0o644 << 16)
        listed += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields, at) + name
    return body + listed + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(listed), len(body), 0)


def points_in(archive: bytes, name: str = "d/a.bin") -> tuple[Points, int]:
    directory = zips.find_directory(len(archive), archive)
    assert directory.span is not None
    listed = archive[directory.span.start : directory.span.stop]
    table: Table = zips.table_of_zip(directory, listed, archive_size=len(archive))
    member = table.find(name)
    assert member is not None
    room = table.room_of(member)
    assert room is not None
    start = zips.data_start(member, archive[member.header_at :], room)
    near = sozip.may_have_index(member, start, room)
    if near is None:
        return Points(), start
    index = sozip.find_index(member, archive[near.start : near.stop], near.start, room)
    if index is None:
        return Points(), start
    return sozip.points_of(index, member, archive[index.span.start : index.span.stop]), start


@given(
    st.binary(min_size=1, max_size=400).map(lambda seed: seed * 20),
    st.sampled_from([64, 1000, 4096]),
    st.sampled_from([0, 5]),
    st.sampled_from([4, 8]),
    st.sampled_from([0, 12, 16, 20, 24]),
)
@settings(max_examples=200)
def test_each_chunk_of_a_sozip_inflates_by_itself(
    data: bytes, chunk: int, skip: int, width: int, descriptor: int
) -> None:
    archive = sozipped(data, chunk, skip=skip, width=width, descriptor=bytes(descriptor))
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        assert source.read("d/a.bin") == data
    found, start = points_in(archive)
    assert len(found) == (len(data) - 1) // chunk
    for point, following in itertools.zip_longest(found, list(found)[1:]):
        stop = following.out_at if following else len(data)
        inflater = zlib.decompressobj(-15)
        out = inflater.decompress(archive[start + point.in_at :], stop - point.out_at)
        assert out == data[point.out_at : stop]


@pytest.mark.claim("S205")
@pytest.mark.parametrize(
    "change",
    [
        (0, 2),  # another version
        (8, 0),  # no chunk
        (8, 7),  # more offsets than there are
        (12, 3),  # an odd width
        (16, 1),  # another size
        (24, 1),  # another packed size
        (32, 0),  # offsets that do not grow
        (32, 1 << 30),  # an offset outside
        (40, 1),
    ],
)
def test_a_wrong_index_is_left_out(change: tuple[int, int]) -> None:
    data = bytes(range(256)) * 40
    packed, offsets = chunked(data, 1024)
    index = bytearray(struct.pack("<4L2Q", 1, 0, 1024, 8, len(data), len(packed)))
    index += struct.pack(f"<{len(offsets)}Q", *offsets)
    assert len(points_in(sozipped(data, index=bytes(index)))[0]) == 9
    struct.pack_into("<L", index, *change)
    assert len(points_in(sozipped(data, index=bytes(index)))[0]) == 0


def test_a_member_without_an_index_has_no_points() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a", b"a" * 999)
        target.writestr("other file of some length.txt", b"b" * 999)
        target.writestr("s", b"c", zipfile.ZIP_STORED)
    for name in ("a", "other file of some length.txt", "s"):
        assert len(points_in(out.getvalue(), name)[0]) == 0


@given(st.binary(max_size=400), st.integers(0, 399))
@settings(max_examples=500)
def test_any_bytes_behind_a_member_are_survived(noise: bytes, at: int) -> None:
    archive = bytearray(sozipped(bytes(range(256)) * 40))
    directory = zips.find_directory(len(archive), archive)
    assert directory.span is not None
    table = zips.table_of_zip(
        directory, archive[directory.span.start : directory.span.stop], archive_size=len(archive)
    )
    member = table.members[0]
    room = table.room_of(member)
    assert room is not None
    near = sozip.may_have_index(member, zips.data_start(member, archive, room), room)
    assert near is not None
    head = bytearray(archive[near.start : near.stop])
    head[at : at + len(noise)] = noise
    index = sozip.find_index(member, head, near.start, room)
    if index is not None:
        assert near.start < index.span.start < index.span.stop <= room
        sozip.points_of(index, member, bytes(len(index.span)))

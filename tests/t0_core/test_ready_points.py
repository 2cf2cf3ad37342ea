"""Seek points that files bring along: blocks of xz, frames of zstd."""

from __future__ import annotations

import lzma
import struct
import subprocess

import archive_support
import pytest
import tar_support as tars
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.archive import xz, zstd_frames
from up42fs.archive.points import Points

DATA = archive_support.pixels(700_000, 31)


def index_of(reader: xz.XzIndexReader | zstd_frames.SeekTableReader, file: bytes) -> list[int]:
    """Let the reader read; return the lengths of the ranges that it needed."""
    lengths = []
    while (span := reader.next_range) is not None:
        reader.feed(file[span.start : span.stop])
        lengths.append(len(span))
        assert len(lengths) < 100
    return lengths


def ends_of(points: Points, size: int) -> list[tuple[int, int, int]]:
    """Each point's place in the input and in the output, and where its output ends."""
    places = [(point.in_at, point.out_at) for point in points]
    ends = [out_at for _, out_at in places[1:]] + [size]
    return [(in_at, out_at, end) for (in_at, out_at), end in zip(places, ends, strict=True)]


def unpacked_xz(reader: xz.XzIndexReader, file: bytes, in_at: int, count: int) -> bytes:
    """What a decoder makes from a point on, as the engines do it: within one stream."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    decoder.decompress(reader.prefix(in_at))
    found = decoder.decompress(file[in_at : reader.feed_until(in_at)], count)
    while len(found) < count:
        found += decoder.decompress(b"", count - len(found))
    return found


@pytest.mark.claim("S211")
@pytest.mark.parametrize("check", ["crc32", "crc64", "sha256", "none"])
@pytest.mark.parametrize("block", [4096, 65536, 300_000])
def test_each_block_of_an_xz_file_is_a_point(check: str, block: int) -> None:
    command = ["xz", "-T1", "-0", "-c", f"--check={check}", f"--block-size={block}"]
    file = subprocess.run(command, input=DATA, stdout=subprocess.PIPE, check=True).stdout
    reader = xz.XzIndexReader(len(file))
    assert len(index_of(reader, file)) == 1
    assert reader.size == len(DATA)
    assert [point.out_at for point in reader.points] == list(range(block, len(DATA), block))
    for in_at, out_at, end in ends_of(reader.points, len(DATA))[:: 1 + 4096 // block * 20]:
        assert unpacked_xz(reader, file, in_at, end - out_at) == DATA[out_at:end]


@pytest.mark.parametrize("padding", [0, 4, 64])
def test_streams_of_xz_one_after_the_other_are_read_from_the_last(padding: int) -> None:
    file = b""
    for number, at in enumerate(range(0, len(DATA), 100_000)):
        check = (lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_NONE)[number % 3]
        file += lzma.compress(DATA[at : at + 100_000], check=check, preset=0) + bytes(padding)
    done = subprocess.run(["xz", "-dc"], input=file, stdout=subprocess.PIPE, check=True)
    assert done.stdout == DATA
    reader = xz.XzIndexReader(len(file))
    index_of(reader, file)
    assert reader.size == len(DATA)
    assert [point.out_at for point in reader.points] == list(range(100_000, len(DATA), 100_000))
    for in_at, out_at, end in ends_of(reader.points, len(DATA)):
        assert unpacked_xz(reader, file, in_at, end - out_at) == DATA[out_at:end]


def test_a_long_index_of_xz_takes_one_more_range() -> None:
    data = bytes(40_000 * 100)
    file = tars.xz_bytes(data, block=100)
    reader = xz.XzIndexReader(len(file))
    assert len(index_of(reader, file)) == 2
    assert reader.size == len(data)
    assert len(reader.points) == 39_999


def test_one_block_has_no_points_and_a_known_size() -> None:
    file = lzma.compress(DATA, preset=0)
    reader = xz.XzIndexReader(len(file))
    index_of(reader, file)
    assert (len(reader.points), reader.size) == (0, len(DATA))


@settings(max_examples=100)
@given(st.data())
def test_a_broken_index_of_xz_is_unusable_or_harmless(data: st.DataObject) -> None:
    file = bytearray(XZ)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 200) | st.integers(0, len(file) - 1))
        file[-1 - at] ^= data.draw(st.integers(1, 255))
    cut = bytes(file[: data.draw(st.sampled_from((len(file), len(file) - 1, len(file) - 4, 30)))])
    reader = xz.XzIndexReader(len(cut))
    index_of(reader, cut)
    for point in reader.points:
        assert 12 <= point.in_at < len(cut)
        assert len(reader.prefix(point.in_at)) == 12


XZ = tars.xz_bytes(DATA, block=65536)


@pytest.mark.claim("S211")
@pytest.mark.parametrize("frame", [10_000, 65536, 300_000])
def test_each_frame_of_a_seek_table_is_a_point(frame: int) -> None:
    file = tars.zstd_bytes(DATA, frame, is_seekable=True)
    reader = zstd_frames.SeekTableReader(len(file))
    assert len(index_of(reader, file)) == 1
    assert reader.size == len(DATA)
    places = ends_of(reader.points, len(DATA))
    assert [out_at for _, out_at, _ in places] == list(range(frame, len(DATA), frame))
    for in_at, out_at, _ in places[:: 1 + 65536 // frame * 10]:
        done = subprocess.run(["zstd", "-dc"], input=file[in_at:], stdout=subprocess.PIPE)
        assert done.stdout == DATA[out_at:]


def test_a_long_seek_table_takes_one_more_range() -> None:
    pieces = [b"%05d" % number for number in range(5000)]
    frames = [tars.raw_zstd_frame(piece) for piece in pieces]
    file = b"".join(frames) + tars.seek_table(frames, pieces)
    reader = zstd_frames.SeekTableReader(len(file))
    assert len(index_of(reader, file)) == 2
    assert reader.size == 25_000
    assert len(reader.points) == 4999


def test_a_seek_table_with_checksums_is_read() -> None:
    pieces = [b"a" * 100, b"b" * 50]
    frames = [tars.raw_zstd_frame(piece) for piece in pieces]
    rows = b"".join(
        struct.pack("<LLL", len(frame), len(piece), 7)
        for frame, piece in zip(frames, pieces, strict=True)
    )
    table = rows + struct.pack("<LBL", 2, 0x80, 0x8F92EAB1)
    file = b"".join(frames) + struct.pack("<LL", 0x184D2A5E, len(table)) + table
    reader = zstd_frames.SeekTableReader(len(file))
    index_of(reader, file)
    assert reader.size == 150
    assert [point.in_at for point in reader.points] == [len(frames[0])]


def test_a_seek_table_that_lies_about_sizes_is_not_used() -> None:
    frames = [tars.raw_zstd_frame(b"a" * 100), tars.raw_zstd_frame(b"b" * 50)]
    for shift in (-1, 1):
        wrong = [frames[0] + b"x" * shift if shift > 0 else frames[0][:shift], frames[1]]
        file = b"".join(frames) + tars.seek_table(wrong, [b"a" * 100, b"b" * 50])
        reader = zstd_frames.SeekTableReader(len(file))
        index_of(reader, file)
        assert (reader.size, len(reader.points)) == (None, 0)


def test_files_without_a_table_have_no_points() -> None:
    for file in (tars.zstd_bytes(DATA, 100_000), b"", b"short", archive_support.noise(100_000)):
        reader = zstd_frames.SeekTableReader(len(file))
        index_of(reader, file)
        assert (reader.size, len(reader.points)) == (None, 0)

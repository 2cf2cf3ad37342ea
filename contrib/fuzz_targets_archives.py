"""Parsers of archives as functions of bytes, and what must hold; see `fuzz_targets`."""

from __future__ import annotations

import struct
import zlib

from up42fs.archive import xz, zstd_frames
from up42fs.archive.points import Points
from up42fs.archive.table import ArchiveError, Member, MemberKind, Table
from up42fs.archive.tar import TarReader

#: Blocks that the fuzzer would hardly find a checksum for get one.
_BLOCK = 512


def tars(data: bytes) -> None:
    """Tars: an ArchiveError, or members that lie in order; ranges find what the stream finds."""
    reader = TarReader()
    try:
        reader.feed(data)
        reader.end(len(data))
        table = reader.table
    except ArchiveError:
        return
    check_table(table)
    by_ranges = TarReader()
    while (span := by_ranges.next_range(len(data))) is not None:
        by_ranges.feed(data[span.start : span.start + 700], span.start)
    by_ranges.end(len(data))
    assert list(by_ranges.table.members) == list(table.members)


def summed_tars(data: bytes) -> None:
    """The same, with the checksum of each block that could be a header made right."""
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]
    tars(b"".join(map(_summed, blocks)))


def _summed(block: bytes) -> bytes:
    if len(block) < _BLOCK or block[0] in (0, 0xFF):
        return block
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def xz_indexes(data: bytes) -> None:
    """Indexes at the end of xz files: points within the file, in order."""
    _read_index(xz.XzIndexReader(len(data)), data)


def summed_xz_indexes(data: bytes) -> None:
    """The same with right checksums, `data` being the body of the index."""
    index = b"\0" + data + bytes(-(len(data) + 1) % 4)
    index += zlib.crc32(index).to_bytes(4, "little")
    fields = (len(index) // 4 - 1).to_bytes(4, "little") + b"\0\4"
    footer = zlib.crc32(fields).to_bytes(4, "little") + fields + b"YZ"
    whole = bytes(1 << 12) + index + footer
    _read_index(xz.XzIndexReader(len(whole)), whole)


def seek_tables(data: bytes) -> None:
    """Seek tables of zstd files: points within the file, in order."""
    _read_index(zstd_frames.SeekTableReader(len(data)), data)


def _read_index(reader: xz.XzIndexReader | zstd_frames.SeekTableReader, data: bytes) -> None:
    for _ in range(200):
        if (span := reader.next_range) is None:
            break
        assert 0 <= span.start < span.stop <= len(data)
        reader.feed(data[span.start : span.stop])
    assert reader.next_range is None
    assert reader.size is None or reader.size >= 0
    _check_points(reader.points, len(data))
    for point in reader.points:
        reader.prefix(point.in_at)


def _check_points(points: Points, file_size: int) -> None:
    assert all(0 <= point.in_at <= file_size for point in points)
    assert [point.out_at for point in points] == sorted({point.out_at for point in points})


def check_table(table: Table) -> None:
    """What holds of every table: paths that a file system can show, sizes that a stat can."""
    for number, member in enumerate(table.members):
        assert member.number == number
        _check_member(member, table)
    assert sorted(_reached(table)) == sorted(member.path for member in table.members)
    again = Table.unpacked(table.packed())
    assert list(again.members) == list(table.members)
    assert again.packed() == table.packed()


def _reached(table: Table) -> list[str]:
    """The paths of all that one sees by walking the table."""
    found, pending = [], [""]
    while pending:
        directory = pending.pop()
        for name, number in table.children(directory).items():
            member = table.members[number]
            assert member.path == (f"{directory}/{name}" if directory else name)
            found.append(member.path)
            if member.kind is MemberKind.DIRECTORY:
                pending.append(member.path)
    return found


def _check_member(member: Member, table: Table) -> None:
    parts = member.path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert all(len(part.encode()) <= 255 and "\0" not in part for part in parts)
    assert table.find(member.path) == member
    assert 0 <= member.size < 1 << 63
    assert member.packed_size >= 0
    assert abs(member.mtime_ns) < 1 << 63
    assert member.target is None or not member.target.startswith("/")
    end = 0
    for offset, at, length in member.segments:
        assert end <= offset <= offset + length <= member.size
        assert at >= 0
        end = offset + length


TARGETS = (tars, summed_tars, xz_indexes, summed_xz_indexes, seek_tables)


def _header(name: bytes, size: int, kind: bytes, magic: bytes = b"ustar\x0000") -> bytes:
    head = name.ljust(100, b"\0") + b"0000644\0" * 3 + b"%011o\0" % size + b"0" * 11 + b"\0"
    return _summed((head + b" " * 8 + kind + bytes(100) + magic).ljust(_BLOCK, b"\0"))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)


_TAR = (
    _header(b"pax", 12, b"x") + _padded(b"12 path=new\n")
    + _header(b"a", 4, b"0") + _padded(b"data") + _header(b"b", 0, b"5") + bytes(2 * _BLOCK)
)  # fmt: skip
_LINES = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n30 GNU.sparse.realsize=100000\n"
_SPARSE = (
    _header(b"pax", len(_LINES), b"x") + _padded(_LINES) + _header(b"a", 1024, b"0")
    + _padded(b"1\n512\n512\n") + bytes(_BLOCK) + _header(b"old", 0, b"S", b"ustar  \0")
)  # fmt: skip

#: Something near the valid, to begin with.
SEEDS: dict[str, tuple[bytes, ...]] = {
    "tars": (_TAR, _SPARSE),
    "summed_tars": (_TAR, _SPARSE),
    "summed_xz_indexes": (b"\2\x20\x40\x20\x40", b"\1\x80\x10\x80\x10"),
    "seek_tables": (
        b"\x28\xb5\x2f\xfd\x20\3\x19\0\0abc" * 2
        + struct.pack("<LL", 0x184D2A5E, 25)
        + struct.pack("<LLLL", 12, 3, 12, 3)
        + struct.pack("<LBL", 2, 0, 0x8F92EAB1),
    ),
}

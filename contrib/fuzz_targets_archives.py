"""Parsers of archives as functions of bytes, and what must hold; see `fuzz_targets`."""

from __future__ import annotations

from up42fs.archive.table import ArchiveError, Member, Table
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


def check_table(table: Table) -> None:
    """What holds of every table: paths that a file system can show, sizes that a stat can."""
    for member in table.members:
        _check_member(member, table)


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


TARGETS = (tars, summed_tars)


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
}

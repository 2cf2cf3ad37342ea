"""Parsers of zips, names and seek points as functions of bytes; see `fuzz_targets`."""

from __future__ import annotations

import io
import struct
import zipfile

from fuzz_targets_archives import check_table

from up42fs.archive import links, names, sozip
from up42fs.archive import zip as zips
from up42fs.archive.member import ArchiveError, DamagedError, Member, MemberKind, Method
from up42fs.archive.points import WINDOW_BYTES
from up42fs.archive.slots import SLOT_BYTES, State, decode, encode
from up42fs.archive.table import Table


def zip_tables(data: bytes) -> None:
    """Zips: an ArchiveError, or a table that holds, is packed, and places data inside."""
    try:
        directory = zips.find_directory(len(data), data)
        span = directory.span
        listed = data[span.start : span.stop] if span else b""
        table = zips.table_of_zip(directory, listed, archive_size=len(data))
    except ArchiveError:
        return
    assert span is None or span.stop <= len(data)
    check_table(table)
    stops = 0
    for member in sorted(table.members, key=lambda one: one.header_at):
        if member.refusal is not None or member.kind is MemberKind.DIRECTORY:
            continue
        assert stops <= member.header_at + 2, "two members that can be opened overlap"
        stops = member.header_at + zips.LOCAL_BYTES + member.packed_size
        try:
            start = zips.data_start(member, data[member.header_at :][:30], table.room_of(member))
        except DamagedError:
            continue
        assert start + member.packed_size <= len(data)
    texts = {link.number: data[-9:] for link in links.unresolved(table)}
    resolved = links.resolved(table, texts)
    assert not links.unresolved(resolved)
    check_table(resolved)


def member_names(data: bytes) -> None:
    """Names, one a line: safe, unique paths, and targets that stay inside."""
    lines = data.split(b"\n")[:200]
    wishes = [names.wish(names.decoded(line)) for line in lines]
    paths = names.unique_paths(wishes)
    kept = [path for path in paths if path is not None]
    assert len(kept) == len(set(kept))
    for name in kept:
        _check_path(name)
        assert names.wish(name).path == name
    for line in lines:
        target = names.safe_target("a/b/c", names.decoded(line), lambda path: path == "a/b")
        assert target is None or not (target.startswith("/") or "\0" in target)
    for wished, path in zip(wishes, paths, strict=True):
        assert path is not None or wished.is_directory


def packed_tables(data: bytes) -> None:
    """Tables of the snapshot that somebody else may have written."""
    try:
        table = Table.unpacked(data)
    except ValueError:
        return
    check_table(table)


def kept_points(data: bytes) -> None:
    """Slots of seek points in the disk cache."""
    for slot in (data, data.ljust(SLOT_BYTES, b"\0")[:SLOT_BYTES]):
        point = decode(slot)
        if point is not None:
            assert 0 <= point.bits < 8
            assert 0 <= point.after < point.out_at
            assert len(point.window) <= WINDOW_BYTES


def sozips(data: bytes) -> None:
    """What stands behind a member: an index inside the gap, or none."""
    member = Member(
        0, "a", MemberKind.FILE, 0, 31, 900, 10_000, Method.DEFLATED, None, 0, None
    )  # fmt: skip
    room = 931 + len(data)
    near = sozip.may_have_index(member, 31, room)
    index = None if near is None else sozip.find_index(member, data[: len(near)], 931, room)
    if index is not None:
        assert 931 <= index.span.start < index.span.stop <= room
        points = sozip.points_of(
            index, member, data[index.span.start - 931 : index.span.stop - 931]
        )
        for point in points:
            assert 0 < point.in_at < member.packed_size
            assert 0 < point.out_at < member.size


def _check_path(path: str) -> None:
    """A relative path whose parts a file system can hold."""
    for part in path.split("/"):
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= names.MAX_NAME_BYTES
        assert not set(part) & {"\0", "\n", "\r", "\x1b", "\u202e"}
    assert path.count("/") < names.MAX_DEPTH


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("d/a.txt", b"a" * 50)
        target.writestr("../b", b"b", zipfile.ZIP_STORED)
        link = zipfile.ZipInfo("d/l")
        link.external_attr = 0o120777 << 16
        target.writestr(link, b"a.txt")
    return out.getvalue()


def _table() -> bytes:
    data = _zip()
    directory = zips.find_directory(len(data), data)
    assert directory.span is not None
    listed = data[directory.span.start : directory.span.stop]
    return zips.table_of_zip(directory, listed, archive_size=len(data)).packed()


def _sozip() -> bytes:
    index = struct.pack("<4L2Q3Q", 1, 0, 2500, 8, 10_000, 900, 200, 400, 600)
    name = b".a.sozip.idx"
    fields = (20, 0, 0, 0, 0, 0, len(index), len(index), len(name), 0)
    return struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields) + name + index


TARGETS = (zip_tables, member_names, packed_tables, kept_points, sozips)

#: Something near the valid, to begin with.
SEEDS: dict[str, tuple[bytes, ...]] = {
    "zip_tables": (_zip(), b"ahead" + _zip()),
    "member_names": (b"../a\n/b\nc//d\nc\nc/\n\xff\xfe\nn\0x\n" + b"x" * 300,),
    "packed_tables": (_table(),),
    "kept_points": (encode(State(200, 80, 31, 3, 7, b"window", 7, 100, checks=(5,))),),
    "sozips": (_sozip(),),
}

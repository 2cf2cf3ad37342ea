"""Members of zips: what zipfile wrote, what unzip makes of it, what malice invents."""

from __future__ import annotations

import bz2
import io
import itertools
import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from datetime import UTC, datetime

import archive_support
import pytest
import zip_support
from hypothesis import given, settings
from hypothesis import strategies as st
from zip_support import ZipEntry, zip_bytes

from up42fs.archive import links, zip_fields
from up42fs.archive import zip as zips
from up42fs.archive.table import (
    DamagedError,
    Member,
    MemberKind,
    Method,
    NotAnArchiveError,
    RefusalKind,
    Table,
    TooLargeError,
)


def table_of(data: bytes, tail_bytes: int = zips.TAIL_BYTES) -> Table:
    directory = zips.find_directory(len(data), data[-tail_bytes:])
    span = directory.span
    listed = data[span.start : span.stop] if span else b""
    return zips.table_of_zip(directory, listed, archive_size=len(data))


def written(
    members: list[tuple[str, bytes, bool]], comment: bytes = b"", *, wide: bool = False
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for number, (name, data, is_stored) in enumerate(members):
            info = zipfile.ZipInfo(f"{number}{name}", (2020, 10, 31, 2, 28, 58))
            info.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
            with target.open(info, "w", force_zip64=wide) as member:
                member.write(data)
        target.comment = comment
    return out.getvalue()


texts = st.text("abcäß日 .-", min_size=0, max_size=12)
contents = st.tuples(texts, st.binary(max_size=200), st.booleans())


@given(
    st.lists(contents, max_size=8), st.binary(max_size=60), st.booleans(), st.binary(max_size=90)
)
@settings(max_examples=300)
def test_members_are_what_zipfile_wrote(
    parts: list[tuple[str, bytes, bool]], comment: bytes, wide: bool, ahead: bytes
) -> None:
    data = ahead + written(parts, comment.replace(b"PK\x05\x06", b"...."), wide=wide)
    table = table_of(data)
    assert len(table.members) == len(parts)
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        for member, info in zip(table.members, source.infolist(), strict=True):
            assert member.path == info.filename
            assert member.refusal is None
            assert (member.size, member.packed_size) == (info.file_size, info.compress_size)
            assert (member.header_at, member.crc32) == (info.header_offset, info.CRC)
            assert member.mtime_ns == 1_604_111_338 * 10**9
            header = data[member.header_at : member.header_at + zips.LOCAL_BYTES]
            start = zips.data_start(member, header, table.room_of(member))
            if member.method is Method.STORED:
                assert data[start : start + member.size] == source.read(info)
            else:
                assert member.method is Method.DEFLATED
    assert all(member.kind is MemberKind.FILE for member in table.members)


def unpacked(data: bytes, table: Table, member: Member) -> bytes:
    """The member's bytes by its place in the table."""
    assert member.refusal is None
    header = data[member.header_at : member.header_at + zips.LOCAL_BYTES]
    start = zips.data_start(member, header, table.room_of(member))
    packed = data[start : start + member.packed_size]
    match member.method:
        case Method.STORED:
            return packed
        case Method.DEFLATED:
            return zlib.decompress(packed, -15)
        case Method.BZIP2:
            return bz2.decompress(packed)
        case Method.LZMA:
            with zipfile.ZipFile(io.BytesIO(data)) as source:
                return source.read(member.path)
        case _:
            raise AssertionError(member.method)


def files_of(data: bytes) -> dict[str, bytes]:
    table = table_of(data)
    return {
        member.path: unpacked(data, table, member)
        for member in table.members
        if member.kind is MemberKind.FILE and member.refusal is None
    }


ZIPS = {name: build for name, build in archive_support.honest.items() if name.startswith("zip")}


@pytest.mark.claim("S202")
@pytest.mark.parametrize("name", ZIPS)
def test_honest_archives_are_read_as_they_were_built(name: str) -> None:
    built = ZIPS[name]()
    table = links.resolved(table_of(built.data), targets_of(built.data, table_of(built.data)))
    shown = {
        member.path: unpacked(built.data, table, member)
        for member in table.members
        if member.kind is MemberKind.FILE
    }
    unsafe = {"d/absolute": b"/etc/passwd", "d/out": b"../../secret"}
    assert shown == dict(built.files) | (unsafe if name == "zip-symlinks" else {})
    assert {m.path for m in table.members if m.kind is MemberKind.DIRECTORY} == built.directories
    linked = {m.path: m.target for m in table.members if m.kind is MemberKind.SYMLINK}
    assert linked == built.symlinks


def targets_of(data: bytes, table: Table) -> dict[int, bytes]:
    return {link.number: unpacked(data, table, link) for link in links.unresolved(table)}


@pytest.mark.parametrize("name", ["zip-comment-end", "zip-two-kinds", "zip-names", "zip-names-fat"])
def test_hostile_archives_lose_no_member(name: str) -> None:
    built = archive_support.hostile[name]()
    found = files_of(built.data)
    if name == "zip-two-kinds":
        assert found == {
            **{"pet [1]": b"file", "pet/cat": b"cat"},
            **{"twice [1]": b"first", "twice": b"second"},
        }
    elif name == "zip-comment-end":
        assert found == built.files
    else:
        is_folder = [n for n, raw in enumerate(archive_support.HOSTILE_NAMES) if raw == b"dir/"]
        numbers = {int(content) for content in found.values()}
        assert numbers == set(range(len(archive_support.HOSTILE_NAMES))) - set(is_folder)


@pytest.mark.claim("S203")
@pytest.mark.parametrize(
    ("name", "refused"),
    [
        # Of members with one header only the shortest could be opened, and that one's ratio lies.
        ("zip-bomb", {"kernel", *(f"copy{number}" for number in range(50))}),
        ("zip-ratio", {"huge"}),
        ("zip-unsupported", {"deflate64", "unknown", "encrypted", "aes"}),
        ("zip-sizes-lie", set()),
        ("zip-wrong-crc", set()),
    ],
)
def test_members_that_cannot_be_opened_are_listed(name: str, refused: set[str]) -> None:
    built = archive_support.hostile[name]()
    table = table_of(built.data)
    assert {m.path for m in table.members if m.refusal is not None} == refused
    for path, size in built.broken.items():
        member = table.find(path)
        assert member is not None
        assert member.size == size


def test_a_refusal_has_its_kind() -> None:
    table = table_of(archive_support.zip_unsupported().data)
    kinds = {m.path: m.refusal.kind for m in table.members if m.refusal is not None}
    assert kinds == {
        "deflate64": RefusalKind.UNSUPPORTED,
        "unknown": RefusalKind.UNSUPPORTED,
        "encrypted": RefusalKind.ENCRYPTED,
        "aes": RefusalKind.ENCRYPTED,
    }
    member = table.find("deflate64")
    assert member is not None
    assert member.refusal is not None
    assert "Deflate64" in member.refusal.reason


@pytest.mark.claim("S202")
@given(st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_random_archives_are_what_they_were_built_of(chance: random.Random) -> None:
    files = archive_support.random_files(chance, largest=3000)
    entries = [
        ZipEntry(
            path,
            data,
            chance.choice((zip_support.STORED, zip_support.DEFLATED)),
            descriptor=chance.random() < 0.3,
            zip64=chance.random() < 0.3,
            comment=chance.randbytes(chance.choice((0, 9))),
            gap=chance.randbytes(chance.choice((0, 0, 20))),
        )
        for path, data in files.items()
    ]
    data = zip_bytes(
        entries,
        prefix=chance.randbytes(chance.choice((0, 100, 5000))),
        is_prefix_counted=chance.random() < 0.3,
        comment=chance.choice((b"", b"PK\5\6", b"PK\5\6" * 9, chance.randbytes(40))),
        zip64_end=chance.random() < 0.3,
    )
    assert files_of(data) == files
    table = table_of(data)
    assert list(Table.unpacked(table.packed()).members) == list(table.members)
    tail = chance.choice((0, 64, 1000))
    if tail and len(data) > tail + zips.TAIL_BYTES:
        assert list(table_of(data, zips.TAIL_BYTES).members) == list(table.members)


# End records


def test_a_zip_in_a_comment_does_not_hide_the_archive() -> None:
    """As if somebody attached an archive to an archive: the last whole one is the archive."""
    inner = zip_bytes([ZipEntry("inner", b"i")])
    outer = zip_bytes([ZipEntry("outer", b"o")], comment=inner + b" and text")
    assert files_of(outer) == {"outer": b"o"}


@pytest.mark.claim("S202")
def test_an_empty_record_at_the_end_of_a_comment_hides_nothing() -> None:
    assert files_of(zip_bytes([ZipEntry("a", b"a")], comment=b"PK\5\6" + bytes(18))) == {"a": b"a"}


def test_bytes_behind_the_archive_are_forgiven() -> None:
    assert files_of(zip_bytes([ZipEntry("a", b"a")]) + bytes(100)) == {"a": b"a"}


def test_an_archive_without_members_is_empty() -> None:
    assert list(table_of(zip_bytes([])).members) == []
    assert list(table_of(b"ahead" + zip_bytes([])).members) == []


def test_a_directory_ahead_of_the_tail_is_named() -> None:
    data = zip_bytes([ZipEntry("n" * 200 + str(number), b"x") for number in range(50)])
    assert table_of(data, 40).members[49].path == "n" * 200 + "49"


@pytest.mark.claim("S202")
def test_counts_of_16_bits_are_not_believed() -> None:
    entries = [ZipEntry(str(number)) for number in range(70_000)]
    for data in (zip_bytes(entries), zip_bytes(entries, count=70_000 - (1 << 16))):
        assert len(table_of(data).members) == 70_000


@pytest.mark.claim("S204")
def test_too_many_members_are_one_clear_error() -> None:
    data = zip_bytes([ZipEntry(str(number)) for number in range(100_001)])
    with pytest.raises(TooLargeError, match=r"100001 members .* up to 100000"):
        table_of(data)
    with pytest.raises(TooLargeError, match="more than 100000 members"):
        table_of(zip_bytes([ZipEntry(str(n)) for n in range(100_001)], count=7))


def test_too_long_a_directory_is_one_clear_error() -> None:
    entries = [ZipEntry(str(number), comment=bytes(60_000)) for number in range(600)]
    with pytest.raises(TooLargeError, match="32 MiB"):
        table_of(zip_bytes(entries))


@pytest.mark.parametrize("data", [b"", b"PK\3\4" + bytes(90), bytes(3000), b"PK\5\6", b"PK" * 99])
def test_other_bytes_are_no_zip(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError):
        table_of(data)


def test_parts_of_a_split_archive_are_refused() -> None:
    data = bytearray(zip_bytes([ZipEntry("a", b"a")]))
    struct.pack_into("<HH", data, len(data) - 18, 3, 3)
    with pytest.raises(DamagedError, match="split"):
        table_of(bytes(data))


def test_damage_within_the_directory_is_an_error_and_no_shorter_list() -> None:
    data = bytearray(zip_bytes([ZipEntry("a", b"a"), ZipEntry("b", b"b")]))
    second = data.rfind(b"PK\1\2")
    data[second] = 0
    with pytest.raises(DamagedError, match="behind member 1"):
        table_of(bytes(data))


# Fields of entries


def wide(*values: int) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)


HUGE = 0xFFFFFFFF
BIG = 5 << 32


@pytest.mark.parametrize(
    ("narrow", "extra", "expected"),
    [
        ((HUGE, 7, 9), wide(BIG), (BIG, 7, 9)),
        ((7, HUGE, 9), wide(BIG), (7, BIG, 9)),
        ((7, 9, HUGE), wide(BIG), (7, 9, BIG)),
        ((HUGE, HUGE, 9), wide(BIG, BIG + 1), (BIG, BIG + 1, 9)),
        ((HUGE, HUGE, HUGE), wide(BIG, BIG + 1, BIG + 2), (BIG, BIG + 1, BIG + 2)),
        # All three are written, though one overflowed.
        ((7, 9, HUGE), wide(7, 9, BIG), (7, 9, BIG)),
        ((7, 9, HUGE), wide(BIG, 0, 0), (7, 9, BIG)),
        # Exactly 4294967295, without a field, or with one that ends.
        ((HUGE, HUGE, 0), b"", (HUGE, HUGE, 0)),
        ((HUGE, HUGE, 0), wide(BIG), (BIG, HUGE, 0)),
        # Zeros for what did not overflow.
        ((7, 9, 11), wide(0, 0, 0), (7, 9, 11)),
        # Another field ahead of it; one that is cut off.
        ((HUGE, 7, 9), struct.pack("<HH4s", 0xCAFE, 4, b"----") + wide(BIG), (BIG, 7, 9)),
        ((HUGE, 7, 9), wide(BIG)[:8], (HUGE, 7, 9)),
    ],
)
def test_zip64_fields(
    narrow: tuple[int, int, int], extra: bytes, expected: tuple[int, int, int]
) -> None:
    found = zip_fields.widened(zip_fields.ZipPlaces(*narrow), zip_fields.fields(extra))
    assert tuple(found) == expected


def times(extra: bytes, date: int = (44 << 9) | (5 << 5) | 17, time: int = 0) -> int:
    return zip_fields.mtime_ns(zip_fields.fields(extra), date, time)


DOS_DAY = 1_715_904_000 * 10**9  # 2024-05-17


def test_times() -> None:
    unix = struct.pack("<HHBl", 0x5455, 5, 1, 1_600_000_000)
    access_only = struct.pack("<HHBl", 0x5455, 5, 2, 1_600_000_000)
    old = struct.pack("<HHll", 0x5855, 8, 5, 1_500_000_000)
    ticks = (1_700_000_000 + 11_644_473_600) * 10_000_000 + 5
    ntfs = struct.pack("<HHLHHQQQ", 0x000A, 32, 0, 1, 24, ticks, 0, 0)
    assert times(b"") == DOS_DAY
    assert times(unix) == 1_600_000_000 * 10**9
    assert times(ntfs) == 1_700_000_000 * 10**9 + 500
    assert times(ntfs + unix) == 1_600_000_000 * 10**9
    assert times(old) == 1_500_000_000 * 10**9
    assert times(access_only) == DOS_DAY
    assert times(struct.pack("<HHBl", 0x5455, 5, 1, -5)) == -5 * 10**9
    assert times(struct.pack("<HHLHHQQQ", 0x000A, 32, 0, 1, 24, (1 << 64) - 1, 0, 0)) == DOS_DAY


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_any_dos_time_is_a_time(date: int, time: int) -> None:
    expected = datetime(1980 + (date >> 9), 1, 1, tzinfo=UTC).timestamp() * 1e9
    assert expected <= times(b"", date, time) < expected + 370 * 86400 * 1e9


def test_modes_and_kinds() -> None:
    data = zip_bytes(
        [
            ZipEntry("plain", mode=0o100644),
            ZipEntry("suid", mode=0o104755),
            ZipEntry("pipe", mode=0o010600),
            ZipEntry("dos", host=zip_support.FAT, mode=0),
            ZipEntry("none", mode=0),
            zip_support.directory_entry("d/"),
            ZipEntry("flagged", mode=0o040755),
            ZipEntry("link", b"plain", mode=0o120777),
            ZipEntry("long", b"x" * 5000, mode=0o120777),
            ZipEntry("dos link", b"plain", mode=0o120777, host=zip_support.FAT),
        ]
    )
    found = {m.path: (m.kind.value, m.mode) for m in table_of(data).members}
    assert found == {
        "plain": ("file", 0o644),
        "suid": ("file", 0o755),
        "pipe": ("file", 0o600),
        "dos": ("file", None),
        "none": ("file", None),
        "d": ("directory", 0o755),
        "flagged": ("directory", 0o755),
        "link": ("symlink", 0o777),
        "long": ("file", 0o777),
        "dos link": ("file", None),
    }


def test_names_by_flag_field_and_host() -> None:
    raw = b"?nicode"
    entries = [
        ZipEntry("grün".encode("cp437"), host=zip_support.FAT),
        ZipEntry("grün8".encode(), flags=zip_support.UTF8),
        ZipEntry("grünraw".encode()),
        ZipEntry(raw, central_extra=zip_support.unicode_path("ünicode", raw)),
        ZipEntry("real", central_extra=zip_support.unicode_path("stale", b"", 123)),
        ZipEntry("cut", central_extra=zip_support.unicode_path("nul\0x", b"cut")),
        ZipEntry("win\\file", host=zip_support.FAT),
    ]
    with_slash = [*entries, ZipEntry("d/x")]
    paths = ["grün", "grün8", "grünraw", "ünicode", "real", "nul"]
    assert [m.path for m in table_of(zip_bytes(with_slash)).members[:7]] == [*paths, "win\\file"]
    assert [m.path for m in table_of(zip_bytes(entries)).members[:7]] == [*paths, "win/file"]
    unix = zip_bytes([ZipEntry("not\\split")])
    assert [m.path for m in table_of(unix).members] == ["not\\split"]


# Overlaps, and headers that differ


def test_small_overlaps_are_honest() -> None:
    """ClamAV met honest archives whose members overlap by two bytes."""
    first, second = b"a" * 50, b"b" * 50
    entries = [ZipEntry("a", first), ZipEntry("b", second)]
    for overlap, is_refused in ((1, False), (2, False), (3, True)):
        entries[0].packed_size = entries[0].size = 50 + 1 + overlap  # its name has one byte
        table = table_of(zip_bytes(entries))
        assert (table.members[0].refusal is not None) == is_refused
        assert table.members[1].refusal is None


def test_a_local_header_that_reaches_into_the_next_member_is_refused() -> None:
    """The directory's sizes fit; the local header claims extra fields as long as the member."""
    data = bytearray(zip_bytes([ZipEntry("a", b"a" * 50), ZipEntry("b", b"b")]))
    table = table_of(bytes(data))
    struct.pack_into("<H", data, 28, 4)
    with pytest.raises(DamagedError, match="overlaps"):
        zips.data_start(table.members[0], data, table.room_of(table.members[0]))
    with pytest.raises(DamagedError, match="no local header"):
        zips.data_start(table.members[0], data[1:], table.room_of(table.members[0]))
    with pytest.raises(DamagedError, match="no local header"):
        zips.data_start(table.members[0], data[:20], None)


@pytest.mark.claim("S203")
def test_a_header_outside_of_the_archive_gives_no_room() -> None:
    data = zip_bytes([ZipEntry("a", b"a"), ZipEntry("b", b"b", header_at=1 << 30)])
    table = table_of(data)
    assert table.room_of(table.members[0]) == table.ends_at
    assert table.ends_at == data.index(b"PK\1\2")


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 300), st.booleans()), min_size=1, max_size=8
    )
)
@settings(max_examples=500)
def test_members_that_can_be_opened_lie_side_by_side(
    lies: list[tuple[int, int, bool]],
) -> None:
    entries = [
        ZipEntry(f"n{number}", bytes(20), header_at=at, packed_size=size, size=size)
        if is_lie
        else ZipEntry(f"n{number}", bytes(20))
        for number, (at, size, is_lie) in enumerate(lies)
    ]
    data = zip_bytes(entries)
    table = table_of(data)
    assert len(table.members) == len(lies)
    assert table.ends_at is not None
    stops = 0
    for member in sorted(table.members, key=lambda one: (one.header_at, one.packed_size)):
        if member.refusal is None:
            assert stops <= member.header_at + 2
            stops = member.header_at + zips.LOCAL_BYTES + member.packed_size
            assert stops <= table.ends_at


def test_sizes_that_cannot_be_are_refused_and_shown() -> None:
    empty_deflate = b"\x03\x00"
    entries = [
        ZipEntry("possible", b"", zip_support.DEFLATED, packed=empty_deflate, size=2064),
        ZipEntry("ratio", b"", zip_support.DEFLATED, packed=empty_deflate, size=2065),
        ZipEntry("stored", b"abc", size=4),
        ZipEntry("outside", b"abc", packed_size=1000, size=1000),
        ZipEntry("beyond", b"abc", header_at=1 << 40),
        ZipEntry("astronomic", b"", zip_support.BZIP2, zip64=True, size=(1 << 64) - 2),
    ]
    table = table_of(zip_bytes(entries))
    refused = {m.path for m in table.members if m.refusal is not None}
    assert refused == {"ratio", "stored", "outside", "beyond", "astronomic"}
    assert {m.path: m.size for m in table.members} == {
        **{"possible": 2064, "ratio": 2065, "stored": 4, "outside": 1000, "beyond": 3},
        "astronomic": (1 << 63) - 1,
    }


# Symlinks


@pytest.mark.claim("S201")
def test_symlinks_without_a_safe_target_are_files() -> None:
    data = archive_support.zip_symlinks().data
    table = table_of(data)
    waiting = links.unresolved(table)
    assert [one.path for one in waiting] == ["d/near", "d/far", "d/absolute", "d/out"]
    texts = targets_of(data, table)
    del texts[waiting[1].number]
    found = links.resolved(table, texts)
    assert {m.path: (m.kind.value, m.target) for m in found.members} == {
        "d": ("directory", None),
        "d/file.txt": ("file", None),
        "d/near": ("symlink", "file.txt"),
        "d/far": ("file", None),  # it could not be read
        "d/absolute": ("file", None),
        "d/out": ("file", None),
    }
    assert links.unresolved(found) == []
    assert len(links.unresolved(table)) == 4, "the first table is unchanged"
    assert list(Table.unpacked(found.packed()).members) == list(found.members)


@given(st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_all_targets_are_read_in_few_ranges(chance: random.Random) -> None:
    entries, texts = [], {}
    for number in range(chance.randrange(1, 40)):
        if chance.random() < 0.6:
            text = b"x" * chance.randrange(1, 300)
            method = chance.choice((zip_support.STORED, zip_support.DEFLATED))
            extra = zip_support.extended_times(1) * chance.choice((0, 3))
            entries.append(ZipEntry(f"l{number}", text, method, mode=0o120777, local_extra=extra))
            texts[f"l{number}"] = text
        else:
            size = chance.choice((5, 3000, 200_000))
            entries.append(ZipEntry(f"f{number}", archive_support.noise(size)))
    data = zip_bytes(entries)
    table = table_of(data)
    passes = links.passes(links.unresolved(table), table)
    read = {
        link.path: links.text_of(link, table, data[span.start : span.stop], span.start)
        for span, together in passes
        for link in together
    }
    assert read == texts
    for (one, _), (following, _) in itertools.pairwise(passes):
        assert one.stop + (128 << 10) < following.start or following.stop - one.start > 1 << 20
        assert len(one) <= 1 << 20
    assert all(span.stop <= len(data) for span, _ in passes)


def test_targets_that_lie_are_not_used() -> None:
    entries = [
        ZipEntry("crc", b"file", mode=0o120777, crc32=1),
        ZipEntry("more", b"file" * 90, zip_support.DEFLATED, mode=0o120777, size=4),
        ZipEntry("garbage", b"file", zip_support.DEFLATED, mode=0o120777, packed=b"\xff" * 9),
        ZipEntry("method", b"file", zip_support.BZIP2, mode=0o120777),
        ZipEntry("good", b"file", mode=0o120777),
    ]
    data = zip_bytes(entries)
    table = table_of(data)
    found = {one.path: links.text_of(one, table, data, 0) for one in links.unresolved(table)}
    assert found == {**dict.fromkeys(("crc", "more", "garbage", "method")), "good": b"file"}
    good = links.unresolved(table)[-1]
    assert links.text_of(good, table, data[good.header_at :][:34], good.header_at) is None


# Packed tables


def test_packed_tables_are_small_and_bounded() -> None:
    data = archive_support.safe().data
    assert len(table_of(data).packed()) < 40 * len(table_of(data).members)
    bomb = b"u42t\x01" + bytes(17) + b"u42m\x01" + zlib.compress(bytes(100 << 20))
    with pytest.raises(ValueError, match="cut off, or too many"):
        Table.unpacked(bomb)


@given(st.integers(0, 3000), st.integers(0, 255))
@settings(max_examples=400)
def test_damaged_packed_tables_are_refused_or_equal(at: int, value: int) -> None:
    packed = bytearray(table_of(archive_support.zip_unsupported().data).packed())
    at %= len(packed)
    was, packed[at] = packed[at], value
    try:
        Table.unpacked(bytes(packed))
    except ValueError:
        assert was != value
    with pytest.raises(ValueError):
        Table.unpacked(bytes(packed[:at]))


@pytest.mark.claim("S204")
def test_100_000_members_are_parsed_within_bounds() -> None:
    data = zip_bytes([ZipEntry(f"d{n % 100}/f{n:06}.bin") for n in range(100_000)])
    directory = zips.find_directory(len(data), data[-zips.TAIL_BYTES :])
    assert directory.span is not None
    listed = data[directory.span.start : directory.span.stop]
    began = time.process_time()
    table = zips.table_of_zip(directory, listed, archive_size=len(data))
    assert time.process_time() - began < 15, "it takes 1.3 s"
    assert len(table.members) == 100_100
    assert table.held_bytes < 40 << 20
    assert len(table.packed()) < 2 << 20


def test_a_table_is_parsed_in_little_memory() -> None:
    data = zip_bytes([ZipEntry(f"d{n % 100}/f{n:06}.bin") for n in range(10_000)])
    directory = zips.find_directory(len(data), data[-zips.TAIL_BYTES :])
    assert directory.span is not None
    listed = data[directory.span.start : directory.span.stop]
    tracemalloc.start()
    table = zips.table_of_zip(directory, listed, archive_size=len(data))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 << 20, "100 000 take 25 MB"
    assert peak < 12 << 20, "and 68 MB while they are parsed"
    assert table.held_bytes < 4 << 20

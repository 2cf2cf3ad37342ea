"""The members of tars: what GNU tar, bsdtar and Python extract, from a stream and by ranges."""

from __future__ import annotations

import io
import itertools
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import archive_support
import pytest
import tar_support as tars
from archive_support import Built
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tar_support import TarEntry, tar_bytes

from up42fs.archive import tar, tar_headers, tar_members
from up42fs.archive.table import (
    Member,
    MemberKind,
    NotAnArchiveError,
    RefusalKind,
    Table,
    TooLargeError,
)
from up42fs.archive.tar import TarReader
from up42fs.archive.tar_members import GAP_NAME

sys.path.append(str(Path(__file__).parents[2] / "contrib"))

import fuzz_targets_archives

#: Builders of tars without a framing.
PLAIN = (
    *("tar-tar", "tar-gnu", "tar-long-names", "tar-long-names-pax", "tar-sparse", "tar-links"),
    *("tar-duplicates", "tar-damaged", "tar-truncated", "tar-concatenated"),
)


def read(data: bytes, step: int | None = None) -> TarReader:
    reader = TarReader()
    for at in range(0, len(data), step or len(data) or 1):
        reader.feed(data[at : at + (step or len(data))])
    reader.end(len(data))
    return reader


def read_by_ranges(data: bytes) -> tuple[TarReader, list[int]]:
    reader, lengths = TarReader(), []
    while (span := reader.next_range(len(data))) is not None:
        reader.feed(data[span.start : span.stop], span.start)
        lengths.append(len(span))
    reader.end(len(data))
    return reader, lengths


def content(archive: bytes, member: Member) -> bytes:
    assert member.data_at is not None
    if not member.segments:
        return archive[member.data_at : member.data_at + member.size]
    found = bytearray(member.size)
    for offset, at, length in member.segments:
        found[offset : offset + length] = archive[at : at + length]
    return bytes(found)


def files(archive: bytes, table: Table) -> dict[str, bytes]:
    return {
        member.path: content(archive, member)
        for member in table.members
        if member.kind is MemberKind.FILE and member.refusal is None
    }


def links(table: Table) -> dict[str, str | None]:
    return {m.path: m.target for m in table.members if m.kind is MemberKind.SYMLINK}


def one(entry: TarEntry | bytes, *others: TarEntry | bytes) -> Table:
    return read(tar_bytes([entry, *others])).table


def builder(name: str) -> Built:
    return (archive_support.honest | archive_support.hostile)[name]()


@pytest.mark.claim("S210")
@pytest.mark.parametrize("name", PLAIN)
def test_members_are_those_that_tar_extracts(name: str) -> None:
    built = builder(name)
    reader = read(built.data)
    found = files(built.data, reader.table)
    assert {path: found[path] for path in found if path not in built.broken} == built.files
    assert links(reader.table) == built.symlinks
    for path, size in built.broken.items():
        member = reader.table.find(path)
        assert member is not None
        assert member.size == size
    assert reader.table.is_complete


@pytest.mark.parametrize("name", [*PLAIN, "tar-names"])
def test_a_stream_in_any_pieces_and_ranges_yield_the_same_members(name: str) -> None:
    built = builder(name)
    whole = read(built.data)
    for step in (7, 512, 1000, 65536):
        assert list(read(built.data, step).table.members) == list(whole.table.members)
    by_ranges, _ = read_by_ranges(built.data)
    assert list(by_ranges.table.members) == list(whole.table.members)
    assert by_ranges.damage == whole.damage


def test_large_members_are_skipped_and_small_ones_read_through() -> None:
    large = tar_bytes([TarEntry(b"%d" % n, bytes(5 << 20)) for n in range(8)])
    reader, lengths = read_by_ranges(large)
    assert reader.count == 8
    assert sum(lengths) <= 9 * (64 << 10)
    small = tar_bytes([TarEntry(b"%d" % n, bytes(20_000)) for n in range(1000)])
    reader, lengths = read_by_ranges(small)
    assert reader.count == 1000
    assert len(lengths) <= 2 + len(small) // (4 << 20) + 1


def test_bytes_before_the_next_header_may_come_or_not() -> None:
    data = tar_bytes([TarEntry(b"a", bytes(5000)), TarEntry(b"b", b"x")])
    reader = TarReader()
    reader.feed(data[:512])
    assert reader.next_at == 512 + 5120
    reader.feed(data[1000:], 1000)
    assert [member.path for member in reader.table.members] == ["a", "b"]
    reader = TarReader()
    with pytest.raises(ValueError, match="from 0 on"):
        reader.feed(b"x", 1)


def test_a_table_grows_while_the_archive_is_read() -> None:
    data = tar_bytes([TarEntry(b"a", bytes(5000)), TarEntry(b"d/b", b"x")])
    reader = TarReader()
    reader.feed(data[:600])
    assert [member.path for member in reader.table.members] == ["a"]
    partial = reader.table
    reader.feed(data[600:])
    assert (partial.is_complete, reader.table.is_complete) == (False, True)
    assert reader.table.find("d/b") is not None
    folder = reader.table.find("d")
    assert folder is not None
    assert folder.is_made_up


# --- against other readers

_NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs", "Cc"]),
            min_size=1, max_size=40),
    min_size=1, max_size=5,
).map("/".join)  # fmt: skip


@settings(max_examples=60)
@given(
    st.dictionaries(_NAMES, st.binary(max_size=2000), min_size=1, max_size=8),
    st.sampled_from((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
    st.integers(1, 3000),
)
def test_files_are_those_that_python_reads(made: dict[str, bytes], format_: int, step: int) -> None:
    try:
        archive = tars.tarfile_bytes(made, format_)
    except ValueError:
        return  # a name that ustar cannot hold
    reader = read(archive, step)
    honest = {
        name: data
        for name, data in made.items()
        if not any(other.startswith(name + "/") for other in made)
        and not {"", ".", ".."} & set(name.split("/"))
    }
    found = files(archive, reader.table)
    for name, data in honest.items():
        shown = "/".join("".join(map(_shown, part)) for part in name.split("/"))
        if len([one for one in made if _spelt(one) == shown]) == 1:
            assert found[shown] == data


def _shown(character: str) -> str:
    from up42fs.model.names import safe_character

    return safe_character(character)


def _spelt(name: str) -> str:
    return "/".join("".join(map(_shown, part)) for part in name.split("/"))


_TAR_OPTIONS = (
    ["--format=gnu"], ["--format=ustar"], ["--format=posix"], ["--format=v7"], ["--format=oldgnu"],
    ["--format=gnu", "-S"], ["--format=posix", "-S", "--sparse-version=0.0"],
    ["--format=posix", "-S", "--sparse-version=0.1"], ["--format=posix", "-S"],
)  # fmt: skip


def _make_tree(where: Path, chance: random.Random) -> None:
    """Files with holes, long names, hard links and symlinks."""
    folder = where / ("deep" * 10) / ("er" * 20)
    folder.mkdir(parents=True)
    for number in range(chance.randint(2, 8)):
        parent = chance.choice((where, folder))
        path = parent / chance.choice((f"{number}", f"{number}" + "n" * 60, f"ü{number}"))
        with path.open("wb") as file:
            for _ in range(chance.randrange(8)):
                file.seek(chance.randrange(300_000))
                file.write(chance.randbytes(chance.randrange(9000)))
            file.truncate(max(file.tell(), chance.randrange(300_000)))
        if chance.random() < 0.3:
            os.link(path, parent / f"{number}.hard")
        if chance.random() < 0.3:
            (parent / f"{number}.soft").symlink_to(path.name)


def _tree(where: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    regular, soft = {}, {}
    for path in where.rglob("*"):
        name = str(path.relative_to(where))
        if path.is_symlink():
            soft[name] = os.readlink(path)
        elif path.is_file():
            regular[name] = path.read_bytes()
    return regular, soft


@pytest.mark.claim("S210")
@pytest.mark.parametrize("options", _TAR_OPTIONS, ids=" ".join)
@pytest.mark.parametrize("seed", range(4))
def test_a_tree_packed_by_gnu_tar_is_found_again(
    options: list[str], seed: int, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    _make_tree(tree, random.Random(seed))
    done = subprocess.run(
        ["tar", *options, "-cf", str(tmp_path / "x.tar"), "."],
        cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "name is too long" in done.stderr:
        shutil.rmtree(tree)  # this format cannot hold it; what was written counts
        tree.mkdir()
        subprocess.run(["tar", "-xf", str(tmp_path / "x.tar")], cwd=tree, check=False)
    archive = (tmp_path / "x.tar").read_bytes()
    reader = read(archive)
    regular, soft = _tree(tree)
    assert files(archive, reader.table) == regular
    assert links(reader.table) == soft
    for path in tree.rglob("*"):
        member = reader.table.find(str(path.relative_to(tree)))
        assert member is not None
        if not path.is_symlink() and path.stat().st_nlink == 1:
            assert member.mtime_ns // 10**9 == path.stat().st_mtime_ns // 10**9
            assert member.mode == path.stat().st_mode & 0o777


@pytest.mark.skipif(not tars.has_command("bsdtar"), reason="no bsdtar (libarchive-tools)")
@pytest.mark.parametrize("format_", ["ustar", "pax", "gnutar", "v7"])
def test_a_tree_packed_by_bsdtar_is_found_again(format_: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    _make_tree(tree, random.Random(5))
    archive_path = tmp_path / "x.tar"
    subprocess.run(
        ["bsdtar", f"--format={format_}", "-cf", str(archive_path), "."],
        cwd=tree, capture_output=True, check=False,
    )  # fmt: skip
    again = tmp_path / "again"
    again.mkdir()
    subprocess.run(["bsdtar", "-xf", str(archive_path)], cwd=again, check=True)
    archive = archive_path.read_bytes()
    regular, soft = _tree(again)
    assert regular
    table = read(archive).table
    assert files(archive, table) == regular
    assert links(table) == soft


def test_hard_links_are_one_file_and_share_its_place() -> None:
    built = archive_support.tar_links()
    table = read(built.data).table
    places = {table.find(name).header_at for name in ("d/file", "d/hard", "d/harder")}  # type: ignore[union-attr]
    assert len(places) == 1
    assert read(built.data).left_out == 3


def test_a_hard_link_keeps_the_file_that_its_name_meant() -> None:
    archive = tar_bytes(
        [
            TarEntry(b"a", b"old"),
            TarEntry(b"b", kind=tars.HARD_LINK, link=b"a"),
            TarEntry(b"a", b"new"),
        ]
    )
    assert files(archive, read(archive).table) == {"b": b"old", "a": b"new"}


def test_a_hard_link_to_nothing_is_listed_and_refused() -> None:
    table = one(TarEntry(b"b", kind=tars.HARD_LINK, link=b"gone"), TarEntry(b"c", b"x"))
    member = table.find("b")
    assert member is not None
    assert member.refusal is not None
    assert member.refusal.kind is RefusalKind.DAMAGED
    assert table.find("c") is not None


@pytest.mark.parametrize("has_data", [True, False])
def test_a_hard_link_with_a_size_has_data_only_if_no_header_follows(has_data: bool) -> None:
    entries = [
        TarEntry(b"a", b"data"),
        TarEntry(b"b", b"data" if has_data else b"", tars.HARD_LINK, b"a", size=4),
        TarEntry(b"c", b"last"),
    ]
    archive = tar_bytes(entries)
    assert files(archive, read(archive).table) == {"a": b"data", "b": b"data", "c": b"last"}
    archive = tar_bytes(entries[1:])  # the file that is linked to is missing
    found = files(archive, read(archive).table)
    assert found == ({"b": b"data", "c": b"last"} if has_data else {"c": b"last"})


def test_duplicates_keep_the_last_and_a_folder_merges() -> None:
    archive = tar_bytes(
        [
            TarEntry(b"d/", kind=tars.DIRECTORY, mode=0o700),
            TarEntry(b"d/x", b"1"),
            TarEntry(b"./d", kind=tars.DIRECTORY, mode=0o755),
            TarEntry(b"d/x", b"22"),
            TarEntry(b"f", b"file"),
            TarEntry(b"f/", kind=tars.DIRECTORY),
        ]
    )
    table = read(archive).table
    assert files(archive, table) == {"d/x": b"22"}
    assert {m.path: m.mode for m in table.members if m.kind is MemberKind.DIRECTORY}["d"] == 0o755
    assert table.find("f").kind is MemberKind.DIRECTORY  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        (TarEntry(b"x", size=9 << 30), 9 << 30),  # base 256
        (TarEntry(b"x", raw_size=b"77777777777 "), (8 << 30) - 1),
        (TarEntry(b"x", raw_size=b"     000012\0"), 10),
        (TarEntry(b"x", raw_size=bytes(12)), 0),
    ],
)
def test_sizes_are_read_in_each_spelling(entry: TarEntry, size: int) -> None:
    reader = TarReader()
    reader.feed(entry.packed()[:512])
    assert reader.table.members[0].size == size
    assert reader.next_at == 512 + -(-size // 512) * 512


@pytest.mark.parametrize(
    "raw", [b"x" * 12, b"-0000000001\0", b"0x000000001\0", b"1_0\0" + bytes(8)]
)
def test_a_size_that_is_no_number_is_a_bad_header(raw: bytes) -> None:
    archive = tar_bytes([TarEntry(b"a", b"1"), TarEntry(b"b", raw_size=raw), TarEntry(b"c", b"2")])
    reader = read(archive)
    assert files(archive, reader.table) == {"a": b"1", "c": b"2"}
    assert reader.damage


def test_pax_sizes_beyond_8_gib_and_times_with_fractions() -> None:
    header = tars.pax({"size": str(20 << 30), "mtime": "1700000000.123456789", "path": "né"})
    reader = TarReader()
    reader.feed(header.packed() + TarEntry(b"short", size=0).packed())
    (member,) = reader.table.members
    assert (member.path, member.size, member.mtime_ns) == ("né", 20 << 30, 1700000000123456789)
    assert reader.next_at == 3 * 512 + (20 << 30)


def test_global_headers_hold_until_a_record_takes_them_back() -> None:
    archive = tar_bytes(
        [
            tars.pax({"mtime": "5", "comment": "x"}, b"g"),
            TarEntry(b"a"),
            tars.pax({"mtime": "7"}),
            TarEntry(b"b"),
            tars.pax({"mtime": ""}),
            TarEntry(b"c", mtime=9),
            TarEntry(b"d"),
            tars.pax({"mtime": ""}, b"g"),
            TarEntry(b"e", mtime=9),
        ]
    )
    times = [member.mtime_ns // 10**9 for member in read(archive).table.members]
    assert times == [5, 7, 9, 5, 9]


@pytest.mark.parametrize(
    ("records", "name"),
    [
        (b"12 path=new\n", "new"),
        (b"13 path=new\n", "old"),  # beyond its end
        (b"0 path=new\n", "old"),
        (b"-1 path=new\n", "old"),
        (b"99999999999999999999999 path=new\n", "old"),
        (b"8 newval\n", "old"),  # no equals sign
        (b"", "old"),
        (b"\0" * 20, "old"),
        (b"15 path=a\nb\0cd\n", "a_b"),
    ],
)
def test_malformed_records_leave_the_member_its_name(records: bytes, name: str) -> None:
    table = one(TarEntry(b"h", records, b"x"), TarEntry(b"old", b"data"))
    assert [member.path for member in table.members] == [name]


def test_names_in_other_encodings_become_text() -> None:
    table = one(
        TarEntry("grün".encode("latin-1")),
        TarEntry("grün/utf".encode()),
        tars.pax({"path": "grün".encode("latin-1") + b"2", "hdrcharset": "BINARY"}),
        TarEntry(b"x"),
    )
    assert {"grün", "grün2", "grün/utf"} <= {m.path.replace(" [1]", "") for m in table.members}


def test_prefixes_count_only_in_ustar() -> None:
    table = one(
        TarEntry(b"name", prefix=b"long/path"),
        TarEntry(b"gnu", magic=tars.GNU, prefix=b"012345670123"),
        TarEntry(b"old", magic=tars.V7, prefix=b"junk"),
    )
    assert [m.path for m in table.members if not m.is_made_up] == ["long/path/name", "gnu", "old"]


def test_signed_checksums_count() -> None:
    entry = TarEntry(b"\xff\xfe", b"x")
    plain = sum(entry.header()) - sum(entry.header()[148:156]) + 8 * 32
    table = one(TarEntry(b"\xff\xfe", b"x", checksum=plain - 512))
    assert len(table.members) == 1


def test_old_folders_and_unknown_kinds() -> None:
    archive = tar_bytes(
        [
            TarEntry(b"old/", kind=b"\0", magic=tars.V7),
            TarEntry(b"contiguous", b"7", kind=b"7"),
            TarEntry(b"unknown", b"?", kind=b"Q"),
            TarEntry(b"dump", b"Yfile\0\0", kind=b"D"),
            TarEntry(b"label", kind=b"V"),
            TarEntry(b"more", b"rest", kind=b"M"),
            TarEntry(b"last", b"x"),
        ]
    )
    table = read(archive).table
    assert files(archive, table) == {"contiguous": b"7", "unknown": b"?", "last": b"x"}
    folders = [m.path for m in table.members if m.kind is MemberKind.DIRECTORY]
    assert folders == ["old", "dump"]


@pytest.mark.parametrize("cut", range(0, 3 * 512 + 5120, 200))
def test_a_truncated_tar_keeps_the_members_whose_headers_it_has(cut: int) -> None:
    data = tar_bytes([TarEntry(b"a", b"1"), TarEntry(b"b", bytes(5000))])[:cut]
    if cut < 512:
        with pytest.raises(NotAnArchiveError):
            read(data)
        return
    reader = read(data)
    expected = ["a"] if cut < 3 * 512 else ["a", "b"]
    if 2 * 512 < cut < 3 * 512:
        expected.append(GAP_NAME)
    assert [m.path for m in reader.table.members] == expected
    if cut in (600, 1200, 1800):
        assert reader.damage == "it ends in the middle of a member"


def test_what_is_no_tar_is_refused_at_its_first_block() -> None:
    for data in (archive_support.noise(5000), b"PK\3\4" + bytes(600), b"short", b""):
        with pytest.raises(NotAnArchiveError):
            read(data)


def test_an_empty_tar_has_no_members() -> None:
    reader = read(bytes(10240))
    assert reader.is_complete
    assert list(reader.table.members) == []


def test_unaligned_segments_are_read_as_bsdtar_reads_them(tmp_path: Path) -> None:
    segments = [(0, b"abc"), (1000, b"defgh"), (5000, b"z" * 700)]
    archive = tar_bytes([tars.gnu_sparse(b"x", segments, 6000)])
    assert files(archive, read(archive).table) == {"x": tars.sparse_content(segments, 6000)}
    if tars.has_command("bsdtar"):
        (tmp_path / "x.tar").write_bytes(archive)
        subprocess.run(["bsdtar", "-xf", "x.tar"], cwd=tmp_path, check=True)
        assert (tmp_path / "x").read_bytes() == tars.sparse_content(segments, 6000)


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 100), (50, 100)],  # overlap
        [(200, 100), (0, 100)],  # backward
        [(0, 5000)],  # beyond the file
        [(0, 900)],  # more than the archive holds
    ],
)
def test_maps_that_lie_refuse_the_member_alone(pairs: list[tuple[int, int]]) -> None:
    lines = b"".join(b"%d\n" % n for n in (len(pairs), *itertools.chain(*pairs)))
    text = ",".join(f"{offset},{length}" for offset, length in pairs)
    major = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000"}
    archive = tar_bytes(
        [
            tars.pax({"GNU.sparse.size": "1000", "GNU.sparse.map": text}),
            TarEntry(b"one", bytes(300)),
            tars.pax(major),
            TarEntry(b"two", tars.padded(lines) + bytes(300)),
            TarEntry(b"good", b"good"),
        ]
    )
    table = read(archive).table
    assert files(archive, table) == {"good": b"good"}
    assert [m.size for m in table.members] == [1000, 1000, 4]


@pytest.mark.parametrize("text", [b"", b"abc", b"5\n1\n", b"-1\n", b"1" * 600, b"9999999\n"])
def test_maps_that_do_not_end_refuse_the_member_alone(text: bytes) -> None:
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000"}
    archive = tar_bytes([tars.pax(records), TarEntry(b"x", text), TarEntry(b"good", b"good")])
    reader = read(archive)
    assert [m.path for m in reader.table.members if m.refusal is None][-1:] == ["good"] or not text


def test_a_long_name_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_META_BYTES", 1000)
    table = one(tars.long_name(b"n" * 2000), TarEntry(b"short", b"x"))
    assert [m.path for m in table.members] == ["short"]


def test_too_many_members_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "MOST_MEMBERS", 50)
    data = tar_bytes([TarEntry(b"%d" % n) for n in range(51)])
    with pytest.raises(TooLargeError, match="50 members"):
        read(data)
    devices = tar_bytes([TarEntry(b"x", kind=tars.FIFO)] * 52)
    with pytest.raises(TooLargeError):
        read(devices)


def test_too_long_names_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "MOST_NAME_BYTES", 300)
    with pytest.raises(TooLargeError):
        one(*(TarEntry(b"%099d" % n) for n in range(4)))


def gaps(*blocks: TarEntry | bytes) -> dict[str, int]:
    """The files that stand for missing members, each with its size."""
    found = read(tar_bytes(blocks)).table.members
    return {m.path: m.size for m in found if GAP_NAME in m.path and m.refusal is not None}


LOST = TarEntry(b"x/lost", b"2" * 2000, checksum=1)


@pytest.mark.claim("S404")
def test_a_file_stands_for_missing_members_in_the_directories_around_the_damage() -> None:
    size = 5 * 512
    a, b = TarEntry(b"a/1", b"1"), TarEntry(b"b/1", b"1")
    assert gaps(a, b) == {}
    assert gaps(a, LOST, TarEntry(b"a/2")) == {f"a/{GAP_NAME}": size}
    assert gaps(a, LOST, b) == {f"a/{GAP_NAME}": size, f"b/{GAP_NAME}": size}
    assert gaps(TarEntry(b"d/", kind=tars.DIRECTORY), LOST) == {f"d/{GAP_NAME}": size}
    assert gaps(a, LOST, tars.pax({"path": "c/long"}), b) == {
        f"a/{GAP_NAME}": size, f"c/{GAP_NAME}": size,
    }  # fmt: skip
    # One directory gets one file, however often the archive is damaged there.
    assert gaps(a, LOST, TarEntry(b"a/2"), LOST) == {f"a/{GAP_NAME}": size}


@pytest.mark.claim("S404")
def test_a_member_keeps_its_name_beside_the_file_for_missing_ones() -> None:
    twin = TarEntry(GAP_NAME.encode(), b"honest")
    for blocks in ((twin, LOST), (LOST, twin)):
        archive = tar_bytes([TarEntry(b"a"), *blocks])
        table = read(archive).table
        assert files(archive, table)[GAP_NAME] == b"honest"
        assert sum(GAP_NAME in m.path and m.refusal is not None for m in table.members) == 1
        again = Table.unpacked(table.packed())
        assert list(again.members) == list(table.members)


@pytest.mark.claim("S404")
@settings(max_examples=300)
@given(st.data())
def test_no_member_is_missed_without_a_file_that_stands_for_it(data: st.DataObject) -> None:
    folders = ("", "a/", "a/b/", "c/")
    names = [
        f"{data.draw(st.sampled_from(folders))}{number}"
        for number in range(data.draw(st.integers(2, 8)))
    ]
    entries = [
        TarEntry(name.encode(), b"2" * data.draw(st.sampled_from((0, 1, 600)))) for name in names
    ]
    lost = data.draw(st.sets(st.integers(1, len(names) - 1), max_size=3))
    for number in lost:
        entries[number].checksum = 1
    table = read(tar_bytes(entries)).table
    shown = {m.path for m in table.members if m.refusal is None}
    assert shown >= {name for number, name in enumerate(names) if number not in lost}
    stand_ins = {m.path.rpartition("/")[0] for m in table.members if m.refusal is not None}
    sound = [number for number in range(len(names)) if number not in lost]
    around = set()
    for number in lost:
        around.add(max(one for one in sound if one < number))
        around |= set(filter(None, [min((one for one in sound if one > number), default=0)]))
    assert stand_ins == {names[number].rpartition("/")[0] for number in around}


def test_damage_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_DAMAGED_BLOCKS", 100)
    reader = TarReader()
    reader.feed(TarEntry(b"a", b"1").packed() + b"\xff" * 512 * 200)
    assert reader.is_complete
    assert reader.count == 1


def test_many_members_take_linear_time() -> None:
    packed = [TarEntry(b"d/%d" % n, b"x").packed() for n in range(3000)]
    small, large = b"".join(packed[:1000]), b"".join(packed)
    import time

    def took(data: bytes) -> float:
        started_s = time.process_time()
        read(data)
        return time.process_time() - started_s

    took(small)
    assert took(large) < 12 * took(small)


@given(st.binary(max_size=20), st.booleans())
@example(b"0000644\0", False)
@example(b"\x80" + bytes(10) + b"\x09", False)
@example(b"\xff" * 12, True)
def test_numbers_are_none_or_within_bounds(field: bytes, is_signed: bool) -> None:
    found = tar_headers.parse_number(field or b"\0", is_signed=is_signed)
    assert found is None or -(1 << 63) < found < 1 << 63
    assert found is None or is_signed or found >= 0


@given(st.integers(0, (1 << 63) - 1))
def test_numbers_are_read_as_they_are_written(value: int) -> None:
    assert tar_headers.parse_number(tars.number(value)) == value


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_archive_never_breaks_the_reader(data: st.DataObject) -> None:
    built = (
        archive_support.tar_sparse() if data.draw(st.booleans()) else archive_support.tar_links()
    )
    broken = bytearray(built.data[:20_000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    # The fuzzer's target checks what must hold of the members.
    fuzz_targets_archives.tars(bytes(broken))
    fuzz_targets_archives.tars(io.BytesIO(broken).read(data.draw(st.integers(0, len(broken)))))

"""Which names are archives, and the tree that a table makes of members."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.archive.kinds import ArchiveKind, kind_of, kind_of_bytes, stem_of
from up42fs.archive.table import Member, MemberKind, Method, Table


def member(path: str, kind: MemberKind = MemberKind.FILE, at: int = 0) -> Member:
    return Member(0, path, kind, at, None, 3, 3, Method.STORED, 1, 5, None)


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("delivery.zip", ArchiveKind.ZIP, "delivery"),
        ("S2A.SAFE.zip", ArchiveKind.ZIP, "S2A.SAFE"),
        ("a.b.TAR.GZ", ArchiveKind.TGZ, "a.b"),
        ("x.tgz", ArchiveKind.TGZ, "x"),
        ("x.tar.bz2", ArchiveKind.TBZ2, "x"),
        ("x.txz", ArchiveKind.TXZ, "x"),
        ("x.tar.zst", ArchiveKind.TZST, "x"),
        ("x.tar", ArchiveKind.TAR, "x"),
        ("tour.KMZ", ArchiveKind.ZIP, "tour"),
        ("order [1234abcd].zip", ArchiveKind.ZIP, "order [1234abcd]"),
        ("report.docx", None, "report.docx"),
        ("table.xlsx", None, "table.xlsx"),
        ("code.jar", None, "code.jar"),
        ("image.tif.gz", None, "image.tif.gz"),
        (".zip", None, ".zip"),
        ("..zip", None, "..zip"),
        (".tar.gz", None, ".tar.gz"),
        ("zip", None, "zip"),
        ("", None, ""),
    ],
)
def test_the_name_tells_the_kind(name: str, kind: ArchiveKind | None, stem: str) -> None:
    assert kind_of(name) is kind
    assert stem_of(name) == stem


@given(st.text())
def test_a_stem_names_a_directory(name: str) -> None:
    stem = stem_of(name)
    assert name.startswith(stem)
    assert (kind_of(name) is None) == (stem == name)
    if kind_of(name) is not None:
        assert stem not in ("", ".", "..")


def test_absent_directories_are_made_up() -> None:
    table = Table([member("a/b/c"), member("a/d"), member("a", MemberKind.DIRECTORY), member("e")])
    assert [one.path for one in table.members] == ["a/b/c", "a/d", "a", "e", "a/b"]
    assert dict(table.children("")) == {"a": 2, "e": 3}
    assert dict(table.children("a")) == {"b": 4, "d": 1}
    assert dict(table.children("a/b")) == {"c": 0}
    assert table.children("nowhere") == {}
    made_up = table.find("a/b")
    assert made_up is not None
    assert made_up.is_made_up
    assert made_up.mtime_ns == 5
    assert table.find("a/b/x") is None


def test_paths_that_clash_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="one path"):
        Table([member("a"), member("a")])
    for paths in (["a", "a/b"], ["a/b", "a"]):
        with pytest.raises(ValueError, match="one path"):
            Table(map(member, paths))


segments = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(tuple)


@given(st.sets(segments, max_size=12))
def test_every_member_is_reached_through_directories(paths: set[tuple[str, ...]]) -> None:
    directories = {path[:end] for path in paths for end in range(1, len(path))}
    kinds = {p: MemberKind.DIRECTORY if p in directories else MemberKind.FILE for p in paths}
    table = Table([member("/".join(path), kinds[path]) for path in sorted(paths)])
    reached = set()
    pending = [""]
    while pending:
        directory = pending.pop()
        for name, number in table.children(directory).items():
            one = table.members[number]
            assert one.path == (f"{directory}/{name}" if directory else name)
            assert table.find(one.path) == one
            reached.add(tuple(one.path.split("/")))
            if one.kind is MemberKind.DIRECTORY:
                pending.append(one.path)
    assert reached == paths | directories


def test_a_member_has_room_up_to_the_next_header() -> None:
    table = Table([member("a", at=50), member("b", at=10), member("d/c", at=90)], ends_at=100)
    assert [table.room_of(one) for one in table.members[:3]] == [90, 50, 100]


@pytest.mark.claim("S259")
@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PK\3\4", ArchiveKind.ZIP),
        (b"PK\5\6" + bytes(18), ArchiveKind.ZIP),
        (b"\x1f\x8b\x08", ArchiveKind.TGZ),
        (b"BZh9", ArchiveKind.TBZ2),
        (b"\xfd7zXZ\0", ArchiveKind.TXZ),
        (b"\x28\xb5\x2f\xfd", ArchiveKind.TZST),
        (b"", None),
        (b"II*\0" + bytes(508), None),
        (bytes(512), None),
    ],
)
def test_what_bytes_say(head: bytes, kind: ArchiveKind | None) -> None:
    assert kind_of_bytes(head) is kind


@pytest.mark.claim("S259")
@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_known_by_its_first_header(format_: int) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format_) as out:
        out.addfile(tarfile.TarInfo("grün" * 15))
    assert kind_of_bytes(made.getvalue()) is ArchiveKind.TAR
    assert kind_of_bytes(made.getvalue()[:100]) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_judged(head: bytes) -> None:
    kind = kind_of_bytes(head)
    assert kind is not ArchiveKind.TAR or len(head) > 156

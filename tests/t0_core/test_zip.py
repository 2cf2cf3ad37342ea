"""Where a zip keeps its members: what zipfile wrote, what malice invents."""

from __future__ import annotations

import io
import random
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.readahead import zip as zips
from up42fs.readahead.zip import ZipMember
from up42fs.types import ByteRange


def archive(
    members: list[tuple[str, bytes, bool]], comment: bytes = b"", *, wide: bool = False
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for number, (name, data, stored) in enumerate(members):
            kind = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            info = zipfile.ZipInfo(f"{number}{name}")
            info.compress_type = kind
            with target.open(info, "w", force_zip64=wide) as member:
                member.write(data)
        target.comment = comment
    return out.getvalue()


def members_of(data: bytes, tail_bytes: int) -> list[ZipMember]:
    tail = data[-tail_bytes:]
    directory = zips.find_directory(len(data), tail)
    if directory is None:
        return []
    assert directory.span is not None
    return list(zips.parse_directory(directory, data[directory.span.start : directory.span.stop]))


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
contents = st.tuples(names, st.binary(max_size=200), st.booleans())


@given(st.lists(contents, min_size=1, max_size=8), st.binary(max_size=60), st.booleans())
@settings(max_examples=200)
def test_members_are_where_zipfile_put_them(
    parts: list[tuple[str, bytes, bool]], comment: bytes, wide: bool
) -> None:
    comment = comment.replace(b"PK", b"..")
    data = archive(parts, comment, wide=wide)
    found = members_of(data, zips.TAIL_BYTES)
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        told = sorted(source.infolist(), key=lambda info: info.header_offset)
    assert [m.header_at for m in found] == [info.header_offset for info in told]
    assert [m.size for m in found] == [info.compress_size for info in told]
    for member, info in zip(found, told, strict=True):
        span = zips.local_header(member)
        start = zips.data_start(member, data[span.start : span.stop])
        assert start is not None
        if member.is_stored:
            with zipfile.ZipFile(io.BytesIO(data)) as source:
                assert data[start : start + member.size] == source.read(info)


@given(st.lists(contents, min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_damage_is_survived(parts: list[tuple[str, bytes, bool]], chance: random.Random) -> None:
    data = bytearray(archive(parts, wide=chance.random() < 0.5))
    for _ in range(chance.randrange(1, 10)):
        data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256)])
    members_of(bytes(data), chance.randrange(1, 300))


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    for tail in (data, b"PK\x05\x06" + data, b"PK\x06\x06" + data + b"PK\x06\x07" + data):
        zips.find_directory(len(tail), tail)
        zips.parse_directory(zips.Directory(3, ByteRange(0, 1 + len(tail))), tail)


def test_a_directory_before_the_tail_is_named() -> None:
    data = archive([(f"{'n' * 200}{number}", b"x", True) for number in range(50)])
    directory = zips.find_directory(len(data), data[-30:])
    assert directory is not None
    assert directory.span is not None
    assert directory.count == 50
    assert (
        len(zips.parse_directory(directory, data[directory.span.start : directory.span.stop])) == 50
    )


def test_no_zip() -> None:
    assert zips.find_directory(100, bytes(100)) is None
    assert zips.data_start(ZipMember(0, 1, True), b"not a header that anybody knows") is None


def test_an_archive_behind_other_bytes_is_read() -> None:
    """A self-extractor: offsets count from where the archive began."""
    ahead = b"#!/bin/sh\n" * 100
    data = ahead + archive([("a", b"hello", True), ("b", b"world", True)])
    found = members_of(data, zips.TAIL_BYTES)
    assert [member.size for member in found] == [5, 5]
    for member, content in zip(found, (b"hello", b"world"), strict=True):
        start = zips.data_start(member, data[member.header_at : member.header_at + 30])
        assert start is not None
        assert data[start : start + 5] == content


def test_an_end_mark_in_a_comment_hides_nothing() -> None:
    for comment in (b"x PK\x05\x06 " + bytes(30), b"PK\x05\x06" + bytes(18), b"PK\x05\x06"):
        assert len(members_of(archive([("a", b"hello", True)], comment), zips.TAIL_BYTES)) == 1


def test_more_members_than_16_bits_count() -> None:
    data = archive([("", b"", True)] * 70_000)
    assert len(members_of(data, zips.TAIL_BYTES)) == 70_000

"""Members of zips: what zipfile wrote, what unzip makes of it, what malice invents."""

from __future__ import annotations

import io
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.archive import zip as zips
from up42fs.archive.table import MemberKind, Method, Table


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

"""The kinds of archives, by file name; and by their first bytes, where the name is wrong.

The first look at an archive's bytes may refute its name; until then, the name decides, so that a
listing costs no request. Documents that happen to be zips (docx, xlsx, jar) are files, not folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from up42fs.archive.tar_headers import BLOCK, BadHeaderError, parse_header
from up42fs.types import Bytes


class ArchiveKind(StrEnum):
    """The formats that an archive is made of."""

    ZIP = "zip"
    TAR = "tar"
    TGZ = "tgz"
    TBZ2 = "tbz2"
    TXZ = "txz"
    TZST = "tzst"

    @property
    def is_packed_stream(self) -> bool:
        """Whether it is one compressed stream, so that members lie in its unpacked bytes."""
        return self not in (ArchiveKind.ZIP, ArchiveKind.TAR)


#: Longer endings stand before those that they end with.
_ENDINGS = {
    ".tar.gz": ArchiveKind.TGZ,
    ".tar.bz2": ArchiveKind.TBZ2,
    ".tar.xz": ArchiveKind.TXZ,
    ".tar.zst": ArchiveKind.TZST,
    ".tgz": ArchiveKind.TGZ,
    ".tbz2": ArchiveKind.TBZ2,
    ".tbz": ArchiveKind.TBZ2,
    ".txz": ArchiveKind.TXZ,
    ".tzst": ArchiveKind.TZST,
    ".tar": ArchiveKind.TAR,
    ".zip": ArchiveKind.ZIP,  # also of .SAFE.zip
    ".kmz": ArchiveKind.ZIP,
}
#: How archives begin; a zip also if it is empty, or was one of several volumes.
_BEGINNINGS = {
    b"PK\x03\x04": ArchiveKind.ZIP,
    b"PK\x05\x06": ArchiveKind.ZIP,
    b"PK\x07\x08": ArchiveKind.ZIP,
    b"\x1f\x8b": ArchiveKind.TGZ,
    b"BZh": ArchiveKind.TBZ2,
    b"\xfd7zXZ\0": ArchiveKind.TXZ,
    b"\x28\xb5\x2f\xfd": ArchiveKind.TZST,
}
#: As many first bytes show the kind.
HEAD_BYTES = BLOCK
#: What compresses a tar.
_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst"})


def archive_names(stem: str) -> Iterator[str]:
    """The names that an archive with this stem may have, in lower or in upper case."""
    for ending in _ENDINGS:
        yield stem + ending
        yield stem + ending.upper()


def kind_of(file_name: str) -> ArchiveKind | None:
    """The kind of archive that a file of this name is; None if it is none."""
    found = _ending(file_name)
    return None if found is None else _ENDINGS[found]


def kind_of_bytes(head: Bytes) -> ArchiveKind | None:
    """The kind of archive that begins with `head`, of `HEAD_BYTES`; None if none does.

    What is compressed may be something else than a tar.
    """
    text = bytes(head[:HEAD_BYTES])
    for beginning, kind in _BEGINNINGS.items():
        if text.startswith(beginning):
            return kind
    try:
        parse_header(text.ljust(BLOCK, b"\0"))
    except BadHeaderError:
        return None
    return ArchiveKind.TAR


def stem_of(file_name: str) -> str:
    """The name without an archive's ending; the whole name if it has none."""
    found = _ending(file_name)
    return file_name if found is None else file_name[: -len(found)]


def _ending(file_name: str) -> str | None:
    # Listings of 100 000 archives come here twice for each.
    at = file_name.rfind(".")
    if at < 1:
        return None
    ending = file_name[at:].lower()
    if ending in _PACKED and file_name[at - 4 : at].lower() == ".tar":
        at -= 4
        ending = ".tar" + ending
    if ending not in _ENDINGS:
        return None
    # A leading dot makes a hidden file, not an ending: `.zip` and `x/.tgz` are no archives.
    has_stem = at > 0 and (file_name[at - 1] not in "./" or _has_stem(file_name[:at]))
    return ending if has_stem else None


def _has_stem(path: str) -> bool:
    return bool(path.rpartition("/")[2].strip("."))

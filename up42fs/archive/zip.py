"""The members that the directory of a zip names.

Theory. Entries are hostile input, and honest writers differ:
1. Sizes, methods and CRCs are the directory's. A local header may differ (data descriptors leave
   zeros there), so it only tells where the data begin (`data_start`).
2. A zip64 field holds only the values that overflowed, in a fixed order. 4294967295 without the
   field is a size like others. Some writers store all values; those that did not overflow match.
3. Names are in UTF-8 by the flag or the Unicode field, else if they are valid UTF-8, else in CP437.
   A backslash separates only in archives made on DOS and its heirs that have no slash at all.
4. Members that overlap are how a small archive holds petabytes. Of two that do, the first cannot
   be opened, and of several with one header only the shortest can, so the members that can be
   opened lie side by side. Honest writers overlap by up to two bytes.
5. Deflate makes at most 1032 bytes of one, so a larger ratio is a lie about sizes.

A member that cannot be opened is listed with its `MemberRefusal`; the archive around it stays
usable. `zip_end` finds the directory.
"""

from __future__ import annotations

import itertools
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from up42fs.archive import zip_fields
from up42fs.archive.names import MAX_TARGET_BYTES, Wish, decoded, unique_paths, wish
from up42fs.archive.table import (
    MOST_MEMBERS,
    DamagedError,
    Member,
    MemberKind,
    MemberRefusal,
    Method,
    RefusalKind,
    Table,
    TooLargeError,
)
from up42fs.archive.zip_end import ENTRY, TAIL_BYTES, Directory, find_directory
from up42fs.archive.zip_fields import HUGE, ZipPlaces
from up42fs.types import Bytes

__all__ = [
    "LOCAL_BYTES",
    "TAIL_BYTES",
    "Directory",
    "ZipEntry",
    "data_start",
    "entries",
    "find_directory",
    "table_of_zip",
]

#: A local header without the name and extra fields that follow it.
LOCAL_BYTES = 30
_LOCAL, _SIGNATURE = b"PK\x03\x04", b"PK\x05\x05"
_ENTRY_FIELDS = struct.Struct("<4s6H3L5H2L")
#: Bytes by which members of honest archives overlap.
_HONEST_OVERLAP_BYTES = 2
#: Bytes that deflate makes of one: 258 for each two bits.
_MOST_RATIO = 1032
_MOST_SIZE = (1 << 63) - 1
#: Hosts whose entries carry Unix modes: Unix and macOS.
_UNIX_HOSTS = frozenset((3, 19))
#: Hosts where a backslash separates: FAT, NTFS by two numbers, VFAT.
_BACKSLASH_HOSTS = frozenset((0, 10, 11, 14))
_ENCRYPTED, _PATCHED, _UTF8, _MASKED = 1, 1 << 5, 1 << 11, 1 << 13
_AES = 99
_METHODS = {
    0: Method.STORED,
    8: Method.DEFLATED,
    12: Method.BZIP2,
    14: Method.LZMA,
    93: Method.ZSTD,
    95: Method.XZ,
}
_METHOD_NAMES = {1: "Shrink", 6: "Implode", 9: "Deflate64", 96: "JPEG", 97: "WavPack", 98: "PPMd"}


class ZipEntry(NamedTuple):
    """An entry of the directory; offsets count from the archive's start."""

    host: int
    flags: int
    method: int
    dos_time: int
    dos_date: int
    crc32: int
    packed_size: int
    size: int
    attributes: int
    header_at: int
    name: bytes
    extra: bytes


def entries(data: bytes, shift: int = 0) -> Iterator[ZipEntry]:
    """The entries of a directory whose offsets count from `shift`.

    Raises DamagedError behind the last sound one, TooLargeError behind the last one allowed.
    """
    at = number = 0
    while at < len(data):
        if data.startswith(_SIGNATURE, at) and number:
            return
        if not data.startswith(ENTRY, at) or at + _ENTRY_FIELDS.size > len(data):
            raise DamagedError(f"its directory is damaged behind member {number}")
        head = _ENTRY_FIELDS.unpack_from(data, at)
        _, made_by, _, flags, method, dos_time, dos_date, crc32, packed_size, size = head[:10]
        name_bytes, extra_bytes, comment_bytes, _, _, attributes, header_at = head[10:]
        name_at = at + _ENTRY_FIELDS.size
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(data):
            raise DamagedError(f"its directory is damaged behind member {number}")
        if number >= MOST_MEMBERS:
            raise TooLargeError(f"it has more than {MOST_MEMBERS} members")
        number += 1
        extra = data[extra_at : extra_at + extra_bytes]
        places = ZipPlaces(size, packed_size, header_at)
        if HUGE in places:
            places = zip_fields.widened(places, zip_fields.fields(extra))
        yield ZipEntry(
            made_by >> 8,
            flags,
            method,
            dos_time,
            dos_date,
            crc32,
            places.packed_size,
            places.size,
            attributes,
            places.header_at + shift,
            data[name_at:extra_at],
            extra,
        )


def table_of_zip(directory: Directory, data: Bytes, *, archive_size: int) -> Table:
    """The members that `data`, the directory's bytes, names. Raises an ArchiveError.

    It may run in a worker thread: 100 000 members take seconds.
    """
    found = list(entries(bytes(data), directory.shift))
    if directory.span is not None and not found:
        raise DamagedError("its directory has no members")
    ends_at = directory.span.start if directory.span is not None else archive_size
    wishes = _wishes(found)
    paths = unique_paths(wishes)
    overlapping = _overlapping(found)
    members = (
        _member(entry, path, wanted, ends_at, number in overlapping)
        for number, (entry, path, wanted) in enumerate(zip(found, paths, wishes, strict=True))
        if path is not None
    )
    return Table(members, ends_at=ends_at)


def data_start(member: Member, header: Bytes, room: int | None) -> int:
    """Where the member's data begin, by its local header (`LOCAL_BYTES` or more of it).

    `room` is `Table.room_of(member)`. Raises DamagedError.
    """
    head = bytes(header[:LOCAL_BYTES])
    if len(head) < LOCAL_BYTES or not head.startswith(_LOCAL):
        raise DamagedError("has no local header: the archive is damaged there")
    name_bytes, extra_bytes = struct.unpack_from("<HH", head, 26)
    start = int(member.header_at + LOCAL_BYTES + name_bytes + extra_bytes)
    if room is not None and start + member.packed_size > room + _HONEST_OVERLAP_BYTES:
        raise DamagedError("overlaps the next member by its local header")
    return start


def _wishes(found: Sequence[ZipEntry]) -> list[Wish]:
    names = [_name(entry) for entry in found]
    # One slash shows that the writer knew which character separates.
    may_backslash = not any("/" in name for name in names)
    return [
        wish(
            name.replace("\\", "/") if may_backslash and entry.host in _BACKSLASH_HOSTS else name,
            is_directory=_type(entry) == stat.S_IFDIR and not entry.size,
        )
        for entry, name in zip(found, names, strict=True)
    ]


def _name(entry: ZipEntry) -> str:
    if entry.name.isascii() and zip_fields.NAME_TAG not in entry.extra:
        return entry.name.decode()
    found = zip_fields.fields(entry.extra)
    return decoded(zip_fields.unicode_name(entry.name, found) or entry.name)


def _type(entry: ZipEntry) -> int:
    """The bits of a Unix mode that tell a file from a directory; 0 if the host has none."""
    return stat.S_IFMT(entry.attributes >> 16) if entry.host in _UNIX_HOSTS else 0


def _overlapping(found: Sequence[ZipEntry]) -> set[int]:
    """Numbers of entries that reach into the next one, or share its header."""
    # The name and the extra fields of a local header are not known here; `data_start` looks again.
    spans = sorted(
        (entry.header_at, entry.header_at + LOCAL_BYTES + entry.packed_size, -number)
        for number, entry in enumerate(found)
    )
    overlapping = set()
    kept: list[tuple[int, int, int]] = []
    for span in spans:
        # Of several with one header, the shortest one stays: it cannot hide what follows it.
        if kept and kept[-1][0] == span[0]:
            overlapping.add(-span[2])
        else:
            kept.append(span)
    for (_, stop, number), (start, _, _) in itertools.pairwise(kept):
        if stop > start + _HONEST_OVERLAP_BYTES:
            overlapping.add(-number)
    return overlapping


def _member(entry: ZipEntry, path: str, wanted: Wish, ends_at: int, is_overlapping: bool) -> Member:
    kind = MemberKind.DIRECTORY if wanted.is_directory else MemberKind.FILE
    refusal = None if wanted.is_directory else _refusal(entry, ends_at, is_overlapping)
    if kind is MemberKind.FILE and refusal is None and 0 < entry.size <= MAX_TARGET_BYTES:
        # A target that is not known or not safe makes it a file again (`links`).
        kind = MemberKind.SYMLINK if _type(entry) == stat.S_IFLNK else kind
    is_encrypted = entry.flags & (_ENCRYPTED | _MASKED) or entry.method == _AES
    method = Method.ENCRYPTED if is_encrypted else _METHODS.get(entry.method, Method.UNKNOWN)
    mode = entry.attributes >> 16 if entry.host in _UNIX_HOSTS else 0
    return Member(
        number=0,  # the table sets it
        path=path,
        kind=kind,
        header_at=max(entry.header_at, 0),
        data_at=None,
        packed_size=0 if wanted.is_directory else min(entry.packed_size, _MOST_SIZE),
        size=0 if wanted.is_directory else min(entry.size, _MOST_SIZE),
        method=method,
        crc32=entry.crc32,
        mtime_ns=zip_fields.mtime_ns(
            zip_fields.fields(entry.extra), entry.dos_date, entry.dos_time
        ),
        mode=mode & 0o777 if mode else None,
        refusal=refusal,
    )


def _refusal(entry: ZipEntry, ends_at: int, is_overlapping: bool) -> MemberRefusal | None:
    damage = _damage(entry, ends_at, is_overlapping)
    if damage is not None:
        return MemberRefusal(RefusalKind.DAMAGED, damage)
    if entry.flags & (_ENCRYPTED | _MASKED) or entry.method == _AES:
        return MemberRefusal(
            RefusalKind.ENCRYPTED,
            "is encrypted; copy the archive, and unpack it with its password",
        )
    if entry.method not in _METHODS or entry.flags & _PATCHED:
        name = _METHOD_NAMES.get(entry.method, "an unknown method")
        return MemberRefusal(
            RefusalKind.UNSUPPORTED,
            f"is packed by method {entry.method} ({name}), which up42fs does not unpack; copy the "
            "archive, and unpack it with 7z",
        )
    return None


def _damage(entry: ZipEntry, ends_at: int, is_overlapping: bool) -> str | None:
    is_inside = 0 <= entry.header_at <= ends_at - LOCAL_BYTES - entry.packed_size
    if not is_inside or entry.size > _MOST_SIZE:
        return "lies outside of the archive, which is damaged or cut off"
    if is_overlapping:
        return "overlaps another member, as in a zip bomb"
    if entry.flags & _ENCRYPTED:
        return None  # a header of 12 bytes precedes the data, and sizes are not comparable
    if entry.method == 0 and entry.size != entry.packed_size:
        return "is stored, but its two sizes differ"
    if entry.method == 8 and entry.size > entry.packed_size * _MOST_RATIO:
        return "states a size that deflate cannot reach from its packed size"
    return None

"""Writes zip archives byte by byte: each field can be set, and each can lie.

`zip_bytes` writes honest archives unless an entry says otherwise, and uses no reader's code.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

STORED, DEFLATED, DEFLATE64, BZIP2, LZMA, ZSTD, AES = 0, 8, 9, 12, 14, 93, 99
ENCRYPTED, DESCRIPTOR, UTF8 = 1, 8, 0x800
FAT, UNIX, NTFS = 0, 3, 10
_HUGE, _MANY = 0xFFFFFFFF, 0xFFFF


@dataclass
class ZipEntry:
    """A member. Fields that are None are made from the data; others are written as they are."""

    name: str | bytes
    data: bytes = b""
    method: int = STORED
    flags: int | None = None
    host: int = UNIX
    mode: int = 0o100644
    #: DOS date and time: 2024-05-17 12:30:10.
    date: int = (44 << 9) | (5 << 5) | 17
    time: int = (12 << 11) | (30 << 5) | 5
    comment: bytes = b""
    local_extra: bytes = b""
    central_extra: bytes = b""
    #: Sizes in zip64 fields, even if they are small.
    zip64: bool = False
    #: Sizes and CRC after the data; `signed` with PK\7\8 before them.
    descriptor: bool = False
    signed: bool = True
    # Lies:
    packed: bytes | None = None
    size: int | None = None
    packed_size: int | None = None
    crc32: int | None = None
    header_at: int | None = None
    local_name: bytes | None = None
    in_directory: bool = True
    #: Bytes between the member and the next one.
    gap: bytes = b""

    @property
    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    def bits(self) -> int:
        """The flags of its headers."""
        if self.flags is not None:
            return self.flags
        is_wide = isinstance(self.name, str) and not self.name.isascii()
        ends = 2 if self.method == LZMA else 0  # its data has an end mark
        return (UTF8 if is_wide else 0) | (DESCRIPTOR if self.descriptor else 0) | ends


def directory_entry(name: str) -> ZipEntry:
    """An entry of a directory; `name` ends with a slash."""
    return ZipEntry(name, mode=0o040755)


def symlink_entry(name: str, target: str) -> ZipEntry:
    """A symlink as Info-ZIP writes it: the target is the data."""
    return ZipEntry(name, target.encode(), mode=0o120777)


def compress(method: int, data: bytes) -> bytes:
    """`data` as a member of that method holds it; as it is for methods that nothing unpacks."""
    if method == DEFLATED:
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        return deflater.compress(data) + deflater.flush()
    if method == BZIP2:
        return bz2.compress(data)
    if method == LZMA:
        return _zip_lzma(data)
    return data


def _zip_lzma(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20}]
    properties = bytes([93]) + struct.pack("<L", 1 << 20)  # lc=3, lp=0, pb=2
    packed = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    return struct.pack("<BBH", 9, 4, len(properties)) + properties + packed


def zip_bytes(
    entries: Iterable[ZipEntry],
    *,
    prefix: bytes = b"",
    is_prefix_counted: bool = False,
    comment: bytes = b"",
    zip64_end: bool = False,
    count: int | None = None,
) -> bytes:
    """An archive. `prefix` comes first; offsets count from its end unless `is_prefix_counted`.

    `zip64_end` writes the end record of zip64; archives that need it get it anyway.
    """
    out = bytearray(prefix)
    base = 0 if is_prefix_counted else len(prefix)
    directory = bytearray()
    number = 0
    for entry in entries:
        header_at = len(out) - base
        packed = compress(entry.method, entry.data) if entry.packed is None else entry.packed
        out += _local(entry, packed) + packed + _descriptor(entry, packed) + entry.gap
        if entry.in_directory:
            number += 1
            directory += _central(entry, packed, header_at)
    start = len(out) - base
    out += directory
    number = number if count is None else count
    if zip64_end or number >= _MANY or start >= _HUGE:
        record_at = len(out) - base
        out += struct.pack(
            "<4sQHHLLQQQQ",
            *(b"PK\6\6", 44, 45, 45, 0, 0, number, number, len(directory), start),
        )
        out += struct.pack("<4sLQL", b"PK\6\7", 0, record_at, 1)
    few, at = min(number, _MANY), min(start, _HUGE)
    if zip64_end:
        few, at = _MANY, _HUGE
    out += struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, few, few, len(directory), at, len(comment))
    return bytes(out + comment)


def data_at(archive: bytes, header_at: int) -> int:
    """Where the data of the member begins whose local header is at that offset."""
    name, extra = struct.unpack_from("<HH", archive, header_at + 26)
    return header_at + 30 + name + extra


def _figures(entry: ZipEntry, packed: bytes) -> tuple[int, int, int]:
    crc = zlib.crc32(entry.data) if entry.crc32 is None else entry.crc32
    packed_size = len(packed) if entry.packed_size is None else entry.packed_size
    return crc, packed_size, len(entry.data) if entry.size is None else entry.size


def _local(entry: ZipEntry, packed: bytes) -> bytes:
    crc, packed_size, size = _figures(entry, packed)
    if entry.descriptor:
        crc = packed_size = size = 0
    extra = entry.local_extra
    if entry.zip64:
        extra = struct.pack("<HHQQ", 1, 16, size, packed_size) + extra
        packed_size = size = _HUGE
    name = entry.raw_name if entry.local_name is None else entry.local_name
    return (
        struct.pack(
            "<4sHHHHHLLLHH",
            *(b"PK\3\4", 45 if entry.zip64 else 20, entry.bits(), entry.method),
            *(entry.time, entry.date, crc, packed_size, size, len(name), len(extra)),
        )
        + name
        + extra
    )


def _descriptor(entry: ZipEntry, packed: bytes) -> bytes:
    if not entry.descriptor:
        return b""
    figures = struct.pack("<LQQ" if entry.zip64 else "<LLL", *_figures(entry, packed))
    return (b"PK\7\x08" if entry.signed else b"") + figures


def _central(entry: ZipEntry, packed: bytes, header_at: int) -> bytes:
    crc, packed_size, size = _figures(entry, packed)
    at = header_at if entry.header_at is None else entry.header_at
    extra = entry.central_extra
    # zip64 fields stand only for what is too large, in this order.
    wide = b""
    if entry.zip64 or size >= _HUGE:
        wide, size = wide + struct.pack("<Q", size), _HUGE
    if entry.zip64 or packed_size >= _HUGE:
        wide, packed_size = wide + struct.pack("<Q", packed_size), _HUGE
    if entry.zip64 or at >= _HUGE:
        wide, at = wide + struct.pack("<Q", at), _HUGE
    if wide:
        extra = struct.pack("<HH", 1, len(wide)) + wide + extra
    name = entry.raw_name
    return (
        struct.pack(
            "<4sBBHHHHHLLLHHHHHLL",
            *(b"PK\1\2", 20, entry.host, 45 if entry.zip64 else 20, entry.bits(), entry.method),
            *(entry.time, entry.date, crc, packed_size, size),
            *(len(name), len(extra), len(entry.comment), 0, 0),
            *(entry.mode << 16 | (0x10 if entry.mode & 0o170000 == 0o040000 else 0), at),
        )
        + name
        + extra
        + entry.comment
    )


def extended_times(seconds: int) -> bytes:
    """The extra field 0x5455 with a modification time, as a local header has it."""
    return struct.pack("<HHBl", 0x5455, 5, 1, seconds)


def unicode_path(name: str, raw: bytes, crc32: int | None = None) -> bytes:
    """The extra field 0x7075: `name` in place of `raw`, whose CRC it holds."""
    crc = zlib.crc32(raw) if crc32 is None else crc32
    data = struct.pack("<BL", 1, crc) + name.encode()
    return struct.pack("<HH", 0x7075, len(data)) + data


def sozip_entries(name: str, data: bytes, chunk: int = 32768) -> list[ZipEntry]:
    """A member with SOZip's seek points, and its hidden index, which is not in the directory."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed, offsets = bytearray(), []
    for start in range(0, len(data), chunk):
        if start:
            packed += deflater.flush(zlib.Z_SYNC_FLUSH) + deflater.flush(zlib.Z_FULL_FLUSH)
            offsets.append(len(packed))
        packed += deflater.compress(data[start : start + chunk])
    packed += deflater.flush()
    index = struct.pack("<LLLLQQ", 1, 0, chunk, 8, len(data), len(packed))
    index += struct.pack(f"<{len(offsets)}Q", *offsets)
    folder, slash, base = name.rpartition("/")
    return [
        ZipEntry(name, data, DEFLATED, packed=bytes(packed)),
        ZipEntry(f"{folder}{slash}.{base}.sozip.idx", index, in_directory=False),
    ]

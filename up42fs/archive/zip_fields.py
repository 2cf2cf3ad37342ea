"""Extra fields of a zip's entries: wide sizes, times, names in Unicode."""

from __future__ import annotations

import struct
import zlib
from datetime import date
from functools import lru_cache
from typing import NamedTuple

#: Value of a field of 32 bits whose real one stands in the zip64 field, if there is one.
HUGE = 0xFFFFFFFF
#: Fields of an entry that are examined; more would be made to cost time.
_MOST_FIELDS = 32
_WIDE, _NTFS, _TIMES, _UNIX, _NAME = 0x0001, 0x000A, 0x5455, 0x5855, 0x7075
#: How the Unicode name's field begins; bytes of other fields may look like it.
NAME_TAG = struct.pack("<H", _NAME)
_KNOWN = frozenset((_WIDE, _NTFS, _TIMES, _UNIX, _NAME))
#: Seconds from 1601, where NTFS counts from, to 1970.
_NTFS_EPOCH_S = 11_644_473_600
_UNIX_EPOCH_DAY = date(1970, 1, 1).toordinal()


class ZipPlaces(NamedTuple):
    """An entry's values that may be wide, in the order of the zip64 field."""

    size: int
    packed_size: int
    header_at: int


def fields(extra: bytes) -> dict[int, bytes]:
    """The fields that this module understands; of several with one tag, the first."""
    found: dict[int, bytes] = {}
    if not extra:
        return found
    at = 0
    for _ in range(_MOST_FIELDS):
        if at + 4 > len(extra):
            break
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag in _KNOWN and tag not in found and at + 4 + length <= len(extra):
            found[tag] = extra[at + 4 : at + 4 + length]
        at += 4 + length
    return found


def widened(narrow: ZipPlaces, found: dict[int, bytes]) -> ZipPlaces:
    """`narrow` with the zip64 field's values for those that overflowed 32 bits."""
    data = found.get(_WIDE)
    if data is None or HUGE not in narrow:
        # Fields with zeros, or with values that did not overflow, are written too.
        return narrow
    values = struct.unpack_from(f"<{min(len(data) // 8, 3)}Q", data)
    if len(values) == 3 and all(
        old in (HUGE, new) for old, new in zip(narrow, values, strict=True)
    ):
        return ZipPlaces(*values)
    wide = iter(values)
    # A value that is missing there is what it seems to be: exactly 4294967295.
    return ZipPlaces(*(next(wide, HUGE) if value == HUGE else value for value in narrow))


def mtime_ns(found: dict[int, bytes], dos_date: int, dos_time: int) -> int:
    """When the member was changed: by the Unix field, else NTFS's, else the DOS fields."""
    told = _told_mtime_ns(found) if found else None
    if told is not None:
        return told
    return _dos_day(dos_date) * 86_400_000_000_000 + _dos_seconds(dos_time) * 1_000_000_000


def _told_mtime_ns(found: dict[int, bytes]) -> int | None:
    for tag, at in ((_TIMES, 1), (_UNIX, 4)):
        data = found.get(tag, b"")
        if len(data) >= at + 4 and (tag is _UNIX or data[0] & 1):
            return int(struct.unpack_from("<l", data, at)[0]) * 1_000_000_000
    data = found.get(_NTFS, b"")
    if len(data) >= 16 and struct.unpack_from("<H", data, 4)[0] == 1:
        ticks = struct.unpack_from("<Q", data, 8)[0] - _NTFS_EPOCH_S * 10_000_000
        # Larger values are damage, and the kernel's times end there.
        if abs(ticks) < 1 << 56:
            return int(ticks) * 100
    return None


def unicode_name(raw: bytes, found: dict[int, bytes]) -> bytes | None:
    """The name in UTF-8 beside the raw one; None if it belongs to another name by its CRC-32.

    A tool that renames members and does not know the field leaves it stale.
    """
    data = found.get(_NAME, b"")
    if len(data) < 6 or data[0] != 1:
        return None
    return data[5:] if struct.unpack_from("<L", data, 1)[0] == zlib.crc32(raw) else None


@lru_cache(maxsize=256)
def _dos_day(value: int) -> int:
    # DOS fields have no zone: they are local time of a writer somewhere. UTC keeps the same
    # archive's times equal on all machines and over summer time, unlike the reader's own zone.
    year, month, day = 1980 + (value >> 9), (value >> 5) & 15, value & 31
    first = date(year, min(max(month, 1), 12), 1).toordinal()
    return first + max(day, 1) - 1 - _UNIX_EPOCH_DAY


def _dos_seconds(value: int) -> int:
    hours, minutes, pairs = value >> 11, (value >> 5) & 63, value & 31
    return min(hours * 3600 + minutes * 60 + pairs * 2, 86_399)

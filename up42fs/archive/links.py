"""Symlinks in zips: their targets are members' bytes, so that they are known later than the table.

Theory. A listing must show what is a symlink, so all targets of an archive are read before it is
shown first, in one pass: `passes` joins the places of symlinks to few ranges, since an archive of
small files has hundreds of them. `text_of` reads a target from such a range.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from up42fs.archive.member import DamagedError, Member, MemberKind, Method
from up42fs.archive.names import MAX_TARGET_BYTES, decoded, safe_target
from up42fs.archive.table import Table
from up42fs.archive.zip import LOCAL_BYTES, data_start
from up42fs.types import ByteRange

#: Bytes of a local header's name and extra fields that are read with the target.
_EXTRA_BYTES = 1024
#: Symlinks this close share a range: on most lines it costs less than another request.
_GAP_BYTES = 128 << 10
#: A longer range is split.
_PASS_BYTES = 1 << 20


def unresolved(table: Table) -> list[Member]:
    """The symlinks whose target is not known, in the order of the archive's bytes."""
    found = [table.members[number] for number in table.numbers_of(MemberKind.SYMLINK)]
    return sorted((one for one in found if one.target is None), key=lambda one: one.header_at)


def passes(links: Iterable[Member], table: Table) -> list[tuple[ByteRange, list[Member]]]:
    """Ranges of the archive that hold the targets of `links`, each with its symlinks, in order."""
    found: list[tuple[ByteRange, list[Member]]] = []
    for link in links:
        room = table.room_of(link)
        stop = link.header_at + LOCAL_BYTES + _EXTRA_BYTES + link.packed_size
        span = ByteRange(
            link.header_at, stop if room is None else max(min(stop, room), link.header_at + 1)
        )
        before, together = found[-1] if found else (None, [])
        if (
            before is not None
            and span.start <= before.stop + _GAP_BYTES
            and span.stop - before.start <= _PASS_BYTES
        ):
            together.append(link)
            found[-1] = ByteRange(before.start, max(before.stop, span.stop)), together
        else:
            found.append((span, [link]))
    return found


def text_of(link: Member, table: Table, data: bytes, data_at: int) -> bytes | None:
    """The target of a symlink by bytes of the archive from `data_at` on; None if unusable."""
    at = link.header_at - data_at
    try:
        start = data_start(link, data[at : at + LOCAL_BYTES], table.room_of(link)) - data_at
    except DamagedError:
        return None
    packed = data[start : start + link.packed_size]
    if len(packed) < link.packed_size:
        return None
    text = _unpacked(link, packed)
    if text is None or len(text) != link.size or zlib.crc32(text) != link.crc32:
        return None
    return text


def resolved(table: Table, texts: Mapping[int, bytes]) -> Table:
    """The table with the targets in `texts`, by a member's number.

    Without a text, or if the target is absolute or leads out of the archive, the symlink becomes a
    file that holds the target's text.
    """
    links = unresolved(table)
    return table.replacing(_resolved(table, link, texts.get(link.number)) for link in links)


def _unpacked(link: Member, packed: bytes) -> bytes | None:
    if link.method is Method.STORED:
        return packed
    if link.method is not Method.DEFLATED:
        return None  # no writer packs a few bytes otherwise
    inflater = zlib.decompressobj(-15)
    try:
        return inflater.decompress(packed, MAX_TARGET_BYTES + 1)
    except zlib.error:
        return None


def _resolved(table: Table, link: Member, text: bytes | None) -> Member:
    def is_directory(path: str) -> bool:
        found = table.find(path)
        return not path or (found is not None and found.kind is MemberKind.DIRECTORY)

    target = None if text is None else safe_target(link.path, decoded(text), is_directory)
    if target is None:
        return replace(link, kind=MemberKind.FILE)
    return replace(link, target=target)

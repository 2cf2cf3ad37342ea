"""The two messages of FUSE's handshake as bytes: the kernel's offer and the reply.

Pure. The layouts are `fuse_init_in` and `fuse_init_out` of include/uapi/linux/fuse.h, version 7.
Only fields that libfuse need not know about are changed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

#: Lookups and listings of one directory may run at the same time.
PARALLEL_DIROPS = 1 << 18
#: Attributes are listed only if a program looks at them: READDIR is served, too.
READDIRPLUS_AUTO = 1 << 14
#: Files opened for direct I/O can still be memory-mapped (Linux 6.6 and later).
DIRECT_IO_ALLOW_MMAP = 1 << 36

#: The largest WRITE, and so the largest message, for any page size. libfuse requests 256 pages: 16
#: MiB with pages of 64 KiB.
MAX_WRITE_BYTES = 1 << 20

_FUSE_INIT = 26
_MAJOR = 7
#: Flags from 1 << 32 on are in a separate field.
_INIT_EXT = 1 << 30
#: len, opcode, unique, nodeid, uid, gid, pid, and the extensions' length; then `fuse_init_in`:
#: major, minor, max_readahead, flags; and, with `_INIT_EXT`, the upper half of the flags.
_REQUEST = struct.Struct("=IIQQIIIIIIII")
#: len, error, unique; then `fuse_init_out` as far as it matters here: major, minor, max_readahead,
#: flags, max_background, congestion_threshold. The rest is passed on unchanged, except the upper
#: half of the flags behind max_write, time_gran, max_pages and map_alignment.
_REPLY = struct.Struct("=IiQIIIIHH")
_UPPER = struct.Struct("=I")
#: max_write; time_gran is skipped; max_pages.
_WRITES = struct.Struct("=I4xH")
_UPPER_AT = _REPLY.size + 12


class BadMessage(ValueError):
    """Not the message expected at this step of the handshake."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The settings of one mount that go beyond libfuse's defaults."""

    max_background: int
    congestion_threshold: int
    parallel_dirops: bool
    maps_direct: bool


def parse_offer(request: bytes) -> int:
    """The flags that the kernel offers in its FUSE_INIT; raises BadMessage for anything else."""
    if len(request) < _REQUEST.size:
        raise BadMessage(f"the kernel's first request is cut off at {len(request)} bytes")
    length, opcode, *_, major, _minor, _readahead, flags = _REQUEST.unpack_from(request)
    if length != len(request) or opcode != _FUSE_INIT or major != _MAJOR:
        raise BadMessage(f"the kernel began with request {opcode} of version {major}")
    return _whole(flags, request, _REQUEST.size)


def raise_limits(
    request: bytes,
    reply: bytes,
    *,
    max_background: int,
    congestion_threshold: int,
    page_bytes: int = 4096,
) -> tuple[bytes, Negotiated]:
    """Patch libfuse's `reply` to FUSE_INIT; both limits are 1 to 65535 requests.

    Only flags that the kernel offered are set. Raises BadMessage if either message is malformed, or
    if libfuse refused.
    """
    offered = parse_offer(request)
    if len(reply) < _REPLY.size:
        raise BadMessage(f"libfuse's first reply is cut off at {len(reply)} bytes")
    length, error, unique, major, minor, readahead, flags, _, _ = _REPLY.unpack_from(reply)
    if error or length != len(reply) or major != _MAJOR or unique != _unique(request):
        raise BadMessage(f"libfuse answered with error {-error}, version {major}")
    flags |= offered & (PARALLEL_DIROPS | READDIRPLUS_AUTO)
    tail = _with_smaller_writes(bytearray(reply[_REPLY.size :]), page_bytes)
    maps_direct = bool(offered & DIRECT_IO_ALLOW_MMAP) and len(reply) >= _UPPER_AT + _UPPER.size
    if maps_direct:
        answered = _whole(flags, reply, _UPPER_AT) | DIRECT_IO_ALLOW_MMAP
        _UPPER.pack_into(tail, _UPPER_AT - _REPLY.size, answered >> 32)
        flags |= _INIT_EXT
    head = _REPLY.pack(
        length, error, unique, major, minor, readahead, flags, max_background, congestion_threshold
    )
    has_dirops = bool(flags & PARALLEL_DIROPS)
    return head + tail, Negotiated(max_background, congestion_threshold, has_dirops, maps_direct)


def _with_smaller_writes(tail: bytearray, page_bytes: int) -> bytearray:
    """The end of libfuse's reply, with messages limited to `MAX_WRITE_BYTES`."""
    if len(tail) >= _WRITES.size:
        max_write, max_pages = _WRITES.unpack_from(tail)
        gran = tail[4:8]
        most_pages = max(1, MAX_WRITE_BYTES // page_bytes)
        writes, pages = min(max_write, MAX_WRITE_BYTES), min(max_pages, most_pages)
        _WRITES.pack_into(tail, 0, writes, pages)
        tail[4:8] = gran
    return tail


def _unique(request: bytes) -> int:
    return int(_REQUEST.unpack_from(request)[2])


def _whole(flags: int, message: bytes, upper_at: int) -> int:
    """The flags with their upper half, if `message` has one at that offset."""
    if not flags & _INIT_EXT or len(message) < upper_at + _UPPER.size:
        return flags
    return flags | int(_UPPER.unpack_from(message, upper_at)[0]) << 32

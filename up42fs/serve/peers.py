"""The user whose program is at the other end of a local connection, as the kernel reports it.

Knows sock_diag(7), and /proc/net/tcp where that is missing; nothing of what the user may do.

A socket belongs to the user who made it. A connection that is closed at the other end belongs to
nobody: the kernel then reports user 0, which must not pass for root, and no inode, by which it is
recognised.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface, any cookie
#: The user's ID and the inode in an answer: after the header, 4 bytes, the socket's
#: addresses (48) and three counters.
_UID = struct.Struct("=II")
_UID_AT = 16 + 4 + 48 + 12


def uid_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The ID of the user at the `client` end of a local connection; None if it cannot be told.

    Both are (IP address, port). Takes some microseconds and never waits.
    """
    with suppress(OSError, struct.error):
        return _asked(client, server)
    with suppress(OSError, ValueError, IndexError):
        return _read(client, server)
    return None


def _asked(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    ends = struct.pack(">HH", client[1], server[1])
    for host, _ in (client, server):
        ends += socket.inet_pton(family, host).ljust(16, b"\0")
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends + _COOKIE
    length = _HEADER.size + len(question)
    header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as kernel:
        kernel.setblocking(False)
        kernel.send(header + question)
        answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        raise OSError("the kernel knows no such socket")
    uid, inode = _UID.unpack_from(answer, _UID_AT)
    return uid if inode else None


def _read(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    name = "tcp6" if ":" in client[0] else "tcp"
    wanted = [f"{_hexadecimal(host)}:{port:04X}" for host, port in (client, server)]
    for line in Path("/proc/net", name).read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            return int(fields[7]) if int(fields[9]) else None
    return None


def _hexadecimal(host: str) -> str:
    """An IP address as /proc/net/tcp writes it: words in the machine's byte order."""
    packed = ip_address(host).packed
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))

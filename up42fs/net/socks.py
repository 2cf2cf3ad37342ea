"""SOCKS version 5 (RFC 1928, RFC 1929): what to send to the proxy, and what its answers mean.

Pure: a generator says what to send and how many bytes to read next; it knows no sockets. The byte
plane needs none of this, since libcurl speaks SOCKS itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator

_VERSION = 5
_CONNECT = 1
_NO_LOGIN, _LOGIN = 0, 2
_IPV4, _NAME, _IPV6 = 1, 3, 4
_FAILURES = {
    2: "does not allow this connection",
    3: "cannot reach its network",
    4: "cannot reach its host",
    5: "was refused by its host",
}

#: Sends what it yields first, is sent the bytes it asked for second.
Handshake = Generator[tuple[bytes, int], bytes, None]


class SocksError(Exception):
    """The proxy does not speak SOCKS 5, or does not connect."""


def handshake(host: str, port: int, login: tuple[str, str] | None) -> Handshake:
    """Have the proxy connect to `host`, where the connection leads from then on; or SocksError."""
    methods = bytes((_NO_LOGIN, _LOGIN)) if login else bytes((_NO_LOGIN,))
    version, method = yield bytes((_VERSION, len(methods))) + methods, 2
    if version != _VERSION:
        raise SocksError("it does not speak SOCKS 5")
    if method == _LOGIN and login is not None:
        _, status = yield b"\x01" + b"".join(map(_counted, login)), 2
        if status:
            raise SocksError("it refused the user name or password")
    elif method != _NO_LOGIN:
        raise SocksError("it wants a user name and password")
    request = bytes((_VERSION, _CONNECT, 0)) + _address(host) + port.to_bytes(2, "big")
    version, reply, _, kind = yield request, 4
    if version != _VERSION or reply:
        raise SocksError(f"it {_FAILURES.get(reply, 'does not connect')} ({reply})")
    # The address that it connects from follows: nobody's business here, but it has to be read.
    if kind == _NAME:
        (length,) = yield b"", 1
    elif kind in (_IPV4, _IPV6):
        length = 4 if kind == _IPV4 else 16
    else:
        raise SocksError("it does not speak SOCKS 5")
    yield b"", length + 2


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes((_NAME,)) + _counted(host)
    return bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed


def _counted(text: str) -> bytes:
    data = text.encode()
    if not 0 < len(data) < 256:
        raise SocksError("a name, user name or password for it has 1 to 255 bytes")
    return bytes((len(data),)) + data

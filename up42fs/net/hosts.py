"""Classifies near hosts and addresses: this machine, its link, a cloud's metadata service.

Pure. Both planes use it, for the host in a URL and for the address of a connection.

Theory. A link of UP42 is foreign text. Followed blindly it could lead to a service on the loopback,
in the link-local network or at a metadata address, none of which is an object store. An address has
many spellings (`127.1`, `0x7f000001`, `%31%32%37.0.0.1`, `127.0.0.1.`), and a name may resolve to
anything, to something else each time. So a URL's literal address is parsed as libcurl parses it,
and a name is checked by its address at the moment of the connection.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from up42fs.errors import InvalidAnswer

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Metadata services that are not link-local: Alibaba, Oracle, Azure, AWS, Google.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"),
    )
)
#: IPv6 addresses whose last 32 bits are the IPv4 address that a translator sends them to: NAT64,
#: its local form (RFC 8215), SIIT (RFC 2765).
_TRANSLATED = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96"))
)
_COMPATIBLE = ipaddress.ip_network("::/96")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
#: urlsplit drops characters that libcurl may keep: only URLs that both read alike may pass.
_VISIBLE = re.compile(r"[!-~]+")
_PART = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def numeric(host: str) -> Address | None:
    """The address that `host` spells, None if it is a name."""
    text = unquote(host).strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return _as_inet_aton(text)


@lru_cache(64)  # each request to this machine asks for its host's
def is_loopback(host: str) -> bool:
    """Whether `host` itself means this machine, whatever a resolver returns."""
    name = unquote(host).rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = numeric(host)
    return address is not None and _unwrapped(address).is_loopback


def is_near(host: str) -> bool:
    """Whether `host` itself means this machine, its link, or a metadata service."""
    address = numeric(host)
    return is_loopback(host) or (address is not None and not may_connect(address, local=False))


def may_connect(address: Address | str, *, local: bool) -> bool:
    """Whether `address` can be a store's; with `local` that may be this machine."""
    if isinstance(address, str):
        address = ipaddress.ip_address(address.partition("%")[0])
    if address in _METADATA:
        return False
    inner = _unwrapped(address)
    if inner.is_loopback:
        return local
    is_nobodys = inner.is_unspecified or inner.is_multicast or inner.is_link_local
    return not (is_nobodys or inner in _METADATA or inner in _THIS_NETWORK)


def check_url(url: str) -> str:
    """The host of `url`, with its port; raises InvalidAnswer unless it is safe to connect to."""
    try:
        parts = urlsplit(url)
        is_usable = _VISIBLE.fullmatch(url) and parts.hostname and (parts.port or 1)
    except ValueError:
        is_usable = False
    if not is_usable or parts.username or parts.password:
        raise InvalidAnswer("UP42 signed a link that cannot be used: report this")
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise InvalidAnswer("UP42 signed a link that is not https: report this")
    return parts.netloc


def _unwrapped(address: Address) -> Address:
    """The IPv4 address embedded in an IPv6 address, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    is_translated = any(address in network for network in _TRANSLATED)
    if inner is None and (is_translated or (address in _COMPATIBLE and int(address) > 1)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _as_inet_aton(text: str) -> ipaddress.IPv4Address | None:
    """Parse an IPv4 address of 1 to 4 parts, decimal, octal or hexadecimal, like C's inet_aton."""
    parts = text.split(".")
    if len(parts) > 4 or not all(_PART.fullmatch(part) and len(part) < 40 for part in parts):
        return None
    try:
        values = [_value(part) for part in parts]
    except ValueError:
        return None  # 08, for example
    *heads, last = values
    if any(value > 255 for value in heads) or last >= 256 ** (5 - len(values)):
        return None
    number = last
    for place, value in enumerate(heads):
        number += value << (8 * (3 - place))
    return ipaddress.IPv4Address(number)


def _value(part: str) -> int:
    if part[:2] in ("0x", "0X"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") else 10)

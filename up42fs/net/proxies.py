"""Chooses the proxy for a URL by curl's rules. One function, which both planes use.

Also the SOCKS handshake, as a generator of the bytes to send.

Pure: the caller passes the environment. `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY` are
checked in this order; an empty one counts as unset, and one that is not chosen need not be usable.
`no_proxy`, else `NO_PROXY`, lists hosts that are reached directly: `*`, names with all their
subdomains, addresses, networks in CIDR notation; IPv6 addresses with or without brackets. Unlike in
curl, an entry may end in a port. This machine is never reached through a proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from up42fs.errors import ConfigurationError
from up42fs.net.hosts import is_loopback, numeric

_DEFAULT_PORTS = {"http": 1080, "https": 443, "socks5": 1080, "socks5h": 1080}  # curl's
_VARIABLES = {
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),  # HTTP_PROXY may come from a web request
}
_SEPARATOR = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `variable` is where it was found. `login` is a secret.

    With `socks5` names are resolved here, with `socks5h` by the proxy, as HTTP proxies do it.
    """

    scheme: str
    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)
    variable: str = field(default="", compare=False)

    @property
    def url(self) -> str:
        """Its address without the login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS 5, not HTTP."""
        return self.scheme.startswith("socks")


@dataclass(frozen=True, slots=True)
class Route:
    """How a URL is reached, and the reason; directly if `proxy` is None."""

    proxy: Proxy | None
    why: str


def route_of(url: str, environ: Mapping[str, str]) -> Route:
    """How `url` is reached; raises ConfigurationError if its proxy cannot be used."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return Route(None, "it is this machine")
    variable = next((name for name in _VARIABLES.get(parts.scheme, ()) if environ.get(name)), None)
    if variable is None:
        return Route(None, "no proxy is set")
    excluded = "no_proxy" if environ.get("no_proxy") else "NO_PROXY"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if _is_excluded(host, port, environ.get(excluded, "")):
        return Route(None, f"{excluded} says so")
    return Route(parse_proxy(environ[variable], variable), f"{variable} is set")


def parse_proxy(value: str, variable: str) -> Proxy:
    """The proxy in a variable's value; raises ConfigurationError, which does not repeat it."""
    text = value.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        raise _unusable(variable) from None
    if scheme.startswith("socks") and scheme not in _DEFAULT_PORTS:
        # curl takes `socks://` for version 4, desktops write it for version 5.
        raise ConfigurationError(
            f"the proxy in {variable} is a SOCKS proxy of an unknown or old version, which up42fs "
            "cannot use; where it speaks version 5, set HTTPS_PROXY to socks5h://HOST:PORT"
        )
    if scheme not in _DEFAULT_PORTS or not host or not text.isprintable():
        raise _unusable(variable)
    login = None
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
    return Proxy(scheme, host, port or _DEFAULT_PORTS[scheme], login, variable)


def _unusable(variable: str) -> ConfigurationError:
    return ConfigurationError(
        f"the proxy in {variable} is not a usable address; "
        "set it to something like http://proxy.example:3128 or unset it"
    )


def _is_excluded(host: str, port: int, excluded: str) -> bool:
    address = numeric(host)
    for entry in filter(None, _SEPARATOR.split(excluded)):
        if entry == "*":
            return True
        name, its_port = _split_port(entry)
        if its_port not in (None, port):
            continue
        if address is not None:
            if _covers(name, address):
                return True
        elif _is_below(host, name):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        inner, _, rest = entry[1:].partition("]")
        if rest.startswith("/"):
            return inner + rest, None
        return inner, int(rest[1:]) if rest[1:].isdecimal() and len(rest) < 7 else None
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isdecimal() and len(port) < 6:
        return name, int(port)
    return entry, None


def _covers(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return numeric(entry) == address


def _is_below(host: str, entry: str) -> bool:
    host, entry = host.lower().rstrip("."), entry.lower().rstrip(".").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith("." + entry))


# SOCKS version 5 (RFC 1928, RFC 1929), for the API plane: libcurl speaks it itself.

_SOCKS = 5
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
    version, method = yield bytes((_SOCKS, len(methods))) + methods, 2
    if version != _SOCKS:
        raise SocksError("it does not speak SOCKS 5")
    if method == _LOGIN and login is not None:
        _, status = yield b"\x01" + b"".join(map(_counted, login)), 2
        if status:
            raise SocksError("it refused the user name or password")
    elif method != _NO_LOGIN:
        raise SocksError("it wants a user name and password")
    request = bytes((_SOCKS, _CONNECT, 0)) + _address(host) + port.to_bytes(2, "big")
    version, reply, _, kind = yield request, 4
    if version != _SOCKS or reply:
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

"""Addresses: where to listen, which names this server has, paths in addresses.

Pure. Knows the syntax of hosts, ports and paths; nothing of requests or of the tree.

A browser sends whatever name the page that it shows has resolved. A page of another site whose name
is made to point at 127.0.0.1 (DNS rebinding) could read this server like its own. So a request must
name a host that no other site can have: an IP address, `localhost`, or a name that the user listed.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from up42fs.errors import InvalidArgument, UsageError

DEFAULT_PORT = 8042
#: Names of this machine in addresses to it.
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^\[\]:@/\s]+)(?::(?P<port>\d{1,5}))?")
#: The longest path that is looked at, bytes.
MOST_PATH_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Listen:
    """The address to listen at: a host name or IP address, and a port (0: any free one)."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        return is_loopback(self.host)

    @property
    def netloc(self) -> str:
        """Host and port as part of an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """Parse `HOST:PORT`, `[::1]:PORT`, `HOST`, `PORT` or `:PORT`; raises UsageError."""
    if text.isascii() and text.isdigit():
        text = f"127.0.0.1:{text}"
    if text.startswith(":") and not text.startswith("::"):
        text = f"127.0.0.1{text}"
    if re.fullmatch(r"[0-9a-fA-F:]*::[0-9a-fA-F:]*", text):  # an IPv6 address without brackets
        text = f"[{text}]"
    match = _HOST.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else -1
    if match is None or not 0 <= port <= 65535:
        raise UsageError(f"--listen {text}: say HOST:PORT, like 127.0.0.1:8042 or [::1]:8042")
    return Listen(match["host"].strip("[]"), port)


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address means this machine and no other."""
    address = ip_of(host)
    if address is None:
        return host.casefold() in _LOCAL_NAMES
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is written as; None for names."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


@lru_cache(maxsize=64)
def is_ours(header: str, names: tuple[str, ...], *, is_local: bool) -> bool:
    """Whether the value of a Host header names this server.

    `names` are those that the user listed. A server that `is_local` has addresses of loopback only.
    """
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    host = match["host"].casefold().rstrip(".")
    if host in _LOCAL_NAMES or host in {name.casefold().rstrip(".") for name in names}:
        return True
    address = ip_of(host)
    return address is not None and (not is_local or is_loopback(str(address)))


def decoded(raw: bytes) -> str:
    """The path of the tree in a request's path, without a slash at its end.

    Each name is decoded by itself, so that `%2F` is no separator. Raises InvalidArgument for what
    cannot be a path.
    """
    if len(raw) > MOST_PATH_BYTES:
        raise InvalidArgument("the address is too long")
    if not raw.startswith(b"/"):
        raise InvalidArgument("the address has no path")
    names = []
    for part in raw.split(b"/"):
        try:
            name = unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise InvalidArgument("the address is not UTF-8") from None
        if "/" in name or "\0" in name:
            raise InvalidArgument("the address holds a name that no file has")
        if name == "..":
            raise InvalidArgument("'..' is not understood: resolve it before asking")
        if name not in ("", "."):
            names.append(name)
    return "/" + "/".join(names)


def encoded(path: str) -> str:
    """A path of the tree as part of an address."""
    return quote(path, safe="/", errors="replace")


def joined(base: str, path: str, *, is_dir: bool = False) -> str:
    """The address of a path of the tree; that of a directory ends in a slash."""
    return base + encoded(path) + ("/" if is_dir and not path.endswith("/") else "")

"""Which addresses may be spoken to, and by whose certificates.

Knows URLs and files; nothing of requests.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import certifi

from up42fs.errors import InvalidAnswer

_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)


def find_ca_file(environ: Mapping[str, str]) -> str:
    """The certificate bundle: SSL_CERT_FILE, else the system's, else certifi's.

    pycurl's wheels bundle a libcurl whose compiled-in path need not exist on this machine. The
    system's bundle comes before certifi's as it holds the certificates of inspecting proxies.
    """
    for path in (environ.get("SSL_CERT_FILE"), *_SYSTEM_CA_FILES):
        if path and Path(path).is_file():
            return path
    return certifi.where()


def check_url(url: str) -> str:
    """The host of `url`, with its port; raises InvalidAnswer unless it is safe to speak to."""
    parts = urlsplit(url)
    if parts.username or parts.password or not parts.hostname:
        raise InvalidAnswer("UP42 signed a link that cannot be used: report this")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise InvalidAnswer("UP42 signed a link that is not https: report this")
    return parts.netloc


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

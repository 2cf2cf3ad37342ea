"""The trusted certificates of both planes: the user's, else the system's, else certifi's.

`SSL_CERT_FILE` and `SSL_CERT_DIR` mean the same as for OpenSSL: the file replaces the system's
bundle, the directory is used in addition. Relative paths are relative to the directory that the
program was started in: `cli.respawn` makes them absolute for children. The system's bundle comes
before certifi's, because it holds the certificates of inspecting proxies; pycurl's wheels bundle a
libcurl whose compiled-in path need not exist on this machine.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi

from up42fs.errors import ConfigurationError

FILE, DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)


@dataclass(frozen=True, slots=True)
class Trust:
    """A bundle and, optionally, a directory of certificates; `origin` names their source."""

    file: str
    directory: str | None
    origin: str


def find_trust(environ: Mapping[str, str]) -> Trust:
    """The trusted certificates; raises ConfigurationError if a variable names nothing readable."""
    file, directory = environ.get(FILE), environ.get(DIRECTORY)
    if file and not (Path(file).is_file() and os.access(file, os.R_OK)):
        raise _unreadable(FILE, "No such file or no right to read it")
    if directory and not any(Path(one).is_dir() for one in directory.split(os.pathsep)):
        raise _unreadable(DIRECTORY, "No such directory")
    origins = [name for name, value in ((FILE, file), (DIRECTORY, directory)) if value]
    bundle = file or next((path for path in _SYSTEM_FILES if Path(path).is_file()), None)
    if not file:
        origins.insert(0, "the system" if bundle else "the Python package certifi")
    return Trust(
        str(Path(bundle or certifi.where()).absolute()),
        _absolute(directory) if directory else None,
        " and ".join(origins),
    )


def context_of(trust: Trust) -> ssl.SSLContext:
    """A context that trusts the same certificates as libcurl; raises ConfigurationError."""
    try:
        context = ssl.create_default_context(cafile=trust.file, capath=trust.directory)
    except OSError as error:
        raise _unreadable(
            f"{FILE} or {DIRECTORY}", error.strerror or type(error).__name__
        ) from None
    # Like libcurl: trust a certificate in the bundle even if it is not a root, and refuse no chain
    # for the form of a certificate that OpenSSL accepts by default.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _absolute(paths: str) -> str:
    return os.pathsep.join(str(Path(one).absolute()) for one in paths.split(os.pathsep) if one)


def _unreadable(variable: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the certificates in {variable} cannot be read ({reason}); "
        "set it to a readable PEM file, or a directory of them, or unset it"
    )

"""Writes an archive for support: findings, status, log, versions; without secrets and names.

Knows what must not leave the machine: passwords, tokens and signatures (`logs.redact`), the names
of the account, the user and the machine, the home directory, users of proxies, and the names of
assets, orders and tags (`doctor.scrub`).
"""

from __future__ import annotations

import getpass
import io
import json
import os
import platform
import socket
import stat
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from up42fs import __version__
from up42fs.config.settings import Settings
from up42fs.doctor.finding import Finding, Machine
from up42fs.doctor.scrub import Scrubber, known
from up42fs.logs import redact

#: Bytes from the end of each log that are included.
LOG_BYTES = 1 << 20
_LOG_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PACKAGES = ("pyfuse3", "trio", "httpx", "pycurl", "cachetools", "certifi", "keyring", "rich")
_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class MountReport:
    """A running mount's status, and its log file according to this user's own records."""

    status: Mapping[str, Any]
    log_file: Path | None = None


def write(
    path: Path,
    machine: Machine,
    settings: Settings,
    findings: Sequence[Finding],
    mounts: Sequence[MountReport],
    names: Iterable[str] = (),
) -> list[str]:
    """Write the archive; return the names in it. Raises OSError.

    A new file is readable by its owner only; an existing file keeps its mode. `names` are the known
    names of assets, orders and tags.
    """
    found = {name for finding in findings for name in finding.names}
    scrubber = Scrubber(known([*names, *found]))
    hide = _hider(settings, mounts, machine)
    documents = dict(_documents(machine, settings, findings, mounts, scrubber))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:  # noqa: PTH123
        for name, text in documents.items():
            content = hide(text).encode(errors="replace")
            entry = tarfile.TarInfo(f"up42fs-support/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return list(documents)


def _documents(
    machine: Machine,
    settings: Settings,
    findings: Sequence[Finding],
    mounts: Sequence[MountReport],
    scrubber: Scrubber,
) -> Iterable[tuple[str, str]]:
    shown = [finding.document() for finding in findings]
    for entry in shown:
        entry |= {name: scrubber.message(entry[name]) for name in ("words", "cure")}
    yield "findings.json", json.dumps(shown, indent=2)
    yield "settings.json", json.dumps(_settings(settings), indent=2)
    yield "system.json", json.dumps(_system(machine), indent=2)
    for number, mount in enumerate(mounts, 1):
        status = dict(mount.status)
        if status.get("account_name"):
            status["account_name"] = "<name>"
        yield f"status-{number}.json", json.dumps(scrubber.value(status), indent=2)
        if mount.log_file is not None:
            yield f"log-{number}.txt", scrubber.log(_tail(mount.log_file))


def _settings(settings: Settings) -> dict[str, str | None]:
    """Return every setting but the password, and whether there is an account."""
    shown = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "password"}
    # A name that the user gave, perhaps a person's or a customer's.
    shown["account"] = "<name>" if settings.account else None
    shown["signs_in"] = bool(settings.username and settings.password)
    return {name: None if value is None else str(value) for name, value in shown.items()}


def _system(machine: Machine) -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "up42fs": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "os": machine.read("/etc/os-release"),
        "packages": packages,
        "environment": {
            name: machine.environ[name].rpartition("@")[2]
            for name in _variables()
            if name in machine.environ
        },
        "fusermount3": machine.run(["fusermount3", "--version"]),
    }


def _variables() -> Iterable[str]:
    return (form for name in _VARIABLES for form in (name, name.lower()))


def _tail(path: Path) -> str:
    """Read the end of a log. A link or another user's file in its place is not read."""
    try:
        with os.fdopen(os.open(path, _LOG_FLAGS), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
                return "the log is no file of this user"
            file.seek(max(0, found.st_size - LOG_BYTES))
            return file.read(LOG_BYTES).decode(errors="replace")
    except OSError as error:
        return f"the log cannot be read: {error.strerror}"


def _hider(
    settings: Settings, mounts: Sequence[MountReport], machine: Machine
) -> Callable[[str], str]:
    """Return a function that removes secrets and names from a text."""
    words = {str(mount.status.get("account") or ""): "<account>" for mount in mounts}
    words |= dict.fromkeys(_proxy_users(machine.environ), "<redacted>")
    words |= {
        settings.username or "": "<account>",
        settings.password or "": "<redacted>",
        machine.home: "~",
        socket.gethostname(): "<machine>",
        _user(): "<user>",
    }
    # Replace the longest first: a user's name may be part of the account's. Words of up to two
    # letters identify no one and are left.
    ordered = sorted((word for word in words if len(word) > 2), key=len, reverse=True)

    def hide(text: str) -> str:
        text = redact(text)
        for word in ordered:
            text = text.replace(word, words[word])
        return text

    return hide


def _proxy_users(environ: Mapping[str, str]) -> set[str]:
    """User names and passwords of proxies, both as written in the variables and decoded."""
    found: set[str] = set()
    for name in _variables():
        credentials, has_user, _ = environ.get(name, "").rpartition("@")
        if has_user:
            parts = credentials.rpartition("//")[2].partition(":")[::2]
            found |= {form for part in parts for form in (part, unquote(part))}
    return found


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return ""
    return "" if name == "root" else name

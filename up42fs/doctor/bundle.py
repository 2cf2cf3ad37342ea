"""An archive for whoever helps: findings, status, log, versions; no secret and no name in it.

Knows what must not leave the machine: passwords, tokens and signatures (`logs.redact`), the
account's name, the user's and the machine's name, the home directory.
"""

from __future__ import annotations

import getpass
import io
import json
import os
import platform
import socket
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from up42fs import __version__
from up42fs.config import Settings
from up42fs.doctor.finding import Finding, Machine
from up42fs.logs import redact

#: The end of each log that goes along, bytes.
LOG_BYTES = 1 << 20
_PACKAGES = ("pyfuse3", "trio", "httpx", "pycurl", "cachetools", "certifi", "keyring", "rich")
_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


def write(
    path: Path,
    machine: Machine,
    settings: Settings,
    findings: Sequence[Finding],
    statuses: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Write the archive; returns the names in it. Raises OSError.

    A new file is readable by its owner only; one that exists keeps its mode.
    """
    hide = _hider(settings, statuses, machine.home)
    documents = dict(_documents(machine, settings, findings, statuses))
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
    statuses: Sequence[Mapping[str, Any]],
) -> Iterable[tuple[str, str]]:
    yield "findings.json", json.dumps([asdict(finding) for finding in findings], indent=2)
    yield "settings.json", json.dumps(_settings(settings), indent=2)
    yield "system.json", json.dumps(_system(machine), indent=2)
    for number, status in enumerate(statuses, 1):
        yield f"status-{number}.json", json.dumps(status, indent=2)
        if status.get("log_file"):
            yield f"log-{number}.txt", _tail(Path(status["log_file"]))


def _settings(settings: Settings) -> dict[str, str | None]:
    """Every setting but the password; instead, whether there is an account."""
    shown = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "password"}
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
            name: machine.environ[name] for name in _VARIABLES if name in machine.environ
        },
        "fusermount3": machine.run(["fusermount3", "--version"]),
    }


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError as error:
        return f"the log cannot be read: {error}"


def _hider(
    settings: Settings, statuses: Sequence[Mapping[str, Any]], home: str
) -> Callable[[str], str]:
    """A function that takes secrets and names out of a text."""
    words = {str(status.get("account") or ""): "<account>" for status in statuses}
    words |= {
        settings.username or "": "<account>",
        settings.password or "": "<redacted>",
        home: "~",
        socket.gethostname(): "<machine>",
        _user(): "<user>",
    }
    # The longest first: a user's name may be part of the account's. Two letters hide nobody.
    ordered = sorted((word for word in words if len(word) > 2), key=len, reverse=True)

    def hide(text: str) -> str:
        text = redact(text)
        for word in ordered:
            text = text.replace(word, words[word])
        return text

    return hide


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return ""
    return "" if name == "root" else name

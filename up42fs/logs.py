"""Logging of one process: destination, level, form, and removal of secrets.

One event is one line; further lines, as of tracebacks, are indented below it. Under systemd, where
standard error is the journal, a line begins with its priority (sd-daemon(3)) and has no time, which
the journal adds.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
import sys
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from up42fs.visible import visible, visible_json

#: Characters of one event that are processed and written at most: a server may send any number of
#: them in a name or an error, and the event loop waits for log lines.
MOST_CHARACTERS = 1 << 16
#: Secrets that must never be written: link signatures, bearer tokens, passwords, whole presigned
#: links.
_TOKENS = re.compile(
    r"(?i)(bearer\s+|signature(?:=|%3d)|(?:access|refresh|id)_token[\\\"'=:\s]+)[^\\\s\"'&,;)]+"
)
#: A password holds any character: it extends to the closing quote if quoted, else to a space.
_PASSWORDS = re.compile(
    r"""(?isx) (password (?: = | \\*["']\s*:\s* ))
    (?: "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'? | \\+["'][^"']* | \S+ )"""
)
#: A run of characters that may hold user info, up to its `@`. It matches wherever it is tried: a
#: pattern that fails only at the end of a run is retried from each of the run's characters.
_RUN = re.compile(r"[^\s@]+@?")
_USER = re.compile(r"(://[^/\s:@]*:)[^@]+")
#: Sockets of the system's log: syslog(3) uses the first, systemd provides both.
SYSTEM_LOGS = ("/dev/log", "/run/systemd/journal/dev-log")
#: Bytes of one datagram that every syslogd accepts.
_MOST_LINE = 8192
#: `extra` of records that a person at the desktop should see as a notification.
FOR_DESKTOP = {"is_for_desktop": True}
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def redact(text: str) -> str:
    """`text` without secrets, cut after `MOST_CHARACTERS`; takes time linear in its length."""
    rest = len(text) - MOST_CHARACTERS
    is_cut = rest > 0
    text = text[:MOST_CHARACTERS]
    for secret in (_TOKENS, _PASSWORDS):
        text = secret.sub(r"\1<redacted>", text)

    def without_user(run: re.Match[str]) -> str:
        # In a text that was cut, the `@` may be in the part that is gone.
        is_user = run[0].endswith("@") or (is_cut and run.end() == len(run.string))
        return _USER.sub(r"\1<redacted>", run[0]) if is_user else run[0]

    if "://" in text:
        text = _RUN.sub(without_user, text)
    return f"{text}… ({rest} more characters)" if is_cut else text


class RedactingFormatter(logging.Formatter):
    """Formats a record, including its traceback, and removes secrets from the result.

    Unprintable characters are made visible. The event's further lines are indented, so that nothing
    in it looks like another event.
    """

    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)), keep="\n").replace("\n", "\n    ")


class JournalFormatter(RedactingFormatter):
    """Lines for the journal, each with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _priority(record.levelno)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = redact(self.formatException(record.exc_info))
        return visible_json(json.dumps(entry, ensure_ascii=False))


def _utc(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    for least, priority in ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


def _is_journal() -> bool:
    """Whether standard error leads to systemd's journal (JOURNAL_STREAM, systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class Recent(logging.Handler):
    """Keeps the latest warnings and errors, redacted, for reports on the mount's state."""

    def __init__(self, most: int = 20) -> None:
        super().__init__(logging.WARNING)
        self._latest: deque[dict[str, str]] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        self._latest.append(
            {
                "time": _utc(record),
                "level": record.levelname,
                "message": visible(redact(record.getMessage())),
            }
        )

    def latest(self) -> list[dict[str, str]]:
        """The records, oldest first: time (UTC), level, message."""
        return list(self._latest)


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`. Raises OSError.

    The log names assets and orders, so a file created here is readable only by its owner from the
    start. An existing file keeps its mode: an administrator chose it, or it is a device.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    # A pipe without a reader raises an error instead of blocking for ever; a terminal does not
    # become this session's.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    os.set_blocking(descriptor, True)
    return descriptor


class _LogFile(logging.FileHandler):
    def _open(self) -> TextIOWrapper:
        descriptor = open_log(Path(self.baseFilename))
        return open(descriptor, "a", encoding=self.encoding, errors=self.errors)  # noqa: PTH123


def set_up(level: str, log_file: Path | None, form: str = "text") -> None:
    """Log to `log_file`, else to standard error, as text or json; raises OSError."""
    handler: logging.Handler
    if log_file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(log_file, encoding="utf-8", errors="backslashreplace")
    if form == "json":
        handler.setFormatter(JsonFormatter())
    elif log_file is None and _is_journal():
        handler.setFormatter(JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(RedactingFormatter(_FORMAT))
    _install(handler, level)


def _install(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log request lines, and request lines contain signed links.
    for chatty in ("httpx", "httpcore", "hpack"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class SystemLog(logging.Handler):
    """Sends records to the system's log (syslog, or the journal in its place); never blocks."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, with facility `user`; one that cannot be sent is lost."""
        line = f"<{1 << 3 | _priority(record.levelno)}>up42fs[{os.getpid()}]: {self.format(record)}"
        with suppress(OSError):
            self._socket.sendto(line.encode(errors="backslashreplace")[:_MOST_LINE], self._address)

    def close(self) -> None:
        self._socket.close()
        super().close()


def set_up_system(level: str, form: str = "text") -> str | None:
    """Log to the system's log and return its socket; without one log nothing and return None."""
    handler: logging.Handler = logging.NullHandler()
    address = next((place for place in SYSTEM_LOGS if _is_socket(place)), None)
    if address is not None:
        handler = SystemLog(address)
        handler.setFormatter(
            JsonFormatter() if form == "json" else RedactingFormatter("%(name)s: %(message)s")
        )
    _install(handler, level)
    return address


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


def toggle_debug() -> str:
    """Switch up42fs's debug messages on, or back to the configured level; return the new level."""
    ours = logging.getLogger(__package__)
    ours.setLevel(logging.NOTSET if ours.level == logging.DEBUG else logging.DEBUG)
    return logging.getLevelName(ours.getEffectiveLevel()).lower()

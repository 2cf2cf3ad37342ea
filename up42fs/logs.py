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
import sys
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from up42fs.log_files import LogFile, Rotation
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
#: How programs of the system's log know our lines, and in the journal those of one mount.
IDENTIFIER = "up42fs"
MOUNT_FIELD = "UP42FS_MOUNTPOINT"
#: Socket of systemd's journal that takes fields.
JOURNAL = "/run/systemd/journal/socket"
_JOURNAL_STREAM = "/run/systemd/journal/stdout"
#: Sockets of the system's log: syslog(3) uses the first, systemd provides both.
SYSTEM_LOGS = ("/dev/log", "/run/systemd/journal/dev-log")
#: Bytes of one datagram that every syslogd accepts.
_MOST_LINE = 8192
#: Bytes of one entry of the journal that fit a socket's default buffer.
_MOST_ENTRY = 48 << 10
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


def set_up(
    level: str, log_file: Path | None, form: str = "text", rotation: Rotation | None = None
) -> None:
    """Log to `log_file`, else to standard error, as text or json; raises OSError."""
    handler: logging.Handler
    if log_file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(log_file, rotation or Rotation())
    is_journal = log_file is None and _is_journal()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    elif is_journal:
        handler.setFormatter(JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(RedactingFormatter(_FORMAT))
    _install(handler, level)


def place() -> str:
    """The places that this process logs to: `file`, `journal`, `syslog`, `stderr`, or `nowhere`."""
    handler = next(iter(logging.getLogger().handlers), None)
    if isinstance(handler, LogFile):
        return "file"
    if isinstance(handler, SystemdJournal):
        return "journal"
    if isinstance(handler, SystemLog):
        return "syslog"
    if isinstance(handler, logging.StreamHandler):
        return "journal" if _is_journal() else "stderr"
    return "nowhere"


def take_stderr() -> None:
    """Write the standard error of libfuse, fusermount3 and stack dumps to the log, too."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.take_stderr(sys.stderr.fileno())
        if isinstance(handler, SystemdJournal):
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.connect(_JOURNAL_STREAM)
                # Identifier, unit, priority, and four flags (sd_journal_stream_fd(3)).
                stream.sendall(f"{IDENTIFIER}\n\n5\n0\n0\n0\n0\n".encode())
                os.dup2(stream.fileno(), sys.stderr.fileno())


def _install(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log request lines, and request lines contain signed links.
    for chatty in ("httpx", "httpcore", "hpack"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class SystemLog(logging.Handler):
    """Sends records to the system's log (syslog, or the journal in its place); never blocks."""

    def __init__(self, address: str, about: str = "") -> None:
        super().__init__()
        self._address = address
        self._about = f"[{visible(about)}] " if about else ""
        self._socket = _datagrams()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, with facility `user`; one that cannot be sent is lost."""
        head = f"<{1 << 3 | _priority(record.levelno)}>{IDENTIFIER}[{os.getpid()}]: {self._about}"
        line = head + self.format(record)
        with suppress(OSError):
            self._socket.sendto(line.encode(errors="backslashreplace")[:_MOST_LINE], self._address)

    def close(self) -> None:
        self._socket.close()
        super().close()


class SystemdJournal(logging.Handler):
    """Sends records to systemd's journal, each with its mount as a field; never blocks."""

    def __init__(self, address: str, about: str = "") -> None:
        super().__init__()
        self._address = address
        self._fields = {"SYSLOG_IDENTIFIER": IDENTIFIER.encode()}
        if about:
            self._fields[MOUNT_FIELD] = os.fsencode(about)
        self._socket = _datagrams()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one that cannot be sent is lost."""
        message = self.format(record).encode(errors="backslashreplace")[:_MOST_ENTRY]
        fields = self._fields | {
            "MESSAGE": message,
            "PRIORITY": str(_priority(record.levelno)).encode(),
            "LOGGER": record.name.encode(errors="backslashreplace"),
        }
        with suppress(OSError):
            self._socket.sendto(b"".join(map(_field, fields, fields.values())), self._address)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _field(name: str, value: bytes) -> bytes:
    """One field of the journal's own protocol (systemd's JOURNAL_NATIVE_PROTOCOL)."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def system_log() -> str | None:
    """The socket of the system's log that answers here, the journal's own first."""
    return next((place for place in (JOURNAL, *SYSTEM_LOGS) if _answers(place)), None)


def set_up_system(level: str, form: str = "text", about: str = "") -> str | None:
    """Log to the system's log and return its socket; without one log nothing and return None.

    `about` says which mount logs.
    """
    handler: logging.Handler = logging.NullHandler()
    address = system_log()
    if address is not None:
        handler = (SystemdJournal if address == JOURNAL else SystemLog)(address, about)
        handler.setFormatter(
            JsonFormatter() if form == "json" else RedactingFormatter("%(name)s: %(message)s")
        )
    _install(handler, level)
    return address


def _answers(path: str) -> bool:
    """Whether a log's daemon listens; the socket of one that ended stays as a file."""
    with _datagrams() as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


class Ring(logging.Handler):
    """Keeps the latest lines of the log, of any destination, for `up42fs log`."""

    def __init__(self, most_bytes: int = 256 << 10) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(RedactingFormatter(_FORMAT))
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="backslashreplace") + b"\n"
        self._lines.append(line)
        self._bytes += len(line)
        while self._bytes > self._most_bytes and len(self._lines) > 1:
            self._bytes -= len(self._lines.popleft())

    def text(self) -> bytes:
        """The lines, oldest first."""
        return b"".join(self._lines)


def toggle_debug() -> str:
    """Switch up42fs's debug messages on, or back to the configured level; return the new level."""
    ours = logging.getLogger(__package__)
    ours.setLevel(logging.NOTSET if ours.level == logging.DEBUG else logging.DEBUG)
    return logging.getLevelName(ours.getEffectiveLevel()).lower()

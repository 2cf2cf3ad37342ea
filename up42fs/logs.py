"""Logging of one process: where to, how much, and that no secret gets there."""

from __future__ import annotations

import logging
import re
import sys
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

#: What must never be written: link signatures, bearer tokens, passwords, whole presigned links.
_TOKENS = re.compile(
    r"(?i)(bearer\s+|signature(?:=|%3d)|(?:access|refresh|id)_token[\\\"'=:\s]+)[^\\\s\"'&,;)]+"
)
#: A password holds any character: to the closing quote where there are quotes, else to a space.
_PASSWORDS = re.compile(
    r"""(?isx) (password (?: = | \\*["']\s*:\s* ))
    (?: "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'? | \\+["'][^"']* | \S+ )"""
)
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^\s@]+(?=@)")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def redact(text: str) -> str:
    """`text` without tokens, passwords and link signatures."""
    for secret in (_TOKENS, _PASSWORDS, _USERINFO):
        text = secret.sub(r"\1<redacted>", text)
    return text


class RedactingFormatter(logging.Formatter):
    """Formats a record, traceback included, and takes the secrets out of the result."""

    def format(self, record: logging.LogRecord) -> str:
        """The line to write."""
        return redact(super().format(record))


class Recent(logging.Handler):
    """Keeps the latest warnings and errors, redacted, for who asks the mount how it is."""

    def __init__(self, most: int = 20) -> None:
        super().__init__(logging.WARNING)
        self._latest: deque[dict[str, str]] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        self._latest.append(
            {
                "time": moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
                "level": record.levelname,
                "message": redact(record.getMessage()),
            }
        )

    def latest(self) -> list[dict[str, str]]:
        """The records, oldest first: time (UTC), level, message."""
        return list(self._latest)


def set_up(level: str, log_file: Path | None) -> None:
    """Log to `log_file`, else to standard error. Raises OSError if the file cannot be opened."""
    handler: logging.Handler
    if log_file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_file, encoding="utf-8", delay=False)
        log_file.chmod(0o600)
    handler.setFormatter(RedactingFormatter(_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These print request lines, and request lines carry signed links.
    for chatty in ("httpx", "httpcore", "hpack"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

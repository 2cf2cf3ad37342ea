"""A mount at `~/up42` whenever its user logs in, and a bookmark for file managers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from up42fs.setup.plan import SetupError

_UNIT = "up42fs.service"
#: The longest that systemd may take to mount, seconds; the unit's own limit is shorter.
_TIMEOUT_S = 90


def with_bookmark(text: str, home: str) -> str:
    """The bookmarks of GTK's file managers, a line each, with the mount among them once."""
    line = _bookmark(home)
    if line in text.splitlines():
        return text
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def without_bookmark(text: str, home: str) -> str:
    """The bookmarks without the mount."""
    line = _bookmark(home)
    return "".join(kept for kept in text.splitlines(keepends=True) if kept.rstrip("\n") != line)


def mount_at_login(environ: Mapping[str, str]) -> None:
    """Enable the user's unit, and mount now; raises SetupError with systemd's reason."""
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", _UNIT)
    bookmarks = _bookmarks(environ)
    bookmarks.parent.mkdir(parents=True, exist_ok=True)
    bookmarks.write_text(with_bookmark(_read(bookmarks), environ["HOME"]), encoding="utf-8")


def forget_login(environ: Mapping[str, str]) -> None:
    """Undo `mount_at_login`, where it was done."""
    wants = Path(environ.get("XDG_CONFIG_HOME") or Path(environ["HOME"], ".config"))
    if (wants / "systemd/user/default.target.wants" / _UNIT).is_symlink():
        _systemctl("disable", "--now", _UNIT)
    bookmarks = _bookmarks(environ)
    text = _read(bookmarks)
    if (rest := without_bookmark(text, environ["HOME"])) != text:
        bookmarks.write_text(rest, encoding="utf-8")


def _bookmark(home: str) -> str:
    return f"file://{quote(home)}/up42 UP42"


def _bookmarks(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or Path(environ["HOME"], ".config")
    return Path(base, "gtk-3.0/bookmarks")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _systemctl(*words: str) -> None:
    if shutil.which("systemctl") is None:
        raise SetupError(
            "there is no systemd here; put `up42fs mount ~/up42` where your session begins"
        )
    command = ["systemctl", "--user", *words]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(command)}` did not end in {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        reason = done.stderr.strip() or f"status {done.returncode}"
        raise SetupError(
            f"`{' '.join(command)}` failed: {reason}; see: systemctl --user status {_UNIT}"
        )

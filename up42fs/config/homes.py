"""The places of a user's files: the home directory and XDG's base directories.

Services, containers and users like `nobody` have no home, or one that does not exist. Then the
result is a place below `NOWHERE`, which can be neither read nor written, and callers handle it like
any directory that belongs to another user. A relative path is never a home: files kept there would
depend on the current directory. Pure, except for the password database.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

#: By convention this directory does not exist (Debian's policy, `nobody` in /etc/passwd).
NOWHERE = Path("/nonexistent")


def home(environ: Mapping[str, str]) -> Path:
    """The home directory: `HOME`, else that of the password database."""
    said = environ.get("HOME", "")
    if Path(said).is_absolute():
        return Path(said)
    try:
        known = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return NOWHERE
    return known if known.is_absolute() else NOWHERE


def is_beyond(path: Path) -> bool:
    """Whether `path` is out of this user's reach, like files of another user's home.

    That happens under `sudo -u` and in services that are given another user's `HOME`. A user's own
    file that cannot be read is not beyond reach: that is an accident to be reported.
    """
    try:
        return path.stat().st_uid != os.getuid() and not os.access(path, os.R_OK)
    except PermissionError:
        return True
    except OSError:
        return False


def base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """One of XDG's base directories; a relative one is ignored, as XDG requires."""
    said = environ.get(variable, "")
    if Path(said).is_absolute():
        return Path(said)
    return home(environ) / below_home

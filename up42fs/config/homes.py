"""Where a user's files lie: the home directory and XDG's base directories.

Services, containers and users like `nobody` have no home, or one that does not exist: then the
answer is a place below `NOWHERE`, which can be neither read nor written, and whoever keeps
something meets that like any directory that is not theirs. A relative path is never a home: what
is kept would lie wherever the user happened to stand. Pure but for the password database.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

#: By convention there is no such directory (Debian's policy, `nobody` in /etc/passwd).
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
    """Whether `path` is out of this user's reach, as files of a home that is not theirs are.

    So it is under `sudo -u` and in services that are given another user's `HOME`. A file of their
    own that they cannot read is not: that is an accident they should hear of.
    """
    try:
        return path.stat().st_uid != os.getuid() and not os.access(path, os.R_OK)
    except PermissionError:
        return True
    except OSError:
        return False


def base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """One of XDG's base directories; a relative one counts for nothing, as XDG wants it."""
    said = environ.get(variable, "")
    if Path(said).is_absolute():
        return Path(said)
    return home(environ) / below_home

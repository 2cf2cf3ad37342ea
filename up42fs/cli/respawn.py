"""Starts commands of up42fs as child processes that run no code of the current directory.

`python -m` puts the current directory in front of the module path: a `queue.py` that lies there
would be imported in place of Python's, and a clone called `up42fs` in place of the package. So a
child starts in `/`, with `-P` (or `-I`, where this process is isolated itself), and without those
entries of PYTHONPATH that mean the current directory. A relative path that the user gave is made
absolute first, or the child goes back into the directory that `here` holds open to resolve it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: Where children start: it exists, everybody may enter it, and it keeps no file system busy.
DIRECTORY = "/"
#: Variables that hold paths.
_PATHS = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})


def command(*arguments: str) -> list[str]:
    """The words that start `up42fs` with `arguments`, by the interpreter that runs now."""
    flags = ["-I"] if sys.flags.isolated else ["-P"]
    if sys.flags.ignore_environment and not sys.flags.isolated:
        flags.append("-E")
    return [sys.executable, *flags, "-m", "up42fs", *arguments]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a child: what is relative in it would mean another directory there."""
    clean = dict(environ)
    for name in _PATHS & clean.keys():
        entries = clean[name].split(os.pathsep)
        clean[name] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries if entry)
    # An empty or relative entry is a current directory, and code would be taken from it.
    entries = clean.pop("PYTHONPATH", "").split(os.pathsep)
    if absolute := [entry for entry in entries if Path(entry).is_absolute()]:
        clean["PYTHONPATH"] = os.pathsep.join(absolute)
    return clean


def here() -> int | None:
    """A descriptor of the current directory; None where it cannot be entered again.

    So it is with a directory of another user under `sudo -u`, and in a mount that died.
    """
    try:
        fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.fchdir(fd)
    except OSError:
        os.close(fd)
        return None
    return fd

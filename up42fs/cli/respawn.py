"""Starts up42fs commands as child processes that run no code from the current directory.

`python -m` puts the current directory first in the module path: a `queue.py` there would be
imported in place of Python's, and a clone called `up42fs` in place of the package. So a child
starts in `/`, with `-P` (or `-I`, if this process is isolated itself), and without those entries of
PYTHONPATH that mean the current directory. A relative path that the user gave is made absolute
first; otherwise the child changes back to the directory that `here` holds open and resolves it
there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: The directory children start in: it exists, is open to every user, and keeps no mount busy.
DIRECTORY = "/"
#: Variables that hold paths.
_PATHS = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})


def command(*arguments: str) -> list[str]:
    """The command line that starts `up42fs` with `arguments`, by the current interpreter."""
    flags = ["-I"] if sys.flags.isolated else ["-P"]
    if sys.flags.ignore_environment and not sys.flags.isolated:
        flags.append("-E")
    return [sys.executable, *flags, "-m", "up42fs", *arguments]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a child, with relative paths made absolute, as they would resolve elsewhere."""
    clean = dict(environ)
    for name in _PATHS & clean.keys():
        entries = clean[name].split(os.pathsep)
        clean[name] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries if entry)
    # An empty or relative entry means the current directory, from which code would be loaded.
    entries = clean.pop("PYTHONPATH", "").split(os.pathsep)
    if absolute := [entry for entry in entries if Path(entry).is_absolute()]:
        clean["PYTHONPATH"] = os.pathsep.join(absolute)
    return clean


def here() -> int | None:
    """Open the current directory; None where it cannot be entered again, as under `sudo -u`."""
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

"""The targets of copies: each file's local path, as cp(1) would choose it, and partial file.

Decides names; `copying` moves the bytes.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from up42fs.errors import UsageError
from up42fs.types import Version
from up42fs.visible import visible

#: The end of the name of a file that is not whole. With the dot at its start no pattern such as
#: *.tif and no plain listing shows it.
PART_SUFFIX = ".up42fs-part"


class Copy(NamedTuple):
    """One file to copy: its path in the storage, where to, and its time of change."""

    remote: str
    local: Path
    size: int | None
    mtime_ns: int


def target_of(target: Path, sources: Sequence[str], *, ends_with_slash: bool) -> bool:
    """Whether the sources go into the directory `target`, and not to that very path.

    Raises UsageError for several sources and no directory.
    """
    if target.is_dir() or ends_with_slash:
        return True
    if len(sources) > 1:
        raise UsageError(
            f"{visible(str(target))} is no directory, and there are {len(sources)} sources; "
            f"to make it one, end it with /: {visible(str(target))}/"
        )
    return False


def below(top: str, path: str, base: Path) -> Path:
    """The local path of `path`, which lies at or below `top`, if `top` is copied to `base`."""
    relative = posixpath.relpath(path, top)
    return base if relative == "." else base / relative


def part_of(target: Path, size: int, version: Version | None) -> Path:
    """The path of the partial copy of one version.

    Another version has another one, so bytes of two versions never meet in a file.
    """
    identity = repr((size, version and (version.etag, version.generation, version.modified)))
    digest = hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:12]
    return target.with_name(f".{target.name}.{digest}{PART_SUFFIX}")

"""What a mount cannot keep, because there is no place for it: said once, when it is mounted.

A mount works without a home: nothing in it is needed, and it is only slower the next time. A place
that the user named is another matter where a promise hangs on it: `log_file` and sidecars that
cannot be kept are errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from up42fs.config import settings as config
from up42fs.config.homes import NOWHERE
from up42fs.config.settings import Settings


def kept(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings without a cache that cannot be kept, and what to say of what is not kept."""
    notes = []
    storage = settings.storage_dir
    if storage is not None and (why := why_not(storage)):
        notes.append(
            f"the stored catalogue and the disk cache are not kept: {storage}: {why}; "
            "set XDG_CACHE_HOME or --cache-dir to a directory of yours"
        )
        settings = replace(settings, cache_size=0)
    state = config.state_dir(environ)
    lost = [
        what
        for what, is_wanted in (
            ("the journal of edits", settings.rw),
            ("the count of max_egress", settings.max_egress is not None),
        )
        if is_wanted
    ]
    if lost and (why := why_not(state)):
        notes.append(
            f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} not kept: {state}: {why}; "
            "set XDG_STATE_HOME to a directory of yours"
        )
    return settings, notes


def why_not(directory: Path) -> str | None:
    """Why nothing can be written below `directory`, which is made if need be; None if it can."""
    if directory.is_relative_to(NOWHERE) and not NOWHERE.exists():
        return "there is no home directory"  # and root must not make one
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # By access(2), which knows of file systems that are read-only.
        if os.access(directory, os.W_OK | os.X_OK):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__
    return "it cannot be written"

"""Decides which data a mount cannot store, for lack of a directory, and warns once.

A mount works without a home directory: none of that data is needed, and the next mount is only
slower without it. Places that the user named are different if a promise depends on them: if
`log_file` or sidecars cannot be stored, mounting fails.
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
    """Return the settings, without a cache that cannot be stored, and warnings about losses."""
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
    """Return why `directory`, made if missing, cannot be written; None if it can."""
    if directory.is_relative_to(NOWHERE) and not NOWHERE.exists():
        return "there is no home directory"  # and root must not create one
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # access(2) also detects file systems that are read-only.
        if os.access(directory, os.W_OK | os.X_OK):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__
    return "it cannot be written"

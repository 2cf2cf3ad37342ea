"""Waits until a mount lists all of the storage, for scripts that go on with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from up42fs.cli.running import read_status
from up42fs.errors import Unavailable

#: What can be waited for: all is listed, perhaps as it was stored; UP42 was asked since mounting.
STATES = ("listed", "synced")
#: The longest wait, seconds. The listing of a million assets takes minutes.
LONGEST_S = 900.0
_PAUSE_S = 0.1


def is_reached(status: Mapping[str, Any], state: str) -> bool:
    """Whether a mount has reached `state`. Pure."""
    listings = (status.get("catalogue") or {}).values()
    if not listings or not all(listing.get("complete") for listing in listings):
        return False
    age_s = float(status.get("mounted_seconds") or 0) + 1  # it is rounded
    ages_s = [listing.get("seconds_since_refresh") for listing in listings]
    return state == "listed" or all(age is not None and age <= age_s for age in ages_s)


def wait(
    mountpoint: Path,
    state: str,
    *,
    ask: Callable[[Path], Mapping[str, Any] | None] = read_status,
    longest_s: float = LONGEST_S,
) -> None:
    """Return once the mount has reached `state`; raises Unavailable. The mount stays."""
    end_s = time.monotonic() + longest_s
    silent_since_s = math.inf
    while True:
        status = ask(mountpoint)
        now_s = time.monotonic()
        if status is not None and is_reached(status, state):
            return
        silent_since_s = math.inf if status is not None else min(silent_since_s, now_s)
        if now_s > end_s or now_s - silent_since_s > 30:
            why = _why(status or {})
            raise Unavailable(
                f"{mountpoint} is mounted, and is not {state} after {longest_s:.0f} s{why}; "
                f"see: up42fs status {quote(str(mountpoint))}"
            )
        time.sleep(_PAUSE_S)


def _why(status: Mapping[str, Any]) -> str:
    listings = (status.get("catalogue") or {}).values()
    errors = [str(listing["error"]) for listing in listings if listing.get("error")]
    return f": {errors[0]}" if errors else ""

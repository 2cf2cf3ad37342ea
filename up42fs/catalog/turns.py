"""Decides which of an account's processes on a host refreshes the catalogue for all. Pure.

Theory. One process is *elected*: it holds the lock of a file, asks UP42, and writes what changed to
the snapshot. The others *follow*: they look whether the snapshot changed, and ask UP42 for nothing.
A follower that wants a refresh (a user asked for it, or its interval is shorter) leaves a *wish*,
which the elected process carries out. The kernel gives the lock back when a process dies, and the
next one that looks has it. A process that holds the lock and does nothing (it was stopped, its disk
hangs) looks like one that works, except that it grants no wish: then the followers ask UP42
themselves, in turn, until it is back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: The longest time between two looks at the snapshot, seconds.
LOOK_S = 2.0
#: A refresh may be that late before a follower wishes for one, seconds: looks, and the request.
SLACK_S = 5.0
#: A wish that is not granted within that time, with no sign of life, ends the following, seconds.
HUNG_S = 60.0
#: The longest that the end of a refresh waits for its rows to be stored, seconds.
STORED_S = 5.0


@dataclass(frozen=True, slots=True)
class Notice:
    """The latest report of the elected process: times in seconds since 1970, by listing."""

    tried_s: Mapping[str, float] = field(default_factory=dict)
    refreshed_s: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    #: The last sign of life.
    alive_s: float = 0.0

    def after(self, listing: str, now_s: float, error: str | None = None) -> Notice:
        """The notice once a refresh of `listing` ended, with `error` if it failed."""
        errors = {name: text for name, text in self.errors.items() if name != listing}
        refreshed_s = dict(self.refreshed_s)
        if error is None:
            refreshed_s[listing] = now_s
        else:
            errors[listing] = error
        return Notice({**self.tried_s, listing: now_s}, refreshed_s, errors, now_s)

    def document(self) -> dict[str, object]:
        """The notice as JSON holds it."""
        return {
            "tried": dict(self.tried_s),
            "refreshed": dict(self.refreshed_s),
            "errors": dict(self.errors),
            "alive": self.alive_s,
        }


def parse_notice(document: Any) -> Notice | None:
    """A notice out of a file that anything may have written; None if it is none."""
    if not isinstance(document, dict):
        return None
    tried, refreshed = _times(document.get("tried")), _times(document.get("refreshed"))
    errors, alive = document.get("errors"), _times({"": document.get("alive")})
    if tried is None or refreshed is None or alive is None or not isinstance(errors, dict):
        return None
    texts = {kind: text for kind, text in errors.items() if isinstance(text, str)}
    return Notice(tried, refreshed, texts, alive[""])


def _times(values: Any) -> dict[str, float] | None:
    if not isinstance(values, dict):
        return None
    found = {kind: float(one) for kind, one in values.items() if isinstance(one, int | float)}
    return found if len(found) == len(values) and all(map(math.isfinite, found.values())) else None


class Act(Enum):
    """The next step of a follower after a look."""

    REST = "nothing"
    WISH = "ask the elected process for a refresh"
    ASK = "ask UP42 itself: the elected process hangs"


def act(
    notice: Notice | None,
    *,
    now_s: float,
    refresh_s: float,
    following_since_s: float,
    wished_s: float | None,
    hung_s: float = HUNG_S,
) -> Act:
    """Decide what a follower does at `now_s`; `wished_s` is when it left its ungranted wish."""
    tried_s = min(notice.tried_s.values(), default=0.0) if notice is not None else 0.0
    alive_s = max(tried_s, notice.alive_s) if notice is not None else 0.0
    # A clock that was set back must not make a refresh of the future count for ever.
    tried_s, alive_s = (one if one <= now_s + SLACK_S else 0.0 for one in (tried_s, alive_s))
    slack_s = min(SLACK_S, hung_s)
    if now_s - max(tried_s, following_since_s) <= refresh_s + slack_s:
        return Act.REST
    if wished_s is None or wished_s > now_s:
        return Act.WISH
    if now_s - max(wished_s, alive_s) > hung_s:
        return Act.ASK
    return Act.REST


def look_s(refresh_s: float) -> float:
    """The time between two looks of a process with this interval, seconds."""
    return max(0.1, min(LOOK_S, refresh_s / 2))

"""The hidden files of `.up42fs/`: the mount's state."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping

from up42fs.fs.hidden import CHANGES, LOG, REFRESH, STATUS
from up42fs.fs.privacy import refusal, status_for_others
from up42fs.fs.readme import NAME as README_TXT

README = b"""\
This directory is made by up42fs; nothing in it lies in UP42 storage.

status.json   what is mounted, how fresh it is, what was read and fetched
refresh       touched or read, it makes the mount look for changes at once
metrics       the same counters in Prometheus' text format
log           the last lines of the log; up42fs log shows more
changes       with -o rw: edits of titles and tags; take one back by: up42fs undo MOUNTPOINT

Attributes of any asset:      getfattr -d FILE
The API's own description:    getfattr -n user.up42.json --only-values FILE
A presigned link to share:    getfattr -n user.up42.download_url --only-values FILE
Unmount:                      up42fs unmount MOUNTPOINT
"""


class VirtualFiles:
    """Named documents rendered on open; for a link, its target."""

    def __init__(
        self,
        status: Callable[[], Mapping[str, object]],
        metrics: Callable[[], str],
        changes: Callable[[], bytes] | None = None,
        log: Callable[[], bytes] | None = None,
        readme: bytes | None = None,
    ) -> None:
        self._status = status
        self._renderers: dict[str, Callable[[], bytes]] = {
            "README": lambda: README,
            REFRESH: os.devnull.encode,
            "metrics": lambda: metrics().encode(errors="replace"),
            STATUS: lambda: _json(status()),
        }
        if changes is not None:
            self._renderers[CHANGES] = changes
        if log is not None:
            self._renderers[LOG] = log
        #: Names that stand at the top, and not in the hidden directory.
        self.at_top: tuple[str, ...] = ()
        if readme is not None:
            self.at_top = (README_TXT,)
            self._renderers[README_TXT] = lambda: readme

    def names(self) -> Iterable[str]:
        return [name for name in self._renderers if name not in self.at_top]

    def render(self, name: str, *, is_trusted: bool = True) -> bytes:
        """Render the document now; raises NotShared if other users may not read it."""
        if not is_trusted and name in (CHANGES, LOG):
            raise refusal(name)
        if not is_trusted and name == STATUS:
            return _json(status_for_others(self._status()))
        return self._renderers[name]()


def _json(status: Mapping[str, object]) -> bytes:
    return (json.dumps(status, indent=2) + "\n").encode()

"""How long the kernel lets a FUSE request take, where the administrator of the machine set a limit.

There are two settings, of Linux 6.14 and later.

Theory. `fs.fuse.default_request_timeout` and `fs.fuse.max_request_timeout` are in seconds, and 0
means none. The kernel takes the lower of the two that are set, at least `LEAST_S`, when a file
system is mounted. It looks every 15 s, and if one request is older than the limit it ends the
whole mount. So everything must be answered well before: within `SHARE` of the limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

PLACE = Path("/proc/sys/fs/fuse")
SETTINGS = ("default_request_timeout", "max_request_timeout")
#: Sets no limit; what is mounted keeps its own.
CURE = "sudo sysctl fs.fuse.default_request_timeout=0 fs.fuse.max_request_timeout=0"
#: Names a directory that takes the place of `PLACE`, for tests.
PLACE_VARIABLE = "UP42FS_FUSE_SETTINGS"
#: The kernel looks no more often, and enforces no lower limit.
LEAST_S = 15.0
#: The part of the limit that we use: a request may have waited before we saw it.
SHARE = 0.8


def limit_s(read: Callable[[str], str | None]) -> float | None:
    """The kernel's limit, None for none; `read` returns the text of a setting, None for none."""
    texts = [(read(name) or "").strip() for name in SETTINGS]
    set_s = [int(text) for text in texts if text.isascii() and text.isdecimal() and int(text)]
    return max(LEAST_S, float(min(set_s))) if set_s else None


def of_this_machine() -> float | None:
    """The limit that a mount gets which is made now."""
    place = Path(os.environ.get(PLACE_VARIABLE) or PLACE)

    def read(name: str) -> str | None:
        try:
            return (place / name).read_text(encoding="ascii", errors="replace")
        except OSError:
            return None

    return limit_s(read)


def usable_s(limit_s: float) -> float:
    """Within what every request is answered under this limit."""
    return SHARE * limit_s

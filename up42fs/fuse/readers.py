"""Which program a request comes from, by the process ID in it. Knows /proc and nothing else."""

from __future__ import annotations

import os

UNKNOWN = "?"
#: Name and Tgid stand within the first lines of a status; a name has 15 bytes, 60 if escaped.
_HEAD_BYTES = 512


def program_of(thread_id: int) -> str:
    """Name of the program that the thread belongs to, as the kernel keeps it (15 bytes).

    `?` where it is gone, or not visible from here (a container's).
    """
    if thread_id <= 0:
        return UNKNOWN
    try:
        name, process_id = _status(thread_id)
        # A thread may have a name of its own: the process's is meant.
        return name if process_id == thread_id else _status(process_id)[0]
    except (OSError, ValueError, KeyError):
        return UNKNOWN


def _status(process_id: int) -> tuple[str, int]:
    # The kernel writes it on the spot: reading it waits for nothing. Each open of a file comes
    # here, and a file object with its decoder costs three times as much as these calls.
    descriptor = os.open(f"/proc/{process_id}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, _HEAD_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    lines = dict(line.partition(":\t")[::2] for line in text.split("\n")[:8])
    return lines["Name"], int(lines["Tgid"])

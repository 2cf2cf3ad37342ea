"""Which program a request comes from, by the process ID in it. Knows /proc and nothing else."""

from __future__ import annotations

from pathlib import Path

UNKNOWN = "?"
_PROC = Path("/proc")


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
    # The kernel writes it on the spot: reading it waits for nothing.
    text = (_PROC / str(process_id) / "status").read_text(encoding="utf-8", errors="replace")
    lines = dict(line.partition(":\t")[::2] for line in text.splitlines()[:8])
    return lines["Name"], int(lines["Tgid"])

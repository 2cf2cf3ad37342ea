"""A reader that says what it needs: nothing is guessed, and nothing more is fetched. Pure."""

from __future__ import annotations

from up42fs.core.access import Access, Coverage, Plan
from up42fs.types import ByteRange


class Exact(Access):
    """Plans for one handle as `Access` does, but for the bytes that are asked for alone."""

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:  # noqa: ARG002
        """The missing bytes of `read`, each hole one request."""
        return Plan(demand=tuple(have.missing(read)))

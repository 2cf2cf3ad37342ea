"""Why there is no picture."""

from __future__ import annotations


class NoPictureError(Exception):
    """There is no picture of the file; the text says why."""

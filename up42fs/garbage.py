"""Garbage collection, which is off while much is loaded that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """Turn garbage collection off: it would find no garbage and take longer than loading.

    Blocks of several threads may overlap: it is on again at the latest when the last one ends.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

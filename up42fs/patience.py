"""How long up42fs waits for others, and the one way to make all of it shorter.

`UP42FS_HURRY=5` divides every deadline that guards against a slow or silent network by five, so
that tests of thirty-second deadlines need six seconds. It is no setting: shorter deadlines give up
on lines that are merely slow. Knows nothing of what is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

HURRY_VARIABLE = "UP42FS_HURRY"
LARGEST_HURRY = 60.0


def hurry(environ: Mapping[str, str]) -> float:
    """By what all waits are divided: 1 unless the variable holds a number from 1 to 60."""
    try:
        wanted = float(environ.get(HURRY_VARIABLE, "1"))
    except ValueError:
        return 1.0
    return wanted if 1.0 <= wanted <= LARGEST_HURRY else 1.0


_HURRY = hurry(os.environ)


def patient_s(seconds: float) -> float:
    """`seconds`, or the part of it that is left in a hurry."""
    return seconds / _HURRY

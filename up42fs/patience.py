"""How long up42fs waits for others, and what makes all of it shorter.

`UP42FS_HURRY=5` divides every deadline that guards against a slow or silent network by five, so
that tests of thirty-second deadlines need six seconds. It is no setting: shorter deadlines give up
on lines that are merely slow. Where the kernel limits requests (`request_limit`), the deadlines of
what waits for an answer of ours are shortened, in proportion, so that the longest ends in time.
Work in the background takes as long as ever. Knows nothing of what is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from up42fs import request_limit

HURRY_VARIABLE = "UP42FS_HURRY"
LARGEST_HURRY = 60.0
#: The longest deadline of a request, and of one that waits for a first listing. The second is
#: shortened less: see `at_most_s`.
LONGEST_S = 35.0
LISTING_S = 103.0


def hurry(environ: Mapping[str, str]) -> float:
    """By what all waits are divided: 1 unless the variable holds a number from 1 to 60."""
    try:
        wanted = float(environ.get(HURRY_VARIABLE, "1"))
    except ValueError:
        return 1.0
    return wanted if 1.0 <= wanted <= LARGEST_HURRY else 1.0


def share(hurry: float, limit_s: float | None) -> float:
    """The part of every deadline that is left: 1 unless there is a hurry or a low limit."""
    left = 1.0 / hurry
    return left if limit_s is None else min(left, request_limit.usable_s(limit_s) / LONGEST_S)


#: The kernel's limit of a request, seconds, as it was when this process began; None for none.
LIMIT_S = request_limit.of_this_machine()
_HURRY = hurry(os.environ)
_SHARE = share(_HURRY, LIMIT_S)


def patient_s(seconds: float) -> float:
    """`seconds`, or the part of it that is left in a hurry."""
    return seconds / _HURRY


def request_s(seconds: float) -> float:
    """Likewise for what a request of the kernel waits for, and less under a limit of the kernel."""
    return seconds * _SHARE


def is_enough(limit_s: float) -> bool:
    """Whether no deadline is shortened under this limit of the kernel."""
    return request_limit.usable_s(limit_s) >= LISTING_S


def at_most_s(seconds: float) -> float:
    """`seconds`, or as many as a request may take at most."""
    return seconds if LIMIT_S is None else min(seconds, request_limit.usable_s(LIMIT_S))

"""Which of several processes fetches a range that none of them has on disk: the decisions. Pure.

Theory. A process *claims* a range before it requests it, and gives the claim back once the bytes
are on disk, or will not be. A claim is a lock on as many bytes of a file that all processes share
(`disk.locks`); each object has a region of its own there. A process that finds a range claimed
waits: then it either finds the bytes on disk, or gets the claim, because the other process died,
failed, or had no room for the bytes. It does not wait for ever, and not for a process whose bytes
never come: then it fetches the range itself. That costs bytes, never correctness.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

from up42fs.types import ByteRange

#: An object has this many bits of offsets in the lock file, whose offsets have 63. Two objects that
#: share a region wait for each other in vain at times, and lose nothing else.
PLACE_BITS = 40
_OBJECT_BITS = 62 - PLACE_BITS
#: The longest that a reader waits for another process, seconds, and the share of its time left.
WANTED_S = 2.0
WANTED_SHARE = 1 / 3
#: The longest that read-ahead waits, seconds.
AHEAD_S = 5.0
#: After so many waits in a row that brought no bytes, nobody is waited for, for some seconds.
MOST_VAIN = 2
ALONE_S = 30.0
#: The shortest and the longest time between two looks, seconds.
FIRST_LOOK_S = 0.01
LAST_LOOK_S = 0.1


def region(object_id: str, span: ByteRange) -> ByteRange | None:
    """The bytes of the lock file that stand for `span`; None if the object is too large."""
    if span.stop > 1 << PLACE_BITS:
        return None
    digest = blake2b(object_id.encode(errors="surrogatepass"), digest_size=8).digest()
    base = (int.from_bytes(digest, "big") >> (64 - _OBJECT_BITS)) << PLACE_BITS
    return ByteRange(base + span.start, base + span.stop)


class Next(Enum):
    """What to do about a range after a look at the disk."""

    LOAD = "its first byte is on disk"
    FETCH = "request it"
    WAIT = "another process fetches it: look again after a pause"


def decide(*, is_held: bool, is_ours: bool, waited_s: float, patience_s: float) -> Next:
    """Decide after a look. `is_held`: the first byte is on disk; `is_ours`: the range is claimed by
    this process.
    """
    if is_held:
        return Next.LOAD
    if is_ours or waited_s >= patience_s:
        return Next.FETCH
    return Next.WAIT


def pause_s(waited_s: float) -> float:
    """The time to the next look, seconds: it grows with the time waited."""
    return min(LAST_LOOK_S, max(FIRST_LOOK_S, waited_s / 4))


@dataclass(slots=True)
class Patience:
    """How long the readers of one object wait for other processes."""

    vain: int = 0
    alone_until_s: float = float("-inf")

    def longest_s(self, now_s: float, *, wanted: bool, left_s: float) -> float:
        """The longest wait for a range; `left_s` is the time until its deadline."""
        if now_s < self.alone_until_s:
            return 0.0
        return min(WANTED_S, max(0.0, left_s * WANTED_SHARE)) if wanted else AHEAD_S

    def waited(self, now_s: float, *, brought: bool) -> None:
        """Note a wait that ended now, and whether it brought bytes."""
        self.vain = 0 if brought else self.vain + 1
        if self.vain >= MOST_VAIN:
            self.vain, self.alone_until_s = 0, now_s + ALONE_S

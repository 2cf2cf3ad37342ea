"""Inode numbers: the number of each node, and how long it must be kept.

Theory. The kernel holds a reference to an inode for every lookup that was answered and returns it
with `forget`. Rules:
1. A number is derived from the node's key, so it is the same in every mount (design §2). If two
   keys have the same hash (1 in 2^63), the first keeps the number and probing finds another.
2. A lookup count changes only in `remember` and `forget`; at zero the number is dropped. The same
   number is derived again when the node is next used.
3. No await in this file: count and table change together.
4. A node that left the storage keeps its number while the kernel holds it: the file system finds
   the node and raises an error, instead of mistaking it for another one.
5. `renew` gives a key another number while the kernel still holds the old one, which continues to
   refer to the same key. Users always see the first number (`shown`). The key keeps its last number
   until the kernel has given back all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Generic, TypeVar

ROOT_INODE = 1

K = TypeVar("K", bound=Hashable)


def derive_inode(text: str) -> int:
    """A 63-bit inode number, above the root's, from a key's text form."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "little") >> 1
    return max(number, ROOT_INODE + 1)


class InodeTable(Generic[K]):
    """Numbers of the nodes that the kernel knows, with their lookup counts.

    `derive` returns a key's number: ROOT_INODE for the root, else above that and below 2^63.
    """

    def __init__(self, root: K, derive: Callable[[K], int] | None = None) -> None:
        self._derive = derive or (lambda key: ROOT_INODE if key == root else derive_inode(str(key)))
        self._keys: dict[int, K] = {ROOT_INODE: root}
        self._counts: dict[int, int] = {}
        #: Numbers of keys that differ from the derived ones: hardly ever any.
        self._moved: dict[K, int] = {}
        #: Renewed key -> all its numbers; and each of those -> the number that users see.
        self._renewed: dict[K, set[int]] = {}
        self._first: dict[int, int] = {}
        self._renewals = itertools.count(1)

    def number(self, key: K) -> int:
        """The number of `key`, without taking a reference."""
        number = self._derive(key)
        if self._keys.get(number, key) == key and not self._moved:
            return number
        moved = self._moved.get(key)
        if moved is not None and self._keys.get(moved, key) == key:
            return moved
        if self._keys.get(number, key) != key:
            while self._keys.get(number, key) != key:
                number += 1
            self._moved[key] = number
        return number

    def renew(self, key: K) -> int:
        """Give `key` a number that it never had, and return it."""
        old = self.number(key)
        number = derive_inode(f"{key}#{next(self._renewals)}")
        while number in self._keys or number in self._first:
            number += 1
        first = self._first.get(old, old)
        self._renewed.setdefault(key, {old}).add(number)
        self._first[old] = self._first[number] = first
        self._moved[key] = number
        return number

    def shown(self, number: int) -> int:
        """The number that users see for `number`."""
        return self._first.get(number, number) if self._first else number

    def remember(self, key: K, number: int | None = None) -> int:
        """Take one reference on `key` and return its number.

        Pass `number` to save deriving it, if `number(key)` has just returned it.
        """
        if number is None:
            number = self.number(key)
        count = self._counts.get(number)
        if count is None:
            self._keys[number] = key
            self._counts[number] = 1
        else:
            self._counts[number] = count + 1
        return number

    def forget(self, number: int, count: int) -> None:
        """Drop `count` references; never raises, even if the kernel's count is wrong."""
        left = self._counts.get(number, 0) - count
        if left > 0:
            self._counts[number] = left
            return
        self._counts.pop(number, None)
        if number != ROOT_INODE and number in self._keys:
            self._unname(self._keys.pop(number))

    def _unname(self, key: K) -> None:
        """Clean up after the kernel dropped a number of `key`."""
        numbers = self._renewed.get(key)
        if numbers is None:
            self._moved.pop(key, None)
        elif not any(number in self._keys for number in numbers):
            del self._renewed[key], self._moved[key]
            for number in numbers:
                del self._first[number]

    def key(self, number: int) -> K | None:
        """The node of a number that the kernel holds, or None."""
        return self._keys.get(number)

    def count(self, number: int) -> int:
        """References that the kernel holds on `number`."""
        return self._counts.get(number, 0)

    def holds(self, key: K) -> bool:
        """Whether the kernel holds a reference on `key` (the root always counts as held)."""
        return self._keys.get(self.number(key)) == key

    def held(self, key: K) -> list[int]:
        """All numbers of `key` that the kernel holds: several after a renewal."""
        numbers = self._renewed.get(key) or (self.number(key),)
        return [number for number in numbers if self._keys.get(number) == key]

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<InodeTable {len(self)} inodes, {sum(self._counts.values())} references>"

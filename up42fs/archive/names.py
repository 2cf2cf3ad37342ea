"""Paths of members: decoded, safe, and unique within their archive.

Theory. Member names are hostile input, and archives hold files that refer to one another by name.
So a name stays exactly as it is if a path may hold it; it is neither composed nor trimmed, nor
cut to the shorter length that names from UP42 get. Rules:
1. `/` separates. Empty parts, `.` and `..` are left out, as by `unzip` and Python, so no path
   leaves its archive: `/etc/x` becomes `etc/x`, `../x` becomes `x`.
2. A NUL ends a name, as for all unpackers. Control characters, and those that reverse or hide
   text, become `_`, as in all names of this file system. A part has at most 255 bytes of UTF-8.
3. A directory keeps its name, because other members stand in it. Of several files of one path the
   last one has it, since that is what unpacking would leave; the others stay, as `x [1].txt`,
   `x [2].txt` in the archive's order. A name that rules 1 and 2 changed yields to an honest one.
4. A symlink is shown only if its target is relative and stays inside (`safe_target`).

Rejected: clamping at the top alone (`../x` would replace `x`); leaving members out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from up42fs.archive.table import MOST_ENTRIES, TooLargeError
from up42fs.model.names import safe_character, split_extension

#: Linux's own limit. Archives refer to their members by name, so there is no room for suffixes.
MAX_NAME_BYTES = 255
#: Parts of a path; deeper ones are joined. It bounds the directories that a name can make.
MAX_DEPTH = 64
#: Linux's limit for the target of a symlink, with its NUL.
MAX_TARGET_BYTES = 4095
#: Room for the number of a duplicate, ` [100000]`.
_SUFFIX_BYTES = 9

#: A part that is left out, or that is not safe as it is.
_ODD = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")


class Wish(NamedTuple):
    """A member's path before clashes: safe, "" for the top."""

    path: str
    is_directory: bool
    #: Whether it is the member's own name, unchanged.
    is_exact: bool


def decoded(raw: bytes, *, fallback: str = "cp437") -> str:
    """The name in UTF-8 if its bytes are valid, else in `fallback`, which must know all bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(fallback)


def wish(name: str, *, is_directory: bool = False) -> Wish:
    """The path for a decoded name, by rules 1 and 2. A `/` at its end makes a directory."""
    shown = name.partition("\0")[0]
    is_directory = is_directory or shown.endswith("/")
    plain = shown[:-1] if shown.endswith("/") else shown
    if shown == name and _is_safe(plain):
        return Wish(plain, is_directory, is_exact=True)
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    if len(parts) > MAX_DEPTH:
        parts[MAX_DEPTH - 1 :] = ["_".join(parts[MAX_DEPTH - 1 :])]
    path = "/".join(_cut("".join(map(safe_character, part))) for part in parts)
    if not path and not is_directory:
        path = "_"  # a file without a name is a file all the same
    # `./a` is how many tars spell `a`.
    return Wish(path, is_directory, shown == name and path == plain.removeprefix("./"))


def unique_paths(wishes: Sequence[Wish]) -> list[str | None]:
    """A path for each member, by rule 3; None for a directory that another entry stands for.

    Raises TooLargeError if the paths need too many directories.
    """
    directories = _directories(wishes)
    holders = _holders(wishes)
    taken = directories.keys() | holders.keys()
    numbers: dict[tuple[str, str], int] = {}
    paths: list[str | None] = []
    for number, (path, is_directory, _) in enumerate(wishes):
        if is_directory:
            paths.append(path if path and directories[path] == number else None)
        elif path not in directories and holders[path] == number:
            paths.append(path)
        else:
            paths.append(_numbered(path, taken, numbers))
    return paths


def safe_target(path: str, target: str, is_directory: Callable[[str], bool]) -> str | None:
    """The target of the symlink at `path`, if the kernel cannot leave the archive by it.

    `is_directory` tells whether a path is a real directory of the archive. A `..` behind anything
    else could lead out, because the kernel would follow the symlink there first.
    """
    if not target or target.startswith("/") or len(target.encode()) > MAX_TARGET_BYTES:
        return None
    place = path.split("/")[:-1]
    is_real = True
    for part in target.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not is_real or not place:
                return None
            place.pop()
        elif not _is_safe(part):
            return None
        else:
            place.append(part)
            is_real = is_real and is_directory("/".join(place))
    return target


def _is_safe(path: str) -> bool:
    # The common case: no character to look at one by one.
    if path.isascii() and path.isprintable() and len(path) <= MAX_NAME_BYTES:
        return not _ODD.search(path) and path.count("/") < MAX_DEPTH
    parts = path.split("/")
    return len(parts) <= MAX_DEPTH and all(
        part not in ("", ".", "..")
        and len(part.encode(errors="replace")) <= MAX_NAME_BYTES
        and all(safe_character(character) == character for character in part)
        for part in parts
    )


def _directories(wishes: Sequence[Wish]) -> dict[str, int]:
    """All directories, each with the number of the entry that stands for it, -1 if none does."""
    found = {"": -1}
    for number, (path, is_directory, is_exact) in enumerate(wishes):
        if is_directory:
            before = found.get(path, -1)
            if before < 0 or is_exact or not wishes[before].is_exact:
                found[path] = number
        parent = path.rpartition("/")[0]
        while parent not in found:
            found[parent] = -1
            parent = parent.rpartition("/")[0]
        if len(found) > MOST_ENTRIES:
            raise TooLargeError(f"it has more than {MOST_ENTRIES} members and directories")
    return found


def _holders(wishes: Sequence[Wish]) -> dict[str, int]:
    """The number of the file that has each path plain, if no directory has it."""
    found: dict[str, int] = {}
    for number, (path, is_directory, is_exact) in enumerate(wishes):
        if not is_directory:
            before = found.get(path)
            if before is None or is_exact or not wishes[before].is_exact:
                found[path] = number
    return found


def _numbered(path: str, taken: set[str], numbers: dict[tuple[str, str], int]) -> str:
    parent, slash, name = path.rpartition("/")
    stem, extension = split_extension(name)
    stem = _cut(stem, MAX_NAME_BYTES - _SUFFIX_BYTES - len(extension.encode()))
    # Names that are equal once cut share one count: else each would try all numbers before its own.
    key = (parent + slash + stem, extension)
    while True:
        number = numbers[key] = numbers.get(key, 0) + 1
        found = f"{key[0]} [{number}]{extension}"
        if found not in taken:
            taken.add(found)
            return found


def _cut(part: str, most: int = MAX_NAME_BYTES) -> str:
    raw = part.encode(errors="replace")
    if len(raw) <= most:
        return part
    extension = split_extension(part)[1]
    return raw[: most - len(extension.encode())].decode(errors="ignore") + extension

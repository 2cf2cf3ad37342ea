"""The orders in which tools read the files of one directory.

A tool takes the entries in `readdir` order (find, tar, grep -r, Python), sorts them by code points
(rsync, the shell in the C locale), by locale (the shell's `*` in other locales), by the numbers in
them (file managers, `ls -v`), or by inode number (cp -r, rm: coreutils do so for locality on disk).
It may go backwards, and it may take only files of one suffix (`*.tif`). One such way through a
directory is a *course*. No locale is looked up: the daemon's may differ from the reader's.
`locale_key` is the order of ISO 14651 as glibc 2.28 and later have it in nearly all locales, for
Latin letters, digits and ASCII; the tests compare it with the library's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

#: Larger directories are followed only in the orders that need no sort key, in files.
MOST_SORTED = 4096

_DIGITS = re.compile(r"(\d+)")


class SortOrder(Enum):
    """How a directory's files are sorted."""

    LISTED = auto()
    NAME = auto()
    LOCALE = auto()
    NATURAL = auto()
    INODE = auto()


@dataclass(frozen=True, slots=True)
class Course:
    """One way through a directory: an order, forward (1) or backward (-1), of one suffix or all."""

    order: SortOrder
    step: int = 1
    suffix: str | None = None


@dataclass(frozen=True, slots=True)
class _Sorted:
    """File IDs in one order, and the index of each."""

    files: Sequence[str]
    places: Mapping[str, int]


class Folder:
    """The readable files of one directory: `names` by file ID, in the order they are listed."""

    def __init__(
        self, key: str, names: Mapping[str, str], inode_of: Callable[[str], int] = hash
    ) -> None:
        self.key = key
        self._names = names
        self._inode_of = inode_of
        self._lines: dict[tuple[SortOrder, str | None], _Sorted] = {}

    def __contains__(self, file: str) -> bool:
        return file in self._names

    def __len__(self) -> int:
        return len(self._names)

    def courses(self, first: str, second: str) -> list[Course]:
        """The courses on which `second` follows `first`, likelier ones first."""
        return [c for c in self._all_courses(second) if self.distance(c, first, second) == 1]

    def beginning(self, course: Course) -> str | None:
        """The first file of a course."""
        files = self._line(course).files
        return files[0 if course.step > 0 else -1] if files else None

    def distance(self, course: Course, one: str, other: str) -> int | None:
        """Files from `one` to `other`, negative if it comes before; None if not on the course."""
        places = self._line(course).places
        if one not in places or other not in places:
            return None
        return (places[other] - places[one]) * course.step

    def after(self, course: Course, file: str) -> Iterator[str]:
        """The files that follow `file` on a course."""
        line = self._line(course)
        place = line.places.get(file)
        while place is not None:
            place += course.step
            if not 0 <= place < len(line.files):
                return
            yield line.files[place]

    def suffix(self, file: str) -> str:
        """The suffix of the file's name, from the last dot on, in lower case."""
        return _suffix(self._names[file])

    def _all_courses(self, file: str) -> Iterator[Course]:
        orders = (
            SortOrder
            if len(self) <= MOST_SORTED
            else (SortOrder.LISTED, SortOrder.NAME, SortOrder.INODE)
        )
        for step in (1, -1):
            for order in orders:
                yield Course(order, step)
                if len(self._line(Course(order, step, self.suffix(file))).files) < len(self):
                    yield Course(order, step, self.suffix(file))

    def _line(self, course: Course) -> _Sorted:
        line = self._lines.get((course.order, course.suffix))
        if line is None:
            line = self._lines[course.order, course.suffix] = self._shared(self._sorted(course))
        return line

    def _sorted(self, course: Course) -> list[str]:
        if course.suffix is not None:
            files = self._line(Course(course.order)).files
            return [file for file in files if self.suffix(file) == course.suffix]
        names = self._names
        match course.order:
            case SortOrder.LISTED:
                return list(names)
            case SortOrder.NAME:
                return sorted(names, key=lambda file: names[file])
            case SortOrder.INODE:
                return sorted(names, key=self._inode_of)
            case SortOrder.LOCALE:
                return sorted(names, key=lambda file: locale_key(names[file]))
            case SortOrder.NATURAL:
                return sorted(names, key=lambda file: natural_key(names[file]))

    def _shared(self, files: list[str]) -> _Sorted:
        # Orders mostly agree, and a line of many files is large, so equal ones are shared.
        for line in self._lines.values():
            if line.files == files:
                return line
        return _Sorted(files, {file: place for place, file in enumerate(files)})


def locale_key(name: str) -> tuple[str, str, str, str]:
    """Sort key of names as in glibc's locales: letters and digits first, punctuation only on a tie.

    The levels of ISO 14651: base letters, accents from the end backwards, case (small letters
    first), and last all characters, including punctuation.
    """
    return (
        name.translate(_LETTERS),
        name.translate(_ACCENTS),
        name.translate(_CASES),
        name.translate(_RANKS),
    )


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key of names by the numbers in them: scene_2 before scene_10."""
    pieces = _DIGITS.split(name.casefold())
    numbered = (int(piece) if place % 2 else piece for place, piece in enumerate(pieces))
    return tuple(numbered), name


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


class _Level(dict[int, str]):
    """One level's weights by code point, for `str.translate`; computed on first use."""

    def __init__(self, weigh: Callable[[str], str]) -> None:
        super().__init__()
        self._weigh = weigh

    def __missing__(self, code: int) -> str:
        found = self._weigh(chr(code))
        if len(self) < _MOST_WEIGHTS:
            self[code] = found
        return found


#: Weights remembered for each level: names come from other people, and Unicode is large.
_MOST_WEIGHTS = 2048
#: Characters in the order of the last level, as far as names contain them.
_IN_ORDER = (
    " !\"#%&'()*+,-./:;<=>?@[\\]^_`{|}~$0123456789"
    "aáàâåäãæbcçdðeéèêëfghiíìîïjklmnñoóòôöõøpqrsßtuúùûüvwxyýÿzþ"
    "AÁÀÂÅÄÃÆBCÇDÐEÉÈÊËFGHIÍÌÎÏJKLMNÑOÓÒÔÖÕØPQRSTUÚÙÛÜVWXYÝZÞ"
)
_PLACES = {char: chr(place + 1) for place, char in enumerate(_IN_ORDER)}
#: Combining marks in their order, and the marks that distinguish barred letters and ligatures.
_MARKS = "\u0301\u0300\u0306\u0302\u030c\u030a\u0308\u0303\u0307\u0338\u0327\u0328\u0304"
_BARRED, _VARIANT = chr(0x301), chr(0x302)
#: Letters that Unicode does not decompose: base letters, accents, whether they are ligatures.
_UNDIVIDED = {
    "æ": ("ae", f"0{_VARIANT}0", True),
    "œ": ("oe", f"0{_VARIANT}0", True),
    "ß": ("ss", f"0{_VARIANT}0", True),
    "ð": ("d", f"0{_VARIANT}", True),
    "ø": ("o", "0" + chr(ord("a") + _MARKS.index("\u0338")), False),
    "đ": ("d", f"0{_BARRED}", False),
    "ł": ("l", f"0{_BARRED}", False),
}


def _letters(char: str) -> str:
    if char.lower() in _UNDIVIDED:
        return _UNDIVIDED[char.lower()][0]
    divided = unicodedata.normalize("NFKD", char)
    return "".join(part.lower() for part in divided if not _is_ignored(part))


def _accents(char: str) -> str:
    if char.lower() in _UNDIVIDED:
        return _UNDIVIDED[char.lower()][1]
    return "".join(map(_accent, unicodedata.normalize("NFKD", char)))


def _accent(part: str) -> str:
    if unicodedata.combining(part):
        place = _MARKS.find(part)
        return chr(ord("a") + place) if place >= 0 else part
    return "" if _is_ignored(part) else "0"


def _cases(char: str) -> str:
    _, accents, is_ligature = _UNDIVIDED.get(char.lower(), ("", "", False))
    if is_ligature:  # the marks between the letters count as lower case
        return "".join(_case(char, 1) if one == "0" else "1" for one in accents)
    if accents:
        return _case(char, 0) + "0"
    divided = unicodedata.normalize("NFKD", char)
    return "".join(
        _case(part, 0) for part in divided if unicodedata.combining(part) or not _is_ignored(part)
    )


def _case(char: str, at_least: int) -> str:
    return str(at_least + (2 if char.isupper() else 0))


def _rank(char: str) -> str:
    place = _PLACES.get(char)
    return chr(ord(char) + len(_PLACES)) if place is None else place


def _is_ignored(part: str) -> bool:
    """Whether a character counts only on the last level: punctuation, symbols."""
    category = unicodedata.category(part)
    return category[0] in "PSZCM" and category != "Sc"


_LETTERS, _ACCENTS, _CASES = _Level(_letters), _Level(_accents), _Level(_cases)
_RANKS = _Level(_rank)

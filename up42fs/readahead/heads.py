"""Decides whether a file's head is fetched along with its size. The caller passes the time.

Theory. UP42 reports no size of transformed files; one range request of a file tells it. If that
request also asks for the file's head, a program that goes on to read the file saves a round trip; a
program that only wanted the size pays 128 KiB for nothing. So the head comes with the size if

- the program opens the file: that is no question of this module;
- or a program that is not known for wanting sizes alone (`SIZERS`) asks for a single size;
- or the caller, or the program (`LISTERS`), is known to read what it asks for.

A *storm* of questions brings sizes alone: a program has `passed` files, whose sizes it got and
which nobody opened before it asked for the next one. One passed file is enough; programs that are
known to read images (`READERS`) may pass `PATIENCE`. A file counts as passed only once the same
thread asks for another one, or after `GRACE_S`: the other threads of a program that reads files in
parallel ask before this one had time to open its own. Questions that are not answered yet prove
nothing, but no more than `MOST_AT_ONCE` heads are under way for a program.

An open of a passed file, by any program, ends the storm (a shell tests a file, `gdalinfo` opens
it). So does a pause of `PAUSE_S`.

Files whose sizes came alone have no head. When the second file of such a *company* (an item) is
opened, the heads of the others follow, as they would have come with their sizes: at most
`MOST_FOLLOWING` of them, and only as long as the links are valid that the sizes were asked with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

Value = TypeVar("Value")

#: A question within this time after the last answer continues a storm, seconds.
PAUSE_S = 2.0
#: Another thread's file that was not opened so long after its size was told is passed, seconds.
GRACE_S = 0.25
#: Files that a program known to read images may pass before sizes come alone.
PATIENCE = 4
#: Heads under way for one program.
MOST_AT_ONCE = 8
#: Programs and files remembered.
MOST_PROGRAMS = 64
MOST_FILES = 4096
#: Heads that follow the second open of a company, and how old their sizes may be, seconds: a link
#: is valid for five minutes.
MOST_FOLLOWING = 32
FRESH_S = 200.0

#: Programs that list sizes, and open nothing or only later. A name has 15 bytes at most.
SIZERS = frozenset({
    "[", "baobab", "broot", "caja", "dolphin", "dua", "du", "duf", "dust", "erd", "exa", "eza",
    "fd", "fdfind", "filelight", "find", "gdu", "getfattr", "kioworker", "lf", "ls", "lsd", "mc",
    "nautilus", "ncdu", "nemo", "nnn", "pcmanfm", "pcmanfm-qt", "plocate", "ranger", "rsync",
    "stat", "test", "thunar", "tree", "updatedb", "vdir", "vifm", "yazi",
})  # fmt: skip
#: Programs that look at many files and then read them all: `up42fs warm`.
LISTERS = frozenset({"up42fs"})
#: Beginnings of the names of programs that read images.
READERS = ("gdal", "ogr", "otb", "pdal", "qgis", "rio")


class Asker(NamedTuple):
    """The program and the thread that need a size; `will_read` where the caller knows that."""

    program: str = "?"
    thread: int = 0
    will_read: bool | None = None


@dataclass(slots=True)
class _Passing:
    """The questions of one program."""

    #: Unanswered questions with a head.
    under_way: int = 0
    #: Files whose sizes were told: their thread, and when.
    told: dict[str, tuple[int, float]] = field(default_factory=dict)
    passed: int = 0
    last_s: float = 0.0


class SizeQuestions:
    """The questions for unknown sizes of one mount."""

    def __init__(self) -> None:
        self._programs: OrderedDict[str, _Passing] = OrderedDict()
        #: File -> the program that got its size last.
        self._told: OrderedDict[str, str] = OrderedDict()
        #: File -> when its size came alone.
        self._alone: OrderedDict[str, float] = OrderedDict()
        #: Company -> its first opened file whose size came alone.
        self._opened: OrderedDict[str, str] = OrderedDict()

    def asked(self, asker: Asker, now_s: float) -> bool:
        """Whether to fetch the head of a file with its size, which `asker` needs.

        Call `answered` when the question is over, with what this returned.
        """
        known = _known(asker)
        if known is not None:
            return known
        program = self._program(asker.program, now_s)
        for file, (thread, told_s) in list(program.told.items()):
            if thread == asker.thread or now_s - told_s > GRACE_S:
                del program.told[file]
                program.passed += 1
        patience = PATIENCE if asker.program.startswith(READERS) else 1
        if program.passed >= patience or program.under_way >= MOST_AT_ONCE:
            return False
        program.under_way += 1
        return True

    def answered(
        self, asker: Asker, file: str, *, head: bool, is_known: bool, now_s: float
    ) -> None:
        """Note that a question for a file's size is over; `head` is what `asked` returned."""
        if is_known and not head:
            self.came_alone(file, now_s)
        if _known(asker) is not None:
            return
        program = self._program(asker.program, now_s)
        program.last_s = now_s
        if head:
            program.under_way = max(0, program.under_way - 1)
        if is_known:
            program.told[file] = (asker.thread, now_s)
            _put(self._told, file, asker.program, MOST_FILES)

    def came_alone(self, file: str, now_s: float) -> None:
        """Note that the size of a file was fetched without its head."""
        _put(self._alone, file, now_s, MOST_FILES)

    def opened(self, file: str, company: str | None) -> bool:
        """Note that a file is opened; whether the heads of its company's other files follow."""
        if not self._told and not self._alone:
            return False
        program = self._programs.get(self._told.pop(file, ""))
        if program is not None:
            program.told.clear()
            program.passed = 0
        if self._alone.pop(file, None) is None or company is None:
            return False
        first = self._opened.get(company)
        if first is None:
            _put(self._opened, company, file, MOST_PROGRAMS)
        return first is not None and first != file

    def following(self, files: Iterable[str], now_s: float) -> list[str]:
        """Those of a company's files whose heads follow; each is named once."""
        fresh = [file for file in files if now_s - self._alone.get(file, -FRESH_S) < FRESH_S]
        for file in fresh[:MOST_FOLLOWING]:
            del self._alone[file]
        return fresh[:MOST_FOLLOWING]

    def _program(self, name: str, now_s: float) -> _Passing:
        program = self._programs.get(name)
        if program is None:
            program = _put(self._programs, name, _Passing(last_s=now_s), MOST_PROGRAMS)
        self._programs.move_to_end(name)
        if now_s - program.last_s > PAUSE_S and not program.under_way:
            program.told.clear()
            program.passed = 0
        return program


def _known(asker: Asker) -> bool | None:
    """Whether a program reads the files whose sizes it wants, if that is known beforehand."""
    if asker.will_read is None and asker.program in SIZERS:
        return False
    return True if asker.will_read is None and asker.program in LISTERS else asker.will_read


def _put(held: OrderedDict[str, Value], key: str, value: Value, most: int) -> Value:
    """Store a value as the newest, and drop the oldest beyond `most`."""
    held[key] = value
    held.move_to_end(key)
    if len(held) > most:
        held.popitem(last=False)
    return value

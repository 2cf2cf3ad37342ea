"""Which files of a directory will be read next, and what of them to fetch before they are.

Knows files by ID, offsets and the time it is told: nothing of the network, names or inodes.

Theory. Tools read directories file by file: `gdalbuildvrt *.tif` the heads, `cp -r` everything,
`unzip -l` in a loop the tails. Each file costs a link and a range, one after the other, unless
the next ones are on their way by then. Asking too early costs links (rate-limited, alive for five
minutes) and bytes, so nothing is asked for on a guess alone:

- *Evidence* is a first read of a file (no listing, no `stat`, no open) that comes next after the
  last one read, on some course through the directory (`reading_order`). Two such files begin a
  *walk*; further files may come up to `REACH` early or late, since tools read in parallel and skip
  what they need not. Courses that stop agreeing are dropped, the best is followed. Where one walk
  has shown a course, the first file on it of another directory begins the next (`cp -r`).
- *What* is fetched follows what was read of the last two files: so much from the front, the tail,
  or all. Never past `FILE_BYTES` of a file: its reader will read ahead of itself.
- *How much*: the walk is one long run, over files instead of offsets. Beyond the present file at
  most twice the files and twice the bytes that the walk has read are asked for and unread, at most
  its share of the trust (below), and at most `window` files: `FIRST_WINDOW`, twice as many each
  time a file was needed before it was there, half as many when some were passed over. A slow
  walker needs no more.
- *What it may cost*: `Trust` is what may be asked for and unread at once, by all walks. Reading a
  file that was foreseen, whether it had been fetched or not, earns what was read of it; what was
  fetched and then not read is lost for good. Hence, in files and in bytes, whatever is read:
      wasted + unread  <=  first trust + read as foreseen,   and   unread  <=  most trust.
  Where guesses fail, trust runs out, and comes back when files are again read as foreseen.

A walk ends after `IDLE_S`, when a copier closes a file half read (it was interrupted), or when
others take its place; what it asked for is then wasted, and given up where it is not there yet.
A file read again within `IDLE_S` is the same visit: it proves nothing.
Rejected: asking for the next file's link after a single read (`gdalinfo` on one file must cost
one link); following every file that shares a directory (a catalogue of thousands is no order);
telling tools apart by process (a loop runs a process for each file).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from up42fs.ranges import ceil_to, floor_to
from up42fs.readahead.folder.order import Course, Folder
from up42fs.readahead.folder.trust import Trust
from up42fs.readahead.folder.walk import (
    FILE_BYTES,
    MOST_WINDOW,
    UNIT_BYTES,
    Asked,
    Visit,
    Walk,
    Want,
)
from up42fs.readahead.tuning import MIB

#: The most that is fetched ahead of a file whose size is unknown, in bytes.
UNKNOWN_BYTES = MIB
#: How long a walk or a visit is remembered without reads, seconds.
IDLE_S = 60.0
#: Walks that were read within so many seconds share what may be unread.
SHARING_S = 5.0
#: Walks, single visits and visits of any kind remembered.
MOST_WALKS = 8
MOST_LONE = 16
MOST_VISITS = 512
#: Courses of past walks that a new directory may take up, and files that make a course a habit.
MOST_HABITS = 4
HABIT_FILES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What one event calls for: fetches to begin, in this order, and files to give up."""

    ahead: tuple[Want, ...] = ()
    cancel: tuple[str, ...] = ()


class Siblings:
    """All walks of one mount. `size_of` tells a file's size in bytes, None while unknown."""

    def __init__(self, size_of: Callable[[str], int | None], most_bytes: int = 32 * MIB) -> None:
        self.trust = Trust(most_bytes)
        self._size_of = size_of
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._walks: list[Walk] = []  # least recently read first
        self._lone: OrderedDict[str, tuple[Folder, Visit]] = OrderedDict()
        self._habits: list[tuple[Course, Visit]] = []
        self._given_up: list[str] = []

    def on_first_read(
        self, folder: Folder, file: str, size: int, now_s: float, *, is_ready: bool
    ) -> Visit:
        """A handle of `file`, of `size` bytes, is read for the first time: whose visit this is.

        `is_ready` tells whether what was asked for ahead is there. Follow with `on_read`.
        """
        self._expire(now_s)
        visit = self._visits.get(file)
        if visit is not None and self._is_past(visit, now_s):
            self._forget(visit)
            visit = None
        if visit is None:
            visit = self._visits[file] = Visit(file, size, now_s)
            self._attribute(visit, folder, is_ready)
        visit.handles += 1
        return visit

    def on_read(self, visit: Visit, start: int, stop: int, now_s: float) -> Plan | None:
        """Bytes `[start, stop)` of a visited file are about to be read."""
        visit.touched_s = now_s
        gained = visit.touch(start, stop)
        walk = visit.walk
        if walk is None:
            return self._plan()
        walk.touched_s = now_s
        if gained:
            self._count(walk, visit, gained)
        if visit.front < visit.plan_at:
            return None
        visit.plan_at = visit.front + MIB
        return self._plan(self._next_wants(walk, visit))

    def on_close(self, visit: Visit) -> Plan | None:
        """A handle that was read is closed."""
        visit.handles -= 1
        if visit.handles:
            return None
        walk = visit.walk
        self._settle(visit)
        if walk is not None and walk in self._walks and self._was_cut_short(walk, visit):
            self._end(walk)
        return self._plan()

    # walks ---------------------------------------------------------------------------------

    def _attribute(self, visit: Visit, folder: Folder, is_ready: bool) -> None:
        """Find the walk that `visit` is a step of, or begin one, or keep it for later."""
        walk = self._walk_expecting(visit.file, folder)
        if walk is not None:
            self._step(walk, visit, is_ready)
            return
        walk = self._begun_by(visit, folder) or self._taken_up_by(visit, folder)
        if walk is None:
            self._lone[visit.file] = (folder, visit)
            if len(self._lone) > MOST_LONE:
                self._lone.popitem(last=False)
            return
        self._walks.append(walk)
        if len(self._walks) > MOST_WALKS:
            self._end(self._walks[0])

    def _walk_expecting(self, file: str, folder: Folder) -> Walk | None:
        for walk in reversed(self._walks):
            if walk.folder.key == folder.key:
                walk.folder = folder
                if walk.expects(file):
                    return walk
        return None

    def _step(self, walk: Walk, visit: Visit, is_ready: bool) -> None:
        self._walks.remove(walk)
        self._walks.append(walk)
        asked = walk.asked.pop(visit.file, None)
        if asked is not None:
            visit.unread = min(asked.size, visit.size)  # its size may not have been known
            self.trust.take(asked.size - visit.unread)
        visit.foreseen = True
        self.trust.earn(1, 0)
        walk.step(visit)
        late = walk.passed_over()
        for other in late:
            self._waste(walk, other)
        if late:
            walk.window = max(2, walk.window // 2)
        elif not is_ready:
            walk.window = min(MOST_WINDOW, 2 * walk.window)
        if walk.files == HABIT_FILES:
            self._remember_habit(walk, visit)

    def _begun_by(self, visit: Visit, folder: Folder) -> Walk | None:
        for before, first in reversed(self._lone.values()):
            courses = folder.courses(first.file, visit.file) if before.key == folder.key else []
            if courses:
                del self._lone[first.file]
                visit.foreseen = True
                return self._new_walk(folder, courses, [first, visit])
        return None

    def _taken_up_by(self, visit: Visit, folder: Folder) -> Walk | None:
        for course, example in reversed(self._habits):
            if len(folder) > 1 and folder.beginning(course) == visit.file:
                walk = self._new_walk(folder, [course], [visit])
                walk.recent.insert(0, example)
                walk.used_bytes += example.counted
                return walk
        return None

    def _new_walk(self, folder: Folder, courses: list[Course], visits: list[Visit]) -> Walk:
        walk = Walk(
            folder,
            scores=dict.fromkeys(courses, 0),
            places=dict.fromkeys(courses, visits[-1].file),
            recent=[],
            files=len(visits),
            used_bytes=sum(visit.counted for visit in visits),
            touched_s=visits[-1].touched_s,
        )
        for visit in visits:
            walk.add(visit)
        return walk

    def _remember_habit(self, walk: Walk, visit: Visit) -> None:
        best = max(walk.scores.values())
        courses = [course for course, score in walk.scores.items() if score == best]
        kept = [habit for habit in self._habits if habit[0] not in courses]
        self._habits = [*kept, *((course, visit) for course in courses)][-MOST_HABITS:]

    def _was_cut_short(self, walk: Walk, visit: Visit) -> bool:
        """Whether a copier closed a file half read."""
        others = [other for other in walk.recent if other is not visit]
        return bool(others) and all(v.is_whole for v in others) and not visit.is_whole

    def _expire(self, now_s: float) -> None:
        while self._walks and now_s - self._walks[0].touched_s > IDLE_S:
            self._end(self._walks[0])
        for visit in list(islice(self._visits.values(), 2)):  # two out for one in
            if self._is_past(visit, now_s) or len(self._visits) >= MOST_VISITS:
                self._forget(visit)
        self._habits = [h for h in self._habits if now_s - h[1].touched_s <= IDLE_S]

    def _is_past(self, visit: Visit, now_s: float) -> bool:
        return not visit.handles and now_s - visit.touched_s > IDLE_S

    def _forget(self, visit: Visit) -> None:
        self._settle(visit)
        self._visits.pop(visit.file)
        self._lone.pop(visit.file, None)

    # accounts ------------------------------------------------------------------------------

    def _count(self, walk: Walk, visit: Visit, gained: int) -> None:
        walk.used_bytes += gained
        if visit.foreseen:
            self.trust.earn(0, gained)
        read = min(visit.unread, gained)
        visit.unread -= read
        self.trust.unread_bytes -= read

    def _settle(self, visit: Visit) -> None:
        """No more of it will be read."""
        self.trust.lose(0, visit.unread)
        visit.unread = 0

    def _waste(self, walk: Walk, file: str) -> None:
        self.trust.lose(1, walk.asked.pop(file).size)
        self._given_up.append(file)

    def _end(self, walk: Walk) -> None:
        for file in list(walk.asked):
            self._waste(walk, file)
        self._walks.remove(walk)

    # what to ask for -----------------------------------------------------------------------

    def _next_wants(self, walk: Walk, present: Visit) -> list[Want]:
        if walk not in self._walks:
            return []
        trust, (front, tail) = self.trust, walk.shape(present)
        sharing = sum(present.touched_s - other.touched_s < SHARING_S for other in self._walks)
        files = min(walk.window, 2 * walk.files, trust.files // sharing) - len(walk.asked)
        files = min(files, trust.files - trust.unread_files)
        most = min(2 * walk.used_bytes, trust.bytes // sharing)
        room = most - sum(asked.size for asked in walk.asked.values()) - present.unread
        room = min(room, trust.bytes - trust.unread_bytes) - self._rest(present, front)
        wants = []
        for file in walk.ahead() if files > 0 and room > 0 else ():
            if file in walk.asked or file in self._visits:
                continue
            want, cost = self._want(file, front, tail, most)
            if not cost:
                continue
            if cost > room:
                break
            walk.asked[file] = Asked(cost)
            trust.ask(cost)
            wants.append(want)
            files, room = files - 1, room - cost
            if files <= 0:
                break
        return wants

    def _want(self, file: str, front: int, tail: bool, most: int) -> tuple[Want, int]:
        """What to fetch of `file`, its front cut to what `most` bytes hold; and its cost."""
        size = self._size_of(file)
        front = min(front, UNKNOWN_BYTES if size is None else size)
        fits = max(UNIT_BYTES, floor_to(most - UNIT_BYTES, UNIT_BYTES))
        want = Want(file, min(front, fits), tail)
        return want, want.cost(size)

    def _rest(self, present: Visit, front: int) -> int:
        """What will be read of the present file before the next one's turn, beyond `unread`."""
        stop = math.inf if front >= FILE_BYTES else front
        rest = min(stop, present.size) - ceil_to(present.front, UNIT_BYTES) - present.unread
        return max(0, int(rest))

    def _plan(self, ahead: list[Want] | None = None) -> Plan | None:
        cancel, self._given_up = self._given_up, []
        return Plan(tuple(ahead or ()), tuple(cancel)) if ahead or cancel else None

"""Predicts which files of a directory will be read next, and which bytes of them to prefetch.

Theory. Tools read directories file by file: `gdalbuildvrt *.tif` the heads, `cp -r` everything,
`unzip -l` in a loop the tails. Each file costs a link and a range, one after the other, unless the
next ones are already under way. Requests that come too early cost links (rate-limited, valid for
five minutes) and bytes, so nothing is requested on a guess alone:

- *Evidence* is a first read of a file (no listing, no `stat`, no open) that comes next after the
  last one read, on some course through the directory (`order`). Two such files begin a *walk*;
  further files may come up to `REACH` early or late, since tools read in parallel and skip files
  that they do not need. Courses that stop agreeing are dropped, the best is followed. Once a walk
  has shown a course, the first file on it of another directory begins the next walk (`cp -r`).
- *Ranges* follow the reads of the last two files: as much from the front, the tail, or everything.
  At most `FILE_BYTES` of a file: beyond that its reader's own read-ahead takes over.
- *Amount*: the walk is one long run, over files instead of offsets. Beyond the current file, the
  files and bytes requested and unread are at most twice those that the walk has read, at most its
  share of the trust (below), and at most `window` files: `FIRST_WINDOW`, doubled each time a file
  was needed before it had arrived, halved when some were passed over. A slow walker needs no more.
- *Cost*: `WalkTrust` bounds the bytes requested and unread at once, by all walks. Reading a
  predicted file, prefetched or not, earns the bytes read of it; bytes prefetched and then not read
  are lost for good. Hence, in files and in bytes, for any sequence of reads:
      wasted + unread  <=  first trust + read as predicted,   and   unread  <=  most trust.
  If guesses fail, trust runs out, and returns when files are again read as predicted.

A walk ends after `IDLE_S`, when a copier closes a file half read (it was interrupted), or when
other walks take its place; its outstanding prefetches are then wasted, and cancelled if they have
not arrived. A file read again within `IDLE_S` is the same visit: it proves nothing. Rejected:
requesting the next file's link after a single read (`gdalinfo` on one file must cost one link);
following every file that shares a directory (a catalogue of thousands has no order); telling tools
apart by process (a loop runs a process for each file).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from up42fs.ranges import ceil_to, floor_to
from up42fs.readahead.folder.order import Course, Folder
from up42fs.readahead.folder.walk import (
    FILE_BYTES,
    MOST_WINDOW,
    UNIT_BYTES,
    Asked,
    FolderWalk,
    Visit,
    WalkTrust,
    Want,
)
from up42fs.readahead.tuning import MIB

#: The most that is prefetched of a file of unknown size, in bytes.
UNKNOWN_BYTES = MIB
#: How long a walk or a visit is remembered without reads, seconds.
IDLE_S = 60.0
#: Walks read within this time share the trust, seconds.
SHARING_S = 5.0
#: Walks, single visits and visits of any kind remembered.
MOST_WALKS = 8
MOST_LONE = 16
MOST_VISITS = 512
#: Courses of past walks that a new directory may continue, and the files that make a course a
#: habit.
MOST_HABITS = 4
HABIT_FILES = 3


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """The result of one event: prefetches to start, in this order, and prefetches to cancel."""

    ahead: tuple[Want, ...] = ()
    cancel: tuple[str, ...] = ()


class FolderWalks:
    """All walks of one mount. `size_of` returns a file's size in bytes, None while unknown."""

    def __init__(self, size_of: Callable[[str], int | None], most_bytes: int = 32 * MIB) -> None:
        self.trust = WalkTrust(most_bytes)
        self._size_of = size_of
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._walks: list[FolderWalk] = []  # least recently read first
        self._lone: OrderedDict[str, tuple[Folder, Visit]] = OrderedDict()
        self._habits: list[tuple[Course, Visit]] = []
        self._given_up: list[str] = []

    def on_first_read(
        self, folder: Folder, file: str, size: int, now_s: float, *, is_ready: bool
    ) -> Visit:
        """Note the first read of a handle of `file`, of `size` bytes; return its visit.

        `is_ready`: all that was prefetched of it has arrived. Call `on_read` next.
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

    def on_read(self, visit: Visit, start: int, stop: int, now_s: float) -> FolderPlan | None:
        """Note that bytes `[start, stop)` of a visited file are about to be read."""
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

    def on_close(self, visit: Visit) -> FolderPlan | None:
        """Note that a handle that was read is closed."""
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
        """Add `visit` to the walk it continues, begin a new walk, or keep it for later."""
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

    def _walk_expecting(self, file: str, folder: Folder) -> FolderWalk | None:
        for walk in reversed(self._walks):
            if walk.folder.key == folder.key:
                walk.folder = folder
                if walk.expects(file):
                    return walk
        return None

    def _step(self, walk: FolderWalk, visit: Visit, is_ready: bool) -> None:
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

    def _begun_by(self, visit: Visit, folder: Folder) -> FolderWalk | None:
        for before, first in reversed(self._lone.values()):
            courses = folder.courses(first.file, visit.file) if before.key == folder.key else []
            if courses:
                del self._lone[first.file]
                visit.foreseen = True
                return self._new_walk(folder, courses, [first, visit])
        return None

    def _taken_up_by(self, visit: Visit, folder: Folder) -> FolderWalk | None:
        for course, example in reversed(self._habits):
            if len(folder) > 1 and folder.beginning(course) == visit.file:
                walk = self._new_walk(folder, [course], [visit])
                walk.recent.insert(0, example)
                walk.used_bytes += example.counted
                return walk
        return None

    def _new_walk(self, folder: Folder, courses: list[Course], visits: list[Visit]) -> FolderWalk:
        walk = FolderWalk(
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

    def _remember_habit(self, walk: FolderWalk, visit: Visit) -> None:
        best = max(walk.scores.values())
        courses = [course for course, score in walk.scores.items() if score == best]
        kept = [habit for habit in self._habits if habit[0] not in courses]
        self._habits = [*kept, *((course, visit) for course in courses)][-MOST_HABITS:]

    def _was_cut_short(self, walk: FolderWalk, visit: Visit) -> bool:
        """Whether a copier closed a file half read."""
        others = [other for other in walk.recent if other is not visit]
        return bool(others) and all(v.is_whole for v in others) and not visit.is_whole

    def _expire(self, now_s: float) -> None:
        while self._walks and now_s - self._walks[0].touched_s > IDLE_S:
            self._end(self._walks[0])
        for visit in list(
            islice(self._visits.values(), 2)
        ):  # check two old visits for each new one
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

    def _count(self, walk: FolderWalk, visit: Visit, gained: int) -> None:
        walk.used_bytes += gained
        if visit.foreseen:
            self.trust.earn(0, gained)
        read = min(visit.unread, gained)
        visit.unread -= read
        self.trust.unread_bytes -= read

    def _settle(self, visit: Visit) -> None:
        """Count the visit's unread bytes as lost: no more of it will be read."""
        self.trust.lose(0, visit.unread)
        visit.unread = 0

    def _waste(self, walk: FolderWalk, file: str) -> None:
        self.trust.lose(1, walk.asked.pop(file).size)
        self._given_up.append(file)

    def _end(self, walk: FolderWalk) -> None:
        for file in list(walk.asked):
            self._waste(walk, file)
        self._walks.remove(walk)

    # what to ask for -----------------------------------------------------------------------

    def _next_wants(self, walk: FolderWalk, present: Visit) -> list[Want]:
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
        """The ranges to fetch of `file`, its front limited by `most`; and their cost in bytes."""
        size = self._size_of(file)
        front = min(front, UNKNOWN_BYTES if size is None else size)
        fits = max(UNIT_BYTES, floor_to(most - UNIT_BYTES, UNIT_BYTES))
        want = Want(file, min(front, fits), tail)
        return want, want.cost(size)

    def _rest(self, present: Visit, front: int) -> int:
        """Bytes of the current file still to be read before the next one, beyond `unread`."""
        stop = math.inf if front >= FILE_BYTES else front
        rest = min(stop, present.size) - ceil_to(present.front, UNIT_BYTES) - present.unread
        return max(0, int(rest))

    def _plan(self, ahead: list[Want] | None = None) -> FolderPlan | None:
        cancel, self._given_up = self._given_up, []
        return FolderPlan(tuple(ahead or ()), tuple(cancel)) if ahead or cancel else None

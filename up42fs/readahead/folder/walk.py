"""One reader's walk through a directory: the files it read, their ranges, and the files next.

Also what all walks together may have prefetched and unread (`WalkTrust`). `siblings` has the
theory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from up42fs.ranges import ceil_to, coalesce
from up42fs.readahead.folder.order import Course, Folder
from up42fs.readahead.tuning import KIB, MIB
from up42fs.types import ByteRange

#: Bytes fetched by a read at a file's start or end; prefixes are multiples of it.
UNIT_BYTES = 128 * KIB
#: The most that is prefetched of one file, in bytes.
FILE_BYTES = 8 * MIB
#: A walk continues if the next file read is among this many.
REACH = 8
#: Files requested ahead: at first, and at most.
FIRST_WINDOW = 4
MOST_WINDOW = 32
#: Files of a walk that are remembered as read.
MOST_VISITED = 512
#: Trust at first and at most: files and bytes.
FIRST_FILES = 8
FIRST_BYTES = 2 * MIB
MOST_FILES = 32


@dataclass(frozen=True, slots=True)
class Want:
    """The ranges to prefetch of a file: `front` bytes from its start, and its tail."""

    file: str
    front: int
    tail: bool = False

    def spans(self, size: int) -> list[ByteRange]:
        """The ranges of a file of `size` bytes; a rest smaller than a unit is included."""
        spans = []
        if self.front and size:
            stop = min(self.front, size)
            spans.append(ByteRange(0, size if size - stop < UNIT_BYTES else stop))
        if self.tail and size:
            spans.append(ByteRange(max(0, size - UNIT_BYTES), size))
        return coalesce(spans)

    def cost(self, size: int | None) -> int:
        """Maximum number of bytes to fetch."""
        if size is None:
            return self.front + (UNIT_BYTES if self.tail else 0)
        return sum(map(len, self.spans(size)))


@dataclass(slots=True, eq=False)
class Visit:
    """One reading of a file, by one or several handles.

    `front` bytes were read from its start on, without larger gaps; `unread` counts the bytes
    requested ahead and not read yet.
    """

    file: str
    size: int
    touched_s: float
    walk: FolderWalk | None = None
    foreseen: bool = False
    handles: int = 0
    front: int = 0
    tail: bool = False
    counted: int = 0
    unread: int = 0
    plan_at: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether all of it was read."""
        return self.front >= self.size

    def is_news(self, start: int, stop: int) -> bool:
        """Whether a read would change the visit, but for its time."""
        is_ahead = stop > self.front and start <= self.front + 2 * UNIT_BYTES
        return is_ahead or (not self.tail and start >= self.size - UNIT_BYTES)

    def touch(self, start: int, stop: int) -> int:
        """Record a read; return the number of newly read bytes, in units."""
        if start <= self.front + 2 * UNIT_BYTES:  # the kernel reads ahead, in either order
            self.front = max(self.front, stop)
        if start >= self.size - UNIT_BYTES:
            self.tail = True
        read = min(self.size, ceil_to(self.front, UNIT_BYTES))
        if self.tail and not self.is_whole:
            read = min(self.size, read + UNIT_BYTES)
        gained, self.counted = max(0, read - self.counted), max(read, self.counted)
        return gained


@dataclass(slots=True)
class Asked:
    """A file requested and not read yet: bytes, and how many later files were read meanwhile."""

    size: int
    skipped: int = 0


@dataclass(slots=True, eq=False)
class FolderWalk:
    """A program that reads a directory file by file."""

    folder: Folder
    scores: dict[Course, int]
    places: dict[Course, str]
    recent: list[Visit]
    files: int
    used_bytes: int
    touched_s: float
    window: int = FIRST_WINDOW
    asked: dict[str, Asked] = field(default_factory=dict)
    visited: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def expects(self, file: str) -> bool:
        """Whether a first read of `file` can continue this walk."""
        return file in self.asked or any(self._distance(course, file) for course in self.scores)

    def step(self, visit: Visit) -> None:
        """Advance to the next file."""
        distances = {course: self._distance(course, visit.file) for course in self.scores}
        agreeing = {course: steps for course, steps in distances.items() if steps}
        for course, steps in agreeing.items():
            self.scores[course] += steps == 1
            if steps > 0:
                self.places[course] = visit.file
        if agreeing:
            self.scores = {course: self.scores[course] for course in agreeing}
            self.places = {course: self.places[course] for course in agreeing}
        self.files += 1
        self.add(visit)

    def add(self, visit: Visit) -> None:
        """Remember a visit as part of this walk."""
        visit.walk = self
        self.recent = [*self.recent[-2:], visit]
        self.visited[visit.file] = None
        while len(self.visited) > MOST_VISITED:
            self.visited.popitem(last=False)

    def ahead(self) -> Iterator[str]:
        """Yield the next files, nearest first, on the course with the best score."""
        course = max(self.scores, key=self.scores.__getitem__)  # of equals the first, the likeliest
        return islice(self._unvisited(course), MOST_WINDOW)

    def shape(self, present: Visit) -> tuple[int, bool]:
        """Predict the ranges of the next file: bytes from the front, and whether the tail."""
        others = [visit for visit in self.recent if visit is not present]
        last = [visit for visit in others if not visit.handles] or others or [present]
        fronts = [FILE_BYTES if v.is_whole else ceil_to(v.front, UNIT_BYTES) for v in last[-2:]]
        tail = all(visit.tail and not visit.is_whole for visit in last[-2:])
        return min(FILE_BYTES, min(fronts)), tail

    def passed_over(self) -> list[str]:
        """Requested files that lie behind, after too many later ones were read before them."""
        late = []
        for file, asked in self.asked.items():
            steps = [self.folder.distance(c, place, file) for c, place in self.places.items()]
            asked.skipped += all(step is None or step < 0 for step in steps)
            if asked.skipped > REACH:
                late.append(file)
        return late

    def _distance(self, course: Course, file: str) -> int:
        """Number of unvisited files up to `file` (negative: behind); 0 if out of reach."""
        place = self.places[course]
        steps = self.folder.distance(course, place, file)
        if not steps or file in self.visited:
            return 0
        if steps < 0:
            return steps if steps >= -REACH else 0
        reach = MOST_WINDOW if file in self.asked else REACH
        for count, other in enumerate(islice(self._unvisited(course), reach), 1):
            if other == file:
                return count
        return 0

    def _unvisited(self, course: Course) -> Iterator[str]:
        after = self.folder.after(course, self.places[course])
        return (file for file in after if file not in self.visited)


@dataclass(slots=True)
class WalkTrust:
    """How many files and bytes may be unread, how many are, and the totals so far.

    Always: `wasted + unread <= first trust + earned`, and `unread <= files, bytes <= most trust`.
    `most_bytes` bounds the bytes that can be earned.
    """

    most_bytes: int = 32 * MIB
    files: int = FIRST_FILES
    bytes: int = FIRST_BYTES
    unread_files: int = 0
    unread_bytes: int = 0
    asked_files: int = 0
    asked_bytes: int = 0
    read_files: int = 0
    wasted_files: int = 0
    wasted_bytes: int = 0

    def ask(self, size: int) -> None:
        """Count a requested file, `size` bytes of it."""
        self.asked_files += 1
        self.asked_bytes += size
        self.unread_files += 1
        self.unread_bytes += size

    def take(self, beyond: int) -> None:
        """Count the read of a requested file; it is `beyond` bytes smaller than the request."""
        self.unread_files -= 1
        self.unread_bytes -= beyond
        self.read_files += 1

    def earn(self, files: int, size: int) -> None:
        """Raise the limits by files and bytes that were read as predicted."""
        self.files = min(MOST_FILES, self.files + files)
        self.bytes = min(self.most_bytes, self.bytes + size)

    def lose(self, files: int, size: int) -> None:
        """Count requested files and bytes that will not be read; lowers the limits."""
        self.unread_files -= files
        self.unread_bytes -= size
        self.wasted_files += files
        self.wasted_bytes += size
        self.files = max(0, self.files - files)
        self.bytes = max(0, self.bytes - size)

    def counters(self) -> dict[str, int]:
        """The totals so far, by name."""
        names = ("asked_files", "asked_bytes", "read_files", "wasted_files", "wasted_bytes")
        return {name: getattr(self, name) for name in names}

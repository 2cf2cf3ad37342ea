"""Plans one open handle's fetches: now for the reader, and ahead for the next reads.

Theory. The kernel, not the tool, sizes the reads (except of images that bypass its page cache:
`Tuning.kernel_ahead_bytes` is 0 for them): a jump is one read of 4 KiB, then 128 KiB after 128 KiB,
at most two of them under way and those two in either order. Requested one by one each costs a round
trip, so a miss is extended to the bytes that tools usually read next, and no further:

- a file of up to 1 MiB: the whole file; the first and the last 128 KiB whole (headers; zip
  directories);
- a jump: to 128 KiB blocks, since tile headers and points need no more;
- a continuing run: to the next 1 MiB boundary; a run that goes *down* (tiles in reverse order, as
  GDAL's worker threads read): to the previous one, once it is 256 KiB long;
- from 512 KiB of run: min(run, 64 MiB) is kept requested ahead, twice the run from 2 MiB on,
  refilled at half, in parallel requests of 1 to 2 MiB, of a scan (16 MiB in order) 4 MiB. At most
  twice the bytes read can be wasted. For programs that copy (`programs`), or that begin with a
  megabyte at once, the run counts as a scan from its start.

A handle has up to eight streams, since readers interleave (an index and its data, threads on one
handle). A read belongs to the nearest stream that it can continue: up to as far ahead as the run is
long (1 MiB at most), or a little behind. Bytes that a stream skipped may still come; any other read
behind it is a repeated read and does not lengthen the run. A stream is *left* when 2 MiB were read
elsewhere on the handle: its read-ahead is cancelled. Coverage is the object's, so one handle's
fetches serve all others. All ranges of a plan but `cancel` hold missing bytes only, which is why
nothing is requested twice. A read-ahead that failed or was evicted is simply missing again.

If the tiles of a TIFF are known, also of one stored in a zip, tiles replace offsets: a wanted tile
is fetched whole, together with small ones that follow it in the file, and the window around it is
guessed (`window`, `grid`), or for strips of an image read at reduced resolution the next stops
(`stride`).

Measured with contrib/bench/simulate.py over all recorded traces at 50 ms and 200 Mbit/s; the plan
without tiles over the best fixed block of each case (63 random cases, geometric means):

    without tiles      1.13 of the time, 2.6 of the bytes,  3659 requests, 189 s in all
    blocks of 1 MiB    1.25              4.2                3283           264 s
    blocks of 128 KiB  1.99              2.0               20079           600 s

and the effect of knowing tiles (requests, MB, seconds; `--files` is the difference):

    window, 1.4 MB tiles     29, 22.0, 1.05   ->   13, 13.2, 0.66
    window, 84 KB tiles      15,  7.2, 0.57   ->   12,  3.4, 0.19
    view of strips          628,  343, 28.1   -> 1186,  168, 7.6
    window of strips        161,  113, 2.7    ->   44,   58, 2.4
    window, JPEG 2000       141, 22.2, 6.93   ->   56,  107, 4.5

Rejected: one window per object (threads would break it), unbounded skips (a decimated read would
load the file), counting every read as progress (a tool that reads a block again would look like a
run), bounding the guesses under way by the line's measured rate (no gain while demand goes first).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol

from up42fs.ranges import RangeSet, ceil_to, coalesce, divide, floor_to, intersect, split, subtract
from up42fs.readahead.contents import Structure
from up42fs.readahead.jumps import Hops
from up42fs.readahead.parse_budget import ParseBudget
from up42fs.readahead.runs import Move, Stream
from up42fs.readahead.tiff import Get
from up42fs.readahead.tiles import TileReader, Tiles
from up42fs.readahead.tuning import BUFFER_BYTES, KERNEL_READ_BYTES, MIB, Tuning
from up42fs.readahead.window import Shapes
from up42fs.types import ByteRange


class Coverage(Protocol):
    """The bytes of the object that are in memory or already requested."""

    def missing(self, span: ByteRange) -> list[ByteRange]:
        """The parts of `span` that are neither in memory nor requested, in order."""


class Insight:
    """State shared by all handles of one object: its structure, and the recently read windows."""

    def __init__(self, size: int, budget: ParseBudget | None = None) -> None:
        self.structure = Structure(size, budget)
        self.shapes = Shapes()


@dataclass(frozen=True, slots=True)
class Plan:
    """The fetches that one read requires. They never overlap; all but `cancel` are missing bytes.

    `demand` holds every missing byte of the read; each of its ranges is one request, as is each of
    `ahead`, which continues a run, and of `guesses`, in the order in which they may be read.
    `cancel` holds ranges that this handle requested ahead and no longer wants; `keep`, when the
    handle is closed, those that the next handle will most likely read.
    """

    demand: tuple[ByteRange, ...] = ()
    ahead: tuple[ByteRange, ...] = ()
    guesses: tuple[ByteRange, ...] = ()
    cancel: tuple[ByteRange, ...] = ()
    keep: tuple[ByteRange, ...] = ()


class Access:
    """The streams of one open handle of an object of `size` bytes."""

    #: Whether its bytes are read once and kept nowhere afterwards.
    is_passing = False

    def __init__(
        self, size: int, tuning: Tuning | None = None, insight: Insight | None = None
    ) -> None:
        self._size = size
        self._tuning = tuning or Tuning()
        self._insight = insight or Insight(size)
        self._streams: list[Stream] = []  # least recently read first
        self._read_bytes = 0
        #: Whether any byte of its reads had to be fetched; the fetcher sets it.
        self.has_missed = False
        #: Whether the structure grew since this was last set to False.
        self.has_learned = False
        self._tiles = TileReader(self._insight.structure, self._insight.shapes, self._tuning)
        self._hops = Hops()
        self._has_searched = False  # whether a search for an archive's directory was seen
        self._again: dict[int, int] = {}  # runs not planned yet: end -> start

    def twin(self) -> Access:
        """A plan that begins as this one did, and knows nothing of the object's structure."""
        return type(self)(self._size, self._tuning)

    @property
    def reads_ahead(self) -> bool:
        """Whether the last read belonged to a run long enough for read-ahead."""
        last = self._streams[-1] if self._streams else None
        return last is not None and last.run_bytes >= self._tuning.ahead_from_bytes

    @property
    def run_bytes(self) -> int:
        """Bytes read upward by the run that the last read belongs to."""
        return self._streams[-1].run_bytes if self._streams else 0

    def reads_again(self, start: int, stop: int, have: Coverage) -> bool:
        """Note a read of bytes that were read before; False if it needs a plan now.

        Such bytes are in memory, so a read of them needs nothing, unless they may still teach
        something. Only a run of them may lead to bytes that are missing, if any are: it is planned
        when it is as long as a read of the kernel, or when another read is planned. Runs that
        several others replaced have led nowhere.
        """
        if not self._insight.structure.is_known_at(start):
            return False
        again = self._again
        began = again.get(start, start)
        if stop - began >= KERNEL_READ_BYTES and have.missing(ByteRange(0, self._size)):
            return False
        again.pop(start, None)
        again[stop] = began
        if len(again) > self._tuning.streams:
            del again[next(iter(again))]
        return True

    def learn(self, near: ByteRange, get: Get) -> None:
        """Parse the bytes that `get` returns; `near` were just read."""
        structure = self._insight.structure
        known_bytes = structure.held_bytes
        structure.learn(near, get)
        self.has_learned |= structure.held_bytes != known_bytes

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """Plan for `read` (within the object); `window_bytes` bounds the read-ahead of its run."""
        window_bytes = min(window_bytes, self._tuning.window_bytes)
        if not self._again:
            return self._planned(read, have, window_bytes)
        runs, self._again = self._again, {}
        earlier = [
            self._planned(ByteRange(start, stop), have, window_bytes)
            for stop, start in runs.items()
        ]
        return _joined(earlier, self._planned(read, have, window_bytes), read)

    def _planned(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        self._read_bytes += len(read)
        stream, move, goes_on = self._follow(read)
        tiles = self._tiles_of(read, stream, window_bytes, goes_on=goes_on)
        cancel = self._give_up(stream)
        if tiles is not None:
            demand, guesses = self._tiled(read, tiles, have)
            ahead = list[ByteRange]()
            cancel += tiles.left
        else:
            demand, ahead = self._plain(read, stream, move, have, window_bytes)
            guesses = self._whole(read, move, have, [*demand, *ahead])
            guesses += self._member(stream, have)
        if cancel:
            cancel = _without(cancel, [*demand, *ahead, *guesses, read])
        return Plan(tuple(demand), tuple(ahead), tuple(guesses), tuple(cancel))

    def _tiles_of(
        self, read: ByteRange, stream: Stream, window_bytes: int, *, goes_on: bool
    ) -> Tiles | None:
        """The tiles of the read; None if no tiles are known, or the file is read as bytes."""
        # A reader that goes on past the head has begun with the tiles, however far the kernel is
        # ahead.
        begins = not (stream.start or stream.in_tiles) and read.stop > self._tuning.head_bytes
        slack_bytes = self._tuning.slack_bytes // (2 if begins else 1)
        passed = stream.pass_over(read, slack_bytes, goes_on=goes_on)
        stream.is_scan |= self._copies(stream)
        if stream.is_scan:
            return None
        tiles = self._tiles.on_read(read, passed, stream, goes_on=goes_on, most_bytes=window_bytes)
        stream.in_tiles |= tiles is not None and bool(tiles.now)
        stream.is_scan = tiles is not None and tiles.scans
        return None if stream.is_scan else tiles

    def _copies(self, stream: Stream) -> bool:
        """Whether the run, from an image's head on, is too long for a window: it is a copy."""
        if self._run_bytes(stream) < self._tuning.scan_bytes:
            return False
        image = self._insight.structure.image_at(stream.start)
        return image is None or stream.start < image.base + self._tuning.head_bytes

    def _plain(
        self, read: ByteRange, stream: Stream, move: Move, have: Coverage, window_bytes: int
    ) -> tuple[list[ByteRange], list[ByteRange]]:
        """Demand and read-ahead if only offsets are known."""
        run_unit = min(self._tuning.run_bytes, floor_to(window_bytes, self._tuning.jump_bytes))
        up, down = self._units(stream, move, max(run_unit, self._tuning.jump_bytes))
        demand = self._demand(read, have, up=up, down=down)
        return demand, self._ahead(stream, have, demand, window_bytes)

    def _tiled(
        self, read: ByteRange, tiles: Tiles, have: Coverage
    ) -> tuple[list[ByteRange], list[ByteRange]]:
        """Demand and read-ahead by tiles: whole tiles, and beyond them only guesses."""
        holes = have.missing(read)
        if not holes:
            return [], self._guessed([*tiles.now, *tiles.coming], have, [])
        grown = coalesce([*holes, *tiles.now])
        rest = list(tiles.coming)
        # Small tiles that follow in the file are fetched with the same request.
        while rest and rest[0].start <= grown[-1].stop:
            joined = ByteRange(grown[-1].start, max(grown[-1].stop, rest[0].stop))
            if len(joined) > max(self._tuning.join_bytes, len(grown[-1])):
                break
            grown[-1] = joined
            del rest[0]
        demand, others = _demanded(grown, holes, have)
        return demand, self._guessed([*others, *rest], have, demand)

    def _guessed(
        self, spans: list[ByteRange], have: Coverage, demand: list[ByteRange]
    ) -> list[ByteRange]:
        """Ranges to request ahead, in order; adjacent ones are joined up to a size."""
        if self._has_enough(spans, have):
            return []
        most = max(self._tuning.least_part_bytes, sum(map(len, spans)) * 2 // 3)
        joined: list[ByteRange] = []
        for span in spans:
            last = joined[-1] if joined else None
            if last and last.start <= span.start <= last.stop:
                stop = max(last.stop, span.stop)
                if stop - last.start <= most or stop == last.stop:
                    joined[-1] = ByteRange(last.start, stop)
                    continue
            joined.append(span)
        taken = RangeSet(demand)
        ahead: list[ByteRange] = []
        for span in joined:
            for piece in [part for hole in have.missing(span) for part in taken.missing(hole)]:
                if len(piece) >= self._tuning.least_guess_bytes or len(piece) == len(span):
                    ahead += divide(piece, self._tuning.part_bytes)
            taken.add(span)
        return ahead

    def _has_enough(self, spans: list[ByteRange], have: Coverage) -> bool:
        """Whether half of the bytes are present before the first gap, and few are missing."""
        missing = [have.missing(span) for span in spans]
        if not any(missing):
            return True
        lacking = [sum(map(len, holes)) for holes in missing]
        if sum(lacking) >= self._tuning.least_part_bytes:
            return False
        near = takewhile(lambda both: not both[1], zip(spans, lacking, strict=True))
        return 2 * sum(len(span) for span, _ in near) >= sum(map(len, spans))

    def _whole(
        self, read: ByteRange, move: Move, have: Coverage, taken: list[ByteRange]
    ) -> list[ByteRange]:
        """Everything missing, for a reader that hops through a JPEG 2000 file."""
        file = self._hops.on_read(
            read, self._insight.structure, self._tuning, is_jump=move is Move.JUMP
        )
        if file is None:
            return []
        lacking = _without(have.missing(file), taken)
        lacking.sort(key=lambda span: span.start < read.start)  # ranges after the read first
        return [part for piece in lacking for part in split(piece, self._tuning.part_bytes)]

    def _member(self, stream: Stream, have: Coverage) -> list[ByteRange]:
        """The head of an archive's largest member, for a backward scan for the archive's directory.

        GDAL's programs scan that way, a page at a time, and then open a member. `unzip` and Python
        read the directory without scanning.
        """
        is_search = stream.fall_bytes >= self._tuning.search_bytes and not self._has_searched
        member = self._insight.structure.largest_member() if is_search else None
        if member is None or stream.stop < self._size:
            return []
        self._has_searched = True
        start = floor_to(member.start, BUFFER_BYTES)
        head = ByteRange(start, min(start + self._tuning.head_bytes, member.stop))
        return have.missing(head)

    def on_close(self) -> Plan:
        """Plan for the handle's end: cancel its read-ahead."""
        asked = [span for stream in self._streams for span in stream.give_up()]
        left, coming = self._tiles.close()
        self._streams.clear()
        keep = coalesce(coming)
        return Plan(cancel=tuple(_without(coalesce([*asked, *left]), keep)), keep=tuple(keep))

    def _follow(self, read: ByteRange) -> tuple[Stream, Move, bool]:
        """The stream that `read` belongs to, how it continues it, and whether without a gap."""
        stream = self._nearest(read)
        if stream is not None:
            self._streams.remove(stream)
            # After `away_bytes` read elsewhere, a read at the end of a run does not prove that the
            # program read up to there: the kernel's read-ahead did, and a new window begins.
            elsewhere = self._read_bytes - len(read) - stream.touched_at
            is_whole = read.start <= stream.stop and elsewhere <= self._tuning.away_bytes
            move = stream.extend(read)
        else:
            stream = Stream(
                read.start, read.stop, len(read), len(read), self._read_bytes, len(read)
            )
            move, is_whole = Move.JUMP, False
        goes_on = move is Move.ON and is_whole
        if not goes_on:
            stream.whole_from, stream.level = read.start, None
        stream.touched_at = self._read_bytes
        self._streams.append(stream)
        return stream, move, goes_on

    def _nearest(self, read: ByteRange) -> Stream | None:
        """The nearest stream that `read` can continue."""
        if self._streams and self._streams[-1].stop == read.start:
            return self._streams[-1]
        near = [s for s in self._streams if s.accepts(read, self._tuning)]
        return min(near, key=lambda s: s.distance(read)) if near else None

    def _units(self, stream: Stream, move: Move, run_unit: int) -> tuple[int, int]:
        """Multiples to which a miss is extended, upward and downward."""
        jump = self._tuning.jump_bytes
        if move is Move.ON:
            return run_unit, jump
        if move is Move.DOWN and stream.fall_bytes >= self._tuning.fall_from_bytes:
            return jump, run_unit
        return jump, jump

    def _demand(self, read: ByteRange, have: Coverage, *, up: int, down: int) -> list[ByteRange]:
        holes = have.missing(read)
        if not holes:
            return []
        grown = coalesce(self._grow(hole, up, down) for hole in holes)
        return _demanded(grown, holes, have)[0]

    def _grow(self, hole: ByteRange, up: int, down: int) -> ByteRange:
        tuning, size = self._tuning, self._size
        if size <= tuning.whole_bytes:
            return ByteRange(0, size)
        if hole.stop <= tuning.head_bytes:
            return ByteRange(0, tuning.head_bytes)
        start = floor_to(hole.start, down)
        stop = min(ceil_to(hole.stop, up), size)
        tail = size - tuning.tail_bytes
        if hole.start >= tail:
            start = tail
        if stop > tail:
            stop = size
        return ByteRange(start, stop)

    def _ahead(
        self, stream: Stream, have: Coverage, demand: list[ByteRange], window_bytes: int
    ) -> list[ByteRange]:
        tuning = self._tuning
        run_bytes = self._run_bytes(stream)
        sure = 2 if run_bytes >= tuning.sure_bytes else 1
        window = min(sure * run_bytes, window_bytes)
        if run_bytes < tuning.ahead_from_bytes or window < tuning.jump_bytes:
            return []
        near = self._clip(stream.stop, stream.stop + window // 2)
        if near is None or not _without(have.missing(near), demand):
            return []
        unit = tuning.run_bytes if window >= tuning.run_bytes else tuning.jump_bytes
        span = self._clip(stream.stop, ceil_to(stream.stop + window, unit))
        assert span is not None, "it holds `near`"
        lacking = _without(have.missing(span), demand)
        ahead = [
            part for piece in lacking for part in split(piece, self._part_bytes(stream, piece))
        ]
        stream.asked = coalesce([*(s for s in stream.asked if s.stop > stream.stop), *ahead])
        return ahead

    def _run_bytes(self, stream: Stream) -> int:
        """Length of the run, plus a bonus if it starts at offset 0 like a copy."""
        if stream.start:
            return stream.run_bytes
        is_bulk = stream.first_bytes >= self._tuning.bulk_bytes
        return stream.run_bytes + (self._tuning.scan_bytes if is_bulk else self._tuning.begun_bytes)

    def _part_bytes(self, stream: Stream, piece: ByteRange) -> int:
        # At least four requests in parallel, as long as each part is worth a round trip.
        tuning = self._tuning
        most = tuning.scan_part_bytes if stream.is_scan else tuning.part_bytes
        return min(most, max(tuning.run_bytes, ceil_to(len(piece) // 4, MIB)))

    def _give_up(self, current: Stream) -> list[ByteRange]:
        """Read-ahead of streams that were left, because enough was read elsewhere since."""
        tuning, dropped = self._tuning, list[ByteRange]()
        if len(self._streams) > tuning.streams:
            dropped += self._streams.pop(0).give_up()
        for stream in self._streams:
            elsewhere = self._read_bytes - stream.touched_at
            if stream is not current and stream.asked and elsewhere > tuning.patience_bytes:
                dropped += stream.give_up()
        return dropped

    def _clip(self, start: int, stop: int) -> ByteRange | None:
        stop = min(stop, self._size)
        return ByteRange(start, stop) if start < stop else None


def _demanded(
    grown: Iterable[ByteRange], holes: list[ByteRange], have: Coverage
) -> tuple[list[ByteRange], list[ByteRange]]:
    """Split the missing parts of `grown` into those that a read of `holes` needs, and the others.

    A grown range may extend over bytes that are present; nothing of the read lies beyond them.
    """
    demand: list[ByteRange] = []
    others: list[ByteRange] = []
    for span in grown:
        for piece in have.missing(span):
            is_waited_for = any(intersect(piece, hole) for hole in holes)
            (demand if is_waited_for else others).append(piece)
    return demand, others


def _joined(earlier: list[Plan], plan: Plan, read: ByteRange) -> Plan:
    """The plan of `read`, and what reads before it should have had fetched ahead."""
    taken, guesses = [*plan.demand, *plan.ahead, *plan.guesses], list(plan.guesses)
    for other in earlier:
        more = _without([*other.ahead, *other.guesses], taken)
        guesses += more
        taken += more
    cancel = [*plan.cancel, *(span for other in earlier for span in other.cancel)]
    kept = tuple(_without(cancel, [*taken, read]))
    return replace(plan, guesses=tuple(guesses), cancel=kept)


def _without(spans: Iterable[ByteRange], others: list[ByteRange]) -> list[ByteRange]:
    return [piece for span in spans for piece in subtract(span, others)]


class Exact(Access):
    """Plans only the bytes that are read, without read-ahead."""

    def learn(self, near: ByteRange, get: Get) -> None:
        """Learn nothing: no plan here uses it, and an archive's directory takes long to parse."""

    def reads_again(self, start: int, stop: int, have: Coverage) -> bool:  # noqa: ARG002
        """True: bytes in memory need no plan, unless they may still teach something."""
        return self._insight.structure.is_known_at(start)

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:  # noqa: ARG002
        """The missing bytes of `read`, each hole one request."""
        return Plan(demand=tuple(have.missing(read)))

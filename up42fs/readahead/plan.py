"""What to fetch for one open handle's reads: now for the reader, and ahead for the next ones.

Knows offsets, and what `structure` says lies there; not the bytes, the network, the clock, or who
else reads the file.

Theory. The kernel, not the tool, sizes the reads (but for images, where it can be told not to:
`Tuning.kernel_ahead_bytes` is 0 then): a jump is one read of 4 KiB, then 128 KiB after 128 KiB, at
most two of them under way and those two in either order. Asked one by one each costs a round trip,
so a miss is grown to what tools are seen to read next, and no further:

- a file of up to 1 MiB whole; the first and the last 128 KiB whole (headers; zip directories);
- a jump to 128 KiB blocks: tile headers and points need no more;
- a run that goes on to the next 1 MiB boundary; a run that goes *down* (tiles in reverse order, as
  GDAL's worker threads read) to the last one, from 256 KiB of it;
- from 512 KiB of run, min(run, 64 MiB) is kept asked for ahead, twice the run from 2 MiB on,
  refilled at half, in parallel requests of 1 to 2 MiB, of a scan (16 MiB in order) 4 MiB: what can
  be wasted is at most twice what was read. Programs that copy (`openers`), or begin with a
  megabyte at once, begin with a scan.

A handle has up to eight streams, since readers interleave (an index and its data, threads on one
handle). A read belongs to the nearest stream that it can be the continuation of: up to as far
ahead as the run is long (1 MiB at most), or a little behind. Bytes a stream skipped may still
come; anything else behind is reading again and does not lengthen the run. A stream is *left* when
2 MiB were read elsewhere on the handle: its read-ahead is given up. Coverage is the object's, so
one handle's fetches spare all others; all but `cancel` hold missing bytes only, which is why
nothing is asked for twice. A read-ahead that failed or was evicted is simply missing again.

Where the tiles of a TIFF are known, also of one stored in a zip, offsets give way to tiles: a tile
that is wanted comes whole, small ones that follow in the file with it, and the window around it is
guessed (`tile_walk`, `grid`), or, of strips that are thinned out, the next stops (`stride`). A run
there is read ahead of as such only once it is 16 MiB long from where the image begins, or has gone
on from one level of the image into the next: then the file is copied. Whoever comes back to the end
of a run after `away_bytes` elsewhere has not read on to it: the kernel had, and a new window
begins.
A JPEG 2000 file that is hopped through is loaded whole (`hops`). Who searches for the directory of
an archive from its end on will read a member next: the head of the largest comes meanwhile.

Measured with contrib/bench/simulate.py over all recorded traces at 50 ms and 200 Mbit/s; the plan
without tiles over the best fixed block of each case (63 random cases, geometric means):

    without tiles      1.13 of the time, 2.6 of the bytes,  3659 requests, 189 s in all
    blocks of 1 MiB    1.25              4.2                3283           264 s
    blocks of 128 KiB  1.99              2.0               20079           600 s

and what knowing tiles changes (requests, MB, seconds; `--files` is the difference):

    window, 1.4 MB tiles     29, 22.0, 1.05   ->   13, 13.2, 0.66
    window, 84 KB tiles      15,  7.2, 0.57   ->   12,  3.4, 0.19
    view of strips          628,  343, 28.1   -> 1186,  168, 7.6
    window of strips        161,  113, 2.7    ->   44,   58, 2.4
    window, JPEG 2000       141, 22.2, 6.93   ->   56,  107, 4.5

Rejected: one window per object (threads tear it), unbounded skips (a decimated read would load the
file), counting every read as progress (a tool that reads a block again would look like a run),
bounding the guesses under way by the line's measured rate (no gain while demand goes first).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from up42fs.ranges import RangeSet, ceil_to, coalesce, divide, floor_to, intersect, split, subtract
from up42fs.readahead.contents import Structure
from up42fs.readahead.jpeg2000 import Hops
from up42fs.readahead.parse_budget import ParseBudget
from up42fs.readahead.runs import Move, Stream
from up42fs.readahead.tiles import TileReader, Tiles
from up42fs.readahead.tuning import BUFFER_BYTES, MIB, Tuning
from up42fs.readahead.window import Shapes
from up42fs.types import ByteRange


class Coverage(Protocol):
    """The bytes of the object that are in memory or already asked for."""

    def missing(self, span: ByteRange) -> list[ByteRange]:
        """The parts of `span` that are neither here nor on their way, in order."""
        ...


class Insight:
    """What all handles of one object know of it: its structure, and the windows lately read."""

    def __init__(self, size: int, budget: ParseBudget | None = None) -> None:
        self.structure = Structure(size, budget)
        self.shapes = Shapes()


@dataclass(frozen=True, slots=True)
class Plan:
    """What one read calls for. They never overlap; all but `cancel` are missing bytes.

    `demand` holds every missing byte of the read; each of its ranges is one request, as is each
    of `ahead`, where a run goes on, and of `guesses`, in the order in which they may be read.
    `cancel` names what this handle asked for ahead and no longer wants; `keep`, at its end, what
    the next handle most likely will.
    """

    demand: tuple[ByteRange, ...] = ()
    ahead: tuple[ByteRange, ...] = ()
    guesses: tuple[ByteRange, ...] = ()
    cancel: tuple[ByteRange, ...] = ()
    keep: tuple[ByteRange, ...] = ()


class Access:
    """The streams of one open handle of an object of `size` bytes."""

    def __init__(
        self, size: int, tuning: Tuning | None = None, insight: Insight | None = None
    ) -> None:
        self._size = size
        self._tuning = tuning or Tuning()
        self._insight = insight or Insight(size)
        self._streams: list[Stream] = []  # least recently read first
        self._read_bytes = 0
        #: Whether any byte of its reads had to be fetched; whoever fetches says so.
        self.has_missed = False
        self._tiles = TileReader(self._insight.structure, self._insight.shapes, self._tuning)
        self._hops = Hops()
        self._has_searched = False  # for the directory of an archive

    @property
    def reads_ahead(self) -> bool:
        """Whether the last read belonged to a run long enough to be read ahead of."""
        last = self._streams[-1] if self._streams else None
        return last is not None and last.run_bytes >= self._tuning.ahead_from_bytes

    @property
    def run_bytes(self) -> int:
        """How many bytes the run that the last read belongs to has read going up."""
        return self._streams[-1].run_bytes if self._streams else 0

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """Plan for `read` (within the object); `window_bytes` bounds the read-ahead of its run."""
        window_bytes = min(window_bytes, self._tuning.window_bytes)
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
        cancel = _without(cancel, [*demand, *ahead, *guesses, read])
        return Plan(tuple(demand), tuple(ahead), tuple(guesses), tuple(cancel))

    def _tiles_of(
        self, read: ByteRange, stream: Stream, window_bytes: int, *, goes_on: bool
    ) -> Tiles | None:
        """The read in tiles; None where none are known, or the file is read as bytes."""
        # Who reads on past the head has begun with the tiles, however far the kernel is ahead.
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
        """Whether so much was read from an image's beginning on that it is no window of it."""
        if self._run_bytes(stream) < self._tuning.scan_bytes:
            return False
        image = self._insight.structure.image_at(stream.start)
        return image is None or stream.start < image.base + self._tuning.head_bytes

    def _plain(
        self, read: ByteRange, stream: Stream, move: Move, have: Coverage, window_bytes: int
    ) -> tuple[list[ByteRange], list[ByteRange]]:
        """Demand and read-ahead where only offsets are known."""
        run_unit = min(self._tuning.run_bytes, floor_to(window_bytes, self._tuning.jump_bytes))
        up, down = self._units(stream, move, max(run_unit, self._tuning.jump_bytes))
        demand = self._demand(read, have, up=up, down=down)
        return demand, self._ahead(stream, have, demand, window_bytes)

    def _tiled(
        self, read: ByteRange, tiles: Tiles, have: Coverage
    ) -> tuple[list[ByteRange], list[ByteRange]]:
        """Demand and read-ahead by tiles: whole ones, and beyond them nothing but guesses."""
        holes = have.missing(read)
        if not holes:
            return [], self._guessed([*tiles.now, *tiles.coming], have, [])
        grown = coalesce([*holes, *tiles.now])
        rest = list(tiles.coming)
        # Small tiles that follow in the file come with the same request.
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
        """Spans to ask for ahead, in their order, those that touch in one request up to a size."""
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
        """Whether half of the spans are here up to the first that is not, and little lacks."""
        lacking = [sum(map(len, have.missing(span))) for span in spans]
        if sum(lacking) >= self._tuning.least_part_bytes:
            return False
        near = takewhile(lambda both: not both[1], zip(spans, lacking, strict=True))
        return 2 * sum(len(span) for span, _ in near) >= sum(map(len, spans))

    def _whole(
        self, read: ByteRange, move: Move, have: Coverage, taken: list[ByteRange]
    ) -> list[ByteRange]:
        """All that is missing, for a reader that hops through a file which it needs whole."""
        if not self._hops.on_read(
            read, self._insight.structure, self._tuning, is_jump=move is Move.JUMP
        ):
            return []
        lacking = _without(have.missing(ByteRange(0, self._size)), taken)
        lacking.sort(key=lambda span: span.start < read.start)  # onward first
        return [part for piece in lacking for part in split(piece, self._tuning.part_bytes)]

    def _member(self, stream: Stream, have: Coverage) -> list[ByteRange]:
        """The head of an archive's largest member, for who searches for the archive's directory.

        So do GDAL's programs, a page at a time and downward, and then open a member. `unzip` and
        Python know where to look.
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
        """Plan for the handle's end: nothing is read ahead for it any more."""
        asked = [span for stream in self._streams for span in stream.give_up()]
        left, coming = self._tiles.close()
        self._streams.clear()
        keep = coalesce(coming)
        return Plan(cancel=tuple(_without(coalesce([*asked, *left]), keep)), keep=tuple(keep))

    def _follow(self, read: ByteRange) -> tuple[Stream, Move, bool]:
        """The stream that `read` belongs to, how it goes on, and whether without a break.

        Who read elsewhere and comes back to the end of a run has not read on to it: the kernel had.
        """
        near = [s for s in self._streams if s.accepts(read, self._tuning)]
        if near:
            stream = min(near, key=lambda s: s.distance(read))
            self._streams.remove(stream)
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

    def _units(self, stream: Stream, move: Move, run_unit: int) -> tuple[int, int]:
        """Multiples to which a miss is grown, upward and downward."""
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
        """How far the run goes back, or would if it were known before it began."""
        if stream.start:
            return stream.run_bytes
        is_bulk = stream.first_bytes >= self._tuning.bulk_bytes
        return stream.run_bytes + (self._tuning.scan_bytes if is_bulk else self._tuning.begun_bytes)

    def _part_bytes(self, stream: Stream, piece: ByteRange) -> int:
        # At least four requests in parallel while parts stay worth a round trip.
        tuning = self._tuning
        most = tuning.scan_part_bytes if stream.is_scan else tuning.part_bytes
        return min(most, max(tuning.run_bytes, ceil_to(len(piece) // 4, MIB)))

    def _give_up(self, current: Stream) -> list[ByteRange]:
        """Read-ahead of runs that were left: others have since been read for long enough."""
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
    """What is missing of `grown`: the pieces that a read of `holes` waits for, and the others.

    A grown range may run over bytes that are here; beyond them lies nothing of the read.
    """
    demand: list[ByteRange] = []
    others: list[ByteRange] = []
    for span in grown:
        for piece in have.missing(span):
            is_waited_for = any(intersect(piece, hole) for hole in holes)
            (demand if is_waited_for else others).append(piece)
    return demand, others


def _without(spans: Iterable[ByteRange], others: list[ByteRange]) -> list[ByteRange]:
    return [piece for span in spans for piece in subtract(span, others)]


class Exact(Access):
    """Plans for one handle as `Access` does, but for the bytes that are asked for alone."""

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:  # noqa: ARG002
        """The missing bytes of `read`, each hole one request."""
        return Plan(demand=tuple(have.missing(read)))

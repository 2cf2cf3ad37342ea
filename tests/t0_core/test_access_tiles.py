"""The planner over images: windows, levels, thinned strips and copies, read as GDAL does.

A kernel's reader is played: one page at a jump, then 128 KiB after 128 KiB, up to two of them past
what the program wanted; or, past its page cache, the C library's. `waits` counts the reads for
which it would have waited a round trip.
"""

from __future__ import annotations

import io
import itertools
import random
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiff_support import Image, tiles_of, write_head

from up42fs.ranges import RangeSet, coalesce, intersect
from up42fs.readahead.plan import Access, Insight
from up42fs.readahead.tuning import BUFFER_BYTES, KIB, MIB, Reading, Tuning
from up42fs.types import ByteRange

PAGE, CHUNK = 4 * KIB, 128 * KIB
DIRECT = Tuning().suited(Reading.DIRECT)


class Scene:
    """An image file whose head is all of its bytes that matter, and what was asked of it."""

    def __init__(self, levels: list[Image]) -> None:
        self.levels = levels
        self.head, self.size = write_head(levels)
        self.insight = Insight(self.size)
        self.have = RangeSet()
        self.requests: list[ByteRange] = []
        self.waits = 0
        self.read_bytes = 0

    def open(self, *, direct: bool = False) -> Access:
        """A handle, `direct` past the kernel's page cache."""
        access = Access(self.size, DIRECT if direct else None, self.insight)
        self.read(access, ByteRange(0, 4 * PAGE))
        return access

    def close(self, access: Access) -> None:
        """Close a handle, the last one: nothing it asked for ahead comes but what it keeps."""
        plan = access.on_close()
        assert not any(intersect(one, other) for one in plan.cancel for other in plan.keep)
        for span in plan.cancel:
            self.have.discard(span)

    def read(self, access: Access, span: ByteRange, *, needed: bool = True) -> None:
        plan = access.on_read(span, self.have, 96 * MIB)
        self.waits += bool(plan.demand) and needed
        self.read_bytes += len(span)
        for asked in (*plan.demand, *plan.ahead, *plan.guesses):
            assert asked.stop <= self.size
            assert self.have.missing(asked) == [asked], "asked for twice"
            self.have.add(asked)
            self.requests.append(asked)
        assert self.have.covers(span)
        self.insight.structure.learn(span, self._get)

    def window(self, access: Access, level: int, rows: range, cols: range) -> int:
        """Read tiles row by row; the bytes that they have."""
        needed = 0
        for row in rows:
            spans = [self.tile(level, row, col) for col in cols]
            needed += sum(map(len, spans))
            for run in coalesce(spans):
                for span, is_needed in kernel(run, self.size):
                    self.read(access, span, needed=is_needed)
        return needed

    def tile(self, level: int, row: int, col: int) -> ByteRange:
        """The bytes of one."""
        image = self.levels[level]
        assert image.tile is not None
        number = row * -(-image.width // image.tile) + col
        return ByteRange(image.offsets[number], image.offsets[number] + image.counts[number])

    def direct_window(self, access: Access, level: int, rows: range, cols: range) -> int:
        """Likewise, past the page cache."""
        needed, held = 0, -1
        for row, col in itertools.product(rows, cols):
            tile = self.tile(level, row, col)
            needed += len(tile)
            for span in library(tile, held, self.size):
                self.read(access, span)
            held = (tile.stop - 1) // BUFFER_BYTES
        return needed

    def _get(self, span: ByteRange) -> bytes | None:
        if not self.have.covers(span):
            return None
        return self.head[span.start : span.stop].ljust(len(span), b"\0")

    @property
    def asked_bytes(self) -> int:
        return sum(map(len, self.requests))


def kernel(run: ByteRange, size: int) -> Iterator[tuple[ByteRange, bool]]:
    """How a run of tiles is asked for, and whether the program waits for it."""
    start = run.start // PAGE * PAGE
    yield ByteRange(start, min(start + PAGE, size)), True
    position = start + PAGE
    chunks_past = 0
    while position < size and chunks_past < 2:
        stop = min(position + CHUNK, size)
        yield ByteRange(position, stop), position < run.stop
        chunks_past += stop >= run.stop
        position = stop


def library(wanted: ByteRange, held: int, size: int) -> Iterator[ByteRange]:
    """How the C library reads: whole buffers, the one it holds not again."""
    first, last = wanted.start // BUFFER_BYTES, (wanted.stop - 1) // BUFFER_BYTES
    if first != held:
        yield ByteRange(first * BUFFER_BYTES, min((first + 1) * BUFFER_BYTES, size))
    if last > first + 1:
        yield ByteRange((first + 1) * BUFFER_BYTES, last * BUFFER_BYTES)
    if last > first:
        yield ByteRange(last * BUFFER_BYTES, min((last + 1) * BUFFER_BYTES, size))


def scene(side: int, tile: int, tile_bytes: int, seed: int = 0) -> Scene:
    """A COG with overviews down to one tile; tiles of about `tile_bytes`."""
    chance = random.Random(seed)
    levels: list[Image] = []
    width = side
    while True:
        count = tiles_of(width, width, tile)
        sizes = [int(tile_bytes * chance.uniform(0.8, 1.2)) for _ in range(count)]
        levels.append(Image(width, width, tile, sizes, reduced=bool(levels)))
        if width <= tile:
            return Scene(levels)
        width = -(-width // 2)


@pytest.mark.parametrize(
    ("tile", "tile_bytes", "tiles", "most_waits", "most"),
    [
        (512, 1_400_000, 3, 4, 1.5),
        (256, 84_000, 5, 2, 1.8),
        (512, 87_000, 3, 2, 2.0),
        (512, 2_000_000, 3, 6, 1.4),
    ],
)
def test_a_window_of_a_screen(
    tile: int, tile_bytes: int, tiles: int, most_waits: int, most: float
) -> None:
    """The head, the first tile with small ones behind it: little else is waited for."""
    thing = scene(8192, tile, tile_bytes)
    access = thing.open()
    needed = thing.window(access, 0, range(3, 3 + tiles), range(4, 4 + tiles))
    assert thing.waits <= most_waits
    assert thing.asked_bytes <= most * needed + CHUNK
    before = thing.asked_bytes
    thing.window(thing.open(), 0, range(3, 3 + tiles), range(4, 4 + tiles))
    assert thing.asked_bytes <= before + CHUNK, "the second time costs nothing"


@pytest.mark.parametrize(
    ("tile", "tile_bytes", "tiles", "most_waits"),
    [(512, 1_400_000, 3, 4), (256, 84_000, 5, 2), (512, 87_000, 3, 2), (512, 2_000_000, 3, 6)],
)
def test_past_the_page_cache_a_window_is_its_tiles(
    tile: int, tile_bytes: int, tiles: int, most_waits: int
) -> None:
    thing = scene(8192, tile, tile_bytes)
    access = thing.open(direct=True)
    before = thing.asked_bytes
    needed = thing.direct_window(access, 0, range(3, 3 + tiles), range(4, 4 + tiles))
    assert thing.waits <= most_waits
    assert thing.asked_bytes - before <= needed + 2 * BUFFER_BYTES * tiles


def test_past_the_page_cache_an_overview_is_its_tiles() -> None:
    thing = scene(8192, 256, 84_000)
    access = thing.open(direct=True)
    level = next(i for i, one in enumerate(thing.levels) if -(-one.width // 256) == 2)
    needed = thing.direct_window(access, level, range(2), range(2))
    assert len(thing.requests) <= 3
    assert thing.asked_bytes <= needed + CHUNK + 4 * BUFFER_BYTES


@pytest.mark.parametrize("pans", [1, 4])
def test_a_window_to_the_right_shares_a_column_with_the_last(pans: int) -> None:
    """A canvas of three by three tiles that moves to the right by two: the program holds one.

    From the third move on the next one is foretold.
    """
    thing = scene(16384, 512, 1_400_000)
    access = thing.open(direct=True)
    thing.direct_window(access, 0, range(3, 6), range(4, 7))
    asked, waits, needed = thing.asked_bytes, thing.waits, 0
    for pan in range(pans):
        right = 7 + 2 * pan
        needed += thing.direct_window(access, 0, range(3, 6), range(right, right + 2))
    foretold = (pans >= 2) * needed * 5 / 16
    assert thing.asked_bytes - asked <= needed + 12 * pans * BUFFER_BYTES + foretold
    assert thing.waits - waits <= 2 * pans


@pytest.mark.parametrize("reopens", [False, True])
@pytest.mark.parametrize(
    ("tile", "tile_bytes", "side"),
    [(256, 84_000, 1024), (512, 1_400_000, 1024), (256, 84_000, 900)],
)
def test_windows_in_a_grid_are_here_before_they_are_read(
    tile: int, tile_bytes: int, side: int, *, reopens: bool
) -> None:
    """From the fourth on; of one more a part is asked for with its first tile, in one request.

    Also where the program opens the file for each window, and holds no tile of the last one.
    """
    thing = scene(12288, tile, tile_bytes)
    access, held, read = thing.open(direct=True), set[tuple[int, int]](), set[tuple[int, int]]()
    asked, late = thing.asked_bytes, list[int]()
    for number, (y, x) in enumerate(itertools.product(range(2), range(12288 // side))):
        cells = itertools.product(
            range(y * side // tile, (y * side + side - 1) // tile + 1),
            range(x * side // tile, (x * side + side - 1) // tile + 1),
        )
        fresh = [cell for cell in cells if cell not in held]
        here = RangeSet(thing.have)
        for row, col in fresh:
            thing.direct_window(access, 0, range(row, row + 1), range(col, col + 1))
            if here.missing(thing.tile(0, row, col)):
                late.append(number)
        read.update(fresh)
        if reopens:
            thing.close(access)
            access = thing.open(direct=True)
        else:
            held.update(fresh)
    assert len(set(late) - {0, 1, 2, 3}) <= 1
    needed = sum(len(thing.tile(0, row, col)) for row, col in read)
    assert thing.asked_bytes - asked <= (1.5 if reopens else 1.3) * needed


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tile_bytes", [84_000, 120_000])
def test_past_the_page_cache_threads_read_their_windows(tile_bytes: int, seed: int) -> None:
    """16 handles of one image; their first windows of two by two tiles are guessed larger."""
    thing = scene(16384, 256, tile_bytes)
    chance, needed = random.Random(seed), 0
    handles = [thing.open(direct=True) for _ in range(16)]
    for number in range(16 * 8):
        if number == 16:
            asked_before, waits_before, needed = thing.asked_bytes, thing.waits, 0
        row, col = chance.randrange(60), chance.randrange(60)
        needed += thing.direct_window(
            handles[number % 16], 0, range(row, row + 2), range(col, col + 2)
        )
    assert thing.asked_bytes - asked_before <= 1.1 * needed
    assert thing.waits - waits_before <= 16 * 7


@pytest.mark.parametrize(("tile", "tile_bytes"), [(512, 600_000), (512, 100_000), (256, 84_000)])
def test_an_overview_is_one_request(tile: int, tile_bytes: int) -> None:
    thing = scene(8192, tile, tile_bytes)
    access = thing.open()
    level = next(i for i, one in enumerate(thing.levels) if -(-one.width // tile) == 2)
    needed = thing.window(access, level, range(2), range(2))
    assert len(thing.requests) <= 4
    assert thing.asked_bytes <= needed + 4 * CHUNK


def test_the_tail_of_a_small_last_tile_is_as_long_as_the_kernels_pieces() -> None:
    whole = Image(2000, 1000, 512, [1_400_000] * 8)
    thing = Scene([whole, Image(1000, 500, 512, [600_000, 50_000], reduced=True)])
    access = Access(thing.size, Tuning(kernel_ahead_bytes=64 * KIB), thing.insight)
    thing.read(access, ByteRange(0, 4 * PAGE))
    first, last = thing.levels[1].offsets
    start = first // PAGE * PAGE + PAGE
    thing.read(access, ByteRange(start, start + PAGE))
    assert thing.have.covers(ByteRange(first, last + 50_000 + 128 * KIB))


def test_a_wider_window_is_foretold_after_its_first_row() -> None:
    thing = scene(16384, 512, 1_000_000)
    access = thing.open()
    thing.window(access, 0, range(5, 7), range(3, 12))
    waits = thing.waits
    thing.window(access, 0, range(7, 14), range(3, 12))
    assert thing.waits - waits <= 1


def test_windows_teach_the_next_handle_their_size() -> None:
    """Windows of two by two tiles: guesses shrink from a screen to what is read."""
    thing = scene(16384, 256, 84_000)
    chance, needed = random.Random(1), 0
    for number in range(24):
        if number == 8:
            asked_before, needed, read_before = thing.asked_bytes, 0, thing.read_bytes
        access = thing.open()
        row, col = chance.randrange(60), chance.randrange(60)
        needed += thing.window(access, 0, range(row, row + 2), range(col, col + 2))
        access.on_close()
    assert thing.asked_bytes - asked_before <= 1.25 * (thing.read_bytes - read_before)


def test_a_copy_is_no_window() -> None:
    """Reading on from one level into the next shows a copy: then requests are large."""
    thing = scene(4096, 256, 84_000)
    access = thing.open()
    for start in range(4 * PAGE, thing.size, CHUNK):
        thing.read(access, ByteRange(start, min(start + CHUNK, thing.size)))
    assert thing.asked_bytes == thing.size
    assert len(thing.requests) <= thing.size / MIB * 1.6
    assert thing.waits <= 8


@pytest.mark.parametrize("size", [3 * MIB, 40 * MIB, 200 * MIB + 5])
def test_who_is_known_to_copy_is_read_ahead_of_at_once(size: int) -> None:
    asked, have = list[ByteRange](), RangeSet()
    access = Access(size, Tuning().suited(Reading.WHOLE))
    waits = 0
    for start in range(0, size, CHUNK):
        plan = access.on_read(ByteRange(start, min(start + CHUNK, size)), have, 64 * MIB)
        waits += bool(plan.demand)
        for span in (*plan.demand, *plan.ahead, *plan.guesses):
            asked.append(span)
            have.add(span)
        if not start:
            assert have.covers(ByteRange(0, min(size, 32 * MIB)))
    assert waits == 1
    assert sum(map(len, asked)) == size, "each byte once, none beyond the end"
    assert len(asked) <= 4 + size / (3 * MIB)


@pytest.mark.parametrize(("direct", "piece"), [(True, MIB // 2), (False, MIB)])
def test_who_begins_with_a_large_read_is_taken_for_one_who_copies(
    *, direct: bool, piece: int
) -> None:
    thing = scene(16384, 256, 84_000)
    for first, ahead in ((piece - BUFFER_BYTES, False), (piece, True)):
        access = Access(thing.size, DIRECT if direct else None)
        plan = access.on_read(ByteRange(0, first), RangeSet(), 64 * MIB)
        asked = sum(map(len, (*plan.demand, *plan.ahead, *plan.guesses)))
        assert (asked > 30 * MIB) is ahead, "once the first megabyte is there"
        assert asked <= 36 * MIB
    elsewhere = Access(thing.size, DIRECT if direct else None)
    plan = elsewhere.on_read(ByteRange(9 * MIB, 9 * MIB + piece), RangeSet(), 64 * MIB)
    assert sum(map(len, (*plan.demand, *plan.ahead, *plan.guesses))) <= 3 * MIB


def test_who_is_known_to_copy_and_begins_elsewhere_is_not_believed() -> None:
    access = Access(200 * MIB, Tuning().suited(Reading.WHOLE))
    plan = access.on_read(ByteRange(64 * MIB, 64 * MIB + CHUNK), RangeSet(), 64 * MIB)
    assert sum(map(len, (*plan.demand, *plan.ahead, *plan.guesses))) <= MIB


def test_a_copy_of_an_image_is_no_window_from_its_first_byte_on() -> None:
    thing = scene(8192, 256, 84_000)
    access = Access(thing.size, Tuning().suited(Reading.WHOLE), thing.insight)
    for start in range(0, 20 * MIB, CHUNK):
        thing.read(access, ByteRange(start, start + CHUNK))
    assert thing.waits == 1
    assert max(map(len, thing.requests)) == 4 * MIB


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(("step", "most_stops"), [(13.67, 150), (4.5, 2000), (40.2, 150)])
def test_thinned_strips_are_asked_for_ahead(step: float, most_stops: int, *, direct: bool) -> None:
    thing = Scene([Image(7000, 7000, None, [56_000] * 7000)])
    access = thing.open(direct=direct)
    offsets, stops = thing.levels[0].offsets, 0
    row = 0.5 * step
    while row < 7000 and stops < most_stops:
        strip = ByteRange(offsets[int(row)], offsets[int(row)] + 56_000)
        reads = [(span, True) for span in library(strip, -1, thing.size)] if direct else []
        for span, is_needed in reads or kernel(strip, thing.size):
            thing.read(access, span, needed=is_needed)
        row, stops = row + step, stops + 1
    assert thing.waits <= 20
    assert thing.asked_bytes <= (4 if direct else 1.5) * thing.read_bytes + 8 * MIB


def test_a_window_of_strips_is_a_run_that_ends() -> None:
    """All strips of a thousand rows: large requests, and none past the last row."""
    thing = Scene([Image(7000, 7000, None, [56_000] * 7000)])
    access = thing.open()
    start = thing.levels[0].offsets[4000]
    run = ByteRange(start, start + 1024 * 56_000)
    for span, is_needed in kernel(run, thing.size):
        thing.read(access, span, needed=is_needed)
    assert thing.asked_bytes <= 1.05 * len(run)
    assert len(thing.requests) <= 80
    assert thing.waits <= 8


def test_two_readers_that_take_turns_on_one_handle_wait_as_seldom_as_one() -> None:
    """One in the image, one in an overview: that is no run from one level into the other."""
    thing = scene(8192, 256, 84_000)
    access = thing.open()
    runs = []
    for level in (0, 1):
        image = thing.levels[level]
        start = image.offsets[100] // PAGE * PAGE
        runs.append(kernel(ByteRange(start, start + 6 * MIB), thing.size))
    for both in zip(*runs, strict=False):
        for span, is_needed in both:
            thing.read(access, span, needed=is_needed)
    assert thing.waits <= 16
    assert len(thing.requests) <= 64


def test_the_window_beside_is_guessed_as_wide_as_the_one_before() -> None:
    thing = scene(16384, 256, 84_000)
    access = thing.open()
    thing.window(access, 0, range(17, 22), range(17, 22))
    before, waits = thing.asked_bytes, thing.waits
    needed = thing.window(access, 0, range(17, 22), range(22, 27))
    assert thing.asked_bytes - before <= 1.6 * needed
    assert thing.waits - waits <= 3


def test_what_is_guessed_is_given_up_when_the_reader_goes_elsewhere() -> None:
    thing = scene(16384, 512, 1_400_000)
    access = thing.open()
    thing.window(access, 0, range(10, 11), range(10, 12))
    image = thing.levels[0]
    start = image.offsets[0] // PAGE * PAGE
    plan = access.on_read(ByteRange(start, start + PAGE), thing.have, 96 * MIB)
    below = image.offsets[11 * 32 + 10]
    assert any(span.start <= below < span.stop for span in plan.cancel)
    assert access.on_close().cancel


@given(
    st.sampled_from([(256, 30_000), (256, 84_000), (512, 700_000), (512, 1_400_000)]),
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 7), st.integers(0, 7),
            st.integers(1, 6), st.integers(1, 6), st.booleans(),
        ),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
@settings(max_examples=60)
def test_any_windows_cost_a_bounded_share(
    kind: tuple[int, int], windows: list[tuple[int, int, int, int, int, bool]]
) -> None:
    """Never asked twice, never beyond the end; guesses never outweigh what was read by much."""
    thing = scene(4096, *kind)
    access = thing.open()
    for level, row, col, rows, cols, again in windows:
        if again:
            access.on_close()
            access = thing.open()
        across = -(-thing.levels[level].width // kind[0])
        thing.window(
            access, level,
            range(min(row, across - 1), min(row + rows, across)),
            range(min(col, across - 1), min(col + cols, across)),
        )  # fmt: skip
    assert thing.asked_bytes <= 3 * thing.read_bytes + 4 * MIB * (1 + len(windows))


def guessed(readers: int) -> int:
    """Bytes asked for when so many handles read one tile each, far apart, at the same time."""
    thing = scene(16384, 256, 84_000)
    handles = [thing.open() for _ in range(readers)]
    before = thing.asked_bytes
    for number, access in enumerate(handles):
        thing.window(
            access, 0, range(number * 3, number * 3 + 1), range(number * 3, number * 3 + 1)
        )
    return thing.asked_bytes - before


def test_handles_that_read_at_once_share_what_is_guessed_without_evidence() -> None:
    assert guessed(1) > 2 * MIB
    assert guessed(16) < 16 * guessed(1) / 2


def test_who_reads_alone_again_guesses_as_much_as_before() -> None:
    thing = scene(16384, 256, 84_000)
    for _ in range(16):
        access = thing.open()
        thing.window(access, 0, range(1), range(1))
    alone = thing.open()
    for row in range(64):  # nobody else does meanwhile
        thing.window(alone, 1, range(row // 2, row // 2 + 1), range(1))
    assert thing.insight.shapes.readers(0) == 2


def test_the_search_for_an_archives_directory_is_no_read_of_its_last_tile() -> None:
    """GDAL searches anew, 8 KiB by 8 KiB from the end down, whenever it opens a member."""
    head, image_size = write_head([Image(2048, 2048, 512, [1_400_000] * 16)])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("scene.tif", head.ljust(image_size, b"\0"))
    data, have, asked = out.getvalue(), RangeSet(), list[ByteRange]()
    insight = Insight(len(data))

    def read(access: Access, start: int, stop: int) -> None:
        plan = access.on_read(ByteRange(start, stop), have, 96 * MIB)
        for span in (*plan.demand, *plan.ahead, *plan.guesses):
            have.add(span)
            asked.append(span)
        insight.structure.learn(ByteRange(start, stop), lambda span: data[span.start : span.stop])

    first = Access(len(data), DIRECT, insight)
    last = len(data) // BUFFER_BYTES * BUFFER_BYTES
    read(first, last, len(data))
    read(first, 0, 4 * PAGE)
    assert insight.structure.image_at(MIB) is not None
    before = len(asked)
    again = Access(len(data), DIRECT, insight)
    for step in range(9):
        read(again, last - step * BUFFER_BYTES, min(len(data), last - (step - 1) * BUFFER_BYTES))
    assert asked[before:] == []


@pytest.mark.claim("S372")
@given(st.integers(0, 60), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1))
@settings(max_examples=40)
def test_without_unproven_guesses_windows_of_one_tile_cost_their_tiles(
    seed: int, places: list[tuple[int, int]]
) -> None:
    """A worker of a cluster reads a few tiles here and there: nothing is fetched beside them."""
    thing = scene(20 * 512, 512, 380_000, seed)
    access = Access(thing.size, Tuning(unproven_bytes=0).suited(Reading.DIRECT), thing.insight)
    thing.read(access, ByteRange(0, 1024))
    head = thing.asked_bytes
    apart = list[tuple[int, int]]()
    for row, col in dict.fromkeys(places):  # not beside one before, which makes a window of both
        if all(abs(row - other) > 1 or abs(col - beside) > 1 for other, beside in apart):
            apart.append((row, col))
    for row, col in apart:
        thing.read(access, thing.tile(0, row, col))
    tiles = sum(len(thing.tile(0, row, col)) for row, col in apart)
    # Each is rounded to whole buffers, at both ends; two tiles may share such a buffer.
    assert thing.asked_bytes - head <= tiles + len(apart) * 2 * BUFFER_BYTES
    assert len(thing.requests) <= 1 + len(apart)


def test_without_unproven_guesses_a_window_is_guessed_from_its_second_tile_on() -> None:
    thing = scene(20 * 512, 512, 380_000)
    access = Access(thing.size, Tuning(unproven_bytes=0).suited(Reading.DIRECT), thing.insight)
    thing.read(access, ByteRange(0, 1024))
    thing.read(access, thing.tile(0, 4, 4))
    first = len(thing.requests)
    thing.read(access, thing.tile(0, 4, 5))
    assert len(thing.requests) > first + 1
    waits = thing.waits
    thing.read(access, thing.tile(0, 4, 6))
    assert thing.waits == waits

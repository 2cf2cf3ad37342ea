"""Files fetched before they are opened: the bound on waste (hypothesis), known walks, a model."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.readahead.folder.order import Folder
from up42fs.readahead.folder.siblings import IDLE_S, FolderPlan, FolderWalks
from up42fs.readahead.folder.walk import (
    FILE_BYTES,
    FIRST_BYTES,
    FIRST_FILES,
    FIRST_WINDOW,
    MOST_FILES,
    UNIT_BYTES,
    Visit,
    Want,
)
from up42fs.readahead.tuning import KIB, MIB

LIMIT = 32 * MIB


def folder(count: int = 50, key: str = "f", suffix: str = ".tif") -> Folder:
    """Files `f00`, `f01`, … listed in that order, inodes in another."""
    names = {f"{key}{number:02}": f"tile_{number:02}{suffix}" for number in range(count)}
    return Folder(key, names, lambda file: int(file[-2:]) * 37 % 101)


@dataclass
class Reader:
    """Applies what is decided; checks every plan."""

    sizes: dict[str, int] = field(default_factory=dict)
    size: int | None = 2 * MIB
    now_s: float = 1000.0
    asked: dict[str, Want] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.siblings = FolderWalks(lambda file: self.sizes.get(file, self.size), LIMIT)
        self.foreseen_bytes = 0
        self.foreseen_files = 0

    def true_size(self, file: str) -> int:
        return self.sizes.get(file) or self.size or MIB

    def open(self, where: Folder, file: str, *, ready: bool = False) -> Visit:
        trust = self.siblings.trust
        before = trust.read_files
        visit = self.siblings.on_first_read(
            where, file, self.true_size(file), self.now_s, is_ready=ready
        )
        assert trust.read_files - before in (0, 1)
        if visit.foreseen and visit.counted == 0 and visit.handles == 1:
            self.foreseen_files += 1
        return visit

    def read(self, visit: Visit, start: int, stop: int) -> list[str]:
        """Read; returns the files that were asked for."""
        before = visit.counted
        plan = self.siblings.on_read(visit, start, min(stop, visit.size), self.now_s)
        if visit.foreseen:
            self.foreseen_bytes += visit.counted - before
        return self._take(plan)

    def close(self, visit: Visit) -> None:
        assert self._take(self.siblings.on_close(visit)) == []

    def head(self, where: Folder, file: str, *, ready: bool = False) -> list[str]:
        visit = self.open(where, file, ready=ready)
        asked = self.read(visit, 0, 16 * KIB)
        self.close(visit)
        return asked

    def whole(self, where: Folder, file: str, *, ready: bool = False) -> list[str]:
        visit = self.open(where, file, ready=ready)
        asked = []
        for start in range(0, visit.size, 128 * KIB):
            asked += self.read(visit, start, start + 128 * KIB)
        self.close(visit)
        return asked

    def _take(self, plan: FolderPlan | None) -> list[str]:
        for want in plan.ahead if plan else ():
            for span in want.spans(self.true_size(want.file)):
                assert span.stop <= self.true_size(want.file)
            self.asked[want.file] = want
        self.cancelled += plan.cancel if plan else ()
        self.check()
        return [want.file for want in plan.ahead] if plan else []

    def check(self) -> None:
        """The bound that `siblings` promises."""
        trust = self.siblings.trust
        assert 0 <= trust.unread_files <= trust.files <= MOST_FILES
        assert 0 <= trust.unread_bytes <= trust.bytes <= LIMIT
        assert trust.wasted_files + trust.unread_files <= FIRST_FILES + self.foreseen_files
        assert trust.wasted_bytes + trust.unread_bytes <= FIRST_BYTES + self.foreseen_bytes


# what never happens ---------------------------------------------------------------------------

events = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "next", "back", "skip", "any", "close", "more", "idle"]),
        st.integers(0, 3),  # reader
        st.integers(0, 200),
        st.sampled_from([16 * KIB, 128 * KIB, MIB, 64 * MIB]),
    ),
    max_size=120,
)


@given(events, st.dictionaries(st.integers(0, 79), st.integers(0, 40 * MIB)), st.booleans())
@settings(max_examples=300)
def test_whatever_is_read_waste_stays_within_what_was_foreseen(
    steps: list[tuple[str, int, int, int]], sizes: dict[int, int], are_known: bool
) -> None:
    where = [folder(80), folder(3, "g"), folder(80, "h", ".zip")]
    reader = Reader({f"f{n:02}": size for n, size in sizes.items() if size and are_known})
    reader.size = 2 * MIB if are_known else None
    places = {number: (number % 3, 10 * number) for number in range(4)}
    open_visits: dict[int, Visit] = {}
    for what, number, value, length in steps:
        reader.now_s += 0.1
        which, place = places[number]
        if what == "idle":
            reader.now_s += value
        elif what == "close":
            if number in open_visits:
                reader.close(open_visits.pop(number))
        elif what == "more" and number in open_visits:
            visit = open_visits[number]
            start = visit.front if value % 4 else visit.size * value // 201
            if start < visit.size:
                reader.read(visit, start, start + length)
        else:
            if number in open_visits:
                reader.close(open_visits.pop(number))
            step = {"next": 1, "back": -1, "skip": value % 12, "any": value}.get(what, 1)
            which = value % 3 if what == "any" else which
            place = (place + step) % len(where[which])
            places[number] = which, place
            file = f"{where[which].key}{place:02}"
            visit = open_visits[number] = reader.open(where[which], file, ready=value % 2 == 0)
            if visit.size:
                reader.read(visit, 0, length)
    reader.now_s += 10 * IDLE_S
    reader.close(reader.open(where[0], "f00"))
    reader.check()


@given(st.permutations(range(40)))
@settings(max_examples=50)
def test_reading_in_no_order_costs_little(numbers: list[int]) -> None:
    """Two neighbours by chance do not make it fetch the directory."""
    reader, where = Reader(), folder(400)
    names = random.Random(repr(numbers)).sample([f"f{n:02}" for n in range(400)], 40)
    for file in names:
        reader.head(where, file)
    trust = reader.siblings.trust
    assert trust.asked_files - trust.read_files <= FIRST_FILES + reader.foreseen_files


# walks ----------------------------------------------------------------------------------------


def test_one_file_is_no_evidence_and_two_are() -> None:
    reader, where = Reader(), folder()
    assert reader.head(where, "f00") == []
    assert reader.head(where, "f01") == ["f02", "f03", "f04", "f05"]
    assert reader.asked["f02"] == Want("f02", UNIT_BYTES)


def test_the_same_file_again_proves_nothing() -> None:
    reader, where = Reader(), folder()
    for _ in range(5):
        assert reader.head(where, "f00") == []


ORDERS: dict[str, Callable[[Folder], list[str]]] = {
    "listed": lambda _: [f"f{n:02}" for n in range(50)],
    "reverse": lambda _: [f"f{n:02}" for n in reversed(range(50))],
    "inode": lambda _: sorted((f"f{n:02}" for n in range(50)), key=lambda f: int(f[1:]) * 37 % 101),
}


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_is_followed_to_its_end(order: str) -> None:
    reader, where = Reader(), folder()
    files = ORDERS[order](where)
    for number, file in enumerate(files):
        reader.head(where, file)
        coming = files[number + 1 : number + 3]
        if number:
            assert all(later in reader.asked for later in coming)
    trust = reader.siblings.trust
    assert (trust.asked_files, trust.read_files, trust.wasted_files) == (48, 48, 0)


def test_files_of_one_suffix_among_others() -> None:
    """`gdalbuildvrt *.tif` where every image has a sidecar."""
    names: dict[str, str] = {}
    for number in range(30):
        names |= {f"t{number}": f"a{number:02}.tif", f"x{number}": f"a{number:02}.xml"}
    reader, where = Reader(), Folder("f", names)
    for number in range(30):
        reader.head(where, f"t{number}")
    assert set(reader.asked) == {f"t{number}" for number in range(2, 30)}
    assert reader.siblings.trust.wasted_files == 0


def test_heads_are_fetched_for_who_reads_heads_and_all_for_who_copies() -> None:
    reader, where = Reader(), folder()
    for number in range(6):
        reader.whole(where, f"f{number:02}")
    want = reader.asked["f06"]
    assert sum(map(len, want.spans(2 * MIB))) == 2 * MIB
    reader = Reader()
    for number in range(6):
        reader.head(where, f"f{number:02}")
    assert sum(map(len, reader.asked["f06"].spans(2 * MIB))) == UNIT_BYTES


def test_tails_are_fetched_for_who_reads_tails() -> None:
    """`for f in *.zip; do unzip -l $f; done`."""
    reader, where = Reader(), folder()
    for number in range(4):
        visit = reader.open(where, f"f{number:02}")
        reader.read(visit, 2 * MIB - 60 * KIB, 2 * MIB)
        reader.close(visit)
    assert reader.asked["f04"] == Want("f04", 0, tail=True)


def test_a_large_file_is_followed_by_the_next_only_near_its_end() -> None:
    reader, where = Reader(size=300 * MIB), folder()
    reader.whole(where, "f00")
    visit = reader.open(where, "f01")
    for start in range(0, 300 * MIB, MIB):
        asked = reader.read(visit, start, start + MIB)
        assert not asked or start >= 300 * MIB - LIMIT
    assert reader.asked["f02"].front == FILE_BYTES


def test_unknown_sizes_are_asked_for_no_more_than_a_little() -> None:
    reader, where = Reader(size=None), folder()
    for number in range(5):
        reader.whole(where, f"f{number:02}")
    assert reader.asked["f05"].front == MIB


def test_a_file_smaller_than_was_asked_of_it_wastes_nothing() -> None:
    reader, where = Reader(size=None), folder()
    for number in range(12):
        reader.sizes[f"f{number:02}"] = 200 * KIB  # learned when it is opened
        reader.whole(where, f"f{number:02}")
    assert reader.siblings.trust.read_files > 8
    assert reader.siblings.trust.wasted_bytes == 0


def test_a_slow_reader_keeps_a_small_window_and_a_starved_one_gets_more() -> None:
    slow, fast, where = Reader(), Reader(), folder()
    for number in range(12):
        slow.head(where, f"f{number:02}", ready=True)
        fast.head(where, f"f{number:02}", ready=False)
    assert slow.siblings.trust.unread_files == FIRST_WINDOW
    assert fast.siblings.trust.unread_files > 3 * FIRST_WINDOW


def test_four_readers_at_once_are_one_walk() -> None:
    """`xargs -P4`: files are begun out of order, and several are open."""
    reader, where = Reader(), folder(60)
    chance = random.Random(3)
    waiting = [f"f{n:02}" for n in range(60)]
    visits: list[Visit] = []
    while waiting or visits:
        if waiting and len(visits) < 4:
            visit = reader.open(where, waiting.pop(chance.randrange(min(3, len(waiting)))))
            reader.read(visit, 0, 128 * KIB)
            visits.append(visit)
        else:
            reader.close(visits.pop(chance.randrange(len(visits))))
    trust = reader.siblings.trust
    assert trust.read_files >= 50
    assert trust.wasted_files <= 2


def test_two_tools_in_one_directory_are_two_walks() -> None:
    reader, where = Reader(), folder(100)
    for number in range(30):
        reader.head(where, f"f{number:02}")
        reader.head(where, f"f{99 - number:02}")
    assert {"f30", "f31", "f69", "f68"} <= set(reader.asked)
    assert reader.siblings.trust.wasted_files == 0


def test_files_left_out_cost_the_window() -> None:
    """A mosaic's window touches some files: those passed over for good are wasted."""
    reader, where = Reader(), folder(99)
    for number in [0, 1, 2, 3, *range(4, 99, 4)]:
        reader.head(where, f"f{number:02}")
    trust = reader.siblings.trust
    assert trust.wasted_files > 0
    assert trust.wasted_files <= FIRST_FILES + reader.foreseen_files


def test_a_copy_that_is_interrupted_is_not_fetched_on() -> None:
    reader, where = Reader(), folder()
    for number in range(5):
        reader.whole(where, f"f{number:02}")
    visit = reader.open(where, "f05")
    reader.read(visit, 0, MIB)
    coming = set(reader.asked) - {f"f{n:02}" for n in range(6)}
    reader.close(visit)
    assert coming
    assert coming <= set(reader.cancelled)
    assert reader.siblings.trust.unread_files == 0


def test_a_walk_left_alone_ends() -> None:
    reader, where = Reader(), folder()
    for number in range(4):
        reader.head(where, f"f{number:02}")
    assert reader.siblings.trust.unread_files > 0
    reader.now_s += IDLE_S + 1
    reader.head(folder(5, "g"), "g03")
    assert reader.siblings.trust.unread_files == 0
    assert reader.cancelled


def test_guesses_that_fail_end_guessing_and_reading_in_order_brings_it_back() -> None:
    reader = Reader()
    for number in range(20):  # two neighbours, then elsewhere
        where = folder(30, f"{number:02}-")
        reader.head(where, f"{number:02}-10")
        reader.head(where, f"{number:02}-11")
        reader.now_s += IDLE_S + 1
    trust = reader.siblings.trust
    assert trust.wasted_files <= FIRST_FILES + 20
    assert reader.head(folder(30, "x"), "x00") == []
    assert len(reader.head(folder(30, "x"), "x01")) <= 2
    for number in range(2, 28):
        reader.head(folder(30, "x"), f"x{number:02}")
    assert trust.read_files > 20


def test_the_next_directory_is_taken_up_at_its_first_file() -> None:
    """`cp -r` of a tree: the same course, one directory after another."""
    reader = Reader()
    first, second = folder(10, "a"), folder(10, "b")
    for number in range(10):
        reader.whole(first, f"a{number:02}")
    visit = reader.open(second, "b00")
    assert reader.read(visit, 0, 128 * KIB) == ["b01"]
    assert sum(map(len, reader.asked["b01"].spans(2 * MIB))) == 2 * MIB


def test_empty_files_and_folders_that_change_meanwhile() -> None:
    reader = Reader({"f02": 0, "f03": 0})
    where = folder()
    reader.head(where, "f00")
    assert reader.head(where, "f01")[:2] == ["f04", "f05"]
    shrunk = Folder("f", {f"f{n:02}": f"tile_{n:02}.tif" for n in range(4, 50)})
    reader.head(shrunk, "f04")
    assert "f06" in reader.asked


# a model of the line --------------------------------------------------------------------------


@dataclass
class Line:
    """50 ms a request, 25 MB/s, 50 links a second, 8 links and 12 ranges at once."""

    latency_s: float = 0.05
    bytes_s: float = 25e6
    link_free: list[float] = field(default_factory=lambda: [0.0] * 8)
    slot_free: list[float] = field(default_factory=lambda: [0.0] * 12)
    next_link_s: float = 0.0
    busy_until_s: float = 0.0

    def ask(self, now_s: float, size: int) -> float:
        """When `size` bytes of a file without a link are here."""
        begun_s = max(now_s, heapq.heappop(self.link_free), self.next_link_s)
        self.next_link_s = max(self.next_link_s, now_s - 32 / 50) + 1 / 50
        linked_s = begun_s + self.latency_s
        heapq.heappush(self.link_free, linked_s)
        sent_s = max(linked_s, heapq.heappop(self.slot_free)) + self.latency_s
        self.busy_until_s = max(sent_s, self.busy_until_s) + size / self.bytes_s
        heapq.heappush(self.slot_free, self.busy_until_s)
        return self.busy_until_s


def seconds(files: Sequence[str], where: Folder, size: int, *, whole: bool, ahead: bool) -> float:
    """How long it takes to read the files one after another, 2 ms of work each."""
    reader, line, now_s = Reader(size=size), Line(), 0.0
    here: dict[str, float] = {}
    for file in files:
        reader.now_s = 1000.0 + now_s
        visit = reader.open(where, file, ready=here.get(file, 1e9) <= now_s)
        asked = reader.read(visit, 0, size if whole else 16 * KIB)
        if file not in here:
            here[file] = line.ask(now_s, size if whole else UNIT_BYTES)
        for other in asked if ahead else ():
            cost = reader.asked[other].cost(size)
            here[other] = line.ask(now_s, cost)
        now_s = max(now_s, here[file]) + 0.002
        reader.close(visit)
    return now_s


def test_in_the_model_heads_of_fifty_files_take_a_fifth_of_the_time() -> None:
    files = [f"f{n:02}" for n in range(50)]
    one_by_one = seconds(files, folder(), 1_800_000, whole=False, ahead=False)
    assert seconds(files, folder(), 1_800_000, whole=False, ahead=True) < one_by_one / 4


def test_in_the_model_five_hundred_small_files_come_as_fast_as_links_do() -> None:
    names = {f"f{n}": f"s{n:03}.bin" for n in range(500)}
    where = Folder("f", names)
    taken_s = seconds(list(names), where, 200_000, whole=True, ahead=True)
    assert taken_s < 500 / 50 + 1
    assert seconds(list(names), where, 200_000, whole=True, ahead=False) > 5 * taken_s

"""What the library decides without I/O: ranges, the buffer, facts, plans, stable addresses."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Coroutine
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from up42fs import stac
from up42fs.library import plans
from up42fs.library.buffer import Buffer
from up42fs.library.facts import MOST_PICKLED_FILES, MOST_PICKLED_NAMES, Facts
from up42fs.library.plans import Question
from up42fs.library.spans import holder, merged, span_within
from up42fs.store.members.extent import StoredObject
from up42fs.types import Version

DATA = bytes(range(256)) * 8
OPTIONAL = st.one_of(st.none(), st.integers(-3000, 3000))


@given(OPTIONAL, OPTIONAL, st.integers(0, 2048))
def test_a_span_is_the_slice_of_the_same_numbers(
    start: int | None, end: int | None, size: int
) -> None:
    data = DATA[:size]
    first, stop = span_within(start, end, size)
    assert 0 <= first <= stop <= size
    assert data[first:stop] == data[start:end]


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 60)), max_size=30), st.integers(0, 50)
)
def test_merged_ranges_hold_all_spans_and_no_gap_that_is_larger(
    found: list[tuple[int, int]], most_gap: int
) -> None:
    spans = [(start, start + size) for start, size in found]
    fetched = merged(spans, most_gap)
    for one, other in itertools.pairwise(fetched):
        assert one.stop + most_gap < other.start
    wanted = {at for start, stop in spans for at in range(start, stop)}
    held = {at for span in fetched for at in range(span.start, span.stop)}
    assert wanted <= held
    for start, stop in spans:
        if start < stop:
            span = fetched[holder(fetched, start)]
            assert span.start <= start < stop <= span.stop
    for at in held - wanted:  # between two spans that are not too far apart
        assert any(at < start <= at + most_gap for start, _ in spans)


@given(
    st.integers(0, 2048),
    st.lists(st.tuples(st.integers(0, 2100), st.integers(0, 300)), max_size=30),
    st.integers(0, 400),
)
def test_the_buffer_returns_the_files_bytes(
    size: int, reads: list[tuple[int, int]], ahead: int
) -> None:
    data = DATA[:size]
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        assert start < stop <= size
        asked.append((start, stop))
        return data[start : stop + ahead]

    buffer = Buffer(fetch, size)
    for start, count in reads:
        assert buffer._fetch(start, start + count) == data[start : start + count]
    assert len(asked) <= len(reads)


def test_what_was_told_ahead_is_not_asked_for() -> None:
    asked: list[int] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append(start)
        return DATA[start : stop + 1000]

    buffer = Buffer(fetch, len(DATA))
    for at in range(0, 1000, 10):
        assert buffer._fetch(at, at + 10) == DATA[at : at + 10]
    assert asked == [0]


def info(path: str, **more: Any) -> dict[str, Any]:
    return {"name": path, "type": "file", "size": 1, **more}


def stored(object_id: str) -> StoredObject:
    return StoredObject(object_id, 1, object_id, "stamp", version=Version(1, '"x"'))


def test_facts_of_another_process_are_used_until_this_one_has_looked() -> None:
    driver, worker = Facts(), Facts()
    driver.note(info("orders/a/x.tif"), stored("x"))
    driver.note_names("orders/a", ["x.tif"])
    assert driver.given("orders/a/x.tif") is None
    assert not driver.is_absent("orders/a/y.tif")
    worker.take(pickle.loads(pickle.dumps(driver.packed())))
    fact = worker.given("orders/a/x.tif")
    assert fact is not None
    assert fact.stored == stored("x")
    assert worker.is_absent("orders/a/x.tif.aux.xml")
    assert not worker.is_absent("orders/b/x.tif")
    worker.note(info("orders/a/x.tif", size=2), stored("x"))
    assert worker.given("orders/a/x.tif") is None
    worker.take(driver.packed())
    assert worker.given("orders/a/x.tif") is None
    worker.forget("orders/a/x.tif")
    assert not worker.is_absent("orders/a/x.tif.aux.xml")


def test_a_pickle_carries_so_many_facts_and_no_more() -> None:
    facts = Facts()
    for number in range(10_000):
        facts.note(info(f"assets/{number}"), stored(str(number)))
    facts.note_names("assets", map(str, range(MOST_PICKLED_NAMES + 1)))
    facts.note_names("orders", map(str, range(10)))
    files, names = facts.packed()
    assert [fact.info["name"] for fact in files][-1] == "assets/9999"
    assert len(files) == MOST_PICKLED_FILES
    assert set(names) == {"orders"}


async def _plan(fails: bool) -> str:
    try:
        first = await Question("first", fails)
    except KeyError:
        return "failed"
    return f"{first} {await Question('second')}"


def _answer(ask: Question) -> str:
    if ask.arguments == (True,):
        raise KeyError
    return ask.name


@pytest.mark.parametrize(("fails", "said"), [(False, "first second"), (True, "failed")])
async def test_a_plan_is_run_by_calls_that_block_and_by_coroutines(fails: bool, said: str) -> None:
    async def later(ask: Question) -> str:
        await trio.lowlevel.checkpoint()
        return _answer(ask)

    plan: Coroutine[Any, Any, str] = _plan(fails)
    assert plans.run(plan, _answer) == said
    assert await plans.arun(_plan(fails), later) == said


API = "https://api.up42.com/v2/assets/"


@pytest.mark.parametrize(
    "href",
    [
        f"{API}12-ab",
        f"{API}12-ab/download-url",
        "https://api.sa.up42.com/v2/assets/12-ab/download-url/",
    ],
)
def test_an_address_of_the_api_becomes_a_stable_one(href: str) -> None:
    assert stac.stable(href) == "up42://id/12-ab"
    assert stac.stable(href, server="http://127.0.0.1:8042/") == "http://127.0.0.1:8042/id/12-ab"


@pytest.mark.parametrize(
    "href",
    [
        "https://api.up42.com.example/v2/assets/12",
        "https://example.com/v2/assets/12",
        f"{API}stac",
        f"{API}stac/collections/x",
        "/mnt/up42/assets/x.tif",
        "./x.tif",
        "https://storage.googleapis.com/bucket/12?Signature=x",
        "http://[",
        "",
    ],
)
def test_other_addresses_stay(href: str) -> None:
    assert stac.stable(href) == href


@given(st.text())
def test_any_text_is_an_address(text: str) -> None:
    assert stac.stable(text) in (text, f"up42://id/{stac.id_of(text)}")


def test_items_are_changed_in_place() -> None:
    item = {"assets": {"pan": {"href": f"{API}1"}, "thumb": {"href": "./t.png"}}}
    collection = {"type": "FeatureCollection", "features": [item]}
    assert stac.stable(collection) is None
    assert item["assets"]["pan"]["href"] == "up42://id/1"
    assert item["assets"]["thumb"]["href"] == "./t.png"

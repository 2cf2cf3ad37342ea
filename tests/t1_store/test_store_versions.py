"""Versions by what stores send: an ETag, a generation, a time, some of them, or nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from store_script import Bench, Fault, bench, inline, pattern

from up42fs.errors import VersionChanged
from up42fs.store.disk.format import Label, encode_header, is_cacheable, parse_header
from up42fs.store.http.answer import (
    Final,
    Garbled,
    ResponseHead,
    Take,
    VersionPin,
    judge,
    version_of,
)
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange, Version

KIB, MIB = 1 << 10, 1 << 20
DATA, OTHER = pattern(2 * MIB), pattern(2 * MIB, seed=2)
LATER = "Mon, 01 Jul 2024 10:00:00 GMT"
OLD = "Mon, 01 Jul 2024 08:00:00 GMT"
NEW = "Mon, 01 Jul 2024 09:00:00 GMT"
ASKED = ByteRange(0, 100)
#: What a store without ETags may send of the first version, and of the second.
NAMES = [
    ({"last-modified": OLD}, {"last-modified": NEW}),
    ({"x-goog-generation": "17"}, {"x-goog-generation": "18"}),
    (
        {"x-goog-generation": "17", "last-modified": OLD},
        {"x-goog-generation": "18", "last-modified": OLD},
    ),
    (
        {"x-goog-generation": "17", "last-modified": OLD},
        {"x-goog-generation": "17", "last-modified": NEW},
    ),
    ({"etag": 'W/"1"', "last-modified": OLD}, {"etag": 'W/"1"', "last-modified": NEW}),
]


def names(headers: dict[str, str]) -> dict[str, str | None]:
    """Of one answer, without the ETag of the scripted store."""
    return {"etag": None, "date": LATER} | dict(headers)


def head_of(headers: dict[str, str], total: int = 1000) -> ResponseHead:
    return ResponseHead(
        206,
        {"content-range": f"bytes 0-99/{total}", "content-length": "100", "date": LATER} | headers,
    )


@pytest.mark.claim("S113")
@pytest.mark.parametrize(("old", "new"), NAMES)
async def test_another_version_of_the_same_size_is_seen_without_etags(
    nursery: trio.Nursery, autojump_clock: object, old: dict[str, str], new: dict[str, str]
) -> None:
    now = old
    b = bench(nursery, {"a": DATA}, lambda _: Fault(head=names(now)))
    one = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    assert await one.read(0, 4 * KIB) == DATA[: 4 * KIB]
    b.script.objects["a"], now = OTHER, new
    with pytest.raises(VersionChanged):
        await one.read(MIB, 4 * KIB)
    with pytest.raises(VersionChanged):
        await one.read(0, 4 * KIB)
    two = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    assert await two.read(MIB, 4 * KIB) == OTHER[MIB:][: 4 * KIB]


async def _read_twice(b: Bench) -> tuple[int, bytes]:
    """Requests of the second open, and what it read."""
    for _ in range(2):
        before = len(b.script.requests)
        handle = b.files.open(StoredObject("a", len(DATA), "scene.tif", stamp="t"))
        got = bytes(await handle.read(0, 4 * KIB))
        handle.close()
        await trio.sleep(1)
    return len(b.script.requests) - before, got


@pytest.mark.claim("S114")
async def test_bytes_without_a_version_are_not_kept_from_one_open_to_the_next(
    nursery: trio.Nursery,
    autojump_clock: object,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = Fault(head=names({}))
    b = bench(nursery, {"a": DATA}, lambda _: nothing, run_disk=inline, cache_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
        requests, got = await _read_twice(b)
    assert requests >= 1
    assert got == DATA[: 4 * KIB]
    b.script.objects["a"] = OTHER  # the store says nothing of it
    requests, got = await _read_twice(b)
    assert requests >= 1
    assert got == OTHER[: 4 * KIB]
    assert b.metrics["store.disk_writes_bytes"] == 0
    assert await b.files.ensure_cached_bytes(StoredObject("a", len(DATA), "scene.tif")) == 0
    warnings = [one for one in caplog.records if "sends no ETag" in one.message]
    assert len(warnings) == 1, "said once"
    assert "scene.tif" in warnings[0].message
    await b.files.aclose()


@pytest.mark.parametrize(("old", "new"), [*NAMES[:4], ({"etag": '"1"'}, {"etag": '"2"'})])
async def test_bytes_of_a_named_version_are_kept_in_memory_and_on_disk(
    nursery: trio.Nursery,
    autojump_clock: object,
    tmp_path: Path,
    old: dict[str, str],
    new: dict[str, str],
) -> None:
    known = Fault(head=names(old))
    b = bench(nursery, {"a": DATA}, lambda _: known, run_disk=inline, cache_dir=tmp_path)
    assert await _read_twice(b) == (0, DATA[: 4 * KIB])
    await b.files.aclose()
    again = bench(nursery, {"a": DATA}, lambda _: known, run_disk=inline, cache_dir=tmp_path)
    assert await _read_twice(again) == (0, DATA[: 4 * KIB])
    assert again.script.requests == []
    await again.files.aclose()
    other = bench(
        nursery, {"a": OTHER}, lambda _: Fault(head=names(new)), run_disk=inline, cache_dir=tmp_path
    )
    handle = other.files.open(StoredObject("a", len(DATA), "scene.tif", stamp="t"))
    await handle.read(0, 4 * KIB)
    with pytest.raises(VersionChanged):
        await handle.read(MIB, 4 * KIB)  # the store names another one than the disk holds
    await other.files.aclose()


async def test_open_handles_keep_what_they_have_when_others_open_without_a_version(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    b = bench(nursery, {"a": DATA}, lambda _: Fault(head=names({})))
    one = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    assert await one.read(0, 4 * KIB) == DATA[: 4 * KIB]
    await trio.sleep(1)
    asked = len(b.script.requests)
    two = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    assert await one.read(0, 4 * KIB) == DATA[: 4 * KIB]
    assert len(b.script.requests) == asked, "the first handle asks nothing anew"
    assert await two.read(0, 4 * KIB) == DATA[: 4 * KIB]
    assert len(b.script.requests) == asked + 1


# judging ------------------------------------------------------------------------------------------

VALUES = {"etag": ('"1"', '"2"'), "x-goog-generation": ("1", "2"), "last-modified": (OLD, NEW)}


def some_headers() -> st.SearchStrategy[dict[str, str]]:
    one = {name: st.sampled_from((None, *values)) for name, values in VALUES.items()}
    present = st.fixed_dictionaries(one)
    return present.map(lambda all_: {name: value for name, value in all_.items() if value})


@given(some_headers(), some_headers())
def test_what_is_named_decides_and_silence_is_never_agreement(
    first: dict[str, str], second: dict[str, str]
) -> None:
    pin = VersionPin(1000)
    assert isinstance(judge(head_of(first), ASKED, pin), Take)
    judgement = judge(head_of(second), ASKED, pin)
    if not first:
        assert isinstance(judgement, Take)
        assert pin.version is not None
        assert not pin.version.tells_apart, "later names do not vouch for earlier bytes"
        return
    one, other = version_of(1000, first), version_of(1000, second)
    common = [
        getattr(one, name) == getattr(other, name)
        for name in ("etag", "generation", "modified")
        if getattr(one, name) and getattr(other, name)
    ]
    if not common:
        assert isinstance(judgement, Garbled)
    elif all(common):
        assert isinstance(judgement, Take)
    else:
        assert isinstance(judgement, Final)
        assert judgement.error is VersionChanged


def test_a_strong_etag_is_enough() -> None:
    one, two = ({"etag": '"1"', "last-modified": modified} for modified in (OLD, NEW))
    assert version_of(5, one) == version_of(5, two) == Version(5, '"1"')


def test_a_time_names_a_version_only_when_its_second_is_over() -> None:
    within = version_of(5, {"last-modified": OLD, "date": OLD})
    after = version_of(5, {"last-modified": OLD, "date": NEW})
    undated = version_of(5, {"last-modified": OLD})
    assert not within.tells_apart
    assert after.tells_apart
    assert undated.tells_apart
    assert within == after, "but it is the same one"
    assert not within.is_nameless


@given(some_headers(), st.integers(0, 1 << 50), st.booleans())
def test_labels_on_disk_come_back_as_they_were(
    headers: dict[str, str], size: int, is_weak: bool
) -> None:
    if is_weak and "etag" in headers:
        headers["etag"] = "W/" + headers["etag"]
    version = version_of(size, headers)
    label = Label("a", version, "stamp")
    if is_cacheable(label):
        assert size == 0 or version.tells_apart
        assert parse_header(encode_header(label)) == label
    else:
        assert not version.generation
        assert version.etag or not version.modified


def test_labels_of_versions_with_an_etag_are_as_they_always_were() -> None:
    header = encode_header(Label("a", Version(5, '"e"'), "s"))
    assert b"generation" not in header
    assert b"modified" not in header


def test_no_sign_in_page_passes_for_the_object() -> None:
    page = {"content-length": "777", "last-modified": OLD, "date": LATER}
    assert isinstance(judge(ResponseHead(200, page), ASKED, VersionPin(1000)), Garbled)

"""Stored members are views on their archive's bytes: read as the same files alone would be."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
import trio
from member_support import (
    object_id,
    origin_of,
    stored_tar,
    stored_zip,
    tar_extents,
    zip_extents,
)
from store_script import Bench, Fault, bench, inline, pattern
from tiff_support import Image, write_tiff

from up42fs.archive.table import Method
from up42fs.errors import DamagedArchive, VersionChanged
from up42fs.readahead.tuning import KIB, MIB, Reading, Tuning
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import Extent, StoredObject
from up42fs.types import ByteRange

FILES = {
    "a/small.xml": pattern(3_000, 2),
    "a/empty": b"",
    "a/image.bin": pattern(5 * MIB + 77, 3),
    "a/other.bin": pattern(2 * MIB + 5, 4),
    "a/last.txt": pattern(700, 5),
}


def opened(
    b: Bench, extent: Extent, size: int | None = None, reading: Reading = Reading.ANY
) -> OpenFile:
    length = extent.packed_size if size is None else size
    return b.files.open(StoredObject(object_id(extent), length, "member", extent=extent), reading)


async def whole(file: OpenFile, size: int, step: int = 128 * KIB) -> bytes:
    return b"".join([bytes(await file.read(at, step)) for at in range(0, size, step)])


@pytest.mark.claim("S230")
async def test_members_are_read_whole_and_nothing_twice(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    for name, extent in zip_extents(data).items():
        file = opened(b, extent)
        assert await whole(file, len(FILES[name])) == FILES[name]
        file.close()
    assert b.script.asked() <= len(data)
    assert len(b.script.signs) == 1
    before = len(b.script.requests)
    file = b.files.open(StoredObject("archive", len(data), "archive.zip"))
    assert await whole(file, len(data)) == data  # its bytes are the archive's own
    assert b.script.asked() <= len(data)
    assert len(b.script.requests) <= before + 2  # the directory


async def test_random_reads_of_many_handles_are_the_members_bytes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES, extra=b"\x99\x99\x04\0abcd")
    b = bench(nursery, {"archive": data}, memory_bytes=64 * MIB)
    extents = zip_extents(data)
    chance = random.Random(5)

    async def read(name: str) -> None:
        content = FILES[name]
        file = opened(b, extents[name])
        for _ in range(20):
            at = chance.randrange(len(content) + 10)
            count = chance.choice([1, 100, 4096, 300_000])
            again = file.read_again(at, count)
            assert again is None or again == content[at : at + count]
            assert bytes(await file.read(at, count)) == content[at : at + count]
            again = file.read_again(at, count)
            assert again is None or again == content[at : at + count]
            more = bytes(file.ahead(at, count))
            assert more == content[at : at + len(more)]
            assert len(more) <= count
        file.close()

    async with trio.open_nursery() as readers:
        for name in [*FILES, *FILES]:
            readers.start_soon(read, name)
    assert b.script.asked() <= len(data)


@pytest.mark.claim("S231")
async def test_the_first_read_of_a_member_is_one_request(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES, extra=b"\x99\x99\x40\0" + bytes(64))
    b = bench(nursery, {"archive": data})
    extent = zip_extents(data)["a/image.bin"]
    file = opened(b, extent)
    assert bytes(await file.read(0, 4096)) == FILES["a/image.bin"][:4096]
    [(_, span, _)] = b.script.requests
    assert span.start == extent.header_at
    assert len(span) <= 128 * KIB + 512


async def test_a_long_local_header_costs_one_more_request(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES, extra=b"\x99\x99" + (9000).to_bytes(2, "little") + bytes(9000))
    b = bench(nursery, {"archive": data})
    file = opened(b, zip_extents(data)["a/image.bin"])
    assert bytes(await file.read(0, 128 * KIB)) == FILES["a/image.bin"][: 128 * KIB]
    assert len(b.script.requests) == 2
    assert bytes(await file.read(3 * MIB, 5000)) == FILES["a/image.bin"][3 * MIB :][:5000]


async def test_a_first_read_far_into_a_member_waits_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    file = opened(b, zip_extents(data)["a/image.bin"])
    assert bytes(await file.read(3 * MIB, 5000)) == FILES["a/image.bin"][3 * MIB :][:5000]
    assert len(b.script.requests) == 2
    assert b.script.most_active == 2


@pytest.mark.parametrize("reading", [Reading.ANY, Reading.DIRECT, Reading.WHOLE, Reading.EXACT])
@pytest.mark.parametrize("pattern_of", ["runs", "jumps", "tail"])
@pytest.mark.claim("S230")
async def test_a_member_costs_what_the_file_alone_costs(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    reading: Reading,
    pattern_of: str,
) -> None:
    content = FILES["a/image.bin"]
    places = {
        "runs": range(0, len(content), 128 * KIB),
        "jumps": [0, 3 * MIB, MIB, 4 * MIB + 9, 2 * MIB],
        "tail": [0, len(content) - 5000, len(content) - 100_000],
    }[pattern_of]
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data, "alone": content})
    member = opened(b, zip_extents(data)["a/image.bin"], reading=reading)
    alone = b.files.open(StoredObject("alone", len(content), "alone"), reading)
    for file in (member, alone):
        for at in places:
            assert bytes(await file.read(at, 128 * KIB)) == content[at : at + 128 * KIB]
    inside = [span for name, span, _ in b.script.requests if name == "archive"]
    outside = [span for name, span, _ in b.script.requests if name == "alone"]
    assert len(inside) <= len(outside)
    assert sum(map(len, inside)) <= sum(map(len, outside)) + 1024


@pytest.mark.claim("S232")
async def test_a_member_that_is_not_there_is_an_error(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    extent = zip_extents(data)["a/image.bin"]
    for wrong in (
        replace(extent, header_at=extent.header_at + 1),
        replace(extent, header_at=len(data) - 10),
        replace(extent, packed_size=len(data)),
    ):
        file = opened(b, wrong)
        with pytest.raises(DamagedArchive, match="archive is damaged"):
            await file.read(0, 100)
        file.close()


async def test_a_member_that_is_longer_in_the_directory_fails_at_that_byte(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    extent = zip_extents(data)["a/small.xml"]
    file = opened(b, extent, size=4000)
    assert bytes(await file.read(0, 3000)) == FILES["a/small.xml"]
    with pytest.raises(DamagedArchive, match="3000 bytes in the archive"):
        await file.read(2500, 1000)


@pytest.mark.claim("S233")
async def test_a_replaced_archive_ends_the_reads_of_its_members(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    extents = zip_extents(data)
    file, other = opened(b, extents["a/image.bin"]), opened(b, extents["a/other.bin"])
    await file.read(0, 4096)
    b.script.etags["archive"] = '"archive-2"'
    with pytest.raises(VersionChanged):
        await file.read(3 * MIB, 4096)
    with pytest.raises(VersionChanged):
        await other.read(0, 4096)
    told = [name for name, _ in b.versions]
    assert told[0] == "archive"
    assert {object_id(extents[name]) for name in ("a/image.bin", "a/other.bin")} <= set(told)
    file.close()
    other.close()
    assert bytes(await opened(b, extents["a/image.bin"]).read(0, 9)) == FILES["a/image.bin"][:9]


async def test_a_table_of_another_version_opens_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    origin = origin_of(data)
    await b.files.read_range(origin, ByteRange(len(data) - 100, len(data)))
    version = b.files.version("archive")
    assert version is not None
    extent = zip_extents(data, replace(origin, version=replace(version, etag='"older"')))
    with pytest.raises(VersionChanged):
        opened(b, extent["a/small.xml"])
    extent = zip_extents(data, replace(origin, version=version))
    assert bytes(await opened(b, extent["a/small.xml"]).read(0, 10)) == FILES["a/small.xml"][:10]


async def test_plain_tars_and_archives_in_archives(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    inner = stored_zip(FILES)
    middle = stored_tar({"x.bin": b"x" * 1000, "inner.zip": inner})
    outer = stored_zip({"middle.tar": middle, "more": b"1"})
    b = bench(nursery, {"archive": outer})
    tar = zip_extents(outer)["middle.tar"]
    tar_origin = StoredObject(object_id(tar), len(middle), "middle.tar", None, tar)
    zipped = tar_extents(middle, tar_origin)["inner.zip"]
    zip_origin = StoredObject(object_id(zipped), len(inner), "inner.zip", None, zipped)
    directory = ByteRange(len(inner) - 500, len(inner))
    assert await b.files.read_range(zip_origin, directory) == inner[-500:]
    for name, extent in zip_extents(inner, zip_origin).items():
        assert object_id(extent).count("!") == 3
        file = opened(b, extent)
        assert await whole(file, len(FILES[name])) == FILES[name]
        held = await file.ensure_cached_bytes()
        file.close()
        assert held == len(FILES[name])
    assert b.script.asked() <= len(outer)
    assert {name for name, _, _ in b.script.requests} == {"archive"}


@pytest.mark.claim("S234")
async def test_sparse_members_have_their_holes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    dense = pattern(9 * KIB, 8)
    archive = pattern(1024, 9) + dense + bytes(1024)
    segments = ((1000, 1024, 5 * KIB), (900_000, 1024 + 5 * KIB, 4 * KIB), (2 * MIB, 0, 0))
    content = bytearray(2 * MIB)
    for start, at, length in segments:
        content[start : start + length] = archive[at : at + length]
    extent = Extent(
        origin_of(archive), 512, 1024, len(dense), Method.STORED, None, segments=segments
    )
    b = bench(nursery, {"archive": archive})
    file = opened(b, extent, size=len(content))
    assert await whole(file, len(content), 100_003) == content
    for at, count in [(0, 10), (990, 20), (5 * KIB, 100), (6000, 900_000), (len(content) - 5, 50)]:
        again = file.read_again(at, count)
        assert again is None or again == content[at : at + count]
        assert bytes(await file.read(at, count)) == content[at : at + count]
    again = file.read_again(1000, 100)
    assert again is not None
    assert bytes(again) == content[1000:1100]
    assert b.script.asked() <= len(archive)


@pytest.mark.claim("S235")
async def test_many_small_members_in_order_take_few_requests(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    files = {f"d/{number:03}.xml": pattern(4000 + number, number) for number in range(300)}
    data = stored_zip(files)
    b = bench(nursery, {"archive": data})
    for name, extent in zip_extents(data).items():
        file = opened(b, extent, reading=Reading.WHOLE)
        assert await whole(file, len(files[name])) == files[name]
        file.close()
    assert len(b.script.requests) <= 6
    assert b.script.asked() <= 1.02 * len(data)


@pytest.mark.claim("S235")
async def test_two_small_members_far_apart_come_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    files = {"a": pattern(4000, 1), "b": pattern(2 * MIB, 2), "c": pattern(4000, 3)}
    data = stored_zip(files)
    b = bench(nursery, {"archive": data})
    extents = zip_extents(data)
    for name in ("a", "c"):
        file = opened(b, extents[name])
        assert await whole(file, 4000) == files[name]
        file.close()
    assert b.script.asked() <= 8000 + 2 * 542


async def test_exact_readers_of_small_members_fetch_no_neighbours(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    files = {f"d/{number:03}.xml": pattern(4000, number) for number in range(50)}
    data = stored_zip(files)
    b = bench(nursery, {"archive": data})
    for extent in zip_extents(data).values():
        file = opened(b, extent, reading=Reading.EXACT)
        await file.read(0, 100)
        file.close()
    assert b.script.asked() <= 50 * (512 + 100)


async def test_prefetched_members_are_there(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data})
    extent = zip_extents(data)["a/other.bin"]
    ahead = b.files.start_ahead(
        StoredObject(object_id(extent), extent.packed_size, "member", extent=extent),
        lambda size: [ByteRange(0, min(size, MIB))],
    )
    with trio.fail_after(10):
        while not ahead.is_done:
            await trio.sleep(0.1)
    before = len(b.script.requests)
    file = opened(b, extent)
    assert bytes(await file.read(0, 5000)) == FILES["a/other.bin"][:5000]
    assert len(b.script.requests) == before


@pytest.mark.claim("S236")
async def test_members_have_accounts_of_their_own(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data}, faults=lambda n: Fault(status=503) if n == 0 else None)
    extent = zip_extents(data)["a/image.bin"]
    file = opened(b, extent)
    await file.read(0, 4096)
    await file.read(0, 4096)
    await trio.sleep(1)  # the rest of the answer comes
    tally = b.files.tally(object_id(extent))
    assert tally["requests"] == 2
    assert tally["retries"] == 1
    assert tally["bytes_fetched"] == b.script.requests[-1][1].stop - extent.header_at
    assert tally["hits"] + tally["waits"] == tally["reads"]
    assert "requests" not in b.files.tally("archive")
    assert [one["name"] for one in b.files.tallies()] == ["member"]
    file.close()
    version = await b.files.ensure_version(
        StoredObject(object_id(extent), None, "member", extent=extent)
    )
    assert version == b.files.version("archive")


def requests_of(b: Bench, object_id: str) -> list[ByteRange]:
    return [span for name, span, _ in b.script.requests if name == object_id]


async def jumps(file: OpenFile, content: bytes) -> None:
    """As a decoder of JPEG 2000: from one tile part's header to the next."""
    for at in (0, *range(200_000, len(content), 400_000)):
        assert bytes(await file.read(at, 4096)) == content[at : at + 4096]
        await trio.sleep(0.2)


JPEG2000 = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + pattern(6 * MIB, 11)


@pytest.mark.claim("S230")
async def test_hops_through_a_jpeg_2000_fetch_the_member_whole_and_no_more(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    data = stored_zip({"before": pattern(3 * MIB, 1), "x.jp2": JPEG2000, "after": pattern(MIB, 2)})
    tuning = Tuning(hop_file_bytes=8 * MIB)  # less than the archive
    assert len(JPEG2000) < tuning.hop_file_bytes < len(data)
    b = bench(nursery, {"archive": data, "alone": JPEG2000}, tuning=tuning)
    await jumps(opened(b, zip_extents(data)["x.jp2"]), JPEG2000)
    await jumps(b.files.open(StoredObject("alone", len(JPEG2000), "x.jp2")), JPEG2000)
    inside, outside = requests_of(b, "archive"), requests_of(b, "alone")
    assert len(inside) <= len(outside) < 16
    assert sum(map(len, outside)) == len(JPEG2000)
    assert sum(map(len, inside)) <= len(JPEG2000) + 2 * 512


@pytest.mark.claim("S230")
@pytest.mark.parametrize("reading", [Reading.ANY, Reading.DIRECT])
@pytest.mark.parametrize("at_end", [False, True])
async def test_windows_of_a_tiff_cost_what_they_cost_outside(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    reading: Reading,
    *,
    at_end: bool,
) -> None:
    image = Image(4096, 4096, 256, [50_000 + number for number in range(256)])
    content = write_tiff([image], tables_last=at_end)
    data = stored_zip({"before": pattern(777), "x.tif": content, "after": pattern(MIB, 2)})
    b = bench(nursery, {"archive": data, "alone": content})
    member = opened(b, zip_extents(data)["x.tif"], reading=reading)
    alone = b.files.open(StoredObject("alone", len(content), "x.tif"), reading)
    for file in (member, alone):
        await file.read(0, 16 * KIB)
        if at_end:
            await file.read(len(content) - 8 * KIB, 8 * KIB)
        for row in range(5, 9):
            for column in range(3, 7):
                number = row * 16 + column
                at = image.offsets[number] // 8192 * 8192
                stop = image.offsets[number] + image.counts[number]
                for start in range(at, stop, 32 * KIB):
                    wanted = content[start : start + 32 * KIB]
                    assert bytes(await file.read(start, 32 * KIB)) == wanted
        await trio.sleep(1)
    inside, outside = requests_of(b, "archive"), requests_of(b, "alone")
    assert len(inside) <= len(outside)
    assert sum(map(len, inside)) <= sum(map(len, outside)) + 2 * 512
    known = b.files.gauges()["insight_bytes"]
    assert known > 0
    member.close()
    alone.close()
    assert b.files.gauges()["insight_bytes"] == known
    b.files.forget("archive")
    assert 0 < b.files.gauges()["insight_bytes"] < known


async def test_a_closed_members_structure_is_known_at_the_next_open(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    content = write_tiff([Image(4096, 4096, 256, [50_000] * 256)])
    data = stored_zip({"x.tif": content})
    b = bench(nursery, {"archive": data})
    for _ in range(2):
        file = opened(b, zip_extents(data)["x.tif"])
        await file.read(0, 16 * KIB)
        known = b.files.gauges()["insight_bytes"]
        file.close()
        assert b.files.gauges()["insight_bytes"] == known > 0


@pytest.mark.claim("S230")
async def test_a_remount_reads_members_from_the_archives_file(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    data = stored_zip(FILES)
    held = []
    for is_first in (True, False):
        async with trio.open_nursery() as nursery:
            b = bench(nursery, {"archive": data}, cache_dir=tmp_path, run_disk=inline)
            for name, extent in zip_extents(data).items():
                content, file = FILES[name], opened(b, extent)
                for at in (0, 3 * MIB, len(content) - 3000):
                    if 0 <= at < len(content):
                        assert bytes(await file.read(at, 4096)) == content[at : at + 4096]
                await trio.sleep(1)
                file.close()
                held.append(
                    await b.files.ensure_cached_bytes(
                        StoredObject(object_id(extent), len(content), name, extent=extent)
                    )
                )
            assert bool(b.script.requests) is is_first
            assert bool(b.script.signs) is is_first
            await b.files.aclose()
            nursery.cancel_scope.cancel()
    assert held[: len(FILES)] == held[len(FILES) :]
    assert sum(held) > 500_000
    files = [one for one in tmp_path.rglob("*") if one.is_file() and one.stat().st_size > 8192]
    assert len(files) == 1


async def test_a_header_that_came_with_the_member_before_leaves_no_gap(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    data = stored_zip({"a/image.bin": pattern(5 * MIB, 3), "a/other.bin": pattern(3 * MIB, 4)})
    b = bench(nursery, {"archive": data}, cache_dir=tmp_path, run_disk=inline)
    for extent in zip_extents(data).values():
        file = opened(b, extent, reading=Reading.WHOLE)
        await whole(file, extent.packed_size)
        await trio.sleep(1)
        file.close()
    assert min(len(span) for _, span, _ in b.script.requests) > 4096, b.script.requests


async def test_a_read_from_memory_passes_three_calls_more_than_outside(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    content = FILES["a/image.bin"]
    data = stored_zip(FILES)
    b = bench(nursery, {"archive": data, "alone": content})
    counts = []
    for file in (
        b.files.open(StoredObject("alone", len(content), "alone")),
        opened(b, zip_extents(data)["a/image.bin"]),
    ):
        await file.read(0, 128 * KIB)
        calls = Counter[str]()

        def note(frame: FrameType, event: str, _: object, calls: Counter[str] = calls) -> None:
            calls[event] += frame.f_code.co_filename.endswith(".py")

        sys.setprofile(note)
        data_again = file.read_again(4096, 4096)
        sys.setprofile(None)
        assert data_again is not None
        assert bytes(data_again) == content[4096:8192]
        counts.append(calls["call"])
    assert counts[1] <= counts[0] + 3


@pytest.mark.claim("S230")
async def test_hops_act_in_an_archive_that_a_program_reads_itself(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """As GDAL does by /vsizip/: the directory, the local header, then the file."""
    data = stored_zip({"before": pattern(3 * MIB, 1), "x.jp2": JPEG2000, "after": pattern(MIB, 2)})
    b = bench(nursery, {"archive": data, "alone": JPEG2000}, tuning=Tuning(hop_file_bytes=8 * MIB))
    file = b.files.open(StoredObject("archive", len(data), "archive.zip"))
    await file.read(len(data) - 100_000, 100_000)
    before = len(b.script.requests)
    at = zip_extents(data)["x.jp2"].header_at
    base = data.index(JPEG2000)
    await file.read(at, 4096)
    for hop in (0, *range(200_000, len(JPEG2000), 400_000)):
        assert bytes(await file.read(base + hop, 4096)) == JPEG2000[hop : hop + 4096]
        await trio.sleep(0.2)
    await jumps(b.files.open(StoredObject("alone", len(JPEG2000), "x.jp2")), JPEG2000)
    inside, outside = requests_of(b, "archive")[before:], requests_of(b, "alone")
    assert len(inside) <= len(outside) + 2
    assert sum(map(len, inside)) <= len(JPEG2000) + 400_000

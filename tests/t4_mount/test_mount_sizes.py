"""Sizes that UP42 does not report, in a real mount: a byte each for programs that read nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import UP42FS, Emulator, Mount, check, emulator, mounted, run, take_away, wait_until

pytestmark = pytest.mark.mount

ITEMS, FILES, FILE_BYTES = 12, 5, 3 << 20
HEAD_BYTES = 128 << 10
COUNTERS = (
    "store.signs",
    "store.requests",
    "store.bytes_fetched",
    "store.hedges",
    "store.hedges_bytes",
)


@pytest.fixture(scope="module")
def storage() -> Iterator[Emulator]:
    """Transformed files whose sizes nobody knows; tests only look."""
    with emulator("--synthetic", f"{ITEMS},1,0,{ITEMS},{FILES}") as running:
        yield running


@pytest.fixture
def fresh(storage: Emulator, tmp_path: Path) -> Iterator[Mount]:
    """A cold mount that knows no size; archives stay closed, for their tables cost requests."""
    options = "refresh=3600,archives=off"
    with mounted(storage.env, "-o", options, home=tmp_path) as mount:
        yield mount


def items(mount: Mount) -> list[Path]:
    found = [entry for entry in sorted((mount.path / "assets").iterdir()) if entry.is_dir()]
    assert len(found) == ITEMS
    return found


def costs(mount: Mount) -> list[int]:
    """Links, ranges and bytes so far, once nothing is under way.

    A loaded machine may answer so late that a second request is sent beside the first: those do
    not count.
    """
    mount.rest()
    counters = mount.counters()
    links, ranges, fetched, hedges, twice = (counters.get(name, 0) for name in COUNTERS)
    return [links, ranges - hedges, fetched - twice]


def since(mount: Mount, before: list[int]) -> list[int]:
    return [now - then for now, then in zip(costs(mount), before, strict=True)]


@pytest.mark.claim("S417")
def test_du_costs_a_link_and_a_byte_a_file_and_then_nothing(
    fresh: Mount, storage: Emulator, tmp_path: Path
) -> None:
    def disk_usage(mount: Mount) -> int:
        command = ("du", "-s", "-B1", "--apparent-size", "--exclude=item.json", "--exclude=*.zip")
        return int(check(*command, mount.path / "assets").split()[0])

    count = ITEMS * FILES
    directories = disk_usage(fresh) - count * FILE_BYTES
    assert 0 <= directories < FILE_BYTES
    assert costs(fresh) == [count, count, count]
    for options in ("-size", "+1M"), ("-size", "-1M"):
        found = check("find", fresh.path / "assets", "-name", "*.tiff", *options).split()
        assert len(found) == (count if "+1M" in options else 0)
    assert check("ls", "-lR", fresh.path / "assets").count(f" {FILE_BYTES} ") == count
    assert costs(fresh) == [count, count, count]
    # A second mount, of what the first stored.
    cache = ("--cache-dir", str(tmp_path / f"{fresh.path.name}.cache"))
    take_away(fresh)
    with mounted(storage.env, "-o", "refresh=3600,archives=off", *cache, home=tmp_path) as again:
        assert disk_usage(again) == directories + count * FILE_BYTES
        assert costs(again) == [0, 0, 0]


@pytest.mark.claim("S418")
def test_a_reader_after_a_listing_pays_one_range_and_no_link(fresh: Mount) -> None:
    item = items(fresh)[0]
    check("ls", "-l", item)
    before = costs(fresh)
    assert before == [FILES, FILES, FILES]
    for number, path in enumerate(sorted(item.glob("*.tiff"))):
        with path.open("rb") as opened:
            assert len(opened.read(16)) == 16
        # With the second file the heads of the others come: the rest of the item is here.
        heads = 1 if number == 0 else FILES
        assert since(fresh, before) == [0, heads, heads * HEAD_BYTES]


@pytest.mark.claim("S418")
def test_a_reader_without_a_listing_pays_what_it_always_paid(fresh: Mount) -> None:
    """A program that is not known for sizes asks for one, and opens the file."""
    path = items(fresh)[1] / "pan.tiff"
    os.listdir(path.parent)
    before = costs(fresh)
    assert path.stat().st_size == FILE_BYTES
    assert since(fresh, before) == [1, 1, HEAD_BYTES]
    with path.open("rb") as opened:
        opened.read(16)
    assert since(fresh, before) == [1, 1, HEAD_BYTES]


@pytest.mark.claim("S417")
def test_a_program_that_opens_nothing_gets_one_head(fresh: Mount) -> None:
    script = (
        "import pathlib, sys\n"
        "files = pathlib.Path(sys.argv[1]).rglob('*.tiff')\n"
        "print(sum(file.stat().st_size for file in files))"
    )
    total = check("python3", "-c", script, fresh.path / "assets")
    assert int(total) == ITEMS * FILES * FILE_BYTES
    # The pause that ends a storm may come on a loaded machine: each costs a head more.
    links, ranges, fetched = costs(fresh)
    assert links == ranges == ITEMS * FILES
    heads, rest = divmod(fetched, HEAD_BYTES)
    assert 1 <= heads <= links // 4
    assert rest == ITEMS * FILES - heads


@pytest.mark.claim("S417")
def test_rsync_lists_for_a_byte_a_file_and_then_copies(fresh: Mount, tmp_path: Path) -> None:
    item = items(fresh)[2]
    check("rsync", "-a", "--dry-run", f"{item}/", tmp_path / "copy")
    assert costs(fresh) == [FILES, FILES, FILES]
    check("rsync", "-a", f"{item}/", tmp_path / "copy")
    links, _, fetched = costs(fresh)
    assert (links, fetched) == (FILES, FILES * (FILE_BYTES + 1))


def until_status(mount: Mount, sizes: dict[str, int]) -> None:
    """Wait until the status says so: it counts after each write to the snapshot."""
    wait_until(lambda: mount.status()["sizes"] == sizes, 60, lambda: mount.status()["sizes"])


@pytest.mark.claim("S419")
@pytest.mark.claim("S420")
def test_a_storage_is_sized_ahead_and_goes_on_where_it_was(fresh: Mount) -> None:
    count = ITEMS * FILES

    def warm(*arguments: str | Path) -> dict[str, int]:
        return dict(json.loads(check(*UP42FS, "warm", "--sizes", "--json", *arguments)))

    assert warm("--estimate", fresh.path)["unknown"] == count
    until_status(fresh, {"files": count, "unknown": count})
    assert f"{count} of {count} files have an unknown size" in check(*UP42FS, "status", fresh.path)
    one = items(fresh)[4]
    file = one / "pan.tiff"
    assert warm(file) == {"files": 1, "unknown": 0, "learned": 1, "is_done": True}
    assert costs(fresh) == [1, 1, 1]
    assert run(*UP42FS, "warm", "--sizes", one / "none.tiff").returncode == 1
    assert warm(one) == {"files": FILES, "unknown": 0, "learned": FILES - 1, "is_done": True}
    assert costs(fresh) == [FILES, FILES, FILES]
    # The deliveries stand beside their directories; UP42 reports their sizes.
    rest = {"files": count + ITEMS, "unknown": 0, "learned": count - FILES, "is_done": True}
    assert warm(fresh.path) == rest
    until_status(fresh, {"files": count, "unknown": 0})
    assert "unknown size" not in check(*UP42FS, "status", fresh.path)
    assert costs(fresh) == [count, count, count]
    assert warm(fresh.path, fresh.path / "orders")["learned"] == 0
    check("ls", "-lR", fresh.path / "assets", fresh.path / "orders")
    assert costs(fresh) == [count, count, count]


@pytest.mark.claim("S419")
def test_what_cannot_be_sized_is_said_and_the_rest_is_learned(
    start: Callable[..., Emulator], mount: Callable[..., Mount]
) -> None:
    running = start("--synthetic", "2,1,0,2,3")
    there = mount(running, "-o", "refresh=3600,archives=off")
    (lost,) = [
        row["id"] for row in running.remote.storage()["objects"] if row["name"] == "ms.tiff"
    ][:1]
    running.remote.storage("remove_object", id=lost)
    done = run(*UP42FS, "warm", "--sizes", there.path)
    assert done.returncode == 1
    assert "1 size not learned; up42fs log says why" in done.stderr
    assert "8 files: 5 sizes learned, 1 unknown" in done.stdout
    assert "a size stays unknown: ms.tiff" in there.log.read_text()


def test_sizes_and_parts_of_files_are_not_asked_together(fresh: Mount) -> None:
    done = run(*UP42FS, "warm", "--sizes", "--overviews", fresh.path)
    assert done.returncode == 1
    assert "--sizes reads no file" in done.stderr

"""Directories read file by file through a real mount: requests, their overlap, and what is wasted.

Counts only: how many requests there were, and how many were under way at once, which the log of
the emulator shows by the moments they came in: each is answered no sooner than the latency.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from harness import Emulator, Mount, check, run, wait_until

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

KIB = 1 << 10
HEAD = 128 * KIB
LATENCY_S = 0.1


def fill(emulator: Emulator, count: int, size: int, suffix: str = "bin") -> list[str]:
    names = [f"scene_{number:02}.{suffix}" for number in range(count)]
    for number, name in enumerate(names):
        emulator.remote.storage("add_asset", name=name, size=size, seed=number)
    return names


@pytest.fixture
def storage(start) -> Emulator:
    return start("--synthetic", "0")


def slow(emulator: Emulator) -> None:
    emulator.remote.faults(api_latency_s=LATENCY_S, store_latency_s=LATENCY_S)


def overlap(requests: list[dict]) -> int:
    """The most requests that were under way at once, each for at least the latency."""
    times = [request["t_s"] for request in requests]
    return max(sum(0 <= other - t < LATENCY_S for other in times) for t in times)


def ranges(emulator: Emulator) -> list[dict]:
    return emulator.remote.log(route="store.get")


def sizes_asked(emulator: Emulator) -> int:
    spans = [request["range"].removeprefix("bytes=").split("-") for request in ranges(emulator)]
    return sum(int(stop) - int(start) + 1 for start, stop in spans)


def heads(mount: Mount, names: list[str]) -> None:
    for name in names:
        with mount.find(name).open("rb", buffering=0) as file:
            assert len(os.pread(file.fileno(), 4096, 0)) == 4096


def apart(mount: Mount, names: list[str], count: int) -> list[str]:
    """Files of which none comes next to another, in whatever order they are walked."""
    inodes = {name: mount.find(name).lstat().st_ino for name in names}
    orders = [names, os.listdir(mount.find(names[0]).parent), sorted(names, key=inodes.__getitem__)]
    chosen = [names[3]]
    for name in names[::-7] + names:
        if all(abs(o.index(name) - o.index(other)) > 1 for o in orders for other in chosen):
            chosen.append(name)
    return chosen[:count]


def settled(mount: Mount) -> dict[str, int]:
    """The counters once nothing is under way."""
    seen: list[int] = []

    def quiet() -> bool:
        seen.append(mount.counters().get("store.bytes_fetched", 0))
        return len(seen) > 9 and seen[-1] == seen[-10]

    wait_until(quiet, 10, "no more bytes come")
    return mount.counters()


def test_heads_in_order_are_one_link_and_one_range_each_many_at_once(storage, mount) -> None:
    """What `gdalbuildvrt *.tif` does."""
    names = fill(storage, 50, 1_800_000)
    there = mount(storage)
    slow(storage)
    heads(there, names)
    assert (storage.requests()["assets.sign"], len(ranges(storage))) == (50, 50)
    assert sizes_asked(storage) == 50 * HEAD
    assert overlap(ranges(storage)) >= 8
    signs = [r for r in storage.remote.log() if r["route"] == "assets.sign"]
    assert 4 <= overlap(signs) <= 12
    counters = there.counters()
    assert counters["siblings.read_files"] >= 40
    assert counters["siblings.wasted_files"] == 0
    assert counters["store.waits"] < 40


@pytest.mark.parametrize("tool", ["cp -r", "rsync -a", "tar", "md5sum", "reverse"])
def test_copies_fetch_each_byte_once_many_files_at_once(
    storage, mount, tool: str, tmp_path: Path
) -> None:
    """Each tool has its own order: by inode, by name, as listed, as the shell sorts."""
    if not shutil.which(tool.split()[0]) and tool != "reverse":
        pytest.skip(f"no {tool.split()[0]}")
    size = 200_000
    names = fill(storage, 60, size)
    there = mount(storage)
    slow(storage)
    assets, copy = there.path / "assets", tmp_path / "copy"
    match tool:
        case "cp -r":
            check("cp", "-r", assets, copy)
        case "rsync -a":
            check("rsync", "-a", f"{assets}/", copy)
        case "tar":
            check("tar", "-cf", tmp_path / "all.tar", "-C", assets, ".")
            copy.mkdir()
            check("tar", "-xf", tmp_path / "all.tar", "-C", copy)
        case "md5sum":
            check("sh", "-c", "md5sum *", cwd=assets)
        case _:
            for name in reversed(names):
                assert len((assets / name).read_bytes()) == size
    for number, name in enumerate(names if copy.exists() else ()):
        assert (copy / name).read_bytes() == pattern_bytes(number, 0, size)
    counters = settled(there)
    assert storage.requests()["assets.sign"] == len(names)
    assert len(ranges(storage)) == len(names)
    assert counters["store.bytes_fetched"] == len(names) * size
    assert counters["siblings.wasted_bytes"] == 0
    assert overlap(ranges(storage)) >= 6


def test_transformed_files_of_unknown_size(sample: Emulator, mount) -> None:
    """Their sizes are learned with their heads; nothing is asked for twice."""
    there = mount(sample)
    item = next(
        path
        for path in (there.path / "assets").iterdir()
        if path.is_dir() and len([f for f in path.iterdir() if f.suffix == ".tiff"]) > 3
    )
    before = sample.remote.position()
    for path in sorted(item.glob("*.tiff")):
        path.read_bytes()
    seen = sample.remote.log(before)
    objects = [r["object_id"] for r in seen if r["route"] == "assets.sign"]
    assert len(objects) == len(set(objects))
    for object_id in objects:
        gets = [r for r in seen if r["route"] == "store.get" and r["object_id"] == object_id]
        spans = sorted(tuple(map(int, r["range"][6:].split("-"))) for r in gets)
        assert all(stop < start for (_, stop), (start, _) in pairwise(spans))


def test_looking_costs_nothing(storage, mount) -> None:
    names = fill(storage, 20, 300_000)
    there = mount(storage)
    check("ls", "-lR", there.path / "assets")
    check("find", there.path / "assets", "-size", "+1k")
    run("getfattr", "-d", there.find(names[0]), there.find(names[1]))
    for name in names:
        with there.find(name).open("rb"):
            pass
    assert storage.requests().get("assets.sign", 0) == 0
    assert ranges(storage) == []


def test_a_walk_that_stops_wastes_no_more_than_it_read(storage, mount) -> None:
    names = fill(storage, 60, 1_800_000)
    there = mount(storage)
    heads(there, names[:10])
    counters = settled(there)
    asked = storage.requests()["assets.sign"]
    assert 10 < asked <= 10 + 2 * 10
    assert counters["store.bytes_fetched"] <= (10 + 20) * HEAD


def test_single_files_here_and_there_cost_what_they_cost_alone(storage, mount) -> None:
    names = fill(storage, 60, 1_800_000)
    there = mount(storage)
    chosen = apart(there, names, 6)
    heads(there, chosen)
    settled(there)
    assert storage.requests()["assets.sign"] == len(ranges(storage)) == len(chosen)


def test_two_walks_and_a_stream_at_once(storage, mount) -> None:
    """Nobody waits for the others to end, and everybody's bytes are right."""
    names = fill(storage, 40, 300_000)
    storage.remote.storage("add_asset", name="zz_large.dat", size=24 << 20, seed=77)
    there = mount(storage)
    slow(storage)
    assets = there.path / "assets"
    commands = [
        ["cat", *[assets / name for name in names[:20]]],
        ["cat", *[assets / name for name in reversed(names[20:])]],
        ["cat", assets / "zz_large.dat"],
    ]
    wanted = [
        b"".join(pattern_bytes(n, 0, 300_000) for n in range(20)),
        b"".join(pattern_bytes(n, 0, 300_000) for n in reversed(range(20, 40))),
        pattern_bytes(77, 0, 24 << 20),
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    for process, content in zip(running, wanted, strict=True):
        assert process.communicate(timeout=60)[0] == content
    assert storage.requests()["assets.sign"] == 41
    assert settled(there)["siblings.wasted_files"] <= 8

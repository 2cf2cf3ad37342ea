"""The catalogue seen from outside: the first listing of a storage, kills in the middle of it, and
storages that change while they are mounted."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import REPOSITORY, UP42FS, Mount, environ, mounted, run, wait_until

from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount


def expected(storage: dict) -> dict[str, set[str]]:
    """Names of deliveries by directory (orders by ID) as UP42 has them; all are distinct here."""
    tree: dict[str, set[str]] = {"assets": set()}
    for asset in storage["assets"]:
        places = ["assets", f"cnam/{asset['status']}"]
        places += [f"tags/{tag}" for tag in asset["tags"] or ()]
        if asset["order_id"]:
            places.append(f"orders/{asset['order_id']}")
        for place in places:
            tree.setdefault(place, set()).add(asset["name"])
    return tree


def shown(mountpoint: Path) -> dict[str, set[str]]:
    """The same as the mount has it."""
    found: dict[str, set[str]] = {}
    for place in ["assets", *(f"cnam/{name}" for name in os.listdir(mountpoint / "cnam"))]:
        found[place] = set()
    for view in ("orders", "tags"):
        for name in os.listdir(mountpoint / view):
            found[f"{view}/{name}"] = set()
    for place in list(found):
        with os.scandir(mountpoint / place) as entries:
            names = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
        if place.startswith("orders/"):
            del found[place]
            place = f"orders/{os.getxattr(mountpoint / place, 'user.up42.id').decode()}"
        found[place] = names
    return {place: names for place, names in found.items() if names}


def test_an_order_is_listed_while_the_storage_is_still_being_read(start, tmp_path: Path) -> None:
    running = start("--synthetic", "4000,200,10,0,0")
    storage = running.remote.storage()
    of_order: dict[str, int] = {}
    for asset in storage["assets"]:
        of_order[asset["order_id"]] = of_order.get(asset["order_id"], 0) + 1
    order_id, count = next(iter(of_order.items()))
    running.remote.faults(latency_s=0.4, max_page_size=20)
    with mounted(running.env, home=tmp_path) as mount:
        orders = os.listdir(mount.path / "orders")
        assert len(orders) == 200
        names = os.listdir(mount.path / "orders" / order_id)
        assert sum(name.endswith(".zip") for name in names) == count
        progress = mount.status()["catalogue"]["assets"]
        assert progress["complete"] is False
        assert 0 < progress["rows_so_far"] < 4000


def test_killed_twenty_times_in_the_middle_of_listing(start, tmp_path: Path) -> None:
    running = start("--synthetic", "3000,100,20,0,0")
    running.remote.faults(latency_s=0.05, max_page_size=20)
    cache = tmp_path / "cache"
    rng = random.Random(5)
    for number in range(20):
        mountpoint = tmp_path / f"killed-{number}"
        mountpoint.mkdir()
        process = subprocess.Popen(
            [*UP42FS, "mount", "-f", str(mountpoint), "--cache-dir", str(cache)],
            env=environ(running.env),
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda at=mountpoint: mount_at(at) is not None, 20, "the mount")
            time.sleep(rng.uniform(0.0, 0.9))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            run("fusermount3", "-uz", mountpoint)
        if number % 5 == 4:
            running.remote.storage("add_asset", name=f"meanwhile-{number}.zip", size=1)
    with mounted(running.env, "--cache-dir", str(cache), home=tmp_path) as mount:
        wait_until(lambda: complete(mount), 30, "the listing")
        # What came after the last kill is seen by the refresh behind what was stored.
        wanted = expected(running.remote.storage())
        wait_until(lambda: shown(mount.path) == wanted, 30, "the mount shows what UP42 has")
        assert "cannot be used" not in mount.log.read_text()


def complete(mount: Mount) -> bool:
    listings = mount.status()["catalogue"]
    return all(listings[part]["complete"] for part in ("assets", "orders"))


def test_the_bench_measures_and_nothing_asks_on_a_synced_mount() -> None:
    bench = REPOSITORY / "contrib/bench/catalogue.py"
    done = run(sys.executable, bench, "--size", "2000,100,20,200,12", "--latency-s", "0")
    figures = dict(re.findall(r"^(.+?)  +([0-9.]+) ", done.stdout, re.MULTILINE))
    assert figures.pop("requests of all that") == "0.000", done.stdout
    # Pages of assets and of orders, the items of a hundred assets each, a few to sign in.
    assert float(figures["requests of the first sync"]) < 20 + 2 + 20 + 2 + 2 + 5
    names = 2 * 2000 + 200 * 2 * 13  # in cnam/ and assets/ alone
    assert int(re.findall(r"find -type f, (\d+) names", done.stdout)[0]) > names
    assert len(figures) == 11, done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("options", ["refresh=3600", "refresh=3600,rw"])
def test_changes_show_when_asked_for_and_open_files_live_on(
    start, tmp_path: Path, options: str
) -> None:
    """A random sequence of changes; after each refresh the tree is what UP42 has."""
    running = start("--synthetic", "60,6,5,0,0")
    rng = random.Random(7)
    with mounted(running.env, "-o", options, home=tmp_path) as mount:
        assert shown(mount.path) == expected(running.remote.storage())
        kept = next(row for row in running.remote.storage()["assets"] if row["size"] > 1000)
        with (mount.path / "assets" / kept["name"]).open("rb") as file:
            head = file.read(1000)
            for number in range(12):
                for _ in range(3):
                    change(running, rng, number, kept["id"])
                wanted = expected(running.remote.storage())
                refresh(mount, by={0: "cat", 6: "touch"}.get(number))
                wait_until(lambda wanted=wanted: shown(mount.path) == wanted, 10, f"step {number}")
            file.seek(0)
            assert file.read(1000) == head


def refresh(mount: Mount, *, by: str | None) -> None:
    """By a program that looks at the file, 5 s after another such at the earliest, or by signal."""
    if by is None:
        os.kill(mount.pid, signal.SIGHUP)
    else:
        assert run(by, ".up42fs/refresh", cwd=mount.path).returncode == 0


def change(running, rng: random.Random, number: int, kept: str) -> None:
    storage = running.remote
    asset = rng.choice([row for row in storage.storage()["assets"] if row["id"] != kept])
    match rng.randrange(4):
        case 0:
            storage.storage(
                "add_asset", name=f"new-{number}-{rng.random()}.zip", size=10, tags=["t"]
            )
        case 1:
            storage.storage("remove_asset", id=asset["id"])
        case 2:
            storage.storage("set_metadata", id=asset["id"], title="x", tags=["t", f"u{number}"])
        case _:
            storage.storage("set_cnam_status", id=asset["id"], status="FAILED")

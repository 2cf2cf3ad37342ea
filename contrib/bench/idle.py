#!/usr/bin/env python3
"""What the processes of one account on a host ask of UP42's API while nobody uses them.

    idle.py [--processes 20] [--assets 3500] [--orders 40] [--unfinished 0,700] [--minutes 2]
            [--refresh 60]

Half of the processes are mounts, half are servers; all share one cache directory. `--unfinished`
orders are being fulfilled. The count begins when each has the whole listing and the crawl for items
is over, and is given for a minute, as if `--refresh` were 60 s. Bar: 6 requests a minute, all
processes together. The status is 1 where it is not met. Counts are exact; with `--refresh 6` the
figures come ten times as fast, and a token is a tenth of what it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mounts import emulator, mounted, status, wait_for
from serve import Bars, served

from up42fs.emulator.remote import Remote

MOST = 6.0


def requests(remote: Remote, since: int) -> Counter[str]:
    """Requests to the API since a position of the log, by route."""
    routes = Counter(each["route"] for each in remote.log(since))
    return Counter({route: n for route, n in routes.items() if not route.startswith("store.")})


@contextmanager
def processes(env: Mapping[str, str], home: Path, count: int, refresh_s: int) -> Iterator[Path]:
    """Mounts and servers over one cache; yields a mount point."""
    with ExitStack() as stack:
        options = f"refresh={refresh_s}"
        for number in range(count):
            if number % 2 == 0:
                place = home / f"mount-{number}"
                place.mkdir()
                stack.enter_context(mounted(env, place, home, options))
                os.listdir(place / "orders")
            else:
                address = stack.enter_context(served(env, home, "-o", options))
                with urllib.request.urlopen(f"{address}/orders/", timeout=60) as answer:
                    answer.read()
        yield home / "mount-0"


def is_quiet(remote: Remote) -> bool:
    """Whether nothing but listings was asked for in three seconds: the crawl is over."""
    since = len(remote.log(0))
    time.sleep(3)
    return set(requests(remote, since)) <= {"assets.list", "orders.list"}


def idle(bars: Bars, ready: Mapping[str, Any], home: Path, options: argparse.Namespace) -> None:
    remote, unfinished = Remote(ready["control_url"]), options.unfinished_now
    for number in range(unfinished):
        remote.storage("add_order", display_name=f"New {number}", status="BEING_FULFILLED")
    with processes(ready["env"], home, options.processes, options.refresh) as mount:
        wait_for(lambda: is_quiet(remote), "the end of the crawl", 600)
        since, began_s = len(remote.log(0)), time.monotonic()
        time.sleep(options.minutes * options.refresh)
        took = (time.monotonic() - began_s) / options.refresh
        asked = requests(remote, since)
        assert status(mount)["catalogue"]["assets"]["complete"]
    print(f"{options.processes} processes, {unfinished} unfinished orders: {dict(asked)}")
    bars.say(f"{unfinished} unfinished: requests", asked.total() / took, "/min", most=MOST)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 where the bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--assets", type=int, default=3500)
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--unfinished", default="0,700")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--refresh", type=int, default=60)
    options = parser.parse_args(arguments)
    bars = Bars()
    for unfinished in map(int, options.unfinished.split(",")):
        options.unfinished_now = unfinished
        synthetic = f"{options.assets},{options.orders},4"
        with tempfile.TemporaryDirectory() as home, emulator(synthetic) as ready:
            idle(bars, ready, Path(home), options)
    return int(bars.is_missed)


if __name__ == "__main__":
    sys.exit(main())

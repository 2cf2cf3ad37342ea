"""`up42fs warm`: reads files before you need them, through the mount, to fill its cache.

No state is stored between runs: cached bytes are read from the cache, without requests, so a run
that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from up42fs.cli.options import Subparsers, add_command, add_json, path_argument
from up42fs.cli.running import mount_of, need_status
from up42fs.cli.terminal import say, say_json
from up42fs.config.quantities import show_count
from up42fs.errors import ConfigurationError

if TYPE_CHECKING:
    from up42fs.cli.warm.plan import Job


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "warm",
        "Read files, or all files below directories, into the mount's cache.\n"
        "Stopped by Ctrl-C, it goes on from there when it is run again.",
        "up42fs warm ~/up42/orders/Berlin",
        "up42fs warm --estimate ~/up42/orders/Berlin",
        "up42fs warm --overviews ~/up42/tags/basemap",
        "up42fs warm --bbox 13.3,52.4,13.5,52.6 ~/up42/assets/scene",
        "up42fs warm --sizes ~/up42",
    )
    parser.add_argument("paths", nargs="+", type=path_argument, metavar="PATH")
    parser.add_argument(
        "--overviews", action="store_true", help="only the overviews of TIFF files: for a small map"
    )
    parser.add_argument(
        "--bbox",
        type=_box,
        metavar="W,S,E,N",
        help="only what lies in this box, in degrees, of TIFF files, at all resolutions; "
        "with --overviews only at the coarse ones",
    )
    parser.add_argument(
        "--sizes",
        action="store_true",
        help="only the sizes that UP42 does not report, a byte a file: for du, find and ls -l; "
        "they are kept for later mounts",
    )
    parser.add_argument(
        "--estimate", action="store_true", help="tell bytes and requests, and read nothing"
    )
    add_json(parser)
    parser.set_defaults(command=main)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not W,S,E,N in degrees") from None
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise argparse.ArgumentTypeError(f"{text!r} is no box: west < east, south < north")
    return west, south, east, north


def main(options: argparse.Namespace) -> int:
    """Warm the cache; return 0, 1 if a file could not be read, 130 after Ctrl-C."""
    if options.sizes:
        return _sizes(options)
    from up42fs.cli.warm.plan import files, planner, whole
    from up42fs.cli.warm.read import Troubles, read

    mount, _ = mount_of(options.paths[0])
    mountpoint = Path(mount.mountpoint)
    before = need_status(mountpoint)
    if not options.estimate:
        _warn_without_cache(before)
    troubles = Troubles()
    plan = planner(options.overviews, options.bbox)
    is_map = options.overviews or options.bbox is not None
    chosen = files(options.paths, is_map=is_map, box=options.bbox)
    jobs = [job for path in chosen if (job := troubles.attempt(plan, path))]
    if options.estimate:
        _tell_estimate(jobs, is_exact=plan is whole, has_json=options.json)
        return troubles.status
    is_done, read_bytes = read(mountpoint, jobs, troubles)
    after = need_status(mountpoint)
    _tell_result(jobs, read_bytes, before, after, is_done=is_done, has_json=options.json)
    return troubles.status if is_done else 130


def _sizes(options: argparse.Namespace) -> int:
    from up42fs.cli.warm import sizes

    if options.overviews or options.bbox is not None:
        raise ConfigurationError("--sizes reads no file: leave --overviews and --bbox out")
    return sizes.main(options)


def _warn_without_cache(status: Mapping[str, Any]) -> None:
    disk = status.get("disk_cache")
    if not disk or disk.get("off_because"):
        why = disk["off_because"] if disk else "cache_size is 0"
        say(
            f"up42fs: the disk cache is off ({why}): what is read lasts as long as memory allows",
            to_error=True,
        )


def _tell_estimate(jobs: list[Job], *, is_exact: bool, has_json: bool) -> None:
    from rich.filesize import decimal

    from up42fs.cli.warm.ranges import requests

    total = sum(job.bytes for job in jobs)
    held = sum(min(job.held_bytes or 0, job.bytes) for job in jobs)
    missing = [job for job in jobs if job.held_bytes is None or job.held_bytes < job.bytes]
    about = sum(requests(job.spans, job.piece_bytes) for job in missing)
    if is_exact and total:
        about = -(-about * (total - held) // total)
    links = len(missing)
    if has_json:
        say_json(
            {
                "files": len(jobs),
                "bytes": total,
                "to_fetch_bytes": total - held,
                "requests": about + links,
                "is_exact": is_exact,
            }
        )
        return
    most = "" if is_exact else "at most "
    say(
        f"{show_count(len(jobs), 'file')}, {total:,} bytes ({decimal(total)}); "
        f"to fetch: {most}{total - held:,} bytes ({decimal(total - held)}) "
        f"in about {show_count(about + links, 'request')}"
    )


def _tell_result(
    jobs: list[Job],
    read_bytes: int,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    is_done: bool,
    has_json: bool,
) -> None:
    from rich.filesize import decimal

    def grown(name: str) -> int:
        return int(after["counters"].get(name, 0)) - int(before["counters"].get(name, 0))

    total = sum(job.bytes for job in jobs)
    if has_json:
        say_json(
            {
                "files": len(jobs),
                "bytes": total,
                "read_bytes": read_bytes,
                "fetched_bytes": grown("store.bytes_fetched"),
                "requests": grown("store.requests"),
                "is_done": is_done,
            }
        )
        return
    asked = show_count(grown("store.requests"), "request")
    fetched = f"{decimal(grown('store.bytes_fetched'))} in {asked}"
    if is_done:
        files = show_count(len(jobs), "file")
        say(f"{files}, {decimal(read_bytes)} read; the mount fetched {fetched}")
    else:
        say(
            f"stopped: {decimal(read_bytes)} of {decimal(total)} read, {fetched} fetched; "
            "run it again to go on"
        )

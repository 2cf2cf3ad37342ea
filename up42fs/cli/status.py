"""`up42fs status`: shows the status of mounts; live in a terminal, else once."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from up42fs.cli.options import Subparsers, add_command, path_argument
from up42fs.cli.progress import Motion, motion
from up42fs.cli.running import chosen, need_status
from up42fs.cli.terminal import make_console, say, say_json
from up42fs.errors import Unavailable
from up42fs.fuse.mount_table import ours

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Pause between two updates, seconds.
_INTERVAL_S = 1.0


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "status",
        "Show how mounts are: account, freshness, requests, bytes, caches, errors.\n"
        "In a terminal the picture moves until Ctrl-C. Without MOUNTPOINT: all mounts.\n"
        "Costs no request. For Prometheus there is MOUNTPOINT/.up42fs/metrics.",
        "up42fs status",
        "up42fs status --once ~/up42",
        "up42fs status --json ~/up42 | jq .counters",
        "up42fs status --html report.html ~/up42",
    )
    parser.add_argument("mountpoint", nargs="?", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument(
        "--json", action="store_true", help="the mount's document; without MOUNTPOINT a list"
    )
    parser.add_argument("--once", action="store_true", help="one picture, also in a terminal")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page that you can mail; it loads nothing"
    )
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Show the status; return 0. Raises an `Up42fsError` without a mount, or if none answers.

    A script that asks for a list of all mounts gets an empty one instead.
    """
    if options.json and options.mountpoint is None and not ours():
        say_json([])
        return 0
    places = chosen(options.mountpoint)
    can_move = motion(sys.stdout) is Motion.MOVING
    if not (options.json or options.once or options.html) and can_move:
        _show_live(places)
        return 0
    documents = _documents(places)
    if options.html:
        from up42fs.cli.status_html import page

        made_at = time.strftime("%Y-%m-%d %H:%M:%S %z")
        options.html.write_text(page(documents, made_at), encoding="utf-8")
    elif options.json:
        say_json(documents[0] if options.mountpoint else documents)
    else:
        _show_once(documents)
    return 0


def _documents(places: list[Path]) -> list[Mapping[str, Any]]:
    """Read the status of the mounts; report those that do not answer, or raise if none does."""
    documents, silent = [], []
    for place in places:
        try:
            documents.append(need_status(place))
        except Unavailable as error:
            silent.append(error)
    last = None if documents else silent.pop()
    for failure in silent:
        say(f"up42fs: {failure}", to_error=True)
    if last is not None:
        raise last
    return documents


def _show_once(documents: list[Mapping[str, Any]]) -> None:

    from up42fs.cli.status_view import picture

    console = make_console(highlight=False, soft_wrap=True)
    for document in documents:
        console.print(picture(document))


def _shown(place: Path) -> RenderableType:
    """The picture of a mount, or why there is none: another user's, or one that does not answer."""
    from rich.text import Text

    from up42fs.cli.status_view import picture

    try:
        return picture(need_status(place))
    except Unavailable as error:
        return Text(str(error), style="bold red")


def _show_live(places: list[Path]) -> None:
    from rich.console import Group
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(auto_refresh=False, console=make_console()) as live:
        while True:
            live.update(Group(*map(_shown, places)), refresh=True)
            time.sleep(_INTERVAL_S)

"""`up42fs log`: shows what mounts log, wherever that goes."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

from up42fs.cli.mount import default_log_file
from up42fs.cli.options import Subparsers, add_command, path_argument
from up42fs.cli.terminal import say
from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fuse.mount_table import ours
from up42fs.logs import IDENTIFIER

#: Pause between two looks for new lines, seconds.
_INTERVAL_S = 0.5
_EVENT = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[ T][\d:,.+-]+Z?) (?P<level>[A-Z]+) "
    r"(?P<logger>[\w.]+): (?P<message>.*)"
)
#: A line of the journal or of a syslog daemon: host and process precede what up42fs wrote.
_SYSTEM_EVENT = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\S+|[A-Z][a-z]{2} [ \d]\d [\d:]{8}) \S+ "
    rf"(?:\w+\.(?P<level>\w+) )?{IDENTIFIER}\[\d+\]: (?:\[.*?\] )?"
    r"(?P<logger>[\w.]+): (?P<message>.*)"
)


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "log",
        "Show the last lines of a mount's log, in whatever place it is: its file, the\n"
        "journal, syslog, or what the mount keeps itself. Without MOUNTPOINT: all mounts.\n"
        "Also shows the log of a mount that has ended, if it left one.",
        "up42fs log",
        "up42fs log -f ~/up42",
        "up42fs log -n 200 ~/up42 | grep WARNING",
    )
    parser.add_argument("mountpoint", nargs="?", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is logged next, until Ctrl-C"
    )
    parser.add_argument(
        "-n", dest="count", type=_count, default=20, metavar="N", help="lines shown (default 20)"
    )
    parser.add_argument("--json", action="store_true", help="an object for each line, a line each")
    parser.set_defaults(command=main)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} will not do: a number of lines, like 100")
    return int(text)


def main(options: argparse.Namespace) -> int:
    """Show the logs; return 0, or 1 if one of several cannot be shown.

    Raises an `Up42fsError` if the only one cannot.
    """
    from up42fs.cli.log_sources import of_mount

    places = _places(options.mountpoint)
    sources = {}
    for place in places:
        try:
            sources[place] = of_mount(place, default_log_file(place))
        except Unavailable as error:
            if len(places) == 1:
                raise
            say(f"up42fs: {error}", to_error=True)
    printer = _Printer(has_json=options.json, has_heads=len(places) > 1)
    for place, source in sources.items():
        printer.show(place, source.where, source.last(options.count))
    with suppress(KeyboardInterrupt):
        while options.follow and sources:
            time.sleep(_INTERVAL_S)
            for place, source in list(sources.items()):
                lines = source.more()
                printer.show(place, source.where, lines or [])
                if lines is None:
                    del sources[place]
    return 0 if sources or options.follow else 1


def _places(mountpoint: str | None) -> list[Path]:
    if mountpoint is not None:
        return [Path(os.path.realpath(mountpoint))]
    places = [Path(mount.mountpoint) for mount in ours()]
    if not places:
        raise ConfigurationError(
            "nothing is mounted; to see the log of a mount that has ended: up42fs log MOUNTPOINT"
        )
    return places


class _Printer:
    """Prints lines of several logs, with a head where the log changes, as tail(1) does."""

    def __init__(self, *, has_json: bool, has_heads: bool) -> None:
        self._has_json = has_json
        self._has_heads = has_heads and not has_json
        self._shown: Path | None = None

    def show(self, place: Path, where: str, lines: list[str]) -> None:
        if not lines:
            return
        if self._has_json:
            lines = [json.dumps(_event(place, line)) for line in lines]
        elif self._has_heads and place != self._shown:
            lines = [f"==> {place} ({where}) <==", *lines]
        self._shown = place
        say(*lines)
        sys.stdout.flush()


def _event(place: Path, line: str) -> dict[str, str]:
    """One line as an object: its parts if it is in up42fs's own form."""
    with suppress(ValueError):  # log_format=json
        found = json.loads(line)
        if isinstance(found, dict):
            return {"mountpoint": str(place)} | {str(k): str(v) for k, v in found.items()}
    event = _EVENT.fullmatch(line) or _SYSTEM_EVENT.fullmatch(line)
    parts = event.groupdict() if event else {"message": line}
    return {"mountpoint": str(place)} | {k: v for k, v in parts.items() if v is not None}

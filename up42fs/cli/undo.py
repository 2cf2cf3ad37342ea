"""`up42fs undo`: reverts the latest edits made through a mount."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from up42fs.cli.options import Subparsers, add_command, add_json, path_argument
from up42fs.cli.running import MOST_CHANGES_BYTES, chosen, need_status, read_control
from up42fs.cli.terminal import say, say_json
from up42fs.errors import ConfigurationError, Unavailable
from up42fs.fs.edits.changes import ChangedAsset, parse_lines, still_done
from up42fs.fs.hidden import CHANGES, CONTROL_DIR, UNDO
from up42fs.model.intentions import Metadata


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "undo",
        "Take back the latest edits made through a mount with -o rw, as\n"
        ".up42fs/changes has them; what one command changed is one edit. What others\n"
        "changed since stays, and a title that was changed again too.",
        "up42fs undo ~/up42",
        "up42fs undo --dry-run ~/up42 3",
    )
    parser.add_argument("mountpoint", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument("count", nargs="?", type=_count, default=1, metavar="N", help="how many")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")
    add_json(parser, "a list of what was undone")
    parser.set_defaults(command=main)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} will not do: a whole number above 0")
    return int(text[:9])


def main(options: argparse.Namespace) -> int:
    """Undo, the latest first; return 0. Raises an `Up42fsError` at the first failure."""
    (mountpoint,) = chosen(options.mountpoint)
    if need_status(mountpoint).get("edits") is None:
        raise ConfigurationError(f"{mountpoint} is mounted read-only; edits need -o rw")
    journal = mountpoint / CONTROL_DIR / CHANGES
    content = read_control(mountpoint, CHANGES, MOST_CHANGES_BYTES)
    operations = still_done(parse_lines(content))[: options.count]
    if not operations and not options.json:
        say("nothing to undo")
    undone = []
    for changes in operations:
        if not options.dry_run:
            _undo(mountpoint, journal, changes)
        told = {change.name: describe(change.after, change.before) for change in changes}
        first = changes[0]
        undone.append({"when": first.when, "what": first.what, "changes": told})
        if options.json:
            continue
        say(f"{'would undo' if options.dry_run else 'undid'} {first.when}: {first.what}")
        for name, words in told.items():
            say(f"  {name}: {words}")
    if options.json:
        say_json(undone)
    return 0


def _undo(mountpoint: Path, journal: Path, changes: Sequence[ChangedAsset]) -> None:
    try:
        os.setxattr(journal, UNDO, str(changes[0].operation).encode())
    except OSError as error:
        failed = (need_status(mountpoint).get("edits") or {}).get("failed") or {}
        why = next((failed[c.asset] for c in changes if c.asset in failed), error.strerror)
        raise Unavailable(f"{changes[0].what!r} was not undone on all assets: {why}") from None


def describe(now: Metadata, then: Metadata) -> str:
    """Describe the changes from `now` to `then` in words."""
    words = [f"+{tag}" for tag in then.tags if tag not in now.tags]
    words += [f"-{tag}" for tag in now.tags if tag not in then.tags]
    said = [f"tags {' '.join(words)}"] if words else []
    if now.title != then.title:
        said.append(f"title {then.title!r}" if then.title is not None else "no title")
    return ", ".join(said) or "nothing"

"""`up42fs cache`: list, verify, clear and pin cached files on disk. Needs no mount."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from up42fs.cli.options import (
    Subparsers,
    add_command,
    add_json,
    add_options,
    path_argument,
    settings_of,
)
from up42fs.cli.progress import progress
from up42fs.cli.running import mount_of, need_status
from up42fs.cli.terminal import say, say_json
from up42fs.config.quantities import DAY_S, parse_span_s, show_count
from up42fs.errors import ConfigurationError
from up42fs.visible import visible

if TYPE_CHECKING:
    from up42fs.catalog.stored_names import KnownName
    from up42fs.fuse.mount_table import Mount
    from up42fs.store.disk.cached_files import CachedFile


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "cache",
        "Look into the disk cache and change it, with mounts running or not.",
        "up42fs cache usage",
        "up42fs cache list --json",
        "up42fs cache clear --older-than 30",
        "up42fs cache verify",
        "up42fs cache pin ~/up42/orders/Berlin",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add(actions, "list", "every file that is held, the latest used first", _list, "--json")
    _add(actions, "usage", "how much is held, of how much that may be", _usage, "--json")
    words = "delete what is held, pinned files excepted"
    clear = _add(actions, "clear", words, _clear, "--older-than 30")
    clear.add_argument(
        "paths", nargs="*", type=path_argument, metavar="PATH", help="only these files of a mount"
    )
    clear.add_argument(
        "--older-than",
        type=_days,
        metavar="DAYS",
        help="only what nobody used for so long; also 12h, 2w",
    )
    clear.add_argument("--pinned", action="store_true", help="pinned files too")
    _add(actions, "verify", "read everything and compare checksums", _verify, "--cache-dir /big")
    for name, words, run in (
        ("pin", "keep files of a mount from being pushed out", _pin),
        ("unpin", "undo pin", _unpin),
    ):
        action = _add(actions, name, words, run, "~/up42/orders/Berlin/*.zip")
        words = "a file, or a directory of them"
        action.add_argument("paths", nargs="+", type=path_argument, metavar="PATH", help=words)


def _days(text: str) -> float:
    try:
        return parse_span_s(text, DAY_S) / DAY_S
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} will not do: a time like 30, 12h or 2w (days where no unit is given)"
        ) from None


def _add(
    actions: Subparsers[argparse.ArgumentParser], name: str, words: str, run: Any, example: str
) -> argparse.ArgumentParser:
    description = words[0].upper() + words[1:] + "."
    parser = add_command(actions, name, description, f"up42fs cache {name} {example}", words=words)
    add_json(parser)
    add_options(parser, ("cache_dir", "cache_size"))
    parser.set_defaults(command=run)
    return parser


@dataclass(frozen=True, slots=True)
class _Place:
    """A file of a mount and the path of its cached bytes."""

    path: str
    file: Path
    #: The file of what belongs to it: the seek points of a packed member.
    points: Path | None = None
    #: The bytes of the whole archive, if its members' bytes are those of the archive's file.
    archive_bytes: int | None = None


def _directory(options: argparse.Namespace) -> Path:
    directory = settings_of(options).storage_dir
    if directory is None:
        raise ConfigurationError("there is no disk cache: cache_size is 0")
    return directory


def _entries(options: argparse.Namespace) -> Iterator[CachedFile]:
    from up42fs.store.disk.cached_files import entries

    return entries(_directory(options) / "blocks")


def _list(options: argparse.Namespace) -> int:
    from up42fs.catalog.stored_names import stored_names

    found = sorted(
        (entry for entry in _entries(options) if not _is_points(entry)),
        key=lambda entry: entry.used_at_s,
        reverse=True,
    )
    held = [entry.label.object_id for entry in found if entry.label]
    names = stored_names(_directory(options) / "catalogue", held)
    rows = [_row(entry, names) for entry in found]
    if options.json:
        say_json(rows)
        return 0
    for row in rows:
        pinned = " pinned" if row["pinned"] else ""
        say(
            f"{row['held_bytes']:>15,} {row['share']:>5.0%} {row['used_at']} "
            f"{visible(row['path'] or row['id'])}{pinned}"
        )
    return 0


def _is_points(entry: CachedFile) -> bool:
    """Whether it holds no bytes of a file, but what reads of one begin at."""
    from up42fs.store.members.inflate.kept_states import is_points_id

    return entry.label is not None and is_points_id(entry.label.object_id)


def _row(entry: CachedFile, names: Mapping[str, KnownName]) -> dict[str, Any]:
    label = entry.label
    size = label.version.size if label else 0
    known = names.get(label.object_id) if label else None
    return {
        "id": label.object_id if label else entry.path.name,
        "name": known.name if known else None,
        "order": known.order if known else None,
        "path": str(known) if known else (None if label else "(of another release)"),
        "size": size,
        "held_bytes": entry.held_bytes,
        "share": entry.held_bytes / size if size else 1.0,
        "used_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used_at_s)),
        "pinned": entry.is_pinned,
    }


def _usage(options: argparse.Namespace) -> int:
    from up42fs.store.disk.cached_files import FREE_SHARE, space_of

    directory = _directory(options)
    found = list(_entries(options))
    used = sum(entry.disk_bytes for entry in found)
    pinned = sum(entry.disk_bytes for entry in found if entry.is_pinned)
    limit = settings_of(options).cache_size
    facts: dict[str, Any] = {
        "directory": str(directory),
        "files": len(found),
        "used_bytes": used,
        "pinned_bytes": pinned,
        "limit_bytes": limit,
    }
    if directory.exists():
        space = space_of(directory)
        facts["disk_free_bytes"] = space.free_bytes
        facts["disk_reserved_bytes"] = int(space.total_bytes * FREE_SHARE)
    if options.json:
        say_json(facts)
        return 0
    from rich.filesize import decimal

    say(f"{directory}: {show_count(len(found), 'file')}, {decimal(used)} of {decimal(limit)}")
    say(f"pinned: {decimal(pinned)}")
    if directory.exists():
        say(
            f"free on its disk: {decimal(facts['disk_free_bytes'])}, "
            f"of which {decimal(facts['disk_reserved_bytes'])} stay free"
        )
    return 0


def _clear(options: argparse.Namespace) -> int:
    from up42fs.store.disk.cached_files import is_older, remove

    wanted = None
    if options.paths:
        wanted = {file for place in _places(options) for file in (place.file, place.points) if file}
    freed = count = 0
    for entry in list(_entries(options)):
        is_chosen = (
            (wanted is None or entry.path in wanted)
            and (options.pinned or not entry.is_pinned)
            and (options.older_than is None or is_older(entry, options.older_than))
        )
        if is_chosen:
            remove(entry)
            freed, count = freed + entry.disk_bytes, count + 1
    if options.json:
        say_json({"files": count, "bytes": freed})
    else:
        say(f"deleted {show_count(count, 'file')}, {freed:,} bytes")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from up42fs.store.disk.cached_files import verify

    bad_files = bad_bytes = 0
    found = list(_entries(options))
    held = sum(entry.held_bytes for entry in found)
    with progress("verifying", held) as advance:
        for entry in found:
            with suppress(FileNotFoundError):
                bad = verify(entry)
                bad_bytes += bad
                bad_files += bool(bad)
            advance(entry.held_bytes)
    files = show_count(len(found), "file")
    if options.json:
        counts = {"files": len(found), "bytes": held}
        say_json(counts | {"bad_files": bad_files, "bad_bytes": bad_bytes})
        return 1 if bad_bytes else 0
    say(f"{files}, {held:,} bytes verified; {bad_bytes:,} bytes of {bad_files} bad")
    if bad_bytes:
        say("what was bad is crossed out and will be fetched again; check the disk: dmesg")
    return 1 if bad_bytes else 0


def _pin(options: argparse.Namespace) -> int:
    from up42fs.store.disk.cached_files import pin

    places = _places(options)
    for place in places:
        pin(place.file)
        if not options.json:
            say(f"pinned {place.path}{_and_all(place)}")
    if options.json:
        say_json([{"path": place.path, "pinned": True} for place in places])
    return 0


def _and_all(place: _Place) -> str:
    """A warning that a pin keeps more than one file."""
    if place.archive_bytes is None:
        return ""
    most = f", up to {place.archive_bytes:,} bytes" if place.archive_bytes else ""
    return f"; with it all that is read of its archive{most}: their bytes lie in one file"


def _unpin(options: argparse.Namespace) -> int:
    from up42fs.store.disk.cached_files import unpin

    were = {place.path: unpin(place.file) for place in _places(options)}
    if options.json:
        rows = [{"path": path, "pinned": False, "was_pinned": was} for path, was in were.items()]
        say_json(rows)
        return 0
    for path, was_pinned in were.items():
        say(f"{'unpinned' if was_pinned else 'was not pinned:'} {path}")
    return 0


def _places(options: argparse.Namespace) -> list[_Place]:
    """The cached files of paths in mounts, all below directories; raises if there are none."""
    from up42fs.cli.warm.plan import files

    found = []
    for path in options.paths:
        mount, _ = mount_of(path)
        directory = _files_of(mount, options)
        chosen = list(files([path]))
        if not chosen:
            what = "has no delivered files in it" if Path(path).is_dir() else "is no delivered file"
            raise ConfigurationError(f"{path} {what}")
        for file in chosen:
            shown = path if len(chosen) == 1 and not Path(path).is_dir() else str(file)
            found.append(_place(file, shown, directory))
    return found


def _place(file: Path, shown: str, directory: Path) -> _Place:
    """The cached file that holds a file's bytes: for a member that is stored, its archive's."""
    from up42fs.store.disk.cached_files import path_of
    from up42fs.store.members.inflate.kept_states import points_id

    try:
        os.getxattr(file, "user.up42.member.method")
    except OSError:  # no member
        return _Place(shown, path_of(directory, os.fsdecode(os.getxattr(file, "user.up42.id"))))
    told = json.loads(os.getxattr(file, "user.up42.explain"))
    kept_in = str(told.get("kept_in", told["id"]))
    archive_bytes = int(told.get("archive_bytes") or 0) if kept_in != told["id"] else None
    points = path_of(directory, points_id(kept_in))
    return _Place(shown, path_of(directory, kept_in), points, archive_bytes)


def _files_of(mount: Mount, options: argparse.Namespace) -> Path:
    """Return the directory of cached files of a mount's account; raises an `Up42fsError`.

    The directory comes from this user's own record of the mount, otherwise from the settings, and
    never from the mount itself: the mount may be another user's, who must not choose which of this
    user's files are changed.
    """
    from up42fs.engine.account import account_key
    from up42fs.mount import records

    place = Path(mount.mountpoint)
    if mount.is_foreign:
        raise ConfigurationError(f"{place} was mounted by {mount.owner_name}: so is its cache")
    if not need_status(place).get("disk_cache"):
        raise ConfigurationError(f"{place}: the mount has no disk cache")
    record = records.read(place)
    if record is not None and record.files:
        return Path(record.files)
    settings = settings_of(options)
    return _directory(options) / "blocks" / account_key(settings)

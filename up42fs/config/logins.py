"""Accounts that `up42fs login` signed in: user name, server, and the place of the password.

The system's keyring holds the password; if there is none, a file that only its owner can read holds
it with the rest. Passwords are not checked at UP42 here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from shlex import quote
from types import ModuleType

from up42fs.config.homes import is_beyond
from up42fs.config.settings import Settings, default_file, open_refusal
from up42fs.errors import ConfigurationError

_SERVICE = "up42fs"


@dataclass(frozen=True, slots=True)
class Login:
    """One account at one identity server; `password` is None if the keyring has it."""

    username: str
    region: str = "eu"
    api_url: str | None = None
    auth_url: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def server(self) -> str:
        """Address of the identity server; an account's password is never sent to another one."""
        return self.place.auth

    @property
    def place(self) -> Settings:
        """Settings with the addresses of its servers, and nothing else."""
        return Settings(region=self.region, api_url=self.api_url, auth_url=self.auth_url)


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """How a login is kept; `left` names the rest of a former one that could not be removed."""

    is_in_keyring: bool
    left: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """A login that was removed; `left` says what could not be removed, and how to remove it."""

    login: Login
    left: str | None


def default_path(environ: Mapping[str, str]) -> Path:
    """The file of logins, beside the configuration file."""
    return default_file(environ).with_name("logins.json")


class Logins:
    """The signed-in accounts, at most one for each identity server, the newest last."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Login]:
        """Every account; raises ConfigurationError if the file cannot be trusted or read."""
        try:
            text = self._path.read_text(encoding="utf-8")
            is_open = bool(self._path.stat().st_mode & 0o077)
            logins = [Login(**entry) for entry in json.loads(text)["logins"]]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, PermissionError) and is_beyond(self._path):
                return []
            raise ConfigurationError(
                f"{self._path} cannot be read ({type(error).__name__}); "
                "remove it and sign in again: up42fs login"
            ) from None
        if is_open and any(login.password for login in logins):
            raise ConfigurationError(open_refusal(self._path))
        return logins

    def place(self) -> dict[str, str]:
        """Settings with the addresses of the newest login's servers; empty if there is none."""
        logins = self.all()
        if not logins:
            return {}
        entry = asdict(logins[-1])
        names = ("region", "api_url", "auth_url")
        return {name: entry[name] for name in names if entry[name] is not None}

    def complete(self, settings: Settings) -> Settings:
        """Fill in the account signed in at the server, unless `settings` names another one.

        Raises ConfigurationError if the keyring does not return the password.
        """
        if settings.password:
            return settings
        if (login := self._of(settings)) is None:
            return self._with_hint(settings)
        if settings.username not in (None, login.username):
            return settings
        return replace(
            settings,
            username=login.username,
            password=_password(login),
            account_hint="sign in again: up42fs login",
        )

    def _with_hint(self, settings: Settings) -> Settings:
        """`settings` with a hint if an account is signed in at another server."""
        others = self.all()
        if not others or settings.username not in (None, *(one.username for one in others)):
            return settings
        login = others[-1]
        there = login.api_url or login.region
        here = settings.api if settings.api_url or settings.auth_url else settings.region
        how = f"--region {here}" if here in ("eu", "sa") else "with UP42_API_URL set"
        return replace(
            settings,
            account_hint=f"{login.username} is signed in at {there}, and {here} is meant; leave "
            f"out the region, or run up42fs login {how}",
        )

    def add(self, settings: Settings, *, use_keyring: bool = True) -> StoredLogin:
        """Keep the account in place of its server's former one; raises OSError."""
        assert settings.username
        assert settings.password
        login = Login(settings.username, settings.region, settings.api_url, settings.auth_url)
        is_in_keyring = use_keyring and _offer(login, settings.password)
        if not is_in_keyring:
            login = replace(login, password=settings.password)
        former = self._of(settings)
        self._write([*self._without(login.server), login])
        # The former login's password in the keyring is unused now, unless it was just replaced.
        if former and not (is_in_keyring and _entry(former) == _entry(login)):
            return StoredLogin(is_in_keyring, _left(former))
        return StoredLogin(is_in_keyring)

    def remove(self, settings: Settings) -> Removed | None:
        """Remove the account and password at the server of `settings`; None if there is none."""
        login = self._of(settings)
        if login is None:
            return None
        self._write(self._without(login.server))
        return Removed(login, _left(login))

    def _of(self, settings: Settings) -> Login | None:
        return next((login for login in self.all() if login.server == settings.auth), None)

    def _without(self, server: str) -> list[Login]:
        return [login for login in self.all() if login.server != server]

    def _write(self, logins: list[Login]) -> None:
        if not logins:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
                json.dump({"logins": [asdict(login) for login in logins]}, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)


def _keyring() -> ModuleType | None:
    """The keyring library, or None if no keyring is available."""
    import keyring  # takes a tenth of a second, so only callers that use it pay

    return keyring if keyring.get_keyring().priority > 0 else None


def _entry(login: Login) -> str:
    return f"{login.username} at {login.server}"


def _offer(login: Login, password: str) -> bool:
    """Store the password in the keyring; return whether that worked. Backends raise anything."""
    try:
        keyring = _keyring()
        if keyring is None:
            return False
        keyring.set_password(_SERVICE, _entry(login), password)
        return bool(keyring.get_password(_SERVICE, _entry(login)) == password)
    except Exception:
        return False


def _password(login: Login) -> str:
    if login.password is not None:
        return login.password
    reason = "there is none here"
    try:
        keyring = _keyring()
        found = keyring.get_password(_SERVICE, _entry(login)) if keyring else None
        if found:
            return str(found)
        if keyring:
            reason = "it has no such entry"
    except Exception as error:
        reason = str(error) or type(error).__name__
    raise ConfigurationError(
        f"the keyring does not give the password of {login.username} ({reason}); "
        "sign in again: up42fs login, with --no-keyring where no desktop is running"
    )


def _left(login: Login) -> str | None:
    """Remove the password from the keyring; return a message if it stays, else None."""
    if login.password is not None:
        return None  # it was in the file
    reason = "there is none here, as without a desktop or under sudo"
    try:
        keyring = _keyring()
        if keyring is not None:
            if keyring.get_password(_SERVICE, _entry(login)) is None:
                return None  # removed by other means
            keyring.delete_password(_SERVICE, _entry(login))
            if keyring.get_password(_SERVICE, _entry(login)) is None:
                return None
            reason = "it still has the entry"
    except Exception as error:
        reason = str(error) or type(error).__name__
    return (
        f"the password of {login.username} is still in the system's keyring, which did not remove "
        f"it ({reason}). Delete it in the keyring's own program, entry {_SERVICE}, or where your "
        f"desktop runs: secret-tool clear service {_SERVICE} username {quote(_entry(login))}"
    )

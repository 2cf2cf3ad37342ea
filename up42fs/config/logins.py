"""Accounts that `up42fs login` signed in: user name, server, and the place of the password.

A login without a name is the default one of its identity server. Further ones have names, as many
as the user likes, also for one server. Earlier versions of up42fs know the first kind only, so the
file lists the two kinds apart.

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
from up42fs.config.options import suggestion
from up42fs.config.settings import Settings, default_file, open_refusal
from up42fs.errors import ConfigurationError

_SERVICE = "up42fs"
#: Stands for the default login where a name is expected; no login can have it.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Login:
    """One account at one identity server; `password` is None if the keyring has it."""

    username: str
    region: str = "eu"
    api_url: str | None = None
    auth_url: str | None = None
    password: str | None = field(default=None, repr=False)
    workspace: str | None = None
    name: str | None = None

    @property
    def is_in_keyring(self) -> bool:
        """Whether the keyring has the password, and not the file."""
        return self.password is None

    @property
    def shown_place(self) -> str:
        """Its servers, for people: the region, or the address of the API."""
        return self.place.api if self.api_url else self.region

    @property
    def again(self) -> str:
        """The command that signs in again."""
        return "up42fs login" if self.name is None else f"up42fs login --as {self.name}"

    def servers(self) -> dict[str, str]:
        """Settings with the addresses of its servers."""
        said = {"region": self.region, "api_url": self.api_url, "auth_url": self.auth_url}
        return {name: text for name, text in said.items() if text is not None}

    def entry(self) -> dict[str, str | None]:
        """The file's entry for it; earlier versions refuse members that they do not know."""
        new = ("workspace", "name")
        return {k: v for k, v in asdict(self).items() if k not in new or v is not None}

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
    """The signed-in accounts: default ones, at most one a server, the newest last; named ones."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Login]:
        """Every account; raises ConfigurationError if the file cannot be trusted or read."""
        try:
            text = self._path.read_text(encoding="utf-8")
            is_open = bool(self._path.stat().st_mode & 0o077)
            document = json.loads(text)
            entries = [*document["logins"], *document.get("named", ())]
            logins = [Login(**entry) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, PermissionError) and is_beyond(self._path):
                return []
            raise ConfigurationError(
                f"{self._path} cannot be read ({type(error).__name__}); "
                "remove it and sign in again: up42fs login"
            ) from None
        if is_open and any(login.password for login in logins):
            raise ConfigurationError(open_refusal(self._path))
        return logins

    def default(self) -> Login | None:
        """The account that commands use if nothing names one; None if there is no such choice."""
        found = self._defaults()
        return found[-1] if found else None

    def _defaults(self) -> list[Login]:
        """The logins without a name; without any, the only one that there is."""
        logins = self.all()
        unnamed = [login for login in logins if login.name is None]
        return unnamed or (logins if len(logins) == 1 else [])

    def named(self, name: str) -> Login:
        """The login of this name; raises ConfigurationError, with the known ones and the cure."""
        logins = self.all()
        if name == DEFAULT and (found := self.default()) is not None:
            return found
        for login in logins:
            if login.name == name:
                return login
        known = list(dict.fromkeys(login.name or DEFAULT for login in logins))
        if not known:
            raise ConfigurationError(
                f"nobody is signed in here, so there is no account {name}; sign in: {_as(name)}"
            )
        hint = suggestion(name, known) or "."
        raise ConfigurationError(
            f"nobody is signed in as {name}{hint} Known are: {', '.join(known)}. Choose one of "
            f"them, or sign in: {_as(name)}"
        )

    def place(self) -> dict[str, str]:
        """Settings with the addresses of the default login's servers; empty if there is none."""
        login = self.default()
        return {} if login is None else login.servers()

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
        return self.filled(settings, login)

    @staticmethod
    def filled(settings: Settings, login: Login) -> Settings:
        """`settings` with the login's account, and its workspace unless they have one."""
        return replace(
            settings,
            username=login.username,
            password=_password(login),
            workspace=login.workspace if settings.workspace is None else settings.workspace,
            account_hint=f"sign in again: {login.again}",
        )

    def _with_hint(self, settings: Settings) -> Settings:
        """`settings` with a hint if an account is signed in at another server."""
        everybody = self.all()
        others = self._defaults() or everybody
        if not others or settings.username not in (None, *(one.username for one in others)):
            return settings
        if not self._defaults():
            names = ", ".join(str(login.name) for login in everybody)
            return replace(
                settings,
                account_hint=f"these are signed in: {names}; choose one, as in --account "
                f"{everybody[0].name}, or sign in the default one: up42fs login",
            )
        login = others[-1]
        there = login.api_url or login.region
        here = settings.api if settings.api_url or settings.auth_url else settings.region
        how = f"--region {here}" if here in ("eu", "sa") else "with UP42_API_URL set"
        return replace(
            settings,
            account_hint=f"{login.username} is signed in at {there}, and {here} is meant; leave "
            f"out the region, or run up42fs login {how}",
        )

    def add(
        self, settings: Settings, *, use_keyring: bool = True, name: str | None = None
    ) -> StoredLogin:
        """Keep the account in place of the former one of its name or server; raises OSError."""
        assert settings.username
        assert settings.password
        login = Login(
            settings.username,
            settings.region,
            settings.api_url,
            settings.auth_url,
            workspace=settings.workspace,
            name=name,
        )
        is_in_keyring = use_keyring and _offer(login, settings.password)
        if not is_in_keyring:
            login = replace(login, password=settings.password)
        former = next((other for other in self.all() if _is_in_place_of(login, other)), None)
        others = [other for other in self.all() if other is not former and other != former]
        self._write([*others, login])
        # The former login's password in the keyring is unused now, unless it was just replaced.
        return StoredLogin(is_in_keyring, self._left(former) if former else None)

    def remove(self, settings: Settings) -> Removed | None:
        """Remove the default account at the server of `settings`; None if there is none."""
        login = self._of(settings)
        return None if login is None else self.forget(login)

    def forget(self, login: Login) -> Removed:
        """Remove an account and its password."""
        self._write([other for other in self.all() if other != login])
        return Removed(login, self._left(login))

    def _left(self, gone: Login) -> str | None:
        """Remove the password from the keyring, unless a login that stays has the same entry."""
        if any(login.is_in_keyring and _entry(login) == _entry(gone) for login in self.all()):
            return None
        return _left(gone)

    def _of(self, settings: Settings) -> Login | None:
        found = (login for login in self._defaults() if login.server == settings.auth)
        return next(found, None)

    def _write(self, logins: list[Login]) -> None:
        if not logins:
            self._path.unlink(missing_ok=True)
            return
        document = {"logins": [login.entry() for login in logins if login.name is None]}
        if named := [login.entry() for login in logins if login.name is not None]:
            document["named"] = named
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
                json.dump(document, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)


def _is_in_place_of(login: Login, other: Login) -> bool:
    """Whether `other` goes when `login` comes: it has the name, or is the server's default."""
    if login.name is not None:
        return other.name == login.name
    return other.name is None and other.server == login.server


def _as(name: str) -> str:
    return "up42fs login" if name == DEFAULT else f"up42fs login --as {name}"


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
        f"sign in again: {login.again}, with --no-keyring where no desktop is running"
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

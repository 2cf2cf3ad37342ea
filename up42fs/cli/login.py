"""`up42fs login` and `logout`: prompt for an account, check it and store it; delete it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from dataclasses import replace

from up42fs.cli.options import Subparsers, add_command, add_options
from up42fs.cli.terminal import say
from up42fs.config import settings as config
from up42fs.config.logins import Login, Logins, default_path
from up42fs.config.options import expand_home
from up42fs.errors import ConfigurationError

_PLACES = ("region", "api_url", "auth_url")


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "login",
        "sign in once, for all mounts to come",
        "Ask for user name and password, sign in, and keep both: the password in the\n"
        "system's keyring, or where there is none in a file that only you can read.\n"
        "Without a terminal the password is the first line of standard input.",
        "up42fs login",
        "up42fs login --region sa --username me@example.com",
        "pass show up42 | up42fs login --username me@example.com --no-keyring",
    )
    parser.add_argument(
        "--no-keyring",
        action="store_true",
        help="keep the password in the file: for machines on which no desktop is running",
    )
    add_options(parser, ("username", "password", *_PLACES))
    parser.set_defaults(command=login)
    parser = add_command(
        commands,
        "logout",
        "forget the account that signed in",
        "Forget the account, and its password. Mounts that are running keep it.",
        "up42fs logout",
        "up42fs logout --region sa",
        "up42fs logout --all",
    )
    parser.add_argument("--all", action="store_true", help="every account that signed in")
    add_options(parser, _PLACES)
    parser.set_defaults(command=logout)


def login(options: argparse.Namespace) -> int:
    """Sign in and store the account; return 0. Raises an `Up42fsError` and then stores nothing."""
    import trio

    from up42fs.engine.account import sign_in

    settings = _place(options)
    username = settings.username or _ask_name()
    settings = replace(
        settings,
        username=username,
        password=_ask_password(username),
        account_hint="type it again, and check the account's region: --region eu or sa",
    )
    holdings = trio.run(sign_in, settings)
    logins = Logins(default_path(os.environ))
    try:
        kept = logins.add(settings, use_keyring=not options.no_keyring)
    except OSError as error:
        raise ConfigurationError(
            f"the password is right, but {username} cannot be kept in {default_path(os.environ)}: "
            f"{error.strerror}; set XDG_CONFIG_HOME to a directory of yours, or set UP42_USERNAME "
            "and UP42_PASSWORD instead"
        ) from error
    where = "the system's keyring" if kept.is_in_keyring else str(default_path(os.environ))
    say(f"Signed in to UP42 ({_named(settings)}) as {username}: {holdings}.")
    say(f"The password is kept in {where}.")
    say("Next: mkdir -p ~/up42 && up42fs mount ~/up42")
    if kept.left:
        say(f"up42fs: {kept.left}", to_error=True)
    return 0


def logout(options: argparse.Namespace) -> int:
    """Delete the stored account; return 0, or 1 if its password could not be removed."""
    logins = Logins(default_path(os.environ))
    places = [login.place for login in logins.all()] if options.all else [_place(options, logins)]
    removed = [gone for place in places if (gone := logins.remove(place)) is not None]
    if not removed:
        where = f" at {places[0].auth}" if places else ""
        raise ConfigurationError(f"nobody is signed in{where}; nothing to forget")
    for gone in removed:
        say(f"Signed out {_who(gone.login)}{'' if gone.left else '; its password is forgotten'}.")
        if gone.left:
            say(f"up42fs: {gone.left}", to_error=True)
    return 1 if any(gone.left for gone in removed) else 0


def _place(options: argparse.Namespace, logins: Logins | None = None) -> config.Settings:
    """Return where to sign in, and the user name if given, but no stored password."""
    arguments = {
        name: value
        for name in ("username", *_PLACES)
        if (value := getattr(options, name, None)) is not None
    }
    path = config.default_file(os.environ) if options.config is None else options.config
    file = config.load_file(expand_home(str(path)), must_exist=options.config is not None)
    found = config.resolve(
        arguments=arguments,
        mount_options={},
        environ={k: v for k, v in os.environ.items() if k != "UP42_PASSWORD"},
        file={name: value for name, value in file.items() if name in ("username", *_PLACES)},
        login=logins.place() if logins else None,
    )
    return replace(found, password=None)


def _ask_name() -> str:
    if sys.stdin.isatty():
        name = input("UP42 user name (e-mail address): ").strip()
        if name:
            return name
    raise ConfigurationError("no user name given: use --username, or set UP42_USERNAME")


def _ask_password(username: str) -> str:
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"Password of {username}: ")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:  # its traceback would show bytes of the password
        raise config.no_text("password") from None
    if not password:
        raise ConfigurationError(
            "no password given: type it when asked, or send it to standard input"
        )
    return password


def _named(settings: config.Settings) -> str:
    return settings.api if settings.api_url else settings.region


def _who(login: Login) -> str:
    return f"{login.username} ({_named(login.place)})"

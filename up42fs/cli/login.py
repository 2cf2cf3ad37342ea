"""`up42fs login` and `logout`: prompt for an account, check it and store it; delete it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from up42fs.cli.options import Subparsers, add_command, add_json, add_options
from up42fs.cli.terminal import say, say_json
from up42fs.config import settings as config
from up42fs.config.logins import DEFAULT, Login, Logins, Removed, default_path
from up42fs.config.options import account_name, expand_home
from up42fs.config.settings import PLACES
from up42fs.errors import ConfigurationError, UsageError

#: Variables that say nothing of where to sign in; a workspace of one account is none of another.
_NOT_OF_A_LOGIN = frozenset({"UP42_PASSWORD", "UP42_WORKSPACE", "UP42_ACCOUNT"})


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "login",
        "Ask for user name and password, sign in, and keep both: the password in the\n"
        "system's keyring, or where there is none in a file that only you can read.\n"
        "Without a terminal the password is the first line of standard input.",
        "up42fs login",
        "up42fs login --region sa --username me@example.com",
        "up42fs login --as lab --username lab@example.com",
        "pass show up42 | up42fs login --username me@example.com --no-keyring",
    )
    parser.add_argument(
        "--no-keyring",
        action="store_true",
        help="keep the password in the file: for machines on which no desktop is running",
    )
    _add_name(parser, "keep it as a further account, which --account NAME chooses")
    add_json(parser)
    add_options(parser, ("username", "password", "workspace", *PLACES))
    parser.set_defaults(command=login)


def add_logout_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "logout",
        "Forget the account, and its password. Mounts that are running keep it.",
        "up42fs logout",
        "up42fs logout --region sa",
        "up42fs logout --as lab",
        "up42fs logout --all",
    )
    _add_name(parser, "the account that signed in under this name")
    parser.add_argument("--all", action="store_true", help="every account that signed in")
    add_json(parser, "a list of those that were signed out")
    add_options(parser, PLACES)
    parser.set_defaults(command=logout)


def _add_name(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--as", dest="name", type=_name, metavar="NAME", help=words)


def _name(text: str) -> str:
    try:
        name = account_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} will not do: {error}") from None
    if name == DEFAULT:
        raise argparse.ArgumentTypeError("the default account has no name: leave --as out")
    return name


def login(options: argparse.Namespace) -> int:
    """Sign in and store the account; return 0. Raises an `Up42fsError` and then stores nothing."""
    import trio

    from up42fs.engine.account import sign_in

    logins = Logins(default_path(os.environ))
    settings = _place(options, _former(options, logins))
    username = settings.username or _ask_name()
    settings = replace(
        settings,
        username=username,
        password=_ask_password(username),
        account_hint="type it again, and check the account's region: --region eu or sa",
    )
    holdings = trio.run(sign_in, settings)
    try:
        kept = logins.add(settings, use_keyring=not options.no_keyring, name=options.name)
    except OSError as error:
        raise ConfigurationError(
            f"the password is right, but {username} cannot be kept in {default_path(os.environ)}: "
            f"{error.strerror}; set XDG_CONFIG_HOME to a directory of yours, or set UP42_USERNAME "
            "and UP42_PASSWORD instead"
        ) from error
    if options.json:
        place = "keyring" if kept.is_in_keyring else "file"
        counts = {"orders": holdings.orders, "assets": holdings.assets}
        say_json(_document(settings, options.name) | {"password_in": place} | counts)
        if kept.left:
            say(f"up42fs: {kept.left}", to_error=True)
        return 0
    where = "the system's keyring" if kept.is_in_keyring else str(default_path(os.environ))
    say(f"Signed in to UP42 ({_named(settings)}) as {username}: {holdings}.")
    say(f"The password is kept in {where}.")
    chosen = f" --account {options.name}" if options.name else ""
    say(f"Next: mkdir -p ~/up42 && up42fs mount{chosen} ~/up42")
    if kept.left:
        say(f"up42fs: {kept.left}", to_error=True)
    return 0


def _document(settings: config.Settings, name: str | None) -> dict[str, object]:
    return {
        "name": name,
        "username": settings.username,
        "region": None if settings.api_url else settings.region,
        "api": settings.api,
        "workspace": settings.workspace,
    }


def logout(options: argparse.Namespace) -> int:
    """Delete the stored account; return 0, or 1 if its password could not be removed."""
    removed = _removed(options, Logins(default_path(os.environ)))
    if options.json:
        say_json(
            [
                _document(gone.login.place, gone.login.name)
                | {"username": gone.login.username, "is_forgotten": not gone.left}
                for gone in removed
            ]
        )
    for gone in removed:
        if not options.json:
            forgotten = "" if gone.left else "; its password is forgotten"
            say(f"Signed out {_who(gone.login)}{forgotten}.")
        if gone.left:
            say(f"up42fs: {gone.left}", to_error=True)
    return 1 if any(gone.left for gone in removed) else 0


def _removed(options: argparse.Namespace, logins: Logins) -> list[Removed]:
    """Remove the accounts that are meant; raises ConfigurationError where there is none."""
    if options.name and options.all:
        raise UsageError("--as names one account, and --all means every one: give one of them")
    if options.name:
        return [logins.forget(logins.named(options.name))]
    if options.all:
        removed = [logins.forget(login) for login in logins.all()]
        where = ""
    else:
        place = _place(options, logins.place())
        gone = logins.remove(place)
        removed = [] if gone is None else [gone]
        where = f" at {place.auth}" + _others(logins)
    if not removed:
        raise ConfigurationError(f"nobody is signed in{where}; nothing to forget")
    return removed


def _others(logins: Logins) -> str:
    names = [login.name for login in logins.all() if login.name is not None]
    return f" without a name (with one: {', '.join(names)}; see --as)" if names else ""


def _former(options: argparse.Namespace, logins: Logins) -> dict[str, str]:
    """What an account of the same name says of itself, so that only the password is asked for."""
    login = next((one for one in logins.all() if options.name and one.name == options.name), None)
    if login is None:
        return {}
    former = {"username": login.username}
    if not any(getattr(options, place) is not None for place in PLACES):
        former |= login.servers()
    return former | ({"workspace": login.workspace} if login.workspace else {})


def _place(options: argparse.Namespace, known: Mapping[str, str]) -> config.Settings:
    """Return where to sign in, and the user name if given, but no stored password.

    What is `known` of an account by its name wins over variables, which may be another account's.
    """
    names = ("username", "workspace", *PLACES)
    arguments = {
        name: value for name in names if (value := getattr(options, name, None)) is not None
    }
    path = config.default_file(os.environ) if options.config is None else options.config
    file = config.load_file(expand_home(str(path)), must_exist=options.config is not None)
    is_named = options.name is not None
    found = config.resolve(
        arguments=arguments,
        mount_options=known if is_named else {},
        environ={k: v for k, v in os.environ.items() if k not in _NOT_OF_A_LOGIN},
        file={name: value for name, value in file.items() if name in ("username", *PLACES)},
        login=None if is_named else known,
    )
    return replace(found, password=None)


def _ask_name() -> str:
    if sys.stdin.isatty():
        # Standard output is for the result; getpass asks at the terminal, too.
        say("UP42 user name (e-mail address): ", to_error=True, flush=True, end="")
        name = input().strip()
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
    name = f"{login.name}: " if login.name else ""
    return f"{name}{login.username} ({login.shown_place})"

"""`up42fs accounts`: lists who is signed in, without any password."""

from __future__ import annotations

import argparse
import os

from up42fs.cli.options import Subparsers, add_command
from up42fs.cli.terminal import say, say_json
from up42fs.config.logins import Login, Logins, default_path


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "accounts",
        "List the accounts that up42fs login keeps: name, user, region or server, workspace,\n"
        "where the password is, and which one is meant without --account. Asks nobody, and\n"
        "shows no password.",
        "up42fs accounts",
        "up42fs accounts --json | jq -r '.[].name'",
        "up42fs mount --account lab ~/lab",
    )
    parser.add_argument("--json", action="store_true", help="a list, [] if nobody is signed in")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """List the accounts; return 0, also if there is none. Raises ConfigurationError."""
    logins = Logins(default_path(os.environ))
    default = logins.default()
    entries = [_entry(login, is_default=login == default) for login in logins.all()]
    if options.json:
        say_json(entries)
    elif entries:
        say(*_table(entries))
    else:
        say("up42fs: nobody is signed in; sign in: up42fs login", to_error=True)
    return 0


def _entry(login: Login, *, is_default: bool) -> dict[str, object]:
    return {
        "name": login.name,
        "username": login.username,
        "region": None if login.api_url else login.region,
        "api": login.place.api,
        "workspace": login.workspace,
        "password_in": "keyring" if login.is_in_keyring else "file",
        "is_default": is_default,
    }


def _table(entries: list[dict[str, object]]) -> list[str]:
    heads = ("NAME", "USER", "SERVER", "WORKSPACE", "PASSWORD", "")
    rows = [heads, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(entry: dict[str, object]) -> tuple[str, ...]:
    return (
        str(entry["name"] or "-"),
        str(entry["username"]),
        str(entry["region"] or entry["api"]),
        str(entry["workspace"] or "-"),
        f"in the {entry['password_in']}",
        "default" if entry["is_default"] else "",
    )

"""The command `up42fs setup`: its arguments, and what it says."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable

from up42fs.setup import leftovers
from up42fs.setup.install import Installation, mounts_of, reload_services
from up42fs.setup.login import forget_login, mount_at_login
from up42fs.setup.plan import InstallPaths, SetupError
from up42fs.visible import visible

Say = Callable[..., None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument(
        "--system", action="store_true", help="for all users, below /usr/local (default for root)"
    )
    whom.add_argument(
        "--user", action="store_true", help="for you alone, below ~/.local (default for others)"
    )
    parser.add_argument("--prefix", metavar="DIR", help="the directory of bin, share and lib")
    parser.add_argument(
        "--at-login", action="store_true", help="also mount ~/up42 now, and whenever you log in"
    )
    parser.add_argument("--remove", action="store_true", help="remove what was put, say what stays")
    parser.add_argument(
        "--purge", action="store_true", help="remove that too: caches, settings, logs, passwords"
    )
    # What starts up42fs in the finished installation, where that is not this interpreter.
    parser.add_argument("--python", default=sys.executable, help=argparse.SUPPRESS)


def _say(*lines: str) -> None:
    print(*map(visible, lines), sep="\n")


def main(options: argparse.Namespace, say: Say = _say) -> int:
    """Set up, or remove. DESTDIR, for packagers and tests, goes before every path.

    Raises SetupError or OSError.
    """
    is_system = options.system or (
        not options.user and (os.geteuid() == 0 or options.prefix is not None)
    )
    environ = dict(os.environ)
    home = environ.get("HOME", "")
    places = InstallPaths.of(is_system=is_system, prefix=options.prefix, home=home)
    if options.at_login and is_system:
        raise SetupError("--at-login is for one user: run `up42fs setup --at-login` as that user")
    installation = Installation(places, environ.get("DESTDIR", ""))
    if options.remove or options.purge:
        _remove(installation, environ, say, purges=options.purge, is_staged="DESTDIR" in environ)
        return 0
    os.umask(0o022)  # what others must be able to run does not depend on who calls
    installation.put(options.python)
    if "DESTDIR" not in environ:
        reload_services(places)
    say(
        f"installed below {installation.at(places.prefix)}; to remove: {_again(places, '--remove')}"
    )
    if "DESTDIR" not in environ and mounts_of(None if is_system else os.geteuid()):
        say("mounts that are running stay at the former version: unmount them, and mount again")
    binaries = str(places.prefix / "bin")
    if binaries not in environ.get("PATH", "").split(":"):
        say(
            f"note: {binaries} is not in PATH; add this to your shell's profile: "
            f'export PATH="{binaries}:$PATH"'
        )
    if options.at_login:
        mount_at_login(environ)
        say(f"mounted at {home}/up42, and from now on whenever you log in")
    return 0


def _remove(
    installation: Installation, environ: dict[str, str], say: Say, *, purges: bool, is_staged: bool
) -> None:
    places = installation.places
    if not is_staged:
        _refuse_while_mounted(places)
    prefix = installation.at(places.prefix)
    if not installation.installed() and not purges:
        raise SetupError(f"nothing is installed below {prefix}")
    if not is_staged:
        if purges:
            leftovers.forget_passwords(places, environ, say)
        if not places.is_system:
            forget_login(environ)
    again = _again(places, "--purge")
    installation.remove_files()
    installation.remove_code()
    say(f"removed what was installed below {prefix}")
    if not is_staged:
        reload_services(places)
        _tell_what_is_left(places, environ, say, None if purges else again)


def _refuse_while_mounted(places: InstallPaths) -> None:
    running = mounts_of(None if places.is_system else os.geteuid())
    if running:
        cures = "; ".join(f"up42fs unmount {shlex.quote(place)}" for place in running)
        raise SetupError(f"mounts are running; first: {cures}")


def _tell_what_is_left(
    places: InstallPaths, environ: dict[str, str], say: Say, again: str | None
) -> None:
    """Say what people keep and that `again` removes it; without `again`, remove it."""
    left = list(leftovers.leftovers(places, environ))
    for person, path, size in left:
        if again is not None:
            say(f"left: {path} ({size})")
        elif leftovers.remove(person, path):
            say(f"removed {path} ({size})")
    if left and again is not None:
        say("caches, settings, logs, sidecars, and passwords that up42fs login keeps")
        say("to remove them too:", f"  {again}")


def _again(places: InstallPaths, what: str) -> str:
    """The command that does `what` with this installation."""
    caller = os.environ.get("UP42FS_INSTALLER") or f"{shlex.quote(str(places.command))} setup"
    whom = " --user" if not places.is_system else ""
    return f"{caller}{whom} {what}"

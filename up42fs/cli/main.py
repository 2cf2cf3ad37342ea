"""The `up42fs` command: dispatches to subcommands and prints errors as one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from up42fs import __version__
from up42fs.cli import (
    accounts,
    cache,
    demo,
    doctor,
    explain,
    login,
    mount,
    setup,
    status,
    undo,
    unmount,
)
from up42fs.cli.options import EXIT_STATUSES, Formatter, Subparsers, add_command
from up42fs.cli.remote import cat, complete, cp, find, info, ls, url
from up42fs.cli.terminal import ensure_open, guarded, say, speak_any_encoding
from up42fs.cli.warm import command as warm
from up42fs.config.options import suggestion
from up42fs.errors import Up42fsError, UsageError
from up42fs.visible import visible

Command = Callable[[argparse.Namespace], int]

#: Names of commands, also of those in later releases, which are therefore no SOURCE of mount(8).
_COMMANDS = frozenset(
    {
        *("mount", "unmount", "demo", "emulator", "login", "logout", "accounts"),
        *("ls", "find", "info", "cat", "cp", "url", "serve"),
        *("doctor", "status", "undo", "explain", "warm", "cache", "setup"),
        *("help", "version", "umount"),
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 for success, 1 for failure, 2 for wrong usage."""
    ensure_open()
    speak_any_encoding()
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [complete.COMMAND]:
        return complete.main(arguments[1:])
    arguments = _as_subcommand(_renamed(arguments))
    arguments, run = _split_command(arguments)
    parser = make_parser(meant=arguments[0] if arguments else "")
    options = parser.parse_args(arguments, argparse.Namespace(argv=arguments, run=run))
    command: Command = options.command
    try:
        return command(options)
    except BrokenPipeError:
        raise
    except UsageError as error:
        say(f"up42fs: {error}", to_error=True)
        return 2
    except Up42fsError as error:
        say(f"up42fs: {error}", to_error=True)
        return 1
    except OSError as error:
        # Without the number that Python puts first.
        words = [str(name) for name in (error.filename, error.filename2) if name is not None]
        words.append(error.strerror or str(error))
        say(f"up42fs: {': '.join(words)}", to_error=True)
        return 1
    except EOFError:  # Ctrl-D at a prompt
        if sys.stdin.isatty():
            say("", to_error=True)
        say("up42fs: cancelled", to_error=True)
        return 1
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, as do the parsers of its subcommands."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._options: list[str] = []
        self._commands: Mapping[str, Any] = {}
        super().__init__(*arguments, **keywords)
        # A word that begins like a negative number is a value: a box west of Greenwich,
        # `--older-than -1`.
        self._negative_number_matcher = re.compile(r"-[\d.]")

    def add_argument(self, *names: Any, **keywords: Any) -> argparse.Action:
        """Add an argument as argparse does, and remember its options for suggestions."""
        action = super().add_argument(*names, **keywords)
        if keywords.get("help") != argparse.SUPPRESS:
            self._options += action.option_strings
        return action

    def add_subparsers(self, **keywords: Any) -> Any:
        """Add subparsers as argparse does, and remember the commands for suggestions."""
        action = super().add_subparsers(**keywords)
        self._commands = action.choices
        return action

    def parse_known_args(self, *arguments: Any, **keywords: Any) -> Any:
        """Parse as argparse does, but report unknown options as errors of the subcommand."""
        found, rest = super().parse_known_args(*arguments, **keywords)
        if rest and not self._commands:
            hints = (suggestion(word.partition("=")[0], self._options) for word in rest)
            self.error(f"unrecognized arguments: {' '.join(rest)}{next(filter(None, hints), '')}")
        return found, rest

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own method ignores write errors: a full disk, or a reader that has left.
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        if wrong := re.match(r"(.*invalid choice: '([^']*)') \(choose from", message):
            hint = suggestion(wrong[2], self._commands)
            message = wrong[1] + hint if hint else message
        self.exit(2, f"up42fs: {visible(message)}; see: {self.prog} --help\n")


def make_parser(*, meant: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of all commands; completions and manual pages are generated from it too."""
    parser: argparse.ArgumentParser = _Parser(
        prog="up42fs",
        formatter_class=Formatter,
        description="Mount UP42 storage as a file system.",
        epilog=_epilog(),
    )
    parser.add_argument("--version", action="version", version=f"up42fs {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    login.add_parser(commands)
    accounts.add_parser(commands)
    mount.add_parser(commands)
    for module in (ls, find, info, cat, cp, url):
        module.add_parser(commands)
    unmount.add_parser(commands)
    _add_serve(commands, is_meant=meant in (None, "serve"))
    status.add_parser(commands)
    explain.add_parser(commands)
    warm.add_parser(commands)
    cache.add_parser(commands)
    doctor.add_parser(commands)
    undo.add_parser(commands)
    setup.add_parser(commands)
    demo.add_parser(commands)
    _add_emulator(commands, is_meant=meant in (None, "emulator"))
    return parser


def _epilog() -> str:
    statuses = "\n".join(f"  {number:<5} {meaning}" for number, meaning in EXIT_STATUSES.items())
    return (
        "as mount(8) calls it: up42fs SOURCE MOUNTPOINT -o opt,opt… (SOURCE: eu or sa)\n"
        "also: up42fs help [COMMAND], up42fs version, up42fs umount MOUNTPOINT\n\n"
        f"exit status (demo -- COMMAND: that of COMMAND):\n{statuses}"
    )


def _add_serve(commands: Subparsers[argparse.ArgumentParser], *, is_meant: bool) -> None:
    if not is_meant:
        commands.add_parser("serve", help="serve the storage over HTTP")
        return  # loading the engine takes longer than most commands
    from up42fs.cli import serve

    serve.add_parser(commands)


def _add_emulator(commands: Subparsers[argparse.ArgumentParser], *, is_meant: bool) -> None:
    parser = add_command(
        commands,
        "emulator",
        "run the UP42 stand-in alone",
        "Serve sample storage, files of yours or generated rows as UP42 would, until\n"
        "Ctrl-C. Prints one JSON line: its addresses, and the environment for up42fs mount.",
        "up42fs emulator",
        "up42fs emulator --data ~/imagery --port 8042",
        "up42fs emulator --synthetic 100000,2000,50 --api-latency-s 0.1",
    )
    if not is_meant:
        return  # loading the emulator's servers takes longer than mounting
    try:
        from up42fs.emulator import command
    except ModuleNotFoundError as error:
        missing = error.name
        parser.set_defaults(command=lambda _: _missing(missing))
        return
    command.add_arguments(parser)
    parser.set_defaults(command=command.main)


def _missing(module: str | None) -> int:
    say(
        f"up42fs: the emulator needs the Python package {module}; run: pip install 'up42fs[demo]'",
        to_error=True,
    )
    return 1


def _renamed(arguments: list[str]) -> list[str]:
    """Translate the commands of similar programs: `help`, `version`, `umount`."""
    match arguments:
        case ["help", *rest]:
            return [*rest, "--help"]
        case ["version", *_]:
            return ["--version"]
        case ["umount", *rest]:
            return ["unmount", *rest]
        case _:
            return arguments


def _as_subcommand(arguments: list[str]) -> list[str]:
    """Turn mount(8)'s `SOURCE MOUNTPOINT [-o …]` into the `mount` command's form."""
    words = [word for word in arguments[:2] if not word.startswith("-")]
    if len(words) < 2 or words[0] in _COMMANDS:
        return arguments
    # No command takes two words and then -o, so with -o the first word is a SOURCE, maybe a wrong
    # one.
    has_options = any(word.startswith("-o") for word in arguments[2:])
    if not (has_options or mount.is_source(words[0])):
        return arguments
    source, *rest = arguments
    return ["mount", "--from-mount", source, *rest]


def _split_command(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split `demo [MOUNTPOINT] -- COMMAND…`: the words after `--` are not parsed."""
    if arguments[:1] != ["demo"] or "--" not in arguments:
        return arguments, []
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]

"""The `up42fs` command: dispatches to subcommands and prints errors as one line."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from up42fs import __version__
from up42fs.cli.commands import COMMANDS, add_commands
from up42fs.cli.options import EXIT_STATUSES, Formatter
from up42fs.cli.terminal import ensure_open, guarded, say, speak_any_encoding
from up42fs.config.options import is_source, suggestion
from up42fs.errors import Up42fsError, UsageError
from up42fs.visible import visible

Command = Callable[[argparse.Namespace], int]

#: Names of commands, also of those in later releases, which are therefore no SOURCE of mount(8).
_TAKEN = frozenset({*COMMANDS, "help", "version", "umount"})
#: The hidden command that a shell's completion calls.
_COMPLETE = "__complete"
#: Loading modules makes many objects and little garbage: collections as often as by default take a
#: sixth of a start.
_GC_THRESHOLD = 50_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 for success, 1 for failure, 2 for wrong usage."""
    gc.set_threshold(_GC_THRESHOLD)
    ensure_open()
    speak_any_encoding()
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [_COMPLETE]:
        from up42fs.cli.remote import complete

        return complete.main(arguments[1:])
    arguments = _as_subcommand(_renamed(arguments))
    arguments, run = _split_command(arguments)
    # No option before the command takes a value.
    meant = next((word for word in arguments if not word.startswith("-")), "")
    parser = make_parser(meant=meant)
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
    """Make the parser of all commands; completions and manual pages are generated from it too.

    Only the command that is `meant` is loaded, or all of them for None.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="up42fs",
        formatter_class=Formatter,
        description="Mount UP42 storage as a file system.",
        epilog=_epilog(),
    )
    parser.add_argument("--version", action="version", version=f"up42fs {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_commands(commands, meant)
    return parser


def _epilog() -> str:
    statuses = "\n".join(f"  {number:<5} {meaning}" for number, meaning in EXIT_STATUSES.items())
    return (
        "as mount(8) calls it (SOURCE: eu or sa), and like other programs:\n"
        "  up42fs SOURCE MOUNTPOINT -o opt,opt…\n"
        "  up42fs help [COMMAND], up42fs version, up42fs umount MOUNTPOINT\n\n"
        f"exit status (demo -- COMMAND: that of COMMAND):\n{statuses}"
    )


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
    if len(words) < 2 or words[0] in _TAKEN:
        return arguments
    # No command takes two words and then -o, so with -o the first word is a SOURCE, maybe a wrong
    # one.
    has_options = any(word.startswith("-o") for word in arguments[2:])
    if not (has_options or is_source(words[0])):
        return arguments
    source, *rest = arguments
    return ["mount", "--from-mount", source, *rest]


def _split_command(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split `demo [MOUNTPOINT] -- COMMAND…`: the words after `--` are not parsed."""
    if arguments[:1] != ["demo"] or "--" not in arguments:
        return arguments, []
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]

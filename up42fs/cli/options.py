"""Settings as command-line options, and the merging of all their sources."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from up42fs.cli.commands import COMMANDS
from up42fs.cli.commands import Subparsers as Subparsers
from up42fs.cli.terminal import say
from up42fs.config.options import OPTIONS, Option, expand_home, secret_refusal

if TYPE_CHECKING:
    from up42fs.config import settings as config

#: The settings that identify the account.
ACCOUNT = frozenset(
    {
        *("username", "password", "credentials", "region", "workspace", "account"),
        *("api_url", "auth_url"),
    }
)

#: Exit statuses of all commands, for `--help` and the documentation.
EXIT_STATUSES: Mapping[int, str] = {
    0: "done; nothing wrong",
    1: "failed, for the reason on standard error; doctor: a check failed",
    2: "wrong usage",
    130: "stopped by Ctrl-C",
    141: "nobody reads the output any more, as when head(1) has ended",
}


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills paragraphs, and keeps the lines of lists and examples unless they are too long."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = []
        for block in text.split("\n\n"):
            lines = block.split("\n")
            if any(line.startswith(" ") for line in lines) or len(lines) == 1:
                blocks.append("\n".join(_continued(line, width) for line in lines))
            else:
                blocks.append(textwrap.fill(" ".join(lines), width, break_on_hyphens=False))
        return textwrap.indent("\n\n".join(blocks), indent)


def _continued(line: str, width: int) -> str:
    """A line of an example, in several lines of a shell where it is too long."""
    if len(line) <= width:
        return line
    if not line.startswith("  "):
        return textwrap.fill(line, width, break_on_hyphens=False)
    parts = textwrap.wrap(
        line.strip(),
        width - 8,
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return " \\\n".join(f"  {part}" for part in parts)


def add_command(
    commands: Subparsers[argparse.ArgumentParser],
    name: str,
    description: str,
    *lines: str,
    words: str = "",
    **more: Any,
) -> argparse.ArgumentParser:
    """Add a command; `lines` are its examples, `words` describe one that is not in the table."""
    shown = "\n".join(f"  {line}" for line in lines)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=words or COMMANDS[name].words,
        description=description,
        formatter_class=Formatter,
        epilog=f"examples:\n{shown}\n\nexit status: see up42fs --help",
        **more,
    )
    return parser


def add_json(parser: argparse.ArgumentParser, words: str = "the result as JSON") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=words)


def path_argument(text: str) -> str:
    """The type of path arguments; rejects an empty one, which would mean the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; is a variable of your shell unset?")
    return text


def add_options(parser: argparse.ArgumentParser, names: Collection[str] | None = None) -> None:
    """Add one long option for every entry of the option table, or for those in `names`."""
    from up42fs.config import settings as config  # loading it takes 10 ms, which `status` saves

    parser.add_argument(
        "--config",
        type=path_argument,
        metavar="FILE",
        help="settings file instead of the default",
    )
    defaults = config.describe()
    for option in OPTIONS:
        if names is not None and option.name not in names:
            continue
        if option.secret:
            parser.add_argument(
                "--" + option.name, nargs="?", action=_Refused, help=argparse.SUPPRESS
            )
            continue
        kwargs: dict[str, object] = {"help": _help(option, defaults[option.name])}
        if option.flag:
            kwargs |= {"action": "store_const", "const": "yes"}
        else:
            kwargs["metavar"] = option.name.upper()
        parser.add_argument("--" + option.name.replace("_", "-"), dest=option.name, **kwargs)  # type: ignore[arg-type]


class _Refused(argparse.Action):
    """A secret as an argument: rejected with the cure, without repeating its value."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        option = next(option for option in OPTIONS if option.name == self.dest)
        parser.error(secret_refusal("--" + option.name, option))


def settings_of(
    options: argparse.Namespace,
    environ: Mapping[str, str] = os.environ,
    mount_options: Mapping[str, str] | None = None,
) -> config.Settings:
    """Merge arguments, `-o`, environment, file and login; raises ConfigurationError."""
    from up42fs.config import accounts, homes
    from up42fs.config import settings as config
    from up42fs.config.logins import Logins, default_path

    chosen = vars(options)
    arguments = {o.name: chosen[o.name] for o in OPTIONS if chosen.get(o.name) is not None}
    mount_options = dict(mount_options or {})
    given = options.config or mount_options.pop("config", None)
    mount_options.pop("config", None)
    path = expand_home(given) if given else config.default_file(environ)
    if not given and homes.is_beyond(path):
        say(
            f"up42fs: {path.parent} is another user's and is left out; set HOME to your own",
            to_error=True,
        )
    file = config.load_file(path, must_exist=given is not None)
    return accounts.settings_of(
        arguments=arguments,
        mount_options=mount_options,
        environ=environ,
        file=file,
        logins=Logins(default_path(environ)),
    )


def _help(option: Option, default: str) -> str:
    notes = [f"${option.env}"] if option.env else []
    if 0 < len(default) < 40 and not option.flag and option.name not in ("uid", "gid"):
        notes.append(f"default {0o022:03o}" if option.name == "umask" else f"default {default}")
    return option.help + (f" ({'; '.join(notes)})" if notes else "")

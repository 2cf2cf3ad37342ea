"""Writes the manual pages up42fs(1) and mount.up42fs(8), made from parser and option table.

python contrib/manpages.py [DIRECTORY]      default: where the wheel carries them
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from up42fs import __version__
from up42fs.cli.main import make_parser
from up42fs.cli.options import EXIT_STATUSES, Formatter
from up42fs.config import options as config
from up42fs.config.settings import describe

_FILES = (
    ("~/.config/up42fs/config.toml", "settings by name, as in: refresh = 30"),
    ("~/.config/up42fs/logins.json", "the account that signed in; its password if no keyring"),
    ("~/.cache/up42fs/", "the stored catalogue and the disk cache"),
    ("~/.local/state/up42fs/", "logs of background mounts, journals of edits"),
    ("MOUNTPOINT/.up42fs/", "never listed: README, status.json, metrics, changes"),
)


def pages() -> dict[str, str]:
    """Each page's file name and text."""
    return {"up42fs.1": "\n".join(_up42fs()), "mount.up42fs.8": "\n".join(_mount())}


def _up42fs() -> Iterator[str]:
    parser = make_parser()
    yield f'.TH UP42FS 1 "" "up42fs {__version__}" "User Commands"'
    yield ".SH NAME\nup42fs \\- mount UP42 storage as a file system"
    yield ".SH SYNOPSIS\n.B up42fs\n.I COMMAND\n[\\fIoption\\fR...] [\\fIargument\\fR...]"
    yield ".SH DESCRIPTION"
    yield _text(
        "Every order, tag and asset of a UP42 account is a path, and so is every cloud-optimised "
        "GeoTIFF that UP42 made of it. A read fetches the byte ranges it needs."
    )
    yield ".SH COMMANDS"
    for name, command, summary in _commands(parser):
        yield from _command(name, command, summary)
    yield ".SH EXIT STATUS"
    for number, meaning in EXIT_STATUSES.items():
        yield _item(str(number), meaning)
    yield ".SH ENVIRONMENT"
    for option in config.OPTIONS:
        if option.env:
            yield _item(option.env, option.help)
    yield _item("HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE", "as other programs use them")
    yield ".SH FILES"
    for path, meaning in _FILES:
        yield _item(path, meaning)
    yield ".SH SEE ALSO\n.BR mount.up42fs (8),\n.BR fusermount3 (1),\n.BR fuse (8)\n"


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield name, command, summaries.get(name, "")


def _command(name: str, parser: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    formatter = Formatter(parser.prog, width=10_000)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, "")
    yield f".SS up42fs {name}"
    yield ".PP\n" + _text(formatter.format_help().strip()) + "\n.PP"
    yield _text(" ".join((parser.description or summary).split()))
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        if action.option_strings and action.nargs != 0:
            name += f" {action.metavar or action.dest.upper()}"
        # A positional without words of its own stands in the usage line already.
        if action.help:
            yield _item(name, action.help % {"default": action.default, "prog": parser.prog})
    lines = (parser.epilog or "").partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    if lines:
        yield ".PP\nExamples:\n.nf\n.RS"
        yield from (_text(line.strip()) for line in lines)
        yield ".RE\n.fi"


def _mount() -> Iterator[str]:
    yield f'.TH MOUNT.UP42FS 8 "" "up42fs {__version__}" "System Administration"'
    yield ".SH NAME\nmount.up42fs \\- mount UP42 storage by mount(8) and fstab(5)"
    yield ".SH SYNOPSIS\n.B mount \\-t up42fs\n.I SOURCE MOUNTPOINT\n[\\fB\\-o\\fR \\fIopt,...\\fR]"
    yield ".SH DESCRIPTION"
    yield _text(
        "SOURCE is the account's region, eu or sa; none, or a name that begins with up42, leaves "
        "the region to the settings. mount(8) calls this helper for the type up42fs, and it calls "
        "up42fs(1)."
    )
    yield ".SH OPTIONS"
    yield _item("config=...", "settings file instead of the default")
    defaults = describe()
    for option in config.OPTIONS:
        if option.secret:
            continue
        default = defaults[option.name]
        if option.flag or len(default) > 40:  # a list that no line can hold
            default = ""
        if option.name in ("uid", "gid", "umask"):
            default = "022" if option.name == "umask" else ""
        shown = option.name if option.flag else f"{option.name}=..."
        yield _item(shown, option.help + (f" (default {default})" if default else ""))
    ignored = ", ".join(sorted(config.IGNORED_MOUNT_OPTIONS))
    yield _item("others", f"accepted and without effect: {ignored}, and all that begin with x-")
    yield ".PP\n" + _text("A password is no option: every user of the machine could read it.")
    yield ".SH EXAMPLES\nA line of /etc/fstab, mounted when somebody first looks:\n.PP\n.nf\n.RS"
    options = "credentials=/etc/up42fs/credentials.json,allow_other,uid=1000,gid=1000"
    yield _text(f"eu /mnt/up42 up42fs {options},_netdev,nofail,x-systemd.automount 0 0")
    yield ".RE\n.fi\n.SH SEE ALSO\n.BR up42fs (1),\n.BR mount (8),\n.BR fstab (5)\n"


def _item(name: str, text: str) -> str:
    return f".TP\n\\fB{_text(name)}\\fR\n{_text(' '.join(text.split()))}"


def _text(text: str) -> str:
    """`text` as roff: backslashes, hyphens, and lines that look like requests."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return "\n".join(
        "\\&" + line if line[:1] in (".", "'") else line for line in escaped.split("\n")
    )


#: What a wheel carries; `up42fs setup` puts it where man(1) looks.
SHARE = Path(__file__).resolve().parent.parent / "up42fs/setup/share"

if __name__ == "__main__":
    directory = Path(sys.argv[1]) if sys.argv[1:] else SHARE
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")

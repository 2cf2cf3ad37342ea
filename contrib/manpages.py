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
from up42fs.model import query

_FILES = (
    ("~/.config/up42fs/config.toml", "settings by name, as in: refresh = 30"),
    ("~/.config/up42fs/logins.json", "the account that signed in; its password if no keyring"),
    ("~/.cache/up42fs/", "the stored catalogue and the disk cache"),
    ("~/.local/state/up42fs/", "logs of background mounts, journals of edits"),
    ("MOUNTPOINT/.up42fs/", "never listed: README, status.json, metrics, changes"),
)


#: What stands where in a mount.
_TREE = (
    ("README.txt", "what stands where, for this mount; -o noreadme hides it"),
    ("orders/ORDER/", "the assets of an order; -o orders=all shows those without assets, too"),
    ("tags/TAG/", "the assets with a tag"),
    ("cnam/STATUS/", "the assets by what became of their transformation at UP42"),
    ("assets/", "every asset, also those without an order"),
    ("search/QUERY/", "the assets that match; see SEARCHES"),
    ("workspaces/ID/", "if the account has several workspaces: the assets of each"),
    ("jobs/JOB/", "if assets came from processing: the results of each job"),
    ("stac/", "the storage as a static STAC catalogue, catalog.json at its top"),
    (
        ".up42fs/",
        "never listed: README, status.json, metrics, refresh, log and, with -o rw, changes",
    ),
)
_IN_DIRECTORIES = (
    ("NAME.zip, NAME.tif, ...", "an asset as it was delivered"),
    (
        "NAME/",
        "the files that UP42 made of it, and item.json; of several items a directory each. "
        "Else, if the asset is an archive: its members",
    ),
    ("NAME/original/", "not listed: the members of an archive that UP42 transformed"),
    (
        "layers.qlr, visual.vrt",
        "in orders, tags, searches: what is there as layers of QGIS, and as a mosaic for GDAL",
    ),
    ("footprints.geojson", "in the same, and in the root: the outlines of what is there"),
    ("order.json, aoi.geojson", "in orders: the order as UP42 has it, and its area"),
    ("coverage.geojson", "in orders of a tasking: what came of its area"),
    ("NAME.preview.jpg", "the picture that UP42 has of an asset; listed with -o previews"),
)
_ATTRIBUTES = (
    (
        "user.up42.NAME",
        "id kind name title tags cnam_status order_id order_name order_status workspace_id "
        "account_id product_id collection producer source content_type created_at updated_at; of "
        "orders also order_type sub_status image_id",
    ),
    (
        "user.up42.stac.NAME",
        "item_id collection_id datetime platform constellation modality gsd cloud_cover epsg "
        "proj_code bbox bands roles title job_id url, once its items are known",
    ),
    (
        "user.up42.member.NAME",
        "of members of archives: path method compressed_size crc32",
    ),
    ("user.mime_type, user.xdg.tags, user.xdg.comment", "as desktops use them"),
    ("user.up42.json", "not listed: the object of UP42's API; a request"),
    (
        "user.up42.stac.json, user.up42.stac.geometry",
        "not listed: the item as UP42 sent it, and its outline",
    ),
    (
        "user.up42.download_url",
        "not listed: a presigned link, which anybody can use until it expires; a request",
    ),
    ("user.up42.cached", "not listed: bytes of it that are held in memory or on disk"),
    ("user.up42.whole.NAME", "not listed: a value that was cut to fit"),
    ("user.up42.explain", "not listed: who read it, and what that cost, as JSON"),
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
    yield from _tree()
    yield from _searches()
    yield from _attributes()
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


def _tree() -> Iterator[str]:
    yield ".SH FILE TREE\nIn the root of a mount:"
    yield from (_item(name, words) for name, words in _TREE)
    yield ".PP\nIn the directory of an order, a tag, a state, a workspace, a job or a search:"
    yield from (_item(name, words) for name, words in _IN_DIRECTORIES)
    yield ".PP"
    yield _text(
        "An asset is one file under all its names: it is cached and counted once. IDs are names, "
        "too, though they are not listed: orders/ID, assets/ID. Layers, footprints and the "
        "documents of orders are found by name, and listed with -o footprints and -o documents."
    )


def _searches() -> Iterator[str]:
    yield ".SH SEARCHES"
    yield _text(
        "search/QUERY is found, and need not be made. QUERY is one term or several, with commas "
        "between them, and all must hold: search/'collection=phr,cloud<10'. Your shell needs "
        "the quotes. A comma, a slash and a percent sign in a value are %2C, %2F and %25. "
        "Times are UTC; A..B is from A to B, both included. The fields, with an example:"
    )
    for field in query.FIELDS:
        is_free = field.source is query.TermSource.MEMORY
        cost = "no request" if is_free else "one request for each 100 found"
        operators = " ".join(field.operators)
        yield _item(f"{field.name} {operators}", f"{field.meaning}: {field.example} ({cost})")


def _attributes() -> Iterator[str]:
    yield ".SH EXTENDED ATTRIBUTES"
    yield _text(
        "getfattr -d FILE shows the listed ones; getfattr -n NAME --only-values FILE any of them. "
        "With -o rw, user.up42.title and user.xdg.tags can be set."
    )
    yield from (_item(name, words) for name, words in _ATTRIBUTES)


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

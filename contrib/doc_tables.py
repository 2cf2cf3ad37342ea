#!/usr/bin/env python3
"""Writes what the documentation repeats from the code: options, fault switches, search fields.

`python contrib/doc_tables.py` rewrites docs/settings.md, and the tables in docs/emulator.md,
docs/search.md and docs/faults.md between their two marks. tests/t0_core/test_docs.py fails where
the committed pages differ.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from up42fs.config import options as config
from up42fs.config.settings import describe
from up42fs.emulator.faults import Faults
from up42fs.model import query

sys.path.insert(0, str(Path(__file__).resolve().parent / "bench"))
import fault_table

DOCS = Path(__file__).resolve().parent.parent / "docs"
SETTINGS, EMULATOR, SEARCH, FAULTS = (
    DOCS / f"{name}.md" for name in ("settings", "emulator", "search", "faults")
)
BEGIN = "<!-- switches: made by contrib/doc_tables.py -->"
END = "<!-- end of switches -->"
MATRIX_BEGIN = "<!-- matrix: made by contrib/doc_tables.py -->"
MATRIX_END = "<!-- end of matrix -->"
FIELDS_BEGIN = "<!-- fields: made by contrib/doc_tables.py -->"
FIELDS_END = "<!-- end of fields -->"

_INTRO = """\
# Settings

This page is made by `contrib/doc_tables.py` from the table in `up42fs/config/options.py`.

A setting has one name everywhere. The first source that has it wins:

1. a long option: `up42fs mount --refresh 30 ~/up42`
2. a mount option: `-o refresh=30,uid=1000`, also from `/etc/fstab`
3. the environment variable of the table
4. the file `~/.config/up42fs/config.toml` (below `$XDG_CONFIG_HOME` where set; another one by
   `--config FILE`, in `-o` by `config=FILE`): `refresh = 30`
5. for the account alone: what `up42fs login` kept
6. the default

In long options an underscore is a hyphen: `--log-level`. In `-o` a backslash keeps a comma.

"""
_NOTES = """
Yes or no: `1 true yes on` or `0 false no off`; `-o ro` alone means yes.

**The password** is never an argument, because arguments are visible to every user of the machine:
`--password` and `-o password=` are refused. It comes from the environment, from
`credentials`, or from the file: one that other users may read is refused (`chmod 600 FILE`).
Better is `up42fs login`, which keeps it in the system's keyring.
`account` chooses one of [several logins](accounts.md); user name, password and servers of later
sources then count for nothing.
The `credentials` file wins unless user name and password both come from its source or an earlier
one.

**Edits.** With `rw`, titles and tags can be [edited](editing.md); data never. Of `ro` and `rw` the
source of higher rank decides, in one source `ro`. mount(8) says `rw` for every mount that is not
`ro`: called by it, `rw` counts for nothing, and a line of `/etc/fstab` says `edit`.

**On disk.** Below `cache_dir` lie the [stored catalogue](semantics.md#the-stored-catalogue) and the
[disk cache](semantics.md#the-disk-cache). `cache_size` bounds the disk cache; 0 turns both off.

**Sidecars.** With `sidecars`, statistics, overviews, styles and the like that GDAL and QGIS write
beside an image are kept below `XDG_DATA_HOME` or `~/.local/share`, in `up42fs/sidecars`, each
account's apart: [what is kept and how](semantics.md#sidecars). `sidecars_size` bounds all of them;
what is more fails with `No space left on device`. Nothing removes them but you.

**Memory.** `memory` is meant for the whole process. 64 MiB of it are set aside for the program
itself (at most three quarters of the setting); the rest holds data read and read ahead.

**Budget.** `max_egress` counts what was fetched from storage in the last hour, day, week or month
(30 days), by all mounts of the account on this machine together: they add to one book below
`XDG_STATE_HOME` or `~/.local/state`, one for each length of time. Bytes fetched ahead of readers
leaves the last tenth to them. Past the budget, bytes that are not cached fail with `Disk quota
exceeded`, and `up42fs status` says until when.

**A warning about traffic.** `warn_egress` refuses nothing. Once all mounts of the account on this
machine fetched that much in its span of time, the log, `up42fs status` and a notification of the
desktop say so, and name the program that read most. A budget of `max_egress` is told of the same
way when four fifths of it are spent, and at its end.

**Crowds** are programs that open every file they find. They may look at attributes, and read a
file's head and at most the last 128 KiB; what lies between is refused to them with `Permission
denied`, and counted. The head is 1 MiB, or what `NAME=SIZE` says; `=0` means no byte at all. By
default: {crowd}.
To let one of them read, give the list without it: `-o crowd=` lets all read, and
`-o crowd=tracker-extract-3:grep=64M` knows two. [What to exclude in which
program](recipes.md#programs-that-read-everything).

**Addresses** must be `https`, loopback excepted.

**Other variables.** `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR` work
as with curl, for the API and for the object store. A SOCKS proxy is `socks5h://HOST:PORT`, or
`socks5://` where your machine resolves names; version 4 does not work. `XDG_STATE_HOME`
moves the log of a background mount.

**Mount options that change nothing** are accepted for mount(8), and all that begin with `x-`:
{ignored}.
"""
_DEFAULTS = {
    "uid": "the mounting user's",
    "gid": "the mounting user's",
    "umask": "022",
    "cache_size": "10G",
    "sidecars_size": "10G",
    "crowd": "indexers, thumbnailers, antivirus and backup programs",
}


def settings_page() -> str:
    """The text of docs/settings.md."""
    defaults = describe() | _DEFAULTS
    rows = [
        ["Name", "Meaning", "Default", "Environment"],
        ["---", "---", "---", "---"],
        *(_option_row(option, defaults[option.name]) for option in config.OPTIONS),
    ]
    ignored = _wrapped(sorted(config.IGNORED_MOUNT_OPTIONS))
    crowd = _wrapped(config.CROWD)
    return _INTRO + _table(rows) + _NOTES.format(ignored=ignored, crowd=crowd)


def _wrapped(names: Iterable[str]) -> str:
    spans = " ".join(f"`{name}`" for name in names)
    return "\n".join(textwrap.wrap(spans, 98, break_on_hyphens=False))


def switch_table() -> str:
    """The fault switches, one row each."""
    rows = [["Switch", "Default", "Meaning"], ["---", "---", "---"]]
    for item in fields(Faults):
        choices = ", ".join(f"`{choice}`" for choice in item.metadata["choices"])
        words = item.metadata["help"] + (f": {choices}" if choices else "")
        rows.append([f"`{item.name}`", f"`{item.default}`", words])
    return _table(rows)


def field_table() -> str:
    """The fields of a search, one row each."""
    head = ["Field", "Operators", "Value", "Meaning", "Answered by", "Example"]
    return _table([head, ["---"] * len(head), *map(_field_row, query.FIELDS)])


def with_switches(page: str) -> str:
    """The emulator's page with its table brought up to date."""
    return _between(page, BEGIN, switch_table(), END)


def with_fields(page: str) -> str:
    """The page about searches with its table brought up to date."""
    return _between(page, FIELDS_BEGIN, field_table(), FIELDS_END)


def with_matrix(page: str) -> str:
    """The page about faults with its tables brought up to date."""
    return _between(page, MATRIX_BEGIN, fault_table.markdown(), MATRIX_END)


def _between(page: str, begin: str, table: str, end: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def _field_row(field: query.Field) -> list[str]:
    return [
        f"`{field.name}`",
        " ".join(f"`{operator}`" for operator in field.operators),
        field.kind.value,
        field.meaning,
        field.source.value,
        f"`{field.example}`",
    ]


def _option_row(option: config.Option, default: str) -> list[str]:
    if option.flag:
        default = "yes" if default == "True" else "no"
    return [
        f"`{option.name}`",
        option.help,
        default,
        f"`{option.env}`" if option.env else "",
    ]


def _table(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    SETTINGS.write_text(settings_page(), encoding="utf-8")
    EMULATOR.write_text(with_switches(EMULATOR.read_text(encoding="utf-8")), encoding="utf-8")
    FAULTS.write_text(with_matrix(FAULTS.read_text(encoding="utf-8")), encoding="utf-8")
    SEARCH.write_text(with_fields(SEARCH.read_text(encoding="utf-8")), encoding="utf-8")

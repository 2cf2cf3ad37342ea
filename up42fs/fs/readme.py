"""`README.txt` in the mount's root: two screens for somebody who finds the directory.

Pure. It is made once for a mount, from its options, and holds no secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from up42fs.visible import visible

NAME = "README.txt"
#: Two screens of a terminal.
MOST_LINES, COLUMNS = 48, 80
_GAP = 21


@dataclass(frozen=True, slots=True)
class About:
    """What of a mount's options the text depends on; `account` is None if it is not for all."""

    mountpoint: str
    account: str | None = None
    is_writable: bool = False
    has_sidecars: bool = False
    archives: str = "on"
    names: str = "file"
    shows_all_orders: bool = False


def text(about: About) -> bytes:
    """The text, in ASCII, in lines of at most `COLUMNS` characters."""
    whose = f"The storage of {about.account}.\n" if about.account else ""
    lines = [
        "Satellite imagery of UP42, shown by up42fs",
        "",
        *f"{whose}Files lie at UP42; a program that reads a part of one fetches that part.".split(
            "\n"
        ),
        "What was read is kept on this machine and costs nothing the next time.",
        "",
        "What stands where",
        *(_row(name, words) for name, words in _places(about)),
        "",
        "An asset is an archive or a file as it was delivered, and costs one copy in",
        f"however many places it stands. {_NAMED[about.names]}",
        "If UP42 transformed it, the directory beside it has the images (COG) and",
        *_archives(about.archives),
        "",
        "Look, and read",
        *(_row(command, words) for command, words in _COMMANDS),
        "",
        *_writing(about),
        "Copying everything, indexing it or searching through its bytes downloads it.",
        "Indexers and backup programs that up42fs knows get parts of files, or nothing.",
        "",
        "This mount",
        _row("Mounted at", about.mountpoint),
        _row("State, and cost", "up42fs status"),
        _row("Log", "up42fs log"),
        _row("Something is wrong", "up42fs doctor"),
        _row("Unmount", "up42fs unmount MOUNTPOINT, or Eject in the file manager"),
        _row("Hide this file", "mount with -o noreadme"),
        _row("Manual", "man up42fs"),
    ]
    return "".join(f"{_plain(line)}\n" for line in lines[:MOST_LINES]).encode()


_NAMED = {
    "file": "It has the delivered file's name.",
    "title": "It is named by its title.",
    "id": "It is named by its ID.",
}
_COMMANDS = (
    ("ls orders/*", "what came with each order"),
    ("getfattr -d FILE", "what UP42 says of it: time, clouds, sensor, tags"),
    ("gdalinfo FILE", "reads the head of an image; QGIS opens it as any file"),
    ("ls 'search/cloud<10'", "assets by clouds, time, place, title: see the manual"),
    ("up42fs explain FILE", "what reading it has cost, and why"),
)


def _places(about: About) -> list[tuple[str, str]]:
    which = "each order" if about.shows_all_orders else "each order that was delivered"
    return [
        ("orders/ORDER", f"the assets of {which}"),
        ("tags/TAG", "the assets with a tag"),
        ("cnam/STATE", "by what became of their transformation"),
        ("assets/", "every asset"),
        ("search/QUERY", "assets that a query finds; see the manual for its words"),
        ("stac/", "all of it as a STAC catalogue, for QGIS and pystac"),
        (".up42fs/", "this mount's state, counters and log; hidden"),
    ]


def _archives(archives: str) -> list[str]:
    if archives == "off":
        return ["their metadata."]
    seen = "Archives" if archives == "on" else "Archives, found by name,"
    return [
        f"their metadata. {seen} are directories, too: their members can be",
        "read as files, and nothing is unpacked.",
    ]


def _writing(about: About) -> list[str]:
    lines = ["Files are read-only: nothing here can delete or change what you bought."]
    if about.is_writable:
        lines += [
            "Titles and tags can be edited: setfattr -n user.up42.title, mkdir and ln in",
            "tags/; take an edit back by: up42fs undo",
        ]
    if about.has_sidecars:
        lines.append("What GDAL and QGIS write beside an image stays on this machine.")
    return lines


def _row(name: str, words: str) -> str:
    return f"  {name:<{_GAP}} {words}" if len(name) <= _GAP else f"  {name} {words}"


def _plain(line: str) -> str:
    """The line as ASCII that fits: names of accounts and places may be anything."""
    plain = visible(line).encode("ascii", "replace").decode()
    return plain if len(plain) <= COLUMNS else plain[: COLUMNS - 3] + "..."

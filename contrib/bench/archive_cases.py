"""The workloads inside archives, whose members up42fs shows as files and others unpack.

GDAL reads members through `/vsizip/`, other programs get them from `unzip`, `tar` or `bsdtar`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from shlex import quote

import archive_scenes as archives
import scenes
from cases import ALONE, BOTH, FILE, Case, Command, translate
from scenes import Size
from subjects import Reach, stem

MIB = 1 << 20


def member(name: str, reach: Reach, names: Sequence[str]) -> str:
    """The path at which GDAL finds a member."""
    path = reach.locate(names[0])
    if reach.walks:
        return f"{stem(path)}/{name}"
    return f"/vsizip/{{{path}}}/{name}"


def info(reach: Reach, names: Sequence[str], _out: str, name: str) -> list[str]:
    return ["gdalinfo", member(name, reach, names)]


def listing(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
    """All members with sizes and times."""
    path = reach.locate(names[0])
    if reach.walks:
        return ["ls", "-lR", stem(path)]
    return ["unzip", "-l", path]


def head(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
    """The first MiB of a large member."""
    if reach.walks:
        path = member(archives.IMAGE, reach, names)
        return ["dd", f"if={path}", "of=/dev/stdout", "bs=1M", "count=1", "status=none"]
    return _shell(f"{_unpack(reach, names, archives.IMAGE)} | head -c {MIB}")


def copy(reach: Reach, names: Sequence[str], out: str) -> list[str]:
    """One large member to the local disk."""
    if reach.walks:
        return ["cp", member(archives.IMAGE, reach, names), out]
    return _shell(f"{_unpack(reach, names, archives.IMAGE)} > {quote(out)}")


def copy_all(reach: Reach, names: Sequence[str], out: str) -> list[str]:
    """All members to the local disk."""
    path = quote(reach.locate(names[0]))
    if reach.walks:
        return ["cp", "-r", stem(reach.locate(names[0])), out]
    made = f"mkdir {quote(out)} && cd {quote(out)}"
    if reach.kind == "url" and reach.keeps:
        return _shell(f"{made} && curl -sfo .whole {path} && unzip -q .whole && rm .whole")
    if reach.kind == "url":
        return _shell(f"{made} && curl -sf {path} | bsdtar -xf -")
    return _shell(f"{made} && unzip -q {path}")


def digest_all(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
    """All members of a tgz in order."""
    path = quote(reach.locate(names[0]))
    if reach.walks:
        return _shell(f"cat {quote(stem(reach.locate(names[0])))}/tiles/* | md5sum")
    if reach.kind == "url":
        return _shell(f"curl -sf {path} | tar -xzO | md5sum")
    return _shell(f"tar -xzOf {path} | md5sum")


def _unpack(reach: Reach, names: Sequence[str], name: str) -> str:
    """A shell command that writes one member of a zip to its standard output."""
    path = quote(reach.locate(names[0]))
    if reach.kind == "url" and reach.keeps:
        whole = "whole=$(mktemp) && curl -sfo $whole"
        return f"{{ {whole} {path} && unzip -p $whole {quote(name)}; rm $whole; }}"
    if reach.kind == "url":
        return f"curl -sf {path} | bsdtar -xOf - {quote(name)}"
    return f"unzip -p {path} {quote(name)}"


def _shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def cases(size: Size) -> list[Case]:
    """Every case, for scenes of that size."""

    def window(name: str, side: int, share: float = 0.4) -> Command:
        at = int(side * share)
        width = min(size.window, side - at)
        return partial(translate, f"-srcwin {at} {at} {width} {width}", path=partial(member, name))

    # Its last tile ends at 60 % of the image.
    far = window(archives.IMAGE, size.dimap, 0.44)
    inner = min(size.dimap, archives.INNER)
    overview = partial(translate, "-outsize 10% 10%", path=partial(member, archives.BAND))
    plain_overview = partial(translate, "-outsize 10% 10%")
    stored = window(scenes.MEMBER, size.dimap)

    def case(name: str, title: str, names: str, argv: Command, **fields: object) -> Case:
        return Case(f"member-{name}", title, names, argv, **fields)  # type: ignore[arg-type]

    def told(name: str) -> Callable[[Reach, Sequence[str], str], list[str]]:
        return partial(info, name=name)

    silent = {"comparable": False}
    file, anyhow = {"kinds": FILE}, {"kinds": ("file", "url")}
    again, remount = {"again": "mount"}, {"again": "remount"}
    alone = {"subjects": ALONE}  # their bars know no peer, and each takes two runs
    return [
        case("list", "list an archive", archives.SAFE, listing, **file, **silent),
        case("list-again", "list again", archives.SAFE, listing, **file, **again, **silent),
        case(
            "list-remount", "list, remounted", archives.SAFE, listing, **file, **remount, **silent
        ),
        case("info", "gdalinfo, stored", scenes.ZIP, told(scenes.MEMBER), **silent),
        case("window", "window, stored", scenes.ZIP, stored, legs=BOTH),
        case("jp2", "overview 10 %, JPEG 2000 stored in SAFE", archives.SAFE, overview),
        Case("plain-jp2", "overview 10 %, JPEG 2000 outside", scenes.JP2, plain_overview),
        case("head", "first MiB, deflated", archives.DEFLATED, head, **anyhow),
        case("far", "window at 60 %, deflated", archives.DEFLATED, far, share=0.602),
        case("far-again", "the same again", archives.DEFLATED, far, **file, **again, **alone),
        case(
            "far-remount",
            "the same, remounted",
            archives.DEFLATED,
            far,
            **file,
            **remount,
            **alone,
        ),
        case("tail", "gdalinfo, directory last", archives.TAIL, told(archives.IMAGE), **silent),
        case(
            "tail-again",
            "gdalinfo again",
            archives.TAIL,
            told(archives.IMAGE),
            **file,
            **again,
            **silent,
        ),
        case("copy", "cp of a deflated member", archives.DEFLATED, copy, **anyhow),
        case("copy-all", "cp -r of 300 members", archives.MANY, copy_all, **anyhow),
        case("tgz", "digest of a tgz's members", archives.TGZ, digest_all, **anyhow),
        case("tgz-again", "the same again", archives.TGZ, digest_all, **file, **again, **alone),
        case("sozip", "window, SOZip", archives.SOZIP, window(archives.IMAGE, inner)),
    ]

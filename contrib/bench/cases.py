"""The workloads of the bench, each a command on files that a subject reaches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import scenes
from reads import WINDOWS_A_THREAD
from scenes import Size
from subjects import Reach

HERE = Path(__file__).parent
#: GDAL's programs belong to the system, and so does the Python that has its bindings.
SYSTEM_PYTHON = "/usr/bin/python3"

Command = Callable[[Reach, Sequence[str], str], list[str]]


@dataclass(frozen=True)
class Case:
    """`argv(reach, names, out)` is timed, once its mount is fresh.

    `names` may hold a `*`. `again`: what is timed is the second time, in the same mount (`mount`)
    or after a new one with the same disk cache (`remount`). `staged`: what follows `ready`.
    `share`: of its files' bytes, what it cannot do without. `units`: pieces of work, to compare
    cases. `kinds`: which reaches can do it.
    """

    name: str
    title: str
    names: str
    argv: Command
    legs: tuple[str, ...] = ("line",)
    again: str = ""
    staged: bool = False
    share: float = 1.0
    units: int = 1
    kinds: tuple[str, ...] = ("file", "vsi")
    #: Programs print paths, and so differ from subject to subject.
    comparable: bool = True
    subjects: tuple[str, ...] | None = None

    @property
    def folder(self) -> str:
        """The one folder its files lie in."""
        return self.names.partition("/")[0]


def first(reach: Reach, names: Sequence[str]) -> str:
    return reach.locate(names[0])


def zipped(reach: Reach, names: Sequence[str]) -> str:
    """The image in the archive; braces, because a link has slashes of its own."""
    return f"/vsizip/{{{first(reach, names)}}}/{scenes.MEMBER}"


def info(
    reach: Reach, names: Sequence[str], _out: str, path: Callable[..., str] = first
) -> list[str]:
    return ["gdalinfo", path(reach, names)]


def vrt(reach: Reach, names: Sequence[str], out: str) -> list[str]:
    return ["gdalbuildvrt", "-q", out, *map(reach.locate, names)]


def translate(
    options: str, reach: Reach, names: Sequence[str], out: str, path: Callable[..., str] = first
) -> list[str]:
    return ["gdal_translate", "-q", *options.split(), path(reach, names), out]


def reading(mode: str, *arguments: str) -> Command:
    def argv(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
        script = str(HERE / "reads.py")
        return [sys.executable, script, mode, first(reach, names), *arguments]

    return argv


def whole(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
    """All bytes, to where they cost nothing."""
    path = first(reach, names)
    if reach.kind == "file":
        return ["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"]
    if reach.kind == "url":
        return ["curl", "-sf", "-o", "/dev/null", path]
    return ["sh", "-c", 'exec "$0" "$1" "$2" >/dev/null', *_vsi_cat(path)]


def digest(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
    path = first(reach, names)
    if reach.kind == "file":
        return ["sh", "-c", 'md5sum <"$0"', path]
    if reach.kind == "url":
        return ["sh", "-c", 'curl -sf "$0" | md5sum', path]
    return ["sh", "-c", '"$0" "$1" "$2" | md5sum', *_vsi_cat(path)]


def _vsi_cat(path: str) -> list[str]:
    return [SYSTEM_PYTHON, str(HERE / "vsi_cat.py"), path]


def copy(reach: Reach, names: Sequence[str], out: str) -> list[str]:
    return ["cp", first(reach, names), out]


def copy_folder(reach: Reach, names: Sequence[str], out: str) -> list[str]:
    return ["cp", "-r", first(reach, names).rpartition("/")[0], out]


def listing(reach: Reach, names: Sequence[str], _out: str) -> list[str]:
    return ["sh", "-c", 'unzip -l "$0" | tail -n +2', first(reach, names)]


BOTH = ("line", "pipes")
FILE = ("file",)
ANY = ("file", "vsi", "url")
ALONE = ("disk", "up42fs")


def cases(size: Size) -> list[Case]:
    """Every case, for scenes of that size."""
    overview = partial(translate, "-outsize 512 0")

    def window(side: int, path: Callable[[Reach, Sequence[str]], str] = first) -> Command:
        at = int(side * 0.4)
        return partial(translate, f"-srcwin {at} {at} {size.window} {size.window}", path=path)

    def grid(rows: int, mode: str = "grid") -> Command:
        return reading(mode, str(size.window), str(rows))

    beside = reading("second", str(size.window))
    return [
        Case("info-u16", "gdalinfo, COG", scenes.U16, info, BOTH, comparable=False),
        Case("overview-u16", "512-pixel overview, 1.4 MB tiles", scenes.U16, overview, BOTH),
        Case("overview-rgb", "512-pixel overview, 87 KB tiles", scenes.RGB, overview, BOTH),
        Case("overview-pan", "512-pixel overview, 84 KB tiles", scenes.PAN, overview, BOTH),
        Case("window-u16", "window, 1.4 MB tiles", scenes.U16, window(size.u16), BOTH),
        Case("window-rgb", "window, 87 KB tiles", scenes.RGB, window(size.rgb), BOTH),
        Case("window-pan", "window, 84 KB tiles", scenes.PAN, window(size.pan), BOTH),
        Case("second-u16", "window beside, 1.4 MB tiles", scenes.U16, beside, BOTH, staged=True),
        Case("second-pan", "window beside, 84 KB tiles", scenes.PAN, beside, BOTH, staged=True),
        Case("grid-u16", "row of windows, 1.4 MB tiles", scenes.U16, grid(1), BOTH, staged=True),
        Case("grid-pan", "rows of windows, 84 KB tiles", scenes.PAN, grid(4), BOTH, staged=True),
        Case(
            "grid-open",
            "rows of windows, the file opened for each",
            scenes.PAN,
            grid(2, "reopened"),
            staged=True,
        ),
        Case("window-dimap", "window, DIMAP tile", scenes.DIMAP, window(size.dimap), BOTH),
        Case("overview-strips", "512-pixel view of strips", scenes.STRIPS, overview),
        Case("window-strips", "window, strips", scenes.STRIPS, window(size.strips)),
        Case("overview-jp2", "512-pixel overview, JPEG 2000", scenes.JP2, overview),
        Case("window-jp2", "window, JPEG 2000", scenes.JP2, window(size.pan)),
        Case(
            "again-jp2",
            "overview again, JPEG 2000",
            scenes.JP2,
            overview,
            again="mount",
            kinds=FILE,
        ),
        *(
            Case(
                f"threads-{count}",
                f"random windows, {count} thread{'s' * (count > 1)}",
                scenes.PAN,
                reading("threads", str(count)),
                BOTH,
                staged=True,
                units=count * each,
            )
            for count, each in WINDOWS_A_THREAD.items()
        ),
        Case("vrt", f"gdalbuildvrt of {size.tiles} files", scenes.TILES, vrt, comparable=False),
        Case("zoom", "zoom in and pan, RGB", scenes.RGB, reading("zoom"), staged=True),
        Case("zip-list", "unzip -l", scenes.ZIP, listing, kinds=FILE),
        Case(
            "zip-info",
            "gdalinfo in a zip",
            scenes.ZIP,
            partial(info, path=zipped),
            comparable=False,
        ),
        Case("zip-window", "window in a zip", scenes.ZIP, window(size.dimap, zipped)),
        Case("whole", "whole file", scenes.RGB, whole, BOTH, kinds=ANY),
        Case("md5sum", "md5sum", scenes.RGB, digest, kinds=ANY),
        Case("cp", "cp", scenes.RGB, copy, kinds=FILE),
        Case(
            "cp-r",
            f"cp -r of {size.small_files} small files",
            scenes.SMALL,
            copy_folder,
            kinds=FILE,
        ),
        Case(
            "again-info",
            "gdalinfo, second time",
            scenes.U16,
            info,
            again="mount",
            kinds=FILE,
            comparable=False,
        ),
        Case(
            "again-window",
            "window, second time",
            scenes.U16,
            window(size.u16),
            again="mount",
            kinds=FILE,
        ),
        Case(
            "again-whole", "whole file, second time", scenes.RGB, whole, again="mount", kinds=FILE
        ),
        Case(
            "remount-window",
            "window after a remount",
            scenes.U16,
            window(size.u16),
            again="remount",
            kinds=FILE,
        ),
        Case(
            "remount-whole",
            "whole file after a remount",
            scenes.BIG,
            whole,
            ("loop",),
            again="remount",
            kinds=FILE,
        ),
        Case("whole-tls", "whole file, TLS", scenes.BIG, whole, ("tls",), kinds=ANY),
        Case(
            "traffic",
            "long traffic",
            scenes.U16,
            reading("traffic", str(size.traffic_bytes)),
            ("loop",),
            staged=True,
            kinds=FILE,
            subjects=ALONE,
        ),
    ]


def files(case: Case, folder: Path) -> list[str]:
    """The relative names of the files of a case."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob(case.names))

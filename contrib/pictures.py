"""Makes pictures of the documentation: a session, a file's map, and up42fs beside its peers.

    python contrib/pictures.py      writes session.svg, explain.svg and peers.svg to docs/pictures

The session is run for real in `up42fs demo`. The bars are the times of docs/performance-peers.md,
where the command that measures them stands; so the picture and the table cannot differ.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"

#: Typed into the demo one after the other; shown with a prompt.
SESSION = (
    "ls -C -w 90",
    "cd 'orders/Sentinel-2 Brandenburg'; ls",
    "cd earthsearch*e; ls -C -w 90",
    "getfattr -n user.up42.stac.cloud_cover --only-values b04.tiff; echo ' % clouds'",
    "gdal_translate -q -srcwin 512 512 256 256 b04.tiff /tmp/window.tif; ls -sh /tmp/window.tif",
    "du -h --apparent-size b04.tiff | cut -f1",
    "grep -E '\"store.(requests|bytes_fetched)\"' $DEMO/.up42fs/status.json",
)

#: Rows of the first table in docs/performance-peers.md that stand for a kind of work.
ROWS = {
    "gdalinfo, COG": "gdalinfo of a COG",
    "1024-pixel window, 1.4 MB tiles": "window, large tiles",
    "1024-pixel window, 84 KB tiles": "window, small tiles",
    "44 windows in four rows, 84 KB tiles": "44 windows in rows",
    "512-pixel view of strips, 392 MB": "overview of strips",
    "512-pixel overview, JPEG 2000, 125 MB": "overview of JPEG 2000",
    "window in a stored zip": "window in a zip",
    "`gdalbuildvrt` of 50 files": "gdalbuildvrt, 50 files",
    "128 random windows, 16 threads": "128 windows, 16 threads",
    "whole file, 94 MB": "whole file, 94 MB",
}
PEERS = ("up42fs", "/vsicurl/", "/vsicurl/ tuned", "rclone")
COLOURS = ("#0b7285", "#adb5bd", "#868e96", "#495057")


#: Reads a window and an overview of an image, and draws what that fetched.
DRAWN = """
cd assets
gdal_translate -q -srcwin 1000 2500 512 512 tempelhof_pansharpened_50cm.tif "$HOME/cut.tif"
gdal_translate -q -outsize 300 0 tempelhof_pansharpened_50cm.tif "$HOME/small.tif"
up42fs explain --svg "$1" tempelhof_pansharpened_50cm.tif
"""


def run_session() -> list[tuple[str, str]]:
    """Each command of the session, and what it printed in the demo."""
    mark = "@@up42fs@@"
    lines = ["DEMO=$PWD; export DEMO"]
    for command in SESSION:
        lines += [command + " 2>&1", f"printf '%s\\n' {mark}"]
    printed = in_demo("\n".join(lines)).split(mark + "\n")
    return list(zip(SESSION, printed, strict=False))


def in_demo(script: str, *arguments: str) -> str:
    """Run a script of bash inside the demo's mount; return what it printed."""
    with tempfile.TemporaryDirectory() as home:
        shell = ["bash", "-c", script, "bash", *arguments]
        return subprocess.run(
            [sys.executable, "-P", "-m", "up42fs", "demo", "--", *shell],
            env={"PATH": _path(), "HOME": home, "LC_ALL": "C.UTF-8", "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout


def _path() -> str:
    return f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def draw_session(steps: list[tuple[str, str]], target: Path) -> None:
    """A terminal with the session in it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True)
    for command, printed in steps:
        shown = (
            command.replace(" -C -w 90", "")
            .replace("$DEMO", "~/up42")
            .replace("/tmp/window", "~/window")
        )
        console.print(Text.assemble(("$ ", "bold green"), (shown, "bold")))
        if printed.strip():
            console.print(Text(printed.rstrip().replace("/tmp/window", "~/window")))
    target.write_text(console.export_svg(title="up42fs", unique_id="session"), encoding="utf-8")


def table_of_peers(page: str) -> dict[str, list[float | None]]:
    """By kind of work, the seconds of each of `PEERS`; None where one was not measured."""
    found: dict[str, list[float | None]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] in ROWS and ROWS[cells[0]] not in found:
            found[ROWS[cells[0]]] = [_seconds(cell) for cell in cells[1 : 1 + len(PEERS)]]
    return found


def _seconds(cell: str) -> float | None:
    match = re.fullmatch(r"\d+, [\d.]+, ([\d.]+)", cell)
    return float(match[1]) if match else None


def draw_peers(seconds: dict[str, list[float | None]], target: Path) -> None:
    """Bars of seconds, a group for each kind of work, on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "up42fs", "font.size": 9}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    height = 0.8 / len(PEERS)
    for n, (peer, colour) in enumerate(zip(PEERS, COLOURS, strict=True)):
        bars = [(row + n * height, times[n]) for row, times in enumerate(seconds.values())]
        shown = [(at, value) for at, value in bars if value is not None]
        places, values = [at for at, _ in shown], [value for _, value in shown]
        axes.barh(places, values, height=height * 0.9, color=colour, label=peer)
    axes.set_yticks([row + 0.3 for row in range(len(seconds))], list(seconds))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds; 50 ms a request, 200 Mbit/s; shorter is better")
    axes.grid(axis="x", which="both", alpha=0.2)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    page = (ROOT / "docs" / "performance-peers.md").read_text(encoding="utf-8")
    draw_peers(table_of_peers(page), PICTURES / "peers.svg")
    draw_session(run_session(), PICTURES / "session.svg")
    in_demo(DRAWN, str(PICTURES / "explain.svg"))


if __name__ == "__main__":
    main()

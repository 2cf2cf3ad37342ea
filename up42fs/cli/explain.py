"""`up42fs explain`: shows what a file has cost since the mount started, and why."""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from up42fs.cli.options import Subparsers, add_command, path_argument
from up42fs.cli.running import mount_of
from up42fs.cli.terminal import say, say_json
from up42fs.config.quantities import show_count
from up42fs.errors import ConfigurationError
from up42fs.fs.xattrs import EXPLAIN, HISTORY
from up42fs.ranges import RangeSet
from up42fs.readahead.tiff import TiffLayout, parse
from up42fs.types import ByteRange
from up42fs.visible import visible

#: Width of a file's map, characters.
MAP_CELLS = 64
_SHADES = " ░▒▓█"


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "explain",
        "Tell who opened a file of a mount, what was read of it, how long that took\n"
        "and what it cost in requests and bytes, since the mount was made. Costs no request.",
        "up42fs explain ~/up42/assets/scene.tif",
        "up42fs explain --json scene.tif | jq .reads",
        "up42fs explain --svg scene.svg scene.tif",
    )
    parser.add_argument("paths", nargs="+", type=path_argument, metavar="PATH")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="an object for each file, a line each")
    shape.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw one file's bytes, over time and in the image"
    )
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Explain each file; return 0. Raises an `Up42fsError` for a path that is not in a mount."""
    if options.svg:
        _draw(options.paths, options.svg)
        return 0
    for path in options.paths:
        document = explanation(path)
        if options.json:
            say_json(document, indent=None)
        else:
            say(*lines(document))
    return 0


def explanation(path: str) -> Mapping[str, Any]:
    """Return the mount's record of the file at `path`; raises ConfigurationError."""
    mount_of(path)
    try:
        document: Mapping[str, Any] = json.loads(os.getxattr(path, EXPLAIN))
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise ConfigurationError(
                f"{path} is not a delivered file, and cost nothing that could be explained"
            ) from None
        raise
    return document


def _draw(paths: Sequence[str], picture: Path) -> None:
    """Write the drawing of one file; raises ConfigurationError for several."""
    from up42fs.cli.explain_svg import draw

    if len(paths) != 1:
        raise ConfigurationError("--svg draws one file: give one PATH")
    path = paths[0]
    document = explanation(path)
    history = json.loads(os.getxattr(path, HISTORY))
    picture.write_text(draw(document, history, _layout(path, document, history)), encoding="utf-8")


def _layout(path: str, document: Mapping[str, Any], history: Mapping[str, Any]) -> TiffLayout:
    """The tiles of a TIFF, as far as its tables came before: a drawing fetches nothing."""
    came = RangeSet(ByteRange(*span) for span in document.get("ranges") or ())
    for _, _, start, stop in history["fetched"]:
        came.add(ByteRange(start, stop))

    def get(span: ByteRange) -> bytes | None:
        return os.pread(file.fileno(), len(span), span.start) if came.covers(span) else None

    with Path(path).open("rb", buffering=0) as file:
        return parse(document["size"] or 0, get)


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the document as text for people, one line for each fact."""
    size = document["size"] or 0
    yield visible(document["name"])
    yield f"  size     {size:,} bytes, {_share(document['cached_bytes'], size)} of them held here"
    if document.get("edit_failed"):
        yield f"  edit     the last one failed: {document['edit_failed']}"
    if not document.get("programs"):
        yield "  opened   by nobody since the mount was made"
        return
    programs = ", ".join(f"{name} {n}" for name, n in document["programs"].items())
    yield f"  opened   by {programs}"
    touched = document["bytes_touched"]
    yield (
        f"  read     {document['reads']} reads, {document['bytes_read']:,} bytes; "
        f"{_share(touched, size)} of the file"
    )
    yield (
        f"  waited   {document['waited_seconds']:.2f} s in all, "
        f"{document['slowest_seconds']:.2f} s for the slowest read"
    )
    yield from _costs(document)
    if document["refused"]:
        yield f"  refused  {document['refused']} reads of crowds (see the option crowd)"
    if document["errors"]:
        yield "  errors   " + ", ".join(f"{name} {n}" for name, n in document["errors"].items())
    cells = file_map(document["ranges"], size, MAP_CELLS)
    yield f"  map      |{cells}| a cell is {max(1, size // MAP_CELLS):,} bytes"


def _costs(document: Mapping[str, Any]) -> Iterator[str]:
    cost = document.get("store")
    if not cost:
        return
    fetched, asked = cost.get("bytes_fetched", 0), document["bytes_touched"]
    why = f"{fetched / asked:.1f} times what was read" if asked and fetched else "nothing"
    requests = show_count(cost.get("requests", 0), "request")
    yield f"  fetched  {fetched:,} bytes in {requests}: {why}"
    yield (
        f"  links    {cost.get('signs', 0)} signed, {cost.get('renewals', 0)} renewed; "
        f"{cost.get('retries', 0)} retries"
    )


def file_map(ranges: Sequence[Sequence[int]], size: int, cells: int) -> str:
    """Draw the share of each `cells`-th of the file that was read, as shades."""
    cells = max(1, min(cells, size))
    starts = [-(-cell * size // cells) for cell in range(cells + 1)]
    filled = [0] * cells
    for start, stop in ranges:
        for cell in range(start * cells // max(1, size), min(cells, -(-stop * cells // size))):
            filled[cell] += max(0, min(stop, starts[cell + 1]) - max(start, starts[cell]))
    steps = len(_SHADES) - 1
    widths = (after - before for before, after in itertools.pairwise(starts))
    parts = zip(filled, widths, strict=True)
    return "".join(_SHADES[-(-part * steps // max(1, width))] for part, width in parts)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"

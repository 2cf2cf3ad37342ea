"""The command `up42fs thumbnail`, which file managers call by a `.thumbnailer` entry.

Of a file of a mount it takes the thumbnail that UP42 has, else an overview of the image itself.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from up42fs.cli.options import Subparsers, add_command, path_argument
from up42fs.cli.terminal import say
from up42fs.cli.thumbnail import draw
from up42fs.cli.thumbnail.choice import choose
from up42fs.cli.thumbnail.sparing import (
    SparseCopy,
    TooMuchError,
    is_image,
    preview_of,
    sparse_copy,
)
from up42fs.readahead.tiff import TiffParser
from up42fs.types import ByteRange

#: Bytes of a TIFF of a mount that its picture may cost, its first bytes, and those that are fetched
#: with a table; how often tables are looked for.
BUDGET_BYTES = 256 << 10
HEAD_BYTES = 32 << 10
TABLE_BYTES = 4 << 10
MOST_ROUNDS = 8
#: An image of another format is decoded whole if it has no more bytes, in a mount and elsewhere.
MOST_WHOLE_BYTES = 2 << 20
MOST_ELSEWHERE_BYTES = 256 << 20
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_PIXELS = 2048


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "thumbnail",
        "Write a picture of FILE to PICTURE, as PNG. Of a file of a mount it is the thumbnail\n"
        "that UP42 has, or else an overview of the image, which costs at most 256 KiB.\n"
        "File managers call this by themselves once `up42fs setup` was run.",
        "up42fs thumbnail ~/up42/assets/scene.tif /tmp/scene.png",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=256,
        metavar="PIXELS",
        help="the most that it is wide and high (default: %(default)s)",
    )
    parser.add_argument("file", metavar="FILE", type=path_argument, help="or its file:// address")
    parser.add_argument("picture", metavar="PICTURE", type=path_argument)
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Make the thumbnail; the exit status is 1 if there is none."""
    size = max(1, min(options.size, MOST_PIXELS))
    try:
        made = thumbnail(_path(options.file), size)
    except draw.NoPictureError as error:
        say(f"up42fs: no picture of {options.file}: {error}", to_error=True)
        return 1
    with Path(options.picture).open("wb") as file:
        file.write(made)
    return 0


def thumbnail(path: str, size: int) -> bytes:
    """A PNG of a file; raises NoPictureError or OSError."""
    preview = preview_of(path)
    if preview:
        return draw.of_preview(preview, size)
    if not is_image(path):
        raise draw.NoPictureError("UP42 has no thumbnail of it")
    try:
        with sparse_copy(path, BUDGET_BYTES) as copy:
            copy.fetch(ByteRange(0, HEAD_BYTES))
            begins = (copy.get(ByteRange(0, min(12, copy.size))) or b"") if copy.size else b""
            if begins[:4] in _TIFFS:
                return _of_tiff(path, copy, size)
    except TooMuchError as error:
        raise draw.NoPictureError(str(error)) from error
    if begins[4:8] != b"jP  " and begins[:4] != b"\xff\x4f\xff\x51":
        raise draw.NoPictureError("it is no TIFF or JPEG 2000")
    # Its resolutions lie throughout the file, so that all of it is read.
    most = MOST_WHOLE_BYTES if copy.is_mounted else MOST_ELSEWHERE_BYTES
    if copy.size > most:
        raise draw.NoPictureError(f"it is JPEG 2000 of more than {most >> 20} MiB")
    with sparse_copy(path, most) as copy:
        copy.fetch(ByteRange(0, copy.size))
        return draw.of_image(copy.path, size)


def _of_tiff(path: str, copy: SparseCopy, size: int) -> bytes:
    if not copy.is_mounted and copy.size <= MOST_ELSEWHERE_BYTES:
        return draw.of_image(path, size)
    parser = TiffParser(copy.size)
    layout = parser.learn(copy.get)
    for _ in range(MOST_ROUNDS):
        # Tables that are longer are those of the image itself, which is not decoded.
        lacking = [span for span in layout.lacking if len(span) <= HEAD_BYTES]
        if not lacking and not parser.is_interrupted:
            break
        for span in lacking:
            copy.fetch(ByteRange(span.start, span.stop + TABLE_BYTES))
        layout = parser.learn(copy.get)
    chosen = choose(layout, size, BUDGET_BYTES - copy.fetched)
    if chosen is not None:
        for span in chosen.spans:
            copy.fetch(span)
        return draw.of_image(copy.path, size, chosen.number)
    if copy.size > BUDGET_BYTES:
        raise draw.NoPictureError("it has no overview of at most 256 KiB")
    copy.fetch(ByteRange(0, copy.size))
    return draw.of_image(copy.path, size)


def _path(text: str) -> str:
    parts = urlsplit(text)
    return os.fsdecode(unquote(parts.path)) if parts.scheme == "file" else text

"""The command `up42fs thumbnail`, which file managers call by a `.thumbnailer` entry.

Of a file of a mount it takes the thumbnail that UP42 has, else an overview of the image itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from up42fs.cli.options import Subparsers, add_command, path_argument
from up42fs.cli.terminal import say
from up42fs.cli.thumbnail import draw
from up42fs.cli.thumbnail.apart import apart
from up42fs.cli.thumbnail.extract import LackingError, choose, extract
from up42fs.cli.thumbnail.failure import NoPictureError
from up42fs.cli.thumbnail.sparing import Pieces, TooMuchError, is_image, pieces_of, preview_of
from up42fs.readahead.parse_budget import MalformedError
from up42fs.types import ByteRange

#: Bytes of a TIFF of a mount that its picture may cost, `stat` and all, and its first bytes; how
#: often more of it is fetched.
BUDGET_BYTES = 256 << 10
HEAD_BYTES = 32 << 10
MOST_ROUNDS = 24
#: An image of another format is decoded whole if it has no more bytes, in a mount and elsewhere.
MOST_WHOLE_BYTES = 2 << 20
MOST_ELSEWHERE_BYTES = 256 << 20
MOST_PIXELS = 2048
Parsed = TypeVar("Parsed")


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
    except NoPictureError as error:
        say(f"up42fs: no picture of {options.file}: {error}", to_error=True)
        return 1
    with Path(options.picture).open("wb") as file:
        file.write(made)
    return 0


def thumbnail(path: str, size: int) -> bytes:
    """A PNG of a file; raises NoPictureError, UsageError or OSError."""
    draw.check_decoder()
    preview, reason = preview_of(path)
    broken: NoPictureError | None = None
    if preview:
        try:
            return apart(lambda: draw.of_preview(preview, size))
        except NoPictureError as error:
            broken = NoPictureError(f"of the thumbnail that UP42 has of it: {error}")
    if not is_image(path):
        if reason is not None:
            raise reason
        raise broken or NoPictureError("UP42 has no thumbnail of it")
    try:
        with pieces_of(path, BUDGET_BYTES) as pieces:
            pieces.fetch(ByteRange(0, HEAD_BYTES))
            begins = (pieces.get(ByteRange(0, min(12, pieces.size))) or b"") if pieces.size else b""
            form = draw.format_of(begins)
            if form == "GTiff":
                return _of_tiff(path, pieces, size)
        if form not in draw.IMAGES:
            raise NoPictureError("it is no TIFF or JPEG 2000")
        return _of_jpeg_2000(path, size, is_mounted=pieces.is_mounted)
    except TooMuchError as error:
        raise NoPictureError(str(error)) from error


def _of_tiff(path: str, pieces: Pieces, size: int) -> bytes:
    if not pieces.is_mounted and pieces.size <= MOST_ELSEWHERE_BYTES:
        return apart(lambda: draw.of_image(path, size, "GTiff"))
    chosen = _with_bytes(
        pieces, lambda: choose(pieces.size, pieces.get, pieces.lacks, size, pieces.left)
    )
    if chosen is None:
        raise NoPictureError("it has no overview of at most 256 KiB")
    image = _with_bytes(pieces, lambda: extract(chosen))
    return apart(lambda: draw.of_bytes(image, size))


def _with_bytes(pieces: Pieces, parse: Callable[[], Parsed]) -> Parsed:
    """The result of `parse` once it has the bytes that it lacks."""
    for _ in range(MOST_ROUNDS):
        try:
            return parse()
        except LackingError as error:
            pieces.fetch(error.span)
        except MalformedError as error:
            raise NoPictureError("it is no TIFF that can be read") from error
    raise NoPictureError("its directories and tiles lie apart in too many places")


def _of_jpeg_2000(path: str, size: int, *, is_mounted: bool) -> bytes:
    # Its resolutions lie throughout the file, so that all of it is read.
    most = MOST_WHOLE_BYTES if is_mounted else MOST_ELSEWHERE_BYTES
    with pieces_of(path, most) as pieces:
        if pieces.size > most:
            raise NoPictureError(f"it is JPEG 2000 of more than {most >> 20} MiB")
        if not is_mounted:
            return apart(lambda: draw.of_image(path, size, "JP2OpenJPEG"))
        pieces.fetch(ByteRange(0, pieces.size))
        image = pieces.get(ByteRange(0, pieces.size)) or b""
    return apart(lambda: draw.of_bytes(image, size))


def _path(text: str) -> str:
    parts = urlsplit(text)
    return os.fsdecode(unquote(parts.path)) if parts.scheme == "file" else text

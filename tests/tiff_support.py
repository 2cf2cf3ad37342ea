"""Writes TIFFs for tests: any byte order, classic or Big, tiles or strips, several levels."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field


@dataclass
class Image:
    """One image to write; `counts` are its tiles' bytes, 0 for a sparse one."""

    width: int
    height: int
    tile: int | None
    counts: list[int]
    reduced: bool = False
    planes: int = 1
    offsets: list[int] = field(default_factory=list)


def tiles_of(width: int, height: int, tile: int | None, planes: int = 1) -> int:
    """How many tiles an image has; without `tile`, strips of one row."""
    return (-(-width // tile) * -(-height // tile) if tile else height) * planes


def write_head(images: list[Image]) -> tuple[bytes, int]:
    """What comes before the tiles of a BigTIFF, and the size that the whole file would have."""
    whole = sum(sum(image.counts) for image in images)
    empty = [Image(i.width, i.height, i.tile, [0] * len(i.counts), i.reduced) for i in images]
    data_at = len(write_tiff(empty, big=True))
    size = data_at + whole
    for image in reversed(images):
        image.offsets = []
        for count in image.counts:
            image.offsets.append(data_at)
            data_at += count
    return write_tiff(images, big=True, with_data=False), size


def write_tiff(
    images: list[Image],
    *,
    order: str = "<",
    big: bool = False,
    tables_last: bool = False,
    with_data: bool = True,
) -> bytes:
    """The file; `tables_last`: directories behind the data, as edited files have them."""
    head = 16 if big else 8
    tables = sum(_table_bytes(image, big=big) for image in images)
    data_at = head if tables_last else head + tables
    body = b""
    for image in reversed(images) if with_data else ():  # the smallest level first, as in a COG
        image.offsets = []
        for number, count in enumerate(image.counts):
            image.offsets.append(data_at + len(body) if count else 0)
            body += bytes([number % 251]) * count
    tables_at = data_at + len(body) if tables_last else head
    directories = b""
    for number, image in enumerate(images):
        at = tables_at + len(directories)
        after = at + _table_bytes(image, big=big) if number + 1 < len(images) else 0
        directories += _directory(image, at, after, order=order, big=big)
    mark = b"II" if order == "<" else b"MM"
    if big:
        start = mark + struct.pack(order + "HHHQ", 43, 8, 0, tables_at)
    else:
        start = mark + struct.pack(order + "HI", 42, tables_at)
    return start + (body + directories if tables_last else directories + body)


def _entries(image: Image) -> list[tuple[int, str, list[int]]]:
    tiled = image.tile is not None
    entries = [
        (254, "I", [1 if image.reduced else 0]),
        (256, "I", [image.width]),
        (257, "I", [image.height]),
        (277, "H", [image.planes]),
        (284, "H", [2 if image.planes > 1 else 1]),
    ]
    if tiled:
        entries += [(322, "H", [image.tile]), (323, "H", [image.tile])]  # type: ignore[list-item]
    else:
        entries += [(278, "I", [1])]
    offsets = image.offsets or [0] * len(image.counts)
    entries += [(324 if tiled else 273, "Q", offsets), (325 if tiled else 279, "I", image.counts)]
    return sorted(entries)


def _table_bytes(image: Image, *, big: bool) -> int:
    count = len(_entries(image))
    return (16 + 20 * count if big else 6 + 12 * count) + 16 * len(image.counts) + 16


def _directory(image: Image, at: int, after: int, *, order: str, big: bool) -> bytes:
    word, width = ("Q", 8) if big else ("I", 4)
    entries = _entries(image)
    fixed = (8 if big else 2) + len(entries) * (20 if big else 12) + width
    out, extra = b"", b""
    for tag, code, values in entries:
        code = word if code == "Q" else code
        kind = {"H": 3, "I": 4, "Q": 16}[code]
        data = struct.pack(f"{order}{len(values)}{code}", *values)
        out += struct.pack(order + "HH" + word, tag, kind, len(values))
        if len(data) <= width:
            out += data.ljust(width, b"\0")
        else:
            out += struct.pack(order + word, at + fixed + len(extra))
            extra += data
    count = struct.pack(order + ("Q" if big else "H"), len(entries))
    whole = count + out + struct.pack(order + word, after) + extra
    return whole.ljust(_table_bytes(image, big=big), b"\0")

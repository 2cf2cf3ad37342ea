"""The facts about an image in the head of a GeoTIFF: size, bands, place. Pure.

`parse` takes the first bytes of a file. Values that lie further back are asked for by `Beyond`: the
caller reads on and parses again. TIFF 6, BigTIFF, OGC GeoTIFF 1.1.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The furthest that a value of an image's first directory may lie from the start, bytes.
MOST_HEAD = 4 << 20
_MOST_TAGS, _MOST_VALUES = 512, 4096
_KINDS = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 11: "f", 12: "d", 16: "Q"}
_TAGS = frozenset({256, 257, 258, 277, 322, 323, 339, 33550, 33922, 34264, 34735, 42113})
#: GDAL's names of sample types, by SampleFormat and bits.
_TYPES = {
    (1, 8): "Byte",
    (1, 16): "UInt16",
    (1, 32): "UInt32",
    (2, 16): "Int16",
    (2, 32): "Int32",
    (3, 32): "Float32",
    (3, 64): "Float64",
}
_PROJECTED, _GEOGRAPHIC, _RASTER_TYPE, _USER_DEFINED = 3072, 2048, 1025, 32767


class Beyond(Exception):
    """More of the file is needed: its first `stop` bytes."""

    def __init__(self, stop: int) -> None:
        super().__init__(f"the first {stop} bytes are needed")
        self.stop = stop


@dataclass(frozen=True, slots=True)
class Raster:
    """An image: sizes in pixels, `transform` as GDAL's (x, dx, 0, y, 0, dy), `kind` as GDAL's."""

    width: int
    height: int
    bands: int
    kind: str
    transform: tuple[float, float, float, float, float, float]
    epsg: int | None
    block: tuple[int, int]
    nodata: str | None = None


def parse(head: bytes) -> Raster | None:
    """The image of a file that begins with `head`; None for what no mosaic can show.

    Raises `Beyond` if more of the file is needed.
    """
    try:
        return _raster(_values(head))
    except (struct.error, KeyError, IndexError, ValueError, OverflowError, ZeroDivisionError):
        return None


def _values(head: bytes) -> Mapping[int, tuple[Any, ...]]:
    """The values of the first directory by tag."""
    order = {b"II": "<", b"MM": ">"}[_piece(head, 0, 2)]
    (magic,) = struct.unpack(order + "H", _piece(head, 2, 2))
    if magic not in (42, 43):
        raise ValueError("it is no TIFF")
    big = magic == 43
    word, counter, place, width = ("Q", "Q", 8, 20) if big else ("I", "H", 4, 12)
    (start,) = struct.unpack(order + word, _piece(head, place, struct.calcsize(word)))
    size = struct.calcsize(counter)
    (count,) = struct.unpack(order + counter, _piece(head, start, size))
    if count > _MOST_TAGS:
        raise ValueError("too many tags")
    rows = _piece(head, start + size, count * width)
    found = {}
    for row in range(0, count * width, width):
        tag, kind, number = struct.unpack_from(order + "HH" + word, rows, row)
        if tag not in _TAGS or kind not in _KINDS or number > _MOST_VALUES:
            continue
        form = f"{order}{number}{_KINDS[kind]}"
        needed = struct.calcsize(form)
        value = rows[row + width - struct.calcsize(word) : row + width]
        if needed > len(value):
            (offset,) = struct.unpack(order + word, value)
            value = _piece(head, offset, needed)
        found[tag] = struct.unpack(form, value[:needed])
    return found


def _piece(head: bytes, start: int, size: int) -> bytes:
    stop = start + size
    if stop > MOST_HEAD:
        raise ValueError("too far from the start")
    if stop > len(head):
        raise Beyond(stop)
    return head[start:stop]


def _raster(values: Mapping[int, tuple[Any, ...]]) -> Raster | None:
    width, height = values[256][0], values[257][0]
    bands = values.get(277, (1,))[0]
    bits, formats = set(values.get(258, (1,))), set(values.get(339, (1,)))
    kind = _TYPES[formats.pop(), bits.pop()] if len(bits) == len(formats) == 1 else None
    keys = _geo_keys(values.get(34735, ()))
    transform = _transform(values, is_point=keys.get(_RASTER_TYPE) == 2)
    if kind is None or transform is None or not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        return None
    codes = [keys.get(_PROJECTED), keys.get(_GEOGRAPHIC)]
    epsg = next((code for code in codes if code and code != _USER_DEFINED), None)
    is_other = keys.get(_PROJECTED) == _USER_DEFINED
    nodata = b"".join(values.get(42113, ())).split(b"\0")[0].decode("ascii", "replace").strip()
    block = values.get(322, (width,))[0], values.get(323, (1,))[0]
    return Raster(
        *(width, height, bands, kind, transform, None if is_other else epsg, block),
        nodata=_number_text(nodata),
    )


def _geo_keys(values: tuple[int, ...]) -> dict[int, int]:
    """The keys whose value stands in the directory of keys itself."""
    rows = (values[first : first + 4] for first in range(4, len(values) - 3, 4))
    return {row[0]: row[3] for row in rows if row[1] == 0}


def _transform(
    values: Mapping[int, tuple[Any, ...]], *, is_point: bool
) -> tuple[float, float, float, float, float, float] | None:
    """Where pixels lie; None if nothing says so, or the image is rotated."""
    if 33550 in values and len(values.get(33922, ())) == 6:
        dx, dy = values[33550][0], -values[33550][1]
        column, row, _, x, y, _ = values[33922]
        x, y = x - column * dx, y - row * dy
    elif len(values.get(34264, ())) == 16:
        dx, skew, _, x, other_skew, dy, _, y = values[34264][:8]
        if skew or other_skew:
            return None
    else:
        return None
    if is_point:
        x, y = x - dx / 2, y - dy / 2
    numbers = (x, dx, 0.0, y, 0.0, dy)
    is_sound = dx > 0 > dy and all(abs(number) < 1e12 for number in numbers)
    return numbers if is_sound else None


def _number_text(text: str) -> str | None:
    try:
        float(text)
    except ValueError:
        return None
    return text

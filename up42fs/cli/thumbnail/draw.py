"""Decodes images to small pictures, by rasterio or, for thumbnails that UP42 has, by Pillow.

Pixels that are not 8 bit, or are grey, are stretched between the 2nd and the 98th percentile, as a
GIS does. The images were made by others: only formats of pictures are opened, and only images
whose tiles take little memory.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

from up42fs.cli.thumbnail.failure import NoPictureError
from up42fs.errors import UsageError

#: GDAL looks for no files beside the image, writes none, and keeps few decoded tiles.
_QUIET = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 16,
}
#: The formats that are opened, by their first bytes. Others name files and addresses that a decoder
#: would read.
_FORMATS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WEBP",
    b"GIF8": "GIF",
}
IMAGES = ("GTiff", "JP2OpenJPEG")
_PREVIEWS = ("JPEG", "PNG", "WEBP", "GIF")
#: Of a tile that is decoded, bytes; of JPEG 2000, which decodes to 4 bytes a sample.
MOST_TILE_BYTES = 16 << 20
MOST_JPEG2000_BYTES = 64 << 20
#: Pixels of a thumbnail that is decoded whole.
MOST_PREVIEW_PIXELS = 8 << 20
#: Beyond this a value is none that was measured, but one for "no data" that nothing declares.
_MOST_VALUE = 1e30


def format_of(begins: bytes) -> str | None:
    """The format of an image by its first bytes."""
    return next((name for magic, name in _FORMATS.items() if begins.startswith(magic)), None)


def check_decoder() -> None:
    """Raise UsageError if there is no decoder for images."""
    if importlib.util.find_spec("rasterio") is None:
        raise UsageError("thumbnails need a decoder; install it: pip install 'up42fs[geo]'")


def of_preview(content: bytes, size: int) -> bytes:
    """A PNG, at most `size` pixels wide and high, of a JPEG or another picture."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return of_bytes(content, size, _PREVIEWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its size, which is checked below
        with Image.open(io.BytesIO(content), formats=_PREVIEWS) as picture:
            is_whole = picture.format != "JPEG" or bool(picture.info.get("progressive"))
            if not is_whole:
                picture.draft("RGB", (size, size))
            width, height = picture.size
            if width * height > MOST_PREVIEW_PIXELS:
                raise NoPictureError(f"the thumbnail is {width} x {height} pixels large")
            if picture.mode.startswith(("I", "F")):
                return of_bytes(content, size, _PREVIEWS)
            shown: Any = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGBA")
            shown.thumbnail((size, size))
            written = io.BytesIO()
            shown.save(written, "PNG")
            return written.getvalue()


def of_bytes(content: bytes, size: int, formats: tuple[str, ...] = IMAGES) -> bytes:
    """A PNG of an image in memory."""
    from rasterio.io import MemoryFile

    form = format_of(content[:16])
    if form not in formats:
        raise NoPictureError(f"it is no {', '.join(formats[:-1])} or {formats[-1]}")
    with MemoryFile(content) as file:
        return of_image(file.name, size, form)


def of_image(path: str, size: int, form: str) -> bytes:
    """A PNG of an image; raises NoPictureError, or what the decoder raises."""
    import rasterio

    with warnings.catch_warnings(), rasterio.Env(**_QUIET):
        warnings.simplefilter("ignore")  # images without a place are pictures, too
        try:
            with rasterio.open(path, driver=form) as raster:
                _check_memory(raster, size)
                return _png(*_decoded(raster, size))
        except rasterio.errors.RasterioError as error:
            # The first cause names what is wrong; what wraps it says to look there.
            while error.__cause__ is not None:
                error = error.__cause__
            raise NoPictureError(f"it cannot be decoded: {_plain(error, path)}") from error


def _plain(error: BaseException, path: str) -> str:
    text = getattr(error, "errmsg", None) or str(error)
    return str(text).replace(path, "the image").replace(Path(path).name, "the image")


def _check_memory(raster: Any, size: int) -> None:
    """Raise NoPictureError if a tile takes too much memory."""
    import numpy as np

    height, width = raster.block_shapes[0]
    if raster.driver.startswith("JP2"):
        smaller = max((1, *(f for f in raster.overviews(1) if f <= _reduction(raster, size))))
        # What GDAL calls a block may be a piece of a tile: take the image for the tile.
        samples = raster.height * raster.width * raster.count // smaller**2
        if samples * 4 > MOST_JPEG2000_BYTES:
            raise NoPictureError("it is JPEG 2000 that takes too much memory")
        return
    is_chunky = raster.interleaving is not None and raster.interleaving.name == "pixel"
    samples = height * width * (raster.count if is_chunky else 1)
    if samples * np.dtype(raster.dtypes[0]).itemsize > MOST_TILE_BYTES:
        raise NoPictureError(f"its tiles, {width} x {height} pixels, take too much memory")


def _reduction(raster: Any, size: int) -> float:
    longest: int = max(raster.height, raster.width)
    return max(1.0, longest / size)


def _bands(raster: Any) -> list[int]:
    """The bands to show: red, green and blue where it says so, else the first three or the one."""
    colours = [colour.name for colour in raster.colorinterp]
    if {"red", "green", "blue"} <= {*colours}:
        return [colours.index(name) + 1 for name in ("red", "green", "blue")]
    return [1, 2, 3] if raster.count >= 3 else [1]


def _decoded(raster: Any, size: int) -> tuple[Any, Any]:
    """Pixels as bytes, by band, and whether each is seen."""
    import numpy as np

    reduction = _reduction(raster, size)
    shape = max(1, round(raster.height / reduction)), max(1, round(raster.width / reduction))
    bands = _bands(raster)
    pixels = raster.read(bands, out_shape=(len(bands), *shape))
    seen = raster.dataset_mask(out_shape=shape) > 0
    if len(bands) == 1 and raster.colorinterp[0].name == "palette":
        return _coloured(pixels[0], raster.colormap(1)), seen
    if pixels.dtype != np.uint8 or len(bands) == 1:
        pixels, is_valid = _stretched(pixels, seen)
        seen = seen & is_valid
    return pixels, seen


def _coloured(numbers: Any, palette: dict[int, tuple[int, ...]]) -> Any:
    import numpy as np

    table = np.zeros((1 << 16, 3), np.uint8)
    for value, colour in palette.items():
        table[value & 0xFFFF] = colour[:3]
    return np.moveaxis(table[numbers.astype(np.int64) & 0xFFFF], -1, 0)


def _stretched(pixels: Any, seen: Any) -> tuple[Any, Any]:
    """Pixels as bytes, and which of them are numbers that may have been measured."""
    import numpy as np

    values = np.abs(pixels) if pixels.dtype.kind == "c" else pixels
    values = values.astype("float64")
    is_valid = (np.isfinite(values) & (np.abs(values) < _MOST_VALUE)).all(axis=0)
    valid = values[:, seen & is_valid]
    low, high = np.percentile(valid, (2, 98)) if valid.size else (0.0, 1.0)
    values = np.where(is_valid, values, low)
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0)
    return (scaled * 255).astype(np.uint8), is_valid


def _png(pixels: Any, seen: Any) -> bytes:
    import numpy as np
    import rasterio
    from rasterio.io import MemoryFile

    colours = pixels if len(pixels) == 3 else np.repeat(pixels, 3, axis=0)
    bands = np.concatenate([colours, (seen * 255).astype(np.uint8)[None]])
    with MemoryFile(ext=".png") as written:
        _, height, width = bands.shape
        shape = {"height": height, "width": width, "count": 4, "dtype": "uint8"}
        with rasterio.open(written.name, "w", driver="PNG", **shape) as picture:
            picture.write(bands)
        return bytes(written.getbuffer())

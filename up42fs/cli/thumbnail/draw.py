"""Decodes images to small pictures, by rasterio or, for thumbnails that UP42 has, by Pillow.

Pixels that are not 8 bit, or are grey, are stretched between the 2nd and the 98th percentile, as a
GIS does.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from typing import Any

from up42fs.errors import UsageError

#: GDAL looks for no files beside the image, and writes none.
_QUIET = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}


class NoPictureError(Exception):
    """There is no picture of the file; the text says why."""


def of_preview(content: bytes, size: int) -> bytes:
    """A PNG, at most `size` pixels wide and high, of a JPEG or another picture."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        with tempfile.NamedTemporaryFile(prefix="up42fs-") as file:
            file.write(content)
            file.flush()
            return of_image(file.name, size)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            shown: Any = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGBA")
            shown.thumbnail((size, size))
            written = io.BytesIO()
            shown.save(written, "PNG")
            return written.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NoPictureError(f"the thumbnail cannot be decoded: {error}") from error


def of_image(path: str, size: int, overview: int | None = None) -> bytes:
    """A PNG of an image, of one of its overviews if that is given. Raises NoPictureError."""
    try:
        import rasterio
    except ModuleNotFoundError:
        raise UsageError(
            "thumbnails need a decoder; install it: pip install 'up42fs[geo]'"
        ) from None
    chosen = {} if overview is None else {"OVERVIEW_LEVEL": overview}
    try:
        with warnings.catch_warnings(), rasterio.Env(**_QUIET):
            warnings.simplefilter("ignore")  # images without a place are pictures, too
            with rasterio.open(path, **chosen) as raster:
                return _png(*_decoded(raster, size, is_whole=overview is not None))
    except (rasterio.errors.RasterioError, OSError, ValueError) as error:
        raise NoPictureError(f"it cannot be decoded: {error}") from error


def _bands(raster: Any) -> list[int]:
    """The bands to show: red, green and blue where it says so, else the first three or the one."""
    colours = [colour.name for colour in raster.colorinterp]
    if {"red", "green", "blue"} <= {*colours}:
        return [colours.index(name) + 1 for name in ("red", "green", "blue")]
    return [1, 2, 3] if raster.count >= 3 else [1]


def _decoded(raster: Any, size: int, *, is_whole: bool) -> tuple[Any, Any]:
    """Pixels as bytes, by band, and whether each is seen.

    An overview is decoded whole: GDAL might take a smaller one, which was not fetched.
    """
    import numpy as np

    scale = 1.0 if is_whole else min(1.0, size / max(raster.height, raster.width))
    shape = max(1, round(raster.height * scale)), max(1, round(raster.width * scale))
    bands = _bands(raster)
    pixels = raster.read(bands, out_shape=(len(bands), *shape))
    seen = raster.dataset_mask(out_shape=shape) > 0
    step = -(-max(shape) // size)
    pixels, seen = pixels[:, ::step, ::step], seen[::step, ::step]
    if len(bands) == 1 and raster.colorinterp[0].name == "palette":
        table = np.zeros((256, 4), np.uint8)
        for value, colour in raster.colormap(1).items():
            table[value & 255] = colour
        return np.moveaxis(table[pixels[0] & 255][..., :3], -1, 0), seen
    if pixels.dtype != np.uint8 or len(bands) == 1:
        values = np.abs(pixels).astype("float64") if pixels.dtype.kind == "c" else pixels * 1.0
        valid = values[:, seen & np.isfinite(values).all(axis=0)]
        low, high = np.percentile(valid, (2, 98)) if valid.size else (0.0, 1.0)
        values = np.nan_to_num((values - low) / max(high - low, 1e-9), posinf=1.0, neginf=0.0)
        pixels = (np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)
    return pixels, seen


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

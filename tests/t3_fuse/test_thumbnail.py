"""`up42fs thumbnail` of what others made: a picture or one line, never a crash."""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import struct
import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from up42fs.cli.thumbnail import apart as process
from up42fs.cli.thumbnail import draw
from up42fs.cli.thumbnail.apart import apart
from up42fs.cli.thumbnail.command import thumbnail
from up42fs.cli.thumbnail.failure import NoPictureError

Image = pytest.importorskip("PIL.Image")
pytestmark = [
    pytest.mark.claim("S391"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


def crash() -> bytes:
    faulthandler.disable()  # pytest's
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def compute() -> bytes:
    while True:
        pass


def fill() -> bytes:
    return bytes(process.MOST_DATA_BYTES + 1)


def leave() -> bytes:
    raise SystemExit(3)


def fail() -> bytes:
    raise struct.error("unpack requires\na buffer of 4 bytes" + "x" * 1000)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (crash, "the decoder crashed"),
        (compute, "takes too long"),
        (fill, "too much memory"),
        (leave, "the decoder crashed"),
        (fail, "cannot be decoded: unpack requires a buffer"),
    ],
)
def test_a_decoder_that_fails_is_one_line(
    work, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MOST_CPU_S", 1)
    with pytest.raises(NoPictureError, match=reason) as failure:
        apart(work)
    assert "\n" not in str(failure.value)
    assert len(str(failure.value)) < 250


def wait() -> bytes:
    time.sleep(100)
    return b""


def test_a_decoder_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_S", 0.2)
    children, fork = list[int](), os.fork

    def noted() -> int:
        children.append(child := fork())
        return child

    monkeypatch.setattr(os, "fork", noted)
    with pytest.raises(NoPictureError, match="takes too long"):
        apart(wait)
    assert len(children) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)


def test_what_it_makes_comes_whole() -> None:
    made = os.urandom(3 << 20)
    assert apart(lambda: made) == made


def png_of(width: int, height: int, rows: int) -> bytes:
    """A PNG that says it has so many pixels, and has the first rows of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes((1 + 3 * width) * rows)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def jpeg(side: int, mode: str = "RGB", **options: bool) -> bytes:
    written = io.BytesIO()
    Image.new(mode, (side, side), 128).save(written, "JPEG", **options)
    return written.getvalue()


def look(made: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(made)) as picture:
        picture.load()
        return picture.size


@pytest.mark.parametrize(
    "content",
    [
        b"<html>404</html>",
        b"\xff\xd8\xff\xe0 no more",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would run Ghostscript
        b"<VRTDataset rasterXSize='9' rasterYSize='9'><SRS/></VRTDataset>",
        b"GIF89a",
        jpeg(300)[:400],
        png_of(30_000, 30_000, 1),
        png_of(20_000, 9_000, 1),  # Pillow only warns of this one
        jpeg(3000, progressive=True),
    ],
)
def test_thumbnails_that_are_no_pictures_are_said(content: bytes) -> None:
    with pytest.raises(NoPictureError):
        apart(lambda: draw.of_preview(content, 128))


def test_thumbnails_of_all_kinds_are_shown() -> None:
    deep = np.linspace(0, 60_000, 100 * 80).reshape(80, 100).astype(np.uint16)
    for kind, picture in (
        ("PNG", Image.fromarray(deep)),
        ("PNG", Image.new("P", (100, 80))),
        ("GIF", Image.new("P", (100, 80))),
        ("WEBP", Image.new("RGBA", (100, 80))),
        ("PNG", Image.new("LA", (100, 80))),
        ("JPEG", Image.new("CMYK", (100, 80))),
        ("JPEG", Image.new("L", (100, 80))),
    ):
        written = io.BytesIO()
        picture.save(written, kind)
        made = apart(partial(draw.of_preview, written.getvalue(), 50))
        assert look(made) == (50, 40), kind
    assert look(apart(lambda: draw.of_preview(jpeg(9000), 50))) == (50, 50)


def test_without_pillow_thumbnails_are_decoded_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = jpeg(200)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert len(apart(lambda: draw.of_preview(content, 50))) > 60
    with pytest.raises(NoPictureError, match="it is no JPEG, PNG, WEBP or GIF"):
        apart(lambda: draw.of_preview(b"<VRTDataset/>", 50))


def image_at(path: Path, pixels: np.ndarray, **options) -> Path:
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as image:
        image.write(pixels)
    return path


def seen_in(made: bytes) -> np.ndarray:
    with warnings.catch_warnings(), MemoryFile(made) as memory, memory.open() as picture:
        warnings.simplefilter("ignore")
        return picture.read()


def test_values_that_nobody_measured_are_not_seen(tmp_path: Path) -> None:
    """Such a value, which nothing declares, would make the rest one colour."""
    for odd in (3.4e38, -3.4e38, np.nan, np.inf):
        pixels = np.tile(np.arange(100, dtype="float32"), (1, 50, 1))
        pixels[:, :20] = odd
        shown = seen_in(thumbnail(str(image_at(tmp_path / "odd.tif", pixels)), 100))
        assert (shown[3, :20] == 0).all()
        assert (shown[3, 20:] == 255).all()
        assert shown[0, 30:].max() == 255
        assert len(np.unique(shown[0, 30:])) > 50


def test_a_palette_of_16_bit_has_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    shape = {"count": 1, "height": 1, "width": 2, "dtype": "uint16", "photometric": "palette"}
    with rasterio.open(path, "w", driver="GTiff", **shape) as image:
        image.write(np.array([[[256, 1]]], np.uint16))
        image.write_colormap(1, {0: (1, 1, 1), 1: (2, 3, 4), 256: (200, 100, 50)})
    assert seen_in(thumbnail(str(path), 9))[:3, 0].T.tolist() == [[200, 100, 50], [2, 3, 4]]


def test_a_tile_that_fills_memory_is_not_decoded(tmp_path: Path) -> None:
    path, side = tmp_path / "large.tif", 16_384
    tiles = {"tiled": True, "blockxsize": side, "blockysize": side, "compress": "DEFLATE"}
    shape = {"count": 1, "height": side, "width": side, "dtype": "uint8", "SPARSE_OK": True}
    with rasterio.open(path, "w", driver="GTiff", **shape, **tiles):
        pass
    with pytest.raises(NoPictureError, match="16384 x 16384 pixels, take too much memory"):
        thumbnail(str(path), 128)

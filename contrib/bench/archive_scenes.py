"""Deliveries as archives, made of the other scenes: deflated, stored, tgz, SOZip.

The imagery in them is uncompressed, so that the archive's own compression counts: a zip of such an
image has 70 % of its size.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

#: The writer of SOZip, which the tests have as well.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

import zip_support

FOLDER = "archives"
DEFLATED = f"{FOLDER}/deflated.zip"
SAFE = f"{FOLDER}/S2A_MSIL1C_20250101T103011.SAFE.zip"
MANY = f"{FOLDER}/many.zip"
TAIL = f"{FOLDER}/tail.zip"
TGZ = f"{FOLDER}/tiles.tgz"
SOZIP = f"{FOLDER}/sozip.zip"
#: Members: the image in DEFLATED, TAIL and SOZIP, the band in SAFE.
IMAGE = "IMG_PHR1A_PMS_001/IMG_PHR1A_R1C1.TIF"
BAND = "S2A_MSIL1C_20250101T103011.SAFE/GRANULE/IMG_DATA/T31UFQ_B04.jp2"
#: Of 481 MB, as in deliveries of tiles; the tgz has the first two thirds of them.
MEMBERS = 300
#: Side of the image in TAIL and SOZIP, at most: 60 MB.
INNER = 2800
_TIME = (2025, 1, 1, 10, 30, 0)

#: Writes a part of the 16 bit mosaic: options of gdal_translate, then where.
Translate = Callable[..., Callable[[Path], None]]


class Archives:
    """Makes the archives; `dimap` is the side of their image in pixels."""

    def __init__(
        self, folder: Path, workshop: Path, dimap: int, band: str, translate: Translate
    ) -> None:
        self._folder, self._workshop = folder, workshop
        self._dimap, self._band, self._translate = dimap, band, translate

    def jobs(self) -> Iterator[tuple[str, Callable[[Path], None]]]:
        """Every archive and what makes it."""
        yield DEFLATED, lambda target: self._one(target, self._image(self._dimap))
        yield SAFE, self._safe
        yield MANY, self._many
        inner = min(self._dimap, INNER)
        yield TAIL, lambda target: self._one(target, directory_last(self._image(inner)))
        yield TGZ, self._tgz
        yield SOZIP, self._sozip

    def _image(self, side: int) -> bytes:
        """An image without compression, in tiles."""
        path = self._workshop / f"image-{side}.tif"
        if not path.exists():
            part = path.with_suffix(".part")
            tiles = ("TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512")
            options = [word for option in tiles for word in ("-co", option)]
            window = ("-srcwin", "0", "0", str(side), str(side))
            self._translate("-of", "GTiff", *window, *options)(part)
            part.rename(path)
        return path.read_bytes()

    def _small(self) -> Iterator[tuple[str, bytes]]:
        pixels = self._image(self._dimap)
        size = min(len(pixels) // MEMBERS, 2 * 900 * 900)
        for number in range(MEMBERS):
            yield f"tiles/tile_{number:03}.tif", pixels[number * size : (number + 1) * size]

    def _one(self, target: Path, data: bytes) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            archive.writestr(_info("VOL_PHR.XML"), b"<Dimap_Document/>" * 50)
            archive.writestr(_info(IMAGE), data)

    def _safe(self, target: Path) -> None:
        top = BAND.partition("/")[0]
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_info(f"{top}/manifest.safe"), b"<manifest/>" * 5000)
            for number in range(100):
                archive.writestr(_info(f"{top}/GRANULE/QI_DATA/MSK_{number:03}.gml"), b"x" * 428)
            archive.write(self._folder / self._band, BAND)

    def _many(self, target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, data in self._small():
                archive.writestr(_info(name), data)

    def _tgz(self, target: Path) -> None:
        with gzip.open(target, "wb", 6) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            for name, data in islice(self._small(), MEMBERS * 2 // 3):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1_700_000_000
                tar.addfile(info, io.BytesIO(data))

    def _sozip(self, target: Path) -> None:
        data = self._image(min(self._dimap, INNER))
        target.write_bytes(zip_support.zip_bytes(zip_support.sozip_entries(IMAGE, data)))


def directory_last(tiff: bytes) -> bytes:
    """A classic TIFF with its first directory behind all else, as plain writers leave it."""
    order = "<" if tiff[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}L", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    directory = tiff[at : at + 2 + 12 * count + 4]
    end = len(tiff) + len(tiff) % 2
    return tiff[:4] + struct.pack(f"{order}L", end) + tiff[8:].ljust(end - 8, b"\0") + directory


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info

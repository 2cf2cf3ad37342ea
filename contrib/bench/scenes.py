"""The scenes that are read: large files in the layouts of delivered imagery.

Real crops of a `--data` folder where there is one, else synthetic ones of about the entropy of
12 bit optical imagery. A crop is repeated, not enlarged, by a VRT, so that blocks compress like
real ones; its size is no multiple of a block's, so no two blocks are equal. GDAL's programs write
the layouts. Made once and kept; a file that is there is complete.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import rasterio
from archive_scenes import SAFE, Archives
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

CROPS = 3
#: Sides of a crop worth repeating, in pixels.
SIDES = range(900, 2101)
GROUND = "<SRS>EPSG:32631</SRS><GeoTransform>600000, 0.5, 0, 4900000, 0, -0.5</GeoTransform>"
COG = ("-of", "COG", "-co", "NUM_THREADS=2")
#: The same pixels as 8 bit, for the RGB scene.
TO_BYTE = 0.12


@dataclass(frozen=True)
class Size:
    """Sides in pixels, counts of files, bytes; everything else follows."""

    name: str
    window: int
    u16: int
    rgb: int
    pan: int
    strips: int
    dimap: int
    tile: int
    tiles: int
    small_files: int
    small_bytes: int
    big_bytes: int
    traffic_bytes: int


FULL = Size(
    "full", 1024, 10000, 16000, 10980, 7000, 8192, 1000, 50, 500, 200_000, 1 << 30, 10 << 30
)
#: Enough for every case to run in seconds.
TINY = Size("tiny", 256, 1500, 1500, 1500, 800, 1100, 400, 4, 8, 50_000, 8 << 20, 40 << 20)
SIZES = {size.name: size for size in (FULL, TINY)}

U16 = "cog/scene_u16_deflate512.tif"
RGB = "cog/scene_rgb_jpeg512.tif"
PAN = "cog/scene_pan_zstd256.tif"
STRIPS = "strips/scene_strips_none.tif"
JP2 = "jp2/T31UFQ_20250101T103011_B04.jp2"
DIMAP = "dimap/IMG_PHR1A_PMS_202501011030123_ORT_1_R1C1.TIF"
ZIP = "delivery/delivery_stored.zip"
TILES = "tiles/tile_*.tif"
SMALL = "small/chip_*.bin"
BIG = "big/noise.bin"
#: Where the DIMAP tile lies in the archive.
MEMBER = "IMG_PHR1A_PMS_001/" + DIMAP.partition("/")[2]
#: Archives that hold another scene.
MADE_OF = {ZIP: DIMAP, SAFE: JP2}


def ensure(
    work: Path, size: Size, data: Path | None, wanted: Collection[str] | None = None
) -> Path:
    """Return the folder of scenes below `work`, made by now: all, or the `wanted` patterns.

    Raises CalledProcessError where one of GDAL's programs fails, FileNotFoundError where it is
    missing, ValueError where `data` has no imagery to repeat.
    """
    kind = f"{size.name}{'' if data else '-synthetic'}"
    folder, workshop = work / f"scenes-{kind}", work / f"making-{kind}"
    workshop.mkdir(parents=True, exist_ok=True)
    # Crops need not lie anywhere.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    maker = _Maker(folder, workshop, size, data)
    patterns = None if wanted is None else {*wanted, *(MADE_OF.get(name, "") for name in wanted)}
    for name, make in maker.jobs():
        target = folder / name
        if target.exists() or (patterns and not any(fnmatch(name, one) for one in patterns)):
            continue
        if not target.parent.exists() or target.suffix != ".bin":
            print(f"making {target}", file=sys.stderr, flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        make(part)
        part.rename(target)
    return folder


class _Maker:
    def __init__(self, folder: Path, workshop: Path, size: Size, data: Path | None) -> None:
        self._folder, self._workshop = folder, workshop
        self._size, self._data = size, data

    def jobs(self) -> Iterator[tuple[str, Callable[[Path], None]]]:
        """Every file and what makes it, the made from the others last."""
        size = self._size
        u16, pan = self._translating("u16", size.u16, 4), self._translating("pan", size.pan, 1)
        rgb = self._translating("rgb", size.rgb, 3, TO_BYTE)
        yield U16, u16(*COG, *_creation("COMPRESS=DEFLATE PREDICTOR=2 BLOCKSIZE=512 BIGTIFF=YES"))
        yield RGB, rgb(*COG, *_creation("COMPRESS=JPEG QUALITY=90 BLOCKSIZE=512"))
        yield PAN, pan(*COG, *_creation("COMPRESS=ZSTD PREDICTOR=2 BLOCKSIZE=256"))
        tiled = _creation("COMPRESS=LZW TILED=YES BLOCKXSIZE=512 BLOCKYSIZE=512")
        yield DIMAP, u16("-of", "GTiff", *_window(0, 0, size.dimap), *tiled)
        strips = _creation("INTERLEAVE=PIXEL")
        yield STRIPS, u16("-of", "GTiff", *_window(0, 0, size.strips), *strips)
        jp2 = "QUALITY=100 REVERSIBLE=YES BLOCKXSIZE=1024 BLOCKYSIZE=1024 RESOLUTIONS=6"
        yield JP2, pan("-of", "JP2OpenJPEG", *_creation(jp2))
        cog = _creation("COMPRESS=DEFLATE PREDICTOR=2 BLOCKSIZE=256")
        for n in range(size.tiles):
            x, y = n % 10 * size.tile, n // 10 * size.tile
            name = TILES.replace("*", f"{n:02}")
            yield name, u16("-of", "COG", *_window(x, y, size.tile), "-b", "1", *cog)
        for n in range(size.small_files):
            yield SMALL.replace("*", f"{n:03}"), _noise(n, size.small_bytes)
        yield BIG, _noise(-1, size.big_bytes)
        yield ZIP, self._delivery
        yield from Archives(self._folder, self._workshop, size.dimap, JP2, u16).jobs()

    def _translating(
        self, name: str, side: int, bands: int, scale: float | None = None
    ) -> Callable[..., Callable[[Path], None]]:
        """Return a maker of makers: given options, one that writes part of that mosaic."""

        def with_options(*options: str) -> Callable[[Path], None]:
            def make(target: Path) -> None:
                vrt = self._workshop / f"{name}.vrt"
                vrt.write_text(_mosaic(self._crops(), side, bands, scale))
                command = ["gdal_translate", "-q", *options, str(vrt), str(target)]
                # A file beside it (.aux.xml) would be another asset.
                quiet = os.environ | {"GDAL_PAM_ENABLED": "NO"}
                subprocess.run(command, check=True, env=quiet)

            return make

        return with_options

    def _crops(self) -> list[Path]:
        if self._data is not None:
            return _real_crops(self._data)
        paths = [self._workshop / f"crop_{n}.tif" for n in range(CROPS)]
        for seed, path in enumerate(paths):
            if not path.exists():
                _write(path, synthetic(1020 + 4 * seed, seed))
        return paths

    def _delivery(self, target: Path) -> None:
        """As UP42 delivers: the tile among small files, all of it stored."""
        tile = self._folder / DIMAP
        top = MEMBER.partition("/")[0]
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("VOL_PHR.XML", "<Dimap_Document/>")
            for n, count in enumerate((15_000, 6_500, 250_000)):
                part = random.Random(n).randbytes(count)
                archive.writestr(f"{top}/{('DIM.XML', 'RPC.XML', 'PREVIEW.PNG')[n]}", part)
            archive.write(tile, MEMBER)


def synthetic(side: int, seed: int) -> NDArray[np.uint16]:
    """Return a square of 12 bit pixels: ground of a 1/f spectrum, and sensor noise."""
    dice = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = 1
    phase = dice.uniform(0, 2 * np.pi, frequency.shape)
    ground = np.fft.irfft2(np.exp(1j * phase) / frequency**1.2, (side, side))
    ground = ground / ground.std() * 180 + 900
    noisy = ground + dice.normal(0, 1, ground.shape) * np.sqrt(np.abs(ground)) * 1.2
    return np.clip(np.rint(noisy), 1, 4095).astype(np.uint16)


def _write(path: Path, pixels: NDArray[np.uint16]) -> None:
    height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1}
    with rasterio.open(path, "w", height=height, width=width, **profile) as target:
        target.write(pixels, 1)


def _real_crops(data: Path) -> list[Path]:
    """The single-band 16 bit images of fitting size below `data` that hold the most bytes."""
    found = []
    for path in sorted(data.rglob("*.tif"), key=lambda path: -path.stat().st_size):
        with rasterio.open(path) as image:
            if image.dtypes == ("uint16",) and image.width in SIDES and image.height in SIDES:
                found.append(path.resolve())
        if len(found) == CROPS:
            return found
    raise ValueError(f"{data} has no {CROPS} 16 bit images of {SIDES.start} to {SIDES.stop} pixels")


def _mosaic(crops: list[Path], side: int, bands: int, scale: float | None) -> str:
    """A VRT of `side` by `side`, each band one crop repeated from another corner."""
    lines = [f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{GROUND}']
    for band in range(bands):
        crop = crops[band % len(crops)]
        with rasterio.open(crop) as image:
            width, height = image.width, image.height
        kind = "Byte" if scale else "UInt16"
        lines.append(f'<VRTRasterBand dataType="{kind}" band="{band + 1}">')
        for y in range(-(band * 131 % height), side, height):
            lefts = range(-(band * 257 % width), side, width)
            lines += [_piece(crop, (x, y), (width, height), side, scale) for x in lefts]
        lines.append("</VRTRasterBand>")
    return "\n".join([*lines, "</VRTDataset>"])


def _piece(
    crop: Path, at: tuple[int, int], size: tuple[int, int], side: int, scale: float | None
) -> str:
    """One copy of the crop, what lies outside the mosaic cut off."""
    x0, y0 = max(at[0], 0), max(at[1], 0)
    wide, high = min(at[0] + size[0], side) - x0, min(at[1] + size[1], side) - y0
    extent = f'xSize="{wide}" ySize="{high}"'
    kind = "ComplexSource" if scale else "SimpleSource"
    return (
        f"<{kind}><SourceFilename>{crop}</SourceFilename><SourceBand>1</SourceBand>"
        f'<SrcRect xOff="{x0 - at[0]}" yOff="{y0 - at[1]}" {extent}/>'
        f'<DstRect xOff="{x0}" yOff="{y0}" {extent}/>'
        f"{f'<ScaleRatio>{scale}</ScaleRatio>' if scale else ''}</{kind}>"
    )


def _creation(options: str) -> list[str]:
    return [word for option in options.split() for word in ("-co", option)]


def _window(x: int, y: int, side: int) -> tuple[str, ...]:
    return ("-srcwin", str(x), str(y), str(side), str(side))


def _noise(seed: int, count: int) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        dice = random.Random(seed)
        with target.open("wb") as file:
            for at in range(0, count, 1 << 20):
                file.write(dice.randbytes(min(1 << 20, count - at)))

    return make

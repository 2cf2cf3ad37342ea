"""The files of the sample storage: real georeferenced imagery, made once and kept.

All files are made from fixed seeds in a temporary directory beside the final one, which is then
renamed, so that an interrupted or concurrent start leaves either nothing or a complete sample.
Knows nothing of orders and assets. Needs rasterio and numpy (extra `demo`), but only while it makes
files; `manifest.json` holds the rasters' facts that other modules need.
"""

from __future__ import annotations

import atexit
import importlib.util
import io
import json
import logging
import os
import random
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[Any]

#: Part of the directory's name: increment it whenever the files change.
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
#: South-west of Berlin, UTM zone 33 north.
EPSG, WEST_M, NORTH_M = 32633, 368_000.0, 5_822_000.0
BLOCK = 512
_ZIP_TIME = (2024, 4, 18, 10, 5, 12)

log = logging.getLogger(__name__)


class SampleUnavailableError(Exception):
    """The sample storage cannot be made here; the message says why."""


def ensure_files(directory: Path) -> dict[str, Any]:
    """Make the sample files in `directory` unless they exist; return the manifest.

    The manifest has `{file name: {size, shape?, transform?, epsg?, bbox?, gsd?}}`. Takes up to half
    a minute the first time. Raises `SampleUnavailableError` without rasterio, OSError on a full
    disk.
    """
    manifest = directory / MANIFEST
    if not manifest.is_file():
        _make(directory)
    loaded: dict[str, Any] = json.loads(manifest.read_text())
    return loaded


def _make(directory: Path) -> None:
    if not all(importlib.util.find_spec(name) for name in ("rasterio", "numpy")):
        raise SampleUnavailableError(
            "the sample storage needs rasterio and numpy: pip install 'up42fs[demo]', "
            "or serve files of your own with --data DIR"
        )
    log.warning("up42fs emulator: making the sample storage in %s (once)", directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        manifest = _make_all(work)
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1))
        try:
            work.rename(directory)
        except OSError:
            # Another emulator was faster and made the same files.
            if not (directory / MANIFEST).is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_all(work: Path) -> dict[str, Any]:
    rasters = _make_rasters(work)
    _make_texts(work)
    _make_archives(work)
    manifest: dict[str, Any] = {}
    for path in sorted(work.iterdir()):
        manifest[path.name] = {"size": path.stat().st_size, **rasters.get(path.name, {})}
    return manifest


# -- rasters


def _make_rasters(work: Path) -> dict[str, dict[str, Any]]:
    import numpy as np

    scene = _landscape(7, 4096, 4096)
    bands = [np.clip(scene * gain + offset, 1, 4095) for gain, offset in _SPECTRA]
    u16 = np.stack(bands).astype(np.uint16)
    facts = {"pms.tiff": _write_cog(work / "pms.tiff", u16, 0.5, "DEFLATE", bigger=True)}
    visual = np.clip(u16[[2, 1, 0], ::2, ::2] / 8, 1, 255).astype(np.uint8)
    facts["visual.tiff"] = _write_cog(work / "visual.tiff", visual, 1.0, "JPEG")
    small = u16[:, ::4, ::4]
    for name, band in (("b02", 0), ("b03", 1), ("b04", 2), ("b08", 3)):
        facts[f"{name}.tiff"] = _write_cog(
            work / f"{name}.tiff", small[band : band + 1], 10.0, "DEFLATE"
        )
    facts["scl.tiff"] = _write_cog(
        work / "scl.tiff", (small[:1, ::2, ::2] // 400).astype(np.uint8), 20.0, "DEFLATE"
    )
    heights = (_landscape(11, 1024, 1024)[None] / 30 - 12).astype(np.float32)
    facts["dem.tiff"] = _write_cog(work / "dem.tiff", heights, 30.0, "DEFLATE")
    _write_plain(work / "strip.tif", u16[:, 256:1536, 256:1536], 0.5)
    _write_preview(work, visual[:, ::8, ::8])
    return facts


#: Gain and offset of blue, green, red and near infrared relative to the landscape.
_SPECTRA = ((0.55, 210.0), (0.70, 180.0), (0.85, 120.0), (1.20, 60.0))


def _landscape(seed: int, height: int, width: int) -> Pixels:
    """Return plausible relief: smooth forms of many sizes, fields with sharp edges, fine grain."""
    import numpy as np

    rng = np.random.default_rng(seed)
    total = np.full((height, width), 900.0, dtype=np.float32)
    for cells, weight in ((4, 420.0), (16, 240.0), (64, 130.0), (256, 60.0)):
        grid = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
        total += weight * (_interpolation(height, cells) @ grid @ _interpolation(width, cells).T)
    fields = rng.uniform(-220, 220, (height // 64, width // 96 + 1)).astype(np.float32)
    total += np.kron(fields, np.ones((64, 96), dtype=np.float32))[:height, :width]
    total += rng.normal(0, 14, (height, width)).astype(np.float32)
    return total


def _interpolation(length: int, cells: int) -> Pixels:
    """Return the matrix that spreads `cells + 1` knots linearly over `length` samples."""
    import numpy as np

    at = np.linspace(0, cells, length, endpoint=False)
    left = at.astype(int)
    matrix = np.zeros((length, cells + 1), dtype=np.float32)
    rows = np.arange(length)
    matrix[rows, left] = 1 - (at - left)
    matrix[rows, left + 1] = at - left
    return matrix


def _profile(pixels: Pixels, gsd_m: float) -> dict[str, Any]:
    from affine import Affine
    from rasterio.crs import CRS

    count, height, width = pixels.shape
    return {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype.name,
        "crs": CRS.from_epsg(EPSG),
        "transform": Affine(gsd_m, 0.0, WEST_M, 0.0, -gsd_m, NORTH_M),
    }


def _write_cog(
    path: Path, pixels: Pixels, gsd_m: float, compression: str, bigger: bool = False
) -> dict[str, Any]:
    """Write a cloud-optimized GeoTIFF with overviews; return its facts for the manifest."""
    import rasterio
    import rasterio.shutil
    from rasterio.io import MemoryFile

    options = {"compress": compression, "blocksize": BLOCK, "num_threads": "ALL_CPUS"}
    if compression == "DEFLATE":
        options |= {"predictor": "YES", "level": 1 if bigger else 6}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**_profile(pixels, gsd_m)) as raster:
            raster.write(pixels)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, path, driver="COG", **options)
    return _facts(path, gsd_m)


def _write_plain(path: Path, pixels: Pixels, gsd_m: float) -> None:
    """Write a tiled, uncompressed GeoTIFF, like those in providers' archives."""
    import rasterio

    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
    with rasterio.open(path, "w", **_profile(pixels, gsd_m), **layout) as raster:
        raster.write(pixels)


def _write_preview(work: Path, pixels: Pixels) -> None:
    import rasterio
    import rasterio.shutil
    from rasterio.io import MemoryFile

    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**_profile(pixels, 8.0)) as raster:
            raster.write(pixels)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, work / "preview.jpg", driver="JPEG")
            rasterio.shutil.copy(raster, work / "quicklook.png", driver="PNG")


def _facts(path: Path, gsd_m: float) -> dict[str, Any]:
    import rasterio
    from rasterio.warp import transform_bounds

    with rasterio.open(path) as raster:
        bbox = transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
        return {
            "shape": [raster.height, raster.width],
            "transform": list(raster.transform),
            "epsg": EPSG,
            "bbox": [round(value, 7) for value in bbox],
            "gsd": gsd_m,
        }


# -- texts and archives


def _make_texts(work: Path) -> None:
    (work / "metadata.xml").write_text(_DIMAP.format(name="IMG_PNEO3_R1C1"))
    (work / "tileinfo.json").write_text(
        json.dumps({"path": "tiles/33/U/UU/2024/4/18/0", "utmZone": 33, "latitudeBand": "U"})
    )
    (work / "stac.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [], "note": "delivered as it came"})
    )


_DIMAP = """<?xml version="1.0" encoding="UTF-8"?>
<Dimap_Document>
  <Metadata_Identification><METADATA_FORMAT version="2.15">DIMAP</METADATA_FORMAT>
  </Metadata_Identification>
  <Dataset_Identification><DATASET_NAME>{name}</DATASET_NAME></Dataset_Identification>
  <Raster_Data><Data_Access><Data_Files><Data_File tile_R="1" tile_C="1">
    <DATA_FILE_PATH href="{name}.TIF"/>
  </Data_File></Data_Files></Data_Access></Raster_Data>
</Dimap_Document>
"""


def _make_archives(work: Path) -> None:
    for name, top, method in (
        ("stored.zip", "PNEO3_202404181005124_PMS-FS_ORT", zipfile.ZIP_STORED),
        ("deflated.zip", "ORT_SPOT7_20240418_100512400_000", zipfile.ZIP_DEFLATED),
    ):
        with zipfile.ZipFile(work / name, "w", method) as archive:
            for member, data in _delivery(work, top):
                entry = zipfile.ZipInfo(member, _ZIP_TIME)
                entry.compress_type = method
                archive.writestr(entry, data, compresslevel=1)
    (work / "strip.tif").unlink()
    with tarfile.open(work / "job.tgz", "w:gz") as archive:
        for member, source in (
            ("output/data.json", "stac.geojson"),
            ("output/b04.tiff", "b04.tiff"),
        ):
            data = (work / source).read_bytes()
            info = tarfile.TarInfo(member)
            info.size, info.mtime = len(data), 1_713_434_712
            archive.addfile(info, io.BytesIO(data))


def zip_of_size(seed: int, size: int) -> bytes:
    """Return a zip of exactly `size` bytes with a text and one stored member that fills it."""
    rng, filling = random.Random(seed), 0
    for _ in range(2):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
            for member, data in (
                ("readme.txt", b"A delivery with a name that is hard to show.\n"),
                ("data.bin", rng.randbytes(filling)),
            ):
                archive.writestr(zipfile.ZipInfo(member, _ZIP_TIME), data)
        filling += size - len(made.getvalue())
    return made.getvalue()


def _delivery(work: Path, top: str) -> list[tuple[str, bytes]]:
    """Return the members of a DIMAP-like delivery: volume file, product folder, image, preview."""
    image = f"IMG_{top}_R1C1"
    return [
        (f"{top}/VOL_{top}.XML", _DIMAP.format(name=top).encode()),
        (f"{top}/IMG_01_{top}/DIM_{top}.XML", _DIMAP.format(name=image).encode()),
        (f"{top}/IMG_01_{top}/{image}.TIF", (work / "strip.tif").read_bytes()),
        (f"{top}/IMG_01_{top}/PREVIEW_{top}.JPG", (work / "preview.jpg").read_bytes()),
        (f"{top}/LIBRARY/readme.txt", b"Delivered imagery. \xc2\xa9 Provider.\n"),
    ]


def default_sample_dir() -> Path:
    """Return the directory of the sample: in the user's cache directory, by format version.

    If that cannot be written, returns a new temporary directory, deleted when this process exits.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "")
    with suppress(OSError, RuntimeError):  # there may be no home directory
        root = cache if cache.is_absolute() else Path.home() / ".cache"
        directory = root.absolute() / "up42fs" / f"demo-{FORMAT_VERSION}"
        directory.parent.mkdir(parents=True, exist_ok=True)
        if os.access(directory if directory.exists() else directory.parent, os.W_OK | os.X_OK):
            return directory
    temporary = tempfile.mkdtemp(prefix="up42fs-demo-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary) / f"demo-{FORMAT_VERSION}"

"""Layers of a directory for GIS: a mosaic as VRT, and a definition of layers for QGIS. Pure.

Theory. A VRT has one reference system, one number of bands and one sample type, so the images that
most of the directory's area shares make the mosaic. The others are named in its metadata, with the
reason; `qlr` shows each of them as a layer of its own. Paths are relative to the document, which
lies beside the images, so both work in a copy of the directory, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as Xml

from up42fs.model.geotiff import Raster
from up42fs.model.stac import StacAsset

#: The reference system of GeoJSON, longitude first.
WGS84 = 4326
#: GDAL's limit of a raster's width and height.
_MOST_PIXELS = (1 << 31) - 1
_COLOURS = ("Red", "Green", "Blue", "Alpha")
#: Roles of images for looking at, the best first.
_ROLES = ("visual", "pansharpened", "multispectral", "data")
#: What the images of one mosaic share: EPSG code, number of bands, sample type.
_Form = tuple[int | None, int, str]
#: The metadata item that names images that could not be part of the mosaic.
LEFT_OUT = "UP42FS_LEFT_OUT"


@dataclass(frozen=True, slots=True)
class MosaicImage:
    """An image and its path relative to the document; `raster` is None if it cannot be used."""

    path: str
    raster: Raster | None
    why_not: str = ""


def for_looking_at(files: Sequence[StacAsset]) -> StacAsset | None:
    """The one file of an item that a person looks at first; None if it has no image.

    That is the one with the best role; a file whose bands are told must have three of them, unless
    it is the item's only image.
    """
    images = [file for file in files if file.asset_id is not None and is_tiff(file)]
    for role in _ROLES:
        for file in images:
            if role in file.roles and (role == "visual" or len(file.bands) > 2):
                return file
    several = [file for role in _ROLES[1:3] for file in images if role in file.roles]
    if several:
        return several[0]
    return images[0] if len(images) == 1 else None


def is_tiff(file: StacAsset) -> bool:
    kind = (file.media_type or "").partition(";")[0].strip().lower()
    return kind in ("image/tiff", "image/vnd.stac.geotiff", "image/geotiff") or (
        file.key.lower().endswith((".tif", ".tiff"))
    )


def vrt(images: Sequence[MosaicImage]) -> bytes:
    """A mosaic of the images; one empty pixel if none of them can be shown."""
    left_out = [f"{image.path}: {image.why_not}" for image in images if image.raster is None]
    usable = _alike(images)
    if not usable:
        return _empty_vrt(left_out or ["no asset of this directory has an image"])
    best = _most_shared(usable)
    for key, others in usable.items():
        if key != best:
            said = f"EPSG:{key[0]}, {key[1]} bands, {key[2]}"
            left_out += [f"{image.path}: {said}" for image, _ in others]
    return _vrt(best[0], usable[best], left_out)


def reference_system(images: Iterable[MosaicImage]) -> int | None:
    """The EPSG code of the mosaic that `vrt` makes of these images."""
    usable = _alike(images)
    return _most_shared(usable)[0] if usable else None


def _alike(images: Iterable[MosaicImage]) -> dict[_Form, list[tuple[MosaicImage, Raster]]]:
    """The images that can be shown, with those that one mosaic can hold together."""
    alike: dict[_Form, list[tuple[MosaicImage, Raster]]] = {}
    for image in images:
        if (raster := image.raster) is not None:
            form = (raster.epsg, raster.bands, raster.kind)
            alike.setdefault(form, []).append((image, raster))
    return alike


def _most_shared(alike: dict[_Form, list[tuple[MosaicImage, Raster]]]) -> _Form:
    return max(alike, key=lambda form: (len(alike[form]), -(form[0] or 0), form[1], form[2]))


def _vrt(
    epsg: int | None, images: Sequence[tuple[MosaicImage, Raster]], left_out: list[str]
) -> bytes:
    rasters = [raster for _, raster in images]
    west = min(raster.transform[0] for raster in rasters)
    north = max(raster.transform[3] for raster in rasters)
    east = max(raster.transform[0] + raster.width * raster.transform[1] for raster in rasters)
    south = min(raster.transform[3] + raster.height * raster.transform[5] for raster in rasters)
    dx = min(raster.transform[1] for raster in rasters)
    dy = min(-raster.transform[5] for raster in rasters)
    # Images at both ends of the Earth at 30 cm: coarser, so that GDAL can open the whole.
    dx = max(dx, (east - west) / _MOST_PIXELS)
    dy = max(dy, (north - south) / _MOST_PIXELS)
    width = min(max(round((east - west) / dx), 1), _MOST_PIXELS)
    height = min(max(round((north - south) / dy), 1), _MOST_PIXELS)
    root = Xml.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if epsg is not None:
        Xml.SubElement(root, "SRS").text = f"EPSG:{epsg}"
    Xml.SubElement(root, "GeoTransform").text = ", ".join(
        repr(float(number)) for number in (west, dx, 0, north, 0, -dy)
    )
    if left_out:
        _tell_left_out(root, left_out)
    for band in range(1, rasters[0].bands + 1):
        element = Xml.SubElement(root, "VRTRasterBand", dataType=rasters[0].kind, band=str(band))
        nodata = {raster.nodata for raster in rasters}
        if len(nodata) == 1 and None not in nodata:
            Xml.SubElement(element, "NoDataValue").text = rasters[0].nodata
        if 3 <= rasters[0].bands <= 4 and rasters[0].kind == "Byte":
            Xml.SubElement(element, "ColorInterp").text = _COLOURS[band - 1]
        for image, raster in images:
            _add_source(element, image.path, raster, band, (west, dx, north, dy))
    return _written(root)


def _empty_vrt(left_out: list[str]) -> bytes:
    """A raster of one pixel without data: GDAL opens no VRT that has no band."""
    root = Xml.Element("VRTDataset", rasterXSize="1", rasterYSize="1")
    _tell_left_out(root, left_out)
    band = Xml.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    Xml.SubElement(band, "NoDataValue").text = "0"
    return _written(root)


def _tell_left_out(root: Xml.Element, left_out: list[str]) -> None:
    item = Xml.SubElement(Xml.SubElement(root, "Metadata"), "MDI", key=LEFT_OUT)
    item.text = _sound("; ".join(left_out))


def _written(root: Xml.Element) -> bytes:
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode").encode() + b"\n"


def _add_source(
    element: Xml.Element,
    path: str,
    raster: Raster,
    band: int,
    grid: tuple[float, float, float, float],
) -> None:
    west, dx, north, dy = grid
    # With a nodata value the margins of an image hide none of those below it.
    kind = "SimpleSource" if raster.nodata is None else "ComplexSource"
    source = Xml.SubElement(element, kind)
    Xml.SubElement(source, "SourceFilename", relativeToVRT="1").text = path
    Xml.SubElement(source, "SourceBand").text = str(band)
    # With these GDAL opens an image only when a part of it is read.
    Xml.SubElement(
        source,
        "SourceProperties",
        RasterXSize=str(raster.width),
        RasterYSize=str(raster.height),
        DataType=raster.kind,
        BlockXSize=str(raster.block[0]),
        BlockYSize=str(raster.block[1]),
    )
    Xml.SubElement(
        source, "SrcRect", xOff="0", yOff="0", xSize=str(raster.width), ySize=str(raster.height)
    )
    x, pixel, _, y, _, line = raster.transform
    offsets = {"xOff": (x - west) / dx, "yOff": (north - y) / dy}
    sizes = {"xSize": raster.width * pixel / dx, "ySize": raster.height * -line / dy}
    shown = {name: repr(round(value, 6)) for name, value in (offsets | sizes).items()}
    Xml.SubElement(source, "DstRect", shown)
    if raster.nodata is not None:
        Xml.SubElement(source, "NODATA").text = raster.nodata


@dataclass(frozen=True, slots=True)
class RasterLayer:
    """An image as a layer of QGIS: label, path, and its reference system if it is known."""

    label: str
    path: str
    epsg: int | None = None


def qlr(name: str, rasters: Sequence[RasterLayer], outlines: str | None) -> bytes:
    """Layers for QGIS: images, top first, and the path of a file of outlines in degrees."""
    root = Xml.Element("qlr")
    group = Xml.SubElement(
        Xml.SubElement(root, "layer-tree-group", name="", checked="Qt::Checked", expanded="1"),
        "layer-tree-group",
        name=_sound(name),
        checked="Qt::Checked",
        expanded="1",
    )
    layers = Xml.SubElement(root, "maplayers")
    shown = [(image.label, image.path, "raster", "gdal", image.epsg) for image in rasters]
    if outlines is not None:
        shown.insert(0, ("Outlines", outlines, "vector", "ogr", WGS84))
    for number, (label, path, kind, provider, epsg) in enumerate(shown):
        layer_id = f"up42fs_{uuid5(NAMESPACE_URL, f'{number} {path}').hex}"
        source = f"./{path}"
        # One image is shown at first, and the others when they are ticked.
        is_first = number <= (outlines is not None)
        Xml.SubElement(
            group,
            "layer-tree-layer",
            id=layer_id,
            name=_sound(label),
            source=source,
            providerKey=provider,
            checked="Qt::Checked" if is_first else "Qt::Unchecked",
            expanded="0",
        )
        layer = Xml.SubElement(layers, "maplayer", type=kind)
        if kind == "vector":
            layer.set("geometry", "Polygon")
            _draw_outlines(layer)
        for tag, text in (
            ("id", layer_id),
            ("datasource", source),
            ("layername", label),
            ("provider", provider),
        ):
            Xml.SubElement(layer, tag).text = _sound(text)
        if epsg is not None:
            _add_srs(layer, epsg)
    Xml.indent(root)
    body = Xml.tostring(root, encoding="unicode").encode()
    return b"<!DOCTYPE qgis-layer-definition>\n" + body + b"\n"


def _add_srs(layer: Xml.Element, epsg: int) -> None:
    """The layer's reference system: QGIS takes none from the file where the definition has none."""
    srs = Xml.SubElement(Xml.SubElement(layer, "srs"), "spatialrefsys")
    # QGIS looks at `authid` only if `srsid`, the row of its own table, is a row that could be.
    Xml.SubElement(srs, "srsid").text = "3452"
    Xml.SubElement(srs, "authid").text = f"EPSG:{epsg}"


def _draw_outlines(layer: Xml.Element) -> None:
    """Draw polygons without a fill, which would hide the images below."""
    renderer = Xml.SubElement(layer, "renderer-v2", type="singleSymbol")
    symbols = Xml.SubElement(renderer, "symbols")
    symbol = Xml.SubElement(symbols, "symbol", type="fill", name="0")
    fill = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
    for key, value in (
        ("style", "no"),
        ("outline_color", "227,26,28,255"),
        ("outline_width", "0.6"),
    ):
        Xml.SubElement(fill, "prop", k=key, v=value)


def _sound(text: str) -> str:
    """`text` without the characters that XML cannot hold."""
    return "".join(char if char >= " " or char in "\t\n" else "\ufffd" for char in text)

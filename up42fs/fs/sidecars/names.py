"""Recognises sidecars, the files that GDAL and QGIS keep beside an image, by their names. Pure.

Theory. A sidecar belongs to an image, not to a directory: the image is shown in several ones, under
names that may differ and change. So a sidecar is stored with its `Tag`, the way its name derives
from the image's, and the name is derived anew wherever the image is shown. The endings are those
that these programs write beside an existing image:

- to the whole name GDAL appends `.aux.xml` (statistics, metadata), `.ovr` (`gdaladdo -ro`), `.msk`
  and `.msk.ovr` (masks), QGIS `.points` (georeferencer), `.vat.dbf` and `.vat.cpg` (attributes);
- for the last extension QGIS substitutes `.qml` (style), `.qmd` (metadata), `.sld` (style) and
  `.wld` (georeferencer), GDAL `.aux` and `.rrd` (overviews with USE_RRD).

rsync (`.NAME.a1b2c3`), Qt (`NAME.a1b2c3`), KDE (`NAME.part`) and others (`NAME.tmp`) write a
replacement under a temporary name first and then rename it: such names are sidecars, too. A name
can be read in several ways; `readings` yields all, the likeliest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

APPENDED = (".aux.xml", ".ovr", ".msk.ovr", ".msk", ".points", ".vat.dbf", ".vat.cpg")
REPLACING = (".qml", ".qmd", ".sld", ".wld", ".aux", ".rrd")
#: Extensions that are replaced: those of images, of archives that QGIS looks into, of vector data.
_EXTENSIONS = (
    *(".tif", ".tiff", ".jp2", ".img", ".ntf", ".nitf", ".vrt", ".jpg", ".jpeg", ".png", ".j2k"),
    *(".zip", ".tar.gz", ".tgz", ".tar", ".gz", ".xml", ".json", ".geojson", ".gpkg", ".pdf"),
    *(".nc", ".h5", ".hdf", ".gtiff", ".gml", ".kml", ".shp", ".csv", ".txt"),
)
EXTENSIONS = tuple(form for ext in _EXTENSIONS for form in (ext, ext.upper()))
#: The longest name that Linux allows, in bytes.
LONGEST_NAME_BYTES = 255

_PASSING = re.compile(r"(?P<name>.+)(?P<passing>\.(?:[A-Za-z0-9]{6}|tmp|part))", re.DOTALL)
#: IDs of assets, of files, and of members of archives, which have `!` in them.
_ID = re.compile(r"[A-Za-z0-9_!-]{1,96}")
_KEPT = re.compile(r"(?P<owner>[A-Za-z0-9_!-]{1,96})(?P<tag>[+].*)")


class Tag(NamedTuple):
    """How a sidecar's name derives from its image's.

    `ending` is appended to the image's name, or replaces its extension; `passing` is the suffix of
    a temporary name, and a dot precedes the name if `is_hidden`.
    """

    ending: str
    passing: str = ""
    is_hidden: bool = False

    @property
    def is_appended(self) -> bool:
        """Whether the sidecar's name contains the image's whole name."""
        return self.ending in APPENDED

    def shown(self, image: str) -> str | None:
        """The sidecar's name beside an image; None if the image cannot have one of that kind."""
        base = image if self.is_appended else _stem(image)
        if base is None:
            return None
        name = f"{'.' * self.is_hidden}{base}{self.ending}{self.passing}"
        return name if len(name.encode(errors="replace")) <= LONGEST_NAME_BYTES else None

    def __str__(self) -> str:
        return f"{'+.' if self.is_hidden else '+'}{self.ending}{self.passing}"


class SidecarName(NamedTuple):
    """A possible meaning of a name: the sidecar `tag` of one of `images`."""

    images: tuple[str, ...]
    tag: Tag


def readings(name: str) -> Iterator[SidecarName]:
    """Yield every way to read `name` as a sidecar's, the likeliest first; none if it is not one."""
    yield from _plain(name, "", is_hidden=False)
    found = _PASSING.fullmatch(name)
    if found is None:
        return
    inner, passing = found["name"], found["passing"]
    yield from _plain(inner, passing, is_hidden=False)
    if inner.startswith("."):
        yield from _plain(inner[1:], passing, is_hidden=True)


def kept_name(owner: str, tag: Tag) -> str | None:
    """The file name of the sidecar of the image `owner`; None if the ID cannot be part of one."""
    return f"{owner}{tag}" if _ID.fullmatch(owner) else None


def parse_kept_name(name: str) -> tuple[str, Tag] | None:
    """The image's ID and the tag of a stored file; None if it is not a sidecar."""
    found = _KEPT.fullmatch(name)
    if found is None:
        return None
    rest = found["tag"][1:]
    is_hidden = rest.startswith("..")
    rest = rest[1:] if is_hidden else rest
    for ending in (*APPENDED, *REPLACING):
        tag = Tag(ending, rest[len(ending) :], is_hidden)
        if rest.startswith(ending) and _is_sound(tag):
            return found["owner"], tag
    return None


def _is_sound(tag: Tag) -> bool:
    if not tag.passing:
        return not tag.is_hidden
    found = _PASSING.fullmatch("x" + tag.passing)
    return found is not None and found["name"] == "x"


def _plain(name: str, passing: str, *, is_hidden: bool) -> Iterator[SidecarName]:
    for ending in (*APPENDED, *REPLACING):
        base = name.removesuffix(ending)
        if base in ("", name):
            continue
        tag = Tag(ending, passing, is_hidden)
        images = (base,) if tag.is_appended else tuple(base + ext for ext in EXTENSIONS)
        yield SidecarName(images, tag)


def _stem(image: str) -> str | None:
    """A name without its extension; None if that is not one that sidecars replace."""
    longest = max((ext for ext in EXTENSIONS if image.endswith(ext)), key=len, default="")
    return image[: -len(longest)] or None if longest else None

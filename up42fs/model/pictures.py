"""Which file of an item or collection is a picture of it: its thumbnail or quicklook. Pure.

UP42 says it by the role (contract §5.5), or only by the name (`preview.jpg`). The media types are
unreliable, so the name's extension decides what a picture is, and the type only where it has none.
"""

from __future__ import annotations

from collections.abc import Iterable

from up42fs.model.names import split_extension
from up42fs.model.stac import StacAsset

#: Roles and names of pictures, the smallest first.
_ROLES = ("thumbnail", "overview", "quicklook", "preview", "browse")
#: What programs for pictures open; an overview that is a GeoTIFF is none.
_EXTENSIONS = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png", ".webp": ".webp", ".gif": ".gif"}
_TYPES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif"}
#: Between the name of a delivery, without its extension, and that of its picture.
INFIX = ".preview"
ENDINGS = tuple(INFIX + extension for extension in sorted(set(_TYPES.values())))


def picture_of(files: Iterable[StacAsset]) -> StacAsset | None:
    """The smallest picture that can be read; None if there is none."""
    found = [(rank, file) for file in files if (rank := _rank(file)) is not None]
    return min(found, key=lambda one: one[0], default=(0, None))[1]


def extension_of(file: StacAsset) -> str | None:
    """The extension of a picture, with its dot; None for what is no picture."""
    extension = split_extension(file.key)[1].lower()
    if extension:
        return _EXTENSIONS.get(extension)
    return _TYPES.get((file.media_type or "").partition(";")[0].strip().lower())


def beside(name: str, file: StacAsset) -> str:
    """The name of a delivery's picture beside the delivery."""
    return f"{split_extension(name)[0]}{INFIX}{extension_of(file)}"


def stem_of(name: str) -> str | None:
    """The name, without its extension, of the delivery that a picture is beside; else None."""
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), None)


def _rank(file: StacAsset) -> int | None:
    if file.asset_id is None or extension_of(file) is None:
        return None
    words = {*map(str.lower, file.roles), split_extension(file.key)[0].lower()}
    return next((rank for rank, role in enumerate(_ROLES) if role in words), None)

"""A directory of files as a storage: `--data DIR`.

Each regular file is an asset with a stable ID; its top-level directory is its order, the
directories between are its tags. Images count as transformed, with one STAC item whose one file has
the same bytes under another ID. Its outline is the image's own if rasterio is installed and can
tell it. `NAME.preview.jpg` (or .png) beside `NAME.zip` is no asset but the thumbnail in its item.
Symbolic links are not followed.
"""

from __future__ import annotations

import importlib.util
import math
import mimetypes
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from up42fs.emulator.clock import US
from up42fs.emulator.content import FileContent
from up42fs.emulator.storage import (
    Collection,
    EmulatedAccount,
    EmulatedAsset,
    EmulatedOrder,
    Item,
    StacFile,
    Storage,
    stable_id,
)

IMAGES = frozenset((".tif", ".tiff", ".jp2"))
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_PREVIEWS = (".preview.jpg", ".preview.png")
#: West, south, east and north of what tells no place.
SOMEWHERE = (13.3, 52.4, 13.5, 52.6)


def folder_storage(account: EmulatedAccount, root: Path) -> Storage:
    """Return a storage of the files in `root`; raises NotADirectoryError if it is no directory."""
    if not root.is_dir():
        raise NotADirectoryError(f"--data {root}: no such directory")
    storage = Storage(account)
    paths = sorted(regular_files(root))
    previews = {path for path in paths if path.name.endswith(_PREVIEWS)}
    for path in paths:
        beside = (path.with_name(path.stem + ending) for ending in _PREVIEWS)
        if path not in previews:
            _add_file(storage, root, path, next((p for p in beside if p in previews), None))
    return storage


def regular_files(root: Path) -> Iterator[Path]:
    """Yield every regular file below `root` without following links."""
    for directory, _, names in os.walk(root, followlinks=False):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _add_file(storage: Storage, root: Path, path: Path, preview: Path | None) -> None:
    relative = path.relative_to(root)
    # JSON cannot hold names that are not UTF-8.
    label = os.fsencode(relative).decode("utf-8", "replace")
    *directories, name = label.split("/")
    account = storage.account
    modified_us = path.stat().st_mtime_ns // 1000
    order_id = _ensure_order(storage, directories[0], modified_us) if directories else None
    is_image = path.suffix.lower() in IMAGES
    asset = EmulatedAsset(
        stable_id(f"folder asset {label}"),
        modified_us,
        modified_us,
        account.workspace_id,
        account.account_id,
        name=name,
        content_type=_media_type(name),
        status="SUCCESSFUL" if is_image else "NOT_PROCESSED",
        order_id=order_id,
        source="USER",
        tags=sorted(set(directories[1:])),
    )
    storage.put_asset(asset, FileContent(path))
    collection = _add_collection(storage, asset, path, label, is_image)
    if preview is not None:
        key, item = f"thumbnail{preview.suffix}", collection.items[0]
        thumbnail = StacFile(
            key, stable_id(f"preview {label}"), _media_type(key), "Thumbnail", ("thumbnail",)
        )
        storage.put_stac_file(thumbnail, FileContent(preview), asset.created_us)
        item.files = (*item.files, thumbnail)


def _ensure_order(storage: Storage, name: str, moment_us: int) -> str:
    account = storage.account
    order_id = stable_id(f"folder order {name}")
    order = storage.orders.get(order_id)
    if order is None:
        storage.put_order(
            EmulatedOrder(
                order_id,
                name,
                "FULFILLED",
                moment_us,
                moment_us,
                account.workspace_id,
                account.account_id,
                tags=[],
            )
        )
    else:
        order.created_us = min(order.created_us, moment_us)
        order.updated_us = max(order.updated_us, moment_us)
    return order_id


def _add_collection(
    storage: Storage, asset: EmulatedAsset, path: Path, label: str, is_image: bool
) -> Collection:
    collection_id = stable_id(f"folder collection {label}")
    name = asset.name or label
    if is_image:
        media_type = "image/jp2" if path.suffix.lower() == ".jp2" else COG
        file = StacFile(name, stable_id(f"folder file {label}"), media_type, name)
        storage.put_stac_file(file, FileContent(path), asset.created_us)
    else:
        file = StacFile("data", asset.id, asset.content_type, "Data")
    item = Item(
        stable_id(f"folder item {label}"),
        collection_id,
        Path(name).stem or name,
        asset.created_us - 3600 * US,
        (is_image and _outline(path)) or SOMEWHERE,
        (file,),
        {"gsd": 0.5, "proj:epsg": None},
    )
    collection = Collection(collection_id, asset.id, item.title, asset.created_us, [item], is_image)
    storage.put_collection(collection)
    return collection


def _outline(path: Path) -> tuple[float, float, float, float] | None:
    """Return the degrees that an image covers; None if it does not say, or without rasterio."""
    if importlib.util.find_spec("rasterio") is None:
        return None
    import rasterio
    from rasterio.warp import transform_bounds

    quietly = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
    try:
        with warnings.catch_warnings(action="ignore"), rasterio.Env(**quietly):
            image = rasterio.open(path)
        with image:
            if image.crs is None:
                return None
            west, south, east, north = transform_bounds(image.crs, "EPSG:4326", *image.bounds)
    except Exception:  # what GDAL cannot read or place tells no outline
        return None
    numbers = (west, south, east, north)
    is_sound = all(map(math.isfinite, numbers)) and -180 <= west < east <= 180
    return numbers if is_sound and -90 <= south < north <= 90 else None


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"

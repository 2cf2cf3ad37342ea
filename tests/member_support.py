"""Zips and tars in memory with the extents of their members, as the file system passes them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace

from up42fs.archive.table import Method
from up42fs.store.members.extent import Extent, StoredObject

ARCHIVE = "archive"
METHODS = {zipfile.ZIP_STORED: Method.STORED, zipfile.ZIP_DEFLATED: Method.DEFLATED}


def stored_zip(
    files: Mapping[str, bytes], *, extra: bytes = b"", method: int = zipfile.ZIP_STORED
) -> bytes:
    """A zip of these members; `extra` stands in their local headers only."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            info.compress_type = method
            info.extra = extra
            archive.writestr(info, content)
            info.extra = b""
    return out.getvalue()


def stored_tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def origin_of(data: bytes, object_id: str = ARCHIVE, extent: Extent | None = None) -> StoredObject:
    return StoredObject(object_id, len(data), f"{object_id}.zip", None, extent)


def zip_extents(data: bytes, origin: StoredObject | None = None) -> dict[str, Extent]:
    """The extents of a zip's members by name, as its central directory tells them."""
    archive = origin or origin_of(data)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {
            info.filename: Extent(
                archive,
                info.header_offset,
                None,
                info.compress_size,
                METHODS[info.compress_type],
                info.CRC,
            )
            for info in opened.infolist()
        }


def tar_extents(data: bytes, origin: StoredObject | None = None) -> dict[str, Extent]:
    """The extents of a tar's members by name."""
    archive = origin or origin_of(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {
            info.name: Extent(
                archive, info.offset, info.offset_data, info.size, Method.STORED, None
            )
            for info in opened.getmembers()
        }


def object_id(extent: Extent) -> str:
    return f"{extent.archive.object_id}!{extent.header_at}"


def with_size(origin: StoredObject, size: int | None) -> StoredObject:
    return replace(origin, size=size)

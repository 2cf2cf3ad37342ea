"""STAC items as rows of the snapshot: the fields of a listing as one short text, documents apart.

A directory is listed thousands of times for each time its item.json is read, so the text is small
and quick to read, and UP42's own JSON is kept beside it, compressed.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from up42fs.model.stac import StacAsset, StacCollection, StacItem
from up42fs.types import Asset, CnamStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_ITEM = tuple(field.name for field in fields(StacItem) if field.name not in ("assets", "document"))
_COLLECTION = tuple(
    field.name for field in fields(StacCollection) if field.name not in ("assets", "document")
)
_FILE = tuple(field.name for field in fields(StacAsset))
_TIMES = frozenset({"datetime", "created", "updated"})
_TUPLES = frozenset({"bbox", "user_tags", "bands"})


def to_us(moment: datetime) -> int:
    return (moment - _EPOCH) // _US


def from_us(number: int) -> datetime:
    """The inverse of `to_us`; raises OverflowError, TypeError."""
    return _EPOCH + timedelta(microseconds=number)


def version(asset: Asset) -> int:
    """The number under which an asset's items are kept: those of another version do not count.

    An asset that is not transformed has negative ones, since a transformation need not move the
    asset's `updated_at` (contract §14).
    """
    moment_us = to_us(asset.updated_at)
    return moment_us if asset.cnam_status is CnamStatus.SUCCESSFUL else plain_version(moment_us)


def plain_version(updated_us: int) -> int:
    """`version` of an asset that is not transformed."""
    return ~abs(updated_us)


def pack(items: Iterable[StacItem]) -> str:
    """Encode items without their documents."""
    return _text([_pack_item(item) for item in items])


def unpack(text: str) -> tuple[StacItem, ...]:
    """The items of `pack`; raises ValueError, TypeError, LookupError for anything else."""
    return tuple(_unpack_item(*row) for row in json.loads(text))


def pack_documents(items: Iterable[StacItem]) -> bytes:
    return _compressed({item.id: item.document for item in items})


def unpack_documents(packed: bytes) -> dict[str, Mapping[str, Any]]:
    """The documents of `pack_documents`; raises ValueError or zlib.error for anything else."""
    documents: dict[str, Mapping[str, Any]] = json.loads(zlib.decompress(packed))
    return documents


def pack_whole(items: Iterable[StacItem]) -> bytes:
    return _compressed([[*_pack_item(item), item.document] for item in items])


def unpack_whole(packed: bytes) -> tuple[StacItem, ...]:
    """The items of `pack_whole`; raises ValueError and the like for anything else."""
    rows = json.loads(zlib.decompress(packed))
    return tuple(
        replace(_unpack_item(values, files), document=document) for values, files, document in rows
    )


def pack_collections(collections: Iterable[StacCollection]) -> bytes:
    rows = []
    for each in collections:
        values = [getattr(each, name) for name in _COLLECTION]
        rows.append([values, _pack_files(each.assets), each.document])
    return _compressed(rows)


def unpack_collections(packed: bytes) -> tuple[StacCollection, ...]:
    """The collections of `pack_collections`; raises ValueError and the like for anything else."""
    return tuple(_unpack_collection(*row) for row in json.loads(zlib.decompress(packed)))


def _unpack_collection(
    values: list[Any], files: list[list[Any]], document: Mapping[str, Any]
) -> StacCollection:
    said = dict(zip(_COLLECTION, values, strict=True))
    said["user_tags"] = tuple(said["user_tags"])
    assets = tuple(_unpack_file(*file) for file in files)
    return StacCollection(assets=assets, document=document, **said)


def _pack_item(item: StacItem) -> list[Any]:
    values = []
    for name in _ITEM:
        value = getattr(item, name)
        values.append(to_us(value) if name in _TIMES and value is not None else value)
    return [values, _pack_files(item.assets)]


def _pack_files(files: Iterable[StacAsset]) -> list[list[Any]]:
    return [[getattr(file, name) for name in _FILE] for file in files]


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _compressed(value: object) -> bytes:
    return zlib.compress(_text(value).encode(), 1)


def _unpack_item(values: list[Any], files: list[list[Any]]) -> StacItem:
    said = dict(zip(_ITEM, values, strict=True))
    for name in _TIMES:
        if said[name] is not None:
            said[name] = from_us(said[name])
    for name in _TUPLES:
        if said[name] is not None:
            said[name] = tuple(said[name])
    return StacItem(assets=tuple(_unpack_file(*file) for file in files), **said)


def _unpack_file(
    key: str,
    asset_id: str | None,
    refusal: str | None,
    title: str | None,
    media_type: str | None,
    roles: list[str],
    gsd: float | None,
    epsg: int | None,
    bands: list[str],
    proj_code: str | None,
) -> StacAsset:
    shared = None if media_type is None else sys.intern(media_type)
    own = tuple(bands)
    return StacAsset(key, asset_id, refusal, title, shared, tuple(roles), gsd, epsg, own, proj_code)


assert (
    *("key", "asset_id", "refusal", "title", "media_type", "roles", "gsd", "epsg", "bands"),
    "proj_code",
) == _FILE, "by place"

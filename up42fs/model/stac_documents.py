"""A static STAC 1.0 catalogue of files that lie beside its documents; the documents as objects.

Input is UP42's collections and items; output is dicts ready for `json.dumps`:

    catalog.json
    <collection>/collection.json
    <collection>/<item>/<item>.json       and the item's files beside it
    item.json                             the same item alone, in an asset's own directory

Theory. *Hrefs.* STAC calls an href a URI reference, but readers of a catalogue on a local disk
treat it as a path: pystac joins it to the document's directory and never unquotes, GDAL opens
whatever pystac returns. Measured with pystac 1.15: `./a%20b.tif` opens only a file that has `%20`
in its name, `./a b.tif` opens; everything after `#` or `?`, or `;` in the last part, is cut off,
and a backslash becomes `/`, quoted or not. Readers that do treat it as a URL (QGIS by QUrl,
browsers) quote by themselves the characters a URL may not hold, but undo `%41`. Hence:
1. An href is the literal relative path, beginning with `./` or `../` (a `:` starts no scheme).
2. `file_names`, `item_names` and `collection_names` never use `# ? ; % \\`, so that path and URL
   mean the same file. Documents and files must take their names from the same mapping.

Rejected: quoting (breaks every space and umlaut in pystac), absolute paths (the tree must be
copied, exported and bind-mounted), `file:` URLs (pystac does not unquote those either).

*Validity.* UP42's documents are kept as sent, including extension fields and null extension values,
except for parts that the core schemas of STAC 1.0 refuse: a core field of the wrong type is left
out (`"description": null` of an asset), a missing required one gets the weakest true value:
- geometry null beside a bbox is forbidden: the geometry becomes the bbox's outline;
- no datetime at all: the range from 1970 to the item's creation, else to the year 9999;
- a `collection` field requires a link: without links (item.json) it is left out.

Links are replaced: those of UP42's API need a token.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from up42fs.model import stac_fields
from up42fs.model.names import NameWish, asset_name, assign, safe_name, split_extension
from up42fs.model.stac import StacCollection, StacItem

CATALOG_DOCUMENT = "catalog.json"
COLLECTION_DOCUMENT = "collection.json"
ITEM_DOCUMENT = "item.json"

CATALOG_ID = "up42-storage"
_JSON_TYPE, _GEOJSON_TYPE = "application/json", "application/geo+json"
#: Members of one archive that an item names.
MOST_MEMBERS = 500
#: Images for analysis, by extension; previews are no data.
_IMAGE_TYPES = {
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".jp2": "image/jp2",
    ".ntf": "application/vnd.nitf",
    ".nitf": "application/vnd.nitf",
    ".img": "application/octet-stream",
}
#: Link relations that describe the data rather than UP42's API.
_KEPT_LINKS = frozenset({"license", "about", "cite-as", "derived_from", "describedby", "related"})
#: Characters with a special meaning in a URL; names made here never contain them.
_SYNTAX = str.maketrans(dict.fromkeys("#?;%\\", "_"))
_UNOPENABLE = frozenset("#?;\\")


# -- names


def file_names(item: StacItem, taken: Collection[str] = ()) -> dict[str, str]:
    """File names for an item's assets, by key: unique, safe, the same as path and as URL.

    `item.json` and the names in `taken` (the item's document) are reserved. An earlier key keeps
    its plain name; a key without an extension gets that of its media type.
    """
    wishes = {asset.key: _file_wish(asset.key, asset.media_type) for asset in item.assets}
    wished = set(wishes.values())
    if len(wished) == len(wishes) and wished.isdisjoint({ITEM_DOCUMENT, *taken}):
        return wishes  # the usual case: no clash
    entries = {
        _label(key): NameWish(_label(key), (index, ""), wish)
        for index, (key, wish) in enumerate(wishes.items())
    }
    names = assign(entries.values(), {ITEM_DOCUMENT, *taken})
    return {key: names[_label(key)] for key in wishes}


def item_names(items: Sequence[StacItem]) -> dict[str, str]:
    """Directory names for items, by ID: title, else ID; the one created first keeps it plain."""
    return _directory_names(
        [(item.id, item.title, _age(item)) for item in items],
        {COLLECTION_DOCUMENT, ITEM_DOCUMENT},
    )


def collection_names(collections: Sequence[StacCollection]) -> dict[str, str]:
    """Directory names for collections given from oldest to newest, by ID: title, else ID."""
    return _directory_names(
        [(each.id, each.title, float(index)) for index, each in enumerate(collections)],
        {CATALOG_DOCUMENT},
    )


def item_document_name(directory: str) -> str:
    """File name of an item's document in its directory below a collection."""
    return f"{directory}.json"


# -- documents


def catalog_document(collections: Sequence[tuple[str, StacCollection]]) -> dict[str, Any]:
    """`catalog.json`: the root, with a child link for each (directory name, collection)."""
    children = [
        _link("child", _href(directory, COLLECTION_DOCUMENT), title=each.title or each.id)
        for directory, each in collections
    ]
    return {
        "type": "Catalog",
        "stac_version": stac_fields.STAC_VERSION,
        "stac_extensions": [],
        "id": CATALOG_ID,
        "title": "UP42 Storage",
        "description": "What the UP42 storage holds, as files.",
        "links": [_link("root", _href(CATALOG_DOCUMENT)), *children],
    }


def collection_document(
    collection: StacCollection,
    items: Sequence[tuple[str, StacItem]],
    *,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`<collection>/collection.json` with an item link for each (directory name, item).

    `files` maps keys of the collection's own assets (the original delivery) to paths relative to
    the document, e.g. `../../assets/scene.zip`; assets that are not in it are left out.
    """
    sent: dict[str, Any] = stac_fields.clean(collection.document)
    document = sent | {
        "type": "Collection",
        "stac_version": stac_fields.version(sent),
        "stac_extensions": stac_fields.extensions(sent),
        "id": collection.id,
        "license": stac_fields.license_of(sent),
        "extent": stac_fields.extent(sent, [item for _, item in items]),
        "links": [
            _link("root", f"../{CATALOG_DOCUMENT}"),
            _link("parent", f"../{CATALOG_DOCUMENT}"),
            *(_item_link(directory, item) for directory, item in items),
            *_kept_links(sent),
        ],
    }
    document = stac_fields.common(document)
    document.setdefault("description", collection.title or f"UP42 delivery {collection.id}")
    document["assets"] = _assets(sent, files or {})
    if "summaries" in document:
        document["summaries"] = stac_fields.summaries(document["summaries"])
    return document


def item_document(
    item: StacItem, *, files: Mapping[str, str], self_contained: bool
) -> dict[str, Any]:
    """An item's document; `files` maps asset keys to the names of the files beside it.

    Assets that are not in `files` are left out. `self_contained` items stand alone: no links to a
    collection or catalogue. Others are at `<collection>/<item>/` of the tree.
    """
    sent: dict[str, Any] = stac_fields.clean(item.document)
    geometry, bbox = stac_fields.place(sent, item)
    document: dict[str, Any] = sent | {
        "type": "Feature",
        "stac_version": stac_fields.version(sent),
        "stac_extensions": stac_fields.extensions(sent),
        "id": item.id,
        "geometry": geometry,
        "bbox": bbox,
        "properties": stac_fields.properties(sent, item),
        "links": [*([] if self_contained else _item_links(item)), *_kept_links(sent)],
        "assets": _assets(sent, files),
        "collection": item.collection_id,
    }
    if bbox is None:
        del document["bbox"]
    if self_contained or not item.collection_id:
        del document["collection"]
    return document


def members_as_assets(directory: str, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """STAC assets of an archive's image members, by path; they stand below `directory`.

    Members with names that mean different things as path and as URL are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        media_type = _IMAGE_TYPES.get(split_extension(path)[1].lower())
        if media_type is not None and not _UNOPENABLE & set(path):
            found[path] = {
                "href": _href(directory, *path.split("/")),
                "type": media_type,
                "title": path.rpartition("/")[2],
                "roles": ["data"],
            }
        if len(found) == MOST_MEMBERS:
            break
    return found


# -- links and hrefs


def _href(*path: str) -> str:
    """The relative reference to a path below the document."""
    # A name with one of `# ? ; \` that comes all the same is quoted: pystac cannot open it in any
    # spelling, but readers of URLs can.
    parts = [quote(part, safe="") if _UNOPENABLE & set(part) else part for part in path]
    return "/".join([*([] if path[0] in (".", "..") else ["."]), *parts])


def _link(rel: str, href: str, kind: str = _JSON_TYPE, title: str | None = None) -> dict[str, str]:
    link = {"rel": rel, "href": href, "type": kind}
    return link | {"title": title} if title else link


def _item_link(directory: str, item: StacItem) -> dict[str, str]:
    href = _href(directory, item_document_name(directory))
    return _link("item", href, _GEOJSON_TYPE, item.title or item.id)


def _item_links(item: StacItem) -> list[dict[str, str]]:
    links = [
        _link("root", f"../../{CATALOG_DOCUMENT}"),
        _link("parent", f"../{COLLECTION_DOCUMENT}"),
    ]
    if item.collection_id:
        links.append(_link("collection", f"../{COLLECTION_DOCUMENT}"))
    return links


def _kept_links(sent: Mapping[str, Any]) -> list[dict[str, Any]]:
    links = sent.get("links")
    return [
        _keep({"rel": link["rel"], "href": link["href"]}, link, ("type", "title"))
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict)
        and str(link.get("rel")) in _KEPT_LINKS
        and str(link.get("href")).startswith(("https://", "http://"))
    ]


def _keep(kept: dict[str, Any], sent: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return kept | {key: sent[key] for key in keys if isinstance(sent.get(key), str)}


def _assets(sent: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    rows = sent.get("assets")
    return {
        key: {"href": _href(*files[key].removeprefix("./").split("/"))} | _asset(row)
        for key, row in (rows if isinstance(rows, dict) else {}).items()
        if key in files and isinstance(row, dict)
    }


def _asset(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in stac_fields.common(row).items() if key != "href"}
    return kept if isinstance(kept.get("type", ""), str) else stac_fields.without(kept, "type")


# -- names: parts


def _plain(raw: str | None) -> str | None:
    """`raw` as a file name that reads the same as a path and as a URL; None if nothing is left."""
    name = safe_name(raw)
    return None if name is None else name.translate(_SYNTAX)


@lru_cache(4096)  # the items of a storage have the same few keys
def _file_wish(key: str, media_type: str | None) -> str:
    name = _plain(key) or "file"
    extension = split_extension(name)[1]
    # `pan v1.0` ends in a version, not in an extension.
    named = extension and not extension[1:].isdigit()
    return name if named else asset_name(None, name, media_type, name)


def _label(identity: str) -> str:
    """The distinguishing part of a clashing name: the ID if a name can hold it, else its digest."""
    if re.fullmatch(r"[0-9A-Fa-f-]{8,64}", identity):
        return identity
    return hashlib.sha256(identity.encode(errors="replace")).hexdigest()


def _directory_names(
    rows: Sequence[tuple[str, str | None, float]], taken: Collection[str]
) -> dict[str, str]:
    entries = {
        identity: NameWish(
            _label(identity), (age, identity), _plain(title) or _plain(identity) or "_"
        )
        for identity, title, age in rows
    }
    names = assign(entries.values(), taken)
    return {identity: names[entry.id] for identity, entry in entries.items()}


def _age(item: StacItem) -> float:
    moment = item.created or item.datetime
    return moment.timestamp() if moment is not None else 0.0

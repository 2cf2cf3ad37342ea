"""STAC documents and footprints with addresses in place of relative paths.

Pure: takes a document, the directory that it stands in and the server's address. Knows how hrefs
are written on a mount (`model.stac_documents`): a literal path, in which a name is percent-encoded
if it holds one of `# ? ; % \\`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from up42fs.serve.addresses import joined

#: A document without one of these stays as it is.
_MARKS = (b'"stac_version"', b'"FeatureCollection"')


def with_addresses(document: bytes, directory: str, base: str) -> bytes:
    """Return the document with absolute, percent-encoded addresses; another one unchanged."""
    if not any(mark in document for mark in _MARKS):
        return document
    try:
        value = json.loads(document)
    except ValueError:
        return document
    if not isinstance(value, dict):
        return document
    for holder in _holders(value):
        href = holder.get("href")
        if isinstance(href, str):
            holder["href"] = absolute(href, directory, base)
    for properties in _footprints(value):
        path = properties.get("path")
        if isinstance(path, str):
            properties["href"] = joined(base, _beside(directory, path))
    return json.dumps(value, indent=2, ensure_ascii=False).encode(errors="replace") + b"\n"


def absolute(href: str, directory: str, base: str) -> str:
    """The address that a relative href of a document in `directory` means; others unchanged."""
    if not href.startswith(("./", "../")):
        return href
    names = [unquote(name) if "%" in name else name for name in href.split("/")]
    return joined(base, _resolved(directory, names))


def _resolved(directory: str, names: list[str]) -> str:
    reached = [name for name in directory.split("/") if name]
    for name in names:
        if name == "..":
            del reached[-1:]
        elif name not in ("", "."):
            reached.append(name)
    return "/" + "/".join(reached)


def _beside(directory: str, path: str) -> str:
    return _resolved(directory, path.split("/"))


def _holders(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The links and assets of a STAC document."""
    if "stac_version" not in value:
        return
    links, assets = value.get("links"), value.get("assets")
    if isinstance(links, list):
        yield from (link for link in links if isinstance(link, dict))
    if isinstance(assets, dict):
        yield from (asset for asset in assets.values() if isinstance(asset, dict))


def _footprints(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Properties of the features of footprints.geojson."""
    if value.get("type") != "FeatureCollection" or not isinstance(value.get("features"), list):
        return
    for feature in value["features"]:
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if isinstance(properties, dict):
            yield properties

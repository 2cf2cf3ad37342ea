"""Addresses of STAC assets that do not die.

UP42's items name their files by addresses of the API, which have to be signed; a signed link works
for five minutes. A Dask graph, a notebook or a VRT outlives that. `stable` turns such an address
into one that stands for the file for ever, and is signed when somebody reads:

    odc.stac.load(items, patch_url=up42fs.stac.stable)
    pystac_client.Client.open(url, headers=…, modifier=up42fs.stac.stable)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")

#: The address of a running `up42fs serve`, for `stable`.
SERVER = "UP42FS_SERVER"
_ASSET = re.compile(r"/v2/assets/([^/?#]+?)(?:/download-url)?/?")
#: Names below `/v2/assets/` that are no IDs.
_OTHERS = frozenset({"stac"})
_HOSTS = re.compile(r"api(\.[a-z0-9-]+)?\.up42\.com")


def stable(href: T, server: str | None = None) -> T:
    """The address that stands for a file for ever, for an address of UP42's API.

    With `server` (or the environment's `UP42FS_SERVER`), the address of an `up42fs serve`, it is an
    address there, which every program follows; else one of fsspec, `up42://id/ID`. Any other
    address is returned as it is. An item, a collection of items, or their dictionary is changed in
    place: each address of its assets; None is returned, as pystac-client's `modifier` must.
    """
    server = server or os.environ.get(SERVER)
    if isinstance(href, str):
        return _stable(href, server)  # type: ignore[return-value]
    _change(href, partial(_stable, server=server))
    return None  # type: ignore[return-value]


def _stable(href: str, server: str | None) -> str:
    object_id = id_of(href)
    if object_id is None:
        return href
    return f"{server.rstrip('/')}/id/{object_id}" if server else f"up42://id/{object_id}"


def id_of(href: str) -> str | None:
    """The ID of the file that an address of UP42's API means; else None."""
    try:
        parts = urlsplit(href)
        host = parts.hostname or ""
    except ValueError:
        return None
    api = os.environ.get("UP42_API_URL")
    is_ours = _HOSTS.fullmatch(host) or (api and urlsplit(api).netloc == parts.netloc)
    match = _ASSET.fullmatch(parts.path)
    if not is_ours or match is None or match[1] in _OTHERS:
        return None
    found = unquote(match[1])
    return found if re.fullmatch(r"[A-Za-z0-9-]{1,128}", found) else None


def _change(thing: Any, change: Callable[[str], str]) -> None:
    """Change the addresses of the assets of items, as objects or dictionaries."""
    if isinstance(thing, dict):
        for item in thing.get("features") or ():
            _change(item, change)
        for asset in (thing.get("assets") or {}).values():
            if isinstance(asset.get("href"), str):
                asset["href"] = change(asset["href"])
        return
    if hasattr(thing, "assets"):
        for asset in thing.assets.values():
            asset.href = change(asset.href)
    elif hasattr(thing, "__iter__"):
        for item in thing:
            _change(item, change)

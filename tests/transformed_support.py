"""Transformed deliveries made to measure, in the emulator's storage."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pystac
from harness import Emulator, environ
from pystac.validation.stac_validator import JsonSchemaSTACValidator

_VALIDATOR = JsonSchemaSTACValidator()
_KINDS = {
    "Catalog": pystac.STACObjectType.CATALOG,
    "Collection": pystac.STACObjectType.COLLECTION,
    "Feature": pystac.STACObjectType.ITEM,
}


def file(key: str, content: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """A file for `transformed`; without content it tells its own key."""
    made = key.encode() if content is None else content
    return {"key": key, "content_base64": base64.b64encode(made).decode(), **fields}


def transformed(
    emulator: Emulator, name: str, *items: Sequence[dict[str, Any]], **fields: Any
) -> str:
    """Add a delivery with an item for each list of files; returns the asset's ID."""
    asset = emulator.remote.storage("add_asset", name=name, size=5000, **fields)
    put_items(emulator, asset["id"], *items)
    emulator.remote.storage("set_cnam_status", id=asset["id"], status="SUCCESSFUL")
    return str(asset["id"])


def put_items(
    emulator: Emulator, asset_id: str, *items: Sequence[dict[str, Any]], collection: str = "first"
) -> None:
    """Give an asset items, titled `Scene 1` and so on."""
    rows = [
        {"title": f"Scene {number}", "files": list(files)}
        for number, files in enumerate(items, start=1)
    ]
    emulator.remote.storage("put_items", asset_id=asset_id, items=rows, collection=collection)


def cold_list(directory: Path, *arguments: str) -> str:
    """`ls` with these arguments, in the C locale, so that its order is fixed."""
    done = subprocess.run(
        ["ls", *arguments, directory],
        env=environ({"LC_ALL": "C", "TZ": "UTC"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def validate(document: dict[str, Any]) -> None:
    """By the core schemas that pystac bundles (1.1.0, which refuse more than 1.0.0)."""
    core = json.loads(json.dumps(document, allow_nan=False)) | {"stac_version": "1.1.0"}
    _VALIDATOR.validate_core(core, _KINDS[document["type"]], "1.1.0")


def walk(catalog_json: Path) -> dict[str, dict[str, Path]]:
    """The paths of all files by item ID and key, as pystac finds them; validates all documents."""
    catalog = pystac.Catalog.from_file(str(catalog_json))
    validate(catalog.to_dict())
    found: dict[str, dict[str, Path]] = {}
    for collection in catalog.get_children():
        validate(collection.to_dict())
        for item in collection.get_items():
            validate(item.to_dict())
            assert item.get_root() is catalog
            assert item.get_parent() is collection
            assert item.id not in found
            found[item.id] = {key: _path(asset) for key, asset in item.assets.items()}
    return found


def _path(asset: pystac.Asset) -> Path:
    href = asset.get_absolute_href()
    assert href is not None
    return Path(href)


def python(script: str, *arguments: str | Path, timeout_s: float = 120) -> str:
    """Run a script in a process of its own: nothing may map the mount's files in this one."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environ({}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

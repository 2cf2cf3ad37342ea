"""Time and memory of `footprints.geojson` of the whole storage, made from a snapshot.

    python contrib/bench/footprints.py [ASSETS]

Fills a snapshot with generated items, as the crawl leaves it, and makes the document as a mount
does. Prints one line: assets, seconds, those of CPU, bytes of the document, and the growth of the
process.
"""

from __future__ import annotations

import re
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import trio

from up42fs.api.client import Client
from up42fs.api.schema import parse_item
from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.items import Items
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot import item_rows
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Batch, ItemRow
from up42fs.catalog.stored_items import Shelf
from up42fs.fs.branches.footprints import Footprints, document_of
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import ROOT
from up42fs.metrics import Metrics
from up42fs.model import outlines
from up42fs.types import Asset

API = "https://api.up42.com"
BORN = datetime(2024, 1, 1, tzinfo=UTC)


def asset_of(number: int) -> Asset:
    at = BORN + timedelta(seconds=number)
    return Asset(str(UUID(int=number + 1)), f"delivery_{number:06d}.zip", None, 1000, at, at)


def document_of_item(asset: Asset, number: int) -> dict[str, Any]:
    west, south = (number * 0.37) % 350 - 175, (number * 0.11) % 160 - 80
    ring = [[west, south], [west + 0.1, south], [west + 0.1, south + 0.1], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"item-{number}",
        "collection": f"collection-{number}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, west + 0.1, south + 0.1],
        "properties": {
            "datetime": asset.created_at.isoformat(),
            "title": f"scene {number}",
            "eo:cloud_cover": number % 100,
            "up42-system:asset_id": asset.id,
        },
        "links": [],
        "assets": {"data": {"href": f"{API}/v2/assets/{asset.id}", "type": "application/zip"}},
    }


def fill(snapshot: Snapshot, assets: list[Asset]) -> None:
    for first in range(0, len(assets), 5000):
        rows = []
        for number, asset in enumerate(assets[first : first + 5000], start=first):
            item = parse_item(document_of_item(asset, number), API)
            assert item is not None
            packed = item_rows.pack([item]), item_rows.pack_documents([item]), outlines.pack([item])
            rows.append(ItemRow(asset.id, item_rows.version(asset), *packed))
        snapshot.save(Batch(assets=assets[first : first + 5000], items=rows))


def kib(what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def begin_anew() -> None:
    """Let the high-water mark of memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


async def measured(count: int, home: Path) -> None:
    assets = [asset_of(number) for number in range(count)]
    snapshot, index = Snapshot(home / "catalogue.sqlite"), Index()
    fill(snapshot, assets)
    index.apply(Changes(assets=tuple(assets)))
    layout = Layout(index, ())
    layout.children(layout.children(ROOT)["assets"])  # as `ls assets` leaves it
    async with trio.open_nursery() as nursery:
        shelf = Shelf(Recorder(snapshot, index, lambda _: True))
        items = Items(nursery, cast(Client, None), metrics=Metrics(), shelf=shelf)
        documents = Footprints(
            index, items, Descriptions(index, items), lists=True, nursery=nursery, directory=home
        )
        before = kib("VmRSS")
        begin_anew()
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        content = await documents.ensure(document_of(ROOT), layout)
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        grew = kib("VmHWM") - before
        assert content[:].count(b'"Feature"') == count
        made = f"{took_s:.1f} s ({cpu_s:.1f} s of CPU), {len(content):,} bytes"
        print(f"{count} assets: {made}, {grew / 1024:.1f} MiB more")
        nursery.cancel_scope.cancel()
    snapshot.close()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as home:
        trio.run(measured, count, Path(home))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most in all")


if __name__ == "__main__":
    main()

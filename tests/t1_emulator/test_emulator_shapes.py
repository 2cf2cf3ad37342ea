"""Answers have the keys of the recorded ones, where these are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from emulator_support import Emulator, Start

from up42fs.emulator import Storage
from up42fs.emulator.sample import sample_storage
from up42fs.emulator.storage import EmulatedAccount

BASE = "/v2/assets/stac"


def _directory() -> Path | None:
    named = os.environ.get("UP42FS_TEST_RESPONSES")
    default = Path(__file__).parents[3] / "shared" / "api" / "responses"
    path = Path(named) if named else default
    return path if path.is_dir() else None


def recorded(name: str) -> Any:
    directory = _directory()
    if directory is None:
        pytest.skip("no recorded answers: set UP42FS_TEST_RESPONSES to their directory")
    return json.loads((directory / name).read_text())


@pytest.fixture
async def sampled(start: Start, sample_dir: Path) -> Emulator:
    storage: Storage = sample_storage(EmulatedAccount("demo@up42fs.example", "demo"), sample_dir)
    return await start(storage)


async def test_asset_page(sampled: Emulator) -> None:
    page = await sampled.get("/v2/assets", size=100)
    known = recorded("up42-py_assets_page_2023.json")
    assert set(page) == set(known)
    assert set(page["pageable"]) == set(known["pageable"])
    assert set(page["sort"]) == set(known["sort"])
    full = set(recorded("up42-py_asset_metadata_2025.json"))
    assert all(set(row) <= full for row in page["content"])
    assert any(set(row) == full for row in page["content"])


async def test_orders(sampled: Emulator) -> None:
    rows = (await sampled.get("/v2/orders", size=100))["content"]
    known = set(recorded("up42-py_order_tasking_placed_2024.json"))
    assert any(known <= set(row) for row in rows)
    live = set(recorded("up42-py_order_info_live_2023-12.json"))
    # Gone since: the older order also listed these.
    gone = {"userId", "dataProvider", "assets", "correlationId"}
    assert any(live - gone <= set(row) for row in rows)


async def test_stac_landing_page(sampled: Emulator) -> None:
    page, known = await sampled.get(f"{BASE}/"), recorded("up42-py_stac_landing_2023.json")
    assert set(page) == set(known)
    assert set(known["conformsTo"]) <= set(page["conformsTo"])
    ours = [
        (link["rel"], link["href"].removeprefix(sampled.urls.api_url)) for link in page["links"]
    ]
    assert ours == [
        (link["rel"], link["href"].removeprefix("https://api.up42.com")) for link in known["links"]
    ]


async def test_stac_collections(sampled: Emulator) -> None:
    answer = await sampled.get(f"{BASE}/collections", limit=100)
    known = recorded("up42_data-recipes_stac_collections_limit20.json")
    assert set(answer) == set(known)
    always = set.intersection(*(set(row) for row in known["collections"]))
    ever = set.union(*(set(row) for row in known["collections"]))
    for row in answer["collections"]:
        assert always <= set(row) <= ever | {"up42-user:title", "up42-user:tags"}
        rels = [link["rel"] for link in known["collections"][0]["links"]]
        assert [link["rel"] for link in row["links"]] == rels
        assert [[len(pair) for pair in row["extent"]["temporal"]["interval"]]] == [[2]]


async def test_untransformed_items(sampled: Emulator) -> None:
    known = recorded("up42_data-recipes_stac_collection_items.json")
    (feature,) = known["features"]
    found = await sampled.api("POST", f"{BASE}/search", json={"limit": 100})
    rows = found.json()["features"]
    plain = [r for r in rows if r["properties"]["up42-system:metadata_version"] == "0.0.5"]
    assert plain
    for row in plain:
        assert set(row) == set(feature)
        assert set(row["assets"]) == {"data"}
        assert set(row["assets"]["data"]) == set(feature["assets"]["data"])
        assert [link["rel"] for link in row["links"]] == [li["rel"] for li in feature["links"]]
        missing = set(feature["properties"]) - set(row["properties"])
        assert all(key.startswith("view:") for key in missing)


async def test_transformed_items(sampled: Emulator) -> None:
    known = recorded("up42-py_stac_item_cnam_sentinel2_reconstructed.json")
    body = {"filter": {"op": "=", "args": [{"property": "collection_name"}, "sentinel-2"]}}
    found = await sampled.api("POST", f"{BASE}/search", json=body)
    (row,) = found.json()["features"]
    assert set(row) == set(known)
    assert set(row["assets"]) <= set(known["assets"])
    missing = set(known["properties"]) - set(row["properties"])
    assert all(key.startswith(("view:", "sentinel:")) for key in missing)
    for key, asset in row["assets"].items():
        assert asset["type"] == known["assets"][key]["type"]
        # Only rasters made here for every band have their bands described.
        assert set(known["assets"][key]) <= set(asset)
        assert "file:size" not in asset


async def test_search_pages_and_queryables(sampled: Emulator) -> None:
    known = recorded("up42-py_stac_search_page_with_next_2023.json")
    answer = (await sampled.api("POST", f"{BASE}/search", json={"limit": 2})).json()
    assert set(answer) == set(known)
    next_known = next(link for link in known["links"] if link["rel"] == "next")
    next_ours = next(link for link in answer["links"] if link["rel"] == "next")
    assert set(next_ours) == set(next_known)
    queryables = recorded("up42_data-recipes_stac_queryables_2023.json")
    ours = await sampled.get(f"{BASE}/queryables")
    assert set(ours) == set(queryables)
    assert set(queryables["properties"]) <= set(ours["properties"])


@pytest.mark.parametrize("wording", ["old", "new"])
async def test_expired_links(start: Start, wording: str) -> None:
    directory = _directory()
    if directory is None:
        pytest.skip("no recorded answers: set UP42FS_TEST_RESPONSES to their directory")
    import re

    emulator = await start(expired_wording=wording, link_life_s=-10.0)
    asset_id = (await emulator.get("/v2/assets"))["content"][0]["id"]
    answer = await emulator.fetch(asset_id)
    known = (directory / f"gcs_signed_url_expired_{wording}.xml").read_text()
    when = re.compile(r"expired at: [0-9T:+-]+")
    assert when.sub("at", answer.text) == when.sub("at", known.strip())

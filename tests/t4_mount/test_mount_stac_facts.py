"""Bands, results of processing, and searches for what items say; in a real mount."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness import Emulator, Mount, check, emulator, mounted
from test_mount_search import ask, ids_in
from transformed_support import file, transformed

pytestmark = pytest.mark.mount

BLUE = {"name": "B02", "common_name": "blue", "center_wavelength": 0.4966}
RED = {"name": "Band, red: 4", "eo:common_name": "red", "eo:center_wavelength": 0.6645}


def stac(path: Path) -> dict[str, str]:
    shown = {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}
    prefix = "user.up42.stac."
    return {name[len(prefix) :]: text for name, text in shown.items() if name.startswith(prefix)}


@pytest.mark.claim("S304")
def test_bands_and_projection_of_a_file_come_before_its_items(start, mount) -> None:
    service: Emulator = start("--synthetic", "1,1,0")
    files = [
        file("own.tiff") | {"eo:bands": [BLUE, {"name": "B03"}], "proj:code": "EPSG:32633"},
        file("newer.tiff") | {"bands": [RED], "proj:code": "IAU_2015:30100"},
        file("plain.tiff"),
        file("none.tiff") | {"proj:code": None, "proj:epsg": None},
        file("notes.xml") | {"media_type": "application/xml"},
    ]
    said = {"eo:bands": [{"common_name": "pan"}], "proj:code": "EPSG:4326", "gsd": 10}
    asset = transformed(service, "scene.zip", files)
    rows = [{"title": "Scene", "files": files, "properties": said}]
    service.remote.storage("put_items", asset_id=asset, items=rows)
    place = mount(service).path / "assets/scene"
    shown = {each["key"]: stac(place / each["key"]) for each in files}
    assert shown["own.tiff"]["bands"] == "B02:blue:0.4966,B03"
    assert shown["newer.tiff"]["bands"] == "Band_ red_ 4:red:0.6645"
    assert shown["plain.tiff"]["bands"] == "pan"
    assert "bands" not in shown["notes.xml"], "a note has no bands"
    codes = [shown[each["key"]].get("proj_code") for each in files]
    assert codes == ["EPSG:32633", "IAU_2015:30100", "EPSG:4326", None, "EPSG:4326"]
    assert [shown[key].get("epsg") for key in ("own.tiff", "newer.tiff", "plain.tiff")] == [
        "32633", None, "4326",
    ]  # fmt: skip


@pytest.fixture(scope="module", params=["own", "none"])
def results(request: pytest.FixtureRequest, session_home: Path):
    """A storage with results of processing, which name their asset or do not; and a mount."""
    with emulator("--result-asset", request.param) as service:
        options = "refresh=3600"
        with mounted(service.env, "-o", options, home=session_home) as there:
            yield service, there


@pytest.mark.claim("S305")
def test_results_are_found_by_their_job(results: tuple[Emulator, Mount]) -> None:
    service, there = results
    sent = ask(service, "/v2/assets/stac/search", {"limit": 100})["features"]
    jobs: dict[str, set[str]] = {}
    for item in sent:
        job = item["properties"].get("up42-system:job_id")
        if job is not None:
            (only,) = item["assets"].values()
            jobs.setdefault(job, set()).add(only["href"].rpartition("/")[2])
    assert len(jobs) == 2
    for job, assets in jobs.items():
        assert ids_in(there.path / f"search/job={job}") == assets
    assert os.listdir(there.path / "search/job=00000000-0000-0000-0000-000000000000") == []


@pytest.mark.claim("S305")
def test_an_item_says_its_address_and_its_job(sample: Emulator, sample_mount: Mount) -> None:
    rows = ask(sample, "/v2/assets/stac/search", {"limit": 100})["features"]
    by_id = {row["id"]: row for row in rows}
    for path in (sample_mount.path / "orders").glob("Sentinel-2*/*/b02.tiff"):
        said = stac(path)
        item = by_id[said["item_id"]]
        assert said["url"] == next(x["href"] for x in item["links"] if x["rel"] == "self")
        assert said["modality"] == "multispectral"
    result = sample_mount.path / "assets/ndvi_2025.tif"
    asked = os.getxattr(result, "user.up42.stac.job_id").decode()
    assert asked in {row["properties"].get("up42-system:job_id") for row in rows}
    assert os.getxattr(result, "user.up42.stac.url").decode().startswith("http")


@pytest.mark.claim("S306")
@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ("platform=pneo-3", "platform", "PNEO-3"),
        ("modality=MULTISPECTRAL,platform=spot-7", "platform", "SPOT-7"),
        ("platform=sentinel-2a,cloud<10", "platform", "sentinel-2a"),
    ],
)
def test_what_stac_cannot_be_asked_for_is_found(
    sample: Emulator, sample_mount: Mount, query: str, key: str, value: str
) -> None:
    rows = ask(sample, "/v2/assets/stac/search", {"limit": 100})["features"]
    expected = {row["properties"]["up42-system:asset_id"] for row in rows
                if row["properties"].get(key) == value}  # fmt: skip
    assert expected
    assert ids_in(sample_mount.path / "search" / query) == expected


@pytest.mark.claim("S306")
def test_searches_that_memory_answers_cost_nothing(sample: Emulator, sample_mount: Mount) -> None:
    rows = ask(sample, "/v2/assets?size=100")["content"]
    orders = {row["id"]: row for row in ask(sample, "/v2/orders?size=100")["content"]}
    other = sample.remote.storage()["workspace_id"]

    def status(row: dict[str, Any]) -> str | None:
        return orders[row["orderId"]]["status"] if row.get("orderId") else None

    expected = {
        "title=HARBOUR": lambda row: "harbour" in (row.get("title") or "").lower(),
        f"workspace={other.upper()}": lambda row: row["workspaceId"] == other,
        "order_status=being_fulfilled": lambda row: status(row) == "BEING_FULFILLED",
        "updated>=2025": lambda row: row["updatedAt"] >= "2025",
        "updated=2024-04": lambda row: row["updatedAt"].startswith("2024-04"),
        "updated=2023..2024,title=e": lambda row: (
            row["updatedAt"][:4] in ("2023", "2024") and "e" in (row.get("title") or "").lower()
        ),
    }
    began = sample.remote.position()
    shown = {query: ids_in(sample_mount.path / "search" / query) for query in expected}
    assert sample.remote.count(since=began) == 0
    for query, fits in expected.items():
        assert shown[query] == {row["id"] for row in rows if fits(row)} != set(), query
    twice = sample_mount.path / "search/updated>=2024,datetime<2024-05"
    assert json.dumps(sorted(ids_in(twice))) != "[]", "two spans of two fields"
    check("ls", sample_mount.path / "search")

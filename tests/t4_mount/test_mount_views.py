"""Names by title and ID, and the views of workspaces and jobs, in a real mount."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import UP42FS, Emulator, Mount, check, emulator, mounted, wait_until
from test_mount_search import ask, ids_in

pytestmark = pytest.mark.mount

OTHER = "11111111-2222-3333-4444-555555555555"


def names_by_id(place: Path) -> dict[str, str]:
    with os.scandir(place) as entries:
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    return {os.getxattr(each.path, "user.up42.id").decode(): each.name for each in files}


@pytest.mark.claim("S307")
@pytest.mark.parametrize("style", ["title", "id"])
def test_assets_are_named_as_you_want(
    sample: Emulator, session_home: Path, style: str, tmp_path: Path
) -> None:
    rows = {row["id"]: row for row in ask(sample, "/v2/assets?size=100")["content"]}
    cache = ("--cache-dir", str(tmp_path / "cache"))
    options = f"refresh=3600,names={style}"
    for _ in range(2):  # the second mount reads its catalogue from disk
        with mounted(sample.env, "-o", options, *cache, home=session_home) as there:
            shown = names_by_id(there.path / "assets")
            assert shown.keys() == rows.keys()
            pneo = next(row for row in rows.values() if row["title"] == "Tempelhof in April")
            if style == "title":
                assert shown[pneo["id"]] == "Tempelhof in April.zip"
                assert (there.path / "assets/Tempelhof in April/item.json").exists()
                untitled = next(row for row in rows.values() if row["name"] == "ndvi_2025.tif")
                assert shown[untitled["id"]] == "ndvi_2025.tif"
                assert "La Rioja_parcel 12.zip" in shown.values()
            else:
                assert all(name.startswith(id_) for id_, name in shown.items())
                assert shown[pneo["id"]] == f"{pneo['id']}.zip"
            beside = names_by_id(there.path / "tags/vegetation")
            assert beside.items() <= shown.items()
            assert ids_in(there.path / "search/title=tempelhof") == {pneo["id"]}
    path = f"assets/{shown[pneo['id']]}"
    said = check(*UP42FS, "info", "--json", "--names", style, path, env=sample.env)
    assert json.loads(said)["attributes"]["id"] == pneo["id"]


@pytest.mark.claim("S307")
def test_a_new_title_is_a_new_name(start, mount) -> None:
    service: Emulator = start("--synthetic", "1,1,0")
    added = service.remote.storage("add_asset", name="delivery.zip", title="Before")
    there: Mount = mount(service, "-o", "refresh=3600,names=title,rw")
    before, after = there.path / "assets/Before.zip", there.path / "assets/After.zip"
    assert before.exists()
    os.setxattr(before, "user.up42.title", b"After")
    assert after.exists()
    assert not before.exists()
    assert after.name in os.listdir(there.path / "assets")
    os.setxattr(after, "user.up42.title", b"")
    assert "delivery.zip" in os.listdir(there.path / "assets")
    assert (there.path / "assets" / added["id"]).exists()


@pytest.fixture(scope="module")
def two(session_home: Path) -> Iterator[tuple[Emulator, Mount, dict[str, Any]]]:
    """A storage whose assets are in one workspace, and a mount of it."""
    with (
        emulator("--synthetic", "3,1,0") as service,
        mounted(service.env, "-o", "refresh=0.5", home=session_home) as there,
    ):
        yield service, there, service.remote.storage()


@pytest.mark.claim("S308")
def test_workspaces_are_shown_once_there_are_several(
    two: tuple[Emulator, Mount, dict[str, Any]],
) -> None:
    service, there, summary = two
    own = summary["workspace_id"]
    assert "workspaces" not in os.listdir(there.path)
    assert not (there.path / "workspaces").exists()
    first = next((there.path / "assets").glob("*.zip"))
    links = first.stat().st_nlink
    added = service.remote.storage("add_asset", name="theirs.zip", workspace_id=OTHER)
    wait_until(lambda: "workspaces" in os.listdir(there.path), 10, "another workspace is seen")
    assert set(os.listdir(there.path / "workspaces")) == {own, OTHER}
    theirs = there.path / "workspaces" / OTHER
    assert ids_in(theirs) == {added["id"]}
    assert ids_in(there.path / "workspaces" / own) == {row["id"] for row in summary["assets"]}
    assert os.getxattr(theirs, "user.up42.workspace_id").decode() == OTHER
    assert (theirs / "theirs.zip").stat().st_ino == (there.path / "assets/theirs.zip").stat().st_ino
    assert (theirs / "theirs.zip").stat().st_nlink == 3, "assets, its state, its workspace"
    wait_until(lambda: first.stat().st_nlink == links + 1, 10, "a name more")
    with pytest.raises(OSError) as refused:
        (theirs / "new").mkdir()
    assert refused.value.errno == errno.EROFS
    service.remote.storage("remove_asset", id=added["id"])
    wait_until(lambda: "workspaces" not in os.listdir(there.path), 10, "one is left")


@pytest.mark.claim("S308")
def test_a_mount_of_one_workspace_has_no_view_of_them(sample: Emulator, tmp_path: Path) -> None:
    own = sample.remote.storage()["workspace_id"]
    with mounted(sample.env, "--workspace", own, home=tmp_path) as there:
        assert "workspaces" not in os.listdir(there.path)


def jobs_of(service: Emulator) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in ask(service, "/v2/assets/stac/search", {"limit": 100})["features"]:
        if job := item["properties"].get("up42-system:job_id"):
            (only,) = item["assets"].values()
            found.setdefault(job, set()).add(only["href"].rpartition("/")[2])
    return found


@pytest.mark.claim("S309")
def test_results_stand_by_their_job(sample: Emulator, sample_mount: Mount) -> None:
    def asked_since(position: int) -> dict[str, int]:
        asked = sample.requests(position)
        asked.pop("auth.token", None)  # whenever the last one has ended
        return asked

    jobs = jobs_of(sample)
    began = sample.remote.position()
    assert "jobs" in os.listdir(sample_mount.path)
    assert sample.remote.count(since=began) == 0
    place = sample_mount.path / "jobs"
    assert set(os.listdir(place)) == jobs.keys()
    first = asked_since(began)
    assert first in ({}, {"stac.search": 1})  # the crawl may have come to them before
    for job, assets in jobs.items():
        assert ids_in(place / job) == assets
        assert os.getxattr(place / job, "user.up42.stac.job_id").decode() == job
        for path in (place / job).iterdir():
            assert path.samefile(sample_mount.path / "assets" / path.name)
    assert not (place / "no such job").exists()
    assert asked_since(began) == first, "kept for a minute"


@pytest.mark.claim("S309")
@pytest.mark.parametrize(
    "switches",
    [
        ("--null-refused", "400", "--advanced-refused", "501"),
        ("--result-asset", "none"),
    ],
)
def test_jobs_are_found_in_any_dialect(start, mount, switches: tuple[str, ...]) -> None:
    service: Emulator = start(*switches)
    jobs = jobs_of(service)
    there: Mount = mount(service, "-o", "refresh=3600")
    assert {path.name: ids_in(path) for path in (there.path / "jobs").iterdir()} == jobs


@pytest.mark.claim("S309")
def test_without_results_there_is_no_view_of_jobs(start, mount) -> None:
    service: Emulator = start("--synthetic", "2,1,0")
    there: Mount = mount(service, "-o", "refresh=0.5")
    assert "jobs" not in os.listdir(there.path)
    assert os.listdir(there.path / "jobs") == []
    service.remote.storage("add_asset", name="ndvi.tif", source="PROCESSING", job_id="j")
    wait_until(lambda: "jobs" in os.listdir(there.path), 10, "a result came")

"""The commands without a mount, and the library, show the tree that a mount shows: every name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import FORKED, Emulator, become, check, emulator, mounted, wait_until

import up42fs

pytestmark = [pytest.mark.mount, pytest.mark.claim("S398")]

OTHER = "11111111-2222-3333-4444-555555555555"
#: What a mount lists and the commands do not: it tells of the mount.
ONLY_MOUNTED = {"README.txt"}
OPTIONS = {
    "plain": (),
    "all": ("noreadme", "orders=all", "documents", "previews", "footprints", "names=title"),
}
DOCUMENTS = (".json", ".geojson", ".qlr", ".vrt")
#: What of a directory of files a mount learns by and by, from their item.
LEARNED = ("stac.", "id", "name")


class Both(NamedTuple):
    """A mount and the words that show the same by a command."""

    store: Emulator
    mount: Path
    words: list[str]
    below: set[str]

    def shown(self, *command: str) -> str:
        return check(*FORKED, *command[:1], *self.words, *command[1:], env=self.store.env)


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    """The sample, with a second workspace."""
    with emulator() as running:
        running.remote.storage("add_asset", name="theirs.tif", workspace_id=OTHER, size=9)
        yield running


@pytest.fixture(scope="module", params=OPTIONS)
def both(store: Emulator, session_home: Path, request: pytest.FixtureRequest) -> Iterator[Both]:
    options = OPTIONS[request.param]
    words = ["--archives=on", *(f"--{option}" for option in options if option != "noreadme")]
    given = ",".join(("refresh=3600", *options))
    with mounted(store.env, "-o", given, home=session_home) as there:
        wait_until(lambda: (there.path / "workspaces").is_dir(), 30, "the listing")
        below = {
            os.path.relpath(os.path.join(directory, name), there.path)
            for directory, directories, files in os.walk(there.path)
            for name in directories + files
        }
        assert ("README.txt" in below) == ("noreadme" not in options)
        yield Both(store, there.path, words, below - ONLY_MOUNTED)


def test_every_name_is_the_same(both: Both) -> None:
    rows = [json.loads(line) for line in both.shown("find", "--json", "/").splitlines()]
    kinds = {row["path"].strip("/"): row["type"] for row in rows if row["path"] != "/"}
    assert kinds.keys() == both.below
    assert {"workspaces", "jobs"} <= kinds.keys()
    for path, kind in kinds.items():
        assert (both.mount / path).is_dir() == (kind == "directory"), path


def test_each_view_is_listed_by_its_name_alone(both: Both) -> None:
    for view in sorted(os.listdir(both.mount)):
        if view != "search" and (both.mount / view).is_dir():
            names = {name.rstrip("/") for name in both.shown("ls", view).splitlines()}
            assert names == set(os.listdir(both.mount / view)), view
    for view in ("workspaces", "jobs"):
        for name in os.listdir(both.mount / view):
            listed = both.shown("ls", f"{view}/{name}").splitlines()
            assert {each.rstrip("/") for each in listed} == set(
                os.listdir(both.mount / view / name)
            )


def test_each_document_has_the_same_bytes(both: Both) -> None:
    paths = sorted(path for path in both.below if path.endswith(DOCUMENTS))
    # By name these are there whatever is listed.
    orders = os.listdir(both.mount / "orders")
    paths += [f"orders/{order}/order.json" for order in orders]
    paths += [f"tags/{tag}/footprints.geojson" for tag in os.listdir(both.mount / "tags")]
    assert len(paths) > 100
    for few in (paths[at : at + 50] for at in range(0, len(paths), 50)):
        left = both.shown("cat", *few)
        for path in few:  # one after another, so that a failure names the first that differs
            text = (both.mount / path).read_text()
            assert left.startswith(text), (path, text, left[: len(text)])
            left = left[len(text) :]


def test_info_tells_what_getfattr_tells(both: Both) -> None:
    places = [p for p in both.below if p.count("/") == 1 and not p.startswith(("search", "stac"))]
    rows = [json.loads(line) for line in both.shown("info", "--json", *sorted(places)).splitlines()]
    assert len(rows) == len(places) > 50

    def settled(attributes: dict[str, str]) -> dict[str, str]:
        is_item = attributes.get("kind") == "item"
        learned = LEARNED if is_item else LEARNED[:1]
        return {name: value for name, value in attributes.items() if not name.startswith(learned)}

    for row in rows:
        path = both.mount / row["path"]
        told = {
            name.removeprefix("user.up42."): os.getxattr(path, name).decode(errors="replace")
            for name in os.listxattr(path)
            if name.startswith("user.up42.")
        }
        assert settled(row["attributes"]) == settled(told), row["path"]
        assert row["type"] == ("directory" if path.is_dir() else "file")
        if row["size"] is not None:
            assert row["size"] == path.stat().st_size


def test_the_library_lists_the_same_views(
    both: Both, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")
    become(both.store, monkeypatch)
    fs: Any = up42fs.FileSystem(cache_dir=str(tmp_path), mount="never", archives="on")
    assert {path for path in fs.ls("", detail=False) if fs.isdir(path)} == {
        name for name in os.listdir(both.mount) if (both.mount / name).is_dir()
    }
    for view in ("workspaces", "jobs"):
        names = {path.rpartition("/")[2] for path in fs.ls(view, detail=False)}
        assert names == set(os.listdir(both.mount / view))


@pytest.mark.claim("S322")
def test_layers_show_each_item_before_its_directory_was_opened(both: Both) -> None:
    text = both.shown("cat", "tags/Überwachung/layers.qlr")
    for item in ("202602031011_FR1_PX_E013N52_1", "202602031012_FR1_PX_E013N52_2"):
        assert f"{item}/b01.tiff</datasource>" in text
    assert "<layername>Mosaic</layername>" in text

"""Names of deliveries that UP42 gives none: by what readers saw, stable, at no request."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from harness import UP42FS, Emulator, Mount, check, mounted, run, wait_until

pytestmark = pytest.mark.mount


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(zipfile.ZipInfo("inside.txt"), "in the zip")
    return made.getvalue()


def add(service: Emulator, title: str | None, content: bytes, content_type: str, **fields) -> str:
    text = base64.b64encode(content).decode()
    row = service.remote.storage(
        "add_asset",
        name=None,
        title=title,
        content_base64=text,
        content_type=content_type,
        **fields,
    )
    return str(row["id"])


def names(mount: Mount, place: str = "assets") -> set[str]:
    return set(os.listdir(mount.path / place))


@pytest.fixture
def service(start) -> Emulator:
    # Links tell no name, so that the bytes alone decide.
    return start("--synthetic", "1,1,1", "--links-without-names")


@pytest.mark.claim("S174")
@pytest.mark.parametrize("options", [(), ("-o", "rw")])
def test_a_zip_declared_gzip_becomes_one(
    service: Emulator, tmp_path: Path, options: tuple[str, ...]
) -> None:
    asset = add(service, "Harbour", archive(), "application/gzip", tags=["t"])
    kept = ("--cache-dir", str(tmp_path / "cache"), "-o", "refresh=3600", *options)
    with mounted(service.env, *kept, home=tmp_path) as mount:
        places = [mount.path / place for place in ("assets", "tags/t")]
        assert all("Harbour.tgz" in os.listdir(place) for place in places)
        inode = os.stat(places[0] / "Harbour.tgz").st_ino
        before = service.requests()
        with open(places[0] / "Harbour.tgz", "rb") as file:
            assert file.read() == archive()
            # Not under its reader.
            assert all("Harbour.tgz" in os.listdir(place) for place in places)
        wait_until(lambda: "Harbour.zip" in names(mount), 5, "the new name shows")
        for place in places:
            assert "Harbour.tgz" not in os.listdir(place)
            assert os.stat(place / "Harbour.zip").st_ino == inode
            # Whoever knew the old name goes on.
            assert (place / "Harbour.tgz").read_bytes() == archive()
        assert os.getxattr(places[0] / "Harbour.zip", "user.mime_type") == b"application/zip"
        said = os.getxattr(places[0] / "Harbour.zip", "user.up42.content_type")
        assert said == b"application/gzip"
        assert check("unzip", "-p", places[0] / "Harbour.zip") == "in the zip"
        after = service.requests()
        changed = {route: after[route] - before.get(route, 0) for route in after}
        assert {route: count for route, count in changed.items() if count} == {
            "assets.sign": 1,
            "store.get": 1,
        }, "what reading it once takes"
    position = service.remote.position()
    with mounted(service.env, *kept, home=tmp_path) as mount:
        assert "Harbour.zip" in names(mount)
        assert "Harbour.tgz" not in names(mount)
        assert "Harbour.zip" in names(mount, "tags/t")
        links = [r for r in service.remote.log(position) if "download" in r["route"]]
        assert links == [], "names are stable without a look at the bytes"
        # `cache list`, which has no mount to ask, calls it the same.
        cache = mount.status()["disk_cache"]["directory"]
        listed = json.loads(check(*UP42FS, "cache", "list", "--json", "--cache-dir", cache))
        assert [row["name"] for row in listed if row["id"] == asset] == ["Harbour.zip"]
        # An edit and a clash find it under the name that it shows.
        service.remote.storage("set_metadata", id=asset, title="Renamed")
        (mount.path / ".up42fs/refresh").touch()
        wait_until(lambda: "Renamed.zip" in names(mount), 10, "the new title shows")


@pytest.mark.claim("S174")
def test_the_links_own_name_decides_where_bytes_do_not(start, mount) -> None:
    service = start("--synthetic", "1,1,1", "--assets-without-names")
    odd = base64.b64encode(b"\0odd bytes" * 50).decode()
    service.remote.storage("add_asset", name="pass.dim", title="One", content_base64=odd)
    service.remote.storage("add_asset", name="fine.TIFF", content_base64=odd, title=None)
    there = mount(service, "-o", "refresh=3600")
    assert "One.zip" in names(there)
    unnamed = next(name for name in names(there) if name.count("-") == 4 and "." not in name
                   and os.stat(there.path / "assets" / name).st_size == 500)  # fmt: skip
    for name in ("One.zip", unnamed):
        with open(there.path / "assets" / name, "rb") as one, open(one.name, "rb") as other:
            assert one.read(4) == other.read(4) == b"\0odd"
            one.close()
            assert name in names(there), "another reader has it open"
    wait_until(lambda: {"One.dim", f"{unnamed}.TIFF"} <= names(there), 5, "new names show")


def test_delivered_names_stay(service: Emulator, mount) -> None:
    text = base64.b64encode(archive()).decode()
    service.remote.storage("add_asset", name="delivered.tgz", content_base64=text)
    there = mount(service)
    before = names(there)
    assert run("cat", there.path / "assets/delivered.tgz", errors="replace").returncode == 0
    there.rest()
    assert names(there) == before

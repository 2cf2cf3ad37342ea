"""`up42fs cache` on real mounts, and after them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import archive_support as archives
import pytest
import zip_support as zips
from harness import UP42FS, Emulator, Mount, check, emulator, run, wait_until

pytestmark = pytest.mark.mount


def cache_of(there: Mount) -> list[str | Path]:
    return ["--cache-dir", there.status()["disk_cache"]["directory"]]


def read(there: Mount, *paths: Path) -> None:
    """Read files, and wait until what was read is on disk."""
    for path in paths:
        check("sh", "-c", 'exec cat "$0" >/dev/null', path)
    wait_until(lambda: not there.status()["disk_cache"]["queued_bytes"], 10, "all is written")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    data = tmp_path_factory.mktemp("data")
    for number, mib in enumerate((3, 8, 1)):
        (data / f"archive{number}.zip").write_bytes(os.urandom((mib << 20) + number))
    with emulator("--data", str(data)) as running:
        yield running


def test_the_cache_from_outside(files: Emulator, mount) -> None:
    there: Mount = mount(files)
    paths = sorted((there.path / "assets").glob("*.zip"))
    read(there, *paths)
    wait_until(lambda: names(there) >= {p.name for p in paths}, 20, "the catalogue is stored")
    usage = json.loads(check(*UP42FS, "cache", "usage", "--json", *cache_of(there)))
    assert usage["files"] == len(paths)
    assert usage["used_bytes"] >= sum(p.stat().st_size for p in paths)
    assert f"{len(paths)} files" in check(*UP42FS, "cache", "usage", *cache_of(there))
    assert paths[0].name in check(*UP42FS, "cache", "list", *cache_of(there))
    assert "0 bytes of 0 bad" in check(*UP42FS, "cache", "verify", *cache_of(there))

    assert check(*UP42FS, "cache", "pin", paths[0]) == f"pinned {paths[0]}\n"
    kept = [row["name"] for row in listed(there) if row["pinned"]]
    assert kept == [paths[0].name]
    assert "deleted 0 files" in check(*UP42FS, "cache", "clear", "--older-than=1", *cache_of(there))
    assert "deleted 1 file," in check(*UP42FS, "cache", "clear", paths[1], *cache_of(there))
    check(*UP42FS, "cache", "clear", *cache_of(there))
    assert names(there) == {paths[0].name}
    assert "unpinned" in check(*UP42FS, "cache", "unpin", paths[0])
    assert "was not pinned" in check(*UP42FS, "cache", "unpin", paths[0])
    check(*UP42FS, "cache", "clear", *cache_of(there))
    assert names(there) == set()
    check("cmp", paths[1], paths[1])  # the mount goes on


def test_transformed_files_are_called_as_in_the_mount(sample: Emulator, mount) -> None:
    there: Mount = mount(sample, "-o", "refresh=3600")
    (image,) = there.path.glob("orders/Berlin*/*/visual.tiff")
    (of_several,) = there.path.glob("assets/PHR1A_stereo*/*_FR1_*_1/b01.tiff")
    archive = there.find("elevation_berlin.tif")
    read(there, image, of_several, archive)
    wait_until(lambda: None not in {r["path"] for r in listed(there)}, 20, "names are stored")
    rows = {row["name"]: row for row in listed(there)}
    assert there.path / "orders" / rows["visual.tiff"]["path"] == image
    assert rows["visual.tiff"]["order"] == image.parts[-3]
    assert rows["b01.tiff"]["path"].endswith("/".join(of_several.parts[-3:]))
    assert rows["elevation_berlin.tif"]["path"].endswith("elevation_berlin.tif")
    shown = check(*UP42FS, "cache", "list", *cache_of(there))
    assert str(image.relative_to(there.path / "orders")) in shown


def listed(there: Mount) -> list[dict]:
    return json.loads(check(*UP42FS, "cache", "list", "--json", *cache_of(there)))


def names(there: Mount) -> set[str]:
    return {row["name"] or "" for row in listed(there)}


def test_a_damaged_cache_is_told(files: Emulator, mount) -> None:
    there: Mount = mount(files)
    path = max((there.path / "assets").glob("*.zip"), key=lambda p: p.stat().st_size)
    read(there, path)
    directory = Path(there.status()["disk_cache"]["files"])
    (file,) = [one for one in directory.iterdir() if one.name != "claims"]
    with file.open("r+b") as damaged:
        damaged.seek(-100, os.SEEK_END)
        damaged.write(b"x" * 50)
    done = run(*UP42FS, "cache", "verify", *cache_of(there))
    assert done.returncode == 1
    assert "of 1 bad" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["usage", "--cache-size", "0"], "there is no disk cache"),
        (["pin", "/etc/passwd"], "does not lie in an up42fs mount"),
    ],
)
def test_what_the_cache_cannot_do(arguments: list[str], words: str) -> None:
    done = run(*UP42FS, "cache", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_only_delivered_files_can_be_pinned(sample_mount: Mount) -> None:
    done = run(*UP42FS, "cache", "pin", sample_mount.path / ".up42fs")
    assert done.returncode == 1
    assert "has no delivered files in it" in done.stderr
    done = run(*UP42FS, "cache", "pin", sample_mount.path / ".up42fs/README")
    assert done.returncode == 1
    assert "is no delivered file" in done.stderr


def test_a_directory_stands_for_what_is_in_it(files: Emulator, mount) -> None:
    there: Mount = mount(files)
    paths = sorted((there.path / "assets").glob("*.zip"))
    read(there, *paths)
    wait_until(lambda: names(there) >= {p.name for p in paths}, 20, "the catalogue is stored")
    check(*UP42FS, "cache", "pin", there.path / "assets")
    assert [row["pinned"] for row in listed(there)] == [True] * len(paths)
    assert "deleted 0 files" in check(*UP42FS, "cache", "clear", *cache_of(there))
    said = check(*UP42FS, "cache", "unpin", there.path / "assets")
    assert said.splitlines() == [f"unpinned {path}" for path in paths]
    cleared = check(*UP42FS, "cache", "clear", there.path / "assets", *cache_of(there))
    assert f"deleted {len(paths)} files" in cleared


@pytest.mark.claim("S257")
def test_members_are_listed_and_pinned_as_what_they_are(start, mount) -> None:
    store: Emulator = start("--synthetic", "1")
    large, small = archives.pixels(5 << 20), archives.noise(200_000)
    for name, built in {
        "packed.zip": archives.zip_of("packed.zip", {"image.tif": large}),
        "plain.zip": archives.zip_of("plain.zip", {"a.bin": small, "b.bin": small}, zips.STORED),
        "tiles.tgz": archives.tar_of("tgz", {"c.bin": small, "d.bin": small}),
    }.items():
        content = base64.b64encode(built.data).decode()
        store.remote.storage("add_asset", name=name, content_base64=content)
    there: Mount = mount(store, "-o", "refresh=3600")
    assets = there.path / "assets"
    member_of_tgz = assets / "tiles/c.bin"
    read(there, assets / "packed/image.tif", assets / "plain/a.bin", member_of_tgz)
    blocks = Path(there.status()["disk_cache"]["directory"]).glob("blocks/*/*")
    assert any(b"#points" in path.read_bytes()[:4096] for path in blocks if path.is_file())
    # A save of the catalogue, from which the command has its names, gathers changes first.
    wait_until(lambda: None not in {r["path"] for r in listed(there)}, 20, "names are stored")
    listed_text = check(*UP42FS, "cache", "list", *cache_of(there))
    assert "#points" not in listed_text
    assert "seek points" not in listed_text
    assert "packed/image.tif" in listed_text

    assert check(*UP42FS, "cache", "pin", assets / "packed/image.tif").endswith("image.tif\n")
    said = check(*UP42FS, "cache", "pin", assets / "plain/a.bin")
    size = (assets / "plain.zip").stat().st_size
    assert f"with it all that is read of its archive, up to {size:,} bytes" in said
    assert "with it all that is read of its archive" in check(
        *UP42FS, "cache", "pin", member_of_tgz
    )
    pinned = {row["id"] for row in listed(there) if row["pinned"]}
    assert len(pinned) == 3, "the one that holds each member's bytes"
    assert any(one.endswith("!tar") for one in pinned)
    clear = (*UP42FS, "cache", "clear", "--pinned", *cache_of(there))
    assert "deleted 2 files" in check(*clear, assets / "packed/image.tif"), "and its seek points"

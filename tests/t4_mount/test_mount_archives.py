"""Archives as directories, in real mounts: names, costs, attributes, errors, changes."""

from __future__ import annotations

import base64
import errno
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import archive_support as archives
import pytest
import zip_support as zips
from archive_support import Built
from harness import FORKED, Emulator, Mount, check, mounted, run, take_away, wait_until
from transformed_support import file, put_items

pytestmark = pytest.mark.mount

#: The members of `delivery`, which lies stored in a zip.
FILES = archives.standard_files()
STORED = archives.zip_of("delivery.zip", FILES, zips.STORED)


def put(emulator: Emulator, built: Built, name: str | None = None, **fields: object) -> str:
    """Deliver an archive; return its asset's ID."""
    content = base64.b64encode(built.data).decode()
    made = emulator.remote.storage(
        "add_asset", name=name or built.name, content_base64=content, **fields
    )
    return str(made["id"])


@pytest.fixture
def empty(start) -> Emulator:
    return start("--synthetic", "1")


def asked(emulator: Emulator, since: int) -> dict[str, int]:
    """What was requested of the API and the object store; looks for changes left out."""
    routes = emulator.requests(since)
    return {route: n for route, n in routes.items() if route in ("assets.sign", "store.get")}


def soon(is_done: Callable[[], bool]) -> None:
    """Wait until something is so, 20 s at most."""
    deadline_s = time.monotonic() + 20
    while not is_done():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def tree(top: Path) -> dict[str, int]:
    """The files below a directory by path, with their sizes."""
    return {
        str(path.relative_to(top)): path.stat().st_size
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.claim("S240")
def test_members_stand_beside_the_archive(empty: Emulator, mount) -> None:
    put(empty, STORED)
    put(empty, archives.tar_of("tar", FILES), "other.tar")
    there: Mount = mount(empty, "-o", "refresh=3600")
    assets = there.path / "assets"
    assert {"delivery", "delivery.zip", "other", "other.tar"} <= set(os.listdir(assets))
    expected = {path: len(data) for path, data in FILES.items()}
    assert tree(assets / "delivery") == tree(assets / "other") == expected
    for path, data in FILES.items():
        assert (assets / "delivery" / path).read_bytes() == data
        assert (assets / "other" / path).read_bytes() == data
    with pytest.raises(OSError, match="Read-only") as refused:
        (assets / "delivery" / "new").touch()
    assert refused.value.errno == errno.EROFS


@pytest.mark.claim("S240")
def test_the_original_of_a_transformed_asset_is_found_by_name_alone(empty: Emulator, mount) -> None:
    asset = put(empty, STORED)
    put_items(empty, asset, [file("b02.tiff")])
    empty.remote.storage("set_cnam_status", id=asset, status="SUCCESSFUL")
    there: Mount = mount(empty, "-o", "refresh=3600")
    directory = there.path / "assets/delivery"
    assert sorted(os.listdir(directory)) == ["b02.tiff", "item.json"]
    assert directory.stat().st_nlink == 2
    expected = {path: len(data) for path, data in FILES.items()}
    assert tree(directory / "original") == expected
    found = check("find", there.path / "assets", "-name", "image.tif")
    assert found == ""
    name = next(iter(FILES))
    assert (directory / "original" / name).read_bytes() == FILES[name]


@pytest.mark.claim("S241")
def test_names_cost_nothing(start, mount) -> None:
    emulator: Emulator = start("--synthetic", "300")
    there: Mount = mount(emulator, "-o", "refresh=3600")
    os.listdir(there.path / "orders")
    since = emulator.remote.position()
    listed = check("find", there.path / "orders", "-maxdepth", "2").splitlines()
    check("ls", "-l", there.path / "assets")
    check("sh", "-c", f"ls -d '{there.path}'/assets/*/ | wc -l")
    names = [Path(path).name for path in listed]
    archives_listed = [name for name in names if name.endswith(".zip")]
    assert archives_listed
    assert asked(emulator, since) == {}
    for path in listed:
        if path.endswith(".zip"):
            assert path.removesuffix(".zip") in listed
    for directory in (there.path / "orders").iterdir():
        below = sum(entry.is_dir() for entry in os.scandir(directory))
        assert directory.stat().st_nlink == 2 + below


@pytest.mark.claim("S242")
def test_a_table_is_read_once_ever(empty: Emulator, mount, tmp_path: Path) -> None:
    asset = put(empty, archives.zip_of("many.zip", {f"d/{n}.xml": b"<x/>" for n in range(600)}, 0))
    own = ("-o", "refresh=3600", "--cache-dir", str(tmp_path / "cache"))
    first: Mount = mount(empty, *own)
    since = empty.remote.position()
    shown = check("ls", "-lR", "assets/many", cwd=first.path)
    assert asked(empty, since) == {"assets.sign": 1, "store.get": 1}
    assert check("ls", "-lR", "assets/many", cwd=first.path) == shown
    assert asked(empty, since) == {"assets.sign": 1, "store.get": 1}
    inode = (first.path / "assets/many/d/7.xml").stat().st_ino
    take_away(first)
    since = empty.remote.position()
    second: Mount = mount(empty, *own)
    assert check("ls", "-lR", "assets/many", cwd=second.path) == shown
    assert (second.path / "assets/many/d/7.xml").stat().st_ino == inode
    assert asked(empty, since) == {}
    # A title moves the time of the asset's last update, so the table is read anew.
    empty.remote.storage("set_metadata", id=asset, title="Other")
    third: Mount = mount(empty, *own)
    (third.path / ".up42fs/refresh").read_bytes()
    assert len(os.listdir(third.path / "assets/many/d")) == 600


@pytest.mark.claim("S242")
def test_a_large_directory_costs_a_second_range(empty: Emulator, mount) -> None:
    files = {f"a folder with a long name/{n:06d}.a-long-extension": b"" for n in range(3000)}
    put(empty, archives.zip_of("large.zip", files, 0))
    there: Mount = mount(empty, "-o", "refresh=3600")
    since = empty.remote.position()
    assert len(os.listdir(there.path / "assets/large/a folder with a long name")) == 3000
    assert asked(empty, since) == {"assets.sign": 1, "store.get": 2}


@pytest.mark.claim("S243")
def test_what_is_no_archive_loses_its_directory(empty: Emulator, mount, tmp_path: Path) -> None:
    asset = put(empty, archives.not_an_archive("plain.zip"))
    own = ("-o", "refresh=3600", "--cache-dir", str(tmp_path / "cache"))
    there: Mount = mount(empty, *own)
    assets = there.path / "assets"
    links = assets.stat().st_nlink
    assert "plain" in os.listdir(assets)
    with pytest.raises(NotADirectoryError):
        os.listdir(assets / "plain")
    assert "plain" not in os.listdir(assets)
    soon(lambda: not (assets / "plain").exists())  # once the kernel was told
    assert assets.stat().st_nlink == links - 1
    assert "is no archive, although its name says so" in there.log.read_text()
    check("find", assets)
    take_away(there)
    since = empty.remote.position()
    again: Mount = mount(empty, *own)
    assert "plain" not in os.listdir(again.path / "assets")
    assert asked(empty, since) == {}
    # Other bytes get another chance.
    content = base64.b64encode(STORED.data).decode()
    empty.remote.storage("replace_object", id=asset, content_base64=content)
    empty.remote.storage("set_metadata", id=asset, title="Mended")
    (again.path / ".up42fs/refresh").read_bytes()
    soon(lambda: "plain" in os.listdir(again.path / "assets"))
    assert tree(again.path / "assets/plain").keys() == FILES.keys()


@pytest.mark.claim("S244")
def test_sizes_times_and_blocks(empty: Emulator, mount) -> None:
    put(empty, STORED)
    there: Mount = mount(empty, "-o", "refresh=3600,umask=027")
    archive, image = (
        there.path / "assets" / name for name in ("delivery.zip", "delivery/delivery/IMG/image.tif")
    )
    shown = image.stat()
    assert shown.st_size == len(FILES["delivery/IMG/image.tif"])
    assert shown.st_blocks == 0
    assert shown.st_mode & 0o777 == 0o640
    assert (image.parent.stat().st_mode & 0o777, image.parent.stat().st_nlink) == (0o750, 3)
    local = subprocess.run(
        ["unzip", "-Z", "-T", "-l", archive, "delivery/IMG/image.tif"],
        capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"},
    ).stdout  # fmt: skip
    day = check("date", "-u", "-d", f"@{int(shown.st_mtime)}", "+%Y%m%d").strip()
    assert day in local
    both = (archive, archive.with_suffix(""))
    together = sum(int(line.split()[0]) for line in check("du", "-s", "-B1", *both).splitlines())
    assert together == archive.stat().st_blocks * 512


@pytest.mark.claim("S245")
def test_attributes_of_members(empty: Emulator, mount) -> None:
    asset = put(empty, STORED, title="A title")
    there: Mount = mount(empty, "-o", "refresh=3600")
    image = there.path / "assets/delivery/delivery/IMG/image.tif"
    shown = {
        name.removeprefix("user.up42."): os.getxattr(image, name).decode()
        for name in os.listxattr(image)
    }
    assert shown["member.path"] == "delivery/IMG/image.tif"
    assert shown["member.method"] == "stored"
    assert shown["member.compressed_size"] == str(len(FILES["delivery/IMG/image.tif"]))
    assert len(shown["member.crc32"]) == 8
    assert (shown["kind"], shown["name"], shown["title"]) == ("member", "image.tif", "A title")
    assert (shown["id"], shown["user.mime_type"]) == (asset, "image/tiff")
    since = empty.remote.position()
    top = there.path / "assets/delivery"
    assert os.getxattr(top, "user.up42.id").decode() == asset
    assert "user.up42.member.path" not in os.listxattr(top)
    assert asked(empty, since) == {}
    with pytest.raises(OSError, match="No data") as refused:
        os.getxattr(image, "user.up42.download_url")
    assert refused.value.errno == errno.ENODATA


@pytest.mark.claim("S246")
def test_links_in_archives(empty: Emulator, mount) -> None:
    put(empty, archives.zip_symlinks())
    put(empty, archives.tar_links(), "tied.tar")
    there: Mount = mount(empty, "-o", "refresh=3600")
    zipped = there.path / "assets/links/d"
    links = {path.name: os.readlink(path) for path in zipped.iterdir() if path.is_symlink()}
    assert links == {"near": "file.txt", "far": "../d/file.txt"}
    assert (zipped / "far").read_bytes() == (zipped / "file.txt").read_bytes()
    assert (zipped / "absolute").is_file()  # its text, not a link out of the mount
    with pytest.raises(OSError, match="Invalid") as refused:
        os.readlink(zipped / "out")
    assert refused.value.errno == errno.EINVAL
    tied = there.path / "assets/tied/d"
    one, other = (tied / "file").stat(), (tied / "hard").stat()
    assert one.st_ino == other.st_ino
    assert one.st_nlink >= 2


@pytest.mark.claim("S247")
def test_members_that_cannot_be_opened(empty: Emulator, mount) -> None:
    put(empty, archives.zip_unsupported())
    there: Mount = mount(empty, "-o", "refresh=3600")
    top = there.path / "assets/unsupported"
    expected = {
        "encrypted": errno.EACCES,
        "aes": errno.EACCES,
        "deflate64": errno.EOPNOTSUPP,
        "unknown": errno.EOPNOTSUPP,
    }
    for name, number in expected.items():
        assert (top / name).stat().st_size > 0
        with pytest.raises(OSError, match=os.strerror(number)) as refused:
            (top / name).read_bytes()
        assert refused.value.errno == number
        said = [line for line in there.log.read_text().splitlines() if f": {name} of" in line]
        assert len(said) == 1, said
        assert "unsupported.zip (asset" in said[0]
    assert len((top / "good").read_bytes()) == (top / "good").stat().st_size


@pytest.mark.claim("S248")
def test_archives_in_archives(empty: Emulator, mount) -> None:
    built = archives.zip_nested(4)
    put(empty, built)
    there: Mount = mount(empty, "-o", "refresh=3600")
    top = there.path / "assets" / built.name.removesuffix(".zip")
    assert tree(top).keys() == built.files.keys()  # nothing of nested archives is listed
    first = top / "level2/inner"
    assert first.parent.stat().st_nlink == 2
    second = first / "level1/inner"
    assert tree(first).keys() == {"level1/inner.zip"}
    assert tree(second).keys() == {"level0/inner.zip"}
    assert not (second / "level0/inner").exists()  # two are enough
    local = subprocess.run(
        ["unzip", "-l", first / "level1/inner.zip"], capture_output=True, text=True, check=True
    )
    assert "level0/inner.zip" in local.stdout


@pytest.mark.claim("S249")
def test_crowds_do_not_look_into_archives(empty: Emulator, mount, tmp_path: Path) -> None:
    put(empty, STORED)
    put(empty, archives.tar_many(count=3), "tiles.tgz")
    there: Mount = mount(empty, "-o", "refresh=3600,crowd=indexer:searcher=4M")
    indexer, searcher = tmp_path / "indexer", tmp_path / "searcher"
    indexer.symlink_to("/usr/bin/ls")
    searcher.symlink_to("/usr/bin/ls")
    since = empty.remote.position()
    done = run(indexer, "-R", there.path / "assets")
    assert done.stderr.count("Permission denied") >= 2, "it must not take them for empty"
    assert "tiles" in done.stdout
    assert asked(empty, since) == {}
    # A search that may read that much of each file may look into zips, and into no other kind.
    check(searcher, there.path / "assets/delivery")
    assert "Permission denied" in run(searcher, there.path / "assets/tiles").stderr
    assert asked(empty, since) == {"assets.sign": 1, "store.get": 1}
    check(indexer, there.path / "assets/delivery")


@pytest.mark.claim("S250")
def test_members_leave_with_their_archive(empty: Emulator, mount) -> None:
    asset = put(empty, STORED)
    there: Mount = mount(empty, "-o", "refresh=3600")
    path = there.path / "assets/delivery/delivery/README.txt"
    assert path.read_bytes() == FILES["delivery/README.txt"]
    empty.remote.storage("remove_asset", id=asset)
    (there.path / ".up42fs/refresh").read_bytes()
    soon(lambda: not path.exists())
    assert "delivery" not in os.listdir(there.path / "assets")


@pytest.mark.claim("S250")
def test_another_version_has_other_members(empty: Emulator, mount, tmp_path: Path) -> None:
    asset = put(empty, STORED)
    there: Mount = mount(empty, "-o", "refresh=3600")
    top = there.path / "assets/delivery"
    assert (top / "delivery/README.txt").read_bytes() == FILES["delivery/README.txt"]
    other = archives.zip_of("delivery.zip", {"new/one.txt": b"one" * 100_000}, zips.STORED)
    content = base64.b64encode(other.data).decode()
    empty.remote.storage("replace_object", id=asset, content_base64=content)
    empty.remote.storage("set_metadata", id=asset, title="Replaced")
    (there.path / ".up42fs/refresh").read_bytes()
    soon(lambda: check("ls", top) == "new\n")
    assert (top / "new/one.txt").read_bytes() == b"one" * 100_000


@pytest.mark.claim("S250")
@pytest.mark.parametrize("is_lie", [True, False])
def test_a_version_that_the_catalogue_does_not_tell_of(
    empty: Emulator, mount, is_lie: bool
) -> None:
    """Its table is read again: the stored one, of the same time, opens nothing any more."""
    files = {f"{n}.bin": archives.noise(2 << 20, n) for n in range(3)}
    content = base64.b64encode(archives.zip_of("big.zip", files, zips.STORED).data).decode()
    made = empty.remote.storage("add_asset", name="big.zip", content_base64=content)
    there: Mount = mount(empty, "-o", "refresh=3600")
    top = there.path / "assets/big"
    assert sorted(os.listdir(top)) == sorted(files)
    now = files
    if is_lie:
        empty.remote.faults(fail_plane="store", wrong_total=True, fail_next=1)
    else:
        now = {f"{n}.bin": archives.noise(2 << 20, 10 + n) for n in range(4)}
        content = base64.b64encode(archives.zip_of("big.zip", now, zips.STORED).data).decode()
        empty.remote.storage("replace_object", id=made["id"], content_base64=content)

    def is_right() -> bool:
        try:
            return {name: (top / name).read_bytes() for name in os.listdir(top)} == now
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False

    soon(is_right)


@pytest.mark.claim("S251")
@pytest.mark.parametrize("how", ["hidden", "off"])
def test_the_option(empty: Emulator, mount, how: str) -> None:
    asset = put(empty, STORED)
    there: Mount = mount(empty, "-o", f"refresh=3600,archives={how}")
    assets = there.path / "assets"
    assert "delivery" not in os.listdir(assets)
    assert (assets / "delivery").exists() == (how == "hidden")
    assert (assets / f"{asset} (files)").exists() == (how == "hidden")
    if how == "hidden":
        assert tree(assets / "delivery") == {path: len(data) for path, data in FILES.items()}


@pytest.mark.claim("S251")
def test_the_directory_has_an_alias_by_its_id(empty: Emulator, mount) -> None:
    asset = put(empty, STORED)
    there: Mount = mount(empty, "-o", "refresh=3600")
    alias = there.path / "assets" / f"{asset.upper()} (files)"
    assert tree(alias) == tree(there.path / "assets/delivery")
    assert f"{asset} (files)" not in os.listdir(there.path / "assets")


@pytest.mark.claim("S252")
def test_items_name_the_images_in_archives(sample: Emulator, mount) -> None:
    there: Mount = mount(sample, "-o", "refresh=3600")
    found: dict[Path, list[str]] = {}
    for document in there.path.glob("stac/*/*/*.json"):
        rows = json.loads(document.read_text()).get("assets", {})
        images = [row["href"] for row in rows.values() if row["href"].endswith(".TIF")]
        if images:
            found[document] = images
    assert found
    for document, images in found.items():
        assert (
            set(os.listdir(document.parent)) & {Path(image).parts[0] for image in images} == set()
        )
        for image in images:
            path = document.parent / image
            assert "Driver: GTiff" in check("gdalinfo", path)
            # The same member as beside the archive, so the same inode and bytes.
            name = os.getxattr(path, "user.up42.member.path").decode()
            beside = [
                top / name
                for top in (there.path / "assets").iterdir()
                if top.is_dir() and (top / name).exists()
            ]
            assert path.stat().st_ino in {other.stat().st_ino for other in beside}


@pytest.mark.claim("S243")
def test_a_zip_that_is_cut_short_is_called_damaged(empty: Emulator, mount) -> None:
    content = base64.b64encode(STORED.data[: len(STORED.data) // 2]).decode()
    empty.remote.storage("add_asset", name="cut.zip", content_base64=content)
    there: Mount = mount(empty, "-o", "refresh=3600")
    for _ in range(2):
        assert "Input/output error" in run("ls", there.path / "assets/cut").stderr
    assert "does not end as one" in there.log.read_text()
    assert (there.path / "assets/cut.zip").stat().st_size == len(STORED.data) // 2


@pytest.mark.claim("S358")
def test_searches_and_footprints_know_directories_of_archives(sample: Emulator, mount) -> None:
    there: Mount = mount(sample, "-o", "refresh=3600")
    assets = there.path / "assets"
    footprints = json.loads((assets / "footprints.geojson").read_text())
    rows = [row["properties"] for row in footprints["features"]]
    listed = set(os.listdir(assets))
    named = [row for row in rows if row["directory"] is not None]
    assert {row["directory"] for row in named} <= listed
    packed = [row for row in named if row["status"] == "NOT_PROCESSED"]
    looked_at = 0
    for row in packed:
        try:
            members = tree(assets / row["directory"])
        except NotADirectoryError:
            continue  # not every file of the sample is the archive that its name says
        if not members:
            continue
        looked_at += 1
        results = there.path / "search/status=NOT_PROCESSED"
        assert {row["path"], row["directory"]} <= set(os.listdir(results))
        # A member resolves below a search that nothing has listed, and is the same file.
        path = max(members)
        beside = assets / row["directory"] / path
        found = there.path / "search/status=NOT_PROCESSED,updated>2000" / row["directory"] / path
        assert found.read_bytes() == beside.read_bytes()
        assert found.stat().st_ino == beside.stat().st_ino
    assert looked_at


@pytest.mark.claim("S253")
def test_warm_reads_an_archive_or_its_members(empty: Emulator, mount, tmp_path: Path) -> None:
    put(empty, archives.zip_of("packed.zip", FILES))
    own_cache = tmp_path / "cache"
    there: Mount = mount(empty, "-o", "refresh=3600", "--cache-dir", str(own_cache))
    assets = there.path / "assets"
    said = check(*FORKED, "warm", "--estimate", assets / "packed.zip")
    assert said.startswith("1 file, ")
    image = assets / "packed/delivery/IMG/image.tif"
    assert int(os.getxattr(image, "user.up42.cached")) == 0
    said = check(*FORKED, "warm", assets / "packed")
    assert said.startswith(f"{len(FILES)} files, ")
    assert int(os.getxattr(image, "user.up42.cached")) == len(FILES["delivery/IMG/image.tif"])
    since = empty.remote.position()
    assert image.read_bytes() == FILES["delivery/IMG/image.tif"]
    assert asked(empty, since) == {}
    told = check(*FORKED, "explain", image)
    assert "image.tif" in told
    pinned = check(*FORKED, "cache", "pin", image, "--cache-dir", own_cache, env=empty.env)
    assert pinned == f"pinned {image}\n"
    command = (*FORKED, "cache", "list", "--cache-dir", own_cache)

    def of_image() -> list[str]:
        lines = check(*command, env=empty.env).splitlines()
        return [line for line in lines if "packed/delivery/IMG/image.tif" in line]

    # A save of the catalogue, from which the command has its names, gathers changes first.
    wait_until(of_image, 20, "names are stored")
    assert any(line.endswith(" pinned") for line in of_image())
    # From above, an archive counts as a file, and its members are not read beside it.
    count = sum(1 for path in assets.iterdir() if path.is_file())
    said = check(*FORKED, "warm", "--estimate", assets)
    assert f"{count} file" in said or f"{count + 2} file" in said  # one asset is transformed


@pytest.mark.claim("S254")
def test_a_compressed_tar_is_listed_once_it_was_read_through(
    empty: Emulator, mount, tmp_path: Path
) -> None:
    built = archives.tar_of("tgz", archives.standard_files(4_000_000))
    put(empty, built, "delivery.tgz")
    own = ("-o", "refresh=3600", "--cache-dir", str(tmp_path / "cache"))
    there: Mount = mount(empty, *own)
    top = there.path / "assets/delivery"
    empty.remote.faults(bandwidth_bytes_s=300_000)
    with subprocess.Popen(["ls", "-R", top], stdout=subprocess.PIPE, text=True) as listing:
        reading: list[dict] = []
        while listing.poll() is None:
            reading += there.status()["archives"]
            time.sleep(0.05)
        assert listing.stdout is not None
        assert "image.tif" in listing.stdout.read()
    empty.remote.faults(bandwidth_bytes_s=None)
    assert {row["name"].partition(" ")[0] for row in reading} == {"delivery.tgz"}
    assert sorted(row["done_bytes"] for row in reading)[-1] > 0
    for path, data in built.files.items():
        assert (top / path).read_bytes() == data
    take_away(there)
    since = empty.remote.position()
    again: Mount = mount(empty, *own)
    for path, data in built.files.items():
        assert (again.path / "assets/delivery" / path).read_bytes() == data
    assert asked(empty, since) == {}


@pytest.mark.claim("S255")
def test_sidecars_beside_members(empty: Emulator, mount, tmp_path: Path) -> None:
    image = archives.image_bytes(size=256)
    put(empty, archives.zip_of("images.zip", {"a/scene.tif": image}, zips.STORED))
    env = {**empty.env, "XDG_DATA_HOME": str(tmp_path / "data")}
    with mounted(env, "-o", "refresh=3600,sidecars", home=tmp_path) as mount_:
        scene = mount_.path / "assets/images/a/scene.tif"
        assert scene.read_bytes() == image
        check("gdalinfo", "-stats", scene)
        assert "STATISTICS_MEAN" in scene.with_name("scene.tif.aux.xml").read_text()
        assert sorted(os.listdir(scene.parent)) == ["scene.tif", "scene.tif.aux.xml"]
        with pytest.raises(OSError, match="Read-only"):
            scene.with_name("other.txt").write_text("no")
    with mounted(env, "-o", "refresh=3600,sidecars", home=tmp_path) as again:
        scene = again.path / "assets/images/a/scene.tif"
        assert "STATISTICS_MEAN" in scene.with_name("scene.tif.aux.xml").read_text()


@pytest.mark.claim("S258")
def test_members_are_prefetched_along_their_directory(empty: Emulator, mount) -> None:
    """What `cp -r` reads next is on its way: else each member would cost a round trip."""
    data = {f"tile{number:02}.bin": archives.noise(300_000, number) for number in range(12)}
    put(empty, archives.zip_of("tiles.zip", data), "tiles.zip")
    put(empty, archives.zip_of("plain.zip", data, zips.STORED), "plain.zip")
    there: Mount = mount(empty, "-o", "refresh=3600")
    for stem in ("tiles", "plain"):
        before = there.counters().get("siblings.read_files", 0)
        for name in sorted(data):
            assert (there.path / "assets" / stem / name).read_bytes() == data[name]
        # The first two show the course; how soon prefetching follows them depends on the machine.
        assert there.counters()["siblings.read_files"] - before >= 4
    assert there.counters()["siblings.wasted_files"] == 0

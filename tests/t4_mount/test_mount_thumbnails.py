"""Thumbnails in file managers: what tumbler shows of a mount, and what that costs.

Tumbler is the service that Thunar, PCManFM-Qt and others ask by D-Bus; it runs here for real, with
the entry that `up42fs setup` installs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from harness import Emulator, Mount, check, emulator, mounted, run, wait_until

pytestmark = [
    pytest.mark.mount,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
TUMBLER = next(iter(Path("/usr/lib").glob("*/tumbler-1/tumblerd")), None)
NEEDED = ("dbus-run-session", "gdbus")
#: An image of a mount may cost so much (issue 21), bytes.
MOST_BYTES = 256 << 10
SERVICE = "org.freedesktop.thumbnails.Thumbnailer1"
UP42FS = (sys.executable, "-P", "-m", "up42fs")


def make_images(place: Path) -> None:
    """A COG of megabytes with overviews, a short JPEG 2000, and one that has no small overview."""
    noise = np.random.default_rng(1).integers(0, 255, (3, 2048, 2048), dtype=np.uint8)
    ramp = np.linspace(0, 200, 2048).astype(np.uint8)
    noise[:, ::2] = ramp
    profile = {"crs": "EPSG:32633", "transform": Affine(10, 0, 400000, 0, -10, 5800000)}
    shape = {"count": 3, "dtype": "uint8", "height": 2048, "width": 2048}
    raw = place.parent / "raw.tif"
    with rasterio.open(raw, "w", driver="GTiff", **shape, **profile) as image:
        image.write(noise)
    options = {"driver": "COG", "compress": "DEFLATE", "blocksize": 256}
    rasterio.shutil.copy(raw, place / "scene.tif", **options)
    rasterio.shutil.copy(raw, place / "huge.tif", driver="GTiff", compress="DEFLATE", tiled=True)
    small = {**shape, "height": 300, "width": 300}
    with rasterio.open(place / "small.jp2", "w", driver="JP2OpenJPEG", **small) as image:
        image.write(noise[:, :300, :300])
    with rasterio.open(place / "delivery.preview.jpg", "w", driver="JPEG", **small) as image:
        image.write(noise[:, :300, :300])
    odd = place.parent / "Odd"
    odd.mkdir()
    picture = (place / "delivery.preview.jpg").read_bytes()
    (odd / "long.preview.jpg").write_bytes(picture + bytes(6 << 20))
    (odd / "broken.preview.jpg").write_bytes(b"<html>404</html>")
    for path in (
        *(place / f"{n}.zip" for n in ("delivery", "plain")),
        odd / "long.zip",
        odd / "broken.zip",
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.txt", b"x" * 100_000)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    place = tmp_path_factory.mktemp("data") / "Order"
    place.mkdir()
    make_images(place)
    with emulator("--data", str(place.parent)) as running:
        yield running


@pytest.fixture(scope="module")
def mount(service: Emulator, session_home: Path) -> Iterator[Mount]:
    env = service.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with mounted(env, "-o", "refresh=3600,footprints,previews", home=session_home) as one:
        wait_until(lambda: (one.status()["items"] or {}).get("plain_missing") == 0, 60, "the crawl")
        yield one


@dataclass
class Desktop:
    """A session bus with tumbler on it, and the home in which thumbnails are kept."""

    home: Path
    env: dict[str, str]

    def queue(self, path: Path, mime_type: str) -> None:
        address = f"['{path.as_uri()}']"
        check(
            *("gdbus", "call", "--session", "--dest", SERVICE),
            *("--object-path", "/org/freedesktop/thumbnails/Thumbnailer1"),
            *("--method", f"{SERVICE}.Queue", address, f"['{mime_type}']"),
            *("normal", "foreground", "0"),
            env=self.env,
        )

    def made(self, path: Path) -> Path | None:
        """The thumbnail, or the note that there is none."""
        name = f"{hashlib.md5(path.as_uri().encode(), usedforsecurity=False).hexdigest()}.png"
        kept = self.home / ".cache/thumbnails"
        found = [*kept.glob(f"normal/{name}"), *kept.glob(f"fail/*/{name}")]
        return found[0] if found else None

    def thumbnail(self, path: Path, mime_type: str) -> Path:
        self.queue(path, mime_type)
        wait_until(lambda: self.made(path) is not None, 60, f"a thumbnail of {path}")
        found = self.made(path)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if TUMBLER is None or lacking:
        pytest.skip(f"NOT TESTED: thumbnails need {', '.join(['tumbler', *lacking])}")
    home = tmp_path_factory.mktemp("desktop")
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    check(*UP42FS, "setup", "--user", env=env)
    # A bus of its own, whose address it prints; it ends with its one program.
    process = subprocess.Popen(
        ["dbus-run-session", "--", "sh", "-c", "echo $DBUS_SESSION_BUS_ADDRESS; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Desktop(home, env | {"DBUS_SESSION_BUS_ADDRESS": process.stdout.readline().strip()})
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def cost(mount: Mount, before: dict[str, int]) -> dict[str, int]:
    mount.rest()
    after = mount.counters()
    names = ("store.signs", "store.requests", "store.bytes_fetched")
    return {name.split(".")[1]: after.get(name, 0) - before.get(name, 0) for name in names}


def pixels(path: Path) -> int:
    with rasterio.open(path) as picture:
        return max(picture.width, picture.height)


@pytest.mark.claim("S361")
def test_tumbler_shows_a_cog_for_256_kib(mount: Mount, desktop: Desktop) -> None:
    path, before = mount.path / "assets/scene.tif", mount.counters()
    assert path.stat().st_size > 4 << 20
    found = desktop.thumbnail(path, "image/tiff")
    assert "fail" not in found.parts
    assert pixels(found) == 128
    spent = cost(mount, before)
    assert spent["bytes_fetched"] <= MOST_BYTES, check(*UP42FS, "explain", path)
    assert spent["signs"] == 1
    assert spent["requests"] <= 4


@pytest.mark.claim("S361")
def test_tumbler_shows_a_jpeg_2000(mount: Mount, desktop: Desktop) -> None:
    path, before = mount.path / "assets/small.jp2", mount.counters()
    found = desktop.thumbnail(path, "image/jp2")
    assert "fail" not in found.parts
    assert cost(mount, before)["bytes_fetched"] <= path.stat().st_size


@pytest.mark.claim("S361")
def test_tumbler_shows_an_archive_by_the_thumbnail_that_up42_has(
    mount: Mount, desktop: Desktop
) -> None:
    path, before = mount.path / "assets/delivery.zip", mount.counters()
    found = desktop.thumbnail(path, "application/zip")
    assert "fail" not in found.parts
    with rasterio.open(found) as picture:
        ramp = picture.read(1).astype(int)
    assert ramp[:, -1].mean() > ramp[:, 0].mean(), "it is the picture that UP42 has"
    spent = cost(mount, before)
    assert spent["signs"] == spent["requests"] == 1
    assert spent["bytes_fetched"] <= MOST_BYTES


@pytest.mark.claim("S361")
@pytest.mark.parametrize(
    ("name", "reason", "most"),
    [
        ("huge.tif", "no overview of at most 256 KiB", MOST_BYTES),
        ("plain.zip", "UP42 has no thumbnail of it", 0),
        ("broken.zip", "of the thumbnail that UP42 has of it: it cannot be decoded", 1 << 10),
        # Its size comes with its head.
        ("long.zip", "has of it has more than 4 MiB", 128 << 10),
    ],
)
def test_what_has_no_picture_says_so_and_costs_little(
    mount: Mount, tmp_path: Path, name: str, reason: str, most: int
) -> None:
    before = mount.counters()
    made = run(*UP42FS, "thumbnail", mount.path / "assets" / name, tmp_path / "picture.png")
    assert made.returncode == 1
    assert reason in made.stderr
    assert not (tmp_path / "picture.png").exists()
    assert cost(mount, before)["bytes_fetched"] <= most


def test_small_images_without_overviews_are_decoded_whole(tmp_path: Path) -> None:
    """All of one comes with its head; the table of the other stands behind its pixels."""
    noise = np.random.default_rng(2).integers(0, 255, (1, 400, 400), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    for name, side in (("short.tif", 60), ("flat.tif", 400)):
        shape = {"count": 1, "dtype": "uint8", "height": side, "width": side}
        path = tmp_path / "data" / name
        with rasterio.open(path, "w", driver="GTiff", compress="LZW", **shape) as image:
            image.write(noise[:, :side, :side])
            image.update_tags(note="x" * 5000)
    with (
        emulator("--data", str(tmp_path / "data")) as running,
        mounted(running.env, home=tmp_path) as there,
    ):
        for name in ("short.tif", "flat.tif"):
            path, picture = there.path / "assets" / name, tmp_path / f"{name}.png"
            check(*UP42FS, "thumbnail", path, picture)
            with rasterio.open(picture) as made:
                assert made.read(1).std() > 10, "it has its pixels"
                assert (made.read(4) > 0).all()


def test_it_serves_local_images_too(service: Emulator, tmp_path: Path) -> None:
    """File managers ask the one entry for every TIFF of the machine."""
    image = tmp_path / "ä local.tif"
    with rasterio.open(
        image, "w", driver="GTiff", height=40, width=30, count=1, dtype="float32", nodata=-1
    ) as raster:
        values = np.arange(1200, dtype="float32").reshape(1, 40, 30)
        values[:, :10, :10] = -1
        raster.write(values)
    check(*UP42FS, "thumbnail", "--size", "20", image.as_uri(), tmp_path / "picture.png")
    with rasterio.open(tmp_path / "picture.png") as picture:
        assert (picture.width, picture.height, picture.count) == (15, 20, 4)
        assert picture.read(4)[0, 0] == 0, "what has no data is not seen"
        assert picture.read(1)[-1, -1] == 255
    for content in (b"", b"II*\0", b"II*\0" + b"\xff" * 5000, b"\x00\x00\x00\x0cjP  \r\n\x87\n"):
        (tmp_path / "odd.tif").write_bytes(content)
        made = run(*UP42FS, "thumbnail", tmp_path / "odd.tif", tmp_path / "none.png")
        assert made.returncode == 1
        assert "no picture of" in made.stderr
        assert "Traceback" not in made.stderr


@pytest.mark.claim("S361")
def test_a_thumbnail_of_one_file_is_no_listing_of_all(
    sample: Emulator, session_home: Path, tmp_path: Path
) -> None:
    with mounted(sample.env, "-o", "refresh=3600", home=session_home) as one:
        (path,) = (one.path / "assets").glob("earthsearch-aws*/b04.tiff")
        check(*UP42FS, "thumbnail", path, tmp_path / "picture.png")
        one.rest()
        # The size of the file, and the item's preview.
        assert one.counters()["store.signs"] == 2
        assert one.counters()["store.bytes_fetched"] <= MOST_BYTES


@pytest.mark.claim("S390")
def test_a_picture_costs_256_kib_with_stat_and_what_is_beside_it(
    service: Emulator, session_home: Path, tmp_path: Path
) -> None:
    """UP42 does not report the sizes of the files that it made; more images stand beside."""
    with mounted(service.env, "-o", "refresh=3600", home=session_home) as one:
        (path,) = (one.path / "assets/scene").glob("*.tif*")
        (beside,) = (one.path / "assets/huge").glob("*.tif*")
        before = one.counters()
        assert path.stat().st_size > 4 << 20
        check(*UP42FS, "thumbnail", path, tmp_path / "picture.png")
        spent = cost(one, before)
        assert 0 < spent["bytes_fetched"] <= MOST_BYTES
        assert pixels(tmp_path / "picture.png") == 256
        before = one.counters()
        for _ in range(2):
            assert run(*UP42FS, "thumbnail", beside, tmp_path / "none.png").returncode == 1
        assert cost(one, before)["bytes_fetched"] <= MOST_BYTES


@pytest.mark.claim("S390")
def test_pictures_of_a_directory_prefetch_nothing(mount: Mount, tmp_path: Path) -> None:
    """Programs that read files in order get those that follow; pictures are no such reads."""
    mount.rest()  # what earlier tests read
    before = mount.counters()
    names = ("broken.zip", "huge.tif", "small.jp2")
    for name in names:
        run(*UP42FS, "thumbnail", mount.path / "assets" / name, tmp_path / "picture.png")
    mount.rest()
    after = mount.counters()
    assert {n: after[n] for n in after if n.startswith("siblings.")} == {
        n: before.get(n, 0) for n in after if n.startswith("siblings.")
    }
    assert cost(mount, before)["bytes_fetched"] <= MOST_BYTES * len(names)


@pytest.mark.claim("S390")
def test_bytes_are_read_by_an_attribute(mount: Mount) -> None:
    path = mount.path / "assets/plain.zip"
    content = path.read_bytes()
    assert os.getxattr(path, "user.up42.bytes.10-5000") == content[10:5000]
    end = len(content)
    assert os.getxattr(path, f"user.up42.bytes.{end - 7}-{end + 9}") == content[-7:]
    assert os.getxattr(path, f"user.up42.bytes.{end}-{end + 9}") == b""
    assert not [name for name in os.listxattr(path) if ".bytes." in name]
    for odd in ("5-5", "0-70000", "x", "-1-4", f"0-{1 << 80}"):
        with pytest.raises(OSError, match="Invalid argument"):
            os.getxattr(path, f"user.up42.bytes.{odd}")


@pytest.mark.claim("S391")
def test_a_network_that_is_down_is_said_and_is_no_lack_of_a_picture(
    session_home: Path, service: Emulator, tmp_path: Path
) -> None:
    env = service.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with mounted(env, "-o", "refresh=3600", home=session_home) as one:
        known = lambda: (one.status()["items"] or {}).get("plain_missing") == 0  # noqa: E731
        wait_until(known, 60, "the crawl")
        service.remote.faults(fail_route="assets.sign", fail_status=403)
        try:
            made = run(*UP42FS, "thumbnail", one.path / "assets/delivery.zip", tmp_path / "p.png")
        finally:
            service.remote.faults(fail_route=None, fail_status=None)
    assert made.returncode == 1
    assert "Permission denied" in made.stderr
    assert made.stderr.count("\n") == 1


# -- beside deliveries


@pytest.mark.claim("S360")
def test_a_thumbnail_stands_beside_its_archive(
    service: Emulator, mount: Mount, session_home: Path, tmp_path: Path
) -> None:
    before = mount.counters()
    for place in ("orders/Order", "search/text=delivery"):
        names = sorted(os.listdir(mount.path / place))
        assert "delivery.preview.jpg" in names
        assert [n for n in names if ".preview." in n] == ["delivery.preview.jpg"]
    assert "delivery.preview.jpg" not in os.listdir(mount.path / "assets")
    assert cost(mount, before)["requests"] == 0
    picture = (mount.path / "orders/Order/delivery.preview.jpg").read_bytes()
    assert picture.startswith(b"\xff\xd8")
    assert (mount.path / "assets/delivery.preview.jpg").read_bytes() == picture
    for name in ("plain.preview.jpg", "scene.preview.jpg", "delivery.preview.png"):
        assert not (mount.path / "assets" / name).exists()
    check("cp", "-r", mount.path / "orders/Order", tmp_path / "copy")
    assert (tmp_path / "copy/delivery.preview.jpg").read_bytes() == picture


@pytest.mark.claim("S360")
def test_a_long_picture_can_be_copied_too(mount: Mount, tmp_path: Path) -> None:
    """What programs for pictures are given is bounded; a file that is listed can be read."""
    check("cp", "-r", mount.path / "orders/Odd", tmp_path / "copy")
    picture = (tmp_path / "copy/long.preview.jpg").read_bytes()
    assert picture.startswith(b"\xff\xd8")
    assert len(picture) > 6 << 20
    inodes = {
        (mount.path / path).stat().st_ino
        for path in ("orders/Odd/long.preview.jpg", "stac/long/long/thumbnail.jpg")
    }
    assert len(inodes) == 1


@pytest.mark.claim("S360")
def test_it_is_not_listed_unless_you_want_it(service: Emulator, session_home: Path) -> None:
    env = service.env | {"UP42FS_CRAWL_AFTER_S": "0"}
    with mounted(env, "-o", "refresh=3600", home=session_home) as plain:
        picture = plain.path / "orders/Order/delivery.preview.jpg"
        # The kernel keeps no "there is none": the name works once the crawl has come to it.
        wait_until(picture.exists, 60, "the crawl")
        assert picture.read_bytes().startswith(b"\xff\xd8")
        assert not [name for name in os.listdir(picture.parent) if ".preview." in name]


@pytest.mark.claim("S360")
def test_a_preview_is_read_in_pieces_of_an_attribute(mount: Mount) -> None:
    picture = (mount.path / "assets/delivery.preview.jpg").read_bytes()
    path = mount.path / "assets/delivery.zip"
    pieces = [
        os.getxattr(path, f"user.up42.preview.{at}-{at + 5000}")
        for at in range(0, len(picture), 5000)
    ]
    assert b"".join(pieces) == picture
    assert os.getxattr(path, f"user.up42.preview.{len(picture)}-{len(picture) + 9}") == b""
    assert not [name for name in os.listxattr(path) if "preview" in name]
    for odd in ("5-5", "0-70000", "x", "-1-4"):
        with pytest.raises(OSError, match="Invalid argument"):
            os.getxattr(path, f"user.up42.preview.{odd}")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(mount.path / "assets/plain.zip", "user.up42.preview.0-9")

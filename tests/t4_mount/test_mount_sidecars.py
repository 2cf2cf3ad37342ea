"""Sidecars through real mounts: what GDAL, QGIS and people write beside an image stays here."""

from __future__ import annotations

import base64
import errno
import json
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    IN_A_NAMESPACE,
    UP42FS,
    Emulator,
    Mount,
    as_nobody,
    check,
    environ,
    interpreter_for_others,
    is_running,
    mounted,
    run,
    wait_until,
)
from test_mount_qgis import PYTHON, why_no_qgis

pytestmark = pytest.mark.mount

SCENE = "assets/earthsearch-aws_e1693a6c-1bfa-4b0a-acd9-752d73dd6e0e"
OPTIONS = ("-o", "sidecars,refresh=3600")


def home_of(sample: Emulator, data: Path) -> dict[str, str]:
    return sample.env | {"XDG_DATA_HOME": str(data)}


@pytest.fixture
def env(sample: Emulator, tmp_path: Path) -> dict[str, str]:
    return home_of(sample, tmp_path / "data")


@pytest.fixture(scope="module")
def there(sample: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount for tests that leave no sidecar behind."""
    home = tmp_path_factory.mktemp("sidecars")
    with mounted(home_of(sample, home / "data"), *OPTIONS, home=home) as mount:
        yield mount
        assert mount.status()["sidecars"]["files"] == 0


def kept(data: Path) -> dict[str, bytes]:
    found = data.glob("up42fs/sidecars/*/*")
    return {path.name: path.read_bytes() for path in found}


def error(call, *arguments) -> int | None:
    try:
        call(*arguments)
    except OSError as failure:
        return failure.errno
    return None


# GDAL ------------------------------------------------------------------------------------------


@pytest.mark.claim("S92", "S95")
def test_what_gdal_writes_is_there_in_every_view_and_in_the_next_mount(
    sample: Emulator, env: dict[str, str], tmp_path: Path
) -> None:
    before = sample.remote.position()
    with mounted(env, *OPTIONS, home=tmp_path) as first:
        image = first.path / SCENE / "scl.tiff"
        check("gdalinfo", "-stats", image)
        check("gdaladdo", "-ro", image, "2", "4")
        assert "STATISTICS_MEAN" in (image.parent / "scl.tiff.aux.xml").read_text()
        views = {path.name for path in first.path.glob("[!s]*/**/scl.tiff.*")}
        assert views == {"scl.tiff.aux.xml", "scl.tiff.ovr"}
        places = sorted(first.path.glob("*/**/scl.tiff.ovr"))
        assert len(places) == len(list(first.path.glob("*/**/scl.tiff"))) >= 4
        assert len({place.stat().st_ino for place in places}) == 1
        assert len({place.read_bytes() for place in places}) == 1
        described = json.loads(check("gdalinfo", "-json", image))
    assert sorted(name.partition("+")[2] for name in kept(tmp_path / "data")) == [
        ".aux.xml",
        ".ovr",
    ]
    with mounted(env, *OPTIONS, home=tmp_path) as second:
        image = second.path / SCENE / "scl.tiff"
        again = json.loads(check("gdalinfo", "-json", image))
        assert again["bands"] == described["bands"]
        assert [o["size"] for o in again["bands"][0]["overviews"]] == [[256, 256], [128, 128]]
        assert [Path(name).name for name in again["files"]] == [
            "scl.tiff",
            "scl.tiff.ovr",
            "scl.tiff.aux.xml",
        ]
    # Nothing of it was sent anywhere.
    methods = {(r["plane"], r["method"]) for r in sample.remote.log(before)}
    assert {method for plane, method in methods if plane == "store"} <= {"GET"}
    assert all(not r["route"].endswith("metadata") for r in sample.remote.log(before))


@pytest.mark.claim("S97")
def test_probing_for_sidecars_asks_nothing(sample: Emulator, there: Mount) -> None:
    image = there.path / SCENE / "b02.tiff"
    check("gdalinfo", image)
    before = sample.remote.position()
    for _ in range(20):
        for ending in (".aux.xml", ".ovr", ".msk", ".aux", ".tfw", ".OVR", "_RPC.TXT"):
            assert not image.with_name(image.name + ending).exists()
            assert not image.with_name(image.stem + ending).exists()
    assert sample.remote.log(before) == []


# what may be written ---------------------------------------------------------------------------


@pytest.mark.claim("S96")
def test_all_else_is_erofs(there: Mount) -> None:
    directory = there.path / SCENE
    image = directory / "b02.tiff"
    sidecar = directory / "b02.qml"
    sidecar.write_text("<qgis/>")
    written = os.O_WRONLY | os.O_CREAT
    refused = {
        "another name": error(os.open, directory / "notes.txt", written),
        "no such image": error(os.open, directory / "b99.tiff.aux.xml", written),
        "at the top": error(os.open, there.path / "x.tif.aux.xml", written),
        "the image": error(os.open, image, os.O_WRONLY),
        "to cut the image": error(os.truncate, image, 1),
        "to touch the image": error(os.utime, image, (1, 1)),
        "to remove it": error(os.unlink, image),
        "to rename it": error(os.rename, image, directory / "b02.tiff.ovr"),
        "to replace it": error(os.rename, sidecar, image),
        "to call one otherwise": error(os.rename, sidecar, directory / "notes.txt"),
        "a directory": error(os.mkdir, directory / "b02.tiff.ovr"),
        "a symbolic link": error(os.symlink, image, directory / "b02.tiff.ovr"),
        "a hard link": error(os.link, sidecar, directory / "b02.qmd"),
        "a device": error(os.mkfifo, directory / "b02.tiff.msk"),
        "a title": error(os.setxattr, image, "user.up42.title", b"x"),
    }
    assert set(refused.values()) == {errno.EROFS}, refused
    assert error(os.setxattr, sidecar, "user.x", b"x") in (errno.EROFS, errno.ENOTSUP)
    assert sidecar.read_text() == "<qgis/>"
    assert os.listxattr(sidecar) == []
    sidecar.unlink()


@pytest.mark.claim("S91")
def test_files_are_written_as_on_any_disk(there: Mount, tmp_path: Path) -> None:
    directory = there.path / SCENE
    path = directory / "b02.tiff.aux.xml"
    path.write_bytes(b"0123456789" * 1000)
    with path.open("r+b") as file:
        file.seek(5)
        file.write(b"abc")
        file.flush()
        os.fsync(file.fileno())
        file.truncate(20)
        file.seek(30)
        file.write(b"end")
    assert path.read_bytes() == b"01234abc890123456789" + b"\0" * 10 + b"end"
    with path.open("ab") as end:
        end.write(b"!")
    assert path.read_bytes().endswith(b"end!")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:3] = b"MAP"
        mapped.flush()
    assert path.read_bytes().startswith(b"MAP34abc")
    path.chmod(0o600)
    os.utime(path, ns=(10**18, 10**18 + 5))
    found = path.stat()
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (10**18 + 5, 0o644)
    os.truncate(path, 3)
    assert path.read_bytes() == b"MAP"
    # As Qt saves a file, then as rsync, and a copy with all attributes.
    saved = directory / "b02.qml.AbCdEf"
    saved.write_text("<new/>")
    saved.rename(directory / "b02.qml")
    (tmp_path / "b02.qmd").write_text("<qmd/>")
    os.utime(tmp_path / "b02.qmd", (10**9, 10**9))
    check("rsync", "-a", tmp_path / "b02.qmd", directory)
    check("cp", "-a", tmp_path / "b02.qmd", directory / "b03.qmd")
    assert (directory / "b02.qmd").stat().st_mtime == 10**9
    names = {p.name for p in directory.iterdir() if not p.suffix.startswith(".tif")}
    assert names >= {"b02.tiff.aux.xml", "b02.qml", "b02.qmd", "b03.qmd"}
    copied = check("rsync", "-a", "--include=b02.*", "--exclude=*", f"{directory}/", tmp_path / "c")
    assert copied == ""
    assert (tmp_path / "c/b02.qml").read_text() == "<new/>"
    assert there.status()["sidecars"]["files"] == 4
    with (directory / "b02.qml").open() as held:
        (directory / "b02.qml").unlink()
        assert held.read() == "<new/>"
    assert not (directory / "b02.qml").exists()
    with pytest.raises(FileExistsError):
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    for name in ("b02.tiff.aux.xml", "b02.qmd", "b03.qmd"):
        (directory / name).unlink()
    usage = os.statvfs(directory)
    assert 0 < usage.f_bavail * usage.f_frsize <= 10 << 30


@pytest.mark.claim("S92")
def test_a_sidecar_goes_with_an_image_that_is_renamed_in_up42(start, tmp_path: Path) -> None:
    emulator: Emulator = start("--synthetic", "1")
    tiny = base64.b64encode(b"II*\0 not much of an image").decode()
    asset = emulator.remote.storage(
        "add_asset", title="old.tif", content_type="image/tiff", content_base64=tiny
    )
    env = home_of(emulator, tmp_path / "data")
    with mounted(env, "-o", "sidecars,refresh=3600", home=tmp_path) as there:
        assets = there.path / "assets"
        (assets / "old.tif.aux.xml").write_text("statistics")
        (assets / "old.qml").write_text("style")
        (assets / asset["id"]).read_bytes()
        assert (assets / f"{asset['id']}.aux.xml").read_text() == "statistics"
        emulator.remote.storage("set_metadata", id=asset["id"], title="new.tif")
        os.kill(there.pid, signal.SIGHUP)
        wait_until((assets / "new.tif").exists, 30, "the new name shows")
        assert {p.name for p in assets.glob("*old*")} == set()
        assert {p.name for p in assets.glob("new*")} == {"new.tif", "new.tif.aux.xml", "new.qml"}
        assert (assets / "new.qml").read_text() == "style"
        emulator.remote.storage("remove_asset", id=asset["id"])
        os.kill(there.pid, signal.SIGHUP)
        wait_until(lambda: not (assets / "new.tif").exists(), 30, "the image is gone")
        assert {p.name for p in assets.glob("new*")} == set()
    assert set(kept(tmp_path / "data").values()) == {b"statistics", b"style"}


# crashes, other mounts, full disks -------------------------------------------------------------


@pytest.mark.claim("S93", "S94")
def test_two_mounts_and_a_kill(env: dict[str, str], tmp_path: Path) -> None:
    with mounted(env, *OPTIONS, home=tmp_path) as one, mounted(env, *OPTIONS, home=tmp_path) as two:
        here, other = (mount.path / SCENE / "b02.tiff.ovr" for mount in (one, two))
        here.write_bytes(b"first" * 100)
        wait_until(other.exists, 20, "the other mount sees it")
        assert other.read_bytes() == b"first" * 100
        other.write_bytes(b"second")
        wait_until(lambda: here.read_bytes() == b"second", 20, "and the first what that one wrote")
        with here.open("r+b") as file:
            file.write(b"half of")
            file.flush()
            assert here.read_bytes() == b"half of"
            assert other.read_bytes() == b"second"
            os.kill(one.pid, signal.SIGKILL)
            wait_until(lambda: not is_running(one.pid), 20, "the process is gone")
            gone = (errno.ENOTCONN, errno.ECONNABORTED)  # at first it is being aborted
            assert error(os.pread, file.fileno(), 5, 0) in gone
            with pytest.raises(OSError, match=r"not connected|abort"):
                file.close()
        run("fusermount3", "-uz", one.path)
        assert other.read_bytes() == b"second"
        other.unlink()
    with mounted(env, *OPTIONS, home=tmp_path) as later:
        assert not (later.path / SCENE / "b02.tiff.ovr").exists()


@pytest.mark.claim("S93")
def test_killed_at_any_moment_there_is_the_old_or_the_new_one(
    env: dict[str, str], tmp_path: Path
) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    for turn in range(2):
        with mounted(env, *OPTIONS, home=tmp_path) as there:
            path = there.path / SCENE / "b02.tiff.ovr"
            path.write_bytes(contents[turn % 2])
            script = (
                "import sys\nwhile True:\n"
                " for letter in b'ab':\n  open(sys.argv[1],'wb').write(bytes([letter])*300_000)"
            )
            writer = subprocess.Popen([sys.executable, "-c", script, path], stderr=subprocess.PIPE)
            threading.Event().wait(0.05 + 0.03 * turn)
            os.kill(there.pid, signal.SIGKILL)
            writer.wait(10)
            assert writer.stderr is not None
            writer.stderr.close()
            run("fusermount3", "-uz", there.path)
        whole = [c for name, c in kept(tmp_path / "data").items() if not name.startswith(".draft")]
        assert len(whole) == 1
        assert whole[0] in contents


_FULL = """
set -e
mkdir -p "$1" && mount -t tmpfs -o size=1m,mode=700 none "$1"
{up42fs} mount "$2" --log-file "$3" --cache-dir "$4" -o refresh=3600,sidecars
cd "$2/{scene}"
printf old > b02.qml
if dd if=/dev/zero of=b02.tiff.ovr bs=64k count=64 2> "$4/dd"; then exit 3; fi
grep -q 'No space left' "$4/dd"
rm -f b02.tiff.ovr
[ "$(cat b02.qml)" = old ]
printf new > b02.qml && [ "$(cat b02.qml)" = new ]
[ "$(gdalinfo b02.tiff | grep -c '^Band 1')" = 1 ]
cd / && {up42fs} unmount "$2"
"""


@pytest.mark.claim("S92")
@IN_A_NAMESPACE
def test_a_full_disk_is_told_and_harms_nothing(sample: Emulator, tmp_path: Path) -> None:
    for name in ("mnt", "cache"):
        (tmp_path / name).mkdir()
    places = [str(tmp_path / name) for name in ("data", "mnt", "log", "cache")]
    script = _FULL.format(up42fs=" ".join(UP42FS), scene=SCENE)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *places],
        env=environ(home_of(sample, tmp_path / "data")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    log = Path(places[2]).read_text()
    assert done.returncode == 0, (done.stderr, log)
    assert "no room for sidecars" in log
    assert "Traceback" not in log


def test_a_limit_of_ones_own(env: dict[str, str], tmp_path: Path) -> None:
    with mounted(env, *OPTIONS, "--sidecars-size", "1M", home=tmp_path) as there:
        path = there.path / SCENE / "b02.tiff.ovr"
        assert error(path.write_bytes, b"x" * (2 << 20)) == errno.ENOSPC
        usage = os.statvfs(there.path)
        assert usage.f_bavail * usage.f_frsize <= 1 << 20
        assert "sidecars_size" in there.log.read_text()


def test_a_place_that_cannot_be_had_is_said_before_mounting(
    sample: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    (tmp_path / "mnt").mkdir()
    env = home_of(sample, tmp_path / "data")
    done = run(*UP42FS, "mount", tmp_path / "mnt", "-o", "sidecars", env=env)
    assert done.returncode != 0
    assert "XDG_DATA_HOME" in done.stderr


# who needs no root -----------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() == 0, reason="root may: runs in test_it_needs_no_root")
def test_who_mounts_may_write_sidecars(start, tmp_path: Path) -> None:
    emulator: Emulator = start("--synthetic", "1")
    emulator.remote.storage("add_asset", name="a.tif", size=1000)
    env = home_of(emulator, tmp_path / "data") | {"HOME": str(tmp_path)}
    with mounted(env, *OPTIONS, home=tmp_path) as there:
        path = there.path / "assets/a.tif.aux.xml"
        path.write_text("x")
        assert path.read_text() == "x"
        assert error(os.open, path.with_name("a.tif"), os.O_WRONLY) == errno.EROFS
        assert error(os.open, path.with_name("other"), os.O_WRONLY | os.O_CREAT) == errno.EROFS
        path.unlink()


@IN_A_NAMESPACE
@pytest.mark.skipif(interpreter_for_others() is None, reason="no Python that others may run")
def test_it_needs_no_root() -> None:
    assert "1 passed" in as_nobody(Path(__file__), "who_mounts_may_write")


# QGIS ------------------------------------------------------------------------------------------

_SAVE = """
import sys
from qgis.core import QgsApplication, QgsRasterBandStats, QgsRasterLayer
application = QgsApplication([], False)
application.initQgis()
layer = QgsRasterLayer(sys.argv[1], "image")
assert layer.isValid()
layer.loadDefaultMetadata()
print(layer.renderer().opacity(), layer.metadata().title())
layer.dataProvider().bandStatistics(1, QgsRasterBandStats.All)
layer.renderer().setOpacity(0.25)
print(*layer.saveDefaultStyle())
metadata = layer.metadata()
metadata.setTitle("Vegetation before the storm")
layer.setMetadata(metadata)
print(*layer.saveDefaultMetadata())
del layer
application.exitQgis()
"""


@pytest.mark.claim("S92")
def test_qgis_keeps_style_metadata_and_statistics(env: dict[str, str], tmp_path: Path) -> None:
    if reason := why_no_qgis():
        pytest.skip(reason)
    script = tmp_path / "save.py"
    script.write_text(_SAVE)
    home = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    seen = []
    for _ in range(2):
        with mounted(env, *OPTIONS, home=tmp_path) as there:
            image = there.path / SCENE / "b08.tiff"
            seen.append(check(PYTHON, script, image, env=home).splitlines()[-3:])
            names = {path.name for path in image.parent.glob("b08*")}
            assert names == {"b08.tiff", "b08.tiff.aux.xml", "b08.qml", "b08.qmd"}
    assert seen[0][0].split() == ["1.0"]
    assert seen[1][0].split() == ["0.25", "Vegetation", "before", "the", "storm"]

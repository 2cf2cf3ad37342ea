"""`up42fs explain` and crowd control on real mounts."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from harness import FORKED, Emulator, Mount, check, emulator, run

from up42fs.fuse.callers import UNKNOWN, program_of

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory):
    data = tmp_path_factory.mktemp("data")
    (data / "archive.zip").write_bytes(os.urandom(12 << 20))
    with emulator("--data", str(data)) as running:
        yield running


def archive(there: Mount) -> Path:
    return max((there.path / "assets").glob("*.zip"), key=lambda path: path.stat().st_size)


def test_who_read_what(big: Emulator, mount) -> None:
    there: Mount = mount(big)
    path = archive(there)
    size = path.stat().st_size
    before = sum(big.requests().values())
    assert "by nobody" in check(*FORKED, "explain", path)
    assert sum(big.requests().values()) == before
    check("sh", "-c", 'exec head -c 5000 "$0" >/dev/null', path)
    check("sh", "-c", 'exec cat "$0" >/dev/null', path)
    said = check(*FORKED, "explain", path)
    assert path.name in said
    assert "head 1, cat 1" in said or "cat 1, head 1" in said
    assert "100% of the file" in said
    assert "|" + "█" * 64 + "|" in said
    told = json.loads(check(*FORKED, "explain", "--json", path))
    assert told["ranges"] == [[0, size]]
    assert told["bytes_read"] >= size
    assert f"fetched  {size:,} bytes in {told['store']['requests']} requests" in said
    assert told["store"]["bytes_fetched"] == told["store"]["bytes_asked"] == size
    fetched = there.status()["fetched_files"]
    assert [(one["id"], one["bytes_fetched"]) for one in fetched] == [(told["id"], size)]
    assert told["store"]["bytes_fetched"] == size
    assert f"fetched  {size:,} bytes in {told['store']['requests']} requests" in said
    top = there.status()["top_files"]
    assert path.name in top[0]["name"]
    shown = check(*FORKED, "status", there.path, env={"COLUMNS": "200"})
    assert "cat" in shown
    assert f"in {told['store']['requests']} requests: {path.name}" in shown


def test_a_drawing_costs_nothing(sample_mount: Mount, tmp_path: Path) -> None:
    image = next(sample_mount.path.glob("orders/*/*/b04.tiff"))
    check("gdal_translate", "-q", "-srcwin", "512", "512", "64", "64", image, tmp_path / "cut.tif")
    sample_mount.rest()  # what was prefetched for gdal_translate may still come
    before = sample_mount.counters()["store.requests"]
    picture = tmp_path / "drawn.svg"
    check(*FORKED, "explain", "--svg", picture, image)
    assert sample_mount.counters()["store.requests"] == before
    drawn = picture.read_text()
    sizes = [
        one.text for one in ElementTree.fromstring(drawn).iter() if "small" in one.get("class", "")
    ]
    assert "1,024 x 1,024" in sizes, "the tables of its tiles were held"
    history = json.loads(os.getxattr(image, "user.up42.explain.history"))
    told = json.loads(check(*FORKED, "explain", "--json", image))
    fetched = sum(stop - start for _, _, start, stop in history["fetched"])
    assert fetched == told["store"]["bytes_fetched"]
    done = run(*FORKED, "explain", "--svg", picture, image, image)
    assert (done.returncode, "give one PATH" in done.stderr) == (1, True)


def test_what_cannot_be_explained(sample_mount: Mount, tmp_path: Path) -> None:
    done = run(*FORKED, "explain", sample_mount.path / "assets")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not a delivered file" in done.stderr
    done = run(*FORKED, "explain", tmp_path)
    assert "does not lie in an up42fs mount" in done.stderr
    done = run(*FORKED, "explain", sample_mount.path / "assets/none")
    assert "No such file" in done.stderr


@pytest.fixture
def indexer(tmp_path: Path) -> Path:
    """`cat`, under the name of a program that crowds."""
    path = tmp_path / "tracker-extract-3"
    shutil.copy(shutil.which("cat") or "/bin/cat", path)
    return path


def test_a_crowd_pulls_no_file(big: Emulator, mount, indexer: Path) -> None:
    there: Mount = mount(big)
    path = archive(there)
    assert path.stat().st_size > 4 << 20
    done = run("sh", "-c", '"$0" "$1" | wc -c', indexer, path)
    assert "Permission denied" in done.stderr
    assert int(done.stdout) <= 1 << 20
    counters = there.counters()
    assert counters["fs.crowd_opens"] == 1
    assert counters["fs.crowd_refused"] >= 1
    assert counters["store.bytes_fetched"] < 3 << 20
    assert counters["fuse.errors_EACCES"] >= 1
    assert there.log.read_text().count("may read only the first 1,048,576 bytes of a file") == 1
    said = check(*FORKED, "status", there.path, env={"COLUMNS": "200"})
    assert "1 opens by indexers, backup programs and the like" in said
    check("cmp", path, path)  # everybody else reads on, also what was refused just now


@pytest.mark.claim("S343")
def test_a_backup_of_the_mount_fetches_nothing(big: Emulator, mount, tmp_path: Path) -> None:
    there: Mount = mount(big)
    backup = tmp_path / "restic"
    shutil.copy(shutil.which("cat") or "/bin/cat", backup)
    done = run(backup, *sorted((there.path / "assets").iterdir()))
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    counters = there.counters()
    assert counters.get("store.bytes_fetched", 0) == 0
    assert counters.get("store.signs", 0) == 0
    assert "restic may read no file" in there.log.read_text()


def test_crowds_can_be_let_in(big: Emulator, mount, indexer: Path) -> None:
    there: Mount = mount(big, "-o", "crowd=")
    path = archive(there)
    assert check("sh", "-c", '"$0" "$1" | wc -c', indexer, path).strip() == str(path.stat().st_size)


def test_programs_have_names() -> None:
    assert program_of(0) == program_of(-1) == program_of(1 << 29) == UNKNOWN
    own = Path("/proc/self/comm").read_text().strip()
    assert program_of(os.getpid()) == own
    found: list[str] = []

    def ask() -> None:
        Path("/proc/thread-self/comm").write_text("another-name")
        found.append(program_of(threading.get_native_id()))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [own]

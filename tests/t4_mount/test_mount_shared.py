"""A mount with `allow_other`, looked at by other users of the machine."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Emulator, Mount, mounted, run, wait_until

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.getuid() != 0, reason="other users are played by root"),
]

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
#: Root of a user namespace that an unprivileged user made.
FAKE_ROOT = (*NOBODY, "unshare", "-r")
PRIVATE = (
    *("json", "download_url", "explain", "account_id", "workspace_id"),
    *("whole.account_id", "whole.workspace_id"),
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="up42fs-shared-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def shared(sample: Emulator, home: Path) -> Iterator[Mount]:
    with mounted(sample.env, "-o", "allow_other,rw,refresh=3600", home=home) as there:
        yield there


def attribute(who: tuple[str, ...], name: str, path: Path):
    return run(*who, "getfattr", "--only-values", "-n", f"user.up42.{name}", path)


def scene(there: Mount) -> Path:
    return next(path for path in (there.path / "assets").iterdir() if path.is_file())


def others() -> list[tuple[str, ...]]:
    """Who is not to be trusted; the root of a namespace only where one can be made."""
    can = run(*FAKE_ROOT, "id", "-u")
    return [NOBODY, FAKE_ROOT] if can.stdout.strip() == "0" else [NOBODY]


@pytest.mark.claim("S150")
@pytest.mark.parametrize("who", others(), ids=lambda who: who[-2] if who[-1] == "-r" else "nobody")
def test_private_attributes_are_for_the_mounting_user(who: tuple[str, ...], shared: Mount) -> None:
    path = scene(shared)
    with path.open("rb") as file:
        file.read(10)
    for name in PRIVATE:
        refused = attribute(who, name, path)
        assert "Permission denied" in refused.stderr, (name, refused)
        mine = attribute((), name, path)
        assert mine.returncode == 0, (name, mine)
        assert mine.stdout
    order = next((shared.path / "orders").iterdir())
    assert "Permission denied" in attribute(who, "json", order).stderr
    assert "Permission denied" not in shared.log.read_text()
    # Everything else is theirs: bytes, names, attributes that are no secret.
    assert run(*who, "dd", f"if={path}", "of=/dev/null", "bs=100", "count=1").returncode == 0
    listed = run(*who, "getfattr", "-d", path)
    assert listed.returncode == 0
    assert "user.up42.id" in listed.stdout
    assert "account_id" not in listed.stdout
    assert "account_id" in run("getfattr", "-d", path).stdout


@pytest.mark.claim("S150")
def test_a_copy_with_attributes_by_others_succeeds(shared: Mount) -> None:
    target = Path(tempfile.mkdtemp(prefix="up42fs-copy-"))
    target.chmod(0o777)
    try:
        done = run(
            *NOBODY, "cp", "--preserve=mode,timestamps,xattr", scene(shared), target / "copy"
        )
        assert "Permission denied" not in done.stderr
        assert "Operation not permitted" not in done.stderr
        assert (target / "copy").stat().st_size == scene(shared).stat().st_size
    finally:
        shutil.rmtree(target)


@pytest.mark.claim("S150")
def test_control_files_for_others(shared: Mount, sample: Emulator) -> None:
    control = shared.path / ".up42fs"
    assert "Permission denied" in run(*NOBODY, "cat", control / "changes").stderr
    assert run("cat", control / "changes").returncode == 0
    seen = run(*NOBODY, "cat", control / "status.json").stdout
    status = json.loads(seen)
    mine = shared.status()
    assert status["pid"] == mine["pid"]
    assert mine["top_files"]
    for word in (mine["account"], mine["log_file"], mine["top_files"][0]["name"]):
        assert word
        assert word not in seen
        assert word not in run(*NOBODY, "cat", control / "metrics").stdout


@pytest.mark.claim("S150")
def test_item_documents_for_others(shared: Mount) -> None:
    items = sorted((shared.path / "assets").glob("*/item.json"))
    items += sorted((shared.path / "stac").glob("*/collection.json"))
    assert items
    for path in items:
        seen = run(*NOBODY, "cat", path).stdout
        assert json.loads(seen)
        assert "account_id" not in seen
        assert len(seen.encode()) == path.stat().st_size
    whole = "".join(path.read_text() for path in items)
    assert "account_id" in whole


#: Maps a file, and looks at it when told to.
MAPPER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
view = mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ, flags=int(sys.argv[2]))
print("mapped", flush=True)
sys.stdin.readline()
sys.stdout.write(view[:].rstrip(b"\\0").decode())
"""


@pytest.mark.claim("S191")
@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE], ids=["shared", "private"])
@pytest.mark.parametrize("name", [".up42fs/status.json", "assets/*/item.json"])
def test_pages_that_others_find_hold_nothing_private(shared: Mount, name: str, flags: int) -> None:
    """What the owner's mapping brought into the page cache is there for other mappings."""
    (path, *_) = sorted(shared.path.glob(name) if "*" in name else [shared.path / name])
    python = os.path.realpath(sys.executable)  # nobody may not enter every environment
    command = [*NOBODY, python, "-c", MAPPER, str(path), str(flags)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        if not other.stdout.readline():
            pytest.skip("this kernel maps no such files")
        mine = run(python, "-c", MAPPER, path, str(flags), input="\n")
        seen, _ = other.communicate("\n")
    assert json.loads(seen)
    assert mine.stdout == f"mapped\n{seen}"
    for secret in ("account_id", shared.status()["account"], str(shared.log)):
        assert secret not in seen


def test_the_command_of_others(shared: Mount) -> None:
    """`up42fs status` works on what it is shown, and says that this is not all."""
    document = run(*NOBODY, "cat", shared.path / ".up42fs/status.json").stdout
    from up42fs.cli.status_view import rows

    shown = dict(rows(json.loads(document)))
    assert "the user who mounted" in shown["account"]


@pytest.mark.claim("S150")
def test_all_is_shared_where_that_is_asked_for(sample: Emulator, home: Path) -> None:
    with mounted(sample.env, "-o", "allow_other,share_links", home=home) as there:
        for name in PRIVATE:
            assert attribute(NOBODY, name, scene(there)).stdout, name
        seen = run(*NOBODY, "cat", there.path / ".up42fs/status.json").stdout
        assert there.status()["account"] in seen


@pytest.mark.claim("S151")
def test_refreshes_have_a_floor_whoever_asks(start, home: Path) -> None:
    emulator: Emulator = start("--synthetic", "3,1,1")
    options = "allow_other,refresh=3600"
    with mounted(emulator.env, "-o", options, home=home) as there:
        os.listdir(there.path / "assets")
        there.rest()
        before = len(emulator.remote.log(0))
        began_s = time.monotonic()
        loop = "for i in $(seq 300); do cat .up42fs/refresh; done"
        assert run(*NOBODY, "sh", "-c", loop, cwd=there.path).returncode == 0
        wait_until(lambda: len(emulator.remote.log(0)) - before >= 2, 15, "the first refresh")
        # One at once, and one for each five seconds that the loop took; two requests each.
        most = 2 * (2 + (time.monotonic() - began_s) // 5)
        asked = len(emulator.remote.log(0)) - before
        assert asked <= most, (asked, most)

"""Commands that meet mounts whose word is not to be taken: another user's, a hostile one's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import (
    REPOSITORY,
    UP42FS,
    Emulator,
    Mount,
    interpreter_for_others,
    mounted,
    run,
    wait_until,
)

from up42fs.cli import unmount as unmount_command
from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount

SCRIPT = Path(__file__).with_name("hostile_script.py")
SECRET = "s3cret-of-the-one-who-asks"


@contextmanager
def hostile(tmp_path: Path, status: bytes, target: str | None = None) -> Iterator[Path]:
    """A mount that calls itself up42fs; its status is `status`, without end if that is empty."""
    place, content = tmp_path / "hostile", tmp_path / "hostile.json"
    place.mkdir()
    content.write_bytes(status)
    words = [sys.executable, SCRIPT, place, content, *([target] if target else [])]
    process = subprocess.Popen([str(word) for word in words])
    try:
        wait_until(lambda: mount_at(place) is not None, 20, "it is mounted")
        yield place
    finally:
        run("fusermount3", "-uz", place)
        # Namespaces of tests beside this one may hold copies of the mount, and so its process.
        process.kill()
        process.wait(30)


def doctor(place: Path, *arguments: str | Path, home: Path):
    env = {"HOME": str(home), "UP42_USERNAME": "", "UP42_PASSWORD": ""}
    return run(*UP42FS, "doctor", "--local", *arguments, place, env=env)


def contents(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        return {
            m.name.rpartition("/")[2]: tar.extractfile(m).read().decode()  # type: ignore[union-attr]
            for m in tar
        }


@pytest.mark.claim("S152")
def test_a_status_names_no_file_that_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    lure = tmp_path / "lure"
    lure.mkdir()
    status = {"log_file": str(secret), "version": "1", "pid": 1, "account": "x",
              "disk_cache": {"files": str(lure), "directory": str(lure)}}  # fmt: skip
    archive = tmp_path / "bundle.tar.gz"
    with hostile(tmp_path, json.dumps(status).encode()) as place:
        done = doctor(place, "--bundle", archive, home=tmp_path)
        assert "Traceback" not in done.stderr
        found = contents(archive)
        assert "status-1.json" in found
        assert SECRET not in "".join(found.values())
        file = place / ".up42fs/status.json"
        done = run(*UP42FS, "cache", "pin", file, env={"HOME": str(tmp_path)})
        assert (done.returncode, done.stderr) == (0, "")
        assert list(lure.iterdir()) == []
        pinned = [path for path in (tmp_path / ".cache/up42fs").rglob("*") if path.is_file()]
        assert len(pinned) == 1


ODD = {
    "no object": b"[1, 2]",
    "no JSON": b"\xff\x00nonsense",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a number without end": b'{"pid": ' + b"9" * 10_000 + b"}",
    "without end": b"",
    "not finite": b'{"mounted_seconds": Infinity, "bytes": NaN, "pid": 1e999}',
    "other types": json.dumps(
        {
            name: ["x", {"y": 1}]
            for name in (
                *("version", "pid", "account", "counters", "catalogue", "store", "open", "egress"),
                *("disk_cache", "sidecars", "edits", "top_files", "fetched_files", "kernel"),
                *("recent_errors", "mounted_seconds", "bytes"),
            )
        }
    ).encode(),
    "terminal": json.dumps({
        "version": "\x1b]0;owned\x07", "account": "\x1b[2J\u202eevil", "pid": 1,
        "recent_errors": [{"time": "\x1b[1m", "message": "\x9b31mred\nok  all is well"}],
        "catalogue": {"\x1b[5massets": {"error": "\x1b[8mhidden", "seconds_since_refresh": 1}},
        "disk_cache": {"off_because": "\x1bc", "directory": "\x1b[0m"},
    }).encode(),
}  # fmt: skip


@pytest.mark.claim("S152")
@pytest.mark.parametrize("kind", ODD)
def test_a_status_is_foreign_text(tmp_path: Path, kind: str) -> None:
    with hostile(tmp_path, ODD[kind]) as place:
        began_s = time.monotonic()
        for done in (
            doctor(place, "--bundle", tmp_path / "b.tar.gz", home=tmp_path),
            run(*UP42FS, "status", "--once", place),
            run(*UP42FS, "status", "--json", place),
            run(*UP42FS, "mount", place),
        ):
            said = done.stdout + done.stderr
            assert "Traceback" not in said
            assert not [c for c in said if not c.isprintable() and c != "\n"], repr(said)
            assert len(said) < 50_000
        assert time.monotonic() - began_s < 60


@pytest.mark.claim("S152")
def test_no_link_of_a_foreign_mount_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"account": SECRET, "pid": 1}))
    with hostile(tmp_path, b"{}", str(secret)) as place:
        done = run(*UP42FS, "status", "--json", place)
        assert done.returncode == 1
        assert SECRET not in done.stdout + done.stderr


@pytest.mark.claim("S152")
def test_an_archive_without_names_and_proxy_users(start, tmp_path: Path) -> None:
    emulator: Emulator = start()
    words = ["Zürich Überflug 7.zip", "quarterly-report_9.tif", "Kölner Dom", "tag-of-mine"]
    for name, title, tags in (
        (words[0], "a title nobody knows", [words[3]]),
        (words[1], words[2], []),
    ):
        emulator.remote.storage("add_asset", name=name, title=title, tags=tags, size=300_000)
    env = dict(emulator.env) | {
        "HTTPS_PROXY": "http://proxyman:pr0xyword@127.0.0.1:9",
        "https_proxy": "proxyman2:pr0xyword@127.0.0.1:9",
    }
    archive = tmp_path / "bundle.tar.gz"
    with mounted(env, "--log-level", "debug", home=tmp_path) as there:
        emulator.remote.faults(fail_plane="store", fail_status=403)
        for path in sorted((there.path / "assets").iterdir()):
            if os.path.isfile(path):  # the size of one is not known, and cannot be asked for now
                run("head", "-c", "10", path)
        os.kill(there.pid, 1)
        emulator.remote.faults(fail_plane=None, fail_status=None)
        run("cmp", there.path / "assets" / words[1], "/dev/null")
        # Not the directories of archives: one is called `archive`, as any path may be.
        known = {p.name for p in (there.path / "assets").iterdir() if p.is_file()}
        known |= {p.name for p in (there.path / "tags").iterdir()}
        log = there.log.read_text()
        assert words[0] in log
        done = run(*UP42FS, "doctor", "--bundle", archive, there.path, env=env)
        assert "Traceback" not in done.stderr
        assert there.status()["top_files"]
    found = contents(archive)
    assert "log-1.txt" in found
    everything = "".join(found.values()) + "".join(
        text.encode().decode("unicode_escape", "replace") for text in found.values()
    )
    for name in (*words, *known, "proxyman", "pr0xyword"):
        if len(name) > 2:
            assert name not in everything, name
    assert "(asset" in found["log-1.txt"]  # what helps is still there
    assert "403" in found["log-1.txt"] or "refused" in found["log-1.txt"]


# other users' mounts ----------------------------------------------------------------------------

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="other users are played by root")


@pytest.fixture
def roots(sample: Emulator) -> Iterator[Mount]:
    """A mount of root's, where every user may come but into the mount itself."""
    with tempfile.TemporaryDirectory(prefix="up42fs-roots-") as home:
        Path(home).chmod(0o755)
        with mounted(sample.env, home=Path(home)) as there:
            yield there


def as_nobody(*words: str | Path, start: tuple[str, ...] = ("-m", "up42fs")):
    """One of our commands as `nobody`, by a Python that everybody may run."""
    paths = [path for path in sys.path if "site-packages" in path] + [str(REPOSITORY)]
    interpreter = interpreter_for_others()
    assert interpreter is not None
    env = {"PYTHONPATH": os.pathsep.join(paths), "HOME": "/nonexistent"}
    return run(*NOBODY, interpreter, *start, *words, env=env, cwd="/")


@AS_ROOT
@pytest.mark.claim("S153")
def test_a_mount_of_another_user_is_said_to_be_so(roots: Mount) -> None:
    for words in (
        ("status", "--once"),
        ("status", roots.path),
        ("doctor", "--local", roots.path),
        ("doctor", "--local"),
        ("unmount", roots.path),
        ("unmount", "--lazy", roots.path),
        ("mount", roots.path),
    ):
        done = as_nobody(*words)
        said = done.stdout + done.stderr
        assert "root" in said, (words, said)
        assert str(roots.path) in said
        assert "gone" not in said
        assert "Traceback" not in said
    assert roots.status()["pid"] == roots.pid


@AS_ROOT
@pytest.mark.claim("S153")
def test_the_moving_picture_names_another_users_mount(roots: Mount) -> None:
    """What `up42fs status` draws each second in a terminal."""
    script = "import sys; from up42fs.cli import status; print(status._shown(sys.argv[1]))"
    done = as_nobody(roots.path, start=("-c", script))
    assert "root" in done.stdout, done
    assert "does not answer" not in done.stdout


@AS_ROOT
@pytest.mark.claim("S153")
def test_root_takes_a_mount_of_another_user_away_and_waits(sample: Emulator) -> None:
    assert unmount_command._runs(os.getpid())
    sleeper = subprocess.Popen([*NOBODY, "sleep", "60"])
    try:
        # As where /proc does not show other users' processes, and kill(2) says EPERM.
        script = (
            "import os, sys; from up42fs.cli import unmount; "
            "os.setuid(65533); sys.exit(not unmount._runs(int(sys.argv[1])))"
        )
        hidden = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        words = (sys.executable, "-c", script, str(sleeper.pid))
        done = run("unshare", "-m", "sh", "-c", hidden, "sh", *words, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
    finally:
        sleeper.kill()
        sleeper.wait()
    assert not unmount_command._runs(sleeper.pid)


def test_the_log_of_the_own_mount_is_found_whatever_home_says(roots: Mount, tmp_path: Path) -> None:
    archive = tmp_path / "b.tar.gz"
    doctor(roots.path, "--bundle", archive, home=tmp_path / "elsewhere")
    assert "mounted" in contents(archive)["log-1.txt"]

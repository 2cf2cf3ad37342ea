"""Mounts in surroundings that services, containers and `nobody` have: no home, no descriptors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    IN_A_NAMESPACE,
    REPOSITORY,
    UP42FS,
    Emulator,
    environ,
    interpreter_for_others,
    run,
    wait_until,
)

from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount

NOBODY, STRANGER = 65534, 54321  # the second one is in no password database
#: What is run as another user: mount, look, unmount; its words are the interpreter and the options.
SESSION = """
"$@"; echo "mount $?"
ls {place}/assets | head -3
cat {place}/.up42fs/status.json
{python} -m up42fs unmount {place}; echo "unmount $?"
"""


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory where everybody may do everything."""
    path = Path(tempfile.mkdtemp(prefix="up42fs-homeless-", dir="/var/tmp"))
    path.chmod(0o777)
    for name in ("mount", "here", "dev"):
        (path / name).mkdir()
        (path / name).chmod(0o777)
    yield path
    shutil.rmtree(path)


def session(room: Path, emulator: Emulator, uid: int, extra: dict[str, str], *options: str):
    """Mount and unmount as user `uid` with no variables but `extra`."""
    python, place = interpreter_for_others(), room / "mount"
    os.chown(place, uid, uid)
    script = SESSION.format(place=place, python=python)
    words = (python, "-m", "up42fs", "mount", *options, str(place))
    return run_as(uid, room, emulator.env | extra, "sh", "-c", script, "sh", *words)


def run_as(uid: int, room: Path, extra: dict[str, str], *words: str | None):
    """Run this as user `uid`, in `room / "here"`, with no home but that of `extra`."""
    paths = [path for path in sys.path if "site-packages" in path] + [str(REPOSITORY)]
    clean = environ({k: v for k, v in extra.items() if k != "XDG_CACHE_HOME"})
    env = {k: v for k, v in clean.items() if k != "HOME" or "HOME" in extra}
    env |= {"PYTHONPATH": os.pathsep.join(paths)}
    as_user = (
        "mknod -m 666 $1/fuse c 10 229; mount --bind $1/fuse /dev/fuse; shift; exec "
        f'setpriv --reuid={uid} --regid={uid} --clear-groups "$@"'
    )
    in_namespace = ("unshare", "-m", "sh", "-c", as_user, "sh", str(room / "dev"))
    return subprocess.run(
        [*in_namespace, *(word for word in words if word)],
        env=env,
        cwd=room / "here",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


RELATIVE = {f"XDG_{name}_HOME": "relative" for name in ("CACHE", "STATE", "CONFIG", "DATA")}
HOMES = {
    "not there": {"HOME": "/nonexistent"},
    "not set": {},
    "root's": {"HOME": "/root"},
    "a file": {"HOME": "/etc/passwd"},
    "of the kernel": {"HOME": "/proc"},
    "relative": {"HOME": "relative"},
    "relative directories": {"HOME": "/nonexistent"} | RELATIVE,
}


@IN_A_NAMESPACE
@pytest.mark.claim("S154")
@pytest.mark.claim("S155")
@pytest.mark.parametrize("home", HOMES)
def test_a_mount_without_a_home(sample: Emulator, room: Path, home: str) -> None:
    done = session(room, sample, NOBODY, HOMES[home], "-o", "rw,max_egress=5G")
    assert "mount 0\n" in done.stdout, done
    assert "unmount 0\n" in done.stdout
    assert "tiny" in done.stdout or len(done.stdout.splitlines()) > 5
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert sum("disk cache are not kept" in line for line in lines) == 1
    assert sum("the journal of edits and the count of max_egress" in line for line in lines) == 1
    assert sum("logged" in line or "system's log" in line for line in lines) == 1
    assert list((room / "here").iterdir()) == []
    assert not Path("/nonexistent").exists()
    assert not Path("/relative").exists()
    status = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    assert status["disk_cache"] is None
    assert any("not kept" in note for note in status["notes"])


@IN_A_NAMESPACE
def test_the_demo_needs_no_home(room: Path) -> None:
    python, made = interpreter_for_others(), room / "made"
    made.mkdir(mode=0o777)
    made.chmod(0o777)
    extra = {"HOME": "/nonexistent", "TMPDIR": str(made)}
    words = ("demo", "--", "sh", "-c", "ls assets | wc -l")
    done = run_as(NOBODY, room, extra, python, "-m", "up42fs", *words)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    assert list(made.iterdir()) == [], "its sample is gone with it"
    assert "Traceback" not in done.stderr
    assert list((room / "here").iterdir()) == []
    assert not Path("/nonexistent").exists()


@IN_A_NAMESPACE
def test_a_user_in_no_database_hears_fusermount3s_reason(sample: Emulator, room: Path) -> None:
    done = session(room, sample, STRANGER, {})
    assert "mount 1\n" in done.stdout
    assert "could not determine username" in done.stderr
    assert list((room / "here").iterdir()) == []


@IN_A_NAMESPACE
def test_what_was_asked_for_must_be_kept(sample: Emulator, room: Path) -> None:
    """Sidecars are somebody's work, and a log file was named: these are errors."""
    for options, words in (
        (("-o", "sidecars"), "sidecars cannot be kept"),
        (("--log-file", "/proc/up42.log"), "/proc/up42.log"),
    ):
        done = session(room, sample, NOBODY, {"HOME": "/nonexistent"}, *options)
        assert "mount 1\n" in done.stdout
        assert words in done.stderr


@IN_A_NAMESPACE
def test_a_home_on_a_file_system_that_is_read_only(sample: Emulator, tmp_path: Path) -> None:
    home, place = tmp_path / "home", tmp_path / "mount"
    home.mkdir()
    place.mkdir()
    script = (
        "mount -t tmpfs -o ro none $1 && shift && "
        '"$@"; echo "mount $?"; ls "$0"/assets | wc -l; '
        f'{sys.executable} -m up42fs unmount "$0"; echo "unmount $?"'
    )
    words = ("unshare", "-m", "sh", "-c", script, place, home, *UP42FS, "mount", place)
    env = {k: v for k, v in sample.env.items() if k != "XDG_CACHE_HOME"} | {"HOME": str(home)}
    done = run(*words, env=env)
    assert "mount 0\n" in done.stdout, done
    assert "unmount 0\n" in done.stdout
    assert "Read-only file system" in done.stderr or "cannot be written" in done.stderr


def closed(*numbers: int) -> str:
    return " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in numbers)


@pytest.mark.claim("S154")
@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1), (0, 1, 2), (1, 2)])
def test_with_descriptors_closed(sample: Emulator, tmp_path: Path, numbers: tuple[int]) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    shut, env = closed(*numbers), {**sample.env, "HOME": str(tmp_path)}
    cache = tmp_path / "cache"

    def command(words: str):
        return run("sh", "-c", f"{sys.executable} -m up42fs {words} {shut}", env=env)

    try:
        done = command(f"mount --cache-dir {cache} {place}")
        assert done.returncode == 0, done
        files = sorted(path for path in (place / "assets").iterdir() if path.is_file())
        file = next(path for path in files if 0 < path.stat().st_size < 1 << 20)
        assert len(file.read_bytes()) == file.stat().st_size
        for words in (f"status --once {place}", f"status --json {place}", f"doctor --local {place}",
                      "cache usage", f"explain '{file}'", "--version"):  # fmt: skip
            done = command(words)
            assert done.returncode == 0, (words, done)
            assert "Traceback" not in done.stderr
        assert command("status --json /").returncode == 1
    finally:
        command(f"unmount {place}")
    assert mount_at(place) is None
    # What the mount wrote went nowhere but into its log.
    log = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "mounted" in log
    assert "Traceback" not in log


@pytest.mark.claim("S154")
@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1, 2)])
def test_the_demo_with_descriptors_closed(
    sample: Emulator, tmp_path: Path, numbers: tuple[int]
) -> None:
    seen = tmp_path / "seen"
    words = f"demo {tmp_path}/mount -- sh -c 'ls assets >{seen}; exit 7' {closed(*numbers)}"
    # Where the sample is that `sample` made; not the variables of its cache.
    done = run("sh", "-c", f"exec {sys.executable} -m up42fs {words}")
    assert done.returncode == 7, done
    assert len(seen.read_text().splitlines()) > 20
    assert "Traceback" not in done.stderr
    assert mount_at(tmp_path / "mount") is None


def test_a_foreground_mount_with_descriptors_closed(sample: Emulator, tmp_path: Path) -> None:
    words = f"exec {sys.executable} -m up42fs mount -f --cache-size 0 {tmp_path} {closed(0, 1, 2)}"
    process = subprocess.Popen(["sh", "-c", words], env=environ(sample.env))
    try:
        wait_until(lambda: mount_at(tmp_path) is not None, 20, "it is mounted")
        wait_until(lambda: (tmp_path / "assets").is_dir(), 20, "it answers")
    finally:
        run(*UP42FS, "unmount", tmp_path)
        assert process.wait(20) == 0

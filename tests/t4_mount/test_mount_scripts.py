"""`mount` as scripts use it: waits, JSON, mounted already; `unmount --json`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import REPOSITORY, Emulator, check, environ, is_running, run, wait_until

from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount

CRON, CI = r"^30 5 \* \* \*  (.+)$", r"- run: (up42fs cp .+)$"
UP42FS = (sys.executable, "-m", "up42fs")


@pytest.fixture(scope="module")
def here(sample: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    home = tmp_path_factory.mktemp("scripts")
    place = home / "up42"
    place.mkdir()
    env = sample.env | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    command = (*UP42FS, "mount", "--json", "--wait", "synced", "--cache-dir", home / "cache", place)
    first = json.loads(check(*command, env=env))
    again = run(*command, env=env)
    yield {"env": env, "place": place, "first": first, "again": again}
    gone = json.loads(check(*UP42FS, "unmount", "--json", place, env=env))
    assert gone == {"mountpoint": str(place), "pid": first["pid"], "still_runs": False}


@pytest.mark.claim("S366")
def test_mount_tells_what_it_mounted_and_waits(here: dict, sample: Emulator) -> None:
    first = here["first"]
    assert first["was_mounted"] is False
    assert first["account"] == sample.env["UP42_USERNAME"]
    assert first["mountpoint"] == str(here["place"])
    status = json.loads((here["place"] / ".up42fs/status.json").read_text())
    assert all(listing["complete"] for listing in status["catalogue"].values())
    assert status["assets"] == len(sample.remote.storage()["assets"])


@pytest.mark.claim("S366")
def test_what_is_mounted_already_is_no_failure(here: dict) -> None:
    again = here["again"]
    assert (again.returncode, "is mounted already" in again.stderr) == (0, True)
    assert json.loads(again.stdout) == here["first"] | {"was_mounted": True}


def test_warming_and_pinning_in_json(here: dict) -> None:
    files = [p for p in sorted((here["place"] / "assets").iterdir()) if p.is_file()]
    smallest = min(files, key=lambda path: path.stat().st_size)
    env = here["env"]
    told = json.loads(check(*UP42FS, "warm", "--json", "--estimate", smallest, env=env))
    assert (told["files"], told["bytes"]) == (1, smallest.stat().st_size)
    done = json.loads(check(*UP42FS, "warm", "--json", smallest, env=env))
    assert (done["is_done"], done["read_bytes"]) == (True, smallest.stat().st_size)
    pinned = json.loads(check(*UP42FS, "cache", "pin", "--json", smallest, env=env))
    assert pinned == [{"path": str(smallest), "pinned": True}]


def recipe(pattern: str) -> str:
    page = (REPOSITORY / "docs" / "scripts.md").read_text(encoding="utf-8")
    found = re.search(pattern, page, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_recipe_for_cron(here: dict) -> None:
    """In the little environment that cron gives, where the mount of this module stands."""
    keep = {k: v for k, v in here["env"].items() if k.startswith(("UP42_", "XDG_", "HOME"))}
    env = keep | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "SHELL": "/bin/sh"}
    done = run("env", "-i", *(f"{k}={v}" for k, v in env.items()), "sh", "-c", recipe(CRON))
    assert done.returncode == 0, done.stderr
    assert (Path(env["HOME"]) / "new.txt").exists()


def test_the_recipe_for_ci(here: dict, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = here["env"] | {"PATH": path, "ORDER": "Berlin*"}
    done = run("sh", "-c", recipe(CI), env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [file for file in (tmp_path / "data").rglob("*") if file.is_file()]


def test_other_programs_unmount_it(here: dict, tmp_path: Path) -> None:
    """As the eject button of a file manager does, where GLib's program is installed."""
    place = tmp_path / "up42"
    place.mkdir()
    env = here["env"] | {"HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    check(*UP42FS, "mount", "--cache-dir", tmp_path / "cache", place, env=env)
    pid = json.loads((place / ".up42fs/status.json").read_text())["pid"]
    ways: list[tuple[str, ...]] = [("fusermount3", "-u")]
    if shutil.which("gio") and shutil.which("dbus-run-session"):
        ways.insert(0, ("dbus-run-session", "--", "gio", "mount", "-u"))
    for way in ways:
        if mount_at(place) is not None:
            run(*way, place, env=env)
    assert mount_at(place) is None
    wait_until(lambda: not is_running(pid), 30, "the mount process ends")


def test_foreground_and_wait_do_not_go_together(tmp_path: Path) -> None:
    done = run(*UP42FS, "mount", "-f", "--wait", "listed", tmp_path, env={"HOME": str(tmp_path)})
    assert (done.returncode, "leave out -f" in done.stderr) == (2, True)


#: What Slurm gives a job, and a stand-in for `srun` that starts the tasks one after another.
SRUN = """#!/bin/sh
for task in 0 1; do SLURM_PROCID=$task "$@" || exit; done
"""


def job(sample: Emulator, place: Path, command: str = "") -> tuple[list[str], dict[str, str]]:
    """The words and environment of the job of contrib/slurm; `command` in place of its window."""
    for name, text in (
        ("srun", SRUN.replace('"$@"', command) if command else SRUN),
        ("up42fs", f'#!/bin/sh\nexec {sys.executable} -P -m up42fs "$@"\n'),
    ):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    env = sample.env | {
        "HOME": str(place),
        "PATH": f"{place}:{os.environ['PATH']}",
        "TMPDIR": str(place),
        "SCRATCH": str(place / "scratch"),
        "SLURM_JOB_ID": "7",
        "SLURM_SUBMIT_DIR": str(place),
    }
    return ["sh", str(REPOSITORY / "contrib/slurm/job.sh")], environ(env)


@pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="no gdal_translate")
def test_the_job_of_a_queue_reads_and_leaves_no_mount(sample: Emulator, tmp_path: Path) -> None:
    words, env = job(sample, tmp_path)
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / f"window-{task}.tif").stat().st_size > 1000 for task in (0, 1))
    assert not (tmp_path / "up42-7").exists(), "unmounted, and the directory is gone"


def test_a_job_that_is_cancelled_leaves_no_mount(sample: Emulator, tmp_path: Path) -> None:
    words, env = job(sample, tmp_path, "sh -c 'touch started; exec sleep 100'")
    running = subprocess.Popen(words, env=env, cwd=tmp_path, start_new_session=True)
    try:
        wait_until((tmp_path / "started").exists, 60, "the task runs")
        assert mount_at(tmp_path / "up42-7") is not None
        running.terminate()
        assert running.wait(60) == 143
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # the task, which Slurm would end
    assert not (tmp_path / "up42-7").exists()

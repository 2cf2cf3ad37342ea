"""Nothing that lies in the current directory is run, neither by a mount nor by what starts one.

The directory is full of traps: modules called as Python's own and as what up42fs needs, each of
which leaves a mark, and a directory called `up42fs`, as a clone in a home directory is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPOSITORY, Emulator, as_nobody, emulator, environ, interpreter_for_others, run
from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli import respawn
from up42fs.fuse.mount_table import mount_at

COMMAND = Path(sys.executable).parent / "up42fs"
HELPER = REPOSITORY / "contrib" / "mount.up42fs"
#: What a start of the command imports early, late, or by its children only.
NAMES = (
    *(
        "queue",
        "random",
        "json",
        "logging",
        "tempfile",
        "subprocess",
        "select",
        "signal",
        "sqlite3",
    ),
    *("trio", "httpx", "pycurl", "pyfuse3", "keyring", "cachetools", "h11", "numpy", "rasterio"),
    "sitecustomize",
)


class Here:
    """A current directory of traps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marks = path / "marks"
        self.marks.mkdir()
        for name in NAMES:
            (path / f"{name}.py").write_text(
                f"open({str(self.marks / name)!r}, 'w').close()\nraise ImportError('a trap')\n"
            )

    def clone(self) -> None:
        """Put a clone called `up42fs` here, as README does in a home directory."""
        (self.path / "up42fs/up42fs").mkdir(parents=True)
        (self.path / "up42fs/up42fs/__init__.py").touch()
        (self.path / "up42fs/pyproject.toml").touch()

    def run(self, *command: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        done = run(*command, env={"HOME": str(self.path)} | env, cwd=self.path, timeout_s=110)
        assert [mark.name for mark in self.marks.iterdir()] == [], done.stderr
        return done


@pytest.fixture
def here(tmp_path: Path) -> Here:
    (tmp_path / "here").mkdir()
    return Here(tmp_path / "here")


def account(sample: Emulator, path: Path) -> dict[str, str]:
    """Write the account to `path`; returns the environment without it."""
    names = ("username", "password")
    path.write_text(json.dumps({name: sample.ready[name] for name in names}))
    path.chmod(0o600)
    return {key: value for key, value in sample.env.items() if key.endswith("_URL")}


@pytest.mark.mount
@pytest.mark.claim("S100")
@pytest.mark.parametrize("is_home", [False, True], ids=["traps", "a clone in ~"])
def test_a_mount_runs_nothing_of_where_the_user_is(
    sample: Emulator, here: Here, is_home: bool
) -> None:
    """And every relative path is still the user's own."""
    if is_home:
        here.clone()
    env = account(sample, here.path / "account.json")
    (here.path / "mnt").mkdir()
    done = here.run(
        *(COMMAND, "mount", "mnt", "--log-file", "own.log", "--credentials", "account.json"),
        *("-o", "cache_dir=kept"),
        env=env,
    )
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert "assets" in os.listdir(here.path / "mnt")
        status = json.loads((here.path / "mnt/.up42fs/status.json").read_text())
        assert os.readlink(f"/proc/{status['pid']}/cwd") == "/"
        assert status["log_file"] == str(here.path / "own.log")
        assert "mounted" in (here.path / "own.log").read_text()
        assert status["disk_cache"]["files"].startswith(f"{here.path}/kept/")
    finally:
        done = here.run(COMMAND, "unmount", "mnt", env=env)
    assert (done.returncode, mount_at(here.path / "mnt")) == (0, None)


@pytest.mark.mount
@pytest.mark.parametrize("module", [COMMAND, None], ids=["up42fs", "python -m up42fs"])
def test_a_demo_runs_nothing_of_where_the_user_is(here: Here, module: Path | None) -> None:
    command = [module] if module else [sys.executable, "-m", "up42fs"]
    (here.path / "mine").mkdir()
    (here.path / "mine/file.txt").write_text("hello")
    done = here.run(*command, "demo", "--data", "mine", "--", "cat", "assets/file.txt", env={})
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


@pytest.mark.mount
def test_the_helper_of_mount_8_runs_nothing_of_where_the_user_is(
    sample: Emulator, here: Here
) -> None:
    """Nor of where PYTHONPATH points: mounts of fstab are root's."""
    (here.path / "mnt").mkdir()
    env = sample.env | {"UP42FS": str(COMMAND), "PYTHONPATH": f":{here.path}"}
    done = here.run(HELPER, "up42", "mnt", "-o", "rw", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert here.run(COMMAND, "unmount", "mnt", env={}).returncode == 0


@pytest.mark.mount
def test_a_mount_from_a_directory_that_is_gone(sample: Emulator, tmp_path: Path) -> None:
    for name in ("mnt", "gone"):
        (tmp_path / name).mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && "$@"'
    command = ("sh", "-c", script, "sh", tmp_path / "gone", COMMAND, "mount", tmp_path / "mnt")
    done = run(*command, "--log-file", tmp_path / "log", env=sample.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert run(COMMAND, "unmount", tmp_path / "mnt").returncode == 0


# its memory -------------------------------------------------------------------------------------


@pytest.mark.mount
@pytest.mark.claim("S106")
def test_another_program_of_the_user_cannot_read_the_password(
    mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the mount's environment, nor in its memory; root can, so it is tried as nobody."""
    if os.getuid() == 0:
        if interpreter_for_others() is None:
            pytest.skip("no Python that others may run")
        assert "1 passed" in as_nobody(Path(__file__), "another_program_of_the_user")
        return
    monkeypatch.setenv("HOME", str(tmp_path))
    with emulator("--synthetic", "3") as small:
        there = mount(small)
        for name in ("environ", "mem", "maps"):
            with pytest.raises(PermissionError):
                Path(f"/proc/{there.pid}/{name}").read_bytes()
        limits = Path(f"/proc/{there.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE)
        assert there.status()["pid"] == there.pid


entries = st.lists(st.sampled_from(["", ".", "..", "lib", "/opt/lib", "/", "~/lib", "./x"]))


@given(entries)
def test_no_entry_for_a_child_is_relative(path: list[str]) -> None:
    child = respawn.environment({"PYTHONPATH": os.pathsep.join(path), "HOME": "/home/me"})
    kept = child.pop("PYTHONPATH", "")
    assert kept.split(os.pathsep) == ([entry for entry in path if entry[:1] == "/"] or [""])
    assert child == {"HOME": "/home/me"}


def test_paths_of_the_environment_stay_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    child = respawn.environment(
        {"SSL_CERT_FILE": "ca.pem", "SSL_CERT_DIR": "a:/b", "XDG_CACHE_HOME": "", "LANG": "C"}
    )
    assert child == {
        "SSL_CERT_FILE": f"{tmp_path}/ca.pem",
        "SSL_CERT_DIR": f"{tmp_path}/a:/b",
        "XDG_CACHE_HOME": "",
        "LANG": "C",
    }


def test_a_child_is_isolated_as_its_parent_is() -> None:
    show = "from up42fs.cli import respawn; print(*respawn.command('x')[1:])"
    for flags, expected in (([], "-P"), (["-I"], "-I"), (["-E"], "-P -E")):
        done = run(sys.executable, *flags, "-c", show, cwd=REPOSITORY)
        assert done.stdout == f"{expected} -m up42fs x\n", done.stderr


SCRIPTS = [
    path
    for path in sorted((REPOSITORY / "contrib").rglob("*"))
    if path.is_file() and (path.read_bytes()[:10] == b"#!/bin/sh\n" or path.name == "setup.sh")
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_run_python_where_nothing_can_stand_in_its_way(script: Path) -> None:
    """`-m` and `-c` would take modules of the current directory, unless that is the repository."""
    text = script.read_text()
    isolated = text.partition('cd "$root"\n')[0]
    for line in re.findall(r"python\S* .*", isolated):
        if re.search(r'python\d?(?:\.\d+)?"? (?!-I )(?:-\w+ )*-[mc] ', line):
            raise AssertionError(f"{script.name}: {line}")


def test_a_script_finds_its_directory_whatever_cdpath_says(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/contrib").mkdir(parents=True)
    say = REPOSITORY / "contrib" / "setup.sh"
    env = environ({"CDPATH": str(tmp_path / "elsewhere")})
    command = ["sh", "-c", '. "$1"; echo "$root"', "contrib/demo", str(say)]
    said = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True)
    assert said.stdout == f"{REPOSITORY}\n", said.stderr
